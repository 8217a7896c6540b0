"""YOLO segmentation: exact round trips, bridges that flip no pixel, layouts as tools write them, damaged labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import yolo
from apiece.data.formats.base import Picture
from apiece.data.formats.bridges import joined
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"


def picture(folder, name, size=(8, 8)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def text(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def written(folder, scene, classes=CLASSES, split="", name="a.png", pictures=True):
    """A data set of one picture; the folder of the pictures is beside it."""
    path = picture(folder / "from", name, scene.size)
    (folder / "set").mkdir()
    target = yolo.TARGET(folder / "set", classes, pictures=pictures)
    given = target.add(Picture(name, path, 1, scene.size, split), scene)
    target.finish()
    return folder / "set", given


def lenient(source):
    found = []
    return source.read(0, found), found


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder, name = written(tmp_path_factory.mktemp("yolo"), scene)
    source = yolo.open_source(folder)
    assert [one.name for one in source.pictures] == [name]
    same(source.read(0), expected(scene, yolo.TARGET.holds), yolo.TARGET.holds)
    assert source.classes.names == CLASSES.names
    assert yolo.detect(folder)
    assert yolo.detect(folder / "data.yaml")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.2, 0.5, 0.7]))
def test_bridges_flip_no_pixel_whatever_they_cross(seed, height, width, share):
    dense = np.random.default_rng(seed).random((1, height, width)) < share
    masks = Masks.from_dense(dense)
    outer = Masks.from_polygons([[(ring, []) for ring, _ in masks.to_polygons()[0]]], (height, width))
    rings = [ring for ring, _ in outer.to_polygons()[0]]
    if not rings:
        return
    ring = joined(rings)
    # As a bitmap of even and odd crossings, holes and islands of bridges would show.
    assert Masks.from_polygons([[(ring, [])]], (height, width)) == outer
    assert len(ring) <= sum(map(len, rings)) + 2 * (len(rings) - 1)
    # The same under any scale that keeps pixel centres apart from corners, as other readers scale.
    scaled = Masks.from_polygons(
        [[(ring / [width, height] * [3 * width, 3 * height], [])]], (3 * height, 3 * width)
    )
    assert scaled.areas[0] == 9 * outer.areas[0]


def test_a_bridge_that_crosses_a_filled_part_leaves_it_filled():
    """The rings are given so that the way from the first to the third leads over the second."""
    rings = [np.array([[x, 0.0], [x + 2, 0], [x + 2, 2], [x, 2]]) for x in (0, 8, 4)]
    by_hand = np.concatenate([rings[0], rings[0][:1], rings[1], rings[1][:1], rings[0][:1]])
    by_hand = np.concatenate([by_hand, rings[2], rings[2][:1], rings[0][:1]])
    wanted = Masks.from_polygons([[(ring, []) for ring in rings]], (4, 12))
    assert Masks.from_polygons([[(by_hand, [])]], (4, 12)) == wanted
    assert Masks.from_polygons([[(joined(rings), [])]], (4, 12)) == wanted


def test_bridges_are_the_shortest():
    squares = [
        np.array([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1.0]]) for x, y in ((0, 0), (20, 0), (10, 0))
    ]
    ring = joined(squares)
    steps = np.hypot(*(ring - np.roll(ring, 1, axis=0)).T)
    assert steps.sum() == pytest.approx(3 * 4 + 2 * (9 + 9))


def test_corners_of_a_picture_of_30000_px_come_back(tmp_path):
    size = (29989, 30000)
    corners = [(0, 0), (29990, 29979), (12345, 6789)]
    masks = Masks.from_crops([np.ones((10, 10), bool)] * 3, np.array(corners), size)
    lines = yolo._lines(Instances(size, masks, [0, 0, 0], classes=CLASSES))
    rings = [yolo._ring(yolo._numbers(line)[1], size) for line in lines]
    wanted = [ring for ((ring, _),) in masks.to_polygons()]
    np.testing.assert_allclose(np.array(rings), np.array(wanted), atol=0.0005)
    assert Masks.from_polygons([[(ring, [])] for ring in rings], size) == masks


def test_thousands_of_parts_are_joined_in_seconds(rng):
    masks = Masks.from_dense(rng.random((1, 200, 200)) < 0.3)
    outer = Masks.from_polygons([[(ring, []) for ring, _ in masks.to_polygons()[0]]], masks.size)
    rings = [ring for ring, _ in outer.to_polygons()[0]]
    assert len(rings) > 3000
    assert Masks.from_polygons([[(joined(rings), [])]], masks.size) == outer


def test_splits_same_names_and_unicode(tmp_path, rng):
    (tmp_path / "set").mkdir()
    target = yolo.TARGET(tmp_path / "set", CLASSES)
    scene = [random_scene(rng, (9, 7), count) for count in (2, 0, 1)]
    given = [
        target.add(Picture(name, picture(tmp_path / "from", name, (9, 7)), 1, (9, 7), split), objects)
        for name, split, objects in zip(
            ("größe/ä b.png", "x/ä b.png", "z.png"), ("val", "train", "val"), scene, strict=True
        )
    ]
    target.finish()
    assert given == ["val/ä b.png", "train/ä b-2.png", "val/z.png"]
    assert target.notes
    source = yolo.open_source(tmp_path / "set")
    names = [one.name for one in source.pictures]
    assert sorted(names) == sorted(given)
    for name, objects, split in zip(given, scene, ("val", "train", "val"), strict=True):
        at = names.index(name)
        assert source.pictures[at].split == split
        same(source.read(at), expected(objects, yolo.TARGET.holds), yolo.TARGET.holds)


def test_without_pictures_they_are_found_elsewhere(tmp_path, rng):
    scene = random_scene(rng, (9, 7), 3)
    folder, name = written(tmp_path, scene, pictures=False)
    with pytest.raises(AnnotationError, match=r"a\.txt: has no picture.*name the picture folder"):
        yolo.open_source(folder)
    picture(tmp_path / "from", "unlabelled.png")
    source = yolo.open_source(folder, tmp_path / "from")
    assert [one.name for one in source.pictures] == [name]
    assert "1 picture without a label file" in source.problems[0].message
    same(source.read(0), expected(scene, yolo.TARGET.holds), yolo.TARGET.holds)


# ---- as tools write it


def test_roboflow_export(tmp_path):
    """Roboflow "YOLOv8": paths that climb out of the folder of data.yaml, `valid`, names as a list."""
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['no', 'Größe']\n"
    text(tmp_path, "data.yaml", yaml)
    for split in ("train", "valid"):
        picture(tmp_path, f"{split}/images/{split}_jpg.rf.0a.png")
        text(tmp_path, f"{split}/labels/{split}_jpg.rf.0a.txt", f"1 {SQUARE}\n")
    source = yolo.open_source(tmp_path)
    assert [(one.name, one.split) for one in source.pictures] == [
        ("train/train_jpg.rf.0a.png", "train"),
        ("valid/valid_jpg.rf.0a.png", "val"),
    ]
    assert source.classes == ClassMap(("no", "Größe"), (0, 1))  # `no` is a name, not a truth value
    assert source.read(0).masks.areas.tolist() == [16]
    assert source.read(1).class_ids.tolist() == [1]
    assert [problem.where for problem in source.problems] == ["test"]  # that part isn't there
    assert yolo.detect(tmp_path)


def test_coco128_layout_with_an_absolute_path_and_a_list_of_pictures(tmp_path):
    """Ultralytics' own data sets: a path of another computer, txt lists, names as a dictionary, no text: background."""
    yaml = "path: /home/me/datasets/set\ntrain: train.txt\nval: [images/val, images/more]\nnames:\n  0: a\n  7: b\n"
    text(tmp_path, "data.yaml", yaml)
    text(tmp_path, "train.txt", "./images/train/1.png\n/home/me/datasets/set/images/train/2.png\n")
    for name in ("train/1", "train/2", "val/3", "more/4"):
        picture(tmp_path, f"images/{name}.png")
    text(tmp_path, "labels/train/1.txt", "7 0.5 0.5 0.5 0.25\n")
    source = yolo.open_source(tmp_path / "data.yaml")
    assert [(one.name, one.split) for one in source.pictures] == [
        ("train/1.png", "train"),
        ("train/2.png", "train"),
        ("val/3.png", "val"),
        ("more/4.png", "val"),
    ]
    first = source.read(0)
    assert first.classes.ids == (0, 7)
    assert first.class_ids.tolist() == [1]
    assert first.columns["box_mask"].tolist() == [True]
    assert first.masks.boxes.tolist() == [[2, 3, 6, 5]]
    assert len(source.read(1)) == 0
    assert "box_mask" not in source.read(1).columns


