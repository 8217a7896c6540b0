"""Affine: one matrix for picture and masks, and nothing disappears uncounted."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.augment import Affine, Rotate90, warped
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.errors import UsageError
from strategies import instances

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def about(centre, linear, move=(0.0, 0.0)):
    """The matrix that applies `linear` about a point, then moves."""
    linear, centre = np.asarray(linear, float), np.asarray(centre, float)
    return np.column_stack([linear, centre + move - linear @ centre])


def turned(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def moved_by(matrix, dx, dy):
    return np.column_stack([matrix[:, :2], matrix[:, 2] + (dx, dy)])


def inverse(matrix):
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def shown(mask_sample_size, masks, matrix, size):
    """Each mask as a white picture, moved as pictures are: what the mask must be."""
    out = []
    for frame in masks.to_dense():
        white = np.repeat(frame[..., None], 3, axis=2).astype(np.uint8) * 255
        nothing = Instances.empty(
            mask_sample_size, discs(np.random.default_rng(0), (9, 9), 0).instances.classes
        )
        out.append(warped(Sample(white, nothing), matrix, size).image[..., 0] >= 128)
    return np.array(out)


@given(objects=instances())
@settings(max_examples=60, deadline=None)
def test_the_identity_changes_nothing(objects):
    image = np.random.default_rng(0).integers(0, 256, (*objects.size, 3), np.uint8)
    out = warped(Sample(image, objects), IDENTITY, objects.size)
    np.testing.assert_array_equal(out.image, image)
    there = (objects.masks.areas > 0) | ((objects.boxes[:, 2:] > objects.boxes[:, :2]).all(axis=1))
    assert out.instances == objects[there]
    still = Affine(1.0, 0, (1, 1), (1, 1), 0, 0)(Sample(image, objects), np.random.default_rng(1))
    np.testing.assert_array_equal(still.image, image)
    assert still.instances == objects[there]


@given(objects=instances(), dx=st.integers(-9, 9), dy=st.integers(-9, 9))
@settings(max_examples=60, deadline=None)
def test_whole_shifts_are_exact(objects, dx, dy):
    image = np.random.default_rng(0).integers(0, 256, (*objects.size, 3), np.uint8)
    out = warped(Sample(image, objects), moved_by(IDENTITY, dx, dy), objects.size)
    moved = objects.masks.shift(dx, dy)
    assert out.instances.masks == moved[moved.areas > 0]
    expected = np.zeros_like(image)
    height, width = objects.size
    for row in range(height):
        for column in range(width):
            if 0 <= row - dy < height and 0 <= column - dx < width:
                expected[row, column] = image[row - dy, column - dx]
    np.testing.assert_array_equal(out.image, expected)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("side", [32, 33])
def test_quarter_turns_are_those_of_rotate90(turns, side):
    sample = discs(np.random.default_rng(turns), (side, side), 5, overlap=True)
    out = warped(sample, about((side / 2, side / 2), turned(-90 * turns)), (side, side))
    np.testing.assert_array_equal(out.image, np.rot90(sample.image, turns))
    assert out.instances.masks == sample.instances.masks.rotate90(turns)
    seen = {Rotate90()(sample, np.random.default_rng(seed)).image.tobytes() for seed in range(30)}
    assert out.image.tobytes() in seen


MATRICES = st.builds(
    lambda angle, scale, aspect, shear, move: about(
        (50, 40),
        turned(angle) @ [[1, math.tan(math.radians(shear))], [0, 1]] @ np.diag([scale * aspect, scale]),
        move,
    ),
    st.floats(-180, 180),
    st.floats(0.6, 2),
    st.floats(0.8, 1.25),
    st.floats(-25, 25),
    st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
)


@given(matrix=MATRICES, seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_masks_are_where_the_warped_picture_shows_them(matrix, seed):
    sample = discs(np.random.default_rng(seed), (80, 100), 6, lobes=0.3)
    out = warped(sample, matrix, (90, 110))
    expected = shown((80, 100), sample.instances.masks, matrix, (90, 110))
    expected = expected[expected.any(axis=(1, 2))]
    got = out.instances.masks.to_dense()
    assert len(got) == len(expected)
    # Not a pixel apart but for the rounding of OpenCV's coordinates, which starts at another corner.
    assert (got != expected).sum() <= 0.01 * expected.sum() + 2


@given(matrix=MATRICES, seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_areas_scale_with_the_determinant_and_the_way_back_meets_the_start(matrix, seed):
    sample = discs(np.random.default_rng(seed), (80, 100), 6, radius=(6, 12))
    forth = moved_by(matrix, 300, 300)  # so that nothing leaves the picture
    out = warped(sample, forth, (700, 700))
    factor = abs(np.linalg.det(matrix[:, :2]))
    assert len(out.instances) == 6
    assert out.dropped == 0
    before, after = sample.instances.masks.areas, out.instances.masks.areas
    assert after.sum() == pytest.approx(before.sum() * factor, rel=0.04)
    # An outline's pixels go either way, so the allowance follows the length of the outline.
    assert (np.abs(after - before * factor) <= 2 * np.sqrt(after) + 6).all()
    back = warped(out, inverse(forth), (80, 100))
    iou = back.instances.masks.iou(sample.instances.masks).diagonal()
    assert iou.min() > 0.6  # of one of a few pixels, an outline is a large part
    assert (iou * before).sum() > 0.88 * before.sum()


@given(objects=instances(), matrix=MATRICES, limit=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_every_object_is_a_target_or_dropped_or_out_of_view(objects, matrix, limit):
    objects = objects[objects.masks.areas > 0]
    sample = Sample(np.zeros((*objects.size, 3), np.uint8), objects)
    loose, strict = (warped(sample, matrix, (60, 70), min_visible=m) for m in (0.0, limit))
    assert len(strict.instances) + strict.dropped == len(loose.instances) + loose.dropped <= len(objects)
    assert loose.dropped == 0, "an object whose pixels can be seen keeps one"
    assert len(warped(sample, moved_by(matrix, 300, 300), (700, 700)).instances) == len(objects), (
        "the tiniest is still there"
    )


def test_fill_boxes_and_chance():
    sample = discs(np.random.default_rng(0), (60, 80), 5)
    empty = Masks.from_crops([np.zeros((1, 1), bool)] * 5, np.zeros((5, 2), int), (60, 80))
    boxed = Instances(
        (60, 80), empty, np.zeros(5, int), boxes=sample.instances.boxes, classes=sample.instances.classes
    )
    matrix = about((40, 30), turned(30))
    a, b = (
        warped(sample, matrix, (200, 200), (7, 8, 9)),
        warped(Sample(sample.image, boxed), matrix, (200, 200)),
    )
    assert (a.image[-1, -1] == (7, 8, 9)).all()
    masks, boxes = a.instances.boxes, b.instances.boxes
    assert (boxes[:, :2] <= masks[:, :2] + 1).all()
    assert (boxes[:, 2:] >= masks[:, 2:] - 1).all()
    never = Affine(0.0)
    assert never(sample, np.random.default_rng(0)) is sample


def test_random_changes_stay_within_their_ranges():
    """A square's corners tell rotation, scale and shift."""
    square = Masks.from_crops([np.ones((40, 40), bool)], [[80, 80]], (200, 200))
    classes = discs(np.random.default_rng(0), (9, 9), 0).instances.classes
    sample = Sample(np.zeros((200, 200, 3), np.uint8), Instances((200, 200), square, [0], classes=classes))
    change = Affine(1.0, rotation=20, scale=(0.5, 1.5), aspect=(1, 1), shear=0, translate=0.1)
    areas, places = [], []
    for seed in range(60):
        out = change(sample, np.random.default_rng(seed)).instances.masks
        areas.append(float(out.areas[0]) / 1600)
        places.append(out.centroids[0] - 99.5)
    assert 0.24 <= min(areas) < 0.5
    assert 1.6 < max(areas) <= 2.28
    assert np.abs(places).max() <= 20.5
    assert np.abs(places).max() > 15


