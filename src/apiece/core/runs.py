"""Runs: objects as stretches of pixels along rows (or columns), the common tongue of masks.

Label images, COCO RLE, polygons and intersections all read or write runs, so their cost follows
the objects' outlines and areas and never the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from apiece.core.crops import Crops, Int32, Int64, starts_of


class Runs(NamedTuple):
    """R stretches, in order of owner, line and start; each field int64 (R,).

    owner   index of the object.
    line    row (or column) in the picture.
    start   first pixel on that line.
    length  number of pixels, at least 1.
    """

    owner: Int64
    line: Int64
    start: Int64
    length: Int64


def row_runs(crops: Crops) -> Runs:
    """The runs of every object along the picture's rows, as long as possible, so that none touch."""
    pixels = crops.pixels.view(np.uint8)
    if pixels.size == 0:
        none = np.zeros(0, np.int64)
        return Runs(none, none, none, none)
    heights, widths = crops.shapes[:, 0].astype(np.int64), crops.shapes[:, 1].astype(np.int64)
    row_owner = np.repeat(np.arange(len(heights)), heights)
    row = np.arange(row_owner.size) - np.repeat(np.cumsum(heights) - heights, heights)
    row_start = crops.starts[row_owner] + row * widths[row_owner]

    change = np.empty(pixels.size + 1, np.bool_)
    change[0], change[-1] = pixels[0], pixels[-1]
    np.not_equal(pixels[1:], pixels[:-1], out=change[1:-1])
    edges = np.flatnonzero(change)
    # Where a run leaps from the end of one row to the next, it is cut: an end and a beginning at once.
    inner = row_start[1:]
    cuts = inner[(pixels[inner] & pixels[inner - 1]).view(np.bool_)]
    begins = np.sort(np.concatenate([edges[0::2], cuts]), kind="stable")
    ends = np.sort(np.concatenate([edges[1::2], cuts]), kind="stable")

    at = np.searchsorted(row_start, begins, side="right") - 1
    owner = row_owner[at]
    start = begins - row_start[at] + crops.offsets[owner, 0]
    return Runs(owner, row[at] + crops.offsets[owner, 1], start, ends - begins)


def bounds(runs: Runs, count: int, wrap: int | None = None) -> tuple[Int32, Int32]:
    """Tight boxes of `count` objects made of runs along rows: offsets (N, 2) x, y and shapes (N, 2) h, w.

    wrap  length of a picture's line where runs may go on over the end of a line into the next one.
    """
    offsets, shapes = np.zeros((count, 2), np.int32), np.zeros((count, 2), np.int32)
    if runs.owner.size == 0:
        return offsets, shapes
    last_line = runs.line
    low, high = runs.start, runs.start + runs.length
    if wrap is not None:
        last_line = runs.line + (high - 1) // wrap
        leaps = last_line > runs.line
        low, high = np.where(leaps, 0, low), np.where(leaps, wrap, high)
    first = np.flatnonzero(np.diff(runs.owner, prepend=-1))
    owner = runs.owner[first]
    offsets[owner, 0] = np.minimum.reduceat(low, first)
    offsets[owner, 1] = np.minimum.reduceat(runs.line, first)
    shapes[owner, 0] = np.maximum.reduceat(last_line, first) + 1 - offsets[owner, 1]
    shapes[owner, 1] = np.maximum.reduceat(high, first) - offsets[owner, 0]
    return offsets, shapes


def painted(runs: Runs, offsets: Int32, shapes: Int32) -> Crops:
    """Crops from runs along rows that do not overlap within an object, and their `bounds`."""
    starts = starts_of(shapes)
    steps = np.zeros(int(starts[-1]) + 1, np.int8)
    owner = runs.owner
    begins = (
        starts[owner] + (runs.line - offsets[owner, 1]) * shapes[owner, 1] + (runs.start - offsets[owner, 0])
    )
    steps[begins] += 1
    steps[begins + runs.length] -= 1  # may fall on the next run's beginning: they cancel
    np.cumsum(steps, out=steps)
    return Crops(offsets, shapes, starts, steps[:-1].view(np.bool_))


def merged(owner: Int64, begin: Int64, end: Int64) -> tuple[Int64, Int64, Int64]:
    """Union of half-open stretches [begin, end) per owner; touching ones become one; sorted.

    Positions must lie in [0, 2**62 / number of owners).
    """
    if owner.size == 0:
        return owner, begin, end
    span = int(end.max()) + 1  # one more than any end, so that stretches of two owners never touch
    first = np.sort(owner * span + begin)
    last = np.sort(owner * span + end)
    # After i + 1 beginnings as many ends: there, and only there, nothing is open.
    closed = np.append(first[1:] > last[:-1], True)
    opened = np.append(True, closed[:-1])
    first, last = first[opened], last[closed]
    owner = first // span
    return owner, first - owner * span, last - owner * span
