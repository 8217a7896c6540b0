"""Ultralytics `Results.to_json()`: a list of detections a picture, outlines and boxes in pixels or in shares.

A detection is {"name", "class", "confidence", "box": {"x1", "y1", "x2", "y2"}, "segments": {"x": […], "y": […]}}.
The list doesn't say of which picture it is: read are a file a picture, called by its stem, and one document
{picture: list}. With `normalize=True` coordinates are shares of width and height, and all of them 0 to 1.

source  docs.ultralytics.com, Results; the layout only, none of its code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apiece.errors import AnnotationError
from apiece.evaluate.read.per_picture import documents
from apiece.evaluate.read.predictions import (
    ClassRef,
    Collector,
    Page,
    Predictions,
    class_of,
    corners,
    listed,
    mapping,
    number,
    numbers,
)
from apiece.evaluate.read.truth import Truth

WHAT = "a detection with name, class, confidence and box"


def is_detection(value: object) -> bool:
    """Whether a JSON value is a detection of this layout."""
    return isinstance(value, Mapping) and isinstance(value.get("box"), Mapping) and "class" in value


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """A file a picture, or a document of all pictures.

    raises  AnnotationError naming file and detection.
    """
    collector = Collector(path, truth.pictures, all_told=True)
    lists = list(_lists(path, truth, document))
    shares = _in_shares(rows for _, _, rows in lists)
    if shares:
        collector.notes.append(
            f"{path}: all coordinates are 0 to 1, so they are read as shares of width and height."
        )
    for where, name, rows in lists:
        page = collector.page(name, where)
        for i, row in enumerate(rows):
            _add(collector, page, f"{where}: detection {i}", row, shares)
    return collector.predictions()


def _lists(path: Path, truth: Truth, document: Any) -> Iterator[tuple[str, str, list[Any]]]:
    for file, found in documents(path, document):
        if isinstance(found, Mapping):
            for name, rows in found.items():
                yield f"{file}: {name}", name, listed(rows, f"{file}: {name}", "its value")
            continue
        rows = listed(found, str(file), "the document")
        if rows and isinstance(rows[0], list):
            raise AnnotationError(
                f"{file}: is a list of lists, which doesn't say of which picture each is; expected a file a picture, "
                "called by its stem, or {picture: list}. Remedy: write {result.path: result.summary()} for each."
            )
        alone = not path.is_dir() and len(truth.pictures) == 1
        yield str(file), truth.pictures.names[0] if alone else file.stem, rows


def _add(collector: Collector, page: Page, where: str, row: Any, shares: bool) -> None:
    row = mapping(row, where, WHAT)
    box = mapping(row.get("box"), where, "a detection with a box x1, y1, x2, y2")
    wide, high = 1.0, 1.0
    if shares and page.place is not None:
        high, wide = collector.pictures.size(page.place)
    sides = numbers([box.get(key) for key in ("x1", "y1", "x2", "y2")], 4, where, "a box with")
    outline: list[list[float]] | None = None
    if "segments" in row:
        segments = mapping(row["segments"], where, "a detection whose segments are x and y")
        x, y = (listed(segments.get(key), where, f"segments.{key}") for key in ("x", "y"))
        if len(x) != len(y):
            raise AnnotationError(
                f"{where}: segments have {len(x)} x and {len(y)} y; expected as many. Remedy: export them again."
            )
        flat = [
            value
            for px, py in zip(x, y, strict=True)
            for value in (number(px, where, "segments.x") * wide, number(py, where, "segments.y") * high)
        ]
        outline = [flat] if len(flat) >= 6 else []
    name: ClassRef = class_of(row["name"] if row.get("name") else row.get("class"), where)
    x1, y1, x2, y2 = sides
    collector.add(
        page,
        where,
        name,
        score=row.get("confidence"),
        box=corners([x1 * wide, y1 * high, x2 * wide, y2 * high], where),
        segmentation=outline,
    )


def _in_shares(lists: Iterator[list[Any]]) -> bool:
    """Whether boxes are there and neither they nor outlines reach beyond 1."""
    largest = -1.0
    for rows in lists:
        for row in rows:
            box = row.get("box") if isinstance(row, Mapping) else None
            if not isinstance(box, Mapping):
                continue
            segments = row.get("segments")
            drawn = segments.values() if isinstance(segments, Mapping) else ()
            values = [*box.values(), *(value for side in drawn if isinstance(side, list) for value in side)]
            largest = max([largest, *(abs(value) for value in values if isinstance(value, int | float))])
    return 0 <= largest <= 1