@pytest.mark.parametrize(
    "wrong",
    [
        {"p": 2},
        {"rotation": 200},
        {"scale": (0.1, 1)},
        {"scale": (2, 1)},
        {"aspect": (0, 1)},
        {"shear": 80},
        {"translate": -1},
        {"fill": (1, 2, 300)},
        {"min_visible": 3},
    ],
)
def test_values_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError, match=f"Affine {next(iter(wrong))}"):
        Affine(**wrong)
    with pytest.raises(UsageError, match="inverted"):
        warped(discs(np.random.default_rng(0), (9, 9), 0), np.zeros((2, 3)), (9, 9))


def test_many_masks_cost_their_own_area():
    """400 objects on 30 megapixels: full frames would be 12 gigabytes."""
    size = (5000, 6000)
    places = np.random.default_rng(0).integers(0, 4900, (400, 2))
    disc = cv2.circle(np.zeros((41, 41), np.uint8), (20, 20), 20, 1, -1)
    masks = Masks.from_crops([disc] * 400, places, size)
    classes = discs(np.random.default_rng(0), (9, 9), 0).instances.classes
    small = np.zeros((*size, 3), np.uint8)
    out = warped(
        Sample(small, Instances(size, masks, np.zeros(400, int), classes=classes)),
        about((0, 0), turned(3)),
        size,
    )
    assert len(out.instances) > 300
    assert out.instances.masks.nbytes < 3e6
