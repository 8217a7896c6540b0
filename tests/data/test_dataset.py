"""Datasets on disk: both layouts, and every way in which label and picture fail to meet."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.data.dataset import Dataset, match_names, open_dataset
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.errors import AnnotationError, DataError, GeometryError


def folder(
    root: Path, names: Sequence[str] = ("a", "b"), size: tuple[int, int] = (20, 30), labels: str = "labels"
) -> Path:
    for kind in ("images", labels):
        (root / kind).mkdir(parents=True)
    values = np.zeros(size, dtype=np.uint16)
    values[2:6, 3:9], values[10:12, 1:5] = 7, 300
    for i, name in enumerate(names):
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.full((*size, 3), (10, 20, 30 + i), np.uint8))
        cv2.imwrite(str(root / labels / f"{name}.png"), values)
    return root


def coco(root: Path, names: Sequence[str] = ("a.png", "b.png"), first: int = 4) -> Path:
    document = {
        "images": [
            {"id": first + i, "file_name": name, "height": 20, "width": 30} for i, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": first, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}
        ],
    }
    path = root / "labels.json"
    path.write_text(json.dumps(document))
    return path


# ---- label images


def test_label_images(tmp_path: Path):
    data = open_dataset(folder(tmp_path), class_name="cell")
    sample = data[0]
    assert isinstance(sample, Sample)
    assert len(data) == 2
    assert sample.image[0, 0].tolist() == [30, 20, 10]  # RGB, while OpenCV writes BGR
    assert sample.instances.masks.areas.tolist() == [24, 8]
    assert sample.instances.columns["label"].tolist() == [7, 300]
    assert data.classes.names == ("cell",)
    assert data.image_ids == (1, 2)
    assert [s.path for s in data] == [str(tmp_path / "images" / f"{n}.png") for n in "ab"]
    assert data[-1].image_id == 2
    with pytest.raises(IndexError):
        data[2]


@pytest.mark.parametrize("kind", ["uint8 png", "uint16 png", "palette png", "int32 tif", "uint16 tif"])
def test_labels_of_every_usual_kind_give_the_same_objects(tmp_path: Path, kind: str):
    root = folder(tmp_path, ["a"])
    labels = np.zeros((20, 30), np.uint8)
    labels[2:6, 3:9], labels[10:12, 1:5] = 1, 200
    (root / "labels" / "a.png").unlink()
    dtype, suffix = kind.split()
    path = root / "labels" / f"a.{suffix}"
    if dtype == "palette":
        picture = Image.fromarray(labels, "L").convert("P")
        picture.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
        picture.putdata(labels.reshape(-1).tolist())
        picture.save(path)
    else:
        Image.fromarray(labels.astype(dtype)).save(path)
    found = open_dataset(root)[0].instances
    assert found.columns["label"].tolist() == [1, 200]
    assert found.masks.areas.tolist() == [24, 8]


def test_masks_named_after_their_picture(tmp_path: Path):
    root = folder(tmp_path, labels="masks")
    for name in "ab":
        (root / "masks" / f"{name}.png").rename(root / "masks" / f"{name}_mask.png")
    assert len(open_dataset(root)[1].instances) == 2


def test_an_empty_label_is_a_picture_without_objects(tmp_path: Path):
    root = folder(tmp_path)
    cv2.imwrite(str(root / "labels" / "a.png"), np.zeros((20, 30), np.uint8))
    data = open_dataset(root)
    assert len(data[0].instances) == 0
    assert data[0].instances.size == (20, 30)


def test_a_missing_counterpart_is_named_and_left_out_only_on_request(tmp_path: Path):
    root = folder(tmp_path, ["a", "b", "c"])
    (root / "labels" / "b.png").unlink()
    (root / "images" / "c.png").unlink()
    with pytest.raises(
        DataError, match=r"b\.png\) without a label image.*c\.png\) without a picture.*Remedy"
    ):
        open_dataset(root)
    data = open_dataset(root, allow_unlabelled=True)
    assert data.stems == ("a",)
    assert data.left_out == (root / "images" / "b.png", root / "labels" / "c.png")
    # A subset asks only for its own pictures.
    assert Dataset.from_label_folder(root, names=["a"]).left_out == ()
    with pytest.raises(DataError, match=r"b\.png"):
        Dataset.from_label_folder(root, names=["a", "b"])


def test_two_pictures_of_one_stem_are_refused(tmp_path: Path):
    root = folder(tmp_path)
    cv2.imwrite(str(root / "images" / "a.jpg"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.jpg and a\.png share the stem 'a'"):
        open_dataset(root)


def test_a_label_of_another_size_names_both_files_and_sizes(tmp_path: Path):
    root = folder(tmp_path)
    cv2.imwrite(str(root / "labels" / "a.png"), np.zeros((21, 30), np.uint16))
    with pytest.raises(AnnotationError, match=r"21 x 30 \(height x width\)") as caught:
        open_dataset(root)[0]
    for part in (root / "images" / "a.png", root / "labels" / "a.png", "20 x 30", "Remedy"):
        assert str(part) in str(caught.value)
    assert "EXIF" not in str(caught.value)


def test_a_label_drawn_on_the_unturned_picture_is_told_from_exif(tmp_path: Path):
    """A camera's picture, stored lying and turned by its EXIF tag; labels that ignore the tag do not fit."""
    root = folder(tmp_path, ["a"])
    (root / "images" / "a.png").unlink()
    lying = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    tag = lying.getexif()
    tag[0x0112] = 6
    lying.save(root / "images" / "a.jpg", exif=tag)
    data = open_dataset(root)
    for read in (lambda: data[0], lambda: data.instances(0)):
        with pytest.raises(AnnotationError, match=r"20 x 30 .* is 30 x 20;.*EXIF"):
            read()
    cv2.imwrite(str(root / "labels" / "a.png"), np.ones((30, 20), np.uint16))
    assert data[0].instances.masks.areas.tolist() == [600]


