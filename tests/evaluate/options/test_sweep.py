"""Sweeps equal brute force: every threshold replayed on its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_scenes import noise

from apiece.evaluate.operating import OperatingPoint, Suppression, select
from apiece.evaluate.options.replayed import unlimited
from apiece.evaluate.options.sweep import sweep_of
from apiece.evaluate.options.tally import Tally
from apiece.evaluate.replay import NEITHER, TRUE, verdicts


def brute(overlaps, point, part, threshold):
    """(F1 loss, LRP, bias, MAE sum, cost 2:1) at one threshold, from selecting and matching anew."""
    kept = select(overlaps, replace(point, threshold=threshold)).kept
    found = verdicts(overlaps, kept, ious=np.array([0.5]))
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    here, there = part[predicted.images], part[truth.images] & ~truth.crowd
    right = np.flatnonzero((found.verdict[0] == TRUE) & here & kept)
    wrong = int(((found.verdict[0] != TRUE) & (found.verdict[0] != NEITHER) & here & kept).sum())
    missed = int(there.sum()) - len(right)
    iou = {
        (int(t), int(p)): float(v)
        for t, p, v in zip(overlaps.across.first, overlaps.across.second, overlaps.iou, strict=True)
    }
    loose = sum((1 - iou[int(found.truth[0, p]), int(p)]) / 0.5 for p in right)
    images = len(part)
    error = np.bincount(predicted.images[here & kept], minlength=images) - np.bincount(
        truth.images[there], minlength=images
    )
    total = len(right) + wrong + missed
    return (
        1 - 2 * len(right) / max(2 * len(right) + wrong + missed, 1),
        (loose + wrong + missed) / max(total, 1),
        abs(int(error.sum())),
        int(abs(error).sum()),
        2 * missed + wrong,
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_a_sweep_equals_brute_force_at_every_threshold(seed, suppressed):
    overlaps = noise(seed, images=8, classes=2)
    point = OperatingPoint(0.5, nms=Suppression(0.4), min_area=120) if suppressed else OperatingPoint(0.5)
    part = np.random.default_rng(seed).random(8) < 0.6
    sweep = sweep_of(overlaps, select(overlaps, unlimited(point)).kept).of(part)
    if not len(sweep.scores):
        assert sweep.threshold("f1") is None
        return
    limits = [*np.unique(sweep.scores).tolist(), 1.5]
    for i, criterion in enumerate(("f1", "lrp", "bias", "mae", "cost")):
        loss, _ = sweep.losses(criterion, 2.0, 1.0)
        expected = []
        for limit in limits:
            value = brute(overlaps, point, part, limit)[i]
            count = int((sweep.scores >= np.float32(limit)).sum())
            assert loss[count] == pytest.approx(value, abs=1e-9)
            expected.append(value)
        chosen = sweep.threshold(criterion, 2.0, 1.0)
        assert brute(overlaps, point, part, chosen)[i] == pytest.approx(min(expected), abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_tallies_equal_matching_anew(seed):
    overlaps = noise(seed, images=6, classes=2)
    tally = Tally(overlaps)
    predicted = overlaps.scenes.predicted
    kept = np.random.default_rng(seed).random(len(predicted)) < 0.6
    found = verdicts(overlaps, kept, ious=np.array([0.5])).verdict[0]
    missed, wrong = tally.verdicts(kept)
    right = np.bincount(predicted.images[(found == TRUE) & kept], minlength=6)
    np.testing.assert_array_equal(missed, tally.true - right)
    np.testing.assert_array_equal(wrong, tally.counted(kept) - right)


def test_classes_with_few_objects_take_the_threshold_of_all():
    overlaps = noise(1, images=60, classes=2)
    rare = overlaps.scenes.truth.labels.copy()
    rare[np.flatnonzero(rare == 1)[19:]] = 0
    scenes = replace(overlaps.scenes, truth=replace(overlaps.scenes.truth, labels=rare))
    sweep = sweep_of(replace(overlaps, scenes=scenes), np.ones(len(scenes.predicted), np.bool_))
    limit, own = sweep.thresholds("f1")
    assert set(own) == {0}
    assert own[0] == sweep.of_class(0).threshold("f1")
    assert limit == sweep.threshold("f1")
