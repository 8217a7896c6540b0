"""Crops: small bitmaps of many objects in flat arrays, the storage behind `Masks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

AT_ONCE = 1 << 20  # values that are summed at once


class Crops(NamedTuple):
    """N bitmaps, each tight: its first and last row and column hold a True pixel.

    offsets  int32 (N, 2), x and y of the top-left pixel; (0, 0) where there is no pixel.
    shapes   int32 (N, 2), height and width; (0, 0) where there is no pixel.
    starts   int64 (N + 1,), where each bitmap begins in `pixels`, and the end.
    pixels   bool (sum of heights × widths,), row by row, one bitmap after the other.
    """

    offsets: Int32
    shapes: Int32
    starts: Int64
    pixels: Bool

    def crop(self, i: int) -> Bool:
        """Bitmap i, bool (h, w), a view."""
        height, width = self.shapes[i]
        return self.pixels[self.starts[i] : self.starts[i + 1]].reshape(height, width)


def starts_of(shapes: NDArray[np.integer]) -> Int64:
    """Where bitmaps of these shapes begin when laid one after the other; int64 (N + 1,)."""
    starts = np.zeros(len(shapes) + 1, np.int64)
    np.cumsum(shapes[:, 0].astype(np.int64) * shapes[:, 1], out=starts[1:])
    return starts


def nothing(count: int) -> Crops:
    """`count` bitmaps without a pixel."""
    pair = np.zeros((count, 2), np.int32)
    return Crops(pair, pair.copy(), np.zeros(count + 1, np.int64), np.zeros(0, np.bool_))


def tightened(bitmaps: Sequence[Bool], corners: Sequence[tuple[int, int]]) -> Crops:
    """Crops from bool (h, w) bitmaps of any tightness and their corners (x, y); copies the pixels."""
    offsets = np.zeros((len(bitmaps), 2), np.int32)
    shapes = np.zeros((len(bitmaps), 2), np.int32)
    pieces: list[Bool] = []
    for i, (bitmap, corner) in enumerate(zip(bitmaps, corners, strict=True)):
        if bitmap.size == 0:
            continue
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(bitmap).view(np.uint8))
        if width == 0 or height == 0:
            continue
        offsets[i] = corner[0] + x, corner[1] + y
        shapes[i] = height, width
        pieces.append(bitmap[y : y + height, x : x + width].reshape(-1))
    pixels = np.concatenate(pieces) if pieces else np.zeros(0, np.bool_)
    return Crops(offsets, shapes, starts_of(shapes), pixels)


def selected(crops: Crops, index: Int64) -> Crops:
    """The bitmaps at non-negative positions `index`, in that order, copied."""
    starts = crops.starts
    pieces = [crops.pixels[starts[i] : starts[i + 1]] for i in index]
    shapes = crops.shapes[index]
    pixels = np.concatenate(pieces) if pieces else np.zeros(0, np.bool_)
    return Crops(crops.offsets[index], shapes, starts_of(shapes), pixels)


def joined(parts: Sequence[Crops]) -> Crops:
    """All bitmaps of one or more Crops, in order."""
    shapes = np.concatenate([part.shapes for part in parts])
    return Crops(
        np.concatenate([part.offsets for part in parts]),
        shapes,
        starts_of(shapes),
        np.concatenate([part.pixels for part in parts]),
    )


def transposed(crops: Crops) -> Crops:
    """Every bitmap mirrored at its main diagonal; x and y change places."""
    pixels = np.empty_like(crops.pixels)
    starts = crops.starts.tolist()
    for i, (height, width) in enumerate(crops.shapes.tolist()):
        if height:
            begin, end = starts[i], starts[i + 1]
            source = crops.pixels[begin:end].reshape(height, width)
            pixels[begin:end].reshape(width, height)[...] = source.T
    return Crops(
        np.ascontiguousarray(crops.offsets[:, ::-1]),
        np.ascontiguousarray(crops.shapes[:, ::-1]),
        crops.starts,
        pixels,
    )


def sums(values: NDArray[np.generic], starts: Int64) -> Int64:
    """Sum of every stretch values[starts[i]:starts[i + 1]] as int64; 0 for an empty stretch."""
    out = np.zeros(len(starts) - 1, np.int64)
    full = np.flatnonzero(starts[1:] > starts[:-1])
    begins, begin = starts[full], 0
    while (
        begin < full.size
    ):  # NumPy casts all that it is given, eight bytes for one: so not everything at once
        end = max(begin + 1, int(np.searchsorted(begins, begins[begin] + AT_ONCE)))
        some = full[begin:end]
        low, high = starts[some[0]], starts[some[-1] + 1]
        out[some] = np.add.reduceat(values[low:high], begins[begin:end] - low, dtype=np.int64)
        begin = end
    return out