def test_classes_txt_and_no_names_at_all(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path, f"images/{name}.png")
    text(tmp_path, "labels/a.txt", f"2 {SQUARE}\n")
    assert yolo.open_source(tmp_path).classes == ClassMap(("class 0", "class 1", "class 2"), (0, 1, 2))
    text(tmp_path, "classes.txt", "x\ny\nz\n")
    source = yolo.open_source(tmp_path)
    assert source.classes.names == ("x", "y", "z")
    assert len(source.pictures) == 2
    assert yolo.detect(tmp_path)


def test_texts_beside_the_pictures(tmp_path):
    """Darknet and labelImg: no folders, classes.txt in between."""
    picture(tmp_path, "a.png")
    text(tmp_path, "a.txt", f"0 {SQUARE}\n")
    text(tmp_path, "classes.txt", "cell\n")
    source = yolo.open_source(tmp_path)
    assert yolo.detect(tmp_path)
    assert [one.name for one in source.pictures] == ["a.png"]
    assert source.read(0).masks.areas.tolist() == [16]


# ---- wrong data

LINES = [
    ("0 0.1 0.1 0.5 0.1 0.5", r"5 coordinates; expected x and y of at least three points, an even number"),
    ("0 0.1 0.1", "2 coordinates"),
    ("0", "0 coordinates"),
    ("5 " + SQUARE, "the class 5, which has no name; expected 0 to 2"),
    ("-1 " + SQUARE, "the class -1; expected a whole number"),
    ("0.5 " + SQUARE, r"the class 0\.5"),
    ("0 12 12 64 12 64 64", "coordinates from 12 to 64; expected shares"),
    ("0 nan 0 1 0 1 1", "not finite"),
    ("0 0 0 1 0 1 x", "expected a class number and coordinates, all numbers"),
    ("0 0.5 0.5 -0.5 0.5", r"a box of width -0\.5"),
    ("cell " + SQUARE, "all numbers"),
]


