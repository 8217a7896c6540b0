"""All promises together: what they say, when they abstain, and that they are withdrawn."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import risk_population as population

from apiece.errors import UsageError
from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.risk import DEFINITIONS, Risk, losses_of, risk
from apiece.evaluate.risk.losses import GRID

POINT = population.POINT


@pytest.fixture(scope="module")
def labelled() -> Overlaps:
    return population.pictures(150, 11)


@pytest.fixture(scope="module")
def shifted() -> Overlaps:
    return population.pictures(100, 13, "shifted")


def scored(overlaps: Overlaps, scores: np.ndarray) -> Overlaps:
    predicted = replace(overlaps.scenes.predicted, scores=scores)
    return replace(overlaps, scenes=replace(overlaps.scenes, predicted=predicted))


def by_name(risks: list[Risk]) -> dict[tuple[str, str], Risk]:
    return {(one.name, one.method): one for one in risks}


def check(risks: list[Risk]) -> None:
    """What holds for every list: valid JSON, a definition, and a sentence that isn't a promise where there is none."""
    for one in risks:
        document = json.loads(json.dumps(one.to_json(), allow_nan=False))
        assert one.name in DEFINITIONS
        assert document["sentence"]
        assert (one.abstains is None) == (one.kept is not None)
        if one.abstains is not None:
            assert one.threshold is None or one.interval is None
            assert document["promise"] is None
            assert document["sentence"].startswith("Nothing is promised")
        elif one.withdrawn:
            assert document["promise"] is None
            assert document["sentence"].startswith("The promises are withdrawn")
        else:
            assert document["promise"] == document["sentence"]
            assert str(one.n) in document["promise"]


def test_promises_say_threshold_level_number_and_assumption(labelled: Overlaps) -> None:
    risks = risk(labelled, POINT)
    check(risks)
    assert not any(one.abstains for one in risks)
    found = by_name(risks)
    miss = found["missed objects", "Learn-then-Test"]
    assert miss.promise is not None
    assert miss.promise.startswith(
        f"At threshold {miss.threshold:g} at most 10 % of objects are missed in an average picture, with 90 % "
        "confidence: 150 pictures, if new pictures are drawn as these were."
    )
    losses = losses_of(labelled, POINT)
    place = int(np.searchsorted(GRID, miss.threshold))
    assert miss.detail["mean_loss"] == pytest.approx(losses.miss[:, place].mean())
    assert miss.detail["missed"] == losses.true.sum() - losses.found[:, place].sum()
    # An expectation is promised with less care than a confidence, false predictions with a high threshold.
    assert found["missed objects", "conformal risk control"].threshold >= miss.threshold
    assert found["false predictions", "Learn-then-Test"].threshold < miss.threshold
    assert found["missed objects", "conformal risk control"].level is None
    assert "nor the operating point chosen on them" in risks[-1].assumption
    assert "nor the operating point" not in miss.assumption


def test_count_intervals_are_around_the_counts_at_the_point(labelled: Overlaps) -> None:
    found = by_name(risk(labelled, POINT))
    absolute = found["count of a picture", "split conformal, absolute residuals"]
    width = absolute.detail["width"]
    for row in absolute.detail["examples"]:
        assert row["low"] == max(row["predicted"] - width, 0)
        assert row["high"] == row["predicted"] + width
    total = found["total of new pictures", "prediction of a sum, normal"]
    assert total.detail["pictures"] == 150
    assert total.interval is not None
    value, low, high = total.interval
    assert low < value < high
    assert total.threshold == POINT.threshold


def test_pictures_that_are_drawn_alike_keep_the_promises(labelled: Overlaps) -> None:
    risks = risk(labelled, POINT, live=population.pictures(200, 12))
    check(risks)
    assert not any(one.withdrawn for one in risks)
    found = by_name(risks)
    mean = found["mean count", "PPI++"]
    assert mean.interval is not None
    assert mean.interval[1] <= 8 <= mean.interval[2]
    assert (
        mean.detail["audit_alone"]["high"] - mean.detail["audit_alone"]["low"]
        > mean.interval[2] - mean.interval[1]
    )
    assert mean.shift is not None
    assert mean.shift.kind == "live"


