"""YOLO texts of predictions: a file a picture, a line an object, the confidence last (`save_txt save_conf`).

A line is `class x y x y … confidence`, coordinates as shares of width and height; with exactly four coordinates it is
a box: centre, width and height. Where objects were tracked the track id follows the confidence. Texts without
confidences, such as labels, are read, too. A picture without a text has no predictions. Names are those of data.yaml
or classes.txt beside the texts or one folder up; without them classes are numbers.

Outlines become masks as those of YOLO labels do (see apiece.data.formats.yolo).

source  docs.ultralytics.com, `predict` with save_txt and save_conf; the layout only, none of its code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.image import natural
from apiece.core.masks import Masks
from apiece.data.formats.drawing import ShapeError, ring_of
from apiece.data.formats.yolo_layout import BESIDE, class_names, is_label_line, layout_of, read_text
from apiece.errors import AnnotationError, ApieceError, DataError
from apiece.evaluate.read.predictions import ClassRef, Collector, Page, Predictions
from apiece.evaluate.read.truth import Truth
from apiece.evaluate.scenes import Size

MOST_NAMES = 10_000
FAR = 0.1  # shares of a side by which an outline may leave the picture
PROBED = 50


def texts_of(path: Path) -> tuple[Path, list[Path]]:
    """The folder that texts are named from, and the texts."""
    if path.is_file():
        return path.parent, [path]
    root = path / "labels" if (path / "labels").is_dir() else path
    try:
        found = [
            text
            for text in root.rglob("*.txt")
            if text.name.lower() not in BESIDE and not text.name.startswith(".") and text.is_file()
        ]
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror}). Remedy: check the path.") from None
    return root, sorted(found, key=lambda text: natural(str(text)))


def detect(path: Path) -> bool:
    """Whether the first line of a text, of a folder or file, is one of this layout; True if all texts are empty."""
    try:
        texts = texts_of(path)[1] if path.is_dir() or path.suffix.lower() == ".txt" else []
        filled = False
        for text in texts[:PROBED]:
            with text.open("rb") as file:
                lines = file.read(4096).decode("ascii", "replace").splitlines()
            line = next((line for line in lines if line.strip()), None)
            if line is not None and is_label_line(line):
                return True
            filled = filled or line is not None
        return bool(texts) and not filled
    except OSError:
        return False


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """All texts of a folder and its subfolders (or in its `labels/`), or one text.

    raises  AnnotationError naming file and line; DataError if there is no text.
    """
    root, texts = texts_of(path)
    if not texts:
        raise DataError(
            f"{path}: holds no text; expected one NAME.txt a picture, there or in labels/. Remedy: name their folder."
        )
    names = _class_names(path, root)
    collector = Collector(path, truth.pictures, all_told=False)
    for number in sorted(names):
        collector.class_named(names[number])
    lines = {text: _lines(text) for text in texts}
    tracked = any(_ends_with_id(line) for rows in lines.values() for _, line in rows)
    for text in texts:
        page = collector.page(text.relative_to(root).with_suffix("").as_posix(), str(text))
        _add(collector, page, text, lines[text], names, tracked)
    return collector.predictions()


def _lines(text: Path) -> list[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1."""
    return [(i, line) for i, line in enumerate(read_text(text).splitlines(), start=1) if line.strip()]


def _ends_with_id(line: str) -> bool:
    """Whether a line has a track id behind its confidence: an even number of numbers, the last whole and above 1."""
    words = line.split()
    last = words[-1].removesuffix(".0")
    return len(words) > 6 and len(words) % 2 == 1 and last.isascii() and last.isdigit() and int(last[:9]) > 1