@pytest.mark.parametrize("line, message", LINES)
def test_a_line_that_is_none(tmp_path, line, message):
    picture(tmp_path, "images/a.png")
    text(tmp_path, "labels/a.txt", f"\n{line}\n1 {SQUARE}\n")
    text(tmp_path, "data.yaml", "train: images\nnames: [a, b, c]\n")
    source = yolo.open_source(tmp_path)
    with pytest.raises(AnnotationError, match=rf"labels/a\.txt: line 2.*{message}.*Remedy"):
        source.read(0)
    objects, found = lenient(source)
    assert objects.class_ids.tolist() == [1]
    assert [(problem.severity, problem.left_out) for problem in found] == [("error", "the object")]


def test_outlines_that_reach_out_a_little_are_cut_with_a_warning(tmp_path):
    picture(tmp_path, "images/a.png", (80, 80))
    text(tmp_path, "labels/a.txt", "0 -0.05 0 0.5 0 0.5 0.5 -0.05 0.5\n")
    objects, found = lenient(yolo.open_source(tmp_path))
    assert objects.masks.areas.tolist() == [1600]
    assert [problem.severity for problem in found] == ["warning"]
    assert "reaches beyond" in found[0].message
    assert yolo.open_source(tmp_path).read(0).masks.areas.tolist() == [1600]


