"""Stains, smears, files and channels: colours change as they should, and objects stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.image import read_image
from apiece.core.instances import Instances
from apiece.data.augment import ChannelDrop, Jpeg, MotionBlur, StainJitter, looks_stained
from apiece.data.augment.stain import RUIFROK, restained, stains_of
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.errors import UsageError

CLASSES = discs(np.random.default_rng(0), (9, 9), 0).instances.classes
SEEDS = st.integers(0, 2**32 - 1)


def of(image: np.ndarray) -> Sample:
    return Sample(image, Instances.empty(image.shape[:2], CLASSES))


def tissue(seed: int = 0, side: int = 96) -> np.ndarray:
    """Haematoxylin discs in eosin on white glass, from known amounts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    amounts = np.zeros((side, side, 3))
    amounts[..., 1] = 0.5 * (np.hypot(y - side / 2, x - side / 2) < 0.45 * side)
    for _ in range(12):
        cy, cx = rng.uniform(0.25, 0.75, 2) * side
        amounts[..., 0] = np.maximum(amounts[..., 0], 0.9 * (np.hypot(y - cy, x - cx) < 5))
    amounts *= rng.uniform(0.85, 1.15, amounts.shape)
    return np.clip(np.rint(256 * 10 ** -(amounts @ RUIFROK) - 1), 0, 255).astype(np.uint8)


@given(seed=SEEDS, method=st.sampled_from(["ruifrok", "macenko"]))
@settings(max_examples=25, deadline=None)
def test_no_strength_changes_nothing(seed, method):
    image = np.random.default_rng(seed).integers(0, 256, (17, 23, 3), np.uint8)
    for picture in (image, tissue(seed % 7)):
        still = StainJitter(1.0, 0, 0, method, only_histology=False)
        out = still(of(picture), np.random.default_rng(seed)).image
        assert np.abs(out.astype(int) - picture).max() <= 1


@given(seed=SEEDS, strength=st.floats(0, 1), method=st.sampled_from(["ruifrok", "macenko"]))
@settings(max_examples=30, deadline=None)
def test_white_stays_white_and_grey_grey(seed, strength, method):
    change = StainJitter(1.0, strength, 0.1, method, only_histology=False)
    picture = tissue(seed % 5)
    assert (picture == 255).all(axis=2).any()
    out = change(of(picture), np.random.default_rng(seed)).image
    assert (out[(picture == 255).all(axis=2)] == 255).all()
    grey = np.repeat(np.random.default_rng(seed).integers(0, 256, (9, 9, 1), np.uint8), 3, axis=2)
    assert change(of(grey), np.random.default_rng(seed)).image is grey


def test_amounts_are_multiplied_and_shifted():
    """Twice the eosin, half the haematoxylin, found again by unmixing."""
    picture = tissue(1)
    out = restained(picture, RUIFROK, np.array([0.5, 2, 1]), np.zeros(3))

    def amounts(image):
        return -np.log10((image.reshape(-1, 3) + 1.0) / 256) @ np.linalg.inv(RUIFROK)

    before, after = amounts(picture), amounts(out)
    solid = before[:, 0] > 0.5
    np.testing.assert_allclose(after[solid, 0] / before[solid, 0], 0.5, atol=0.05)
    pink = (before[:, 1] > 0.4) & ~solid & (out.min(axis=2).reshape(-1) > 5)
    np.testing.assert_allclose(after[pink, 1] / before[pink, 1], 2, atol=0.1)
    moved = amounts(restained(picture, RUIFROK, np.ones(3), np.array([0.1, 0, 0])))
    np.testing.assert_allclose((moved - before)[pink, 0], 0.1, atol=0.03)


def test_macenko_finds_the_stains_of_the_picture():
    """From mixtures of two stains that are not the published ones."""
    rng = np.random.default_rng(0)
    true = np.array([[0.55, 0.75, 0.37], [0.15, 0.95, 0.28]])
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    amounts = rng.uniform(0.1, 1.0, (200, 200, 2)) * rng.choice([0.02, 1.0], (200, 200, 2))
    image = np.clip(np.rint(256 * 10 ** -(amounts @ true) - 1), 0, 255).astype(np.uint8)
    found = stains_of(image)
    cosines = np.abs(found[:2] @ true.T)
    assert cosines.max(axis=1).min() > 0.99
    assert sorted(cosines.argmax(axis=1).tolist()) == [0, 1]
    assert np.abs(found[2] @ found[:2].T).max() < 1e-9
    np.testing.assert_array_equal(stains_of(np.full((9, 9, 3), 255, np.uint8)), RUIFROK)


