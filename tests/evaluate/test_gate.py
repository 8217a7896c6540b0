"""Conditions for CI: read, judged, and refused where they can't be judged."""

from __future__ import annotations

from typing import Any

import pytest

from apiece.errors import UsageError
from apiece.evaluate.gate import FIGURES, Condition, broken, figures_of, parse_condition
from apiece.evaluate.ledger import KINDS


def document(**changes: Any) -> dict[str, Any]:
    """40 true objects, 44 predictions: 3 missed, 5 false alarms, 2 duplicates."""
    ledger = {kind: {"truth": 0, "prediction": 0} for kind in KINDS}
    ledger["matched"] = {"truth": 37, "prediction": 37}
    ledger["missed"]["truth"] = 3
    ledger["spurious"]["prediction"] = 5
    ledger["duplicate"]["prediction"] = 2
    count = {"true": 40, "predicted": 44, "gross": 10, "MAE": 0.5, "RMSE": 0.7}
    return {
        "kind": "segm",
        "count": count,
        "ledger": ledger,
        "evaluation": {"segm": {"AP": 0.4, "AP50": 0.8, "AP_uncapped": 0.41}},
        "quality": {"total": {"iou": {"value": 0.83}, "area_bias_mean": {"value": -0.02}}},
    } | changes


def test_figures_by_hand() -> None:
    found = figures_of(document())
    assert set(found) == set(FIGURES)
    expected = {
        "count_bias": 0.1,
        "count_error": 0.1,
        "count_gross": 0.25,
        "missed_rate": 0.075,
        "spurious_rate": 5 / 44,
        "duplicate_rate": 2 / 44,
        "matched_rate": 0.925,
        "AP": 0.4,
        "mean_IoU": 0.83,
        "area_bias": -0.02,
        "D_ECE": None,
        "boundary_AP": None,
    }
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value)), name


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("count_bias>0.05", Condition("count_bias", ">", 0.05)),
        (" AP50 < .8 ", Condition("AP50", "<", 0.8)),
        ("missed_rate>=5%", Condition("missed_rate", ">=", 0.05)),
        ("count_bias<=-1e-2", Condition("count_bias", "<=", -0.01)),
    ],
)
def test_conditions_are_read(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("count_bais>0.05", "Did you mean 'count_bias'"),
        ("count_bias", "expected a figure"),
        ("count_bias=0.05", "expected a figure"),
        ("count_bias>much", "expected a figure"),
        ("count_bias>0.0.5", "expected a figure"),
        ("count_bias>.", "expected a figure"),
        ("__import__('os')>1", "expected a figure"),
    ],
)
def test_others_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        parse_condition(text)


def test_each_relation_at_its_border() -> None:
    figures = {"AP": 0.5}
    holds = {
        text: bool(broken([parse_condition(text)], figures))
        for text in ("AP>.5", "AP>=.5", "AP<.5", "AP<=.5")
    }
    assert holds == {"AP>.5": False, "AP>=.5": True, "AP<.5": False, "AP<=.5": True}


def test_a_figure_that_is_not_known_never_passes() -> None:
    with pytest.raises(UsageError, match="AP is not known"):
        broken([parse_condition("AP<0.1")], figures_of(document(evaluation=None)))


def test_rates_without_objects_are_not_known() -> None:
    count = {"true": 0, "predicted": 0, "gross": 0, "MAE": 0.0, "RMSE": 0.0}
    found = figures_of(document(count=count))
    assert found["count_bias"] is None
    assert found["spurious_rate"] is None
