"""Sources as checks read them: leniently, with COCO's own entries, and the file that holds a picture's objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from apiece.core.image import SUFFIXES
from apiece.data.dataset import match_names
from apiece.data.formats import open_source
from apiece.data.formats.base import Source
from apiece.data.formats.coco import CocoSource
from apiece.data.problems import Problem

MISSING = re.compile(r"^\d+ of its \d+ pictures are not in ")


def open_lenient(
    path: Path, images: Path | None, format: str | None, names: Collection[str] | None
) -> tuple[Source, list[int]]:
    """A source of any format, with all that is wrong among its problems; and the pictures to look at.

    names   names, file names or stems of the pictures wanted; None for all. Files without a counterpart are told of
            these alone.
    raises  DataError where nothing of it can be read, or no picture has one of the names.
    """
    source = open_source(path, images, format, strict=False)
    if names is None:
        return source, list(range(len(source.pictures)))
    lone = {Path(problem.file).name for problem in source.problems if problem.code == "no-label"}
    files = [*(picture.name for picture in source.pictures), *sorted(lone)]
    wanted = match_names(files, names, str(source.path))
    problems = tuple(p for p in source.problems if p.code != "no-label" or Path(p.file).name in wanted)
    rows = [i for i, picture in enumerate(source.pictures) if picture.name in wanted]
    return replace(source, problems=problems), rows


def entries_of(source: Source, index: int) -> list[dict[str, Any]] | None:
    """COCO's own annotations of a picture, in the order of its objects; None of other formats."""
    return source.coco.annotations(source.pictures[index].id) if isinstance(source, CocoSource) else None


def document_of(source: Source) -> Path:
    """The file that holds everything, or the folder."""
    return source.coco.path if isinstance(source, CocoSource) else source.path


def place_of(source: Source, index: int) -> str:
    """A picture as its annotation file calls it: "image 7" in COCO; "" where the file is this picture's alone."""
    if not source.shared:
        return ""
    picture = source.pictures[index]
    return f"image {picture.id}" if isinstance(source, CocoSource) else picture.name


def opening_problems(source: Source) -> list[Problem]:
    """What was found when the source was opened, but for what is told of each picture: that its file is missing."""
    return [
        problem
        for problem in source.problems
        if problem.code != "no-picture" and not MISSING.search(problem.message)
    ]


def unlisted(source: Source) -> Iterator[Problem]:
    """One warning for all pictures of a COCO document's folder that it doesn't know."""
    folder = _folder(source) if isinstance(source, CocoSource) else None
    if folder is None:
        return
    listed = {PurePosixPath(picture.name).name for picture in source.pictures}
    listed |= {picture.path.name for picture in source.pictures if picture.path is not None}
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.name not in listed
    )
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        text = f"holds {len(others)} pictures that {document_of(source).name} doesn't list ({shown})."
        remedy = "nothing, if they aren't meant to be used."
        yield Problem("warning", str(folder), "", text, remedy, code="unlisted-picture")


def _folder(source: Source) -> Path | None:
    """The folder from which the pictures' names start, by the first that is found."""
    for picture in source.pictures:
        if picture.path is not None:
            depth = len(PurePosixPath(picture.name).parts)
            whole = picture.path.as_posix().endswith(picture.name) and depth <= len(picture.path.parents)
            return picture.path.parents[depth - 1] if whole else picture.path.parent
    return None
