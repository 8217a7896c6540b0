"""Augmentation: masks stay where their pixels are, and nothing disappears uncounted."""

from __future__ import annotations

import time
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.augment import (
    Blur,
    ColorJitter,
    Compose,
    Flip,
    Grey,
    Invert,
    Noise,
    Rotate90,
    ScaleCrop,
    scale_crop,
)
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.errors import UsageError
from strategies import instances

SEEDS = st.integers(0, 2**32 - 1)


def painted(objects: Instances) -> Sample:
    """A sample whose picture says which object each pixel belongs to; of overlapping ones the first."""
    labels = objects.masks.to_label_image(overlap="first")
    return Sample(np.repeat(labels.astype(np.uint8)[..., None], 3, axis=2), objects)


def without_overlap(objects: Instances) -> Instances:
    """The objects cut so that each pixel is of one; the hidden ones left out."""
    labels = objects.masks.to_label_image(overlap="first")
    left = np.unique(labels[labels > 0]).astype(int) - 1
    kept = objects[left]
    return Instances(
        kept.size,
        Masks.from_label_image(labels),
        kept.class_ids,
        kept.scores,
        classes=kept.classes,
        track_ids=kept.track_ids,
        columns={**kept.columns, "number": left + 1},
    )


@given(objects=instances(), seed=SEEDS, change=st.sampled_from([Flip(), Rotate90(), Flip(1, 1), Flip(1, 0)]))
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore:.*lie wholly under others")
def test_flips_and_turns_are_exact(objects, seed, change):
    objects = without_overlap(objects)
    sample = painted(objects)
    numbers = np.arange(1, len(objects) + 1)
    turned = change(sample, np.random.default_rng(seed))
    np.testing.assert_array_equal(turned.instances.masks.to_label_image(), turned.image[..., 0])
    assert turned.size == sample.size
    assert turned.instances.masks.areas.tolist() == objects.masks.areas.tolist()
    assert turned.instances.class_ids.tolist() == objects.class_ids.tolist()
    assert (turned.image[..., 0][..., None] == numbers).sum((0, 1)).tolist() == objects.masks.areas.tolist()
    np.testing.assert_array_equal(turned.instances.boxes, turned.instances.masks.boxes)
    assert turned.image.flags.c_contiguous


def test_every_turn_and_flip_occurs():
    sample = painted(discs(np.random.default_rng(0), (24, 24), 3).instances)
    rng = np.random.default_rng(1)
    change = Compose((Flip(), Rotate90()))
    seen = {change(sample, rng).image.tobytes() for _ in range(200)}
    expected = [np.rot90(image, k) for k in range(4) for image in (sample.image, sample.image[:, ::-1])]
    assert seen == {np.ascontiguousarray(image).tobytes() for image in expected}


def test_boxes_of_objects_without_a_mask_move_along():
    """A box moves as the mask that fills it does, under every change of geometry."""
    sample = discs(np.random.default_rng(5), (40, 40), 5)
    x1, y1, x2, y2 = sample.instances.boxes.T.astype(int)
    filled = [np.ones((b - t, r - left), bool) for left, t, r, b in zip(x1, y1, x2, y2, strict=True)]
    solid = Masks.from_crops(filled, np.stack([x1, y1], 1), (40, 40))
    empty = Masks.from_crops([np.zeros((1, 1), bool)] * 5, np.zeros((5, 2), int), (40, 40))
    with_mask, with_box = (
        Sample(
            sample.image,
            Instances((40, 40), masks, np.zeros(5, int), boxes=solid.boxes, classes=sample.instances.classes),
        )
        for masks in (solid, empty)
    )
    for seed in range(20):
        change = Compose((Flip(), Rotate90(), ScaleCrop((64, 48), (0.8, 2.5))))
        a, b = (change(s, np.random.default_rng(seed)) for s in (with_mask, with_box))
        assert abs(len(a.instances) - len(b.instances)) <= 1  # one may lie at the limit of min_visible
        if len(a.instances) == len(b.instances):
            np.testing.assert_allclose(a.instances.boxes, b.instances.boxes, atol=1.01)


