"""COCO files: what is whole is read as it is, what is not gives one sentence with file and object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apiece.data.coco import read_coco, read_predictions
from apiece.errors import AnnotationError

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def document() -> dict:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [
            {"id": 11, "image_id": 1, "category_id": 3, "segmentation": SQUARE, "iscrowd": 0},
            {"id": 12, "image_id": 1, "category_id": 3, "bbox": [1, 2, 5, 6]},
            {"id": 13, "image_id": 1, "category_id": 3, "iscrowd": 1,
             "segmentation": {"size": [60, 80], "counts": [0, 60, 4740]}},
        ],
    }  # fmt: skip


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_whole_document(tmp_path: Path):
    data = read_coco(write(tmp_path, document()))
    found = data.instances(1)
    assert not data.problems
    assert found.masks.areas.tolist() == [400, 30, 60]
    assert found.columns["iscrowd"].tolist() == [False, False, True]
    assert found.columns["annotation_id"].tolist() == [11, 12, 13]
    assert found.classes.names == ("cell",)


def test_a_picture_without_objects_is_ordinary(tmp_path: Path):
    content = document()
    content["images"].append({"id": 2, "file_name": "b.png", "height": 5, "width": 5})
    assert len(read_coco(write(tmp_path, content)).instances(2)) == 0


def test_ids_written_as_texts_are_read(tmp_path: Path):
    content = document()
    content["images"][0]["id"] = "1"
    assert len(read_coco(write(tmp_path, content)).instances(1)) == 3


BROKEN = {
    "dangling image": ({"image_id": 9}, "belongs to image 9"),
    "unknown category": ({"category_id": 8}, "has category 8"),
    "double id": ({"id": 12}, "stands twice"),
    "no id": ({"id": None}, "no whole-number id"),
    "two points": ({"segmentation": [[1, 1, 5, 5]]}, "three points"),
    "odd polygon": ({"segmentation": [[1, 1, 5, 5, 6, 7, 8]]}, "three points"),
    "text in polygon": ({"segmentation": [[1, 1, "x", 5, 6, 7]]}, "finite numbers"),
    "empty outline": ({"segmentation": []}, "empty"),
    "rle of another size": ({"segmentation": {"size": [8, 8], "counts": [64]}}, "size [8, 8]"),
    "rle without counts": ({"segmentation": {"size": [60, 80]}}, "counts"),
    "nothing": ({"segmentation": None}, "neither"),
    "bad box": ({"segmentation": None, "bbox": [1, 2, -3, 4]}, "bbox"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_object_is_named_and_with_strict_false_left_out(tmp_path: Path, name: str):
    change, says = BROKEN[name]
    content = document()
    content["annotations"][0] |= change
    if name == "double id":
        content["annotations"][0], content["annotations"][1] = (
            content["annotations"][1],
            content["annotations"][0],
        )
    path = write(tmp_path, content)
    with pytest.raises(AnnotationError) as caught:
        read_coco(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "annotation" in str(caught.value)
    lenient = read_coco(path, strict=False)
    assert len(lenient.instances(1)) == 2
    assert [p.severity for p in lenient.problems] == ["error"]


def test_points_outside_are_a_warning_and_cut_off(tmp_path: Path):
    content = document()
    content["annotations"][0]["segmentation"] = [[-50, 10, 30, 10, 30, 30, -50, 30]]
    data = read_coco(write(tmp_path, content))
    assert [p.severity for p in data.problems] == ["warning"]
    assert data.instances(1).masks.areas[0] == 600


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "valid JSON"),
        ('{"images": [', "valid JSON"),
        ("[1, 2]", "a list"),
        ('{"annotations": 3, "images": [], "categories": []}', "expected a list"),
        ('{"annotations": [{"id": NaN}], "images": [], "categories": []}', "NaN"),
        ('{"annotations": [], "images": [{"id": 1}], "categories": []}', "height and width"),
    ],
)
def test_what_is_no_coco_document(tmp_path: Path, content: str, says: str):
    path = write(tmp_path, content)
    with pytest.raises(AnnotationError, match=says) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)


def test_damaged_rle_is_named(tmp_path: Path):
    content = document()
    content["annotations"][2]["segmentation"]["counts"] = [0, 60, 9999]
    with pytest.raises(AnnotationError, match=r"labels.json: annotation 13"):
        read_coco(write(tmp_path, content))
    content["annotations"][2] |= {"area": 60, "bbox": [0, 0, 1, 60]}
    with pytest.raises(AnnotationError, match=r"labels.json: objects 11, 12, 13"):
        read_coco(write(tmp_path, content)).instances(1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": 5}, "image 5"),
        ({"category_id": 1}, "category 1"),
        ({"score": None}, "score"),
        ({"score": True}, "score"),
        ({"segmentation": None}, "neither"),
        ({"segmentation": {"size": [1, 1], "counts": "0"}}, "size"),
    ],
)
def test_predictions_are_checked_entry_by_entry(tmp_path: Path, change: dict, says: str):
    truth = read_coco(write(tmp_path, document()))
    good = {"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": SQUARE}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([good, good | change]))
    with pytest.raises(AnnotationError, match=says) as caught:
        read_predictions(path, truth)
    assert "result 1" in str(caught.value)
    path.write_text(json.dumps({"annotations": [good]}))
    assert len(read_predictions(path, truth).instances(1)) == 1


@pytest.mark.needs_shared
def test_real_files_are_read_without_errors(shared: Path):
    for name in ("fixtures/cocoapi/instances_val2014_100.json", "fixtures/coco_small/gt_dataset.json"):
        data = read_coco(shared / name)
        total = sum(len(data.instances(record.id)) for record in data.images)
        assert total == data.annotation_count > 0
