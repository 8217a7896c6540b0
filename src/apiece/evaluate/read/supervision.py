"""supervision's JSONSink and CSVSink: a row a detection, boxes without masks.

Columns are x_min, y_min, x_max, y_max, class_id, confidence, tracker_id, what `detections.data` holds (class_name),
and what the user adds. Which picture a row is of the user must have added: the column whose values are pictures of
the truth. Without it a file is of the picture of its own stem, so that there may be a file a picture.

source  supervision.roboflow.com, JSONSink and CSVSink.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apiece.data.coco_entries import load_json
from apiece.errors import AnnotationError, DataError
from apiece.evaluate.read.per_picture import files_of
from apiece.evaluate.read.predictions import (
    Collector,
    Predictions,
    class_of,
    corners,
    listed,
    mapping,
    number,
)
from apiece.evaluate.read.truth import Truth

SIDES = ("x_min", "y_min", "x_max", "y_max")
OWN = frozenset({*SIDES, "class_id", "confidence", "tracker_id", "class_name", "mask", "area"})
CLASS = "object"  # where detections have no class
MOST_BYTES = 2**30
# Where several columns hold pictures of the truth: as people call them.
LIKELY = ("image", "image_name", "image_path", "file_name", "filename", "file", "path", "image_id", "frame")


def is_row(value: object) -> bool:
    """Whether a JSON value is a row of this layout."""
    return isinstance(value, Mapping) and set(SIDES) <= value.keys()


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """A JSON or CSV file, or a folder of them.

    raises  AnnotationError naming file and row, and if nothing tells the pictures.
    """
    folder = path.is_dir()
    files = files_of(path, frozenset({".json", ".csv"})) if folder else [path]
    collector = Collector(path, truth.pictures, all_told=False)
    for file in files:
        rows = _csv(file) if file.suffix.lower() == ".csv" else document if not folder else load_json(file)
        rows = listed(load_json(file) if rows is None else rows, str(file), "the document")
        checked = [
            mapping(row, f"{file}: row {i}", "a row with x_min, y_min, x_max and y_max")
            for i, row in enumerate(rows)
        ]
        column = _picture_column(checked, truth)
        if column is None and not checked and not folder:
            continue
        if column is None and truth.pictures.by_name(file.stem) is None and len(truth.pictures) > 1:
            columns = sorted({str(key) for row in checked[:1] for key in row} - OWN)
            raise AnnotationError(
                f"{file}: no column tells the picture of each row (columns besides supervision's own: "
                f"{', '.join(columns) or 'none'}), and no picture is called {file.stem!r}; expected a column with "
                'names of pictures. Remedy: sink.append(detections, {"image": NAME}), or one file a picture.'
            )
        alone = file.stem if truth.pictures.by_name(file.stem) is not None else truth.pictures.names[0]
        if column is None:
            collector.page(alone, str(file))
        for i, row in enumerate(checked):
            where = f"{file}: row {i}"
            page = collector.page(alone if column is None else str(row[column]), where)
            sides = [number(row.get(side), where, side) for side in SIDES]
            named = row.get("class_name")
            ref = named if named not in (None, "") else _whole(row.get("class_id"))
            score = row.get("confidence")
            collector.add(
                page,
                where,
                class_of(CLASS if ref in (None, "") else ref, where),
                score=None if score == "" else score,
                box=corners(sides, where),
            )
    return collector.predictions()


def _picture_column(rows: list[Mapping[str, Any]], truth: Truth) -> str | None:
    """The column that names most pictures of the truth; None if none names any."""
    if not rows:
        return None
    counts: dict[str, int] = {}
    for key in dict.fromkeys(key for row in rows for key in row if key not in OWN):
        values = {value for row in rows if isinstance(value := row.get(key), str | int)}
        if any(key not in row for row in rows):
            continue
        counts[key] = sum(truth.pictures.by_name(str(value)) is not None for value in values)
    found = [key for key, count in counts.items() if count]
    if not found:
        return None

    def likely(key: str) -> tuple[int, int]:
        place = LIKELY.index(key.lower()) if key.lower() in LIKELY else len(LIKELY)
        return counts[key], -place

    return max(found, key=likely)


def _whole(value: object) -> object:
    """Class numbers of CSV files, which are texts there."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value


def _csv(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path}: has {path.stat().st_size:,} bytes; expected at most {MOST_BYTES:,}. Remedy: check the file."
            )
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows: list[dict[str, Any]] = []
        for number_, row in enumerate(reader):
            if None in row or None in row.values():
                raise AnnotationError(
                    f"{path}: row {number_}: has not as many columns as the first line; expected a whole table. "
                    "Remedy: export it again."
                )
            rows.append(dict(row))
        if not set(SIDES) <= set(reader.fieldnames or ()):
            raise AnnotationError(
                f"{path}: has the columns {', '.join(map(str, reader.fieldnames or ()))[:200] or '(none)'}; expected "
                "x_min, y_min, x_max and y_max, as supervision's CSVSink writes. Remedy: check the file."
            )
        return rows
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}). Remedy: check the path.") from None
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: is not text in UTF-8 (byte {error.start}); expected CSV. Remedy: export it again."
        ) from None
    except csv.Error as error:
        raise AnnotationError(
            f"{path}: is not CSV that can be read ({error}). Remedy: export it again."
        ) from None
