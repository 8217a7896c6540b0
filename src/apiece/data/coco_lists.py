"""What every document of COCO's kind has: images and categories, and a list of what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from apiece.core.classes import ClassMap
from apiece.core.masks import MAX_AREA
from apiece.data.coco_document import ImageRecord
from apiece.data.coco_entries import Finding, kind, whole
from apiece.data.json_stream import JsonText, Span
from apiece.data.problems import Problem
from apiece.errors import AnnotationError

LISTS = ("images", "annotations", "categories")


class Findings:
    """Collects what is wrong with one file; what occurs on every entry alike is told once, with its number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[Problem] = []
        self._often: dict[tuple[str, str], tuple[str, int]] = {}

    def add(self, where: str, finding: Finding) -> None:
        """Note what is wrong with one entry."""
        severity, message, remedy, left_out = finding
        self._found.append(Problem(severity, str(self.path), where, message, remedy, left_out))

    def often(self, where: str, message: str, remedy: str) -> None:
        """A warning that is told once: for the first entry, with the number of all."""
        first, count = self._often.get((message, remedy), (where, 0))
        self._often[message, remedy] = (first, count + 1)

    def number(self, where: str, entry: Mapping[str, Any], key: str) -> int | None:
        """An entry's id as an integer; None if it has none. Ids that are texts or fractions are noted."""
        value = entry.get(key)
        if type(value) is int and -(2**63) < value < 2**63:
            return value
        number = whole(value)
        if number is not None:
            form = "a text" if isinstance(value, str) else "a decimal number"
            self.often(where, f"has its {key} as {form}, not as an integer", "write ids as integers.")
        return number

    def all(self) -> tuple[Problem, ...]:
        """All, in the order in which they were found; those that are told once come last."""
        often = [
            Problem(
                "warning",
                str(self.path),
                first,
                message + (f"; so have {count - 1} others." if count > 1 else "."),
                remedy,
            )
            for (message, remedy), (first, count) in self._often.items()
        ]
        return (*self._found, *often)


def lists_of(text: JsonText) -> dict[str, Span]:
    """Where the values of a document's outermost object lie, among them those of LISTS.

    raises  AnnotationError if one of these is no list, or the file is no JSON object.
    """
    if text.first() != "{":
        raise AnnotationError(
            f"{text.path}: is {text.outermost()}; expected a COCO document, an object with images, annotations and "
            "categories. Remedy: a plain list of results is for predictions; name the ground truth."
        )
    members = text.members()
    for key in LISTS:
        found = text.kind(members[key]) if key in members else "missing"
        if found != "a list":
            raise AnnotationError(
                f"{text.path}: {key!r} is {found}; expected a list, as COCO instances have it. "
                f"Remedy: export the file as COCO instances, or add {key!r}."
            )
    return members


def read_categories(path: Path, categories: list[Any], problems: Findings) -> ClassMap:
    """The classes of `categories`, whose ids are made integers in place.

    raises  AnnotationError if they don't hold together.
    """
    for place, category in enumerate(categories):
        if isinstance(category, dict):
            number = problems.number(f"categories[{place}]", category, "id")
            category["id"] = category.get("id") if number is None else number
    try:
        return ClassMap.from_coco(categories)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None


def read_images(
    entries: Iterable[tuple[Any, int, int]], problems: Findings
) -> tuple[dict[int, ImageRecord], dict[int, tuple[int, int]]]:
    """The images that can be used, and where their entries lie, by id.

    entries  the items of `images`, each with its first byte and the one behind its last.
    """
    records: dict[int, ImageRecord] = {}
    spans: dict[int, tuple[int, int]] = {}

    def refused(where: str, message: str, remedy: str, left_out: str = "the image") -> None:
        problems.add(where, Finding("error", message, remedy, left_out))

    for index, (entry, start, end) in enumerate(entries):
        where = f"images[{index}]"
        if not isinstance(entry, dict):
            refused(where, f"is {kind(entry)}; expected an object.", "export the file again.")
            continue
        number = problems.number(where, entry, "id")
        if number is None:
            refused(where, f"has id {entry.get('id')!r}; expected a whole number.", "number the images.")
            continue
        where = f"image {number}"
        height, width = (problems.number(where, entry, key) for key in ("height", "width"))
        if height is None or width is None or min(height, width) < 1 or height * width > MAX_AREA:
            text = f"has height {entry.get('height')!r} and width {entry.get('width')!r}; expected both, in pixels."
            refused(where, text, "write the picture's size.")
            continue
        if number in records:
            text = f"stands twice in images, also as images[{index}]; expected ids that differ."
            refused(where, text, "give every image an id of its own.", "the second image")
            continue
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            remedy = "add it, unless only figures are wanted."
            problems.add(where, Finding("warning", f"has file_name {name!r}; expected a path.", remedy))
            name = ""
        records[number], spans[number] = ImageRecord(number, name, height, width), (start, end)
    return records, spans
