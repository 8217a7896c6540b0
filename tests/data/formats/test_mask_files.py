"""One mask a file: exact round trips, the three layouts, classes in file names, damaged masks."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import labels, mask_files
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

HOLDS = mask_files.TARGET.holds
SIZE = (8, 10)


def picture(folder, name, size=SIZE):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def mask(folder, name, columns=slice(2, 5), value=255, size=SIZE):
    array = np.zeros(size, np.uint8)
    array[1:4, columns] = value
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())
    return path


def written(folder, scene, classes=CLASSES, name="a.png", pictures=True):
    path = picture(folder / "from", name, scene.size)
    (folder / "set").mkdir()
    target = mask_files.TARGET(folder / "set", classes, pictures=pictures)
    given = target.add(Picture(name, path, 1, scene.size), scene)
    target.finish()
    return folder / "set", given, target


def class_names(objects):
    return [objects.classes.name_of(int(i)) for i in objects.class_ids]


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes(), st.sampled_from(["a.png", "sub/Größe 1.png", "train.png", "0001_cell.png", "a.b.png"]))
def test_what_is_written_is_read_back(tmp_path_factory, scene, picture_name):
    folder, name, _ = written(tmp_path_factory.mktemp("files"), scene, name=picture_name)
    source = mask_files.open_source(folder)
    assert [one.name for one in source.pictures] == [name]
    same(source.read(0), expected(scene, HOLDS), HOLDS)
    assert source.classes.names == CLASSES.names
    assert not source.problems
    assert mask_files.detect(folder)
    assert not labels.detect(folder)


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda name: name.strip()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_any_class_name_is_read_back(tmp_path_factory, names):
    count = len(names)
    classes = ClassMap(tuple(names))
    masks = Masks.from_crops([np.ones((1, 1), bool)] * count, [[i, 0] for i in range(count)], SIZE)
    scene = Instances(SIZE, masks, np.arange(count), classes=classes)
    folder, _, _ = written(tmp_path_factory.mktemp("names"), scene, classes)
    source = mask_files.open_source(folder)
    assert source.classes.names == classes.names
    assert class_names(source.read(0)) == names
    (folder / "classes.txt").unlink()
    assert class_names(mask_files.open_source(folder).read(0)) == names


@pytest.mark.parametrize(
    "name", ["mask", "Labels", "12", "a/b", "..", "CON:", "100%41", " x ", "a\nb", "aux."]
)
def test_class_names_that_files_cannot_have(name):
    assert mask_files.class_of(f"0001_{mask_files.escaped(name)}") == name
    assert not set(mask_files.escaped(name)) & set('/\\:*?"<>|\n')


def test_a_class_name_too_long_for_a_file_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="too long for a file name"):
        mask_files.TARGET(tmp_path, ClassMap(("ß" * 120,)))


def test_one_mask_is_in_memory_at_a_time(tmp_path):
    """200 objects on 1 megapixel would be 200 MB as frames."""
    size = (1000, 1000)
    crops = [np.ones((5, 5), bool)] * 200
    masks = Masks.from_crops(crops, np.random.default_rng(0).integers(0, 990, (200, 2)), size)
    scene = Instances(size, masks, np.zeros(200, np.int64), classes=CLASSES)
    tracemalloc.start()
    folder, _, _ = written(tmp_path, scene)
    found = mask_files.open_source(folder).read(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.masks == masks
    assert peak < 30e6


# ---- layouts as tools have them


def test_the_data_science_bowl(tmp_path):  # stage1_train of Kaggle's Data Science Bowl 2018
    for one in ("00ae65c1", "01d44a26"):
        picture(tmp_path, f"{one}/images/{one}.png")
        mask(tmp_path, f"{one}/masks/07a9bf1d7594af2763c86e93f05d22c4d5181353c6d3ab30a345b908ffe5aadc.png")
        mask(
            tmp_path,
            f"{one}/masks/0e548d0af63ab451616f082eb56bde13eb71f73dfda92a03fbe88ad42ebb4881.png",
            slice(3, 9),
        )
    source = mask_files.open_source(tmp_path)
    assert [p.name for p in source.pictures] == ["00ae65c1.png", "01d44a26.png"]
    found = source.read(0)
    assert class_names(found) == ["object", "object"]
    assert found.masks.areas.tolist() == [18, 9]  # natural order: 0e548 before 07a9
    assert mask_files.detect(tmp_path)
    one = tmp_path / "00ae65c1"
    assert mask_files.detect(one)
    assert len(mask_files.open_source(one).read(0)) == 2


def test_a_folder_of_masks_for_each_stem(tmp_path):
    picture(tmp_path, "images/a b.jpg")
    picture(tmp_path, "images/c.png")
    for number in (1, 2, 10):
        mask(tmp_path, f"masks/a b/{number}_Größe.png", slice(0, number))
    (tmp_path / "masks" / "c").mkdir()
    source = mask_files.open_source(tmp_path)
    assert [p.name for p in source.pictures] == ["a b.jpg", "c.png"]
    assert source.read(0).masks.areas.tolist() == [3, 6, 30]  # natural order: 10 comes last
    assert class_names(source.read(0)) == ["Größe"] * 3
    assert len(source.read(1)) == 0
    assert mask_files.detect(tmp_path)
    assert not labels.detect(tmp_path)


def test_several_numbered_masks_of_a_stem(tmp_path):
    picture(tmp_path, "images/a.png")
    picture(tmp_path, "images/a_1.png")
    mask(tmp_path, "masks/a_0001.png", slice(0, 1))
    mask(tmp_path, "masks/a_0002_dog.png", slice(0, 2))
    mask(tmp_path, "masks/a_1_0001_mask.png", slice(0, 3))
    source = mask_files.open_source(tmp_path)
    assert source.read(0).masks.areas.tolist() == [3, 6]
    assert class_names(source.read(0)) == ["object", "dog"]
    assert source.read(1).masks.areas.tolist() == [9]
    assert source.classes.names == ("dog", "object")
    assert mask_files.detect(tmp_path)
    assert not labels.detect(tmp_path)


def test_pictures_elsewhere_and_none_at_all(tmp_path):
    scene = random_scene(np.random.default_rng(3), SIZE, 4)
    folder, name, _ = written(tmp_path, scene, pictures=False)
    assert mask_files.detect(folder)
    alone = mask_files.open_source(folder)
    assert (alone.pictures[0].path, alone.pictures[0].name) == (None, "a")
    assert alone.read(0).masks == scene.masks
    (found,) = mask_files.open_source(folder, tmp_path / "from").pictures
    assert (found.name, found.path) == (name, tmp_path / "from" / "a.png")


def test_neighbours_are_not_claimed(tmp_path):
    picture(tmp_path, "labelled/images/a.png")
    mask(tmp_path, "labelled/masks/a.png")
    picture(tmp_path, "split/train/images/a.png")
    mask(tmp_path, "split/train/masks/a.png")
    picture(tmp_path, "yolo/images/train/a.png")
    (tmp_path / "yolo" / "labels").mkdir()
    for name in ("labelled", "split", "yolo", "absent"):
        assert not mask_files.detect(tmp_path / name)


# ---- damaged


def two(folder):
    picture(folder, "x/images/x.png")
    mask(folder, "x/masks/1.png", slice(0, 2))
    return mask(folder, "x/masks/2.png", slice(4, 7))


def lenient(folder):
    found = []
    source = mask_files.open_source(folder, strict=False)
    return source.read(0, found), [*source.problems, *found]


def test_a_damaged_mask_is_named_and_the_others_are_read(tmp_path):
    path = two(tmp_path)
    whole = path.read_bytes()
    for content in (whole[:30], b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(AnnotationError, match=r"2\.png: \"object\": .*Remedy: "):
            mask_files.open_source(tmp_path).read(0)
        objects, problems = lenient(tmp_path)
        assert objects.masks.areas.tolist() == [6]
        assert [problem.left_out for problem in problems] == ["the object"]


def test_masks_of_another_size_and_lossy_ones(tmp_path):
    two(tmp_path).unlink()
    mask(tmp_path, "x/masks/2.png", size=(10, 8))
    with pytest.raises(AnnotationError, match=r"2\.png: .*10 x 8 .*x\.png is 8 x 10.*sides are swapped"):
        mask_files.open_source(tmp_path).read(0)
    mask(tmp_path, "x/masks/3.jpg")
    objects, problems = lenient(tmp_path)
    assert len(objects) == 1
    assert ["JPEG" in str(problem) for problem in problems] == [False, True]


def test_masks_that_are_not_binary_and_empty_ones(tmp_path):
    path = two(tmp_path)
    array = np.zeros(SIZE, np.uint8)
    array[0, :3] = 1, 2, 3
    path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
    mask(tmp_path, "x/masks/3.png", value=0)
    objects, (many, none) = lenient(tmp_path)
    assert objects.masks.areas.tolist() == [6, 3]
    assert "holds values from 1 to 3" in many.message
    assert (many.severity, many.left_out) == ("warning", "")
    assert (none.severity, none.left_out) == ("warning", "the object")
    assert len(mask_files.open_source(tmp_path).read(0)) == 2


def test_grey_saved_as_colour_counts_and_colour_does_not(tmp_path):
    path = two(tmp_path)
    grey = cv2.imread(str(path), 0)
    write_image(path, np.repeat(grey[..., None], 3, axis=2))
    assert mask_files.open_source(tmp_path).read(0).masks.areas.tolist() == [6, 9]
    write_image(path, np.stack([grey, grey, 0 * grey], axis=2))
    with pytest.raises(AnnotationError, match="colour or opacity"):
        mask_files.open_source(tmp_path).read(0)
    path.write_bytes(
        cv2.imencode(".png", np.dstack([grey] * 4))[1].tobytes()
    )  # what is transparent would turn white
    with pytest.raises(AnnotationError, match="colour or opacity"):
        mask_files.open_source(tmp_path).read(0)


def test_pictures_without_masks_and_masks_without_pictures(tmp_path):
    two(tmp_path)
    picture(tmp_path, "y/images/y.png")
    with pytest.raises(AnnotationError, match="y: has no folder masks/"):
        mask_files.open_source(tmp_path)
    assert len(mask_files.open_source(tmp_path, strict=False).pictures) == 1
    other = tmp_path / "other"
    picture(other, "images/a.png")
    mask(other, "masks/a_1.png")
    mask(other, "masks/b_1.png")
    with pytest.raises(AnnotationError, match=r"b_1\.png: is the mask of no picture"):
        mask_files.open_source(other)
    source = mask_files.open_source(other, strict=False)
    assert [problem.left_out for problem in source.problems] == ["the object"]
    picture(other, "images/c.png")
    with pytest.raises(AnnotationError, match=r"b_1\.png: .* 1 more problem"):
        mask_files.open_source(other)
    with pytest.raises(DataError, match="holds no masks"):
        mask_files.open_source(tmp_path / "x" / "images")
    with pytest.raises(DataError, match="not found"):
        mask_files.open_source(tmp_path / "absent")


def test_a_broken_list_of_classes(tmp_path):
    two(tmp_path)
    (tmp_path / "classes.txt").write_text("a\na\n")
    with pytest.raises(AnnotationError, match=r"classes\.txt: class name 'a' occurs more than once"):
        mask_files.open_source(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match=r"classes\.txt: is not text"):
        mask_files.open_source(tmp_path)
