"""Roboflow inference: {"predictions": […], "image": {"width", "height"}} a picture.

A prediction has x and y (its centre), width, height, confidence, class, class_id, and `points` [{"x", "y"}, …] or a
run-length code (`rle` or `rle_mask`) for its outline; in pixels. A file is of the picture of its stem, unless
predictions say `image_path` or `image` has a name; a list may hold the answers of many pictures if each says so.

source  docs.roboflow.com, Instance Segmentation, Response Object Format; the layout only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apiece.errors import AnnotationError
from apiece.evaluate.read.per_picture import documents
from apiece.evaluate.read.predictions import (
    Collector,
    Page,
    Predictions,
    class_of,
    listed,
    mapping,
    number,
)
from apiece.evaluate.read.truth import Truth
from apiece.evaluate.scenes import Size

NAMES = ("image_path", "image_name", "file_name", "filename", "path", "name")
CODES = ("rle", "rle_mask")


def is_answer(value: object) -> bool:
    """Whether a JSON value is the answer for one picture."""
    return isinstance(value, Mapping) and isinstance(value.get("predictions"), list)


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """A file a picture, a list of answers, or {picture: answer}.

    raises  AnnotationError naming file and prediction, and if an answer doesn't say of which picture it is.
    """
    collector = Collector(path, truth.pictures, all_told=True)
    for file, found in documents(path, document):
        if is_answer(found):
            alone = not path.is_dir() and len(truth.pictures) == 1
            stem = truth.pictures.names[0] if alone else file.stem
            _add(collector, str(file), found, _named(found) or stem)
        elif isinstance(found, Mapping):
            for name, answer in found.items():
                _add(collector, f"{file}: {name}", answer, name)
        else:
            for i, answer in enumerate(listed(found, str(file), "the document")):
                where = f"{file}: answer {i}"
                named = _named(mapping(answer, where, "an answer with predictions"))
                if not named:
                    raise AnnotationError(
                        f"{where}: doesn't say of which picture it is; expected `image_path` in its predictions, or "
                        "`file_name`. Remedy: write one file a picture, called by the picture's stem."
                    )
                _add(collector, where, answer, named)
    return collector.predictions()


def _named(answer: Mapping[str, Any]) -> str:
    """The picture that an answer names: itself, in `image`, or in its predictions."""
    image, rows = answer.get("image"), answer.get("predictions")
    first = rows[0] if isinstance(rows, list) and rows else None
    for one in (answer, image, first):
        if isinstance(one, Mapping):
            for key in NAMES:
                if isinstance(one.get(key), str) and one[key]:
                    return str(one[key])
    return ""


def _add(collector: Collector, where: str, answer: Any, name: str) -> None:
    answer = mapping(answer, where, "an answer with predictions")
    page = collector.page(name, where, _size(answer.get("image"), where))
    for i, row in enumerate(listed(answer.get("predictions"), where, "predictions")):
        _add_one(collector, page, f"{where}: prediction {i}", row)


def _add_one(collector: Collector, page: Page, where: str, row: Any) -> None:
    row = mapping(row, where, "a prediction with x, y, width, height, confidence and class")
    x, y, width, height = (number(row.get(key), where, key) for key in ("x", "y", "width", "height"))
    if min(width, height) < 0:
        raise AnnotationError(
            f"{where}: is {width:g} wide and {height:g} high; expected none below 0. Remedy: export it again."
        )
    outline: Any = next((row[key] for key in CODES if row.get(key) is not None), None)
    if outline is not None:
        outline = mapping(outline, where, "a run-length code with size and counts")
    elif row.get("points") is not None:
        flat = []
        for point in listed(row["points"], where, "points"):
            one = mapping(point, where, "a prediction whose points have x and y")
            flat += [number(one.get(key), where, f"a point with {key}") for key in ("x", "y")]
        outline = [flat] if len(flat) >= 6 else []
    ref = row.get("class")
    collector.add(
        page,
        where,
        class_of(row.get("class_id") if ref in (None, "") else ref, where),
        score=row.get("confidence"),
        box=[x - width / 2, y - height / 2, width, height],
        segmentation=outline,
    )


def _size(image: object, where: str) -> Size | None:
    """Height and width for which an answer was made; the hosted service writes them as texts."""
    if not isinstance(image, Mapping) or image.get("width") is None or image.get("height") is None:
        return None
    height, width = (number(image[key], where, f"an image with {key}") for key in ("height", "width"))
    return round(height), round(width)
