"""Scan filling: polygons' edges cross the lines of a picture; between crossings lies the inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Crops, Int64
from apiece.core.runs import Runs, bounds, merged, painted
from apiece.errors import AnnotationError

Float64 = NDArray[np.float64]
CHUNK = 2**21  # crossings that are held at a time before equal ones cancel


class Rings(NamedTuple):
    """Closed rings of points, one after the other.

    points  float64 (K, 2), x and y; the first point of a ring is not repeated.
    after   int64 (K,), index of the next point on the same ring.
    part    int64 (K,), the part that the point's ring belongs to; rings of one part fill by even and odd.
    """

    points: Float64
    after: Int64
    part: Int64


def rings(loops: Sequence[Float64], parts: Sequence[int]) -> Rings:
    """Rings from arrays (P, 2) and the part of each."""
    lengths = np.array([len(loop) for loop in loops], np.int64)
    ends = np.cumsum(lengths)
    after = np.arange(1, int(lengths.sum()) + 1)
    after[ends - 1] = ends - lengths
    points = np.concatenate(loops) if loops else np.zeros((0, 2))
    return Rings(points, after, np.repeat(np.asarray(parts, np.int64), lengths))


def filled(
    part: Int64,
    first: Int64,
    last: Int64,
    crossing: Callable[[Int64, Int64], Int64],
    owner_of_part: Int64,
    count: int,
    size: tuple[int, int],
    max_pixels: int,
) -> Crops:
    """Crops of `count` objects from edges that cross the picture's rows first to last (exclusive).

    part, first, last  int64 (E,), for every edge its part and the rows it crosses.
    crossing           (edge indices, rows) -> column 0..width at which the inside turns over.
    owner_of_part      int64, the object of each part; parts of one object are united.
    size               (height, width) of the picture.
    """
    height, width = size
    stride = width + 1
    first, last = np.clip(first, 0, height), np.clip(last, 0, height)
    lengths = np.maximum(last - first, 0)
    ends = np.cumsum(lengths)
    keys = np.zeros(0, np.int64)
    begin = 0
    while begin < lengths.size:
        done = int(ends[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        edge = np.repeat(np.arange(begin, stop), lengths[begin:stop])
        row = first[edge] + np.arange(edge.size) - (ends - lengths)[edge] + done
        key = (part[edge] * height + row) * stride + crossing(edge, row)
        keys = _odd(np.concatenate([keys, key]))
        begin = stop
    owner = owner_of_part[keys[0::2] // (height * stride)]
    place = keys % (height * stride)
    owner, begins, stops = merged(owner, place[0::2], place[1::2])
    line = begins // stride
    runs = Runs(owner, line, begins - line * stride, stops - begins)
    offsets, shapes = bounds(runs, count)
    needed = int((shapes[:, 0].astype(np.int64) * shapes[:, 1]).sum())
    if needed > max_pixels:
        raise AnnotationError(
            f"{count} polygon objects need {needed:,} crop pixels; expected at most {max_pixels:,}. "
            "Remedy: read fewer objects at a time, or raise max_pixels if the file is trusted."
        )
    return painted(runs, offsets, shapes)


def _odd(keys: Int64) -> Int64:
    """The keys that occur an odd number of times, sorted; two equal crossings cancel."""
    values, times = np.unique(keys, return_counts=True)
    odd: Int64 = values[times % 2 == 1]
    return odd
