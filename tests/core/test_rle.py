from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as oracle

from apiece.core.masks import Masks
from apiece.errors import AnnotationError
from strategies import dense, masks, sizes


def encoded(frames: np.ndarray) -> list[str]:
    return [oracle.encode(np.asfortranarray(f.astype(np.uint8)))["counts"].decode() for f in frames]


@given(dense())
def test_strings_equal_pycocotools_byte_for_byte(frames):
    documents = Masks.from_dense(frames).to_coco()
    assert [d["counts"] for d in documents] == encoded(frames)
    assert all(d["size"] == list(frames.shape[1:]) for d in documents)


def test_strings_of_large_counts_equal_pycocotools():
    frames = np.zeros((4, 1500, 2000), bool)
    frames[0, 3:1400, 7:1999] = True
    frames[1, 0, 0] = frames[1, -1, -1] = True
    frames[2, :, 1000:] = True
    frames[3, ::7, ::901] = True
    made = Masks.from_dense(frames)
    assert [d["counts"] for d in made.to_coco()] == encoded(frames)
    assert Masks.from_coco(made.to_coco(), made.size) == made


@given(masks())
def test_both_forms_come_back(made):
    compressed, plain = made.to_coco(), made.to_coco(compressed=False)
    assert Masks.from_coco(compressed, made.size) == made
    assert Masks.from_coco(plain, made.size) == made
    for document in plain:
        counts = document["counts"]
        assert sum(counts) == made.size[0] * made.size[1]
        assert all(count > 0 for count in counts[1:])
    as_bytes = [{**d, "counts": d["counts"].encode()} for d in compressed]
    as_arrays = [{**d, "counts": np.array(d["counts"])} for d in plain]
    mixed = [forms[i % 4] for i, forms in enumerate(zip(compressed, plain, as_bytes, as_arrays, strict=True))]
    assert Masks.from_coco(mixed, made.size) == made


@given(sizes(), st.data())
def test_counts_with_runs_of_length_zero_mean_what_pycocotools_reads(size, data):
    area = size[0] * size[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, area), max_size=8)))
    counts = np.diff([0, *cuts, area]).tolist()
    item = {"size": list(size), "counts": counts}
    made = Masks.from_coco([item], size)
    reference = oracle.decode(oracle.frPyObjects(item, *size)).astype(bool)
    assert np.array_equal(made.to_dense()[0], reference)
    assert Masks.from_coco([oracle.frPyObjects(item, *size)], size) == made


# ---- what comes from strangers


@given(sizes(6), st.binary(max_size=12))
def test_any_bytes_are_either_a_mask_or_a_clear_error(size, counts):
    good = Masks.from_dense(np.ones((1, *size), bool)).to_coco()[0]
    items = [good, {"size": list(size), "counts": counts}]
    try:
        made = Masks.from_coco(items, size)
    except AnnotationError:
        with pytest.raises(AnnotationError, match=r"^object 1: RLE .*Remedy"):
            Masks.from_coco(items, size)
    else:
        assert len(made) == 2
        assert made.to_coco(compressed=False)[1]["size"] == list(size)
        assert Masks(made.size, made.offsets, made.shapes, made.pixels) == made


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5, 5], "sum to 10"),
        ([5, 16], "sum to 21"),
        ([-5, 25], "count of -5"),
        ([21], "count of 21"),
        ([10**30], "flat list"),
        ([5.0, 15.0], "flat list"),
        ([[5], [15]], "flat list"),
        ([[5], 15], "flat list"),
        ([], "flat list"),
        (["5", "15"], "flat list"),
        (None, "flat list"),
        ({"a": 1}, "flat list"),
        ("", "empty string"),
        (b"", "empty string"),
        ("\u00e9", "holds the byte"),
        ("5 5", "holds the byte"),
        ("P", "breaks off"),
        ("P" * 40 + "0", "digits"),
        ("o" * 11 + "0", "count or a step"),
        ("O", "count of -1"),
        ("55", "sum to 10"),
    ],
)
def test_counts_that_are_no_mask_name_the_object_and_the_remedy(counts, message):
    good = {"size": [4, 5], "counts": [20]}
    with pytest.raises(AnnotationError, match=f"object 2: .*{message}.*Remedy"):
        Masks.from_coco([good, good, {"size": [4, 5], "counts": counts}], (4, 5))


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "abc",
        7,
        {},
        {"size": [4, 5]},
        {"counts": [20]},
        {"size": [5, 4], "counts": [20]},
        {"size": 4, "counts": [20]},
        {"size": "45", "counts": [20]},
    ],
)
def test_other_things_than_an_rle_of_this_picture_name_the_object(segmentation):
    with pytest.raises(AnnotationError, match="object 1"):
        Masks.from_coco([{"size": [4, 5], "counts": [20]}, segmentation], (4, 5))


def test_a_few_bytes_cannot_ask_for_gigabytes():
    side = 2**17
    bomb = {"size": [side, side], "counts": [0, side * side]}
    corners = {"size": [side, side], "counts": [0, 1, side * side - 2, 1]}
    tracemalloc.start()
    try:
        for item in (bomb, corners):
            with pytest.raises(AnnotationError, match="max_pixels"):
                Masks.from_coco([item], (side, side))
        with pytest.raises(AnnotationError, match="at most 99"):
            Masks.from_coco([{"size": [10, 10], "counts": [0, 100]}], (10, 10), max_pixels=99)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    small = {"size": [side, side], "counts": [side * 77 + 5, 3, side * side - side * 77 - 8]}
    assert Masks.from_coco([small], (side, side)).boxes.tolist() == [[77, 5, 78, 8]]


def test_encoding_is_not_slower_than_pycocotools_on_full_frames():
    y, x = np.mgrid[-75:75, -75:75]
    blobs = [(x / 74) ** 2 + (y / (40 + i % 30)) ** 2 < 1 for i in range(100)]
    corners = np.random.default_rng(0).integers(0, 850, (100, 2))
    made = Masks.from_crops(blobs, corners, (1000, 1000))
    frames = np.asfortranarray(made.to_dense().astype(np.uint8).transpose(1, 2, 0))
    ours, theirs = [], []
    for _ in range(5):
        begin = time.perf_counter()
        made.to_coco()
        ours.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        oracle.encode(frames)
        theirs.append(time.perf_counter() - begin)
    assert min(ours) < min(theirs)
