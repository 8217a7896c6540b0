"""TruthIds: which entry of a ground truth a picture is, and never a wrong one in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apiece.core.classes import ClassMap
from apiece.data.coco import read_coco
from apiece.errors import DataError, UsageError
from apiece.predict.truth_ids import TruthIds


def truth(folder: Path, names: list[str], classes: dict[int, str] | None = None, size=(20, 30)):
    document = {
        "images": [
            {"id": 100 + i, "file_name": name, "height": size[0], "width": size[1]}
            for i, name in enumerate(names)
        ],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in (classes or {7: "cell"}).items()],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(document))
    return read_coco(path)


CELL = ClassMap(("cell",))


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        (["a.png", "b.png"], "b.png", 101),
        (["a.png", "b.png"], "/data/elsewhere/b.png", 101),
        (["val/a.png"], "/moved/a.png", 100),
        (["x/a.png", "y/a.png"], "/data/y/a.png", 101),
        (["x/a.png", "y/a.png"], "/data/x/a.png", 100),
        (["one/x/a.png", "two/x/a.png"], "/data/two/x/a.png", 101),
        (["a.png", "x/a.png"], "/data/x/a.png", 101),
        (["win\\x\\a.png", "win\\y\\a.png"], "/data/win/y/a.png", 101),
    ],
)
def test_a_picture_is_the_entry_whose_path_agrees_furthest(tmp_path: Path, names, path: str, expected: int):
    assert TruthIds(truth(tmp_path, names), CELL).claim(Path(path), (20, 30)).id == expected


@pytest.mark.parametrize(
    ("names", "path", "size", "says"),
    [
        (["a.png"], "b.png", (20, 30), "not among the 1 images"),
        (["A.png"], "a.png", (20, 30), "not among"),
        (["x/a.png", "y/a.png"], "/data/a.png", (20, 30), "2 images that could be it"),
        (["x/a.png", "y/a.png"], "/z/a.png", (20, 30), "with its folders"),
        (["a.png"], "a.png", (30, 20), "30 x 20 .*20 x 30"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_file(tmp_path: Path, names, path, size, says):
    with pytest.raises(DataError, match=says) as stop:
        TruthIds(truth(tmp_path, names), CELL).claim(Path(path), size)
    assert str(stop.value).startswith(path)


def test_an_entry_is_given_once(tmp_path: Path):
    ids = TruthIds(truth(tmp_path, ["a.png"]), CELL)
    ids.claim(Path("one/a.png"), (20, 30))
    with pytest.raises(DataError, match="so was one"):
        ids.claim(Path("two/a.png"), (20, 30))


def test_classes_are_matched_by_name_whatever_their_order(tmp_path: Path):
    ids = TruthIds(
        truth(tmp_path, ["a.png"], {3: "round", 9: "square", 11: "other"}), ClassMap(("square", "round"))
    )
    assert ids.category_ids == (9, 3)
    assert ids.notes == []
    assert [c["id"] for c in ids.categories] == [3, 9, 11]


def test_the_only_class_is_the_only_category_and_that_is_said(tmp_path: Path):
    ids = TruthIds(truth(tmp_path, ["a.png"], {7: "nucleus"}), CELL)
    assert ids.category_ids == (7,)
    assert len(ids.notes) == 1
    assert "'cell'" in ids.notes[0]
    assert "'nucleus'" in ids.notes[0]
    assert TruthIds(truth(tmp_path, ["a.png"]), CELL).notes == []


def test_a_class_that_the_truth_lacks_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no category 'round'"):
        TruthIds(truth(tmp_path, ["a.png"], {1: "square"}), ClassMap(("square", "round")))
