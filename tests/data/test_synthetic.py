"""Synthetic scenes: exactly as many objects as asked for, exactly where the ground truth says."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.data.synthetic import discs
from apiece.errors import GeometryError, UsageError


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(24, 120), st.integers(24, 120)),
    count=st.integers(0, 25),
    overlap=st.booleans(),
    touching=st.sampled_from([0.0, 0.5, 1.0]),
    lobes=st.sampled_from([0.0, 0.4]),
)
@settings(max_examples=80, deadline=None)
def test_as_many_objects_as_asked_for_each_in_sight(seed, size, count, overlap, touching, lobes):
    options = {"overlap": overlap, "touching": touching, "lobes": lobes}
    sample = discs(np.random.default_rng(seed), size, count, **options)
    masks = sample.instances.masks
    assert sample.size == size
    assert len(masks) == count
    assert (masks.areas > 0).all()
    assert masks.overlapping_pixels() == 0
    again = discs(np.random.default_rng(seed), size, count, **options)
    np.testing.assert_array_equal(again.image, sample.image)
    assert again.instances == sample.instances


def test_the_picture_shows_what_the_masks_say():
    sample = discs(np.random.default_rng(3), (200, 200), 40, noise=0, blur=0)
    inside = sample.instances.masks.union().to_dense()[0]
    assert sample.image[inside].mean(axis=1).min() > sample.image[~inside].max()


def test_a_later_object_hides_earlier_ones():
    """Without blur and noise each pixel has the shade of the one object that owns it."""
    sample = discs(
        np.random.default_rng(5),
        (120, 120),
        12,
        overlap=True,
        touching=1.0,
        blur=0,
        noise=0,
        radius=(14, 18),
    )
    alone = [
        discs(np.random.default_rng(5), (120, 120), n, overlap=True, touching=1.0, radius=(14, 18))
        for n in range(1, 13)
    ]
    hidden = 0
    for earlier, later in pairwise(alone):
        count = len(earlier.instances)
        before, after = earlier.instances.masks, later.instances.masks[np.arange(count)]
        newest = later.instances.masks[[count]]
        # What an earlier object lost is exactly what the newest one took.
        np.testing.assert_array_equal(after.intersection(before).diagonal(), after.areas)
        lost = before.areas - after.areas
        np.testing.assert_array_equal(before.intersection(newest).toarray()[:, 0], lost)
        hidden += int(lost.sum())
    assert hidden > 100
    assert sample.instances.masks == alone[-1].instances.masks


def test_every_object_keeps_its_share_in_sight():
    options = {"overlap": True, "touching": 0.8, "radius": (10.0, 14.0)}
    full = [
        int(
            discs(np.random.default_rng(8), (90, 90), n, min_visible=0.5, **options).instances.masks.areas[-1]
        )
        for n in range(1, 16)
    ]
    areas = discs(np.random.default_rng(8), (90, 90), 15, min_visible=0.5, **options).instances.masks.areas
    assert (areas >= 0.5 * np.array(full)).all()
    assert (areas < full).any()


def test_touching_objects_share_a_border():
    def meeting(touching: float) -> int:
        masks = discs(np.random.default_rng(1), (256, 256), 40, touching=touching).instances.masks
        labels = masks.to_label_image()
        pairs = set()
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            both = (a > 0) & (b > 0) & (a != b)
            pairs |= set(zip(np.minimum(a, b)[both].tolist(), np.maximum(a, b)[both].tolist(), strict=True))
        return len(pairs)

    assert meeting(1.0) >= 30
    assert meeting(0.0) <= 5


def test_an_object_is_in_one_part_where_nothing_hides_it():
    for touching in (0.0, 1.0):
        for crop, _ in discs(np.random.default_rng(2), (200, 200), 40, touching=touching).instances.masks:
            assert cv2.connectedComponents(crop.view(np.uint8), connectivity=8)[0] == 2


def test_classes_have_colours_of_their_own():
    classes = ClassMap(("a", "b", "c"), (7, 3, 90))
    sample = discs(np.random.default_rng(4), (200, 200), 30, classes=classes)
    objects = sample.instances
    assert objects.classes == classes
    assert set(objects.class_ids.tolist()) == {0, 1, 2}
    strongest = [
        int(sample.image[y : y + c.shape[0], x : x + c.shape[1]][c].mean(0).argmax())
        for c, (x, y) in objects.masks
    ]
    by_class = {(k, s) for k, s in zip(objects.class_ids.tolist(), strongest, strict=True)}
    assert len(by_class) == 3


def test_texture_lobes_blur_and_noise_change_the_picture():
    def made(**options: float) -> np.ndarray:
        return discs(np.random.default_rng(4), (80, 80), 5, **options).image.astype(float)

    plain = made(blur=0, noise=0)
    for options in (
        {"texture": 0.2, "blur": 0, "noise": 0},
        {"blur": 2, "noise": 0},
        {"blur": 0, "noise": 20},
    ):
        assert np.abs(made(**options) - plain).mean() > 0.3


def test_what_cannot_be_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(GeometryError, match="no place for object"):
        discs(rng, (4, 4), 17)
    with pytest.raises(UsageError, match="expected 0 or more"):
        discs(rng, (4, 4), -1)
    with pytest.raises(UsageError, match="lobes"):
        discs(rng, (40, 40), 1, lobes=0.9)


def test_the_stream_of_random_numbers_stays():
    """Recorded figures depend on these scenes."""
    options = {"overlap": True, "touching": 0.5, "lobes": 0.3, "texture": 0.1}
    masks = discs(np.random.default_rng(170), (120, 160), 20, **options).instances.masks
    areas = [111, 123, 98, 74, 163, 80, 158, 154, 141, 242, 102, 104, 115, 221, 120, 80, 115, 218, 124, 135]
    assert masks.areas.tolist() == areas
    assert masks.offsets[:5].tolist() == [[123, 6], [84, 59], [41, 70], [96, 56], [46, 82]]
