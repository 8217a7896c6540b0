"""`apiece check`: every fault that is put into a dataset comes out with its file, object and remedy, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from apiece.data.check import Report, check
from apiece.data.convert import convert
from apiece.data.formats import FORMATS, open_source
from apiece.data.synthetic import discs
from apiece.errors import DataError, UsageError


def label_folder(root: Path, count: int = 3) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for i in range(count):
        sample = discs(np.random.default_rng(i), (40, 60), 4 + i, radius=(4, 6))
        cv2.imwrite(str(root / "images" / f"p{i}.png"), sample.image)
        cv2.imwrite(str(root / "labels" / f"p{i}.png"), sample.instances.masks.to_label_image())
    return root


def coco_folder(root: Path, count: int = 3) -> tuple[Path, dict]:
    (root / "images").mkdir(parents=True)
    document: dict = {"images": [], "annotations": [], "categories": []}
    for i in range(1, count + 1):
        sample = discs(np.random.default_rng(i), (40, 60), 5, radius=(4, 6))
        cv2.imwrite(str(root / "images" / f"p{i}.png"), sample.image)
        document["images"].append({"id": i, "file_name": f"p{i}.png", "height": 40, "width": 60})
        document["annotations"] += sample.instances.to_coco(i, first_id=1 + len(document["annotations"]))
        document["categories"] = sample.instances.classes.to_coco()
    path = root / "labels.json"
    path.write_text(json.dumps(document))
    return path, document


def only(report: Report) -> str:
    """The one problem of a report, as a sentence."""
    assert len(report.problems) == 1, report.to_text()
    return f"{report.problems[0].severity}: {report.problems[0]}"


def test_datasets_without_a_fault_have_no_problems(tmp_path: Path):
    report = check(label_folder(tmp_path / "a"))
    assert (report.images, report.objects, report.problems, report.ok) == (3, 15, (), True)
    report = check(coco_folder(tmp_path / "b")[0])
    assert (report.images, report.objects, report.problems, report.ok) == (3, 15, (), True)


def test_nothing_is_changed_and_progress_is_told(tmp_path: Path):
    root = label_folder(tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    told: list[tuple[int, int]] = []
    check(root, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def relabel(root: Path, change) -> None:
    path = root / "labels" / "p1.png"
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), change(labels))


def second_part(labels: np.ndarray) -> np.ndarray:
    labels[labels == 2] = 1
    return labels


def speck(labels: np.ndarray) -> np.ndarray:
    y, x = np.argwhere(labels == 0)[0]
    labels[y, x] = 77
    return labels


LABEL_FAULTS = {
    "no label": (lambda r: (r / "labels/p1.png").unlink(), "error: {r}/images/p1.png: has no label image"),
    "no picture": (
        lambda r: (r / "images/p1.png").unlink(),
        "error: {r}/labels/p1.png: p1.png: the picture isn't there",
    ),
    "torn picture": (
        lambda r: truncate(r / "images/p1.png"),
        "error: {r}/images/p1.png: is truncated",
    ),
    "torn label": (
        lambda r: truncate(r / "labels/p1.png"),
        "error: {r}/labels/p1.png: is truncated",
    ),
    "another size": (lambda r: relabel(r, lambda a: a[1:]), "error: {r}/labels/p1.png: labels are 39 x 60"),
    "turned": (lambda r: relabel(r, lambda a: a.T), "EXIF"),
    "colours": (
        lambda r: relabel(r, lambda a: np.repeat(a[..., None], 3, axis=2)),
        "error: {r}/labels/p1.png: is a picture of mode RGB",
    ),
    "empty": (lambda r: relabel(r, np.zeros_like), "warning: {r}/labels/p1.png: labels no object"),
    "two parts": (lambda r: relabel(r, second_part), "warning: {r}/labels/p1.png: object 1: is in 2 parts"),
    "speck": (lambda r: relabel(r, speck), "warning: {r}/labels/p1.png: object 77: has 1 pixel at x 0, y 0"),
    "semantic": (
        lambda r: relabel(r, lambda a: (a > 0).astype(np.uint8) * 255),
        "warning: {r}/labels/p1.png: object 255: holds a single number, 255, on",
    ),
    "twins": (
        lambda r: (r / "images/p1.png").write_bytes((r / "images/p0.png").read_bytes()),
        "warning: {r}/images/p1.png: is the same picture as p0.png",
    ),
}


@pytest.mark.parametrize("name", LABEL_FAULTS)
def test_each_fault_of_a_label_folder_is_found_alone(tmp_path: Path, name: str):
    spoil, says = LABEL_FAULTS[name]
    root = label_folder(tmp_path / "d")
    spoil(root)
    report = check(root)
    sentence = only(report)
    assert says.format(r=root) in sentence
    assert " Remedy: " in sentence
    assert report.ok == sentence.startswith("warning")
    assert report.to_json()["problems"][0]["severity"] == sentence.split(":")[0]


def unlist(root: Path, document: dict) -> None:
    del document["images"][2]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != 3]


COCO_FAULTS = {
    "no picture": (
        lambda r, d: (r / "images/p2.png").unlink(),
        "error: {j}: p2.png: the picture isn't there",
    ),
    "torn picture": (lambda r, d: truncate(r / "images/p2.png"), "error: {r}/images/p2.png: is truncated"),
    "corners": (
        lambda r, d: d["annotations"][6].update(bbox=corners(d["annotations"][6]["bbox"])),
        'warning: {j}: annotation 7 ("disc"): has bbox',
    ),
    "twice": (
        lambda r, d: d["annotations"].append({**d["annotations"][6], "id": 99}),
        'warning: {j}: annotation 99 ("disc"): covers the same pixels as annotation 7 ("disc")',
    ),
    "no pixel": (
        lambda r, d: d["annotations"][6].update(segmentation=[[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]]),
        'warning: {j}: annotation 7 ("disc"): has an outline that covers no pixel',
    ),
    "few pixels": (
        lambda r, d: d["annotations"][6].update(segmentation=[[5, 5, 7, 5, 7, 7, 5, 7]], bbox=[5, 5, 2, 2]),
        'warning: {j}: annotation 7 ("disc"): has 4 pixels',
    ),
    "dangling": (lambda r, d: d["annotations"][6].update(image_id=8), "belongs to image 8"),
    "not listed": (unlist, "warning: {r}/images: holds 1 pictures that labels.json doesn't list (p3.png)"),
}


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


@pytest.mark.parametrize("name", COCO_FAULTS)
def test_each_fault_of_a_coco_dataset_is_found_alone(tmp_path: Path, name: str):
    spoil, says = COCO_FAULTS[name]
    path, document = coco_folder(tmp_path / "d")
    spoil(path.parent, document)
    path.write_text(json.dumps(document))
    report = check(path)
    sentence = only(report)
    assert says.format(r=path.parent, j=path) in sentence
    assert report.ok == sentence.startswith("warning")


def test_a_picture_of_another_size_than_the_document_says(tmp_path: Path):
    path, _ = coco_folder(tmp_path / "d")
    picture = str(tmp_path / "d/images/p2.png")
    cv2.imwrite(picture, cv2.rotate(cv2.imread(picture), cv2.ROTATE_90_CLOCKWISE))
    sentence = only(check(path))
    assert f"{path}: image 2: labels are 40 x 60" in sentence
    assert f"{tmp_path}/d/images/p2.png is 60 x 40" in sentence
    assert "EXIF" in sentence


def test_two_images_of_one_file(tmp_path: Path):
    path, document = coco_folder(tmp_path / "d", 2)
    document["images"][1]["file_name"] = "p1.png"
    path.write_text(json.dumps(document))
    report = check(path)
    assert [p.where for p in report.problems] == ["image 2", ""]
    assert "has the file_name of image 1" in str(report.problems[0])


def test_what_is_no_dataset_at_all_is_one_error(tmp_path: Path):
    (tmp_path / "labels.json").write_text("{")
    report = check(tmp_path)
    assert "labels.json: breaks off" in only(report)
    assert not report.ok
    (tmp_path / "labels.json").unlink()
    assert re.search("holds no COCO document|of no annotation format", only(check(tmp_path)))
    with pytest.raises(DataError, match="not found"):
        check(tmp_path / "none")


def test_a_subset_is_all_that_is_looked_at(tmp_path: Path):
    root = label_folder(tmp_path / "a")
    (root / "labels" / "p1.png").unlink()
    names = tmp_path / "names.txt"
    names.write_text("p0\np2.png\n")
    assert check(root, subset=names).problems == ()
    names.write_text("p7\n")
    assert "no picture is named 'p7'" in only(check(root, subset=names))
    path, _ = coco_folder(tmp_path / "b")
    (path.parent / "images" / "p2.png").unlink()
    names.write_text("p1\np3\n")
    report = check(path, subset=names)
    assert (report.images, report.problems) == (2, ())


def test_a_torn_jpeg_shows_only_when_it_is_decoded(tmp_path: Path):
    root = label_folder(tmp_path)
    picture = cv2.imread(str(root / "images" / "p1.png"))
    (root / "images" / "p1.png").unlink()
    cv2.imwrite(str(root / "images" / "p1.jpg"), picture)
    assert check(root).problems == ()
    truncate(root / "images" / "p1.jpg")
    assert check(root, pictures=False).problems == ()
    assert "p1.jpg: the picture is damaged or truncated" in only(check(root))


def test_the_text_sums_up(tmp_path: Path):
    root = label_folder(tmp_path)
    relabel(root, np.zeros_like)
    last = check(root).to_text().splitlines()[-1]
    assert last == f"{root}: 3 pictures, 10 objects, 0 errors, 1 warnings; nothing was changed."


@pytest.mark.needs_shared
def test_real_data(shared: Path):
    coco = check(shared / "coco128" / "instances.json")
    assert (coco.images, coco.objects, coco.ok) == (128, 939, True)
    people = check(shared / "pennfudan", pictures=False)
    assert (people.images, people.objects, people.ok) == (170, 423, True)
    doubled = check(shared / "mandarina", pictures=False)
    assert sum("is the same picture as" in str(p) for p in doubled.warnings) == 4


def test_a_data_set_named_twice_and_a_picture_folder_that_is_not_there_are_refused(tmp_path: Path):
    root = label_folder(tmp_path / "a")
    with pytest.raises(UsageError, match="named twice"):
        check([root, root / ".." / "a"])
    with pytest.raises(DataError, match="expected the picture folder"):
        check(root, tmp_path / "nowhere")


@pytest.mark.parametrize("name", FORMATS)
def test_problems_name_the_file_that_holds_the_object(tmp_path: Path, name: str):
    source = open_source(label_folder(tmp_path / "set", 1))
    convert(source, "labels", name, tmp_path / "out")
    report = check(tmp_path / "out", cap=1, tiny=1000)
    files = [Path(problem.file) for problem in report.problems if problem.code == "tiny"]
    made = open_source(tmp_path / "out")
    assert files == [made.file_of(0)] * len(files) != []
    assert files[0].exists()
    assert files[0] != tmp_path / "out"
