"""COCO panoptic: exact round trips, things and stuff, PNG and JSON that disagree, the real set mask for mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.data.coco import read_coco
from apiece.data.formats import coco, panoptic
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError, ImageError
from format_scenes import CLASSES, expected, random_scene, same, scenes

ROAD, PERSON, FAR = 5, 70_000, 16_777_214  # numbers of segments, in one, three and three bytes


def png(path: Path, numbers: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8))
    return path


def numbers() -> np.ndarray:
    """8 x 8 pixels: road below, a person of two parts, another far away."""
    array = np.zeros((8, 8), np.int64)
    array[5:] = ROAD
    array[1:3, 1:3] = array[1:3, 5:7] = PERSON
    array[4, 4] = FAR
    return array


def document() -> dict:
    """As panopticapi's converters write it (COCO 2018 Panoptic)."""
    return {
        "images": [{"file_name": "a.jpg", "height": 8, "width": 8, "id": 139}],
        "annotations": [
            {
                "segments_info": [
                    {"id": ROAD, "category_id": 149, "iscrowd": 0, "bbox": [0, 5, 8, 3], "area": 24},
                    {"id": FAR, "category_id": 1, "iscrowd": 1, "bbox": [4, 4, 1, 1], "area": 1},
                    {"id": PERSON, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 6, 2], "area": 8},
                ],
                "file_name": "a.png",
                "image_id": 139,
            }
        ],
        "categories": [
            {"supercategory": "person", "color": [220, 20, 60], "isthing": 1, "id": 1, "name": "person"},
            {"supercategory": "ground", "color": [128, 64, 128], "isthing": 0, "id": 149, "name": "road"},
        ],
    }


def made(folder: Path, content: dict | None = None, array: np.ndarray | None = None) -> Path:
    png(folder / "panoptic_val2017" / "a.png", numbers() if array is None else array)
    path = folder / "panoptic_val2017.json"
    path.write_text(json.dumps(document() if content is None else content))
    return path


def written(folder: Path, *given, classes=CLASSES, pictures=True):
    out = folder / "set"
    out.mkdir()
    target = panoptic.TARGET(out, classes, pictures=pictures)
    names = [target.add(one, objects) for one, objects in given]
    target.finish()
    return out, names, target


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("panoptic")
    photograph = folder / "Größe 1.png"
    write_image(photograph, np.zeros((*scene.size, 3), np.uint8))
    out, (name,), _ = written(folder, (Picture("sub/Größe 1.png", photograph, 7, scene.size), scene))
    source = panoptic.open_source(out)
    assert [(one.name, one.id, one.size) for one in source.pictures] == [(name, 7, scene.size)]
    assert source.pictures[0].path == out / "images" / "sub" / "Größe 1.png"
    assert source.problems == ()
    found = []
    same(source.read(0, found), expected(scene, panoptic.TARGET.holds), panoptic.TARGET.holds)
    assert found == []
    assert panoptic.detect(out)
    assert not coco.detect(out)


def test_what_is_written_is_what_panopticapi_reads(tmp_path: Path):
    """Every pixel of the PNG is of a listed segment, areas and boxes are the pixels', categories tell things."""
    scene = random_scene(np.random.default_rng(2), (30, 40), 9)
    out, _, _ = written(tmp_path, (Picture("a.jpg", None, 12, scene.size), scene))
    content = json.loads((out / "panoptic.json").read_text())
    (entry,) = content["annotations"]
    assert (entry["image_id"], entry["file_name"]) == (12, "a.png")
    rgb = np.array(Image.open(out / "panoptic" / "a.png")).astype(int)
    ids = rgb @ [1, 256, 65536]
    assert [one["id"] for one in entry["segments_info"]] == sorted(set(ids[ids > 0].tolist()))
    for one in entry["segments_info"]:
        y, x = np.nonzero(ids == one["id"])
        assert one["area"] == len(x)
        assert one["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
    assert {one["isthing"] for one in content["categories"]} == {1}
    assert [one["id"] for one in content["categories"]] == list(CLASSES.ids)


def test_pictures_of_one_stem_get_pngs_of_their_own(tmp_path: Path):
    rng = np.random.default_rng(3)
    given = []
    for number, name in enumerate(("a.jpg", "a.png", "sub/A.png"), start=1):
        scene = random_scene(rng, (9, 9), 3, crowd=False)
        photograph = tmp_path / f"{number}.png"
        write_image(photograph, np.full((9, 9, 3), number, np.uint8))
        given.append((Picture(name, photograph, number, (9, 9)), scene))
    out, names, _ = written(tmp_path, *given)
    source = panoptic.open_source(out)
    assert names == [one.name for one in source.pictures] == ["a.jpg", "a.png", "sub/A.png"]
    for index, (_, scene) in enumerate(given):
        same(source.read(index), expected(scene, panoptic.TARGET.holds), panoptic.TARGET.holds)


def test_a_png_is_never_taken_for_the_picture(tmp_path: Path):
    scene = random_scene(np.random.default_rng(3), (9, 9), 3)
    out, _, _ = written(tmp_path, (Picture("a.png", None, 1, (9, 9)), scene))
    assert panoptic.open_source(out).pictures[0].path is None


# ---- what is read


def test_things_are_objects_and_stuff_is_counted(tmp_path: Path):
    source = panoptic.open_source(made(tmp_path))
    assert source.classes == ClassMap(("person",), (1,))
    found = source.read(0)
    assert found.masks.areas.tolist() == [1, 8]
    assert found.columns["iscrowd"].tolist() == [True, False]
    assert found.columns["segment_id"].tolist() == [FAR, PERSON]
    stuff, pictures = source.problems
    assert (stuff.severity, stuff.left_out) == ("warning", "the segments of stuff")
    assert "1 segments are stuff (road)" in stuff.message
    assert "1 of its 1 pictures" in pictures.message


@pytest.mark.parametrize("place", ["panoptic_val2017", "../panoptic_val2017", "panoptic", "."])
def test_pngs_are_found_where_tools_put_them(tmp_path: Path, place: str):
    folder = tmp_path / "annotations"
    made(folder)
    png(folder / "moved.png", numbers()).unlink()
    old = folder / "panoptic_val2017" / "a.png"
    new = folder / place / "a.png"
    new.parent.mkdir(exist_ok=True)
    old.rename(new)
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "val2017").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "val2017" / "a.jpg")
    for opened in (tmp_path, folder):
        assert panoptic.detect(opened)
        source = panoptic.open_source(opened)
        assert len(source.read(0)) == 2
        assert source.pictures[0].path.samefile(tmp_path / "val2017" / "a.jpg")


