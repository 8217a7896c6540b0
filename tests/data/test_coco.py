"""COCO files: what is whole is read as pycocotools reads it, what is not gives one sentence with file and object."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle
from pycocotools.coco import COCO

from apiece.core.masks import Masks
from apiece.data.coco import read_coco, read_predictions
from apiece.data.coco_codes import all_hold
from apiece.errors import AnnotationError
from strategies import instances

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
COLUMN = {"size": [60, 80], "counts": [0, 60, 4740]}


def document() -> dict:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [
            {"id": 11, "image_id": 1, "category_id": 3, "segmentation": SQUARE, "iscrowd": 0},
            {"id": 12, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 5, 0, 5, 6, 0, 6]]},
            {"id": 13, "image_id": 1, "category_id": 3, "iscrowd": 1, "segmentation": COLUMN},
        ],
    }


def write(tmp_path: Path, content: object, name: str = "labels.json") -> Path:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# ---- what is whole


def test_a_whole_document(tmp_path: Path):
    data = read_coco(write(tmp_path, document()))
    found = data.instances(1)
    assert data.problems == ()
    assert data.annotation_count == 3
    assert data.has_masks
    assert found.size == (60, 80)
    assert found.masks.areas.tolist() == [400, 30, 60]
    assert found.columns["iscrowd"].tolist() == [False, False, True]
    assert found.columns["annotation_id"].tolist() == [11, 12, 13]
    assert (found.columns["iscrowd"].dtype, found.columns["annotation_id"].dtype) == (bool, np.int64)
    assert found.classes.names == ("cell",)
    assert found.classes.ids == (3,)
    assert data.image(1).file_name == "a.png"
    with pytest.raises(AnnotationError, match=r"labels\.json: has no image with id 7"):
        data.image(7)


def test_what_the_file_leaves_out_is_filled_in_from_masks(tmp_path: Path):
    kept = read_coco(write(tmp_path, document())).document["annotations"]
    assert [row["area"] for row in kept] == [400, 30, 60]
    assert kept[2]["bbox"] == [0, 0, 1, 60]
    assert [row["iscrowd"] for row in kept] == [0, 0, 1]


def test_a_picture_without_objects_is_ordinary(tmp_path: Path):
    content = document()
    content["images"].append({"id": 2, "file_name": "b.png", "height": 5, "width": 7})
    found = read_coco(write(tmp_path, content)).instances(2)
    assert len(found) == 0
    assert found.size == (5, 7)


def test_a_document_without_anything_is_whole(tmp_path: Path):
    data = read_coco(write(tmp_path, {"images": [], "annotations": [], "categories": []}))
    assert (data.images, data.annotation_count, data.problems) == ((), 0, ())


@given(instances())
@settings(max_examples=40, deadline=None)
def test_what_instances_write_is_read_back(tmp_path_factory: pytest.TempPathFactory, made):
    made = made[made.masks.areas > 0]
    content = {
        "images": [{"id": 5, "file_name": "x.png", "height": made.size[0], "width": made.size[1]}],
        "categories": made.classes.to_coco(),
        "annotations": made.to_coco(5),
    }
    data = read_coco(write(tmp_path_factory.mktemp("round"), content))
    again = data.instances(5)
    assert again.masks == made.masks
    np.testing.assert_array_equal(again.class_ids, made.class_ids)
    if len(made) and made.track_ids is not None:
        np.testing.assert_array_equal(again.track_ids, made.track_ids)
    assert data.problems == ()


def test_a_box_alone_is_a_box_with_an_empty_mask_and_is_said_once(tmp_path: Path):
    content = document()
    content["annotations"][0] |= {"segmentation": None, "bbox": [1, 2, 5, 6.5]}
    content["annotations"][1] |= {"segmentation": [], "bbox": [3, 2, 5, 6]}
    data = read_coco(write(tmp_path, content))
    found = data.instances(1)
    assert not data.has_masks
    assert found.masks.areas.tolist() == [0, 0, 60]
    assert found.boxes[:2].tolist() == [[1, 2, 6, 8.5], [3, 2, 8, 8]]
    assert found.boxes[2].tolist() == [0, 0, 1, 60]
    assert [p.severity for p in data.problems] == ["warning"]
    assert "annotation 11" in str(data.problems[0])
    assert "so have 1 others" in str(data.problems[0])
    assert data.document["annotations"][0]["area"] == 32.5


@pytest.mark.parametrize("kind", [str, float])
def test_ids_of_another_type_are_read_as_integers_and_noted(tmp_path: Path, kind):
    content = document()
    content["images"][0]["id"] = kind(1)
    content["annotations"][1]["image_id"] = kind(1)
    content["annotations"][1]["category_id"] = kind(3)
    content["annotations"][1]["id"] = kind(12)
    data = read_coco(write(tmp_path, content))
    assert data.instances(1).columns["annotation_id"].tolist() == [11, 12, 13]
    assert {p.severity for p in data.problems} == {"warning"}
    assert len(data.problems) == 3  # id, image_id, category_id
    row = data.document["annotations"][1]
    assert [type(row[key]) for key in ("id", "image_id", "category_id")] == [int] * 3
    assert type(data.document["images"][0]["id"]) is int


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_the_document_is_fit_for_pycocotools(tmp_path: Path):
    content = document()
    content["images"][0]["id"] = "1"
    content["annotations"].append({"id": "x", "image_id": 1, "category_id": 3, "segmentation": SQUARE})
    data = read_coco(write(tmp_path, content), strict=False)
    coco = COCO()
    coco.dataset = dict(data.document)
    coco.createIndex()
    rows = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert len(rows) == 4
    assert len({row["id"] for row in rows}) == 4
    expected = np.stack([coco.annToMask(row) for row in rows]).astype(bool)
    assert data.instances(1).masks == Masks.from_dense(expected)


# ---- what is broken: the change, what the message says, how many objects are left, and whether it is an error

BROKEN = {
    "dangling image": ({"image_id": 9}, "belongs to image 9, which is not in images", 2),
    "no image": ({"image_id": None}, "has image_id None", 2),
    "image by name": ({"image_id": "a.png"}, "has image_id 'a.png'", 2),
    "truth as an id": ({"image_id": True}, "has image_id True", 2),
    "unknown category": ({"category_id": 8}, "has category 8, which is not in categories (3)", 2),
    "double id": ({"id": 12}, "stands twice in annotations", 3),
    "no id": ({"id": None}, "has id None; expected integer ids", 3),
    "text as id": ({"id": "seven"}, "has id 'seven'", 3),
    "two points": (
        {"segmentation": [[1, 1, 5, 5]]},
        "polygon of 4 numbers; expected x, y of at least three",
        2,
    ),
    "odd polygon": ({"segmentation": [[1, 1, 5, 5, 6, 7, 8]]}, "7 numbers; expected an even number", 2),
    "text in polygon": ({"segmentation": [[1, 1, "x", 5, 6, 7]]}, "expected a flat list of numbers", 2),
    "nested polygon": ({"segmentation": [[[1, 1], [5, 5], [6, 7]]]}, "expected a flat list of numbers", 2),
    "NaN": ({"segmentation": [[1, 1, math.nan, 5, 6, 7]]}, "the coordinate nan", 2),
    "infinity": ({"segmentation": [[1, 1, -math.inf, 5, 6, 7]]}, "the coordinate -inf", 2),
    "far away": ({"segmentation": [[1, 1, 10**400, 5, 6, 7]]}, "expected finite numbers within", 2),
    "outside": ({"segmentation": [[90, 1, 99, 1, 99, 9]]}, "lies outside its image (x 90 to 99, y 1 to 9", 2),
    "one part of two": ({"segmentation": [*SQUARE, [1, 1, 5, 5]]}, "polygon of 4 numbers", 3),
    "nothing": ({"segmentation": None}, "neither a segmentation nor a bbox", 2),
    "empty outline": ({"segmentation": []}, "neither a segmentation nor a bbox", 2),
    "text outline": ({"segmentation": "SQUARE"}, "a segmentation that is a text", 2),
    "rle of another size": ({"segmentation": {"size": [80, 60], "counts": [4800]}}, "expected [60, 80]", 2),
    "rle without size": ({"segmentation": {"counts": [4800]}}, "RLE of size None", 2),
    "rle without counts": ({"segmentation": {"size": [60, 80]}}, "counts that are missing", 2),
    "rle too short": (
        {"segmentation": {"size": [60, 80], "counts": [0, 60]}},
        "is damaged: RLE has counts",
        2,
    ),
    "rle torn": ({"segmentation": {"size": [60, 80], "counts": "P1l"}}, "is damaged: RLE", 2),
    "bad box": ({"segmentation": None, "bbox": [1, 2, -3, 4]}, "has the bbox [1, 2, -3, 4]", 2),
    "NaN box": ({"segmentation": None, "bbox": [1, 2, math.nan, 4]}, "expected x, y, width and height", 2),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_object_is_named_refused_and_leniently_left_out(tmp_path: Path, name: str):
    change, says, left = BROKEN[name]
    content = document()
    content["annotations"][0] |= change
    if name == "double id":
        content["annotations"][0]["id"] = 11
        content["annotations"][2]["id"] = 11
    path = write(tmp_path, content)
    with pytest.raises(AnnotationError) as caught:
        read_coco(path)
    message = str(caught.value)
    assert says in message
    assert message.startswith(f"{path}: annotation")
    assert " Remedy: " in message
    lenient = read_coco(path, strict=False)
    assert len(lenient.instances(1)) == lenient.annotation_count == left
    assert len(set(lenient.instances(1).columns["annotation_id"].tolist())) == left
    (problem,) = [p for p in lenient.problems if p.severity == "error"]
    assert (problem.left_out == "the object") == (left == 2)


WARNED = {
    "partly outside": (
        {"segmentation": [[-50, 10, 30, 10, 30, 30, -50, 30]]},
        "reaches beyond its image",
        600,
    ),
    "zero area": ({"area": 0}, "covers no area", 400),
    "a line": (
        {"segmentation": [[5, 5, 9, 5, 7, 5]], "area": 0, "bbox": [5, 5, 4, 0]},
        "bbox is 4 wide and 0 high",
        0,
    ),
    "flat list": ({"segmentation": SQUARE[0]}, "one flat list of coordinates", 400),
    "NaN area": ({"area": math.nan}, "has area nan", 400),
    "useless box": ({"bbox": [1, 2]}, "has the bbox [1, 2], which is no box", 400),
    "iscrowd": ({"iscrowd": 7}, "has iscrowd 7", 400),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_can_be_used_is_used_with_a_warning(tmp_path: Path, name: str):
    change, says, area = WARNED[name]
    content = document()
    content["annotations"][0] |= change
    path = write(tmp_path, content)
    data = read_coco(path)
    assert data.instances(1).masks.areas.tolist() == [area, 30, 60]
    assert {p.severity for p in data.problems} == {"warning"}
    assert says in str(data.problems[0])
    assert str(data.problems[0]).startswith(f'{path}: annotation 11 ("cell"): ')


def test_new_ids_of_double_ones_stay_whole_numbers(tmp_path: Path):
    content = document()
    for row, number in zip(content["annotations"], (2**63 - 1, None, 2**63 - 1), strict=True):
        row["id"] = number
    data = read_coco(write(tmp_path, content), strict=False)
    assert data.instances(1).columns["annotation_id"].tolist() == [2**63 - 1, 1, 2]


def test_the_first_error_is_raised_with_the_number_of_the_others(tmp_path: Path):
    content = document()
    content["annotations"][0]["image_id"] = 5
    content["annotations"][1]["category_id"] = 5
    content["annotations"][2]["segmentation"] = [[1, 2]]
    with pytest.raises(AnnotationError, match=r"annotation 11 .*2 more problems: `apiece check` lists them"):
        read_coco(write(tmp_path, content))


IMAGES = {
    "no id": ({"id": None}, r"images\[0\]: has id None"),
    "no size": ({"height": None}, "image 1: has height None and width 80"),
    "no pixels": ({"width": 0}, "image 1: has height 60 and width 0"),
    "absurd size": ({"width": 10**12}, "image 1: has height 60"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_broken_image_is_named_and_so_are_its_objects(tmp_path: Path, name: str):
    change, says = IMAGES[name]
    content = document()
    content["images"][0] |= change
    path = write(tmp_path, content)
    with pytest.raises(AnnotationError, match=says):
        read_coco(path)
    lenient = read_coco(path, strict=False)
    assert lenient.images == ()
    assert [p.left_out for p in lenient.problems] == ["the image"] + ["the object"] * 3


def test_a_double_image_is_named(tmp_path: Path):
    content = document()
    content["images"].append({"id": 1, "file_name": "b.png", "height": 9, "width": 9})
    with pytest.raises(AnnotationError, match="image 1: stands twice in images"):
        read_coco(write(tmp_path, content))
    lenient = read_coco(write(tmp_path, content), strict=False)
    assert lenient.image(1).file_name == "a.png"
    assert len(lenient.instances(1)) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "breaks off at line 1, column 1"),
        ('{"images": [', "breaks off at line 1"),
        ('{"images": ["a.pn', "breaks off at line 1"),
        ("{'images': []}", "not valid JSON at line 1, column 2"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not text"),
        ("[1, 2]", "is a list; expected a COCO document"),
        ('"text"', "is a text; expected a COCO document"),
        ({"images": [], "categories": []}, "'annotations' is missing; expected a list"),
        ({"annotations": [], "categories": []}, "'images' is missing"),
        ({"annotations": [], "images": []}, "'categories' is missing"),
        ({"annotations": {}, "images": [], "categories": []}, "'annotations' is an object"),
        ({"annotations": [], "images": [], "categories": [{"id": 1}]}, "name None"),
        ({"annotations": [], "images": [], "categories": [{"id": "x", "name": "a"}]}, "id 'x'"),
        (
            {"annotations": [], "images": [], "categories": [{"id": 1, "name": n} for n in "ab"]},
            "more than once",
        ),
        ({"annotations": [5], "images": [], "categories": []}, r"annotations\[0\]: is a number"),
        ({"annotations": [], "images": [[]], "categories": []}, r"images\[0\]: is a list"),
    ],
)
def test_what_is_no_coco_document(tmp_path: Path, content: object, says: str):
    path = write(tmp_path, content)
    with pytest.raises(AnnotationError, match=says) as caught:
        read_coco(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_not_there(tmp_path: Path):
    with pytest.raises(AnnotationError, match="no such file"):
        read_coco(tmp_path / "none.json")
    with pytest.raises(AnnotationError, match="is a folder"):
        read_coco(tmp_path)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    key=st.sampled_from(["id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"]),
    value=JUNK,
)
@settings(max_examples=300, deadline=None)
def test_no_value_of_any_field_gets_past_the_reader(tmp_path_factory: pytest.TempPathFactory, key, value):
    """Whatever a field holds: lenient reading lists it, keeps the rest, and what it keeps can be used."""
    content = document()
    content["annotations"][0][key] = value
    path = write(tmp_path_factory.getbasetemp(), content, "junk.json")
    data = read_coco(path, strict=False)
    found = data.instances(1)
    left_out = sum(p.left_out == "the object" for p in data.problems)
    assert len(found) == 3 - left_out
    json.dumps(data.document["annotations"], allow_nan=key not in ("segmentation", "bbox", "area"))
    if any(p.severity == "error" for p in data.problems):
        with pytest.raises(AnnotationError, match=r"junk\.json: annotation"):
            read_coco(path)
    else:
        assert len(read_coco(path).instances(1)) == len(found)


CODES = st.text("0123456789PQ_`abomnno\x2fé", max_size=6)


@given(
    rows=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=7), min_size=1, max_size=5),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_codes_that_hold_are_those_that_decode(rows, data):
    """Of many strings together, whole ones and ones with a character exchanged, put in or cut off."""
    area = 240
    texts = []
    for row in rows:
        counts = [*row, area - sum(row)] if sum(row) <= area else [area]
        rle = oracle.frPyObjects({"size": [area, 1], "counts": counts}, area, 1)
        texts.append(rle["counts"].decode())
    if data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(texts) - 1))
        place = data.draw(st.integers(0, len(texts[i])))
        texts[i] = texts[i][:place] + data.draw(CODES) + texts[i][place + data.draw(st.integers(0, 2)) :]
    try:
        Masks.from_coco([{"size": [area, 1], "counts": text} for text in texts], (area, 1))
        holds = True
    except AnnotationError:
        holds = False
    assert all_hold(texts, area) == holds
    assert not all_hold([*texts, [area]], area)  # a list is left to be decoded


# ---- predictions

GOOD = {"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": SQUARE}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": 5}, "belongs to image 5, which is not in"),
        ({"image_id": None}, "has image_id None"),
        ({"category_id": 1}, "has category 1; "),
        ({"score": None}, r"has the score \(none\)"),
        ({"score": math.nan}, "has the score nan"),
        ({"score": math.inf}, "has the score inf"),
        ({"score": True}, "has the score True"),
        ({"score": "0.5"}, "has the score '0.5'"),
        ({"segmentation": None}, "neither a segmentation nor a bbox"),
        ({"segmentation": {"size": [1, 1], "counts": "0"}}, r"RLE of size \[1, 1\]; expected \[60, 80\]"),
        ({"segmentation": {"size": [60, 80], "counts": "P1"}}, "is damaged"),
        ({"segmentation": None, "bbox": [1, 2, 3]}, r"has the bbox \[1, 2, 3\]"),
    ],
)
def test_predictions_are_checked_entry_by_entry(tmp_path: Path, change: dict, says: str):
    truth = read_coco(write(tmp_path, document()))
    path = write(tmp_path, [GOOD, GOOD | change], "results.json")
    with pytest.raises(AnnotationError, match=says) as caught:
        read_predictions(path, truth)
    assert str(caught.value).startswith(f"{path}: result 1: ")


def test_predictions_of_both_shapes(tmp_path: Path):
    truth = read_coco(write(tmp_path, document()))
    rows = [GOOD, GOOD | {"score": 0.9, "bbox": [9, 9, 22, 22]}]
    for content in (rows, {"annotations": rows}, {**document(), "annotations": rows}):
        found = read_predictions(write(tmp_path, content, "results.json"), truth)
        objects = found.instances(1)
        assert found.has_masks
        assert found.image_ids == (1,)
        assert [row["score"] for row in found.raw] == [0.5, 0.9]
        np.testing.assert_allclose(objects.scores, [0.5, 0.9])
        assert objects.masks.areas.tolist() == [400, 400]
        assert objects.boxes.tolist() == [[10, 10, 30, 30], [9, 9, 31, 31]]


def test_no_predictions_are_ordinary(tmp_path: Path):
    truth = read_coco(write(tmp_path, document()))
    found = read_predictions(write(tmp_path, [], "results.json"), truth)
    assert found.raw == []
    assert found.has_masks
    assert len(found.instances(1)) == 0
    with pytest.raises(AnnotationError, match="no image with id 2"):
        found.instances(2)


def test_boxes_alone_have_empty_masks(tmp_path: Path):
    truth = read_coco(write(tmp_path, document()))
    row = {"image_id": "1", "category_id": 3, "score": 1, "bbox": [4, 5, 6, 7]}
    found = read_predictions(write(tmp_path, [row], "results.json"), truth)
    assert not found.has_masks
    assert found.raw[0]["image_id"] == 1
    assert found.instances(1).boxes.tolist() == [[4, 5, 10, 12]]
    assert found.instances(1).masks.areas.tolist() == [0]


def test_predictions_without_truth_tell_what_they_know(tmp_path: Path):
    rle = {"size": [60, 80], "counts": [0, 60, 4740]}
    path = write(tmp_path, [GOOD | {"segmentation": rle, "image_id": 9}], "results.json")
    found = read_predictions(path)
    assert found.instances(9).size == (60, 80)
    assert found.instances(9).classes.names == ("category 3",)
    wrapped = read_predictions(write(tmp_path, {**document(), "annotations": [GOOD]}, "results.json"))
    assert wrapped.instances(1).classes.names == ("cell",)
    with pytest.raises(AnnotationError, match=r"result 0: nothing tells how large image 1 is.*ground truth"):
        read_predictions(write(tmp_path, [GOOD], "results.json"))


@pytest.mark.parametrize("content", ["{}", '{"images": []}', "3"])
def test_what_holds_no_predictions(tmp_path: Path, content: str):
    with pytest.raises(AnnotationError, match="expected a list of COCO results"):
        read_predictions(write(tmp_path, content))


# ---- real files


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "coco128/instances.json",
        "fixtures/cocoapi/instances_val2014_100.json",
        "fixtures/coco_small/gt_dataset.json",
        "fixtures/panoptic/panoptic_coco_detection_format.json",
    ],
)
def test_masks_of_real_files_equal_pycocotools(shared: Path, name: str):
    data = read_coco(shared / name)
    raw = json.loads((shared / name).read_text())
    assert data.annotation_count == len(raw["annotations"])
    assert data.problems == ()
    for record in data.images:
        found = data.instances(record.id)
        rows = [row for row in raw["annotations"] if row["image_id"] == record.id]
        assert found.columns["annotation_id"].tolist() == [row["id"] for row in rows]
        for row, encoded in zip(rows, found.masks.to_coco(), strict=True):
            outline = row["segmentation"]
            if isinstance(outline, list):
                expected = oracle.merge(oracle.frPyObjects(outline, record.height, record.width))
            elif isinstance(outline["counts"], list):
                expected = oracle.frPyObjects(outline, record.height, record.width)
            else:
                expected = {**outline, "counts": outline["counts"].encode()}
            assert encoded["counts"].encode() == expected["counts"]


@pytest.mark.needs_shared
def test_real_predictions_are_read(shared: Path):
    folder = shared / "fixtures"
    truth = read_coco(folder / "cocoapi/instances_val2014_100.json")
    for name, masks in (("fakesegm100", True), ("fakebbox100", False)):
        found = read_predictions(folder / f"cocoapi/instances_val2014_{name}_results.json", truth)
        assert found.has_masks == masks
        assert sum(len(found.instances(i)) for i in found.image_ids) == len(found.raw) == 734
    texts = read_coco(folder / "coco_small/gt_ignore_test.json")
    assert texts.images[0].id == 2299
    assert len(texts.instances(2299)) == 14
    assert len(read_predictions(folder / "coco_small/dt_ignore_test.json", texts).instances(2299)) == 63
