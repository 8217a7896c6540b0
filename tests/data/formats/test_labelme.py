"""LabelMe: exact round trips, documents of versions 3 to 5, LabelMe's own examples, damaged documents."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from apiece.core.image import read_label_image, write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import labelme
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

SQUARE = [[2.0, 1.0], [6.0, 1.0], [6.0, 3.0], [2.0, 3.0]]


def png(array, **how):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **how)
    return base64.b64encode(file.getvalue()).decode()


def shape(label="cell", points=SQUARE, form="polygon", group=None, **more):
    """As LabelMe 5 writes it."""
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": form,
        "flags": {},
        **more,
    }


def document(folder, shapes, name="a.json", **more):
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": name.replace("json", "png"),
        "imageData": None,
        "imageHeight": 8,
        "imageWidth": 12,
    }
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | more, ensure_ascii=False, indent=2), encoding="utf-8")
    return path


def written(folder, scene, name="a.png", path=None):
    target = labelme.TARGET(folder, CLASSES)
    given = target.add(Picture(name, path, 1, scene.size), scene)
    target.finish()
    return given


def lenient(source, index=0):
    found = []
    return source.read(index, found), found


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("labelme")
    name = written(folder, scene)
    source = labelme.open_source(folder)
    assert [(one.name, one.size) for one in source.pictures] == [(name, scene.size)]
    same(source.read(0), expected(scene, labelme.TARGET.holds), labelme.TARGET.holds)
    assert source.classes == CLASSES
    assert labelme.detect(folder)
    assert labelme.detect(folder / "a.json")


def test_shapes_by_what_they_lose_nothing_with(tmp_path):
    frames = np.zeros((4, 8, 12), bool)
    frames[0, 1:4, 1:4] = True
    frames[1, 1:4, 1:4] = frames[1, 5, 5] = True
    frames[2, 1:4, 1:4] = True
    frames[2, 2, 2] = False
    frames[3, 2:5, 6:9] = True
    columns = {"box_mask": [False, False, False, True]}
    scene = Instances((8, 12), Masks.from_dense(frames), [0, 1, 2, 0], classes=CLASSES, columns=columns)
    written(tmp_path, scene)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    shapes = content["shapes"]
    assert [one["shape_type"] for one in shapes] == ["polygon", "polygon", "polygon", "mask", "rectangle"]
    assert [one["group_id"] for one in shapes] == [None, 1, 1, None, None]
    assert content["imagePath"] == "a.png"
    assert content["imageData"] is None
    # What LabelMe 5.3 makes of a mask: utils.shape, mask[y1 : y2 + 1, x1 : x2 + 1] = PNG.
    (x1, y1), (x2, y2) = np.array(shapes[3]["points"], int)
    full = np.zeros((8, 12), bool)
    full[y1 : y2 + 1, x1 : x2 + 1] = np.array(Image.open(io.BytesIO(base64.b64decode(shapes[3]["mask"]))))
    assert np.array_equal(full, frames[2])
    objects = labelme.open_source(tmp_path).read(0)
    assert objects.masks == scene.masks
    assert objects.columns["box_mask"].tolist() == columns["box_mask"]


def test_pictures_are_copied_and_found(tmp_path, rng):
    (tmp_path / "set").mkdir()
    write_image(tmp_path / "a.png", np.zeros((9, 7, 3), np.uint8))
    target = labelme.TARGET(tmp_path / "set", CLASSES)
    made = [random_scene(rng, (9, 7), count) for count in (3, 0)]
    given = [
        target.add(Picture(name, tmp_path / "a.png", 1, (9, 7)), scene)
        for scene, name in zip(made, ("x/ä.png", "y/ä.png"), strict=True)
    ]
    target.finish()
    source = labelme.open_source(tmp_path / "set")
    assert sorted(given) == [one.name for one in source.pictures] == ["ä-2.png", "ä.png"]
    assert [one.path for one in source.pictures] == [tmp_path / "set/ä-2.png", tmp_path / "set/ä.png"]
    same(source.read(1), made[0], labelme.TARGET.holds)
    same(source.read(0), made[1], labelme.TARGET.holds)


# ---- as LabelMe writes it


def test_every_shape_of_version_5(tmp_path):
    mask = np.array([[1, 0, 1], [1, 1, 1]], np.uint8)
    shapes = [
        shape("b", group=1),
        shape("a", group=1),  # another label: another object
        shape("b", [[8, 5], [9, 5], [9, 6], [8, 6]], group=1),
        shape("b", [[4.0, 2.0], [1.0, 5.0]], "rectangle"),
        shape("b", [[6.0, 4.0], [6.0, 7.0]], "circle"),
        shape("a", [[3, 2], [5, 3]], "mask", mask=png(mask)),
        shape("a", [[0, 4], [2, 5]], "mask", mask=png(mask.astype(bool))),
        shape("a", [[1, 1], [2, 2]], "line"),
        shape("a", [[1, 1], [2, 2], [3, 3]], "linestrip"),
        shape("a", [[1, 1]], "point"),
        shape("a", [[1, 1], [2, 2]], "points"),
        shape("__ignore__"),
        shape("_background_"),
    ]
    source = labelme.open_source(document(tmp_path, shapes))
    assert source.classes.names == ("a", "b")
    objects, found = lenient(source)
    assert objects.class_ids.tolist() == [1, 0, 1, 1, 0, 0]
    assert objects.masks.areas[:3].tolist() == [9, 8, 9]
    assert objects.masks.boxes[2].tolist() == [1, 2, 4, 5]
    assert objects.columns["box_mask"].tolist() == [False, False, True, False, False, False]
    y, x = np.mgrid[:8, :12] + 0.5
    frames = objects.masks.to_dense()
    assert np.array_equal(frames[3], (x - 6) ** 2 + (y - 4) ** 2 <= 9)
    assert np.array_equal(frames[4][2:4, 3:6], mask > 0)
    assert np.array_equal(frames[5][4:6, 0:3], mask > 0)
    assert [(problem.severity, problem.left_out) for problem in found] == [("warning", "the shape")] * 6


def test_version_3_with_the_picture_inside(tmp_path):
    """No group_id, shape_type or size; paths with backslashes of another computer; the picture as imageData."""
    old = {
        "version": "3.6.16",
        "flags": {},
        "shapes": [{"label": "dog", "line_color": None, "fill_color": None, "points": SQUARE}],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "..\\pictures\\ä.jpg",
        "imageData": png(np.zeros((8, 12, 3), np.uint8)),
    }
    path = tmp_path / "ä.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    assert labelme.detect(path)
    source = labelme.open_source(path)
    assert [(one.name, one.path, one.size) for one in source.pictures] == [("ä.jpg", None, None)]
    assert source.read(0).size == (8, 12)
    assert source.read(0).masks.areas.tolist() == [8]
    write_image(tmp_path / "ä.jpg", np.zeros((9, 13, 3), np.uint8))  # a file counts more than what is inside
    assert labelme.open_source(path).read(0).size == (9, 13)
    for damaged in ("x", "AAAA", base64.b64encode(b"GIF89a").decode()):
        (tmp_path / "ä.jpg").unlink(missing_ok=True)
        path.write_text(json.dumps(old | {"imageData": damaged}), encoding="utf-8")
        with pytest.raises(DataError, match=r"ä\.json: imageData.*Remedy"):
            labelme.open_source(path).read(0)


def test_labels_txt_gives_the_order(tmp_path):
    folder = tmp_path / "data_annotated"
    document(folder, [shape("b"), shape("a")])
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nc\nb\n")
    assert labelme.open_source(folder).classes.names == ("a", "b")  # one folder up, and it lacks a name
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nc\nb\na")
    assert labelme.open_source(folder).classes.names == ("c", "b", "a")
    (folder / "labels.txt").write_text("x\nb\n")
    assert labelme.open_source(folder).classes.names == ("x", "b", "a")


def test_subfolders_and_a_picture_folder(tmp_path):
    document(tmp_path / "ann", [shape()], "train/a.json")
    document(tmp_path / "ann", [], "val/a.json")
    for name in ("train/a.png", "a.png"):
        (tmp_path / "img" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "img" / name, np.zeros((8, 12, 3), np.uint8))
    source = labelme.open_source(tmp_path / "ann", tmp_path / "img")
    assert [one.name for one in source.pictures] == ["train/a.png", "val/a.png"]
    assert [one.path for one in source.pictures] == [tmp_path / "img/train/a.png", tmp_path / "img/a.png"]
    assert [len(source.read(i)) for i in range(2)] == [1, 0]
    assert labelme.detect(tmp_path / "ann")


@pytest.mark.needs_shared
def test_labelmes_own_example_against_its_voc_and_coco_conversions(shared):
    """Pillow, with which LabelMe draws, takes the outline's pixels in; so masks agree but for their rims."""
    folder = shared / "labelme_examples" / "instance_segmentation"
    source = labelme.open_source(folder / "data_annotated")
    listed = (folder / "data_dataset_voc" / "class_names.txt").read_text().split("\n")
    assert source.classes.names == tuple(name.strip() for name in listed if name.strip() and name[0] != "_")
    coco = json.loads((folder / "data_dataset_coco" / "annotations.json").read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    total = 0
    for i, picture in enumerate(source.pictures):
        objects, found = lenient(source, i)
        assert {problem.severity for problem in found} <= {"warning"}
        labels = read_label_image(
            folder / "data_dataset_voc" / "SegmentationObject" / f"{picture.path.stem}.png"
        )
        labels = np.where(labels == 255, 0, labels)  # __ignore__
        # Later objects hide earlier ones, and numbers follow the shapes' order.
        order = np.zeros(objects.size, int)
        for k, (crop, (x, y)) in enumerate(objects.masks, start=1):
            order[y : y + crop.shape[0], x : x + crop.shape[1]][crop] = k
        numbers = np.unique(labels[labels > 0])  # one of __ignore__ is left out
        assert len(numbers) == len(objects)
        for k, number in enumerate(numbers, start=1):
            ours, theirs = order == k, labels == number
            assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9

        (number,) = [one["id"] for one in coco["images"] if one["file_name"].endswith(picture.path.name)]
        rows = [one for one in coco["annotations"] if one["image_id"] == number]
        theirs = Masks.from_coco([row["segmentation"] for row in rows], objects.size)
        assert [names[row["category_id"]] for row in rows] == [
            objects.classes.name_of(j) for j in objects.class_ids.tolist()
        ]
        assert (objects.masks.iou(theirs).diagonal() > 0.95).all()
        total += len(objects)
    assert total == 12


@pytest.mark.needs_shared
def test_labelmes_video_example(shared):
    source = labelme.open_source(shared / "labelme_examples" / "video_annotation" / "data_annotated")
    assert source.classes.names == ("car", "track")
    for i in range(len(source.pictures)):
        assert source.read(i).class_ids.tolist() == [1, 1, 0]


# ---- wrong data

PNG = png(np.ones((2, 3), np.uint8))
BROKEN = [
    (shape(points=SQUARE[:2]), "2 points; expected at least 3"),
    (shape(points=[[1, 2], [3], [4, 5]]), "not a list of pairs"),
    (shape(points=None), "not a list of pairs"),
    (shape(points=[[1, 1], [2, float("nan")], [3, 3]]), "not a finite number"),
    (shape(points=[[100, 100], [120, 100], [120, 120]]), "lies outside its picture"),
    (shape(form="spline"), "the shape_type 'spline'"),
    (shape(form=["polygon"]), "a shape_type that is a list"),
    (shape(label=None), "the label 'None'; expected a name"),
    (shape(label=" "), "the label ' '"),
    (shape(group=[1]), "a group_id that is a list"),
    (shape(form="circle", points=[[1, 1], [1, 1]]), "the radii 0 and 0"),
    (shape(form="circle", points=[[1, 1]]), "1 points"),
    (shape(form="mask", points=[[1, 1], [3, 2]]), "no mask"),
    (shape(form="mask", points=[[1, 1], [3, 2]], mask="%%"), "a mask that is damaged"),
    (shape(form="mask", points=[[1, 1], [3, 2]], mask=PNG[:40]), "a mask that can't be read|no grey PNG"),
    (shape(form="mask", points=[[1, 1], [9, 2]], mask=PNG), r"a mask of 2 x 3 .*; expected 2 x 9"),
    (shape(form="mask", points=[[1, 1], [3, 2]], mask=png(np.ones((2, 3, 3), np.uint8))), "no grey PNG"),
    (shape(form="mask", points=[[0, 0], [99, 99]], mask=png(np.ones((100, 100), np.uint8))), "10,000 pixels"),
    (5, "is a number; expected an object"),
]


@pytest.mark.parametrize("wrong, message", BROKEN)
def test_a_shape_that_is_none(tmp_path, wrong, message):
    source = labelme.open_source(document(tmp_path, [shape(), wrong]))
    with pytest.raises(AnnotationError, match=rf"a\.json: shapes\[1\].*({message}).*Remedy"):
        source.read(0)
    objects, found = lenient(source)
    assert len(objects) == 1
    assert [(problem.severity, problem.left_out) for problem in found] == [("error", "the object")]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "breaks off"),
        ('{"shapes": [', "breaks off"),
        ("[]", "is a list without a list of shapes"),
        ('{"shapes": {}, "imagePath": "a.png"}', "is an object without a list of shapes"),
        ("\ufffd\ufffd", "is not valid JSON"),
    ],
)
def test_documents_that_are_none(tmp_path, content, message):
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=rf"b\.json: .*{message}.*Remedy"):
        labelme.open_source(path)
    document(tmp_path, [shape()])
    with pytest.raises(AnnotationError, match=message):
        labelme.open_source(tmp_path)
    source = labelme.open_source(tmp_path, strict=False)
    assert len(source.pictures) == 1
    assert [(problem.severity, problem.left_out) for problem in source.problems] == [("error", "the picture")]
    assert not labelme.detect(path)


