from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from apiece.core.label_image import label_values
from apiece.core.masks import Masks
from apiece.errors import GeometryError, UsageError
from strategies import masks, sizes

labels = sizes().flatmap(
    lambda size: hnp.arrays(
        st.sampled_from([np.uint8, np.int32, np.uint16, np.int64]),
        size,
        elements=st.sampled_from([0, 1, 2, 5, 100]),
    )
)


@given(labels)
def test_a_label_image_gives_one_mask_for_each_label_in_order(array):
    values = [v for v in np.unique(array) if v]
    made = Masks.from_label_image(array)
    assert label_values(array).tolist() == values
    assert label_values(array).dtype == np.int64
    assert made.size == array.shape
    assert len(made) == len(values)
    for frame, value in zip(made.to_dense(), values, strict=True):
        assert np.array_equal(frame, array == value)
    assert Masks(made.size, made.offsets, made.shapes, made.pixels) == made


@given(labels)
def test_label_images_come_back_numbered_from_one(array):
    made = Masks.from_label_image(array)
    again = made.to_label_image()
    assert np.array_equal(again, np.searchsorted([0, *label_values(array)], array))
    assert Masks.from_label_image(again) == made


@given(labels)
def test_strided_and_read_only_arrays_are_read_alike(array):
    fortran = np.asfortranarray(array)
    fortran.flags.writeable = False
    assert Masks.from_label_image(fortran) == Masks.from_label_image(array)
    assert Masks.from_label_image(array.T[::-1]) == Masks.from_label_image(array.T[::-1].copy())


def test_a_bool_picture_is_one_object_or_none():
    assert Masks.from_label_image(np.eye(3, dtype=bool)).areas.tolist() == [3]
    assert len(Masks.from_label_image(np.zeros((3, 3), bool))) == 0


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3, 3), int), np.zeros(3, int), np.zeros((2, 2)), np.zeros((0, 4), int), np.array([["a"]])],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(GeometryError, match="label image has shape"):
        Masks.from_label_image(array)


def test_negative_labels_are_refused_with_their_place():
    array = np.zeros((3, 4), int)
    array[2, 1] = -1
    with pytest.raises(GeometryError, match="holds -1 at x 1, y 2"):
        Masks.from_label_image(array)


@given(masks())
def test_the_policy_says_who_keeps_a_shared_pixel(made):
    frames = made.to_dense()
    assert made.overlapping_pixels() == (frames.sum(axis=0) > 1).sum()
    by_area = sorted(range(len(made)), key=lambda i: (made.areas[i], i))
    ranks = {"first": range(len(made)), "last": range(len(made))[::-1], "smaller": by_area}
    for policy, order in ranks.items():
        expected = np.zeros(made.size, int)
        for i in order:
            expected[(expected == 0) & frames[i]] = i + 1
        hidden = [i for i in range(len(made)) if made.areas[i] and not (expected == i + 1).any()]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            given_back = made.to_label_image(policy)
        assert np.array_equal(given_back, expected)
        assert len(caught) == bool(hidden)
        if hidden:
            assert f"{len(hidden)} masks (the first is {hidden[0]})" in str(caught[0].message)


@given(masks())
def test_overlap_is_an_error_by_default_that_names_the_first_pair(made):
    frames = made.to_dense()
    pairs = [
        (i, j, (frames[i] & frames[j]).sum())
        for i in range(len(made))
        for j in range(i + 1, len(made))
        if (frames[i] & frames[j]).any()
    ]
    if not pairs:
        assert np.array_equal(made.to_label_image() > 0, frames.any(axis=0))
        return
    i, j, pixels = pairs[0]
    with pytest.raises(GeometryError, match=f"masks {i} and {j} share {pixels} pixels"):
        made.to_label_image()


def test_the_type_holds_every_label():
    one = np.ones((1, 1), bool)
    places = np.column_stack([np.arange(70_000) % 300, np.arange(70_000) // 300])
    made = Masks.from_crops([one] * 70_000, places, (300, 300))
    assert made[:65_535].to_label_image().dtype == np.uint16
    many = made.to_label_image()
    assert many.dtype == np.uint32
    assert many.max() == 70_000
    assert made.to_label_image(dtype=np.int32).dtype == np.int32
    with pytest.raises(GeometryError, match="70000 labels do not fit uint16"):
        made.to_label_image(dtype=np.uint16)
    with pytest.raises(GeometryError, match="do not fit float64"):
        made.to_label_image(dtype=np.float64)


def test_an_unknown_policy_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'smaller'"):
        Masks.empty((2, 2)).to_label_image("smallest")


@pytest.mark.needs_shared
def test_real_nuclei_come_back(shared):
    import cv2

    paths = sorted((shared / "dsb2018_train_full664").rglob("*.png"))
    checked = 0
    for path in paths[:: max(1, len(paths) // 60)]:
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if array is None or array.ndim != 2 or array.dtype != np.uint16:
            continue
        made = Masks.from_label_image(array)
        assert np.array_equal(np.append(0, label_values(array))[made.to_label_image()], array)
        assert made.areas.sum() == np.count_nonzero(array)
        checked += 1
    assert checked > 5