def segments(content: dict) -> list:
    return content["annotations"][0]["segments_info"]


# what is changed, what the message says, the objects left, and whether strict reading refuses it
FAULTS = {
    "not listed": (
        lambda d: segments(d).pop(2),
        f"segment {PERSON} (8 pixels) is not in segments_info",
        1,
        True,
    ),
    "two not listed": (
        lambda d: d["annotations"][0].update(segments_info=[]),
        "and 2 more are not in",
        0,
        True,
    ),
    "not drawn": (
        lambda d: segments(d).append({"id": 9, "category_id": 1}),
        "has no pixel in the PNG",
        2,
        True,
    ),
    "stuff not drawn": (lambda d: segments(d).append({"id": 9, "category_id": 149}), "has no pixel", 2, True),
    "wrong area": (
        lambda d: segments(d)[2].update(area=9),
        "has the area 9, but 8 pixels in a.png",
        2,
        False,
    ),
    "area of text": (lambda d: segments(d)[2].update(area="x"), "has the area x, but 8 pixels", 2, False),
    "category": (lambda d: segments(d)[2].update(category_id=7), "has category 7, which is not in", 1, True),
    "no category": (lambda d: segments(d)[2].pop("category_id"), "has category None", 1, True),
    "id": (lambda d: segments(d)[2].update(id=2**24), "has id '16777216'; expected a whole number", 1, True),
    "double id": (lambda d: segments(d).append(segments(d)[2]), "stands twice in segments_info", 2, True),
    "no object": (lambda d: segments(d).append([1]), "segments_info[3]: is a list", 2, True),
    "crowd": (lambda d: segments(d)[2].update(iscrowd=7), "has iscrowd 7", 2, False),
}


@pytest.mark.parametrize("name", FAULTS)
def test_png_and_json_that_disagree(tmp_path: Path, name: str):
    change, says, left, error = FAULTS[name]
    content = document()
    change(content)
    source = panoptic.open_source(made(tmp_path, content), strict=False)
    found = []
    assert len(source.read(0, found)) == left
    assert any(says in str(problem) and "Remedy: " in str(problem) for problem in found)
    assert any(problem.left_out for problem in found) == error
    assert {problem.severity for problem in found} == ({"error"} if error else {"warning"})
    if error:
        with pytest.raises(AnnotationError):
            source.read(0)
    else:
        assert len(source.read(0)) == left


