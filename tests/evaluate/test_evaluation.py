"""Evaluation: the same figures from files, documents and memory, each with its definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools_oracle import FIGURES, scene, without

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import AnnotationError
from apiece.evaluate import evaluate, evaluate_by_group, evaluate_files, evaluate_instances


def in_memory(truth, results):
    """The pictures of a scene as Instances, by increasing image id."""
    classes = ClassMap.from_coco(truth["categories"])

    def picture(image, rows, scored):
        own = [row for row in rows if row["image_id"] == image["id"]]
        size = (image["height"], image["width"])
        columns = (
            {} if scored else {"iscrowd": [bool(r["iscrowd"]) for r in own], "area": [r["area"] for r in own]}
        )
        return Instances(
            size,
            Masks.from_coco([row["segmentation"] for row in own], size),
            np.array([classes.index_of(row["category_id"]) for row in own], np.int64),
            np.array([row["score"] for row in own], np.float32) if scored else None,
            classes=classes,
            columns=columns,
        )

    images = sorted(truth["images"], key=lambda image: image["id"])
    return (
        [picture(image, truth["annotations"], scored=False) for image in images],
        [picture(image, results, scored=True) for image in images],
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_files_documents_and_values_in_memory_give_the_same(tmp_path_factory, seed):
    truth, results = scene(seed)
    folder: Path = tmp_path_factory.mktemp("evaluate")
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "list.json").write_text(json.dumps(results))
    (folder / "wrapped.json").write_text(json.dumps({**truth, "annotations": results}))
    direct = evaluate(truth, results)
    remembered = evaluate_instances(*in_memory(truth, results))
    for other in (
        evaluate_files(folder / "truth.json", folder / "list.json"),
        evaluate_files(folder / "truth.json", folder / "wrapped.json"),
        remembered,
    ):
        assert (other.segm, other.bbox) == (direct.segm, direct.bbox)
        assert (other.segm_uncapped, other.bbox_uncapped) == (direct.segm_uncapped, direct.bbox_uncapped)
        assert (other.segm_by_class, other.count, other.caps) == (
            direct.segm_by_class,
            direct.count,
            direct.caps,
        )


def test_the_document_has_its_schema_and_is_plain_json():
    document = evaluate(*scene(1), threshold=0.25).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "apiece/evaluate/1"
    assert list(document["segm"])[:12] == list(document["bbox"])[:12] == list(FIGURES)
    assert list(document["segm_uncapped"]) == list(FIGURES)
    assert document["segm"]["AP_uncapped"] == document["segm_uncapped"]["AP"]
    assert document["count"]["threshold"] == 0.25
    assert {"MAE", "RMSE", "bias", "relative", "relative_per_image"} <= set(document["count"])
    assert {"coco", "uncapped", "images_cut", "predictions_cut", "suspected"} <= set(document["caps"])


def test_every_figure_has_a_definition_with_what_it_depends_on():
    found = evaluate(*scene(1), threshold=0.25)
    document = found.to_json()
    figures = {*document["segm"], *document["bbox"], *document["count"]} - {"by_class", "images"}
    assert figures <= set(found.definitions)
    for name in ("AP", "AP50", "AP75", "APs", "AR100"):
        assert "only the 100 highest-scoring predictions of each image and class" in found.definitions[name]
    for name in ("true", "predicted", "MAE", "RMSE", "bias", "relative", "relative_per_image"):
        assert "score ≥ 0.25" in found.definitions[name] or name == "true"
    for name, area in {"s": "≤ 32²", "m": "32² ≤ area ≤ 96²", "l": "≥ 96²"}.items():
        assert area in found.definitions[f"AP{name}"]
        assert area in found.definitions[f"AR{name}"]
    assert "0.50, 0.55, …, 0.95" in found.definitions["AP"]
    assert "iscrowd = 1" in found.definitions["crowd"]


@pytest.mark.parametrize("width", [60, 100])
def test_the_text_has_every_figure_and_definition_within_its_width(width):
    found = evaluate(*scene(1))
    text = found.to_text(width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for name in FIGURES:
        row = next(line.split() for line in lines if line.split()[:1] == [name])
        shown = [f"{v:.3f}" if v >= 0 else "–" for v in (found.segm[name], found.bbox[name])]
        assert row == [name, *shown]
    assert [f"{found.count['MAE']:.3f}"] == next(
        line.split()[1:] for line in lines if line.split()[:1] == ["MAE"]
    )
    for name in found.definitions:
        assert any(line.startswith(f"  {name}: ") for line in lines)
    assert str(found) == found.to_text()


def test_predictions_without_masks_have_figures_of_boxes_and_the_reason():
    truth, results = scene(1)
    found = evaluate(truth, without(results, "segmentation"))
    assert found.segm is None
    assert set(found.segm_uncapped.values()) == {-1.0}
    assert found.bbox == evaluate(truth, results).bbox
    document = found.to_json()
    assert document["segm"] is None
    assert (
        f"{len(results)} of {len(results)} objects of the predictions have no mask"
        in document["reasons"]["segm"]
    )
    assert f"No segm figures: {found.reasons['segm']}" in found.to_text(400)


def test_one_prediction_without_a_mask_is_not_left_out_in_silence():
    truth, results = scene(1)
    del results[0]["segmentation"]
    found = evaluate(truth, results)
    assert found.segm is None
    assert f"1 of {len(results)} objects of the predictions" in found.reasons["segm"]


def test_boxes_come_from_masks_where_there_are_none_and_that_is_said():
    truth, results = scene(1)
    found = evaluate(truth, without(results, "bbox"))
    assert found.bbox == evaluate(truth, results).bbox
    said = f"{len(results)} of {len(results)} predicted objects have no box of their own"
    assert any(said in note for note in found.notes)
    assert not any("no box of their own" in note for note in evaluate(truth, results).notes)


def test_notes_say_what_a_reader_must_know():
    truth, results = scene(1)
    truth["annotations"][0] |= {"iscrowd": 0, "ignore": 1}
    truth["annotations"][1]["iscrowd"] = 1
    notes = " ".join(evaluate(truth, results, threshold=9).notes)
    assert "No prediction reaches the score threshold 9" in notes
    assert "true objects carry `ignore` without `iscrowd`" in notes
    assert "crowd regions in" in notes
    assert "There are no predictions." in evaluate(truth, []).notes
    high = [row for row in results if row["score"] > 0.4]
    assert any(
        f"The lowest score is {min(r['score'] for r in high):.3g}" in n for n in evaluate(truth, high).notes
    )


def test_groups_have_the_figures_of_their_images_alone():
    truth, results = next(s for s in map(scene, range(50)) if len(s[0]["images"]) == 4)
    ids = sorted(image["id"] for image in truth["images"])
    groups = {ids[0]: "b", str(ids[1]): "a", ids[2]: "b", ids[3]: "a"}
    found = evaluate_by_group(truth, results, groups)
    assert list(found) == ["a", "b"]
    for group, members in {"a": (ids[1], ids[3]), "b": (ids[0], ids[2])}.items():
        alone = {
            **truth,
            "images": [i for i in truth["images"] if i["id"] in members],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in members],
        }
        expected = evaluate(alone, [row for row in results if row["image_id"] in members])
        assert found[group].to_json()["segm"] == expected.to_json()["segm"]
        assert found[group].count == expected.count
        assert found[group].caps == expected.caps


@pytest.mark.parametrize("wrong", ["missing", "strange"])
def test_groups_that_do_not_cover_the_images_are_refused(wrong):
    truth, results = scene(1)
    groups = {image["id"]: "a" for image in truth["images"]}
    groups |= {99: "a"}
    if wrong == "missing":
        del groups[99], groups[truth["images"][0]["id"]]
    with pytest.raises(AnnotationError, match="no group" if wrong == "missing" else "image 99"):
        evaluate_by_group(truth, results, groups)


def picture(count, size=(40, 60), classes=("a",), **more):
    masks = Masks.from_crops([np.ones((3, 3), bool)] * count, [(4 * i, 0) for i in range(count)], size)
    return Instances(size, masks, np.zeros(count, np.int64), classes=ClassMap(classes), **more)


def test_crowd_regions_in_memory_are_no_objects():
    truth = picture(5, columns={"iscrowd": [True, False, False, False, False]})
    found = evaluate_instances([truth], [picture(5)])
    assert (found.truth, found.crowd, found.count["true"], found.count["predicted"]) == (4, 1, 4, 5)
    assert found.segm["AP"] == pytest.approx(1.0)


def test_a_truncated_prediction_is_said_to_be_a_lower_bound():
    found = evaluate_instances([picture(5), picture(2)], [picture(3, truncated=True), picture(2)])
    assert found.caps.truncated == 1
    assert any("cut the predictions of 1 of 2 images" in note for note in found.notes)


def test_boxes_without_masks_in_memory_are_boxes_alone():
    empty = [np.zeros((0, 0), bool)] * 2
    masks = Masks.from_crops(empty, [(0, 0)] * 2, (40, 60))
    boxes = [[0, 0, 3, 3], [4, 0, 7, 3]]
    found = Instances((40, 60), masks, [0, 0], [0.9, 0.8], boxes, classes=ClassMap(("a",)))
    figures = evaluate_instances([picture(2)], [found])
    assert figures.segm is None
    assert figures.bbox["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([], [], "no pictures"),
        ([picture(1)], [], "1 true pictures and 0 predicted"),
        ([picture(1)], [picture(1, size=(40, 61))], "picture 0: truth is"),
        ([picture(1)], [picture(1, classes=("b",))], "picture 0: classes"),
    ],
)
def test_values_that_do_not_belong_together_are_refused(truth, predicted, message):
    with pytest.raises(AnnotationError, match=message):
        evaluate_instances(truth, predicted)


def test_files_are_refused_by_name(tmp_path: Path):
    truth, results = scene(1)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    bad = [*results, {**results[0], "score": float("nan")}]
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    with pytest.raises(AnnotationError, match=r"bad\.json: result .*nan"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "bad.json")
    wrapped = {
        **truth,
        "annotations": results,
        "categories": [{**c, "name": "x"} for c in truth["categories"]],
    }
    (tmp_path / "other.json").write_text(json.dumps(wrapped))
    with pytest.raises(AnnotationError, match=r"other\.json: categor"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "other.json")
    with pytest.raises(AnnotationError, match=r"nowhere\.json"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "nowhere.json")
