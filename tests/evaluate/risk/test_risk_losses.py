"""Losses at all thresholds from one matching: as matching anew at each threshold gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from apiece.evaluate.operating import OperatingPoint, Suppression, select
from apiece.evaluate.overlaps import Overlaps, overlaps_of
from apiece.evaluate.replay import FALSE, TRUE, verdicts
from apiece.evaluate.risk import losses_of
from apiece.evaluate.scenes import Objects, Scenes


def crowded(seed: int, images: int = 12) -> Overlaps:
    """Few cells and many boxes, so that nearly all overlap; two classes, crowd regions, tied scores."""
    r = np.random.default_rng(seed)

    def columns(n: int, scored: bool) -> Objects:
        boxes = np.hstack(
            [r.integers(0, 4, (n, 2)) * 4.0 + r.uniform(0, 2, (n, 2)), r.uniform(8, 12, (n, 2))]
        )
        areas = boxes[:, 2] * boxes[:, 3]
        scores = np.round(r.random(n), 1) if scored else np.ones(n)
        crowd = np.zeros(n, np.bool_) if scored else r.random(n) < 0.15
        image, label = np.sort(r.integers(0, images, n)), r.integers(0, 2, n)
        return Objects(image, label, scores, crowd, boxes, (None,) * n, areas, areas)

    scenes = Scenes(
        tuple(range(images)),
        ((40, 40),) * images,
        ((1, "a"), (2, "b")),
        columns(50, False),
        columns(90, True),
    )
    return overlaps_of(scenes, "bbox")


POINTS = (
    OperatingPoint(),
    OperatingPoint(nms=Suppression(0.4)),
    OperatingPoint(nms=Suppression(0.3, "smaller", per_class=False), cap=3, min_area=90),
    OperatingPoint(border="drop", cap=2),
)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("seed", range(5))
def test_equal_matching_anew_at_every_threshold(seed: int, point: OperatingPoint) -> None:
    overlaps, grid = crowded(seed), np.array([0.0, 0.15, 0.3, 0.5, 0.85, 1.0])
    losses = losses_of(overlaps, point, grid)
    scenes = overlaps.scenes
    for g, threshold in enumerate(grid.tolist()):
        kept = select(overlaps, replace(point, threshold=threshold)).kept
        found = verdicts(overlaps, kept, ious=np.array([0.5]))
        for i in range(len(scenes.image_ids)):
            here = scenes.predicted.images == i
            true = int(np.sum((scenes.truth.images == i) & ~scenes.truth.crowd))
            hits = int(np.sum(here & (found.verdict[0] == TRUE)))
            wrong = int(np.sum(here & kept & (found.verdict[0] == FALSE)))
            count = int(np.sum(here & kept))
            assert losses.miss[i, g] == ((true - hits) / true if true else 0)
            assert losses.false_share[i, g] == (wrong / (wrong + hits) if wrong + hits else 0)
            assert losses.count_error[i, g] == min(abs(count - true) / max(true, 1), 1)
            assert losses.predicted[i, g] == count


def test_scores_are_compared_as_float32() -> None:
    overlaps = crowded(0)
    predicted = replace(overlaps.scenes.predicted, scores=np.full(90, float(np.float32(0.3))))
    overlaps = replace(overlaps, scenes=replace(overlaps.scenes, predicted=predicted))
    assert losses_of(overlaps, OperatingPoint(), np.array([0.3])).predicted.sum() == 90


def test_pictures_may_be_drawn_again() -> None:
    losses = losses_of(crowded(1), OperatingPoint(), np.array([0.2, 0.6]))
    drawn = losses.at(np.array([3, 3, 0]))
    assert len(drawn) == 3
    np.testing.assert_array_equal(drawn.miss, losses.miss[[3, 3, 0]])