def test_a_coloured_label_is_refused(tmp_path: Path):
    root = folder(tmp_path)
    cv2.imwrite(str(root / "labels" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(AnnotationError, match=r"labels/a\.png.*colour"):
        open_dataset(root)[0]


# ---- COCO


def test_coco_with_its_pictures(tmp_path: Path):
    data = open_dataset(coco(folder(tmp_path)))
    assert data.image_ids == (4, 5)
    assert data[0].instances.masks.areas.tolist() == [64]
    assert len(data[1].instances) == 0
    assert data.classes.names == ("cell",)
    assert data.instances(0) == data[0].instances


@pytest.mark.parametrize("place", ["images", "labels", ".", "../images"])
def test_the_pictures_of_a_document_are_found(tmp_path: Path, place: str):
    root = tmp_path / "deep"
    pictures = root / place
    pictures.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(pictures / name), np.zeros((20, 30, 3), np.uint8))
    data = open_dataset(coco(root))
    assert [path.resolve() for path in data.paths] == [(pictures / n).resolve() for n in ("a.png", "b.png")]
    assert len(open_dataset(root)) == 2  # the folder's only document
    assert len(open_dataset(root, images=pictures)) == 2


def test_pictures_that_are_not_there_are_named(tmp_path: Path):
    root = folder(tmp_path)
    path = coco(root, ["a.png", "b.png", "gone.png"])
    with pytest.raises(DataError, match=r"1 file \(gone\.png\) not found"):
        open_dataset(path)
    data = open_dataset(path, allow_unlabelled=True)
    assert data.image_ids == (4, 5)
    assert data.left_out == (root / "images" / "gone.png",)
    with pytest.raises(DataError, match="none of its 1 pictures"):
        open_dataset(coco(root, ["gone.png"]))


def test_a_document_of_another_size_than_its_picture(tmp_path: Path):
    path = coco(folder(tmp_path, size=(20, 31)))
    with pytest.raises(AnnotationError, match=r"labels\.json: image 4: .*20 x 30 .*a\.png is 20 x 31"):
        open_dataset(path)[0]


def test_a_broken_document_is_refused_when_opened(tmp_path: Path):
    path = coco(folder(tmp_path))
    document = json.loads(path.read_text())
    document["annotations"][0]["category_id"] = 9
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="annotation 1: has category 9"):
        open_dataset(path)


