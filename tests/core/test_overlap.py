from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as oracle

from apiece.core import overlap as overlaps
from apiece.core.masks import Masks
from apiece.errors import GeometryError
from strategies import masks, sizes


def two(size: tuple[int, int]) -> st.SearchStrategy[tuple[Masks, Masks]]:
    return st.tuples(masks(size=size), masks(size=size))


pairs = sizes().flatmap(two)


@given(pairs)
def test_shared_pixels_are_those_of_the_dense_frames(pair):
    a, b = pair
    shared = a.intersection(b)
    expected = (a.to_dense()[:, None] & b.to_dense()[None]).sum(axis=(2, 3))
    assert shared.format == "csr"
    assert shared.dtype == np.int64
    assert shared.has_canonical_format
    assert np.array_equal(shared.toarray(), expected)
    assert (shared.data > 0).all()
    assert np.array_equal(b.intersection(a).toarray(), expected.T)


@given(pairs)
def test_ratios_equal_their_definitions_and_pycocotools(pair):
    a, b = pair
    iou, share = a.iou(b), a.overlap(b)
    frames_a, frames_b = a.to_dense(), b.to_dense()
    assert iou.shape == share.shape == (len(a), len(b))
    for i, j in np.ndindex(iou.shape):
        both = (frames_a[i] & frames_b[j]).sum()
        assert iou[i, j] == (both and both / (frames_a[i] | frames_b[j]).sum())
        assert share[i, j] == (both and both / a.areas[i])
    if len(a) and len(b):
        theirs = oracle.iou(a.to_coco(), b.to_coco(), [0] * len(b))
        assert np.array_equal(iou.toarray(), theirs)
        # COCO compares a detection with a crowd region by the share of the detection that lies inside.
        assert np.array_equal(share.toarray(), oracle.iou(a.to_coco(), b.to_coco(), [1] * len(b)))


@given(masks())
def test_a_mask_overlaps_itself_wholly(made):
    full = made[made.areas > 0]
    assert np.array_equal(full.iou(full).diagonal(), np.ones(len(full)))
    assert np.array_equal(full.overlap(full).diagonal(), np.ones(len(full)))


@given(pairs)
def test_both_ways_of_counting_and_all_chunk_sizes_agree(pair):
    a, b = pair
    expected = (a.to_dense()[:, None] & b.to_dense()[None]).sum(axis=(2, 3))
    for setting in (
        {"OBJECT": 0, "LOOK_UP": 0, "BLOCK": 2},
        {"OBJECT": 10**12},
        {"OBJECT": 10**12, "CHUNK": 3},
    ):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in setting.items():
                patch.setattr(overlaps, name, value)
            assert np.array_equal(a.intersection(b).toarray(), expected)


@given(st.data())
def test_meetings_are_all_overlapping_stretches_once(data):
    def stretches() -> tuple[np.ndarray, np.ndarray]:
        found = data.draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=8))
        begin = np.array([b for b, _ in found], np.int64)
        return begin, begin + np.array([n for _, n in found], np.int64)

    (begin_a, end_a), (begin_b, end_b) = stretches(), stretches()
    expected = [
        (i, j)
        for i in range(begin_a.size)
        for j in range(begin_b.size)
        if begin_a[i] < end_b[j] and begin_b[j] < end_a[i]
    ]
    meetings = overlaps.Meetings(begin_a, end_a, begin_b, end_b)
    found = [(int(i), int(j)) for left, right in meetings for i, j in zip(left, right, strict=True)]
    assert sorted(found) == expected
    assert meetings.total == len(expected)


def test_masks_of_different_pictures_cannot_meet():
    for compare in (Masks.intersection, Masks.iou, Masks.overlap):
        with pytest.raises(GeometryError, match="picture"):
            compare(Masks.empty((4, 5)), Masks.empty((5, 4)))


def test_stacked_objects_take_the_other_way_and_agree():
    rng = np.random.default_rng(0)
    made = Masks.from_dense(rng.random((60, 40, 40)) < 0.5)
    frames = made.to_dense().reshape(60, -1).astype(int)
    assert np.array_equal(made.intersection(made).toarray(), frames @ frames.T)


@pytest.mark.slow
def test_ten_thousand_against_ten_thousand_stays_small_and_quick():
    y, x = np.mgrid[-18:19, -18:19]
    disc = x**2 + y**2 <= 324
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 9_960, (10_000, 2))
    size = (10_000, 10_000)
    a = Masks.from_crops([disc] * 10_000, corners, size)
    b = Masks.from_crops([disc] * 10_000, corners + rng.integers(-4, 5, (10_000, 2)), size)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        a.iou(b)
        times.append(time.perf_counter() - begin)
    tracemalloc.start()
    try:
        found = a.iou(b)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nnz >= 10_000
    assert (found.diagonal() > 0.5).mean() > 0.9
    assert peak < 300e6
    assert min(times) < 0.6  # about 0.1 s on an idle core
