"""The report as text: whole, well formed, safe against what files hold, and honest about what is missing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_scene import HOSTILE, HOSTILE_CLASS, document, entries_of, instances, scene

from apiece.errors import DataError
from apiece.evaluate.ledger import KINDS, Ledger
from apiece.evaluate.report import write_report
from apiece.evaluate.report.markup import decimal, embedded, percent, safe, signed
from apiece.evaluate.report.page import page_of
from apiece.evaluate.scenes import scenes_of_instances
from apiece.evaluate.subject import Subject

VOID = {"meta", "img", "input", "br", "hr", "link"}


class Page(HTMLParser):
    """Elements of a page in order; raises where one is closed that isn't open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def shown(self) -> str:
        return " ".join(data for tag, data in self.texts if tag not in ("script", "style"))


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Subject, Ledger]:
    subject, entries = scene(tmp_path_factory.mktemp("pictures"))
    return document(subject, entries), subject, entries


@pytest.fixture(scope="module")
def text(diagnosed: tuple[dict[str, Any], Subject, Ledger]) -> str:
    return page_of(*diagnosed)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_scene_holds_every_kind_but_the_rare(diagnosed: tuple[dict[str, Any], Subject, Ledger]) -> None:
    kinds = {KINDS[k] for k in (*diagnosed[2].truth_kind, *diagnosed[2].predicted_kind) if k >= 0}
    assert kinds == set(KINDS) - {"tangled", "ignored"}


def test_parts_come_in_order_and_are_linked(page: Page) -> None:
    sections = [attributes["id"] for attributes in page.of("section")]
    order = [
        "verdict",
        "count",
        "ledger",
        "pictures",
        "causes",
        "costs",
        "options",
        "risk",
        "calibration",
        "counting",
    ]
    assert sections == [*order, "quality", "slices", "label-errors", "worst", "notes", "definitions"]
    links = [attributes["href"][1:] for attributes in page.of("a") if attributes["href"].startswith("#")]
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert set(links) <= ids
    assert set(sections) - {"verdict"} <= set(links)


def test_ids_are_unique_and_references_hold(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for key in ("aria-labelledby", "for"):
            assert set(attributes.get(key, "").split()) <= set(ids)


def test_headings_go_down_one_level_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_everything_shown_has_words(page: Page) -> None:
    assert page.of("img")
    for attributes in page.of("img"):
        assert len(attributes["alt"]) > 20
        assert attributes["src"].startswith("data:image/webp;base64,")
        assert base64.b64decode(attributes["src"].split(",", 1)[1])[8:12] == b"WEBP"
    for attributes in page.of("svg"):
        named = attributes.get("aria-label") or attributes.get("aria-labelledby")
        assert attributes.get("aria-hidden") == "true" or (attributes["role"] == "img" and named)
    for tag in ("input", "select"):
        for attributes in page.of(tag):
            assert attributes["id"]
    assert all(attributes["type"] == "button" for attributes in page.of("button"))
    assert len(page.of("caption")) == len(page.of("table"))


def test_captions_tell_class_score_and_iou(page: Page) -> None:
    alts = [attributes["alt"] for attributes in page.of("img")]
    expected = (
        r"matched: cell, predicted cell 0\.90, IoU 0\.8\d\. In first\.png\. Outlines: truth solid blue",
        r"loose: cell, predicted cell 0\.80, IoU 0\.[1-4]\d",
        r"confused: cell, predicted .* 0\.95, IoU 1\.00",
        r"duplicate: predicted cell 0\.55 again for cell, IoU 0\.\d\d",
        r"merged: 2 × cell under one prediction cell 0\.70",
        r"split: cell in 2 predictions \(0\.65, 0\.60\), best IoU 0\.\d\d",
        r"spurious: predicted cell 0\.85: no object behind it",
        r"missed: cell: best candidate below the threshold 0\.20, IoU 0\.9\d",
        r"missed: cell: no candidate of its class with IoU ≥ 0.1",
    )
    for pattern in expected:
        assert any(re.match(pattern, alt) for alt in alts), pattern


def test_the_ledger_adds_up_on_the_page(
    page: Page, diagnosed: tuple[dict[str, Any], Subject, Ledger]
) -> None:
    net = diagnosed[0]["count"]["net"]
    assert f"add up to {signed(net)}, which is predicted less true: the ledger reconciles" in page.shown
    wrong = {**diagnosed[0], "count": {**diagnosed[0]["count"], "predicted": 99}}
    assert "does not reconcile" in page_of(wrong, *diagnosed[1:])


def test_nothing_is_fetched_and_the_script_is_the_only_one_allowed(text: str, page: Page) -> None:
    written = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"//\w", written)
    assert "javascript:" not in text
    assert "eval(" not in text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not page.of("iframe")
    assert not page.of("link")
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    assert f"script-src 'sha256-{digest}'" in policy


