"""Calibration: hand-computed cases, hotcoco, and repairs that are judged on images that did not teach them."""

from __future__ import annotations

import json

import numpy as np
import pycocotools_oracle as oracle
import pytest
from hotcoco import metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.errors import UsageError
from apiece.evaluate.bootstrap import resamples
from apiece.evaluate.calibration import DEFINITIONS, calibration, d_ece, fit_isotonic
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.overlaps import Overlaps, overlaps_of
from apiece.evaluate.replay import NEITHER, TRUE, verdicts

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")

scored = st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=60)

# Image, class, score, box width: true boxes are 10 × 10 at 20 · (k - 1), so that a width of 8 has IoU 0.8.
Prediction = tuple[int, int, float, float, float]


def boxes(true: list[tuple[int, int, float]], found: list[Prediction], images: int) -> Overlaps:
    """Scenes of boxes 10 high: truth (image, class, left), predictions (image, class, score, left, width)."""
    truth = {
        "images": [{"id": i, "height": 200, "width": 200} for i in range(1, images + 1)],
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0}
            for k, (i, c, x) in enumerate(true, start=1)
        ],
    }
    results = [
        {"image_id": i, "category_id": c, "score": score, "bbox": [x, 0, width, 10]}
        for i, c, score, x, width in found
    ]
    return overlaps_of(scenes_of_coco(truth, results), "bbox")


def simulated(images: int, seed: int, power: float, each: int = 12) -> Overlaps:
    """Predictions of one class that are right with probability score ** power; each on a place of its own."""
    r = np.random.default_rng(seed)
    true, found = [], []
    for image in range(1, images + 1):
        for k, score in enumerate(np.round(r.uniform(0.05, 1, each), 3).tolist()):
            if r.random() < score**power:
                true.append((image, 1, 15.0 * k))
            found.append((image, 1, score, 15.0 * k, 10.0))
    return boxes(true, found, images)


def test_d_ece_by_hand() -> None:
    # Bin 0.9 to 1: mean score 0.95, precision 1/2, two of five. Bin 0.2 to 0.3: 0.25 and 1/3, three of five.
    scores, true = [0.92, 0.98, 0.2, 0.25, 0.30 - 1e-9], [True, False, True, False, False]
    expected = 2 / 5 * (0.95 - 1 / 2) + 3 / 5 * abs((0.2 + 0.25 + 0.3) / 3 - 1 / 3)
    assert d_ece(scores, true) == pytest.approx(expected, abs=1e-8)
    assert d_ece([0.9] * 100, [True] * 50 + [False] * 50) == pytest.approx(0.4)
    assert np.isnan(d_ece([], []))


