"""Telling COCO documents apart: of objects, panoptic, and what only looks like them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from apiece.data.coco_lists import LISTS
from apiece.data.json_stream import JsonText
from apiece.errors import ApieceError, DataError

Kind = Literal["instances", "panoptic"]
MOST = 20  # documents of a folder that are looked at


def kind_of(path: Path) -> Kind | None:
    """What a file is by its outermost keys and first annotation; None for anything else, such as captions or video.

    A document without annotations is panoptic if its categories tell things from stuff.
    """
    try:
        with path.open("rb") as file:
            if not file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return None
        text = JsonText(path)
        members = text.members()
        if any(key not in members or text.kind(members[key]) != "a list" for key in LISTS):
            return None
        firsts: list[Any] = [
            next((entry for entry, _, _ in text.items(members[key])), None)
            for key in ("annotations", "categories")
        ]
    except (OSError, ValueError, ApieceError):
        return None
    annotation, category = firsts
    if annotation is None:
        return "panoptic" if isinstance(category, dict) and "isthing" in category else "instances"
    if not isinstance(annotation, dict) or "image_id" not in annotation:
        return None
    return "panoptic" if "segments_info" in annotation else "instances"


def documents(path: Path, kind: Kind) -> list[Path]:
    """Of a file, or of a folder and its annotations/, the documents of this kind."""
    try:
        if path.is_dir():
            found = _all(path)
            if len(found) > MOST:  # one a picture, as other formats have it
                return []
        else:
            found = [path] if path.suffix.lower() == ".json" else []
        return [one for one in found if one.is_file() and kind_of(one) == kind]
    except (OSError, ValueError):
        return []


def only_document(path: Path, kind: Kind) -> Path:
    """The document that `path` stands for: itself, whatever it holds, or the only one of this kind in the folder.

    raises  DataError if the folder holds none or several.
    """
    if not path.is_dir():
        return path
    found, others = documents(path, kind), _all(path)
    if len(found) == 1:
        return found[0]
    if not found and len(others) == 1:  # damaged, or of another kind: its reader says what is wrong
        return others[0]
    if not found:
        raise DataError(
            f"{path}: holds no COCO document ({kind}, .json), nor does its annotations/. "
            "Remedy: name the document, or the folder that it is in."
        )
    names = ", ".join(one.name for one in found[:5]) + (", ..." if len(found) > 5 else "")
    raise DataError(f"{path}: holds {len(found)} documents: {names}. Remedy: name the one you mean.")


def _all(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("*.json")), *sorted(folder.glob("annotations/*.json"))]
