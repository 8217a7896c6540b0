"""TIDE's figures are hotcoco's, and agree with average precision and the ledger where they mean the same."""

from __future__ import annotations

import json

import hotcoco
import numpy as np
import pycocotools_oracle as oracle
import pytest

from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.replay import average_precisions
from apiece.evaluate.tide import COUNTED, ERRORS, tide

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")


def hotcocos(folder, truth, results, kind, cap):
    """hotcoco's own answer, from files, at its own ten IoU thresholds."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    true = hotcoco.COCO(str(folder / "truth.json"))
    run = hotcoco.COCOeval(true, true.load_res(str(folder / "results.json")), kind)
    run.params.max_dets = [1, 10, cap]
    run.evaluate()
    return run.tide_errors()


def same(found, expected):
    assert pytest.approx(expected["ap_base"], abs=1e-15) == found.AP
    assert found.gains == pytest.approx(expected["delta_ap"], abs=1e-15)
    assert found.counts == {name: expected["counts"].get(name, 0) for name in COUNTED}


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(40))
def test_equals_hotcoco(tmp_path, seed, kind):
    truth, results = oracle.scene(seed)
    scenes = scenes_of_coco(truth, results)
    found = tide(scenes, kind)
    json.dumps(found.to_json(), allow_nan=False)
    if scenes.truth.crowd.all():
        assert np.isnan(found.AP)
        assert found.to_json()["gains"] == dict.fromkeys(ERRORS)
    elif results:
        same(found, hotcocos(tmp_path, truth, results, kind, 10_000))
        table = average_precisions(overlaps_of(scenes, kind), ious=np.array([0.5]))
        assert pytest.approx(np.nanmean(table), rel=1e-12) == found.AP


@pytest.mark.needs_shared
@pytest.mark.parametrize(("kind", "name"), [("segm", "fakesegm100"), ("bbox", "fakebbox100")])
def test_equals_hotcoco_on_real_pictures(shared, tmp_path, kind, name):
    folder = shared / "fixtures" / "cocoapi"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_{name}_results.json").read_text())
    wanted = {row["image_id"] for row in results}
    truth["images"] = [image for image in truth["images"] if image["id"] in wanted]
    truth["annotations"] = [row for row in truth["annotations"] if row["image_id"] in wanted]
    found = tide(scenes_of_coco(truth, results), kind)
    same(found, hotcocos(tmp_path, truth, results, kind, 100))
    assert sum(found.counts.values()) > 100


def row(category, x, width=10, **others):
    return {"image_id": 1, "category_id": category, "bbox": [x, 0, width, 10], **others}


def test_each_error_by_hand():
    truth = {
        "images": [{"id": 1, "height": 50, "width": 500}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": i + 1, "area": 100, "iscrowd": 0, **row(1 + (i == 5), 50.0 * i)} for i in range(6)
        ],
    }
    results = [
        row(1, 0.0, score=0.9),
        row(1, 0.0, score=0.8),  # Dupe
        row(1, 54.0, score=0.7),  # Loc
        row(2, 100.0, score=0.6),  # Cls
        row(2, 156.0, score=0.5),  # Both
        row(1, 400.0, score=0.4),  # Bkg
        # Objects 3, 4 and 5 are missed.
    ]
    found = tide(scenes_of_coco(truth, results), "bbox")
    assert found.counts == {"Cls": 1, "Loc": 1, "Both": 1, "Dupe": 1, "Bkg": 1, "Miss": 3}
    # Class a: 1 of 5 objects, recall levels 0 to 0.2; class b: nothing.
    assert pytest.approx(21 / 101 / 2) == found.AP
    # Loc repaired: true, false, true: precision 2/3 up to recall 0.4.
    assert found.gains["Loc"] == pytest.approx(20 / 101 * 2 / 3 / 2)
    assert found.gains["Dupe"] == found.gains["Bkg"] == found.gains["FP"] == 0


def test_empty_predictions_and_other_thresholds():
    truth, results = next(
        (truth, results)
        for truth, results in map(oracle.scene, range(100))
        if len(results) > 10 and len(truth["annotations"]) > 5
    )
    found = tide(scenes_of_coco(truth, []))
    assert found.AP == 0
    assert found.counts["Miss"] == sum(not row["iscrowd"] for row in truth["annotations"])
    scenes = scenes_of_coco(truth, results)
    table = average_precisions(overlaps_of(scenes), ious=np.array([0.75]))
    assert pytest.approx(np.nanmean(table), rel=1e-12) == tide(scenes, found=0.75).AP
