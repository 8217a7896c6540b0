"""Figures that other projects state for the shared fixtures (shared/data/fixtures/EXPECTED.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apiece.evaluate import evaluate, evaluate_files

pytestmark = pytest.mark.needs_shared

NAMES = {
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


@pytest.fixture
def fixtures(shared: Path) -> Path:
    return shared / "fixtures"


@pytest.fixture
def expected(fixtures: Path) -> dict:
    return json.loads((fixtures / "EXPECTED.json").read_text())


def stated(case: dict) -> dict[str, float]:
    """The figures that a case states, by our names."""
    return {ours: case[theirs] for theirs, ours in NAMES.items() if theirs in case}


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_cocoapi_fake_results(fixtures: Path, expected: dict, kind: str):
    case = expected["cocoapi_fake_results"]
    found = evaluate_files(fixtures / case["ground_truth"], fixtures / case[f"{kind}_results"])
    assert [round(value, 3) for value in getattr(found, kind).values()] == case[kind]


def test_two_image_segm(fixtures: Path, expected: dict):
    case = expected["two_image_segm"]
    found = evaluate_files(fixtures / case["ground_truth"], fixtures / case["predictions"]).segm
    assert len(stated(case)) == 9
    assert {name: found[name] for name in stated(case)} == stated(case)


@pytest.mark.parametrize("by", ["file", "document"])
def test_ignore_rule_with_an_image_id_that_is_text_in_one_place(
    fixtures: Path, expected: dict, tmp_path: Path, by: str
):
    case = expected["ignore_rule_bbox"]
    path = fixtures / case["ground_truth"]
    kept = [row for row in json.loads((fixtures / case["predictions"]).read_text()) if row["score"] >= 0.1]
    if by == "file":
        (tmp_path / "kept.json").write_text(json.dumps(kept))
        found = evaluate_files(path, tmp_path / "kept.json")
    else:
        found = evaluate(json.loads(path.read_text()), kept)
    assert {name: found.bbox[name] for name in stated(case)} == stated(case)
    assert len(stated(case)) == 6
    assert found.segm is None
    assert "have no mask" in found.reasons["segm"]
