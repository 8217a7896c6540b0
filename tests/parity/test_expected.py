"""Figures that other projects state for the shared fixtures (shared/data/fixtures/EXPECTED.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apiece.evaluate import average_precision, evaluate_files

pytestmark = pytest.mark.needs_shared


@pytest.fixture
def fixtures(shared: Path) -> Path:
    return shared / "fixtures"


@pytest.fixture
def expected(fixtures: Path) -> dict:
    return json.loads((fixtures / "EXPECTED.json").read_text())


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_cocoapi_fake_results(fixtures: Path, expected: dict, kind: str):
    case = expected["cocoapi_fake_results"]
    figures = evaluate_files(fixtures / case["ground_truth"], fixtures / case[f"{kind}_results"])
    assert [round(v, 3) for v in getattr(figures, kind).values()] == case[kind]


def test_two_image_segm(fixtures: Path, expected: dict):
    case = expected["two_image_segm"]
    figures = evaluate_files(fixtures / case["ground_truth"], fixtures / case["predictions"]).segm
    names = {
        "AP_all": "AP",
        "AP_50": "AP50",
        "AP_75": "AP75",
        "AP_small": "APs",
        "AP_medium": "APm",
        "AP_large": "APl",
        "AR_1": "AR1",
        "AR_10": "AR10",
        "AR_100": "AR100",
    }
    assert {theirs: figures[ours] for theirs, ours in names.items()} == {k: case[k] for k in names}


def test_ignore_rule(fixtures: Path, expected: dict):
    """The image id is a text in one place and a number in others; predictions below 0.1 are dropped."""
    from apiece.data.coco import read_coco, read_predictions

    case = expected["ignore_rule_bbox"]
    truth = read_coco(fixtures / case["ground_truth"])
    found = [r for r in read_predictions(fixtures / case["predictions"], truth).raw if r["score"] >= 0.1]
    figures = average_precision(truth.document, found, "bbox").figures
    for theirs, ours in {
        "AP_all": "AP",
        "AP_50": "AP50",
        "AP_75": "AP75",
        "AR_1": "AR1",
        "AR_10": "AR10",
        "AR_100": "AR100",
    }.items():
        assert figures[ours] == pytest.approx(case[theirs], abs=1e-15)
