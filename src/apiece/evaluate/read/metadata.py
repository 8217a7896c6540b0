"""Metadata: what is known of each picture besides its objects, such as camera, hour or plate."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apiece.data.dataset import by_name
from apiece.errors import DataError, did_you_mean
from apiece.evaluate.read.pictures import Pictures, shown

Columns = dict[str, tuple[str, ...]]
# Entries of a COCO image that say nothing of the scene.
NO_METADATA = frozenset(
    {
        "id",
        "file_name",
        "width",
        "height",
        "license",
        "license_id",
        "truncated",
        "coco_url",
        "flickr_url",
        "url",
    }
)
LONGEST = 120  # characters of a value
MOST_BYTES = 2**27
MOST_COLUMNS = 200


def columns_of(images: Sequence[Mapping[str, Any]]) -> Columns:
    """The columns that COCO images carry: short texts, numbers and truth values; "" where an image has none."""
    names = dict.fromkeys(key for image in images for key in image)
    columns: Columns = {}
    for name in names:
        if name in NO_METADATA or name.endswith("_url") or len(columns) >= MOST_COLUMNS:
            continue
        values = tuple(_text(image.get(name)) for image in images)
        if any(values):
            columns[name] = values
    return columns


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        text = str(value).strip()
        return text if len(text) <= LONGEST else ""
    return ""


def read_metadata(path: Path, pictures: Pictures) -> tuple[Columns, list[str]]:
    """The columns of a CSV file whose first column names pictures: by id, name, file name or stem.

    Columns are separated by commas; or by semicolons or tabs where the first line has no comma.

    returns  a text a picture and column, "" for pictures that aren't in the file; notes about these.
    raises   DataError: not readable, no table, columns without or of equal names, unknown or repeated pictures.
    """
    rows = _rows(path)
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) < 2 or len(header) > MOST_COLUMNS:
        raise DataError(
            f"{path}: its first line has {len(header)} columns; expected the header of a table: a column that names "
            "pictures, then what describes them, separated by commas. Remedy: write image,camera,hour in the first "
            "line."
        )
    titles = header[1:]
    wrong = next((name for i, name in enumerate(titles) if not name or name in titles[:i]), None)
    if wrong is not None:
        what = f"two columns called {wrong!r}" if wrong else "a column without a name"
        raise DataError(f"{path}: has {what}; expected names that differ. Remedy: correct the first line.")
    known = by_name(pictures.names)
    place_of = {name: place for place, name in enumerate(pictures.names)}
    lines: dict[int, int] = {}
    values = [[""] * len(pictures) for _ in titles]
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DataError(
                f"{path}: line {number} has {len(row)} columns; expected {len(header)}, as the first line has. "
                "Remedy: put texts with commas in quotes."
            )
        name = row[0].strip()
        meant = known.get(name, [])
        place = place_of[meant[0]] if len(meant) == 1 else pictures.by_id(name)
        if place is None and not meant:
            place = pictures.by_name(name)
        if place is None and len(meant) > 1:
            raise DataError(
                f"{path}: line {number}: {name!r} is the name of {len(meant)} pictures, such as {meant[0]!r} and "
                f"{meant[1]!r}; expected one. Remedy: give their paths."
            )
        if place is None:
            raise DataError(
                f"{path}: line {number}: no picture of {pictures.source} is called {name!r}. "
                f"{did_you_mean(name, pictures.names)[:300]} Remedy: correct the name in the first column."
            )
        if place in lines:
            raise DataError(
                f"{path}: lines {lines[place]} and {number} are both of the picture {pictures.names[place]!r}; "
                "expected one line a picture. Remedy: remove one."
            )
        lines[place] = number
        for column, cell in zip(values, row[1:], strict=True):
            column[place] = cell.strip()
    notes = []
    absent = [name for place, name in enumerate(pictures.names) if place not in lines]
    if absent:
        notes.append(
            f"{path}: {len(absent)} of {len(pictures)} pictures are not in it ({shown(absent)}); what it tells is "
            "unknown of them."
        )
    return {title: tuple(column) for title, column in zip(titles, values, strict=True)}, notes


def _delimiter(text: str) -> str:
    """What separates columns: a comma, or what spreadsheets write where the comma is the decimal sign."""
    header = text.partition("\n")[0]
    return "," if "," in header else next((one for one in (";", "\t") if one in header), ",")


def _rows(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path}: has {path.stat().st_size:,} bytes; expected at most {MOST_BYTES:,} of a table of pictures. "
                "Remedy: check the path."
            )
        text = path.read_text(encoding="utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Remedy: check the path.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not text in UTF-8 (byte {error.start}); expected a CSV file. Remedy: export it as CSV UTF-8."
        ) from None
    except csv.Error as error:
        raise DataError(
            f"{path}: is not CSV that can be read ({error}). Remedy: export it again, separated by commas."
        ) from None
