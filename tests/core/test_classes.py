from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.errors import AnnotationError


@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.text("abc", min_size=1)), unique_by=(lambda p: p[0], lambda p: p[1])
    )
)
def test_ids_and_indices_are_inverse_and_categories_come_back_in_any_order(pairs):
    categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in pairs]
    made = ClassMap.from_coco(categories)
    assert made == ClassMap.from_coco(categories[::-1]) == ClassMap.from_coco(made.to_coco())
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
    assert made.ids == tuple(sorted(number for number, _ in pairs))
    assert len(made) == len(pairs)
    for number, name in pairs:
        index = made.index_of(number)
        assert (made.id_of(index), made.name_of(index), made.index_of_name(name)) == (number, name, index)


def test_ids_count_from_one_unless_given():
    assert ClassMap(("a", "b")).ids == (1, 2)
    assert ClassMap(("a", "b"), (0, 90)).index_of(90) == 1
    assert len(ClassMap(())) == 0


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("a", "a"), ()),
        (("a", "b"), (1, 1)),
        (("a", "b"), (1,)),
        (("a", ""), ()),
        (("a", " "), ()),
        (("a", None), ()),
        (("a",), (1.5,)),
        (("a",), (True,)),
        ((), (1,)),
    ],
)
def test_names_and_ids_that_do_not_hold_together_are_refused(names, ids):
    with pytest.raises(AnnotationError):
        ClassMap(names, ids)


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1}],
        [{"name": "a"}],
        [{"id": "1", "name": "a"}],
        [{"id": 1, "name": 5}],
        [{"id": True, "name": "a"}],
        ["a"],
        [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
        [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}],
    ],
)
def test_category_lists_with_gaps_or_doubles_are_refused(categories):
    with pytest.raises(AnnotationError):
        ClassMap.from_coco(categories)


def test_unknown_ids_indices_and_names_are_named():
    made = ClassMap(("cell", "debris"), (3, 7))
    with pytest.raises(AnnotationError, match=r"category id 0 .*Remedy"):
        made.index_of(0)
    for index in (-1, 2):
        with pytest.raises(AnnotationError, match=f"class index {index}"):
            made.name_of(index)
        with pytest.raises(AnnotationError, match=f"class index {index}"):
            made.id_of(index)
    with pytest.raises(AnnotationError, match="Did you mean 'cell'"):
        made.index_of_name("cells")
