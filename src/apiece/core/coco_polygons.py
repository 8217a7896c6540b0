"""COCO's own polygon rasterisation, equal to pycocotools in every pixel.

COCO scales polygons up five times, rounds to whole numbers, draws each edge as a dense chain of points
and turns the inside over where the chain steps from 5c + 2 to 5c + 3, which is the centre of column c.
Here only those steps are computed, so cost follows the columns that an edge crosses inside the picture.

source  cocoapi, common/maskApi.c, rleFrPoly; cocoapi, pycocotools/_mask.pyx, frPyObjects and merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Crops, Int64, nothing, transposed
from apiece.core.scanfill import Rings, filled, rings
from apiece.errors import AnnotationError

UP = 5  # COCO's scale
FAR = 1e8  # coordinates beyond overflow COCO's own integers


def crops_of_polygons(
    items: Sequence[Sequence[object]], size: tuple[int, int], names: Sequence[int], max_pixels: int
) -> Crops:
    """One bitmap for every list of flat [x, y, x, y, ...] parts, which are united.

    names   the index by which each item is called in messages.
    raises  AnnotationError for a part that is not three or more finite points.
    """
    loops, owners = [], []
    for k, (parts, name) in enumerate(zip(items, names, strict=True)):
        if len(parts) == 0:
            raise AnnotationError(
                f"object {name}: segmentation is an empty list; expected at least one polygon. "
                "Remedy: delete the object, redraw it, or leave it out where only its box is meant."
            )
        for p, part in enumerate(parts):
            loops.append(_points(part, f"object {name}: polygon {p}"))
            owners.append(k)
    if not loops:
        return nothing(len(items))
    made = rings(loops, range(len(loops)))
    return _crops(made, np.array(owners, np.int64), len(items), size, max_pixels)


def _points(part: Any, where: str) -> NDArray[np.float64]:
    remedy = "Remedy: write x, y of three or more points, or an RLE."
    try:
        flat = np.asarray(part, np.float64)
    except (TypeError, ValueError, OverflowError):
        flat = np.zeros((0, 0))
    if flat.ndim != 1 or flat.size < 6 or flat.size % 2:
        raise AnnotationError(
            f"{where} is not a flat list of an even number of at least 6 coordinates "
            f"(it has shape {flat.shape}). {remedy}"
        )
    bad = np.flatnonzero(~(np.abs(flat) <= FAR))
    if bad.size:
        raise AnnotationError(
            f"{where} has the coordinate {flat[bad[0]]}; expected finite numbers within ±{FAR:g}. {remedy}"
        )
    return flat.reshape(-1, 2)


def _crops(made: Rings, owner_of_part: Int64, count: int, size: tuple[int, int], max_pixels: int) -> Crops:
    height, width = size
    up = (UP * made.points + 0.5).astype(np.int64)  # towards zero, as C casts
    x0, y0 = up.T
    x1, y1 = up[made.after].T
    dx, dy = np.abs(x1 - x0), np.abs(y1 - y0)
    steep = dy > dx
    # COCO walks every edge in the direction in which its longer side grows; rounding depends on it.
    flip = np.where(steep, y0 > y1, x0 > x1)
    x0, x1 = np.where(flip, x1, x0), np.where(flip, x0, x1)
    y0, y1 = np.where(flip, y1, y0), np.where(flip, y0, y1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(steep, (x1 - x0) / dy, (y1 - y0) / dx)
    first = -((2 - np.minimum(x0, x1)) // UP)  # first column c with min <= 5c + 2
    last = (np.maximum(x0, x1) - 3) // UP + 1  # beyond the last with 5c + 3 <= max

    def crossing(edge: Int64, column: Int64) -> Int64:
        lower = np.empty(edge.size, np.int64)  # the smaller y of the two chain points about the centre
        centre = UP * column + 2
        flat = ~steep[edge]
        e, step = edge[flat], centre[flat] - x0[edge[flat]]
        before = (y0[e] + slope[e] * step + 0.5).astype(np.int64)
        behind = (y0[e] + slope[e] * (step + 1) + 0.5).astype(np.int64)
        lower[flat] = np.minimum(before, behind)

        e, edge_at = edge[~flat], (centre[~flat] + 1).astype(np.float64)
        right = x1[e] > x0[e]

        def beyond(step: Int64) -> NDArray[np.bool_]:
            reached: NDArray[np.bool_] = (x0[e] + slope[e] * step + 0.5 >= edge_at) == right
            return reached

        # The first step beyond the centre: solved in real numbers, then settled by COCO's own rounding.
        real = (edge_at - 0.5 - x0[e]) / slope[e]
        step = np.where(right, np.ceil(real), np.floor(real) + 1).astype(np.int64)
        step -= beyond(step - 1)
        step += ~beyond(step)
        lower[~flat] = y0[e] + step - 1
        return np.ceil(np.clip((lower + 0.5) / UP - 0.5, 0, height)).astype(np.int64)

    # Columns take the place of rows here, so the bitmaps come out mirrored at the diagonal.
    return transposed(
        filled(made.part, first, last, crossing, owner_of_part, count, (width, height), max_pixels)
    )
