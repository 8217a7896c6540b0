"""Cityscapes: exact round trips, groups, official and foreign classes, layouts, damaged labels."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import cityscapes, labels
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

HOLDS = cityscapes.TARGET.holds
STREET = ClassMap(("car", "person", "cell"))
SIZE = (6, 9)
LABEL = "gtFine/val/bonn/bonn_000001_gtFine_instanceIds.png"
PHOTOGRAPH = "leftImg8bit/val/bonn/bonn_000001_leftImg8bit.png"


def picture(folder, name, size=SIZE):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def label(folder, name=LABEL, rows=(0, 7, 24, 24000, 24001, 26000), size=SIZE):
    """A row of pixels for each value, as createInstanceIds writes them."""
    array = np.zeros(size, np.uint16)
    array[: len(rows)] = np.array(rows, np.uint16)[:, None]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
    return path


def written(folder, scene, name="a.png", split="", classes=CLASSES, pictures=True):
    path = picture(folder / "from", name, scene.size)
    (folder / "set").mkdir()
    target = cityscapes.TARGET(folder / "set", classes, pictures=pictures)
    given = target.add(Picture(name, path, 1, scene.size, split), scene)
    target.finish()
    return folder / "set", given, target


def names_of(objects):
    return [objects.classes.name_of(int(i)) for i in objects.class_ids]


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([CLASSES, STREET]).flatmap(lambda classes: scenes(most=8, classes=classes)),
    st.sampled_from(["", "train", "val", "test"]),
    st.sampled_from(["a.png", "val/bonn/Größe 1_leftImg8bit.png", "x/a.jpg"]),
)
def test_what_is_written_is_read_back(tmp_path_factory, scene, split, picture_name):
    folder, name, _ = written(tmp_path_factory.mktemp("city"), scene, picture_name, split, scene.classes)
    source = cityscapes.open_source(folder)
    assert [(one.name, one.split) for one in source.pictures] == [(name, split or "train")]
    same(source.read(0), expected(scene, HOLDS), HOLDS)
    assert source.classes.names == scene.classes.names
    assert not source.problems
    assert cityscapes.detect(folder)
    assert not labels.detect(folder)


@settings(max_examples=40, deadline=None)
@given(scenes(most=8))
def test_the_first_crowd_of_a_class_stays_a_group(tmp_path_factory, scene):
    folder, _, target = written(tmp_path_factory.mktemp("crowd"), scene)
    found = cityscapes.open_source(folder).read(0)
    kept = expected(scene, type(HOLDS)(overlaps=False, crowd=True, order="class"))
    crowds = kept.columns["iscrowd"]
    first = np.zeros(len(kept), bool)
    for class_id in range(len(CLASSES)):
        first[np.flatnonzero(crowds & (kept.class_ids == class_id))[:1]] = True
    assert found.columns["iscrowd"].tolist() == first.tolist()
    others = int((crowds & ~first).sum())
    assert any(note.startswith(f"{others} crowd regions") for note in target.notes) == (others > 0)


def test_official_names_keep_their_ids_and_others_get_free_ones(tmp_path):
    masks = Masks.from_crops([np.ones((1, 1), bool)] * 4, [[i, 0] for i in range(4)], SIZE)
    scene = Instances(SIZE, masks, [2, 0, 1, 0], classes=STREET)
    folder, name, _ = written(tmp_path, scene, classes=STREET)
    assert json.loads((folder / "classes.json").read_text()) == {"car": 26, "person": 24, "cell": 25}
    stem = name.removesuffix("_leftImg8bit.png")
    stored = cv2.imread(str(folder / "gtFine" / f"{stem}_gtFine_instanceIds.png"), -1)
    assert stored.dtype == np.uint16
    assert stored[0, :5].tolist() == [25000, 26000, 24000, 26001, 0]


def test_the_most_objects_and_classes(tmp_path):
    array = np.arange(1, 1102).reshape(-1, 3)
    scene = Instances(array.shape, Masks.from_label_image(array), np.zeros(1101, np.int64), classes=CLASSES)
    (tmp_path / "set").mkdir()
    target = cityscapes.TARGET(tmp_path / "set", CLASSES)
    path = picture(tmp_path, "a.png", array.shape)
    with pytest.raises(AnnotationError, match=r"a\.png: has more than 1000 objects of class 'cell'.*Remedy"):
        target.add(Picture("a.png", path, 1), scene)
    target.add(Picture("b.png", path, 1), scene[:1000])
    target.finish()
    assert cityscapes.open_source(tmp_path / "set").read(0).masks == scene[:1000].masks
    (tmp_path / "many").mkdir()
    cityscapes.TARGET(tmp_path / "many", ClassMap(tuple(map(str, range(41)))))
    with pytest.raises(AnnotationError, match="42 classes"):
        cityscapes.TARGET(tmp_path / "many", ClassMap(tuple(map(str, range(42)))))


# ---- layouts as the data set has them


def test_stuff_is_no_object_and_groups_are_crowds(tmp_path):
    picture(tmp_path, PHOTOGRAPH)
    label(tmp_path)
    source = cityscapes.open_source(tmp_path)
    assert [(p.name, p.split) for p in source.pictures] == [("val/bonn/bonn_000001_leftImg8bit.png", "val")]
    found = source.read(0)
    assert names_of(found) == ["person", "person", "person", "car"]
    assert found.masks.offsets[:, 1].tolist() == [3, 4, 2, 5]  # rows of the picture: the group comes last
    assert found.columns["iscrowd"].tolist() == [False, False, True, False]
    assert source.classes.ids == tuple(range(24, 34))
    assert cityscapes.detect(tmp_path)
    assert not labels.detect(tmp_path)


def test_one_folder_and_the_label_folder_alone(tmp_path):
    picture(tmp_path / "flat", "x_leftImg8bit.png")
    label(tmp_path / "flat", "x_gtFine_instanceIds.png")
    source = cityscapes.open_source(tmp_path / "flat")
    assert source.pictures[0].path == tmp_path / "flat" / "x_leftImg8bit.png"
    assert cityscapes.detect(tmp_path / "flat")
    assert not labels.detect(tmp_path / "flat")

    picture(tmp_path, PHOTOGRAPH)
    label(tmp_path)
    inside = cityscapes.open_source(tmp_path / "gtFine")
    assert inside.pictures[0].path == tmp_path / PHOTOGRAPH
    (tmp_path / PHOTOGRAPH).unlink()
    alone = cityscapes.open_source(tmp_path / "gtFine")
    assert (alone.pictures[0].path, len(alone.read(0))) == (None, 4)
    assert "has no picture bonn_000001_leftImg8bit.png" in alone.problems[0].message
    elsewhere = picture(tmp_path / "photographs", "bonn_000001.jpg")
    (found,) = cityscapes.open_source(tmp_path / "gtFine", tmp_path / "photographs").pictures
    assert (found.path, found.name) == (elsewhere, "val/bonn/bonn_000001.jpg")


def test_fine_labels_come_before_coarse_ones(tmp_path):
    label(tmp_path)
    label(tmp_path, LABEL.replace("gtFine", "gtCoarse"), rows=(0,))
    other = LABEL.replace("gtFine", "gtCoarse").replace("000001", "000002")
    label(tmp_path, other, rows=(24000,))
    source = cityscapes.open_source(tmp_path)
    assert [len(source.read(i)) for i in range(len(source.pictures))] == [1, 4]


def test_a_list_of_foreign_classes(tmp_path):
    label(tmp_path, rows=(7, 7000, 24))
    (tmp_path / "classes.json").write_text('{"Größe": 7, "b": 24}', encoding="utf-8")
    found = cityscapes.open_source(tmp_path).read(0)
    assert names_of(found) == ["Größe", "Größe", "b"]
    assert found.columns["iscrowd"].tolist() == [False, True, True]


# ---- damaged


def test_an_object_of_an_unknown_class_is_named_and_the_others_are_read(tmp_path):
    label(tmp_path, rows=(24000, 7003, 60000))
    source = cityscapes.open_source(tmp_path)
    with pytest.raises(
        AnnotationError, match=r"instanceIds\.png: object 7003: is of class 7, .*Remedy: add it to"
    ):
        source.read(0)
    found = []
    assert names_of(source.read(0, found)) == ["person"]
    assert [(p.where, p.left_out) for p in found] == [
        ("object 7003", "the object"),
        ("object 60000", "the object"),
    ]


@pytest.mark.parametrize(
    "text", ["[1]", '{"a": "b"}', '{"a": 99}', '{"a": true}', '{"a": 1, "b": 1}', "{", "\xff"]
)
def test_broken_lists_of_classes(tmp_path, text):
    label(tmp_path)
    (tmp_path / "classes.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"classes\.json.*Remedy"):
        cityscapes.open_source(tmp_path)


def test_labels_that_do_not_fit(tmp_path):
    picture(tmp_path, PHOTOGRAPH, (9, 6))
    path = label(tmp_path)
    source = cityscapes.open_source(tmp_path)
    with pytest.raises(AnnotationError, match="labels are 6 x 9 .* is 9 x 6; .*sides are swapped"):
        source.read(0)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="truncated"):
        source.read(0, [])
    with pytest.raises(DataError, match="holds no file"):
        cityscapes.open_source(tmp_path / "leftImg8bit")
    with pytest.raises(DataError, match="not found"):
        cityscapes.open_source(tmp_path / "absent")
    assert not cityscapes.detect(tmp_path / "leftImg8bit")
    assert not cityscapes.detect(tmp_path / "absent")


def test_pictures_elsewhere_than_the_folder_written(tmp_path):
    scene = random_scene(np.random.default_rng(3), SIZE, 4)
    folder, name, _ = written(tmp_path, scene, pictures=False)
    (found,) = cityscapes.open_source(folder, tmp_path / "from").pictures
    assert (found.name, found.path) == (name, tmp_path / "from" / "a.png")
