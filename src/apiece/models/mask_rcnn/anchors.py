"""Anchors: the boxes that each cell of the pyramid starts from (section 3.1.1 of arXiv 1506.01497)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]


def cell_anchors(side: float, ratios: Sequence[float]) -> Float:
    """Anchors of area side² for one cell, about the origin, one a ratio height / width -> (ratios, 4) xyxy.

    Edges are rounded to whole pixels, as the published weights expect it.
    """
    tall = np.sqrt(np.asarray(ratios, dtype=np.float32))
    width, height = np.float32(side) / tall, np.float32(side) * tall
    rounded: Float = np.round(np.stack([-width, -height, width, height], axis=1) / 2).astype(np.float32)
    return rounded


def grid(height: int, width: int, finest: int, levels: int) -> list[tuple[int, int]]:
    """Rows and columns of P`finest` and the levels after it, for an input whose sides are multiples of 32."""
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(finest, finest + levels)]


def anchors(
    size: tuple[int, int], cells: Sequence[tuple[int, int]], sides: Sequence[float], ratios: Sequence[float]
) -> list[Float]:
    """All anchors of an input of `size` (height, width), per level (rows · columns · ratios, 4) xyxy, input pixels.

    Order: row, column, ratio. An anchor's centre is its cell's upper left corner, and cells are a whole number
    of pixels apart, rounded down, both as the published weights expect it.
    """
    levels = []
    for (rows, columns), side in zip(cells, sides, strict=True):
        y = np.arange(rows, dtype=np.float32) * (size[0] // rows)
        x = np.arange(columns, dtype=np.float32) * (size[1] // columns)
        corner = np.stack(np.broadcast_arrays(x[None, :], y[:, None], x[None, :], y[:, None]), axis=-1)
        made: Float = (corner[:, :, None] + cell_anchors(side, ratios)).reshape(-1, 4).astype(np.float32)
        levels.append(made)
    return levels