def test_labels_without_picture(tmp_path):
    picture(tmp_path, "images/a.png")
    for name in ("a", "b"):
        text(tmp_path, f"labels/{name}.txt", f"0 {SQUARE}\n")
    with pytest.raises(AnnotationError, match=r"labels/b\.txt: has no picture"):
        yolo.open_source(tmp_path)
    source = yolo.open_source(tmp_path, strict=False)
    assert len(source.pictures) == 1
    assert source.problems[0].left_out


def test_paths_that_lead_out_are_not_followed(tmp_path):
    picture(tmp_path, "secret/images/x.png")
    folder = tmp_path / "set"
    picture(folder, "images/a.png")
    text(folder, "labels/a.txt", f"0 {SQUARE}\n")
    (folder / "link").symlink_to(tmp_path / "secret", target_is_directory=True)
    lines = f"{tmp_path}/secret/images/x.png\n../secret/images/x.png\nlink/images/x.png\nimages/a.png\n"
    text(folder, "train.txt", lines)
    for value in ("../secret/images", f"{tmp_path}/secret/images", "link/images"):
        text(folder, "data.yaml", f"train: {value}\nval: images\nnames: [a]\n")
        source = yolo.open_source(folder)
        assert [one.path for one in source.pictures] == [folder / "images/a.png"]
    text(folder, "data.yaml", "train: train.txt\nnames: [a]\n")
    source = yolo.open_source(folder, strict=False)
    assert [one.path for one in source.pictures] == [folder / "images/a.png"]
    assert [problem.where for problem in source.problems] == ["line 1", "line 2", "line 3"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("names: [a, a]\n", "more than once"),
        ("names: 5\n", "names is no list of names"),
        ("names: [[a]]\n", "names is no list of names"),
        ("names: {x: a}\n", "names is no list of names"),
        ("names: [a, ''\n", "is not YAML"),
        ("!!python/object/apply:os.system [true]\n", "expected `names:`"),
        ("- a\n", "expected `names:`"),
        ("names: &a [*a]\n", "is not YAML"),
        ("[" * 3000, "is not YAML"),
    ],
)
def test_damaged_settings(tmp_path, content, message):
    picture(tmp_path, "images/a.png")
    text(tmp_path, "labels/a.txt", f"0 {SQUARE}\n")
    text(tmp_path, "data.yaml", content)
    with pytest.raises(AnnotationError, match=rf"data\.yaml: .*{message}"):
        yolo.open_source(tmp_path)


def test_binary_labels_empty_folders_and_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="not found"):
        yolo.open_source(tmp_path / "x")
    with pytest.raises(DataError, match="holds no picture with YOLO labels"):
        yolo.open_source(tmp_path)
    picture(tmp_path, "images/a.png")
    path = text(tmp_path, "labels/a.txt", "")
    text(tmp_path, "data.yaml", "train: images\nnames: [a]\n")
    assert len(yolo.open_source(tmp_path).read(0)) == 0
    path.write_bytes(b"\x89PNG\xff\x00")
    with pytest.raises(AnnotationError, match="is not text"):
        yolo.open_source(tmp_path).read(0)
    assert not yolo.detect(tmp_path)


def test_neighbours_are_not_taken_for_it(tmp_path):
    picture(tmp_path, "images/a.png")
    picture(tmp_path, "labels/a.png")
    assert not yolo.detect(tmp_path)  # label images
    text(tmp_path, "labels/notes.txt", "made in May\n")
    assert not yolo.detect(tmp_path)
    text(tmp_path / "mots", "classes.txt", "car\n")
    text(tmp_path / "mots", "instances_txt/0001.txt", "1 1001 1 375 1242 WSV:2d;1O10\n")
    assert not yolo.detect(tmp_path / "mots")
    assert not yolo.detect(tmp_path / "nothing")
    assert not yolo.detect(picture(tmp_path, "b.png"))


def test_pictures_without_any_label_file_are_no_data_set(tmp_path):
    """As a folder of another format, forced to be read as this one, would silently have no object."""
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="no picture with YOLO labels"):
        yolo.open_source(tmp_path, strict=False)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    source = yolo.open_source(tmp_path)
    assert [(problem.severity, problem.code) for problem in source.problems] == [("warning", "no-label")]
    assert len(source.read(0)) == 0
