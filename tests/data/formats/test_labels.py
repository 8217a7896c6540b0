"""Label images: exact round trips, layouts of StarDist and Cellpose, OME-TIFF judged by ome-types, damaged files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import labels, mask_files
from apiece.data.formats.base import Picture
from apiece.data.label_folder import pair_files
from apiece.errors import AnnotationError, DataError, ImageError
from format_scenes import CLASSES, expected, random_scene, same, scenes

HOLDS = labels.TARGET.holds
SQUARES = np.zeros((8, 10), np.uint16)
SQUARES[1:4, 1:4], SQUARES[5:8, 2:9] = 2, 700


def picture(folder, name, size=(8, 10)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, np.zeros(size, np.uint8))
    else:
        write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def label(folder, name, array=SQUARES, **details):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **details)
    else:
        path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())
    return path


def written(folder, scene, name="a.png", pictures=True, microns=None, split="", **options):
    path = picture(folder / "from", name, scene.size)
    (folder / "set").mkdir()
    target = labels.TARGET(folder / "set", CLASSES, pictures=pictures, **options)
    given = target.add(Picture(name, path, 1, scene.size, split, microns), scene)
    target.finish()
    return folder / "set", given, target


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes(), st.sampled_from([None, 0.25, 1 / 3]), st.sampled_from(["", "train", "val"]))
def test_what_is_written_is_read_back(tmp_path_factory, scene, microns, split):
    folder, name, _ = written(tmp_path_factory.mktemp("labels"), scene, microns=microns, split=split)
    source = labels.open_source(folder)
    assert [(one.name, one.split, one.microns) for one in source.pictures] == [(name, split, microns)]
    same(source.read(0), expected(scene, HOLDS), HOLDS)
    assert source.classes.names == ("object",)
    assert not source.problems
    assert labels.detect(folder)
    assert not mask_files.detect(folder)


@settings(max_examples=20, deadline=None)
@given(scenes())
def test_labels_without_pictures_are_read_by_their_own_size(tmp_path_factory, scene):
    folder, _, _ = written(tmp_path_factory.mktemp("labels"), scene, pictures=False)
    source = labels.open_source(folder)
    assert (source.pictures[0].path, source.pictures[0].name) == (None, "a.png")
    same(source.read(0), expected(scene, HOLDS), HOLDS)
    (again,) = labels.open_source(folder, folder.parent / "from").pictures
    assert again.path is not None


def test_hidden_objects_leave_no_gap_in_the_numbers(tmp_path):
    crops = [np.ones((4, 4), bool), np.ones((2, 2), bool), np.ones((6, 6), bool)]
    scene = Instances((8, 8), Masks.from_crops(crops, [[0, 0]] * 3, (8, 8)), [0, 0, 0], classes=CLASSES)
    folder, _, _ = written(tmp_path, scene)
    assert np.unique(cv2.imread(str(folder / "labels" / "a.png"), -1)).tolist() == [0, 1, 2]


def test_more_than_65535_objects_go_to_tiff_of_32_bits_and_a_note_says_so(tmp_path):
    array = np.arange(70_000).reshape(250, 280)
    masks = Masks.from_label_image(array)
    scene = Instances(array.shape, masks, np.zeros(len(masks), np.int64), classes=CLASSES)
    folder, _, target = written(tmp_path, scene)
    assert "69,999 objects" in target.notes[0]
    assert "labels/a.tif" in target.notes[0]
    stored = tifffile.imread(folder / "labels" / "a.tif")
    assert stored.dtype == np.uint32
    np.testing.assert_array_equal(stored, array)
    assert labels.open_source(folder).read(0).masks == masks


# ---- width of a pixel


def test_ome_tiff_says_what_ome_types_reads(tmp_path):
    import ome_types

    scene = random_scene(np.random.default_rng(1), (21, 33), 5)
    folder, _, _ = written(tmp_path, scene, name="plate 1/Größe.ome.tif", microns=0.325)
    path = folder / "labels" / "Größe.ome.tif"
    pixels = ome_types.from_tiff(path).images[0].pixels
    assert (pixels.physical_size_x, pixels.physical_size_y) == (0.325, 0.325)
    assert pixels.physical_size_x_unit.value == pixels.physical_size_y_unit.value == "µm"
    assert (pixels.size_x, pixels.size_y, pixels.type.value) == (33, 21, "uint16")
    assert (folder / "images" / "Größe.ome.tif").is_file()
    assert labels.open_source(folder).pictures[0].microns == 0.325


def test_png_can_be_demanded_though_it_loses_the_width(tmp_path):
    scene = random_scene(np.random.default_rng(1), (21, 33), 5)
    folder, _, _ = written(tmp_path, scene, microns=0.325, ome=False)
    assert (folder / "labels" / "a.png").is_file()
    assert labels.open_source(folder).pictures[0].microns is None


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1e-3), ("mm", 1e3), ("µm", 1.0)])
def test_units_become_micrometres_and_the_picture_comes_before_the_label(tmp_path, unit, factor):
    size = {"axes": "YX", "PhysicalSizeX": 4.0, "PhysicalSizeXUnit": unit}
    label(tmp_path / "images", "a.ome.tif", SQUARES, metadata=size)
    label(tmp_path / "labels", "a.ome.tif", SQUARES, metadata={**size, "PhysicalSizeX": 9.0})
    assert labels.open_source(tmp_path).pictures[0].microns == pytest.approx(4 * factor)
    (tmp_path / "images" / "a.ome.tif").unlink()
    picture(tmp_path / "images", "a.png")
    assert labels.open_source(tmp_path).pictures[0].microns == pytest.approx(9 * factor)


def test_xml_that_expands_is_not_expanded(tmp_path):
    bomb = (
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><OME xmlns="http://www.openmicroscopy.org/Schemas'
        '/OME/2016-06"><Image ID="Image:0"><Pixels SizeX="10" SizeY="8" PhysicalSizeX="&a;"/></Image></OME>'
    )
    picture(tmp_path / "images", "a.png")
    label(tmp_path / "labels", "a.tif", SQUARES, description=bomb, metadata=None)
    assert labels.open_source(tmp_path).pictures[0].microns is None


def test_writing_needs_no_imagecodecs(tmp_path):
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "import numpy as np; from pathlib import Path; from apiece.data.formats.ome import write_tiff\n"
        f"write_tiff(Path({str(tmp_path)!r}, 'a.ome.tif'), np.eye(9, dtype=np.uint16), 0.5)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(Path("src").resolve())})
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), np.eye(9))


# ---- layouts as tools have them


def test_names_of_labels_and_subfolders(tmp_path):
    names = {
        "a.jpg": "a.png",
        "b.ome.tif": "b_mask.tif",
        "val/c.png": "val/c_cp_masks.png",
        "c.png": "c_label.bmp",
    }
    for one, other in names.items():
        picture(tmp_path / "images", one)
        label(tmp_path / "masks", other, SQUARES.clip(0, 200).astype(np.uint8))
    source = labels.open_source(tmp_path)
    assert [(p.name, p.split) for p in source.pictures] == [
        ("a.jpg", ""),
        ("b.ome.tif", ""),
        ("c.png", ""),
        ("val/c.png", "val"),
    ]
    for index in range(4):
        assert source.read(index).columns["label"].tolist() == [2, 200]
    assert labels.detect(tmp_path)
    assert len(pair_files(tmp_path, ["val/c.png"]).pairs) == 1
    assert len(pair_files(tmp_path, ["c"]).pairs) == 2


def test_splits_as_stardist_has_them(tmp_path):  # its examples' data: dsb2018/train/images/*.tif, masks/*.tif
    for split in ("train", "test"):
        picture(tmp_path / split / "images", "x.tif")
        label(tmp_path / split / "masks", "x.tif")
    source = labels.open_source(tmp_path)
    assert [(p.name, p.split) for p in source.pictures] == [("train/x.tif", "train"), ("test/x.tif", "test")]
    assert labels.detect(tmp_path)
    assert not mask_files.detect(tmp_path)


def test_one_folder_as_cellpose_has_it(tmp_path):  # cellpose docs, "Training": 001_img.tif and 001_masks.tif
    picture(tmp_path, "001_img.tif")
    label(tmp_path, "001_masks.tif")
    picture(tmp_path, "002.png")
    label(tmp_path, "002_cp_masks.png")
    source = labels.open_source(tmp_path)
    assert [p.name for p in source.pictures] == ["001_img.tif", "002.png"]
    assert [len(source.read(i)) for i in range(2)] == [2, 2]
    assert labels.detect(tmp_path)


def test_labels_alone_are_recognised_only_if_that_is_clear(tmp_path, rng):
    label(tmp_path / "clear", "a.tif")
    assert labels.detect(tmp_path / "clear")
    assert len(labels.open_source(tmp_path / "clear").read(0)) == 2
    assert len(labels.open_source(tmp_path / "clear" / "a.tif").read(0)) == 2
    label(tmp_path / "grey", "a.png", rng.integers(0, 255, (40, 40)).astype(np.uint8))
    label(tmp_path / "smooth", "a.png", np.add.outer(np.arange(40), np.arange(40)).astype(np.uint8))
    label(tmp_path / "binary", "a.png", (SQUARES > 0).astype(np.uint8) * 255)
    picture(tmp_path / "colour", "a.png")
    picture(tmp_path / "photographs", "a.jpg")
    for name in ("grey", "smooth", "binary", "colour", "photographs", "absent"):
        assert not labels.detect(tmp_path / name), name


def test_a_picture_called_as_anothers_label(tmp_path):
    picture(tmp_path / "images", "a.png")
    picture(tmp_path / "images", "a_mask.png")
    label(tmp_path / "labels", "a_mask.png")
    source = labels.open_source(tmp_path, strict=False)
    assert [p.name for p in source.pictures] == ["a_mask.png"]
    assert source.problems[0].file.endswith("a.png")


def test_pictures_of_one_stem_get_labels_of_their_own(tmp_path):
    (tmp_path / "set").mkdir()
    target = labels.TARGET(tmp_path / "set", CLASSES)
    scene = random_scene(np.random.default_rng(0), (8, 10), 3)
    names = [
        target.add(Picture(name, picture(tmp_path / "from", name), 1), scene)
        for name in ("a.ome.tif", "b/a.tif", "c/A.png")
    ]
    target.finish()
    assert names == ["a.ome.tif", "a-2.tif", "A-3.png"]
    assert sorted(p.name for p in labels.open_source(tmp_path / "set").pictures) == sorted(names)


# ---- damaged


def test_files_without_a_counterpart(tmp_path):
    picture(tmp_path / "images", "a.png")
    picture(tmp_path / "images", "b.png")
    label(tmp_path / "labels", "a.png")
    label(tmp_path / "labels", "z.png")
    with pytest.raises(AnnotationError, match=r"b\.png: has no label image.*Remedy: add it"):
        labels.open_source(tmp_path)
    source = labels.open_source(tmp_path, strict=False)
    assert [(p.severity, p.left_out) for p in source.problems] == [("error", "the picture"), ("warning", "")]
    assert [p.name for p in source.pictures] == ["a.png", "z.png"]
    assert [len(source.read(i)) for i in range(2)] == [2, 2]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 10, 3), np.uint8), "a.tif: has 3 channels"),
        (np.zeros((8, 10), np.float32), "a.tif: has 1 channels of float32"),
        (np.zeros((5, 40, 50), np.uint16), "a.tif: holds 5 pages .*split the stack into files"),
        (np.zeros((9, 10), np.uint8), "a.tif: labels are 9 x 10 .*a.png is 8 x 10"),
        (np.full((8, 10), -1, np.int16), "a.tif: holds the label -1"),
    ],
)
def test_what_is_no_label_image(tmp_path, array, message):
    picture(tmp_path / "images", "a.png")
    label(
        tmp_path / "labels",
        "a.tif",
        array,
        photometric="rgb" if array.ndim == 3 and array.shape[2] == 3 else None,
    )
    source = labels.open_source(tmp_path)
    for found in (None, []):
        with pytest.raises(DataError, match=message):
            source.read(0, found)


def test_cut_off_and_empty_files(tmp_path):
    picture(tmp_path / "images", "a.png")
    path = label(tmp_path / "labels", "a.png")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageError, match=r"a\.png: is truncated"):
        labels.open_source(tmp_path).read(0)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="is empty"):
        labels.open_source(tmp_path).read(0)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.png: has no label image"):
        labels.open_source(tmp_path)
    with pytest.raises(DataError, match="not found"):
        labels.open_source(tmp_path / "absent")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="holds no label image"):
        labels.open_source(tmp_path / "nothing")


# ---- real data


@pytest.mark.needs_shared
def test_real_label_images(shared):
    for name, pictures, objects in (("dsb2018_train_full664", 664, None), ("pennfudan", 170, 423)):
        assert labels.detect(shared / name)
        source = labels.open_source(shared / name)
        assert len(source.pictures) == pictures
        if objects is not None:
            assert sum(len(source.read(i)) for i in range(pictures)) == objects
    silver = shared / "ctc" / "Fluo-N2DL-HeLa" / "01_ST" / "SEG"
    assert labels.detect(silver)
    source = labels.open_source(silver)
    assert sum(len(source.read(i)) for i in range(len(source.pictures))) == 618  # of SOURCE.md
    assert not labels.detect(shared / "ctc" / "Fluo-N2DL-HeLa" / "01")


@pytest.mark.needs_shared
def test_a_stack_of_real_labels_is_refused_with_a_sentence(shared):
    folder = shared / "stardist_testdata" / "tests_data"
    assert len(labels.open_source(folder / "mask2d.tif").read(0)) > 10
    with pytest.raises(
        ImageError, match=r"mask3d\.tif: holds 31 pages .*Remedy:.* split the stack into files"
    ):
        labels.open_source(folder / "mask3d.tif").read(0)
