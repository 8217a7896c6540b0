"""Pascal VOC segmentation: exact round trips, LabelMe's exports, splits, void, damaged masks."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import voc
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

HOLDS = voc.TARGET.holds
SIZE = (6, 9)


def picture(folder, name, size=SIZE):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def palette(folder, name, array):
    """A PNG of indices, as imgviz.io.lblsave of LabelMe writes it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, np.uint8)).convert("P")
    image.putpalette(np.random.default_rng(0).integers(0, 255, 768).astype(np.uint8).tobytes())
    image.save(path)
    return path


def two_objects():
    objects, classes = np.zeros((2, *SIZE), np.uint8)
    objects[1:3, 1:4], classes[1:3, 1:4] = 1, 15
    objects[3:6, 4:9], classes[3:6, 4:9] = 3, 1
    objects[0, :], classes[0, :] = 255, 255
    return objects, classes


def dataset(folder, objects=None, classes=None, names=None, suffix=""):
    given = two_objects()
    objects, classes = given[0] if objects is None else objects, given[1] if classes is None else classes
    picture(folder, "JPEGImages/2011_000003.jpg")
    palette(folder, f"SegmentationObject{suffix}/2011_000003.png", objects)
    palette(folder, f"SegmentationClass{suffix}/2011_000003.png", classes)
    if names is not None:
        (folder / "class_names.txt").write_text(names, encoding="utf-8")
    return folder


def written(folder, scene, name="a.jpg", split="", classes=CLASSES, pictures=True):
    path = picture(folder / "from", name, scene.size)
    (folder / "set").mkdir()
    target = voc.TARGET(folder / "set", classes, pictures=pictures)
    given = target.add(Picture(name, path, 1, scene.size, split), scene)
    target.finish()
    return folder / "set", given, target


def names_of(objects):
    return [objects.classes.name_of(int(i)) for i in objects.class_ids]


def lenient(folder):
    found = []
    source = voc.open_source(folder, strict=False)
    return source.read(0, found), [*source.problems, *found]


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes(), st.sampled_from(["", "train", "val", "test"]), st.sampled_from(["a.jpg", "sub/Größe 1.png"]))
def test_what_is_written_is_read_back(tmp_path_factory, scene, split, picture_name):
    folder, name, _ = written(tmp_path_factory.mktemp("voc"), scene, picture_name, split)
    source = voc.open_source(folder)
    assert [(one.name, one.split) for one in source.pictures] == [(name, split)]
    same(source.read(0), expected(scene, HOLDS), HOLDS)
    assert source.classes.names == CLASSES.names
    assert not source.problems
    assert voc.detect(folder)


