"""Overlap: which objects of two sets share pixels, and how many; sparse, in the objects' own area.

Objects are compared run by run along the picture's rows. Two stretches overlap just when one begins
inside the other, so sorted beginnings find every overlapping pair of runs, and only those.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array, csr_array

from apiece.core.crops import Crops, Int64
from apiece.core.runs import row_runs

CHUNK = 2**21  # pairs of runs that are held at a time


def meetings(begin_a: Int64, end_a: Int64, begin_b: Int64, end_b: Int64) -> Iterator[tuple[Int64, Int64]]:
    """Index pairs of all half-open stretches of a and b that overlap, in chunks, each pair once."""
    order_a, order_b = np.argsort(begin_a), np.argsort(begin_b)
    sorted_a, sorted_b = begin_a[order_a], begin_b[order_b]
    # Every overlapping pair is of one of two kinds: a begins in b, or b begins later than a, in a.
    low, high = np.searchsorted(sorted_a, sorted_b), np.searchsorted(sorted_a, end_b[order_b])
    for which, partner in _expanded(low, high):
        yield order_a[partner], order_b[which]
    low, high = np.searchsorted(sorted_b, sorted_a, side="right"), np.searchsorted(sorted_b, end_a[order_a])
    for which, partner in _expanded(low, np.maximum(low, high)):
        yield order_a[which], order_b[partner]


def _expanded(low: Int64, high: Int64) -> Iterator[tuple[Int64, Int64]]:
    """Pairs (i, j) for every low[i] <= j < high[i], in chunks."""
    some = np.flatnonzero(high > low)
    lengths = (high - low)[some]
    ends = np.cumsum(lengths)
    done, total = 0, int(ends[-1]) if ends.size else 0
    while done < total:
        stop = min(total, done + CHUNK)
        first, last = np.searchsorted(ends, [done, stop - 1], side="right")
        part = slice(int(first), int(last) + 1)
        before = ends[part] - lengths[part]
        taken = np.minimum(ends[part], stop) - np.maximum(before, done)
        which = np.repeat(np.arange(part.start, part.stop), taken)
        yield some[which], np.arange(done, stop) - before[which - part.start] + low[some[which]]
        done = stop


def intersections(a: Crops, b: Crops, size: tuple[int, int]) -> csr_array:
    """Shared pixels of every pair that shares any; csr int64 (N, M) with sorted indices."""
    shape = (len(a.shapes), len(b.shapes))
    runs_a, runs_b = row_runs(a), row_runs(b)
    begin_a = runs_a.line * size[1] + runs_a.start
    begin_b = runs_b.line * size[1] + runs_b.start
    end_a, end_b = begin_a + runs_a.length, begin_b + runs_b.length
    found = csr_array(shape, dtype=np.int64)
    for i, j in meetings(begin_a, end_a, begin_b, end_b):
        shared = np.minimum(end_a[i], end_b[j]) - np.maximum(begin_a[i], begin_b[j])
        found = found + coo_array((shared, (runs_a.owner[i], runs_b.owner[j])), shape=shape).tocsr()
    found.sum_duplicates()
    return found


def iou(shared: csr_array, areas_a: Int64, areas_b: Int64) -> csr_array:
    """Intersection over union for every stored pair of `intersections`; float64."""
    row = np.repeat(np.arange(len(areas_a)), np.diff(shared.indptr))
    union = areas_a[row] + areas_b[shared.indices] - shared.data
    return csr_array((shared.data / union, shared.indices, shared.indptr), shape=shared.shape)


def share_of_first(shared: csr_array, areas_a: Int64) -> csr_array:
    """Intersection over the first object's area for every stored pair of `intersections`; float64."""
    row = np.repeat(np.arange(len(areas_a)), np.diff(shared.indptr))
    return csr_array((shared.data / areas_a[row], shared.indices, shared.indptr), shape=shared.shape)


def crowded_pixels(crops: Crops, size: tuple[int, int]) -> int:
    """Number of the picture's pixels that belong to two or more objects."""
    runs = row_runs(crops)
    begin = runs.line * size[1] + runs.start
    place = np.concatenate([begin, begin + runs.length])
    order = np.argsort(place, kind="stable")
    depth = np.cumsum(np.where(order < begin.size, 1, -1))
    place = place[order]
    return int(np.diff(place)[depth[:-1] > 1].sum())