@pytest.mark.parametrize("scale", [(0.3, 0.6), (0.75, 1.0), (1.0, 1.5), (1.5, 4.0)])
@pytest.mark.parametrize("seed", range(6))
def test_a_scaled_crop_keeps_masks_on_their_pixels_within_one(seed, scale):
    """Each object alone in white on black: where the scaled picture is brighter than grey is its mask."""
    objects = discs(np.random.default_rng(seed), (100, 140), 12, radius=(6, 14)).instances
    square = np.ones((3, 3), np.uint8)
    wrong = pixels = 0
    shifts = []
    for i in range(12):
        one = objects[[i]]
        white = np.repeat(one.masks.to_dense()[0][..., None], 3, axis=2).astype(np.uint8) * 255
        out = ScaleCrop((96, 90), scale, 0.0)(Sample(white, one), np.random.default_rng(seed))
        shown = (out.image[..., 0] >= 128).astype(np.uint8)
        mask = out.instances.masks.union().to_dense()[0].astype(np.uint8)
        assert not (mask & ~cv2.dilate(shown, square) & 1).any()
        assert not (cv2.erode(shown, square, borderValue=1) & ~mask & 1).any()
        wrong, pixels = wrong + int((mask != shown).sum()), pixels + int(shown.sum())
        if mask.any() and shown.any():
            shifts.append(np.argwhere(mask).mean(0) - np.argwhere(shown).mean(0))
    assert pixels > 100
    assert wrong <= 0.06 * pixels
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.15  # on average not shifted by any part of a pixel


@pytest.mark.parametrize(("target", "scale"), [(96, 0.3), (96, 0.55), (96, 0.8), (125, 1.0), (400, 0.7)])
def test_masks_scale_as_the_core_scales_them(target, scale):
    sample = discs(np.random.default_rng(2), (96, 96), 12)
    out = ScaleCrop((target, target), (scale, scale))(sample, np.random.default_rng(0))
    side = round(target * scale)
    expected = sample.instances.masks.resize((side, side)).crop_to(0, 0, target, target)
    assert len(out.instances) == 12
    assert expected.iou(out.instances.masks).diagonal().min() > 0.9
    np.testing.assert_allclose(out.instances.masks.areas, expected.areas, rtol=0.08)
    total = sample.instances.masks.areas.sum() * (side / 96) ** 2
    assert out.instances.masks.areas.sum() == pytest.approx(total, rel=0.02)


@given(objects=instances(), seed=SEEDS, low=st.floats(0.2, 3), times=st.floats(1, 3), limit=st.floats(0, 1))
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:.*lie wholly under others")
def test_every_object_is_a_target_or_dropped_or_out_of_view(objects, seed, low, times, limit):
    objects = objects[objects.masks.areas > 0]
    sample = painted(objects)
    all_seen = ScaleCrop((9, 13), (low, low * times), 0.0)(sample, np.random.default_rng(seed))
    strict = ScaleCrop((9, 13), (low, low * times), limit)(sample, np.random.default_rng(seed))
    for out in (all_seen, strict):
        assert out.size == (9, 13)
        assert out.image.shape == (9, 13, 3)
        assert (out.instances.masks.areas > 0).all()
    # What the limit takes away is counted; both see the same objects.
    assert len(strict.instances) + strict.dropped == len(all_seen.instances) + all_seen.dropped
    assert len(all_seen.instances) + all_seen.dropped <= len(objects)
    if low * times <= 1:  # all of the picture is in view
        assert len(strict.instances) + strict.dropped == len(objects)


def test_dropped_forgets_what_a_later_crop_cuts_away():
    sample = discs(np.random.default_rng(4), (128, 128), 40)
    once = ScaleCrop((64, 64), (3, 3), 0.9)
    rng = np.random.default_rng(0)
    first = once(sample, rng)
    second = once(first, rng)
    assert first.dropped == len(first.lost) == 3
    assert second.dropped == len(second.lost) == 1  # 3 dropped, of which 2 or more are out of sight now
    assert (second.lost.masks.areas > 0).all()
    # A count that a sample came with and that no object stands for is kept.
    assert once(Sample(sample.image, sample.instances, dropped=7), np.random.default_rng(0)).dropped == 10


def test_as_ignore_keeps_what_would_be_dropped_as_crowd_regions():
    sample = discs(np.random.default_rng(4), (128, 128), 40)
    strict = ScaleCrop((64, 64), (3, 3), 0.9)(sample, np.random.default_rng(0))
    marked = ScaleCrop((64, 64), (3, 3), 0.9, as_ignore=True)(sample, np.random.default_rng(0))
    crowd = marked.instances.columns["iscrowd"]
    assert strict.dropped == crowd.sum() == 3
    assert marked.dropped == 0
    assert marked.instances[~crowd].masks == strict.instances.masks
    assert marked.instances[crowd].masks == strict.lost.masks
    again = Compose((Flip(1, 0), Rotate90()))(marked, np.random.default_rng(0))
    assert again.instances.columns["iscrowd"].tolist() == crowd.tolist()


def test_the_padding_has_the_colour_that_was_asked_for():
    sample = discs(np.random.default_rng(4), (64, 64), 4)
    out = ScaleCrop((64, 96), (0.5, 0.5), fill=(9, 200, 30))(sample, np.random.default_rng(0))
    assert (out.image[:, 32:] == (9, 200, 30)).all()
    assert (out.image[32:] == (9, 200, 30)).all()


