"""Polygons: outlines along pixel edges, and the filling that gives the same pixels back.

Convention: pixel (x, y) is the square from (x, y) to (x + 1, y + 1). An outline runs along the edges
between object and background, so its corners are whole numbers, its shoelace area is the number of pixels,
and nothing is lost: holes, several parts, single pixels, diagonal neighbours. A part is a region connected
over pixel edges; regions that touch only at a corner are parts of their own. No ring visits a corner
twice, so parts are valid simple features (GeoJSON, Shapely). Outer rings go clockwise on the screen,
holes the other way; the first point is the topmost-leftmost and is not repeated.

Filling takes a pixel where its centre (x + 0.5, y + 0.5) is inside; rings of one part count by even and
odd, parts of one object are united.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from apiece.core.crops import Crops, Int64, nothing
from apiece.core.overlap import Meetings
from apiece.core.runs import Runs, row_runs
from apiece.core.scanfill import filled, rings
from apiece.errors import GeometryError

Float64 = NDArray[np.float64]
Part = tuple[Float64, list[Float64]]
FAR = 1e9


def outlines(crops: Crops, size: tuple[int, int]) -> list[list[Part]]:
    """For every object its parts, each an outer ring (P, 2) and holes (Q, 2), float64 x and y."""
    runs = row_runs(crops)
    found: list[list[Part]] = [[] for _ in range(len(crops.shapes))]
    if runs.owner.size == 0:
        return found
    component = _components(runs, size)
    corner_x, corner_y, corner_part, upright, successor = _corners(runs, component, size)

    # Walk the rings. Corners are sorted by object, y and x, so each ring begins at its topmost-leftmost.
    following = successor.tolist()
    seen = bytearray(len(following))
    order: list[int] = []
    begins: list[int] = []
    for corner in range(len(following)):
        if seen[corner]:
            continue
        begins.append(len(order))
        at = corner
        while not seen[at]:
            seen[at] = 1
            order.append(at)
            at = following[at]

    walked = np.array(order)
    points = np.column_stack([corner_x[walked], corner_y[walked]]).astype(np.float64)
    heads = walked[begins]
    # An outer ring leaves its first corner along the object's top edge, a hole down its left edge.
    hole = upright[heads]
    owner_of_part = runs.owner[np.unique(component, return_index=True)[1]]
    parts: list[Part | None] = [None] * len(owner_of_part)
    loops = np.split(points, begins[1:])
    ring_part = corner_part[heads].tolist()
    for loop, part, inner in zip(loops, ring_part, hole.tolist(), strict=True):
        if not inner:
            parts[part] = (loop, [])
    for loop, part, inner in zip(loops, ring_part, hole.tolist(), strict=True):
        whole = parts[part]
        if inner and whole is not None:
            whole[1].append(loop)
    for owner, made in zip(owner_of_part.tolist(), parts, strict=True):
        if made is not None:
            found[owner].append(made)
    return found


def _components(runs: Runs, size: tuple[int, int]) -> Int64:
    """Number of each run's region, connected over pixel edges; regions are numbered by their first run."""
    stride = size[1] + 1
    begin = (runs.owner * (size[0] + 1) + runs.line) * stride + runs.start
    count = begin.size
    upper, lower = [], []
    for i, j in Meetings(begin + stride, begin + stride + runs.length, begin, begin + runs.length):
        upper.append(i)
        lower.append(j)
    above = np.concatenate([np.zeros(0, np.int64), *upper])
    below = np.concatenate([np.zeros(0, np.int64), *lower])
    graph = coo_array((np.ones(above.size, np.bool_), (above, below)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def _corners(
    runs: Runs, component: Int64, size: tuple[int, int]
) -> tuple[Int64, Int64, Int64, NDArray[np.bool_], Int64]:
    """Corners of all rings: x, y, part, whether the way leads on vertically, and the next corner.

    The object lies to the right of the way: up along left edges, down along right edges.
    """
    count = runs.owner.size
    # Each run has two upright cracks of one pixel, its left and right edge, each with an upper and lower end.
    run = np.tile(np.arange(count), 4)
    right = np.tile(np.repeat([False, True], count), 2)
    low_end = np.repeat([False, True], 2 * count)
    x = np.where(right, runs.start[run] + runs.length[run], runs.start[run])
    y = runs.line[run] + low_end
    owner = runs.owner[run]
    vertex = (owner * (size[0] + 1) + y) * (size[1] + 1) + x

    # Where an edge of the same side goes on straight, the two ends are no corner.
    key = 2 * vertex + right
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    corner = ~(np.append(same, False) | np.append(False, same))
    kept = order[corner]

    # Two corners at one place: object pixels meet diagonally. If they are of one region, the way keeps to
    # the background (a hole and the outside stay apart); if not, it keeps to its own region.
    place = vertex[kept]
    saddle = np.flatnonzero(place[1:] == place[:-1])
    a, b = kept[saddle], kept[saddle + 1]
    above, under = np.where(low_end[a], a, b), np.where(low_end[a], b, a)
    one_region = component[run[above]] == component[run[under]]
    above_first = right[above] != one_region  # first in the row: the corner that the crack to the left joins
    kept[saddle] = np.where(above_first, above, under)
    kept[saddle + 1] = np.where(above_first, under, above)

    n = kept.size
    along_row = np.arange(n) ^ 1  # neighbours in a row: the ends of a level crack
    x, y, owner, low_end, right = x[kept], y[kept], owner[kept], low_end[kept], right[kept]
    column = np.lexsort((~low_end, y, x, owner))  # neighbours in a column: the ends of an upright crack
    along_column = np.empty(n, np.int64)
    along_column[column] = column[np.arange(n) ^ 1]
    upright = right != low_end  # right edges are left at their lower end, left edges at their upper end
    return x, y, component[run[kept]], upright, np.where(upright, along_column, along_row)


def crops_of_parts(
    polygons: Sequence[Sequence[tuple[ArrayLike, Sequence[ArrayLike]]]],
    size: tuple[int, int],
    max_pixels: int,
) -> Crops:
    """One bitmap for every object's list of parts (outer, holes); the inverse of `outlines`."""
    loops: list[Float64] = []
    part_of_loop: list[int] = []
    owners: list[int] = []
    for i, parts in enumerate(polygons):
        for p, (outer, holes) in enumerate(parts):
            for r, ring in enumerate([outer, *holes]):
                which = f"hole {r - 1}" if r else "outer ring"
                loops.append(_ring(ring, f"object {i}, part {p}, {which}"))
                part_of_loop.append(len(owners))
            owners.append(i)
    if not loops:
        return nothing(len(polygons))
    made = rings(loops, part_of_loop)
    width = size[1]
    x0, y0 = made.points.T
    x1, y1 = made.points[made.after].T
    down = y0 < y1  # always from the upper end, so that an edge shared by two objects is cut alike
    x0, x1 = np.where(down, x0, x1), np.where(down, x1, x0)
    y0, y1 = np.where(down, y0, y1), np.where(down, y1, y0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (x1 - x0) / (y1 - y0)
    first, last = np.ceil(y0 - 0.5).astype(np.int64), np.ceil(y1 - 0.5).astype(np.int64)

    def crossing(edge: Int64, row: Int64) -> Int64:
        x = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
        column: Int64 = np.ceil(np.clip(x - 0.5, 0, width)).astype(np.int64)
        return column

    return filled(
        made.part, first, last, crossing, np.array(owners, np.int64), len(polygons), size, max_pixels
    )


def _ring(ring: ArrayLike, where: str) -> Float64:
    try:
        points = np.asarray(ring, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise GeometryError(f"{where} has shape {points.shape}; expected (P, 2) with at least 3 points x, y.")
    if not (np.abs(points) <= FAR).all():
        raise GeometryError(f"{where} has a coordinate that is not a finite number within ±{FAR:g}.")
    return points