def test_the_palette_is_vocs_own(tmp_path):
    scene = random_scene(np.random.default_rng(0), SIZE, 4)
    folder, _, _ = written(tmp_path, scene)
    colours = np.array(Image.open(folder / "SegmentationClass" / "a.png").getpalette()).reshape(-1, 3)
    # VOC 2012's first colours and its void, as the development kit lists them.
    assert colours[[0, 1, 2, 3, 4, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_254_objects_and_classes_are_the_most(tmp_path):
    array = np.arange(1, 257).reshape(16, 16)
    masks = Masks.from_label_image(array)
    scene = Instances((16, 16), masks, np.zeros(256, np.int64), classes=CLASSES)
    (tmp_path / "set").mkdir()
    target = voc.TARGET(tmp_path / "set", CLASSES)
    with pytest.raises(
        AnnotationError, match=r"a\.jpg: has 256 objects; a VOC mask holds at most 254.*labels or coco"
    ):
        target.add(Picture("a.jpg", picture(tmp_path, "a.jpg", (16, 16)), 1), scene)
    name = target.add(Picture("b.jpg", picture(tmp_path, "b.jpg", (16, 16)), 1), scene[:254])
    target.finish()
    assert voc.open_source(tmp_path / "set").pictures[0].name == name
    assert voc.open_source(tmp_path / "set").read(0).masks == masks[:254]
    with pytest.raises(AnnotationError, match="255 classes"):
        voc.TARGET(tmp_path, ClassMap(tuple(map(str, range(255)))))


def test_class_names_that_a_line_cannot_hold_are_changed_and_noted(tmp_path):
    classes = ClassMap(("a\nb", " c", "_background_", "d  e"))
    scene = random_scene(np.random.default_rng(0), (20, 20), 5, classes)
    folder, _, target = written(tmp_path, scene, classes=classes)
    assert voc.open_source(folder).classes.names == ("a b", "c", "_background_", "d  e")
    assert len(target.notes) == 2
    with pytest.raises(AnnotationError, match="more than once"):
        voc.TARGET(tmp_path, ClassMap(("c", " c")))


def test_lists_of_splits(tmp_path):
    (tmp_path / "set").mkdir()
    target = voc.TARGET(tmp_path / "set", CLASSES)
    for number, split in enumerate(("train", "val", "", "train")):
        name = f"p{number}.png"
        scene = random_scene(np.random.default_rng(number), SIZE, 2)
        target.add(Picture(name, picture(tmp_path, name), number, SIZE, split), scene)
    target.finish()
    lists = {
        path.stem: path.read_text().split() for path in (tmp_path / "set/ImageSets/Segmentation").iterdir()
    }
    assert lists == {"train": ["p0", "p3"], "val": ["p1"], "trainval": ["p0", "p1", "p2", "p3"]}
    assert [p.split for p in voc.open_source(tmp_path / "set").pictures] == ["train", "val", "", "train"]
    assert "4 pictures in JPEGImages aren't JPEG" in target.notes[0]


# ---- as tools write it


def test_void_is_no_object_and_the_classes_are_vocs(tmp_path):
    source = voc.open_source(dataset(tmp_path))
    found = source.read(0)
    assert found.masks.areas.tolist() == [6, 15]
    assert names_of(found) == ["person", "aeroplane"]
    assert found.columns["label"].tolist() == [1, 3]
    assert len(source.classes) == 20
    assert voc.detect(tmp_path)


@pytest.mark.parametrize("suffix", ["", "PNG"])  # labelme2voc.py since 5.6, and before
@pytest.mark.parametrize("begin", ["__ignore__\n_background_\n", "_background_\r\n", ""])
def test_lists_of_class_names(tmp_path, suffix, begin):
    names = begin + "\n".join(f"Größe {k}" for k in range(1, 16))
    source = voc.open_source(dataset(tmp_path, names=names, suffix=suffix))
    assert names_of(source.read(0)) == ["Größe 15", "Größe 1"]


def test_the_folder_above_and_pictures_elsewhere(tmp_path):
    dataset(tmp_path / "VOCdevkit" / "VOC2012")
    assert voc.detect(tmp_path / "VOCdevkit")
    assert len(voc.open_source(tmp_path / "VOCdevkit").read(0)) == 2
    photographs = tmp_path / "photographs"
    (tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages").rename(photographs)
    source = voc.open_source(tmp_path / "VOCdevkit", photographs)
    assert source.pictures[0].path == photographs / "2011_000003.jpg"
    alone = voc.open_source(tmp_path / "VOCdevkit")
    assert (alone.pictures[0].path, alone.pictures[0].name) == (None, "2011_000003.png")
    assert len(alone.read(0)) == 2
    assert alone.problems[0].severity == "warning"


def test_an_object_of_several_classes_is_of_most(tmp_path):
    objects, classes = two_objects()
    classes[3, 4:6] = 7
    dataset(tmp_path, objects, classes)
    found, (problem,) = lenient(tmp_path)
    assert names_of(found) == ["person", "aeroplane"]
    assert "several classes; most are 'aeroplane'" in problem.message
    assert problem.where == "object 3"
    assert names_of(voc.open_source(tmp_path).read(0)) == ["person", "aeroplane"]


# ---- damaged


@pytest.mark.parametrize(
    ("value", "message"), [(0, "object 3: has no class"), (99, "object 3: has the class 99")]
)
def test_an_object_without_a_class_is_named_and_the_others_are_read(tmp_path, value, message):
    objects, classes = two_objects()
    classes[classes == 1] = value
    dataset(tmp_path, objects, classes)
    with pytest.raises(AnnotationError, match=message):
        voc.open_source(tmp_path).read(0)
    found, (problem,) = lenient(tmp_path)
    assert names_of(found) == ["person"]
    assert found.masks.areas.tolist() == [6]
    assert problem.left_out == "the object"


def test_pixels_of_a_class_without_object_are_said(tmp_path):
    objects, classes = two_objects()
    objects[objects == 3] = 0
    found, (problem,) = lenient(dataset(tmp_path, objects, classes))
    assert len(found) == 1
    assert "has 15 pixels of a class" in problem.message
    assert problem.severity == "warning"


def test_masks_that_do_not_fit(tmp_path):
    dataset(tmp_path, classes=np.zeros((9, 6)))
    with pytest.raises(AnnotationError, match=r"SegmentationClass/2011_000003\.png: labels are 9 x 6"):
        voc.open_source(tmp_path).read(0)
    path = tmp_path / "SegmentationObject" / "2011_000003.png"
    path.write_bytes(cv2.imencode(".png", np.full(SIZE, 300, np.uint16))[1].tobytes())
    with pytest.raises(AnnotationError, match="holds the value 300.*--format labels"):
        voc.open_source(tmp_path).read(0)
    write_image(path, np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(AnnotationError, match="mode RGB"):
        voc.open_source(tmp_path).read(0)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="truncated"):
        voc.open_source(tmp_path).read(0, [])


def test_masks_that_are_absent(tmp_path):
    dataset(tmp_path)
    (tmp_path / "SegmentationClass" / "2011_000003.png").unlink()
    with pytest.raises(AnnotationError, match=r"2011_000003\.png: has no mask of classes"):
        voc.open_source(tmp_path)
    source = voc.open_source(tmp_path, strict=False)
    with pytest.raises(AnnotationError, match="has no mask of classes"):
        source.read(0, [])
    (tmp_path / "SegmentationObject" / "2011_000003.png").unlink()
    with pytest.raises(DataError, match="no masks of objects"):
        voc.open_source(tmp_path)
    with pytest.raises(DataError, match="no masks of objects"):
        voc.open_source(tmp_path / "absent")
    assert not voc.detect(tmp_path)


def test_broken_lists(tmp_path):
    dataset(tmp_path, names="a\n\nb\n")
    with pytest.raises(AnnotationError, match=r"class_names\.txt: class 1 is called ''"):
        voc.open_source(tmp_path)
    (tmp_path / "class_names.txt").write_text("\n".join(map(str, range(300))))
    with pytest.raises(AnnotationError, match="lists 300 classes"):
        voc.open_source(tmp_path)
    (tmp_path / "class_names.txt").write_bytes(b"\xff")
    with pytest.raises(AnnotationError, match="is not text"):
        voc.open_source(tmp_path)


# ---- real data


@pytest.mark.needs_shared
def test_labelmes_example(shared):
    """The export's masks against LabelMe's own drawings of the same pictures: as many objects of each class."""
    root = shared / "labelme_examples" / "instance_segmentation"
    assert voc.detect(root / "data_dataset_voc")
    source = voc.open_source(root / "data_dataset_voc")
    assert [p.name for p in source.pictures] == ["2011_000003.jpg", "2011_000006.jpg", "2011_000025.jpg"]
    for index, one in enumerate(source.pictures):
        found = []
        names = names_of(source.read(index, found))
        assert all(problem.severity == "warning" for problem in found)
        drawn = json.loads((root / "data_annotated" / one.name).with_suffix(".json").read_text())
        groups = {
            (shape["label"], i if shape["group_id"] is None else f"group {shape['group_id']}")
            for i, shape in enumerate(drawn["shapes"])
            if shape["label"] != "__ignore__"
        }
        assert set(names) <= {label for label, _ in groups}
        assert len(groups) - 1 <= len(names) <= len(groups)  # one may be hidden by others

    classes_alone = shared / "labelme_examples" / "video_annotation" / "data_dataset_voc"
    assert voc.detect(classes_alone)
    with pytest.raises(DataError, match="only the class of each pixel.*Remedy: export again with objects"):
        voc.open_source(classes_alone)