# ---- what is neither


def test_what_is_no_dataset(tmp_path: Path):
    with pytest.raises(DataError, match="not found"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="no annotation format"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        open_dataset(tmp_path)
    for name in ("x.json", "y.json"):
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / "two" / name).write_text("{}")
    with pytest.raises(DataError, match=r"2 documents.*x\.json, y\.json.*name the one"):
        open_dataset(tmp_path / "two")


# ---- parts of a dataset


@pytest.mark.parametrize("layout", ["labels", "coco"])
def test_a_subset_names_pictures_by_stem_or_file_name(tmp_path: Path, layout: str):
    root = folder(tmp_path / "d", ["a", "b", "c.d"])
    path = root if layout == "labels" else coco(root, ["a.png", "b.png", "c.d.png"], first=1)
    names = tmp_path / "s.txt"
    names.write_text("# held out\n\nc.d\n  b.png  \n")
    data = open_dataset(path, subset=names)
    assert data.stems == ("b", "c.d")
    assert data.image_ids == (2, 3)  # as in the whole dataset
    names.write_text("b\ncc.d\n")
    with pytest.raises(DataError, match=r"'cc\.d'.*Did you mean 'c\.d'"):
        open_dataset(path, subset=names)
    names.write_text("# nothing\n")
    with pytest.raises(DataError, match="lists no picture"):
        open_dataset(path, subset=names)
    with pytest.raises(DataError, match="not a readable list"):
        open_dataset(path, subset=tmp_path / "none.txt")


@pytest.mark.parametrize("layout", ["labels", "coco"])
def test_parts_read_the_same_samples(tmp_path: Path, layout: str):
    root = folder(tmp_path, "abcd")
    data = open_dataset(root if layout == "labels" else coco(root, [f"{n}.png" for n in "abcd"]))
    whole = list(data)
    parts = {
        "slice": (data[1:3], [1, 2]),
        "backwards": (data[::-1], [3, 2, 1, 0]),
        "select": (data.select([2, 0, 2]), [2, 0, 2]),
        "select of slice": (data[1:].select([1]), [2]),
        "subset": (data.subset(["d", "b.png"]), [1, 3]),
        "empty": (data[:0], []),
    }
    for name, (part, indices) in parts.items():
        assert isinstance(part, Dataset), name
        assert len(part) == len(indices), name
        for sample, index in zip(part, indices, strict=True):
            assert sample.image_id == whole[index].image_id, name
            assert sample.path == whole[index].path, name
            assert (sample.image == whole[index].image).all(), name
            assert sample.instances == whole[index].instances, name


def test_groups_follow_their_pictures(tmp_path: Path):
    data = open_dataset(folder(tmp_path, "abc"))
    assert data.groups is None
    grouped = data.with_groups({"a": "dark", "b": "light", "c": "dark", "else": "x"})
    assert grouped.groups == ("dark", "light", "dark")
    assert grouped[1:].groups == ("light", "dark")
    assert grouped.select([2, 1]).groups == ("dark", "light")
    assert data.groups is None
    with pytest.raises(DataError, match=r"1 of 3 pictures have no group \('c.png'\)"):
        data.with_groups({"a": "dark", "b": "light"})


def test_groups_and_names_are_those_of_a_split(tmp_path: Path):
    """A table of file names or paths serves training as it serves `apiece split`."""
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
        cv2.imwrite(str(tmp_path / part / "a.png"), np.zeros((20, 30, 3), np.uint8))
    data = open_dataset(coco(tmp_path, ["x/a.png", "y\\a.png"]))
    assert data.names == ("x/a.png", "y\\a.png")
    assert data[1:].names == ("y\\a.png",)
    assert data.with_groups({"x/a.png": "1", "y/a.png": "2"}).groups == ("1", "2")
    with pytest.raises(DataError, match="'a' is the name of 2 pictures"):
        data.with_groups({"a": "1"})
    plain = open_dataset(folder(tmp_path / "f"))
    assert plain.with_groups({"a.png": "1", "b": "2"}).groups == ("1", "2")