def test_two_documents_of_one_picture(tmp_path):
    document(tmp_path, [shape()])
    document(tmp_path, [shape()], "b.json", imagePath="./a.png")
    with pytest.raises(AnnotationError, match=r"b\.json: imagePath: labels a\.png, as .*a\.json does"):
        labelme.open_source(tmp_path)
    assert len(labelme.open_source(tmp_path, strict=False).pictures) == 1


def test_paths_that_lead_out_are_not_followed(tmp_path):
    write_image(tmp_path / "out.png", np.zeros((8, 12, 3), np.uint8))
    for name in ("../out.png", str(tmp_path / "out.png")):
        source = labelme.open_source(document(tmp_path / "set", [shape()], imagePath=name))
        assert source.pictures[0].path is None
        assert source.pictures[0].name == "out.png"
        assert len(source.read(0)) == 1  # the size is stated


def test_sizes_that_are_none_or_differ(tmp_path):
    for size in ({"imageHeight": 0}, {"imageWidth": "x"}, {"imageHeight": 10**9, "imageWidth": 10**9}):
        source = labelme.open_source(document(tmp_path, [shape()], **size))
        assert source.problems[0].severity == "warning"
        with pytest.raises(AnnotationError, match="nothing states its size"):
            source.read(0)
    write_image(tmp_path / "a.png", np.zeros((12, 8, 3), np.uint8))
    with pytest.raises(AnnotationError, match="sides are swapped"):
        labelme.open_source(document(tmp_path, [shape()])).read(0)


