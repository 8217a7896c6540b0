"""Documents that cannot be evaluated as they stand are refused, by file and object."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from pycocotools_oracle import encoded, scene

from apiece.errors import AnnotationError
from apiece.evaluate import evaluate
from apiece.evaluate.coco_scenes import scenes_of_coco

MASK = encoded(np.pad(np.ones((3, 4), bool), ((2, 5), (1, 5))))  # 10 × 10, x 1, y 2, 4 × 3 pixels


def document():
    return {
        "images": [{"id": 7, "height": 10, "width": 10, "file_name": "a/seven.png"}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": MASK, "iscrowd": 0}],
    }


def result(**changes):
    row = {"image_id": 7, "category_id": 3, "segmentation": MASK, "score": 0.5, **changes}
    return {key: value for key, value in row.items() if value is not ...}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": ...}, "has no score; expected a finite number"),
        ({"score": math.nan}, "has score nan"),
        ({"score": math.inf}, "has score inf"),
        ({"score": "0.5"}, "has score '0.5'"),
        ({"score": True}, "has score True"),
        ({"image_id": 8}, r"has image_id 8; expected one of the 1 images of truth.json \(7\)"),
        ({"image_id": ...}, "has image_id None"),
        ({"category_id": 1}, r"has category_id 1; expected one of the 1 categories of truth.json \(3\)"),
        ({"category_id": 3.5}, "has category_id 3.5"),
        ({"segmentation": ...}, "has neither `segmentation` nor `bbox`"),
        ({"segmentation": [], "bbox": None}, "has neither `segmentation` nor `bbox`"),
        ({"bbox": [0, 0, -1, 5]}, r"has bbox \[0, 0, -1, 5\]; expected four finite numbers"),
        ({"bbox": [0, 0, 5]}, r"has bbox \[0, 0, 5\]"),
        ({"bbox": [0, 0, math.nan, 5]}, "has bbox"),
        ({"bbox": "0 0 5 5"}, "has bbox"),
        ({"segmentation": {"size": [10, 11], "counts": MASK["counts"]}}, r"RLE of size \[10, 11\]"),
        ({"segmentation": {"size": [10, 10], "counts": [50, 20]}}, "counts that sum to 70"),
        ({"segmentation": {"size": [10, 10], "counts": [200]}}, "has a count of 200"),
        ({"segmentation": {"size": [10, 10]}}, "expected an RLE with 'size' and 'counts'"),
        ({"segmentation": [[1, 1, 5, 5]]}, "polygon"),
        ({"segmentation": [[1, 1, 5, 1, math.nan, 5]]}, "polygon"),
    ],
)
def test_predictions_that_do_not_hold_are_refused_by_name(changes, message):
    rows = [result(), result(), result(**changes)]
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(document(), rows, truth_name="truth.json", predictions_name="pred.json")
    assert str(caught.value).startswith("pred.json: object 2")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("iscrowd", 2, "has iscrowd 2; expected 0 or 1"),
        ("area", -1, "has area -1"),
        ("area", math.nan, "has area nan"),
        ("image_id", 70, "has image_id 70"),
        ("segmentation", None, "has neither"),
    ],
)
def test_truth_that_does_not_hold_is_refused_by_name(field, value, message):
    truth = document()
    truth["annotations"][0][field] = value
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(truth, [], truth_name="truth.json")
    assert str(caught.value).startswith("truth.json: object 0 (id 1)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "no images"),
        ({"categories": []}, "no categories"),
        ({"images": [{"id": 7}, {"id": "7"}]}, r"images\[1\]: id 7 occurs twice"),
        ({"categories": [{"id": 3}, {"id": 3}]}, r"categories\[1\]: id 3 occurs twice"),
        ({"images": [{"height": 3}]}, r"images\[0\]: expected an object with"),
        ({"images": [{"id": 7, "height": 0, "width": 10}]}, "height and width are"),
        ({"images": None}, "expected a COCO document"),
        ({"annotations": {"a": 1}}, "expected a list of objects"),
    ],
)
def test_documents_that_do_not_hold_are_refused(changes, message):
    with pytest.raises(AnnotationError, match=message):
        evaluate({**document(), **changes}, [])


def test_truth_and_predictions_in_the_wrong_order_are_recognised():
    with pytest.raises(AnnotationError, match="give the ground truth first"):
        evaluate([result()], document())


def test_predictions_of_other_images_or_classes_under_the_same_ids_are_refused():
    wrapped = {**document(), "annotations": [result()]}
    assert evaluate(document(), wrapped).segm["AP"] > 0.99
    other = copy.deepcopy(wrapped)
    other["categories"][0]["name"] = "debris"
    with pytest.raises(
        AnnotationError, match="category 3 is 'debris', but in ground truth category 3 is 'cell'"
    ):
        evaluate(document(), other)
    other = copy.deepcopy(wrapped)
    other["images"][0]["file_name"] = "eight.png"
    with pytest.raises(AnnotationError, match="image 7 is 'eight.png'"):
        evaluate(document(), other)
    other["images"][0]["file_name"] = "elsewhere\\seven.tif"
    assert evaluate(document(), other).segm["AP"] > 0.99


@pytest.mark.parametrize("seed", range(8))
def test_ids_may_be_text_on_either_side(seed):
    truth, results = scene(seed)
    named = copy.deepcopy(truth)
    for image in named["images"]:
        image["id"] = str(image["id"])
    for row in named["annotations"][::2]:
        row["image_id"] = str(row["image_id"])
    assert evaluate(named, results).to_json() == evaluate(truth, results).to_json()
    words = copy.deepcopy((truth, results))
    for image in words[0]["images"]:
        image["id"] = f"image {image['id']}"
    for row in (*words[0]["annotations"], *words[1]):
        row["image_id"] = f"image {row['image_id']}"
    assert evaluate(*words).segm == evaluate(truth, results).segm


def test_nothing_is_dropped_and_nothing_given_is_changed():
    truth, results = scene(5)
    before = copy.deepcopy((truth, results))
    scenes = scenes_of_coco(truth, results)
    assert len(scenes.truth) == len(truth["annotations"])
    assert len(scenes.predicted) == len(results)
    assert (truth, results) == before


def test_areas_are_the_files_then_the_masks_then_the_boxes():
    truth = document()
    first = truth["annotations"][0]
    truth["annotations"] = [
        {**first, "area": 77.5, "bbox": [0, 0, 5, 5]},
        {**first, "bbox": [0, 0, 5, 5]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]},
    ]
    results = [result(area=77.5, bbox=[0, 0, 5, 5]), result()]
    scenes = scenes_of_coco(truth, results)
    assert scenes.truth.segm_areas.tolist() == scenes.truth.bbox_areas.tolist() == [77.5, 12, 25]
    assert scenes.predicted.segm_areas.tolist() == [12, 12]
    assert scenes.predicted.bbox_areas.tolist() == [25, 12]
    assert scenes.predicted.boxes.tolist() == [[0, 0, 5, 5], [1, 2, 4, 3]]


def test_sizes_of_images_come_from_run_length_codes_where_the_document_has_none():
    truth = document()
    truth["images"] = [{"id": 7}]
    assert evaluate(truth, [result()]).segm["AP"] > 0.99
    with pytest.raises(AnnotationError, match="no height and width"):
        evaluate(truth, [result(segmentation=[[1, 1, 5, 1, 5, 5]])])