def test_names_from_files_are_inert_and_visible(text: str, page: Page) -> None:
    assert "<script>alert" not in text
    assert "onerror=alert(2)>" not in text.replace("&gt;", "")
    assert "<b>bold" not in text
    assert "<i>truth" not in text
    assert "<b>bold</b>" in page.shown  # as text
    assert '"><script>alert(1)</script>' in page.shown
    for control in ("\u202e", "\x07", "\ud800"):
        assert control not in text
    assert "\ufffd\ufffd\ufffd.png" in page.shown


def test_the_embedded_document_is_the_document(
    text: str, diagnosed: tuple[dict[str, Any], Subject, Ledger]
) -> None:
    found = re.search(r'<script type="application/json" id="document">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == json.loads(json.dumps(diagnosed[0]))
    assert "<" not in found[1]
    assert ">" not in found[1]


def test_embedded_json_can_close_nothing_and_holds_no_nan() -> None:
    hostile = {"</script><!--": ["<script>", "\u2028", "\ud800", float("nan"), float("inf"), 1.5]}
    made = embedded(hostile)
    assert re.fullmatch(r"[\x20-\x7e]*", made)
    assert not re.search("[<>&]", made)
    assert json.loads(made) == {"</script><!--": ["<script>", "\u2028", "\ud800", None, None, 1.5]}


def test_pictures_that_cannot_be_shown_leave_their_outlines_and_a_note(text: str, page: Page) -> None:
    grounds = [a for a in page.of("svg") if a.get("class") == "ground"]
    assert grounds
    assert all("The picture itself is not shown." in a["aria-label"] for a in grounds)
    assert re.search(r"third\.png: is truncated: the PNG file", page.shown), "why, and without the folder"
    assert "1 of the 3 pictures to show were not found" in page.shown


@pytest.mark.parametrize(
    "part", ["costs", "options", "risk", "calibration", "quality", "slices", "label_errors", "causes"]
)
def test_a_part_that_is_missing_says_why(
    part: str, diagnosed: tuple[dict[str, Any], Subject, Ledger]
) -> None:
    given, subject, entries = diagnosed
    for gone in ({key: value for key, value in given.items() if key != part}, {**given, part: None}):
        gone["reasons"] = {part: "There was <no> time."}
        shown = Page(page_of(gone, subject, entries))
        sections = {a["id"] for a in shown.of("section")}
        assert part.replace("_", "-") in sections
        assert "Not known: There was <no> time." in shown.shown
    silent = Page(page_of({**given, part: None, "reasons": {}}, subject, entries))
    assert part.replace("_", "-") not in {a["id"] for a in silent.of("section")}


def test_a_document_of_nothing_but_a_ledger_still_makes_a_page(
    diagnosed: tuple[dict[str, Any], Subject, Ledger],
) -> None:
    Page(page_of({}, *diagnosed[1:]))
    junk = dict.fromkeys(diagnosed[0], "junk")
    Page(page_of(junk, *diagnosed[1:]))


JUNK = st.sampled_from(
    [
        None,
        float("nan"),
        float("inf"),
        -1e308,
        10**30,
        True,
        "",
        "junk",
        HOSTILE,
        [],
        {},
        [None],
        {"value": "x"},
        -1,
        0,
    ]
)


def leaves(given: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a document, containers too."""
    items = given.items() if isinstance(given, dict) else enumerate(given) if isinstance(given, list) else ()
    return [path, *(deeper for key, value in items for deeper in leaves(value, (*path, key)))]


def replaced(given: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(given) if isinstance(given, dict) else list(given)
    copy[path[0]] = replaced(given[path[0]], path[1:], value)
    return copy


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_may_be_anything(
    data: st.DataObject, diagnosed: tuple[dict[str, Any], Subject, Ledger]
) -> None:
    given_document, subject, entries = diagnosed
    for _ in range(data.draw(st.integers(1, 4))):
        paths = [path for path in leaves(given_document) if path]
        given_document = replaced(given_document, data.draw(st.sampled_from(paths)), data.draw(JUNK))
    text = page_of(given_document, subject, entries)
    Page(text)
    assert "<script>alert" not in text


def test_every_text_of_a_document_is_inert(diagnosed: tuple[dict[str, Any], Subject, Ledger]) -> None:
    given_document, subject, entries = diagnosed
    for path in leaves(given_document):
        found: Any = diagnosed[0]
        for key in path:
            found = found[key]
        if isinstance(found, str) and path[-1] != "kind":
            given_document = replaced(given_document, path, HOSTILE)
    page = Page(page_of(given_document, subject, entries))
    assert page.shown.count("<script>alert(1)</script>") > 40
    assert len(page.of("script")) == 2
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_no_objects_at_all(tmp_path: Path) -> None:
    nothing = [instances([], [], None)]
    scenes = scenes_of_instances(nothing, [instances([], [], [])])
    subject = Subject(scenes, ("empty.png",), (None,))
    entries = entries_of(scenes)
    page = Page(page_of(document(subject, entries) | {"label_errors": None}, subject, entries))
    assert "There are no objects and no predictions." in page.shown
    assert not page.of("img")


def test_boxes_are_drawn_where_there_are_no_masks(diagnosed: tuple[dict[str, Any], Subject, Ledger]) -> None:
    from dataclasses import replace

    from apiece.evaluate.ledger import ledger
    from apiece.evaluate.operating import OperatingPoint, select
    from apiece.evaluate.overlaps import overlaps_of

    given, subject, _ = diagnosed
    scenes = subject.scenes
    bare = replace(
        scenes,
        truth=replace(scenes.truth, masks=(None,) * len(scenes.truth)),
        predicted=replace(scenes.predicted, masks=(None,) * len(scenes.predicted)),
    )
    overlaps = overlaps_of(bare, "bbox")
    entries = ledger(overlaps, select(overlaps, OperatingPoint(0.5)))
    page = Page(page_of(given, replace(subject, scenes=bare), entries))
    paths = [
        a["d"] for a in page.of("path") if a.get("class", "").startswith("o ") and a["d"].startswith("M")
    ]
    assert any(re.fullmatch(r"M[-.\d]+ [-.\d]+h[.\d]+v[.\d]+h-[.\d]+Z", d) for d in paths)


def test_a_file_that_cannot_be_written_is_said(
    tmp_path: Path, diagnosed: tuple[dict[str, Any], Subject, Ledger]
) -> None:
    write_report(*diagnosed, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").endswith("</html>\n")
    with pytest.raises(DataError, match="Remedy: does its folder exist"):
        write_report(*diagnosed, tmp_path / "none" / "report.html")


def test_numbers_read_well() -> None:
    assert [signed(value) for value in (3.4, -0.4, 0, -1234.0, None)] == ["+3", "0", "0", "−1,234", "–"]
    assert signed(-0.0004, 3) == "0.000"
    assert signed(-0.0006, 3) == "−0.001"
    assert decimal(-0.00001) == "0.000"
    assert percent(0.1234) == "12.3\u00a0%"
    assert safe("a\x00b\u202ec\ud83d<") == "a\ufffdb\ufffdc\ufffd&lt;"


def test_the_same_diagnosis_gives_the_same_page(
    text: str, diagnosed: tuple[dict[str, Any], Subject, Ledger]
) -> None:
    assert page_of(*diagnosed) == text


def test_hostile_names_are_what_the_scene_has(diagnosed: tuple[dict[str, Any], Subject, Ledger]) -> None:
    assert HOSTILE in diagnosed[1].names
    assert HOSTILE_CLASS in [name for _, name in diagnosed[1].scenes.classes]
    assert np.isfinite(diagnosed[2].selection.scores).all()