def test_a_planted_shift_withdraws_every_promise(labelled: Overlaps, shifted: Overlaps) -> None:
    risks = risk(labelled, POINT, live=shifted)
    check(risks)
    assert all(one.withdrawn for one in risks)
    assert all(one.to_json()["withdrawn"] is True for one in risks)
    # And rightly so: at the threshold that was promised, more is missed.
    miss = by_name(risks)["missed objects", "Learn-then-Test"]
    place = int(np.searchsorted(GRID, miss.threshold))
    assert losses_of(shifted, POINT).miss[:, place].mean() > 0.15


def test_live_pictures_may_be_summaries(labelled: Overlaps, shifted: Overlaps) -> None:
    from apiece.evaluate.risk import summaries

    one, other = (risk(labelled, POINT, live=live) for live in (shifted, summaries(shifted, POINT)))
    assert [a.to_json() for a in one] == [b.to_json() for b in other]


def test_few_pictures_promise_nothing(labelled: Overlaps) -> None:
    risks = risk(labelled.only(np.arange(8)), POINT, live=labelled.only(np.arange(20, 60)))
    check(risks)
    assert all(one.abstains for one in risks)
    assert all("too few" in str(one.abstains) for one in risks)


def test_a_risk_that_cannot_be_kept_is_not_promised(shifted: Overlaps) -> None:
    found = by_name(risk(shifted, POINT, alpha_miss=0.005))
    miss = found["missed objects", "Learn-then-Test"]
    assert miss.abstains is not None
    poor = by_name(risk(shifted, POINT, alpha_miss=0.03))["missed objects", "Learn-then-Test"]
    assert poor.threshold is None or poor.threshold < 0.3


def test_scores_that_say_nothing_give_no_threshold_but_counts(labelled: Overlaps) -> None:
    found = labelled.scenes.predicted.scores
    for scores, reason in ((np.ones(len(found)), "all scores are 1"), (found * 10, "scores go from")):
        risks = risk(scored(labelled, scores), POINT)
        check(risks)
        thresholds = [one for one in risks if one.target is not None]
        assert len(thresholds) == 5
        assert all(reason in str(one.abstains) for one in thresholds)
        assert not any(one.abstains for one in risks if one.target is None)


def test_empty_predictions_and_empty_truth(labelled: Overlaps) -> None:
    nothing = scored(labelled, labelled.scenes.predicted.scores * 0 + 0.5)
    none = replace(nothing.scenes.predicted.where(np.zeros(len(nothing.scenes.predicted), np.bool_)))
    pairs = labelled.across.where(np.zeros(len(labelled.across), np.bool_))
    empty = replace(
        labelled,
        scenes=replace(labelled.scenes, predicted=none),
        predicted_areas=np.zeros(0),
        across=pairs,
        among_predicted=pairs,
    )
    risks = risk(empty, POINT, live=empty)
    check(risks)
    assert all("there are no predictions" in str(one.abstains) for one in risks if one.target is not None)
    true = labelled.scenes.truth.where(np.zeros(len(labelled.scenes.truth), np.bool_))
    untrue = replace(
        labelled,
        scenes=replace(labelled.scenes, truth=true),
        truth_areas=np.zeros(0),
        across=pairs,
        among_truth=pairs,
    )
    check(risk(untrue, POINT))