@given(scored, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_d_ece_equals_hotcocos(rows: list[tuple[int, bool]], bins: int) -> None:
    scores, true = [thousandths / 1000 for thousandths, _ in rows], [right for _, right in rows]
    assert d_ece(scores, true, bins) == pytest.approx(
        metrics.calibration_error(scores, true, bins)[0], abs=1e-12
    )


@pytest.mark.parametrize("seed", [0, 1, *range(4, 14)])
def test_d_ece_and_curve_equal_hotcocos_on_coco_scenes(seed: int) -> None:
    overlaps = overlaps_of(scenes_of_coco(*oracle.scene(seed)))
    scores = overlaps.scenes.predicted.scores
    assert len(np.unique(scores)) > 1
    verdict = verdicts(overlaps, ious=np.array([0.5])).verdict[0]
    used = verdict != NEITHER
    expected = metrics.calibration_error(scores[used], verdict[used] == TRUE, 10)[0]
    draws = resamples(len(overlaps.scenes.image_ids), draws=20)
    found = calibration(overlaps, draws, matching="coco", floor=0)
    assert found.total.predictions == used.sum()
    assert found.total.d_ece.value == pytest.approx(expected, abs=1e-12)
    rows = {
        round(row["bin_lower"], 6): row
        for row in metrics.calibration_curve(scores[used], verdict[used] == TRUE)
    }
    for one in found.total.curve:
        row = rows[round(one.low, 6)]
        assert one.n == row["count"]
        if one.n:
            assert one.precision.value == pytest.approx(row["avg_accuracy"])
            assert one.score == pytest.approx(row["avg_confidence"])
    assert sum(f.predictions for _, _, f in found.by_class) == found.total.predictions
    assert sum(f.predictions for _, f in found.by_size) == found.total.predictions
    json.dumps(found.to_json(), allow_nan=False)


def hand_made() -> Overlaps:
    """Class one: 0.9 with IoU 0.8, and its duplicate at 0.7. Class two: 0.6 with IoU 1, 0.65 wrong."""
    return boxes(
        [(1, 1, 0), (1, 2, 40), (2, 2, 40)],
        [
            (1, 1, 0.9, 0, 8),
            (1, 1, 0.7, 0, 9),
            (1, 2, 0.6, 40, 10),
            (2, 2, 0.65, 100, 10),
            (2, 2, 0.01, 40, 10),
        ],
        2,
    )


def test_la_ece_by_hand() -> None:
    found = calibration(hand_made(), resamples(2, draws=20), matching="coco")
    # Class one: bins of one: |0.9 - 0.8| and |0.7 - 0|. Class two: one bin: |(0.6 + 0.65) / 2 - 1 / 2 * 1|.
    assert found.total.la_ece.value == pytest.approx((0.4 + 0.125) / 2)
    assert [f.la_ece.value for _, _, f in found.by_class] == pytest.approx([0.4, 0.125])
    assert [f.d_ece.value for _, _, f in found.by_class] == pytest.approx([(0.1 + 0.7) / 2, 0.125])
    assert found.total.d_ece.value == pytest.approx((0.1 + 0.7 + 0.25) / 4)
    assert found.total.overconfidence.value == pytest.approx((0.9 + 0.7 + 0.6 + 0.65) / 4 - 2 / 4)
    assert (found.left_out, found.total.predictions) == (1, 4)
    assert [size for size, f in found.by_size if f.predictions] == ["small"]
    assert [(one.n, one.iou) for one in found.total.curve if one.n] == [
        (2, 1.0),
        (1, pytest.approx(np.nan, nan_ok=True)),
        (1, 0.8),
    ]


def test_matching_must_be_said_and_changes_what_is_right() -> None:
    overlaps, draws = hand_made(), resamples(2, draws=20)
    with pytest.raises(TypeError, match="matching"):
        calibration(overlaps, draws)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="matching is 'voc'"):
        calibration(overlaps, draws, matching="voc")  # type: ignore[arg-type]
    # Of any object, the duplicate is right too, with IoU 0.9.
    found = calibration(overlaps, draws, matching="any")
    assert [f.la_ece.value for _, _, f in found.by_class] == pytest.approx([(0.1 + 0.2) / 2, 0.125])
    assert found.total.overconfidence.value == pytest.approx((0.9 + 0.7 + 0.6 + 0.65) / 4 - 3 / 4)


def test_predictions_in_crowd_regions_are_left_out_and_counted() -> None:
    truth, results = oracle.scene(0)
    for one in truth["annotations"]:
        one["iscrowd"] = 1
    overlaps = overlaps_of(scenes_of_coco(truth, results))
    draws = resamples(len(overlaps.scenes.image_ids), draws=20)
    for matching in ("coco", "any"):
        found = calibration(overlaps, draws, matching=matching, floor=0)  # type: ignore[arg-type]
        assert found.crowd > 0
        assert found.crowd + found.total.predictions == len(overlaps.scenes.predicted)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.9, 3.5], "scores range from 0.9 to 3.5"),
        ([1.0, 1.0], "all 2 predictions have the score 1; .* Label images"),
        ([], "no predictions"),
        ([0.01, 0.02], "no prediction has a score of 0.05"),
    ],
)
def test_scores_that_cannot_be_calibrated_are_refused(scores: list[float], message: str) -> None:
    overlaps = boxes([(1, 1, 0)], [(1, 1, score, 0, 10) for score in scores], 1)
    with pytest.raises(UsageError, match=message):
        calibration(overlaps, resamples(1, draws=20), matching="coco")


