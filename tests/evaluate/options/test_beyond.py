"""Beyond: remedies that need more than stored predictions, each with the figures that speak for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from option_scenes import CENTRES, SPARE, Drawn, disc

from apiece.evaluate.ledger import ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.options import beyond
from apiece.evaluate.overlaps import Overlaps


def told(overlaps: Overlaps, causes=None, scored=True):
    entries = ledger(overlaps, select(overlaps, OperatingPoint(0.5)))
    return {one.what: one for one in beyond(entries, causes, scored=scored)}


def scene(missed_at_all: int = 3, below: int = 2, low: float = 0.05, images: int = 5) -> Drawn:
    """Of each image's objects some have no candidate, some one below the threshold."""
    drawn = Drawn()
    for _ in range(images):
        image = drawn.image()
        places = [(12, 12), (36, 12), (60, 12), (84, 12), (12, 60), (36, 60), (60, 60), (84, 60)]
        for i, (x, y) in enumerate(places):
            drawn.true(image, disc(x, y))
            if i >= missed_at_all:
                drawn.found(image, disc(x, y), low if i < missed_at_all + below else 0.8)
    return drawn


def test_objects_without_any_candidate_need_training():
    found = told(scene().overlaps())
    assert found["retrain"].share == 15 / 25
    assert "15 of 25 missed objects (60 %)" in found["retrain"].evidence
    assert "predict_lower" not in found
    assert "retrain" not in told(scene(missed_at_all=0).overlaps())
    named = told(scene().overlaps(), {"causes": [{"cause": "too small", "share": 0.7}]})
    assert "too small (70 %)" in named["retrain"].evidence


def test_a_file_cut_at_a_high_score_must_be_predicted_again():
    found = told(scene(low=0.3).overlaps())
    assert "lowest stored score is 0.30" in found["predict_lower"].evidence
    assert "predict_lower" not in told(scene(low=0.3).overlaps(), scored=False)


def test_a_cap_of_the_model_is_told():
    overlaps = scene().overlaps()
    assert "cap" not in told(overlaps)
    cut = replace(overlaps, scenes=replace(overlaps.scenes, truncated=2))
    assert told(cut)["cap"].share == 2 / 5


def test_misses_among_the_smallest_ask_for_resolution():
    drawn = Drawn()
    for _ in range(12):
        image = drawn.image()
        drawn.true(image, disc(*SPARE[0], 2))
        for x, y in CENTRES:
            drawn.true(image, disc(x, y))
            drawn.found(image, disc(x, y), 0.9)
    found = told(drawn.overlaps())
    assert found["resolution"].share == 1
    assert "100 % of the missed objects are among the 20 % smallest" in found["resolution"].evidence
    assert "resolution" not in told(scene().overlaps())


def test_sure_predictions_without_truth_ask_for_a_look_at_the_labels():
    drawn = Drawn()
    for _ in range(5):
        image = drawn.image()
        for score, (x, y) in zip((0.6, 0.7, 0.8), CENTRES, strict=False):
            drawn.true(image, disc(x, y))
            drawn.found(image, disc(x, y), score)
        drawn.found(image, disc(*SPARE[0], 5), 0.9)
        drawn.found(image, disc(*SPARE[1], 5), 0.55)
    found = told(drawn.overlaps())
    assert found["relabel"].share == 0.5
    assert "5 of 10 predictions" in found["relabel"].evidence
    assert np.isfinite(found["relabel"].share)
