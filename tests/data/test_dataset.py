"""Datasets on disk: both layouts, and every way in which label and picture fail to meet."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from apiece.data.dataset import open_dataset
from apiece.errors import AnnotationError, DataError


def folder(root: Path, names: tuple[str, ...] = ("a", "b"), size: tuple[int, int] = (20, 30)) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    labels = np.zeros(size, dtype=np.uint16)
    labels[2:6, 3:9], labels[10:12, 1:5] = 7, 300
    for name in names:
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.full((*size, 3), 9, np.uint8))
        cv2.imwrite(str(root / "labels" / f"{name}.png"), labels)
    return root


def test_label_images(tmp_path: Path):
    data = open_dataset(folder(tmp_path), class_name="cell")
    assert len(data) == 2
    sample = data[0]
    assert sample.instances.masks.areas.tolist() == [24, 8]
    assert sample.instances.columns["label"].tolist() == [7, 300]
    assert data.classes.names == ("cell",)


def test_a_subset_names_pictures(tmp_path: Path):
    root = folder(tmp_path / "d")
    (tmp_path / "s.txt").write_text("b\n")
    assert [p.stem for p in open_dataset(root, subset=tmp_path / "s.txt").paths] == ["b"]
    (tmp_path / "s.txt").write_text("c\n")
    with pytest.raises(DataError, match="'c'"):
        open_dataset(root, subset=tmp_path / "s.txt")


def test_a_missing_counterpart_is_named(tmp_path: Path):
    root = folder(tmp_path)
    (root / "labels" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png"):
        open_dataset(root)


def test_a_label_of_another_size_names_both_files(tmp_path: Path):
    root = folder(tmp_path)
    cv2.imwrite(str(root / "labels" / "a.png"), np.zeros((30, 20), np.uint16))
    with pytest.raises(AnnotationError, match="EXIF") as caught:
        open_dataset(root)[0]
    assert str(root / "images" / "a.png") in str(caught.value)
    assert str(root / "labels" / "a.png") in str(caught.value)


def test_a_coloured_label_is_refused(tmp_path: Path):
    root = folder(tmp_path)
    cv2.imwrite(str(root / "labels" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(AnnotationError, match="colour"):
        open_dataset(root)[0]


def test_coco_with_its_pictures(tmp_path: Path):
    folder(tmp_path)
    document = {
        "images": [{"id": 4, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]},
        ],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document))
    data = open_dataset(path)
    assert data[0].image_id == 4
    assert data[0].instances.masks.areas.tolist() == [64]
    document["images"][0]["height"] = 21
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"a\.png"):
        open_dataset(path)[0]


@pytest.mark.needs_shared
def test_the_nuclei(shared: Path):
    data = open_dataset(shared / "dsb2018_train_full664")
    index = {
        row["id"]: row["n"] for row in json.loads((shared / "dsb2018_train_full664/index.json").read_text())
    }
    assert len(data) == len(index) == 664
    for i in range(0, 664, 60):
        assert len(data[i].instances) == index[data.stems[i]]
