"""Overlap: which objects of two sets share pixels, and how many; sparse, in the objects' own area.

Objects are compared run by run along the picture's rows. Two stretches overlap just when one begins
inside the other, so sorted beginnings find every overlapping pair of runs, and only those. Where very many
objects lie on top of each other (candidates before suppression), sums along one object's rows answer for a
run of any other at two look-ups, which is cheaper a pair; the expected cost decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array, csr_array

from apiece.core.crops import Crops, Int64
from apiece.core.runs import Runs, row_runs

CHUNK = 2**21  # pairs of runs that are held at a time
BLOCK = 2**13  # runs that are looked up at a time, so that all of it stays in the cache
# Measured nanoseconds on one core: a meeting of two runs; a look-up of a run; one object's own overhead.
MEETING, LOOK_UP, OBJECT = 70, 10, 40_000


class Meetings:
    """All overlapping pairs of half-open stretches of a and b: `total` of them, each once.

    Iteration gives index arrays (i, j) into a and b, in chunks.
    """

    def __init__(self, begin_a: Int64, end_a: Int64, begin_b: Int64, end_b: Int64) -> None:
        self._a, self._b = np.argsort(begin_a), np.argsort(begin_b)
        sorted_a, sorted_b = begin_a[self._a], begin_b[self._b]
        # Every overlapping pair is of one of two kinds: a begins in b, or b begins later than a, in a.
        self._in_b = np.searchsorted(sorted_a, sorted_b), np.searchsorted(sorted_a, end_b[self._b])
        self._in_a = (
            np.searchsorted(sorted_b, sorted_a, side="right"),
            np.searchsorted(sorted_b, end_a[self._a]),
        )
        self.total = sum(int(np.maximum(high - low, 0).sum()) for low, high in (self._in_b, self._in_a))

    def __iter__(self) -> Iterator[tuple[Int64, Int64]]:
        for which, partner in _expanded(*self._in_b):
            yield self._a[partner], self._b[which]
        for which, partner in _expanded(*self._in_a):
            yield self._a[which], self._b[partner]


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
    pairs = Meetings(begin_a, end_a, begin_b, end_b)

    by_line = np.argsort(runs_b.line, kind="stable")
    lines = runs_b.line[by_line]
    first = np.searchsorted(lines, a.offsets[:, 1])
    last = np.searchsorted(lines, a.offsets[:, 1] + a.shapes[:, 0])
    if LOOK_UP * int((last - first).sum()) + OBJECT * shape[0] < MEETING * pairs.total:
        return _by_sums(a, Runs(*(field[by_line] for field in runs_b)), first, last, shape)

    found = csr_array(shape, dtype=np.int64)
    for i, j in pairs:
        shared = np.minimum(end_a[i], end_b[j]) - np.maximum(begin_a[i], begin_b[j])
        found = found + coo_array((shared, (runs_a.owner[i], runs_b.owner[j])), shape=shape).tocsr()
    found.sum_duplicates()
    return found


def _by_sums(a: Crops, runs: Runs, first: Int64, last: Int64, shape: tuple[int, int]) -> csr_array:
    """As `intersections`; `runs` are the other side's, sorted by line; first to last are those on a's rows."""
    stop = runs.start + runs.length
    counts = np.zeros(shape[0] + 1, np.int64)
    columns, shared = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, ((x, y), (height, width)) in enumerate(zip(a.offsets.tolist(), a.shapes.tolist(), strict=True)):
        near = slice(int(first[i]), int(last[i]))
        if height == 0 or near.start == near.stop:
            continue
        sums = np.zeros((height, width + 1), np.int32)  # object pixels to the left of each place in a row
        np.cumsum(a.crop(i), axis=1, dtype=np.int32, out=sums[:, 1:])
        flat = sums.reshape(-1)
        total = np.zeros(shape[1])
        for part in range(near.start, near.stop, BLOCK):
            some = slice(part, min(part + BLOCK, near.stop))
            row = (runs.line[some] - y) * (width + 1)
            left = flat[row + np.clip(runs.start[some] - x, 0, width)]
            right = flat[row + np.clip(stop[some] - x, 0, width)]
            # Float sums of pixel counts are exact up to 2**53.
            total += np.bincount(runs.owner[some], right - left, shape[1])
        partners = np.flatnonzero(total)
        counts[i + 1] = partners.size
        columns.append(partners)
        shared.append(total[partners].astype(np.int64))
    return csr_array((np.concatenate(shared), np.concatenate(columns), np.cumsum(counts)), shape=shape)


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