ENTRIES = {
    "no entry": (lambda d: d["annotations"].clear(), "image 139: has no annotation", False),
    "unknown image": (
        lambda d: d["annotations"][0].update(image_id=1),
        "image 1, which is not in images",
        True,
    ),
    "second": (lambda d: d["annotations"].append(d["annotations"][0]), "is the second of image 139", True),
    "no file": (lambda d: d["annotations"][0].pop("file_name"), "has file_name 'None'", True),
    "no segments": (
        lambda d: d["annotations"][0].update(segments_info=3),
        "segments_info that is a number",
        True,
    ),
    "no object": (lambda d: d["annotations"].append(3), "annotations[1]: is a number", True),
    "no size": (lambda d: d["images"][0].pop("height"), "image 139: has height None", True),
    "isthing": (lambda d: d["categories"][0].pop("isthing"), "lack isthing; those are read as things", False),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_damaged_documents_are_refused_or_listed(tmp_path: Path, name: str):
    change, says, error = ENTRIES[name]
    content = document()
    change(content)
    path = made(tmp_path, content)
    source = panoptic.open_source(path, strict=False)
    problem = next(problem for problem in source.problems if says in str(problem))
    assert (problem.severity == "error") == error
    for index in range(len(source.pictures)):
        source.read(index, [])
    if error:
        with pytest.raises(AnnotationError, match=r"panoptic_val2017\.json: "):
            panoptic.open_source(path)
    else:
        panoptic.open_source(path)


def test_documents_of_another_kind_and_torn_ones(tmp_path: Path):
    path = made(tmp_path)
    whole = path.read_text()
    for content, says in (
        (whole[:-30], "breaks off at line 1"),
        ("[]", "is a list; expected a COCO document"),
        ('{"images": []}', "'annotations' is missing"),
        ("", "breaks off at line 1, column 1"),
    ):
        path.write_text(content)
        with pytest.raises(AnnotationError, match=says):
            panoptic.open_source(path, strict=False)
        assert not panoptic.detect(path)
    with pytest.raises(DataError, match="holds no COCO document"):
        panoptic.open_source(tmp_path / "panoptic_val2017")


def test_pngs_that_are_none(tmp_path: Path):
    path = made(tmp_path)
    segments_png = tmp_path / "panoptic_val2017" / "a.png"
    source = panoptic.open_source(path)
    for array, says in (
        (numbers().astype(np.uint8), "is no PNG of 8-bit RGB"),
        (np.zeros((7, 8, 3), np.uint8), "7 x 8"),
    ):
        Image.fromarray(array).save(segments_png)
        with pytest.raises(AnnotationError, match=says):
            source.read(0, [])
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(segments_png, "JPEG")
    with pytest.raises(AnnotationError, match="is no PNG of 8-bit RGB"):
        source.read(0, [])
    segments_png.write_bytes(segments_png.read_bytes()[:40])
    with pytest.raises(ImageError):
        source.read(0, [])
    segments_png.unlink()
    with pytest.raises(AnnotationError, match=r"a\.jpg: its segments 'a\.png' are not in .*panoptic_val2017"):
        source.read(0, [])


def test_opacity_changes_nothing(tmp_path: Path):
    path = made(tmp_path)
    segments_png = tmp_path / "panoptic_val2017" / "a.png"
    Image.open(segments_png).convert("RGBA").save(segments_png)
    assert panoptic.open_source(path).read(0).masks.areas.tolist() == [1, 8]


def test_names_never_lead_out(tmp_path: Path):
    content = document()
    content["annotations"][0]["file_name"] = "../../secret.png"
    png(tmp_path / "secret.png", numbers())
    source = panoptic.open_source(made(tmp_path / "a" / "b", content))
    with pytest.raises(AnnotationError, match="are not in"):
        source.read(0, [])


# ---- the real set


@pytest.mark.needs_shared
def test_the_real_set_equals_its_instances(shared: Path):
    folder = shared / "coco_panoptic200"
    source = panoptic.open_source(folder / "panoptic_val2017.json")
    truth = read_coco(folder / "instances_val100_from_panoptic.json")
    assert not panoptic.detect(folder)  # two documents
    assert panoptic.detect(folder / "panoptic_val2017.json")
    assert not coco.detect(folder / "panoptic_val2017.json")
    assert "366 segments are stuff" in source.problems[0].message
    objects = 0
    for index, one in enumerate(source.pictures):
        problems = []
        found, wanted = source.read(index, problems), truth.instances(one.id)
        assert problems == []
        order = [sorted(map(str, rows)) for rows in (found.masks.to_coco(), wanted.masks.to_coco())]
        assert order[0] == order[1]
        names = lambda value: [value.classes.name_of(int(i)) for i in value.class_ids]  # noqa: E731
        pairs = [
            sorted((name, str(code)) for name, code in zip(names(value), value.masks.to_coco(), strict=True))
            for value in (found, wanted)
        ]
        assert pairs[0] == pairs[1]
        objects += len(found)
    assert objects == 712


@pytest.mark.needs_shared
def test_the_real_set_survives_a_round_trip(shared: Path, tmp_path: Path):
    source = panoptic.open_source(shared / "coco_panoptic200" / "panoptic_train2017.json")
    out = tmp_path / "set"
    out.mkdir()
    target = panoptic.TARGET(out, source.classes, pictures=False)
    for index in range(10):
        target.add(source.pictures[index], source.read(index))
    target.finish()
    again = panoptic.open_source(out)
    assert again.classes == source.classes
    for index in range(10):
        found, wanted = again.read(index), source.read(index)
        assert isinstance(found, Instances)
        assert found.masks == wanted.masks
        assert found.class_ids.tolist() == wanted.class_ids.tolist()
        assert found.columns["iscrowd"].tolist() == wanted.columns["iscrowd"].tolist()
