"""Operating points: each rule against a plain one, and the order in which they act."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_failures import columns, messy

from apiece.evaluate.operating import OperatingPoint, Reason, Suppression, at_border, select
from apiece.evaluate.overlaps import Overlaps, masks_of, overlaps_of
from apiece.evaluate.scenes import Scenes


def messy_overlaps(seed: int, images: int = 25) -> Overlaps:
    return overlaps_of(messy(np.random.default_rng(seed), images))


def plain(overlaps: Overlaps, point: OperatingPoint) -> list[Reason]:
    """The rules one after the other, picture by picture, on dense masks; the box of an empty one lies at the corner."""
    scenes = overlaps.scenes
    reason = [Reason.KEPT] * len(scenes.predicted)
    for image, size in enumerate(scenes.sizes):
        places = np.flatnonzero(scenes.predicted.images == image)
        if not places.size or size is None:
            continue
        masks = dict(
            zip(places.tolist(), masks_of(scenes.predicted, places).to_dense().astype(bool), strict=True)
        )
        left = []
        for p in sorted(masks, key=lambda p: (-scenes.predicted.scores[p], p)):
            edge = np.zeros(size, bool)
            edge[[0, -1], :] = edge[:, [0, -1]] = True
            label = int(scenes.predicted.labels[p])
            limit = np.float32(point.thresholds.get(label, point.threshold))
            if masks[p].sum() < point.min_area:
                reason[p] = Reason.SMALL
            elif point.border == "drop" and (masks[p] & edge).any():
                reason[p] = Reason.BORDER
            elif np.float32(scenes.predicted.scores[p]) < limit:
                reason[p] = Reason.BELOW
            else:
                left.append(p)
        stays: list[int] = []
        for p in left:
            clear = True
            for q in stays:
                nms = point.nms
                if nms is None or (
                    nms.per_class and scenes.predicted.labels[p] != scenes.predicted.labels[q]
                ):
                    continue
                both, either = (masks[p] & masks[q]).sum(), (masks[p] | masks[q]).sum()
                whole = either if nms.measure == "iou" else min(masks[p].sum(), masks[q].sum())
                clear &= not (both > 0 and both / whole > nms.iou)
            if clear:
                stays.append(p)
            else:
                reason[p] = Reason.SUPPRESSED
        if point.cap is not None:
            for p in stays[point.cap :]:
                reason[p] = Reason.CUT
    return reason


POINTS = {
    "threshold": OperatingPoint(0.4),
    "by class": OperatingPoint(0.4, {1: 0.7}),
    "area": OperatingPoint(0.2, min_area=9),
    "border": OperatingPoint(0.0, border="drop"),
    "nms": OperatingPoint(0.1, nms=Suppression(0.3)),
    "nms across classes": OperatingPoint(0.1, nms=Suppression(0.3, per_class=False)),
    "nms of fragments": OperatingPoint(0.1, nms=Suppression(0.6, "smaller", per_class=False)),
    "nms that keeps touching ones only": OperatingPoint(0.0, nms=Suppression(0.0)),
    "cap": OperatingPoint(0.2, cap=3),
    "none": OperatingPoint(0.2, cap=0),
    "all": OperatingPoint(0.3, {0: 0.1}, Suppression(0.4), cap=4, min_area=4, border="drop"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", POINTS)
def test_equals_the_plain_rules(name: str, seed: int) -> None:
    overlaps = messy_overlaps(seed)
    found = select(overlaps, POINTS[name])
    assert found.reason.tolist() == plain(overlaps, POINTS[name])
    np.testing.assert_array_equal(found.kept, found.reason == Reason.KEPT)


def test_points_meet_every_reason() -> None:
    reasons = {int(r) for r in select(messy_overlaps(0), POINTS["all"]).reason}
    assert reasons == {int(r) for r in Reason}


@pytest.mark.parametrize("seed", range(3))
def test_other_scores_decide_where_given(seed: int) -> None:
    overlaps = messy_overlaps(seed)
    other = np.random.default_rng(seed).random(len(overlaps.scenes.predicted))
    scenes = replace(overlaps.scenes, predicted=replace(overlaps.scenes.predicted, scores=other))
    point = POINTS["all"]
    found = select(overlaps, point, other)
    np.testing.assert_array_equal(found.reason, select(overlaps_of(scenes), point).reason)
    np.testing.assert_array_equal(found.scores, other)


def test_scores_are_compared_as_float32() -> None:
    """0.3 of a float32 network, written as 0.30000001192, and 0.3 in full both reach a threshold of 0.3."""
    frame = np.ones((4, 4), bool)
    scores = np.array([float(np.float32(0.3)), 0.3, 0.3 - 1e-10, 0.2999999])
    empty = columns([], np.ones(0), None, (4, 4))
    scenes = Scenes(
        (1,), ((4, 4),), ((1, "cell"),), empty, columns([(0, 0, frame)] * 4, scores, None, (4, 4))
    )
    kept = select(overlaps_of(scenes), OperatingPoint(0.3)).kept
    assert kept.tolist() == [True, True, True, False]


def test_suppression_goes_on_where_a_suppressed_one_would_have_suppressed() -> None:
    """A chain: the second goes, so that the third, which only the second overlaps, stays."""

    def bar(begin: int) -> np.ndarray:
        frame = np.zeros((1, 20), bool)
        frame[0, begin : begin + 6] = True
        return frame

    rows = [(0, 0, bar(0)), (0, 0, bar(3)), (0, 0, bar(6)), (0, 0, bar(9))]
    predicted = columns(rows, np.array([0.9, 0.8, 0.7, 0.6]), None, (1, 20))
    scenes = Scenes((1,), ((1, 20),), ((1, "cell"),), columns([], np.ones(0), None, (1, 20)), predicted)
    found = select(overlaps_of(scenes), OperatingPoint(0.5, nms=Suppression(0.2)))
    assert found.kept.tolist() == [True, False, True, False]


def test_border_is_unknown_where_the_size_is() -> None:
    scenes = messy(np.random.default_rng(1), 10)
    touching = at_border(overlaps_of(scenes), "truth")
    assert touching.any()
    assert not touching.all()
    unsized = replace(scenes, sizes=(None,) * 10)
    assert not at_border(overlaps_of(unsized), "truth").any()
    assert not at_border(overlaps_of(unsized), "predicted").any()


def test_no_predictions() -> None:
    empty = columns([], np.ones(0), None, (4, 4))
    scenes = Scenes((1,), ((4, 4),), ((1, "cell"),), empty, empty)
    assert select(overlaps_of(scenes), POINTS["all"]).reason.tolist() == []