def test_neighbours_are_not_taken_for_it(tmp_path):
    others = [
        {"images": [], "annotations": [], "categories": []},
        {"type": "FeatureCollection", "features": []},
        [{"data": {"image": "a.png"}, "annotations": []}],
        {"shapes": [], "transform": None},
    ]
    for i, other in enumerate(others):
        path = tmp_path / f"{i}.json"
        path.write_text(json.dumps(other))
        assert not labelme.detect(path)
    assert not labelme.detect(tmp_path)
    assert not labelme.detect(tmp_path / "nothing.json")
    # Longer than what is looked at, with and without the picture in between.
    many = [shape() for _ in range(400)]
    assert labelme.detect(document(tmp_path / "long", many))
    assert labelme.detect(document(tmp_path / "long", many, imageData="A" * 10**6))
    (tmp_path / "coco.json").write_text(
        json.dumps({"annotations": [{"bbox": [0, 0, 1, 1]}] * 9999, "shapes": []})
    )
    assert not labelme.detect(tmp_path / "coco.json")


def test_folders_without_a_document(tmp_path):
    with pytest.raises(DataError, match="holds no LabelMe document"):
        labelme.open_source(tmp_path)
    with pytest.raises(DataError, match="not found"):
        labelme.open_source(tmp_path / "x")