def test_calibrated_scores_are_found_calibrated_and_others_are_repaired() -> None:
    good, poor = simulated(150, 1, 1.0), simulated(150, 2, 3.0)
    draws = resamples(150, draws=200)
    found = calibration(good, draws, matching="coco")
    assert found.total.overconfidence.low < 0 < found.total.overconfidence.high
    assert found.total.d_ece.value < 0.05
    found = calibration(poor, draws, matching="coco")
    assert found.total.overconfidence.low > 0.2
    assert found.repair is not None
    assert found.repair.before.low > 0.2
    assert found.repair.after.value < 0.06
    assert found.repair.change.high < -0.15
    assert [(a, b) for a, b, _, _ in found.repair.ways] == [(75, 75), (75, 75)]
    assert all(after < before for _, _, before, after in found.repair.ways)
    # The map is near the truth, score ** 3.
    np.testing.assert_allclose(found.repair.map.apply([0.3, 0.6, 0.9]), [0.027, 0.216, 0.729], atol=0.15)


def test_a_repair_is_judged_on_images_that_did_not_teach_it() -> None:
    # Scores of an image are all alike and right or wrong together: what one half teaches says nothing on the other.
    r = np.random.default_rng(4)
    true, found = [], []
    for image, score in enumerate(r.permutation(np.linspace(0.06, 0.99, 40)).round(4).tolist(), start=1):
        for k in range(10):
            found.append((image, 1, score, 15.0 * k, 10.0))
            if image % 2:
                true.append((image, 1, 15.0 * k))
    overlaps = boxes(true, found, 40)
    made = calibration(overlaps, resamples(40, draws=100), matching="coco")
    scores = overlaps.scenes.predicted.scores
    right = verdicts(overlaps, ious=np.array([0.5])).verdict[0] == TRUE
    assert d_ece(fit_isotonic(scores, right).apply(scores), right) < 0.02
    assert made.repair is not None
    assert made.repair.after.value > 0.1


def test_groups_are_kept_whole_and_one_group_has_no_repair() -> None:
    overlaps, groups = simulated(30, 3, 2.0), ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    found = calibration(overlaps, resamples(30, groups, draws=50), matching="coco", groups=groups)
    assert found.repair is not None
    assert sorted(found.repair.ways[0][:2]) == [10, 20]
    assert np.isnan(found.total.d_ece.low)  # three groups are too few
    alone = calibration(overlaps, resamples(30, draws=50), matching="coco", groups=["a"] * 30)
    assert alone.repair is None
    assert "both halves" in alone.reasons[0]


def test_document_is_plain_and_defined() -> None:
    found = calibration(simulated(8, 5, 1.0), resamples(8, draws=50), matching="coco")
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (document["matching"], document["iou"], document["floor"]) == ("coco", 0.5, 0.05)
    assert len(document["total"]["curve"]) == 10
    assert document["by_class"][1]["d_ece"] == {"value": None, "low": None, "high": None}
    assert {"d_ece", "la_ece", "overconfidence"} < {key.split(".")[-1] for key in DEFINITIONS}


@given(scored)
@settings(max_examples=60, deadline=None)
def test_isotonic_rises_keeps_the_mean_and_is_least_in_error(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([thousandths / 1000 for thousandths, _ in rows])
    true = np.array([right for _, right in rows])
    found = fit_isotonic(scores, true)
    fitted = found.apply(scores)
    assert (np.diff(fitted[np.argsort(scores)]) >= -1e-12).all()
    assert fitted.mean() == pytest.approx(true.mean())
    assert (np.diff(found.scores) > 0).all()
    # Every level is the share of right ones among the predictions that have it.
    for level in np.unique(fitted.round(12)):
        some = np.abs(fitted - level) < 1e-9
        assert true[some].mean() == pytest.approx(level, abs=1e-9)


def test_isotonic_by_hand() -> None:
    found = fit_isotonic([0.1, 0.2, 0.3, 0.4], [True, False, False, True])
    np.testing.assert_allclose(found.apply([0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 1.0]), [1 / 3] * 4 + [2 / 3, 1, 1])
    assert fit_isotonic([0.5], [True]).apply([[0.1], [0.9]]).tolist() == [[1.0], [1.0]]
    with pytest.raises(UsageError, match="at least one"):
        fit_isotonic([], [])
    with pytest.raises(UsageError, match="finite"):
        fit_isotonic([np.nan], [True])
