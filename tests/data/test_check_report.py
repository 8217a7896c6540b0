"""The report: bounded text, whole JSON, numbers that are right, a page that is safe and stands alone."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.check import check
from apiece.data.checks.geometry import is_divided, shapes
from apiece.data.checks.page import page_of, write_page
from apiece.data.checks.run import Part, Run
from apiece.data.checks.sizes import Sizes
from apiece.data.checks.view import View
from apiece.data.formats.base import Picture, Source
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, DataError

TWO = ClassMap(("cell", "Größe"))


@dataclass(frozen=True, eq=False)
class Held(Source):
    """A format of its own: objects in memory."""

    objects: tuple[Instances | AnnotationError, ...] = ()

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        held = self.objects[index]
        if isinstance(held, AnnotationError):
            raise held
        if found is not None and index == 1:
            found.append(Problem("warning", "a.xml", "shape 3", "is a line.", "draw an area.", "the shape"))
        return held


def squares(size: tuple[int, int], places: list[tuple[int, int, int]], kinds=None) -> Instances:
    """Squares of (x, y, side)."""
    crops = [np.ones((side, side), bool) for _, _, side in places]
    masks = Masks.from_crops(crops, np.array([p[:2] for p in places], int).reshape(-1, 2), size)
    return Instances(size, masks, kinds or [0] * len(places), classes=TWO)


def held(root: Path, objects: list[Instances | AnnotationError], splits: tuple[str, ...] = ()) -> Held:
    pictures = []
    for i, one in enumerate(objects):
        size = one.size if isinstance(one, Instances) else (40, 50)
        rng = np.random.default_rng(i)
        small = rng.integers(0, 255, (5, 6, 3)).astype(np.uint8)
        image = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
        write_image(root / f"p{i}.png", image)
        pictures.append(Picture(f"p{i}.png", root / f"p{i}.png", i + 1, split=splits[i] if splits else ""))
    return Held(root / "a.xml", TWO, tuple(pictures), (), tuple(objects))


def run(source: Held, sizes: Sizes | None = None, **options):
    part = Part(source, range(len(source.pictures)), "")
    return Run([part], sizes or Sizes(), **options).report(str(source.path))


def test_any_source_is_checked_and_its_problems_kept(tmp_path: Path):
    fault = AnnotationError(f"{tmp_path}/a.xml: p3.png: object 1: has no points. Remedy: draw it.")
    fine = squares((40, 50), [(3, 3, 8), (20, 20, 9)], [0, 1])
    source = held(tmp_path, [fine, fine, squares((41, 50), [(3, 3, 8)]), fault])
    write_image(tmp_path / "p2.png", np.random.default_rng(5).integers(0, 255, (40, 50, 3)).astype(np.uint8))
    report = run(source)
    assert [(p.severity, p.code, p.where) for p in report.problems] == [
        ("warning", "structure", "shape 3"),
        ("error", "size-mismatch", ""),
        ("error", "structure", ""),
    ]
    assert report.problems[1].message.startswith("p2.png: labels are 41 x 50")
    assert report.problems[2].message == "p3.png: object 1: has no points."
    assert report.problems[2].remedy == "draw it."
    assert report.objects == 5


def test_objects_of_any_source_are_named_with_their_picture(tmp_path: Path):
    report = run(held(tmp_path, [squares((40, 50), [(3, 3, 8), (30, 20, 2), (10, 30, 6)], [0, 1, 1])]))
    assert [(p.code, p.where) for p in report.problems] == [("tiny", 'p0.png: object 2 ("Größe")')]
    assert report.spots[0] == (0, 0, (1,))


def test_splits_of_a_source_are_told_apart(tmp_path: Path):
    fine = squares((40, 50), [(3, 3, 8), (20, 20, 9)], [0, 1])
    source = held(tmp_path, [fine] * 3, ("train", "train", "val"))
    (tmp_path / "p2.png").write_bytes((tmp_path / "p0.png").read_bytes())
    report = run(source)
    assert [p.code for p in report.errors] == ["duplicate-across-splits"]
    assert "one is in 'val', the other in 'train'" in report.errors[0].message
    assert report.splits == {"train": {"pictures": 2, "objects": 4}, "val": {"pictures": 1, "objects": 2}}
    assert report.to_json()["duplicates"] == [
        {
            "picture": str(tmp_path / "p2.png"),
            "other": str(tmp_path / "p0.png"),
            "splits": ["val", "train"],
            "exact": True,
            "turn": "",
            "correlation": 1.0,
        }
    ]


def test_many_equal_problems_are_summed_up_in_text_and_whole_in_json(tmp_path: Path):
    places = [(x, y, 2) for x in range(2, 46, 5) for y in range(2, 36, 5)]
    report = run(held(tmp_path, [squares((40, 50), places)]))
    lines = report.to_text().splitlines()
    assert len(report.warnings) == len(places) + 1  # and the class that isn't used
    assert len(lines) < 9
    assert f"warning: … and {len(places) - 3} more of the kind tiny; --json and --html list all." in lines
    document = report.to_json()
    assert len(document["problems"]) == len(report.problems)
    assert document["problems"][0]["picture"] == "p0.png"
    json.dumps(document)


def test_statistics_are_those_of_the_objects(tmp_path: Path):
    a = squares((40, 50), [(1, 1, 4), (20, 20, 10)], [0, 1])
    b = squares((40, 100), [(1, 1, 6)], [0])
    numbers = run(held(tmp_path, [a, b, squares((40, 50), [])]), Sizes(input_size=50, small=5)).statistics
    assert numbers["classes"] == [
        {"name": "cell", "objects": 2, "pictures": 2},
        {"name": "Größe", "objects": 1, "pictures": 1},
    ]
    size = numbers["object_size"]
    assert (size["min"], size["median"], size["max"]) == (4, 6, 10)
    assert dict(zip(size["edges"], size["counts"], strict=True))[4] == 2
    scaled = numbers["object_size_in_input"]  # b is halved
    assert (scaled["min"], scaled["median"], scaled["max"], scaled["below_limit"]) == (3, 4, 10, 2)
    counts = numbers["objects_per_picture"]
    assert (counts["min"], counts["median"], counts["max"]) == (0, 1, 2)


def test_objects_cut_by_the_border_everywhere_and_nowhere():
    rng = np.random.default_rng(1)

    def codes(places) -> list[str]:
        sizes = Sizes()
        for _ in range(40):
            sizes.add(View(squares((100, 100), places())))
        return [finding.code for finding in sizes.findings()]

    def anywhere():  # a window on a larger scene
        return [(int(x), int(y), 10) for x, y in rng.integers(-9, 100, (8, 2))]

    assert codes(anywhere) == []
    assert codes(lambda: [(0, 0, 10), (90, 40, 10), (30, 90, 10)]) == ["cut-by-border"]
    assert codes(lambda: [(x, 40, 10) for x in range(5, 80, 15)]) == ["none-at-border"]


def test_an_object_that_another_one_divides_is_whole():
    """A bar in front of a block is no slip; a second block elsewhere of its number is."""
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 10:40] = 1
    labels[5:35, 22:27] = 2
    labels[40:50, 10:20] = 3

    def codes() -> list[str]:
        masks = Masks.from_label_image(labels)
        objects = Instances(masks.size, masks, [0] * len(masks), classes=TWO)
        return [finding.code for finding in shapes(View(objects, painted=True))]

    assert codes() == []
    labels[40:50, 60:70] = 1
    assert codes() == ["parts"]


class Page(HTMLParser):
    """Tags that were opened, and addresses that the page names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]


