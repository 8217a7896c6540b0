"""Tiles: how windows of one size cover a picture of any size, with overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError

FAR = 2**31 - 1  # farther from an edge than any pixel of a picture


class Window(NamedTuple):
    """A rectangle of whole pixels: top-left pixel (x, y), width and height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column beyond."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row beyond."""
        return self.y + self.height

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def common(self, other: Window) -> Window | None:
        """What lies in both; None where nothing does."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width, height = min(self.right, other.right) - x, min(self.bottom, other.bottom) - y
        return Window(x, y, width, height) if width > 0 and height > 0 else None

    def inside(self, size: tuple[int, int], margin: int) -> Window:
        """The window without `margin` pixels along its inner edges, those that are not the picture's border.

        size  (height, width) of the picture. Where the margin leaves nothing, a side of 0 pixels remains.
        """
        x, y = self.x + margin * (self.x > 0), self.y + margin * (self.y > 0)
        right = self.right - margin * (self.right < size[1])
        bottom = self.bottom - margin * (self.bottom < size[0])
        return Window(x, y, max(0, right - x), max(0, bottom - y))

    def depths(self, boxes: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
        """How far boxes (N, 4), xyxy, lie from the nearest inner edge: 0 touches it, less reaches beyond; int64 (N,).

        The picture's border is no inner edge: nothing is cut there that the picture shows. FAR where a window has
        no inner edge.
        """
        depth = np.full(len(boxes), FAR, np.int64)
        if self.x > 0:
            depth = np.minimum(depth, boxes[:, 0] - self.x)
        if self.y > 0:
            depth = np.minimum(depth, boxes[:, 1] - self.y)
        if self.right < size[1]:
            depth = np.minimum(depth, self.right - boxes[:, 2])
        if self.bottom < size[0]:
            depth = np.minimum(depth, self.bottom - boxes[:, 3])
        return depth


@dataclass(frozen=True)
class Layout:
    """Overlapping windows that cover a picture, row by row.

    size     (height, width) of the picture in pixels.
    tile     (height, width) of a window; smaller only where the picture is.
    overlap  pixels that neighbours share at least, 2 to half of the tile's smaller side.
    offset   (x, y) pixels by which the grid is moved to the left and up, to see what a count owes to where the seams
             lie.
    cell     pixels of the picture that a cell of the network's coarsest grid takes. Windows lie whole cells apart
             where a tile holds that many: a network shows an object alike only where it lies alike in its cells, so
             neighbours agree better. They then share more than `overlap`.

    Windows that would reach beyond the picture are moved inside, so that every tile is full where the picture allows.
    raises  UsageError where overlap or offset can't be meant.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int
    offset: tuple[int, int] = (0, 0)
    cell: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.overlap <= min(self.tile) // 2:
            raise UsageError(
                f"overlap: expected 2 to {min(self.tile) // 2} pixels, half of a tile of {self.tile} (height, width) "
                f"at this scale; got {self.overlap}."
            )
        if not self.cell > 0:
            raise UsageError(f"cell: expected a number of pixels above 0, got {self.cell}.")
        if min(self.offset) < 0:
            raise UsageError(f"offset: expected (x, y) of at least 0, got {self.offset}.")

    @property
    def tops(self) -> list[int]:
        """First row of each row of tiles."""
        return _starts(self.size[0], self.tile[0], self._step(self.tile[0]), self.offset[1])

    @property
    def lefts(self) -> list[int]:
        """First column of each column of tiles."""
        return _starts(self.size[1], self.tile[1], self._step(self.tile[1]), self.offset[0])

    def _step(self, tile: int) -> float:
        """Pixels from one window to the next along a side."""
        most = tile - self.overlap
        return math.floor(most / self.cell + 1e-9) * self.cell or most

    def row(self, top: int) -> list[Window]:
        """The windows that begin at this row, from left to right."""
        height, width = (min(*pair) for pair in zip(self.size, self.tile, strict=True))
        return [Window(left, top, width, height) for left in self.lefts]


def _starts(length: int, tile: int, step: float, offset: int) -> list[int]:
    last = max(0, length - tile)
    first = -(offset % step)
    count = math.ceil((last - first) / step) + 1
    return sorted({min(max(math.floor(first + i * step + 0.5), 0), last) for i in range(count)})


def quarters(window: Window, overlap: int) -> list[Window]:
    """Two by two smaller windows that cover this one, sharing `overlap` pixels; fewer along a side that the overlap
    nearly fills, and none where that holds for both."""
    parts = []
    for side in window.size:
        half = (side + overlap + 1) // 2
        parts.append([(0, half), (side - half, half)] if half < side else [(0, side)])
    if len(parts[0]) == len(parts[1]) == 1:
        return []
    return [
        Window(window.x + left, window.y + top, width, height)
        for top, height in parts[0]
        for left, width in parts[1]
    ]
