from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import GeometryError
from strategies import instances

CLASSES = ClassMap(("cell", "debris"))


def three(**given) -> Instances:
    masks = Masks.from_crops([np.ones((2, 3), bool)] * 3, [[0, 0], [1, 1], [4, 4]], (6, 7))
    return Instances(**{"size": (6, 7), "masks": masks, "class_ids": [0, 1, 0], "classes": CLASSES, **given})


def test_what_is_not_given_is_derived():
    made = three()
    assert made.scores.tolist() == [1, 1, 1]
    assert np.array_equal(made.boxes, made.masks.boxes)
    assert made.track_ids is None
    assert made.truncated is False
    assert dict(made.columns) == {}
    assert (made.class_ids.dtype, made.scores.dtype, made.boxes.dtype) == (np.int64, np.float32, np.float32)
    assert repr(made) == "Instances(3 on 6 × 7: 2 cell, 1 debris)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (7, 6)}, "picture"),
        ({"class_ids": [0, 1]}, r"class_ids has shape \(2,\)"),
        ({"class_ids": [0, 1, 2]}, r"object 2 has class index 2; expected 0\.\.1"),
        ({"class_ids": [0, -1, 1]}, "object 1 has class index -1"),
        ({"class_ids": [0.0, 1.0, 0.0]}, "dtype"),
        ({"scores": [1, 1]}, "scores has shape"),
        ({"scores": [1, np.nan, 1]}, "object 1 has score"),
        ({"boxes": np.zeros((3, 2))}, "boxes has shape"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, 0, np.inf, 1], [0, 0, 1, 1]])}, "object 1 has box"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, 0, 1, 1], [5, 5, 2, 2]])}, "object 2 has box .*Remedy"),
        ({"track_ids": [1, 2]}, "track_ids has shape"),
        ({"track_ids": [1.5, 2, 3]}, "dtype"),
        ({"columns": {"iscrowd": [True]}}, "iscrowd has shape"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(GeometryError, match=message):
        three(**given)


def test_arrays_are_copied_and_read_only():
    scores, crowd = np.array([0.5, 0.6, 0.7]), np.zeros(3, bool)
    made = three(scores=scores, columns={"iscrowd": crowd})
    scores[:] = 0
    crowd[:] = True
    assert made.scores.tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert not made.columns["iscrowd"].any()
    with pytest.raises(ValueError, match="read-only"):
        made.scores[0] = 1
    with pytest.raises(TypeError):
        made.columns["more"] = crowd
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.truncated = True


def test_nothing_is_ordinary():
    none = Instances.empty((5, 6), CLASSES)
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)
    assert none.to_coco(1) == []
    assert none == none[:0] == none[[]] == none.sorted_by_score() == Instances.concatenate([none, none])
    assert repr(none) == "Instances(0 on 5 × 6)"


@given(instances(), st.data())
def test_selection_takes_every_field_along(made, data):
    index = data.draw(st.lists(st.integers(0, max(0, len(made) - 1)), max_size=5)) if len(made) else []
    chosen = made[index]
    assert chosen.masks == made.masks[index]
    for name in ("class_ids", "scores", "boxes", "track_ids"):
        whole, part = getattr(made, name), getattr(chosen, name)
        assert (part is None) if whole is None else np.array_equal(part, whole[np.array(index, int)])
    for name, column in made.columns.items():
        assert np.array_equal(chosen.columns[name], column[np.array(index, int)])
    assert (chosen.classes, chosen.truncated) == (made.classes, made.truncated)
    if len(made):
        assert made[len(made) - 1] == made[-1] == made[np.arange(len(made)) == len(made) - 1]


@given(instances(), st.data())
def test_splitting_and_joining_is_the_identity(made, data):
    cut = data.draw(st.integers(0, len(made)))
    assert Instances.concatenate([made[:cut], made[cut:]]) == made


@given(instances())
def test_values_survive_pickling_and_replacement(made):
    assert pickle.loads(pickle.dumps(made)) == made
    assert dataclasses.replace(made) == made
    other = dataclasses.replace(made, truncated=not made.truncated)
    assert other != made
    assert other.truncated is not made.truncated
    assert made != "instances"


@given(instances())
def test_sorting_is_by_falling_score_and_stable(made):
    numbered = dataclasses.replace(made, columns={"place": np.arange(len(made))})
    order = numbered.sorted_by_score().columns["place"].tolist()
    assert order == sorted(range(len(made)), key=lambda i: -made.scores[i])


def test_joining_needs_agreement():
    made = three()
    for other in (
        three(track_ids=[1, 2, 3]),
        three(columns={"iscrowd": [False] * 3}),
        three(classes=ClassMap(("cell", "dust"))),
    ):
        with pytest.raises(GeometryError, match="differ in"):
            Instances.concatenate([made, other])
    with pytest.raises(GeometryError, match=r"Instances\.empty"):
        Instances.concatenate([])


@given(instances())
def test_coco_annotations_hold_the_objects_and_are_plain_json(made):
    documents = json.loads(json.dumps(made.to_coco(image_id=9, first_id=40)))
    assert [d["id"] for d in documents] == list(range(40, 40 + len(made)))
    assert {d["image_id"] for d in documents} <= {9}
    assert Masks.from_coco([d["segmentation"] for d in documents], made.size) == made.masks
    crowd = made.columns.get("iscrowd", np.zeros(len(made), bool))
    for i, document in enumerate(documents):
        x, y, width, height = document["bbox"]
        assert [x, y, x + width, y + height] == made.boxes[i].tolist()
        assert document["category_id"] == made.classes.ids[made.class_ids[i]]
        assert document["area"] == made.masks.areas[i]
        assert document["score"] == made.scores[i]
        assert document["iscrowd"] == int(crowd[i])
        assert document.get("track_id") == (None if made.track_ids is None else made.track_ids[i])