def test_the_page_stands_alone_and_escapes_all_names(tmp_path: Path):
    evil = ClassMap(('<script>alert("x")</script>', "b&b"))
    name = 'p"><img src=x onerror=y>.png'
    rng = np.random.default_rng(2)
    for i, file in enumerate((name, "two.png")):
        ground = cv2.resize(rng.integers(0, 255, (5, 6, 3)).astype(np.uint8), (500, 400))
        write_image(tmp_path / file, np.ascontiguousarray(ground[:, ::-1] if i else ground))
    write_image(tmp_path / "two.png", cv2.imread(str(tmp_path / name))[:, ::-1, ::-1].copy())
    masks = Masks.from_crops(
        [np.ones((2, 2), bool), np.ones((30, 40), bool)], [[9, 9], [100, 200]], (400, 500)
    )
    one = Instances((400, 500), masks, [0, 1], classes=evil)
    pictures = tuple(Picture(file, tmp_path / file, i) for i, file in enumerate((name, "two.png")))
    report = run(Held(tmp_path / "<b>.xml", evil, pictures, (), (one, one)))
    assert {p.code for p in report.problems} == {"tiny", "near-duplicate"} | {"structure"}
    page = Page(page_of(report))
    assert "script" not in page.tags
    assert "<b>.xml" not in page_of(report)
    assert (
        len(page.addresses) == 5
    )  # two of the pair, one of each picture with a tiny object, one of the line
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(", page_of(report))
    assert "prefers-color-scheme: dark" in page_of(report)
    write_page(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(DataError, match="cannot be written"):
        write_page(report, tmp_path / "none" / "report.html")


def test_the_page_frames_the_object_concerned(tmp_path: Path):
    """The drawing's frame, and the tint of the other object, are where the objects are."""
    from apiece.data.checks.drawing import MARK, draw_spot
    from apiece.data.checks.report import Spot

    write_image(tmp_path / "p.png", np.full((480, 480, 3), 90, np.uint8))
    masks = Masks.from_crops([np.ones((60, 60), bool)] * 2, [[100, 100], [300, 300]], (480, 480))
    objects = Instances((480, 480), masks, [0, 1], classes=TWO)
    source = Held(tmp_path, TWO, (Picture("p.png", tmp_path / "p.png", 1),), (), (objects,))
    uri = draw_spot(source, Spot(0, 0, (1,)))
    assert uri is not None
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    image = cv2.cvtColor(cv2.imdecode(data, 1), cv2.COLOR_BGR2RGB).astype(int)
    assert image.shape[:2] == (480, 480)
    frame = np.argwhere(np.abs(image - MARK).sum(axis=2) < 90)
    scale = 480 / 240  # the object's 60 pixels and 1.5 times as much on each side
    low, high = frame.min(axis=0) / scale, frame.max(axis=0) / scale
    assert np.allclose(low, 90, atol=4)
    assert np.allclose(high, 150, atol=4)


def test_several_sets_and_their_splits(tmp_path: Path):
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        rng = np.random.default_rng(len(part))
        picture = cv2.resize(rng.integers(0, 255, (5, 6, 3)).astype(np.uint8), (50, 40))
        cv2.imwrite(str(tmp_path / part / "images" / "a.png"), picture)
        labels = np.zeros((40, 50), np.uint8)
        labels[5:20, 5:20] = 1
        cv2.imwrite(str(tmp_path / part / "labels" / "a.png"), labels)
    train, val = tmp_path / "train", tmp_path / "val"
    assert check([train, val]).problems == ()
    assert check(train, against=val).images == 1
    cv2.imwrite(str(val / "images" / "b.png"), cv2.imread(str(train / "images" / "a.png"))[::-1, 5:])
    assert [p.code for p in check([train, val]).problems] == ["no-label"]
    assert check(train, against=val).problems == ()  # what is wrong there isn't asked
    with pytest.raises(DataError, match="not found"):
        check(train, against=tmp_path / "none")
    (val / "labels" / "a.png").unlink()
    assert [p.code for p in check(train, against=val).problems] == [
        "unreadable-data"
    ]  # nothing to compare with


def test_objects_between_the_parts_of_another_are_found_in_time_of_their_own_area():
    """Against joining the two on a full frame; and with thousands that lie between, none of which touches."""
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(60):
        labels = np.zeros((9, 12), np.int32)
        labels[:, :] = rng.choice([0, 1, 2, 3], p=(0.3, 0.4, 0.2, 0.1), size=labels.shape)
        masks = Masks.from_label_image(labels)
        if not 0 < len(masks) == len(np.unique(labels[labels > 0])):
            continue
        frames = masks.to_dense()
        joined = [
            cv2.connectedComponents((frames[0] | frame).astype(np.uint8), connectivity=8)[1][frames[0]]
            for frame in frames[1:]
        ]
        assert is_divided(masks, 0) == any(len(np.unique(one)) == 1 for one in joined)
        seen.add(is_divided(masks, 0))
    assert seen == {True, False}
    labels = np.zeros((1200, 1200), np.int32)
    rows = np.arange(5, 1190, 15)
    labels[np.ix_(rows, rows)] = np.arange(2, 2 + len(rows) ** 2).reshape(len(rows), -1)
    labels[:2, :2] = labels[-2:, -2:] = 1
    began = time.perf_counter()
    assert not is_divided(Masks.from_label_image(labels), 0)
    assert time.perf_counter() - began < 5  # 6,241 full frames would take half a minute
