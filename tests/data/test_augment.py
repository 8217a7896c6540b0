"""Augmentation: masks stay where their pixels are, and nothing disappears uncounted."""

from __future__ import annotations

import numpy as np
import pytest

from apiece.core.masks import Masks
from apiece.data.augment import Blur, ColorJitter, Flip, Grey, Invert, Noise, Rotate90, ScaleCrop
from apiece.data.sample import Sample
from apiece.data.synthetic import discs


def painted(rng: np.random.Generator, size: tuple[int, int], count: int = 12) -> Sample:
    """A sample whose picture says which object each pixel belongs to."""
    sample = discs(rng, size, count)
    labels = sample.instances.masks.to_label_image()
    image = np.repeat((labels * 20).astype(np.uint8)[..., None], 3, axis=2)
    return Sample(image, sample.instances)


@pytest.mark.parametrize("size", [(96, 96), (80, 120)])
@pytest.mark.parametrize("change", [Flip(), Rotate90()], ids=["flip", "rotate90"])
@pytest.mark.parametrize("seed", range(8))
def test_flips_and_turns_are_exact(size, change, seed):
    rng = np.random.default_rng(seed)
    sample = painted(rng, size)
    turned = change(sample, rng)
    assert turned.size == size
    np.testing.assert_array_equal(turned.instances.masks.to_label_image() * 20, turned.image[..., 0])


@pytest.mark.parametrize("seed", range(10))
def test_a_scaled_crop_keeps_masks_on_their_pixels(seed):
    rng = np.random.default_rng(seed)
    sample = painted(rng, (100, 140))
    out = ScaleCrop((96, 96), (0.7, 2.0))(sample, rng)
    assert out.size == (96, 96)
    for crop, (x, y) in out.instances.masks:
        values = out.image[y : y + crop.shape[0], x : x + crop.shape[1], 0][crop]
        # The outline is blended with its surroundings; inside, the colour is one.
        assert (values > 0).mean() > 0.95
        assert np.abs(values.astype(int) - np.median(values)).mean() < 0.25 * np.median(values) + 2


@pytest.mark.parametrize("seed", range(10))
def test_every_object_in_view_is_a_target_or_counted_as_dropped(seed):
    rng = np.random.default_rng(seed)
    sample = discs(rng, (128, 128), 30)
    state = rng.bit_generator.state
    strict = ScaleCrop((64, 64), (2.0, 4.0), min_visible=0.5)(sample, rng)
    rng.bit_generator.state = state
    all_of_them = ScaleCrop((64, 64), (2.0, 4.0), min_visible=0.0)(sample, rng)
    assert all_of_them.dropped == 0
    assert len(strict.instances) + strict.dropped == len(all_of_them.instances)


def test_without_scale_and_crop_nothing_changes():
    rng = np.random.default_rng(0)
    sample = discs(rng, (64, 64), 8)
    same = ScaleCrop((64, 64))(sample, rng)
    np.testing.assert_array_equal(same.image, sample.image)
    assert same.instances.masks == sample.instances.masks


@pytest.mark.parametrize("change", [ColorJitter, Invert, Grey, Blur, Noise])
def test_colours_change_and_objects_stay(change):
    rng = np.random.default_rng(1)
    sample = discs(rng, (64, 64), 8)
    changed = change(1.0)(sample, rng)
    assert changed.image.dtype == np.uint8
    assert (changed.image != sample.image).any()
    assert changed.instances is sample.instances
    assert change(0.0)(sample, rng) is sample


def test_the_same_generator_gives_the_same_sample():
    sample = discs(np.random.default_rng(2), (90, 70), 9)
    a, b = (ScaleCrop((64, 64), (0.5, 2))(sample, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    assert a.instances.masks == b.instances.masks


def test_synthetic_scenes_are_what_they_say():
    sample = discs(np.random.default_rng(3), (200, 200), 40)
    masks: Masks = sample.instances.masks
    assert len(masks) == 40
    assert masks.overlapping_pixels() == 0
    inside = masks.union().to_dense()[0]
    assert sample.image[inside].mean() > sample.image[~inside].mean() + 50
    hidden = discs(np.random.default_rng(3), (60, 60), 200, overlap=True)
    assert 0 < len(hidden.instances) < 200