def test_a_promise_that_only_silence_keeps_is_none(labelled: Overlaps) -> None:
    """All predictions are false: thresholds above all scores pass, as nothing is predicted there."""
    pairs = labelled.across.where(np.zeros(len(labelled.across), np.bool_))
    wrong = replace(scored(labelled, labelled.scenes.predicted.scores * 0.5), across=pairs)
    found = by_name(risk(wrong, POINT))["false predictions", "Learn-then-Test"]
    if found.abstains is None:  # few predictions on many pictures: the doubt says what the average hides
        assert any("without predictions count 0" in doubt for doubt in found.doubts)
        assert "100 % of all predictions are false there" in str(found.promise)
    else:
        assert "leave no prediction" in found.abstains


def test_groups_are_the_units(labelled: Overlaps) -> None:
    groups = [f"plate {i // 3}" for i in range(150)]
    risks = risk(
        labelled,
        POINT,
        groups=groups,
        live=population.pictures(60, 12),
        live_groups=[f"new {i // 3}" for i in range(60)],
    )
    check(risks)
    assert {(one.n, one.unit) for one in risks} == {(50, "group")}
    assert "50 groups, if new groups are drawn as these were" in str(
        by_name(risks)["missed objects", "Learn-then-Test"].promise
    )
    assert risks[0].shift is not None
    assert risks[0].shift.units == {"audited": 50, "live": 20}
    unknown = risk(labelled, POINT, groups=groups, live=population.pictures(60, 12))
    assert all(any("is not known" in doubt for doubt in one.doubts) for one in unknown)


def test_doubts_are_told_without_live_pictures(labelled: Overlaps, shifted: Overlaps) -> None:
    risks = risk(labelled, POINT, tuned_here=True, metadata={"camera": ["a", "b"] * 75})
    assert risks[0].shift is not None
    assert risks[0].shift.kind == "within"
    assert [test.what for test in risks[0].shift.tests] == ["file order", "camera"]
    assert not risks[0].doubts
    assert risks[-1].doubts == ("The operating point was chosen on these very pictures.",)
    # A detector that goes blind in the second half of the file.
    late = labelled.scenes.predicted.images >= 75
    faded = scored(
        labelled, np.where(late, labelled.scenes.predicted.scores * 0.5, labelled.scenes.predicted.scores)
    )
    risks = risk(faded, POINT)
    assert all(any("by file order" in doubt for doubt in one.doubts) for one in risks)
    assert not any(one.withdrawn for one in risks)


def test_a_declared_bound_adds_the_pooled_rate(labelled: Overlaps) -> None:
    few = by_name(risk(labelled, POINT, most=60))["missed objects, pooled", "Learn-then-Test"]
    assert few.abstains is not None
    assert few.abstains.endswith("objects on average are too few where there may be 60.")
    found = by_name(risk(population.pictures(1000, 14), POINT, most=60))
    pool = found["missed objects, pooled", "Learn-then-Test"]
    assert pool.promise is not None
    assert "at most 10 % of all objects are missed" in pool.promise
    assert pool.detail["missed"] <= 0.1 * pool.detail["true"]
    with pytest.raises(UsageError, match="at most 5 were declared"):
        risk(labelled, POINT, most=5)


def test_refuses_what_cannot_be_meant(labelled: Overlaps) -> None:
    with pytest.raises(UsageError, match="level"):
        risk(labelled, POINT, level=90)
    with pytest.raises(UsageError, match="groups"):
        risk(labelled, POINT, groups=["a"])
    other = replace(labelled, scenes=replace(labelled.scenes, classes=((2, "tree"),)))
    with pytest.raises(UsageError, match="other classes"):
        risk(labelled, POINT, live=other)


def test_class_thresholds_count_but_one_threshold_is_promised(labelled: Overlaps) -> None:
    point = OperatingPoint(0.9, {0: 0.4})
    one, other = by_name(risk(labelled, point)), by_name(risk(labelled, POINT))
    key = "count of a picture", "split conformal, absolute residuals"
    assert one[key].detail == other[key].detail
    assert one[key].threshold is None
    assert (
        one["missed objects", "Learn-then-Test"].threshold
        == other["missed objects", "Learn-then-Test"].threshold
    )