def test_scale_crop_draws_what_it_always_drew():
    """A factor, a row, a column: a run that began with an earlier version sees the same pixels when resumed."""
    sample = discs(np.random.default_rng(4), (64, 80), 4)
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    out = ScaleCrop((64, 64), (2.0, 4.0))(sample, rng)
    factor = 0.8 * np.exp(same.uniform(np.log(2), np.log(4)))
    height, width = round(64 * factor), round(80 * factor)
    top, left = int(same.integers(max(0, height - 64) + 1)), int(same.integers(max(0, width - 64) + 1))
    assert rng.random() == same.random()
    image = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out.image, image[top : top + 64, left : left + 64])


@pytest.mark.parametrize("change", [Invert, Grey])
def test_a_probability_is_a_fraction(change):
    with pytest.raises(UsageError, match=f"{change.__name__} p is 5"):
        change(5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(1.0, 3.0), (7.3, 7.3), (0.2, 1.4)]))
def test_a_far_enlarged_window_is_the_part_of_the_whole(seed, scale):
    """OpenCV's warp knows places to a 32nd of a pixel, so colours may be off by that part of the largest step."""
    sample = discs(np.random.default_rng(seed), (40, 52), 5)
    change = ScaleCrop((33, 47), scale)
    whole = change(sample, np.random.default_rng(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale_crop, "WHOLE", 0)
        window = change(sample, np.random.default_rng(seed))
    assert np.abs(window.image.astype(int) - whole.image).max() <= 255 / 16
    assert window.instances == whole.instances


def test_a_thousandfold_enlargement_costs_its_window():
    sample = discs(np.random.default_rng(0), (64, 64), 8)
    tracemalloc.start()
    out = ScaleCrop((64, 64), (1000, 1000), 0.0)(sample, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert out.image.max() > 0
    assert peak < 2_000_000  # the whole would be 12 GB


def test_the_fraction_that_decides_is_min_visible():
    """A square that the crop cuts in half stays at a limit below a half and goes at one above."""
    square = Masks.from_crops([np.ones((20, 20), bool)], [[5, 10]], (50, 100))
    classes = discs(np.random.default_rng(0), (9, 9), 0).instances.classes
    sample = Sample(np.zeros((50, 100, 3), np.uint8), Instances((50, 100), square, [0], classes=classes))
    seen = set()
    for seed in range(300):
        shares = []
        for limit in (0.0, 0.4, 0.6):
            out = ScaleCrop((50, 50), (2, 2), limit)(sample, np.random.default_rng(seed))
            shares.append(int(out.instances.masks.areas.sum()) / 400)
            assert len(out.instances) + out.dropped == (shares[0] > 0)
            assert len(out.instances) == (shares[0] >= limit and shares[0] > 0)
        seen.add(shares[0])
    assert min(seen) < 0.4 < 0.6 < max(seen)


def test_without_scale_and_crop_nothing_changes():
    sample = discs(np.random.default_rng(0), (64, 64), 8)
    same = ScaleCrop((64, 64))(sample, np.random.default_rng(1))
    np.testing.assert_array_equal(same.image, sample.image)
    assert same.instances == sample.instances
    assert same.dropped == 0


def test_columns_scores_and_tracks_go_with_their_objects():
    sample = discs(np.random.default_rng(1), (90, 90), 20)
    masks = sample.instances.masks
    marked = Instances(
        masks.size,
        masks,
        np.zeros(20, int),
        np.arange(20) / 20,
        classes=sample.instances.classes,
        track_ids=np.arange(20) + 100,
        columns={"area": masks.areas, "iscrowd": np.arange(20) % 2 == 0},
    )
    change = Compose((ScaleCrop((90, 90), (1.5, 1.5)), Flip(), Rotate90()))
    out = change(Sample(sample.image, marked), np.random.default_rng(3)).instances
    order = out.track_ids - 100
    assert 0 < len(out) < 20
    np.testing.assert_allclose(out.scores, order / 20, rtol=1e-6)
    assert out.columns["iscrowd"].tolist() == (order % 2 == 0).tolist()
    assert (out.masks.areas <= 2.25 * out.columns["area"] * 1.15 + 8).all()


@pytest.mark.parametrize("change", [ColorJitter, Invert, Grey, Blur, Noise])
def test_colours_change_and_objects_stay(change):
    sample = discs(np.random.default_rng(1), (64, 64), 8)
    before = sample.image.copy()
    changed = change(1.0)(sample, np.random.default_rng(2))
    assert changed.image.dtype == np.uint8
    assert changed.image.shape == sample.image.shape
    assert (changed.image != sample.image).any()
    assert changed.instances is sample.instances
    assert change(0.0)(sample, np.random.default_rng(2)) is sample
    np.testing.assert_array_equal(sample.image, before)


def test_grey_pictures_stay_grey_under_saturation_and_hue():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    sample = Sample(
        ramp, Instances.empty((16, 16), discs(np.random.default_rng(0), (9, 9), 0).instances.classes)
    )
    for seed in range(30):
        image = ColorJitter(1.0)(sample, np.random.default_rng(seed)).image.astype(int)
        assert np.ptp(image, axis=2).max() <= 1
        assert (np.diff(image[..., 0].reshape(-1)) >= 0).all(), "a brighter pixel must stay the brighter one"


def test_colour_jitter_at_rest_changes_nothing_but_the_order_of_channels():
    sample = discs(np.random.default_rng(1), (32, 32), 4)
    still = ColorJitter(1.0, (1, 1), (1, 1), 0, (1, 1), (1, 1), 0, 0)
    for seed in range(5):
        np.testing.assert_array_equal(still(sample, np.random.default_rng(seed)).image, sample.image)
    shuffled = ColorJitter(1.0, (1, 1), (1, 1), 0, (1, 1), (1, 1), 0, 1.0)
    image = shuffled(sample, np.random.default_rng(0)).image
    np.testing.assert_array_equal(np.sort(image, axis=2), np.sort(sample.image, axis=2))


def test_hue_turns_colours_and_keeps_their_mean():
    image = np.full((8, 8, 3), (150, 100, 80), np.uint8)
    sample = Sample(
        image, Instances.empty((8, 8), discs(np.random.default_rng(0), (9, 9), 0).instances.classes)
    )
    turn = ColorJitter(1.0, (1, 1), (1, 1), 0, (1, 1), (1, 1), 120, 0)
    means = [turn(sample, np.random.default_rng(s)).image[0, 0].astype(float) for s in range(20)]
    assert len({tuple(m) for m in means}) > 5
    np.testing.assert_allclose([m.mean() for m in means], 110, atol=1)


def test_noise_has_the_deviation_that_was_asked_for():
    image = np.full((200, 201, 3), 128, np.uint8)
    sample = Sample(
        image, Instances.empty((200, 201), discs(np.random.default_rng(0), (9, 9), 0).instances.classes)
    )
    noisy = Noise(1.0, (8, 8))(sample, np.random.default_rng(0)).image.astype(float) - 128
    assert abs(noisy.mean()) < 0.1
    assert noisy.std() == pytest.approx(8, rel=0.03)
    rows, channels = noisy[:-1] * noisy[1:], noisy[..., 0] * noisy[..., 1]
    assert abs(rows.mean()) < 0.5  # of a variance of 64: neighbours and channels are independent
    assert abs(channels.mean()) < 0.7


@given(seed=SEEDS, size=st.tuples(st.integers(1, 90), st.integers(1, 90)))
@settings(max_examples=60, deadline=None)
def test_the_same_generator_gives_the_same_sample_at_any_size(seed, size):
    assume(min(size) > 0)
    sample = discs(np.random.default_rng(seed), size, 3, overlap=True) if min(size) > 8 else None
    if sample is None:
        classes = discs(np.random.default_rng(0), (9, 9), 0).instances.classes
        sample = Sample(np.zeros((*size, 3), np.uint8), Instances.empty(size, classes))
    change = Compose(
        (ScaleCrop((32, 48), (0.3, 3)), Flip(), Rotate90(), ColorJitter(1), Invert(0.5), Blur(1), Noise(1))
    )
    a, b = (change(sample, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    assert a.instances == b.instances
    assert a.size == (32, 48)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 5)},
        {"size": (5, 1_000_000)},
        {"scale": (2, 1)},
        {"scale": (0, 1)},
        {"scale": (1, 100_000)},
        {"scale": (1e-300, 1)},
        {"scale": (float("nan"), 1)},
        {"min_visible": 1.5},
        {"min_visible": -1},
    ],
)
def test_values_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError, match="ScaleCrop"):
        ScaleCrop(**({"size": (32, 32)} | wrong))


def test_all_changes_of_a_full_picture_take_milliseconds():
    """100 objects on 512 × 512: below 8 ms of processor time on the machine that this was written on."""
    sample = discs(np.random.default_rng(0), (512, 512), 100)
    change = Compose(
        (ScaleCrop((512, 512), (0.8, 2.2)), Flip(), Rotate90(), ColorJitter(1), Blur(1), Noise(1))
    )
    rng = np.random.default_rng(0)
    spent = []
    for _ in range(15):
        begin = time.thread_time()
        change(sample, rng)
        spent.append(time.thread_time() - begin)
    assert np.median(spent) < 0.03  # four times the aim, so that a slower machine doesn't fail