def _add(
    collector: Collector,
    page: Page,
    text: Path,
    lines: list[tuple[int, str]],
    names: dict[int, str],
    tracked: bool,
) -> None:
    if not lines:
        return
    size = collector.pictures.size(page.place) if page.place is not None else (1, 1)
    rings: list[list[tuple[np.ndarray[Any, Any], list[Any]]]] = []
    made: list[tuple[str, ClassRef, float | None, list[float] | None]] = []
    for number, line in lines:
        where = f"{text}: line {number}"
        category, values, score = _parsed(line, where, tracked)
        if names and category not in names:
            raise AnnotationError(
                f"{where}: has the class {category}, which has no name; the classes are 0 to {max(names)}. "
                "Remedy: complete classes.txt or data.yaml."
            )
        class_ref: ClassRef = names.get(category, category)
        box = None
        if len(values) == 4:
            x, y, width, height = values
            if min(width, height) < 0:
                raise AnnotationError(
                    f"{where}: has a box of width {width:g} and height {height:g}; expected none below 0. "
                    "Remedy: export the predictions again."
                )
            _check_shares(where, [x - width / 2, x + width / 2, y - height / 2, y + height / 2])
            box = _pixels([x - width / 2, y - height / 2, width, height], size)
        else:
            _check_shares(where, values)
        made.append((where, class_ref, score, box))
        drawn = box is None and len(values) >= 6
        rings.append([(_ring(values, size, where), [])] if drawn else [])
    if page.place is None:
        for where, class_ref, score, _ in made:
            collector.add(page, where, class_ref, score=score)
        return
    try:
        codes = Masks.from_polygons(rings, size).to_coco()
    except ApieceError as error:
        raise AnnotationError(f"{text}: {error}") from None
    for (where, class_ref, score, box), ring, code in zip(made, rings, codes, strict=True):
        outline: Any = None if box is not None else code if ring else []
        collector.add(page, where, class_ref, score=score, box=box, segmentation=outline)


def _parsed(line: str, where: str, tracked: bool) -> tuple[int, list[float], float | None]:
    """Class, coordinates and confidence of a line."""
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not values or not np.isfinite(values).all():
        raise AnnotationError(
            f"{where}: is {line.strip()[:60]!r}; expected a class number, coordinates and a confidence, all finite "
            "numbers. Remedy: export the predictions again."
        )
    if not values[0].is_integer() or not 0 <= values[0] < MOST_NAMES:
        raise AnnotationError(
            f"{where}: has the class {words[0]}; expected a whole number from 0 to {MOST_NAMES - 1}. "
            "Remedy: export the predictions again."
        )
    category, rest = int(values[0]), values[1:]
    if tracked and len(rest) > 5 and len(rest) % 2 == 0 and rest[-1].is_integer():
        rest = rest[:-1]  # a track id, which follows the confidence
    if len(rest) % 2 == 0:
        if len(rest) < 4:
            raise AnnotationError(
                f"{where}: has {len(rest)} numbers behind the class; expected x and y of at least three points, or "
                "four of a box, and a confidence. Remedy: export the predictions again."
            )
        return category, rest, None
    if not 0 <= rest[-1] <= 1:
        raise AnnotationError(
            f"{where}: ends with {rest[-1]:g}; expected a confidence from 0 to 1, as an odd number of numbers follows "
            "the class. Remedy: predict with save_conf=True."
        )
    return category, rest[:-1], rest[-1]


def _check_shares(where: str, values: list[float]) -> None:
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low < -FAR or high > 1 + FAR:
        raise AnnotationError(
            f"{where}: has coordinates from {low:g} to {high:g}; expected shares of width and height, 0 to 1. "
            "Remedy: divide by the picture's sides."
        )


def _ring(values: list[float], size: Size, where: str) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(ring_of(np.array(values).reshape(-1, 2)) * size[::-1], np.float64)
    except ShapeError as error:
        raise AnnotationError(f"{where}: {error} Remedy: export the predictions again.") from None


def _pixels(box: list[float], size: Size) -> list[float]:
    height, width = size
    return [box[0] * width, box[1] * height, box[2] * width, box[3] * height]


def _class_names(path: Path, root: Path) -> dict[int, str]:
    """Names by number from data.yaml or classes.txt in the folder, or one up from the texts; {} without either."""
    for folder in dict.fromkeys((path if path.is_dir() else path.parent, root, root.parent)):
        if any((folder / name).is_file() for name in ("data.yaml", "data.yml", "classes.txt")):
            classes = class_names(folder, layout_of(folder, None, None, [])[1], [], [])
            return dict(zip(classes.ids, classes.names, strict=True))
    return {}
