"""Rankings: AP is pycocotools', and what each image has to do with it is what leaving weight out shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_scenes import Drawn, disc, noise

from apiece.evaluate.bootstrap import resamples
from apiece.evaluate.options.ranking import by_class, precision_on, ranking
from apiece.evaluate.replay import TRUE, average_precisions, verdicts


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_values_are_those_of_the_replay(seed):
    overlaps = noise(seed, images=8)
    rng = np.random.default_rng(seed)
    kept = rng.random(len(overlaps.scenes.predicted)) < 0.7
    scores = rng.random(len(kept))
    found, table = ranking(overlaps, kept, scores), average_precisions(overlaps, kept, scores)
    if np.isnan(table).all():
        assert np.isnan(found.AP)
        return
    assert found.AP - np.nanmean(table) == pytest.approx(0, abs=1e-12)
    assert found.AP50 - np.nanmean(table[0]) == pytest.approx(0, abs=1e-12)
    # AP does not change when every image weighs the same more.
    np.testing.assert_allclose(found.influence.sum(axis=0), 0, atol=1e-9)


def interpolated(overlaps, weights, iou):
    """AP with weighted images and precision interpolated at every recall, one class after another, written plainly."""
    scenes = overlaps.scenes
    verdict = verdicts(overlaps, ious=np.array([iou])).verdict[0]
    total = []
    for c in range(len(scenes.classes)):
        positives = weights[scenes.truth.images[scenes.truth.labels == c]].sum()
        if positives == 0:
            continue
        rows = [
            i for i in np.argsort(-scenes.predicted.scores, kind="stable") if scenes.predicted.labels[i] == c
        ]
        hits, seen, points = 0.0, 0.0, []
        for i in rows:
            weight = weights[scenes.predicted.images[i]]
            hits += weight * (verdict[i] == TRUE)
            seen += weight
            points.append((weight * (verdict[i] == TRUE), hits / max(seen, 1e-300)))
        best, area = 0.0, 0.0
        for gain, precision in reversed(points):
            best = max(best, precision)
            area += gain * best
        total.append(area / positives)
    return float(np.mean(total))


def test_influence_is_the_derivative_by_an_images_weight():
    rng, drawn = np.random.default_rng(0), Drawn(2)
    for _ in range(12):
        image = drawn.image()
        for x, y in ((24, 24), (72, 72)):
            label = int(rng.integers(2))
            drawn.true(image, disc(x, y), label)
            drawn.found(image, disc(x + rng.integers(0, 6), y), rng.random(), label)
        drawn.found(image, disc(24, 72), rng.random(), int(rng.integers(2)))
    overlaps = drawn.overlaps()
    found = ranking(overlaps)
    for image in range(12):
        up, down = np.ones(12), np.ones(12)
        up[image] += 1e-6
        down[image] -= 1e-6
        slope = (interpolated(overlaps, up, 0.5) - interpolated(overlaps, down, 0.5)) / 2e-6
        assert found.influence[image, 1] == pytest.approx(slope, abs=1e-5)


def test_draws_to_first_order_spread_like_a_bootstrap():
    overlaps = noise(4, images=60, classes=2)
    found = ranking(overlaps)
    draws = resamples(60, draws=150, seed=1)
    linear = found.AP50 + (draws.weights - 1) @ found.influence[:, 1]
    real = np.array([interpolated(overlaps, weights, 0.5) for weights in draws.weights])
    assert np.corrcoef(linear, real)[0, 1] > 0.9
    assert linear.std() == pytest.approx(real.std(), rel=0.25)


def test_precision_on_a_part_is_that_of_its_images_alone():
    overlaps = noise(6, images=16)
    ious = np.array([0.5, 0.75])
    verdict = verdicts(overlaps, ious=ious).verdict
    part = np.arange(16) % 3 == 0
    alone = average_precisions(overlaps.only(np.flatnonzero(part)), ious=ious)
    assert precision_on(overlaps, verdict, part, by_class(overlaps)) == pytest.approx(np.nanmean(alone))
