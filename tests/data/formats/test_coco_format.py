"""COCO as a format: exact round trips, ids and names kept, layouts as tools write them, hostile names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle
from pycocotools.coco import COCO

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import coco
from apiece.data.formats.base import Picture
from apiece.data.formats.coco_documents import kind_of
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

SQUARE = [[2, 2, 6, 2, 6, 6, 2, 6]]


def picture(path: Path, size=(8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def document(**changes) -> dict:
    """One picture, one object, as COCO 2017 has them, with the keys in its order."""
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{"license": 3, "file_name": "a.png", "height": 8, "width": 8, "id": 9}],
        "annotations": [
            {
                "segmentation": SQUARE,
                "area": 16.0,
                "iscrowd": 0,
                "image_id": 9,
                "bbox": [2, 2, 4, 4],
                "category_id": 18,
                "id": 1768,
            }
        ],
        "categories": [{"supercategory": "animal", "id": 18, "name": "dog"}],
    } | changes


def written(folder: Path, *given, classes=CLASSES, pictures=True) -> tuple[Path, list[str], coco.CocoTarget]:
    """A set of (picture, objects)."""
    out = folder / "set"
    out.mkdir()
    target = coco.TARGET(out, classes, pictures=pictures)
    names = [target.add(one, objects) for one, objects in given]
    target.finish()
    return out, names, target


# ---- what is written


@settings(max_examples=40, deadline=None)
@given(scenes(tracks=True), st.randoms())
def test_what_is_written_is_read_back(tmp_path_factory, scene, random):
    scene = Instances(
        scene.size,
        scene.masks,
        scene.class_ids,
        [random.choice([1.0, 0.25, 0.1]) for _ in range(len(scene))],
        classes=scene.classes,
        track_ids=scene.track_ids,
        columns=scene.columns,
    )
    folder = tmp_path_factory.mktemp("coco")
    path = picture(folder / "from" / "Größe 1.png", scene.size)
    out, (name,), _ = written(folder, (Picture("sub/Größe 1.png", path, 7, scene.size), scene))
    source = coco.open_source(out)
    assert [(one.name, one.id, one.size) for one in source.pictures] == [(name, 7, scene.size)]
    assert source.pictures[0].path == out / "images" / "sub" / "Größe 1.png"
    assert source.problems == ()
    same(source.read(0), expected(scene, coco.TARGET.holds), coco.TARGET.holds)
    assert coco.detect(out)
    assert coco.detect(out / "annotations.json")
    assert sorted(p.name for p in out.iterdir()) == ["annotations.json", "images"]


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_what_is_written_is_pycocotools_byte_for_byte(tmp_path: Path):
    rng = np.random.default_rng(4)
    scene = random_scene(rng, (21, 17), 8)
    out, _, _ = written(tmp_path, (Picture("a.png", None, 3, scene.size), scene))
    loaded = COCO(str(out / "annotations.json"))
    rows = loaded.loadAnns(loaded.getAnnIds(imgIds=[3]))
    for row, mask in zip(rows, scene.masks.to_dense(), strict=True):
        coded = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert row["segmentation"] == {"size": [21, 17], "counts": coded["counts"].decode()}
        assert row["area"] == mask.sum()
        assert row["bbox"] == oracle.toBbox(coded).tolist()
        assert "score" not in row
    assert [row["id"] for row in rows] == list(range(1, 9))
    assert loaded.loadCats(loaded.getCatIds())[1]["name"] == "Größe 2"


def test_ids_of_pictures_and_classes_are_kept(tmp_path: Path):
    classes = ClassMap(("dog", "cat"), (18, 90))
    scene = random_scene(np.random.default_rng(1), (9, 9), 5, classes)
    given = [(Picture(f"{i}.png", None, i, (9, 9)), scene) for i in (400_000, 5, 5)]
    out, names, target = written(tmp_path, *given, classes=classes)
    source = coco.open_source(out)
    assert [one.id for one in source.pictures] == [400_000, 5, 400_001]
    assert any("5.png" in note and "400001" in note for note in target.notes)
    assert source.classes == classes
    assert [one.name for one in source.pictures] == names == ["400000.png", "5.png", "5-2.png"]
    numbers = [source.read(i).columns["annotation_id"].tolist() for i in range(3)]
    assert np.concatenate(numbers).tolist() == list(range(1, 16))


def test_boxes_alone_survive(tmp_path: Path):
    masks = Masks.from_dense(np.stack([np.zeros((8, 8)), np.eye(8)]) > 0)
    boxes = [[1, 2, 5.5, 7], [0, 0, 8, 8]]
    scene = Instances((8, 8), masks, [0, 1], boxes=boxes, classes=CLASSES)
    out, _, _ = written(tmp_path, (Picture("a.png", None, 1, (8, 8)), scene))
    source = coco.open_source(out)
    found = source.read(0)
    same(found, scene, coco.TARGET.holds)
    np.testing.assert_array_equal(found.boxes, scene.boxes)
    entry = json.loads((out / "annotations.json").read_text())["annotations"][0]
    assert (entry["segmentation"], entry["area"]) == ([], 22.5)
    assert [p.severity for p in source.problems] == ["warning", "warning"]  # the box, and the missing picture


def test_masks_that_are_boxes_stay_known_as_such(tmp_path: Path):
    masks = Masks.from_dense(np.ones((2, 4, 4), bool))
    scene = Instances((4, 4), masks, [0, 1], classes=CLASSES, columns={"box_mask": [True, False]})
    out, _, _ = written(tmp_path, (Picture("a.png", None, 1, (4, 4)), scene))
    assert coco.open_source(out).read(0).columns["box_mask"].tolist() == [True, False]


def test_names_that_lead_out_or_meet_are_changed_and_said(tmp_path: Path):
    empty = Instances.empty((4, 4), CLASSES)
    given = [
        (Picture(name, picture(tmp_path / "from" / f"{i}.png", (4, 4)), i, (4, 4)), empty)
        for i, name in enumerate(
            ["../../x.png", "/etc/x.png", "C:\\a\\X.png", "a\\b.png", "a/b.png"], start=1
        )
    ]
    out, names, target = written(tmp_path, *given)
    assert names == ["x.png", "x-2.png", "X-3.png", "a/b.png", "a/b-2.png"]
    assert len(target.notes) == 4
    source = coco.open_source(out)
    assert [one.name for one in source.pictures] == names
    assert all(one.path is not None for one in source.pictures)
    assert [len(source.read(i)) for i in range(5)] == [0] * 5


def test_a_set_without_pictures_is_whole(tmp_path: Path):
    out, _, _ = written(tmp_path)
    source = coco.open_source(out)
    assert (source.pictures, source.problems, source.classes) == ((), (), CLASSES)


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path):
    out = tmp_path / "set"
    out.mkdir()
    target = coco.TARGET(out, CLASSES)
    (out / ".annotations.json.images.part").mkdir()
    with pytest.raises(DataError, match=r"annotations\.json: cannot be written"):
        target.add(Picture("a.png", None, 1, (4, 4)), Instances.empty((4, 4), CLASSES))


# ---- what is read


LAYOUTS = {
    "COCO 2017": ("annotations/instances_val2017.json", "val2017/a.png"),
    "beside": ("labels.json", "a.png"),
    "Roboflow": ("_annotations.coco.json", "a.png"),
    "CVAT": ("annotations/instances_default.json", "images/default/a.png"),
    "images/": ("result.json", "images/a.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_are_found_where_tools_put_them(tmp_path: Path, layout: str):
    label, image = LAYOUTS[layout]
    content = document()
    if layout == "CVAT":
        content["images"][0]["file_name"] = "default/a.png"
    write(tmp_path / label, content)
    path = picture(tmp_path / image)
    for opened in (tmp_path, tmp_path / label):
        if layout == "COCO 2017" and opened == tmp_path:
            write(tmp_path / "annotations/captions_val2017.json", {"images": [], "annotations": []})
            write(
                tmp_path / "annotations/panoptic_val2017.json", document(annotations=[{"segments_info": []}])
            )
        assert coco.detect(opened)
        source = coco.open_source(opened)
        assert source.pictures[0].path is not None
        assert source.pictures[0].path.samefile(path)
        assert source.read(0).masks.areas.tolist() == [16]
        assert source.problems == ()


def test_a_relative_document_finds_its_pictures(tmp_path: Path, monkeypatch):
    write(tmp_path / "annotations" / "labels.json", document())
    picture(tmp_path / "images" / "a.png")
    for folder, name in ((tmp_path / "annotations", "labels.json"), (tmp_path, "annotations/labels.json")):
        monkeypatch.chdir(folder)
        assert coco.open_source(Path(name)).pictures[0].path is not None


def test_names_never_lead_out(tmp_path: Path):
    secret = picture(tmp_path / "secret.png")
    folder = tmp_path / "set" / "images"
    picture(folder / "in.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    names = [
        "../../secret.png",
        str(secret),
        "link.png",
        "up/secret.png",
        "C:\\x\\in.png",
        "in.png",
        "",
        "a\0b",
    ]
    images = [{"id": i, "file_name": name, "height": 8, "width": 8} for i, name in enumerate(names)]
    write(tmp_path / "set" / "labels.json", document(images=images, annotations=[]))
    source = coco.open_source(tmp_path / "set", strict=False)
    assert [one.path is not None for one in source.pictures] == [False] * 4 + [True, True] + [False] * 2
    assert [one.name for one in source.pictures][4:7] == ["in.png", "in-2.png", "image 6"]
    assert "6 of its 8 pictures are not in" in str(source.problems[-1])
    assert [len(source.read(i)) for i in range(8)] == [0] * 8


def test_the_users_picture_folder_is_the_only_one(tmp_path: Path):
    write(tmp_path / "labels.json", document())
    picture(tmp_path / "a.png")
    elsewhere = picture(tmp_path / "b" / "a.png")
    assert coco.open_source(tmp_path / "labels.json", tmp_path / "b").pictures[0].path == elsewhere
    (tmp_path / "empty").mkdir()
    assert coco.open_source(tmp_path / "labels.json", tmp_path / "empty").pictures[0].path is None
    with pytest.raises(DataError, match="is no folder; expected the pictures of"):
        coco.open_source(tmp_path / "labels.json", tmp_path / "none")


def test_a_picture_of_another_size_is_said(tmp_path: Path):
    write(tmp_path / "labels.json", document())
    picture(tmp_path / "a.png", (9, 7))
    with pytest.raises(AnnotationError, match="9 x 7"):
        coco.open_source(tmp_path).read(0, [])


def test_scores_that_are_none_are_said(tmp_path: Path):
    rows = [document()["annotations"][0] | {"id": i} for i in range(4)]
    rows[0]["score"], rows[1]["score"], rows[3]["score"] = 0.5, "high", None
    write(tmp_path / "labels.json", document(annotations=rows))
    found = []
    source = coco.open_source(tmp_path)
    assert source.read(0, found).scores.tolist() == [0.5, 1, 1, 1]
    assert ["annotation 1" in str(problem) and "'high'" in str(problem) for problem in found] == [True]
    assert source.read(0).scores.tolist() == [0.5, 1, 1, 1]


def test_a_damaged_entry_is_refused_or_listed(tmp_path: Path):
    rows = [document()["annotations"][0] | {"id": i} for i in range(3)]
    rows[1]["segmentation"] = [[1, 2, 3]]
    path = write(tmp_path / "labels.json", document(annotations=rows))
    picture(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r'labels\.json: annotation 1 \("dog"\): has a polygon'):
        coco.open_source(tmp_path)
    source = coco.open_source(path, strict=False)
    assert [p.left_out for p in source.problems] == ["the object"]
    assert source.read(0).columns["annotation_id"].tolist() == [0, 2]


def test_a_folder_with_several_documents_asks(tmp_path: Path):
    for name in ("a.json", "b.json"):
        write(tmp_path / name, document())
    assert not coco.detect(tmp_path)
    with pytest.raises(DataError, match=r"holds 2 documents: a\.json, b\.json"):
        coco.open_source(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no COCO document"):
        coco.open_source(tmp_path / "none")


def test_a_torn_document_is_said(tmp_path: Path):
    write(tmp_path / "labels.json", json.dumps(document())[:-40])
    with pytest.raises(AnnotationError, match=r"labels\.json: breaks off at line 1"):
        coco.open_source(tmp_path, strict=False)


OTHERS = {
    "panoptic": document(annotations=[{"image_id": 1, "file_name": "a.png", "segments_info": []}]),
    "panoptic, empty": document(annotations=[], categories=[{"id": 1, "name": "a", "isthing": 1}]),
    "captions": {"images": [], "annotations": []},
    "video (YouTube-VIS)": document(annotations=[{"id": 1, "video_id": 1, "segmentations": []}]),
    "results": [{"image_id": 1, "category_id": 1, "score": 1}],
    "LabelMe": {"version": "5.4.1", "flags": {}, "shapes": [], "imagePath": "a.jpg"},
    "VIA 2": {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": []}},
    "GeoJSON": {"type": "FeatureCollection", "features": []},
    "Datumaro": {"info": {}, "categories": {"label": {"labels": []}}, "items": []},
    "numbers": document(annotations=[5]),
    "torn": json.dumps(document())[:-9],
    "empty": "",
    "binary": "\x89PNG",
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_claimed(tmp_path: Path, name: str):
    path = write(tmp_path / "a.json", OTHERS[name])
    assert not coco.detect(path)
    assert not coco.detect(tmp_path)
    assert (kind_of(path) == "panoptic") == name.startswith("panoptic")


def test_a_folder_of_many_documents_is_not_looked_through(tmp_path: Path):
    for i in range(30):
        write(tmp_path / f"{i}.json", document())
    assert not coco.detect(tmp_path)
    assert not coco.detect(tmp_path / "nothing")
    assert coco.detect(tmp_path / "3.json")


# ---- large files: read in pieces, as if they were in memory


def test_a_file_read_in_pieces_gives_the_same(tmp_path: Path, monkeypatch):
    rng = np.random.default_rng(3)
    given = []
    for i in range(1, 6):
        scene = random_scene(rng, (20, 30), 6, tracks=True)
        given.append((Picture(f"é{i}.png", None, i, scene.size), scene))
    out, _, _ = written(tmp_path, *given)
    path = out / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = (
        content["annotations"][::3] + content["annotations"][1::3] + content["annotations"][2::3]
    )
    del content["annotations"][4]["bbox"], content["annotations"][5]["area"], content["annotations"][6]["id"]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    whole = coco.open_source(out, strict=False)
    monkeypatch.setattr(
        "apiece.data.json_stream.JsonText.__init__.__kwdefaults__", {"held": 0, "window": 512}
    )
    pieces = coco.open_source(out, strict=False)
    path.touch()
    with pytest.raises(AnnotationError, match="has changed since it was opened"):
        pieces.read(0)  # so it is not in memory
    pieces = coco.open_source(out, strict=False)
    assert pieces.pictures == whole.pictures
    assert pieces.problems == whole.problems
    assert pieces.coco.document == whole.coco.document
    assert list(pieces.coco.document) == list(content)
    for i, one in enumerate(whole.pictures):
        assert pieces.read(i) == whole.read(i)
        assert pieces.coco.annotations(one.id) == whole.coco.annotations(one.id)
        rows = [row for row in whole.coco.document["annotations"] if row["image_id"] == one.id]
        assert whole.coco.annotations(one.id) == rows