def test_classes_keep_their_names_in_another_list(tmp_path: Path):
    data = open_dataset(folder(tmp_path), class_name="cell")
    wide = data.with_classes(ClassMap(("leaf", "cell"), (7, 9)))
    assert wide.classes.ids == (7, 9)
    assert wide[0].instances.class_ids.tolist() == [1, 1]
    assert wide[0].instances.columns["label"].tolist() == [7, 300]
    assert wide.instances(1).class_ids.tolist() == [1, 1]
    again = wide.with_classes(ClassMap(("cell", "leaf")))
    assert again[0].instances.class_ids.tolist() == [0, 0]
    assert again.names == data.names
    with pytest.raises(DataError, match="the class 'cell' of the data is not among"):
        data.with_classes(ClassMap(("leaf",)))


def test_a_class_name_is_given_to_label_images_wherever_pictures_lie(tmp_path: Path):
    root = folder(tmp_path / "d")
    (root / "images").rename(tmp_path / "elsewhere")
    data = open_dataset(root, tmp_path / "elsewhere", format="labels", class_name="cell")
    assert data.classes.names == ("cell",)
    assert data[0].instances.classes.names == ("cell",)


@pytest.mark.parametrize("layout", ["labels", "coco"])
def test_datasets_travel_to_other_processes(tmp_path: Path, layout: str):
    root = folder(tmp_path)
    data = open_dataset(root if layout == "labels" else coco(root))
    again = pickle.loads(pickle.dumps(data))
    assert again[0].instances == data[0].instances
    assert (again[1].image == data[1].image).all()


def test_a_sample_whose_parts_disagree_is_refused():
    classes = discs(np.random.default_rng(0), (9, 9), 0).instances.classes
    objects = Instances.empty((9, 9), classes)
    with pytest.raises(GeometryError, match=r"\(9, 8\) \(height, width\).*\(9, 9\)"):
        Sample(np.zeros((9, 8, 3), np.uint8), objects, "x.png")
    with pytest.raises(GeometryError, match=r"x\.png: picture is float64"):
        Sample(np.zeros((9, 9, 3)), objects, "x.png")
    with pytest.raises(GeometryError, match="sample: picture is uint8"):
        Sample(np.zeros((9, 9), np.uint8), objects)


# ---- real data


@pytest.mark.needs_shared
def test_the_nuclei(shared: Path):
    data = open_dataset(shared / "dsb2018_train_full664", class_name="nucleus")
    rows = json.loads((shared / "dsb2018_train_full664" / "index.json").read_text())
    index = {row["id"]: row for row in rows}
    assert len(data) == len(index) == 664
    grouped = data.with_groups({name: row["bg"] for name, row in index.items()})
    assert set(grouped.groups) == {row["bg"] for row in rows}
    for i in range(0, 664, 60):
        row, sample = index[data.stems[i]], data[i]
        assert (*sample.size, len(sample.instances)) == (row["h"], row["w"], row["n"])


@pytest.mark.needs_shared
def test_the_pedestrians(shared: Path):
    data = open_dataset(shared / "pennfudan", class_name="person")
    assert len(data) == 170
    assert sum(len(data.instances(i)) for i in range(170)) == 423


@pytest.mark.needs_shared
def test_coco128(shared: Path):
    data = open_dataset(shared / "coco128" / "instances.json")
    assert len(data) == 128
    assert len(data.classes) == 80
    assert sum(len(data.instances(i)) for i in range(128)) == 939
    assert data[5].size == data[5].instances.size


def test_a_whole_path_in_a_subset_means_that_file_alone():
    files = ["x.png", "a/x.png", "b/y.png"]
    assert match_names(files, ["x.png"], "set") == {"x.png"}
    assert match_names(files, ["x"], "set") == {"x.png", "a/x.png"}
    assert match_names(files, ["a/x.png", "y"], "set") == {"a/x.png", "b/y.png"}
