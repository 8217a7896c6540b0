"""JSON files of predictions, one a picture: where they lie, and the picture that each is of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apiece.core.image import natural
from apiece.data.coco_entries import load_json
from apiece.errors import DataError

FOLDERS = ("", "preds", "predictions", "labels")


def files_of(folder: Path, suffixes: frozenset[str], folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """The files with these suffixes in a folder, or else in the first of its subfolders that has any.

    raises  DataError if a folder can't be listed.
    """
    for name in folders:
        inside = folder / name
        try:
            if not inside.is_dir():
                continue
            found = [
                path
                for path in inside.iterdir()
                if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
            ]
        except OSError as error:
            raise DataError(
                f"{inside}: cannot be listed ({error.strerror}). Remedy: check the path."
            ) from None
        if found:
            return sorted(found, key=lambda path: natural(path.name))
    return []


def documents(path: Path, document: Any = None) -> Iterator[tuple[Path, Any]]:
    """The JSON file that `path` is, or those of the folder, each with what it holds.

    document  of a file, where it has been read.
    raises    AnnotationError for a file that isn't whole JSON.
    """
    if not path.is_dir():
        yield path, load_json(path) if document is None else document
        return
    for file in files_of(path, frozenset({".json"})):
        yield file, load_json(file)