def test_only_stained_tissue_is_changed_unless_asked():
    photo = discs(np.random.default_rng(3), (64, 64), 5).image
    assert looks_stained(tissue())
    assert not looks_stained(photo)
    assert not looks_stained(np.zeros((8, 8, 3), np.uint8))
    assert not looks_stained(np.full((8, 8, 3), 255, np.uint8))
    sample = of(photo)
    assert StainJitter(1.0, 0.5)(sample, np.random.default_rng(0)) is sample
    assert (
        StainJitter(1.0, 0.5, only_histology=False)(sample, np.random.default_rng(0)).image != photo
    ).any()
    changed = StainJitter(1.0, 0.5)(of(tissue()), np.random.default_rng(0))
    assert (changed.image != tissue()).any()
    padded = np.zeros((150, 150, 3), np.uint8)
    padded[:96, :96] = tissue()
    assert looks_stained(padded)


@pytest.mark.needs_shared
def test_real_histology_is_known_from_photographs(shared):
    assert looks_stained(read_image(shared / "stardist_testdata/images/histo.jpg"))
    balloons = sorted((shared / "balloon/train").glob("*.jpg"))[:20]
    assert sum(looks_stained(read_image(path)) for path in balloons) <= 1


@given(seed=SEEDS, length=st.floats(0, 15))
@settings(max_examples=30, deadline=None)
def test_motion_blur_displaces_nothing_and_keeps_the_light(seed, length):
    image = np.zeros((41, 41, 3), np.uint8)
    image[18:23, 18:23] = 250
    out = MotionBlur(1.0, (length, length))(of(image), np.random.default_rng(seed)).image.astype(float)
    assert out.sum() == pytest.approx(image.sum(), rel=0.05)
    y, x = np.mgrid[:41, :41]
    light = out[..., 0]
    assert abs((light * y).sum() / light.sum() - 20) < 0.1
    assert abs((light * x).sum() / light.sum() - 20) < 0.1
    spread = np.sqrt((light * ((y - 20) ** 2 + (x - 20) ** 2)).sum() / light.sum())
    # Variances add up: the square's own, the line's length² / 12, and that of sharing between pixels.
    assert spread**2 == pytest.approx(4 + length**2 / 12, abs=0.6 + 0.02 * length**2)


def test_jpeg_is_lossy_by_quality_and_keeps_colours():
    sample = discs(np.random.default_rng(1), (64, 80), 8)
    error = {
        q: np.abs(Jpeg(1.0, (q, q))(sample, np.random.default_rng(0)).image.astype(int) - sample.image).mean()
        for q in (10, 50, 95)
    }
    assert error[10] > error[50] > error[95] > 0
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    out = Jpeg(1.0)(of(red), np.random.default_rng(0)).image
    assert np.abs(out.astype(int) - red).max() < 12


def test_a_channel_goes_black_but_never_the_last():
    image = np.zeros((8, 8, 3), np.uint8)
    image[2:4, 2:4, 0], image[5:, 5:, 2] = 200, 100
    left = {
        tuple(ChannelDrop(1.0)(of(image), np.random.default_rng(s)).image.any(axis=(0, 1)).tolist())
        for s in range(20)
    }
    assert left == {(True, False, False), (False, False, True)}
    single = image.copy()
    single[..., 2] = 0
    assert ChannelDrop(1.0)(of(single), np.random.default_rng(0)).image is single
    grey = np.repeat(image[..., :1], 3, axis=2)
    assert ChannelDrop(1.0)(of(grey), np.random.default_rng(0)).image is grey


@pytest.mark.parametrize("change", [StainJitter, MotionBlur, Jpeg, ChannelDrop])
def test_objects_stay_and_chance_none_changes_nothing(change):
    sample = Sample(tissue(), discs(np.random.default_rng(1), (96, 96), 8).instances)
    before = sample.image.copy()
    changed = change(1.0)(sample, np.random.default_rng(2))
    assert changed.instances is sample.instances
    assert changed.image.dtype == np.uint8
    assert (changed.image != before).any()
    assert change(0.0)(sample, np.random.default_rng(2)) is sample
    np.testing.assert_array_equal(sample.image, before)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (StainJitter, {"strength": 2}),
        (StainJitter, {"method": "hed"}),
        (MotionBlur, {"length": (5, 1)}),
        (Jpeg, {"quality": (0, 50)}),
        (ChannelDrop, {"p": -1}),
    ],
)
def test_values_that_cannot_be_meant_are_refused(kind, wrong):
    with pytest.raises(UsageError, match=f"{kind.__name__} {next(iter(wrong))}"):
        kind(**({"p": 0.5} | wrong))
