"""Beside: pictures that are found by the name of the annotation file next to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES
from apiece.data.formats.base import Picture, Size
from apiece.data.problems import Problem, problem_of
from apiece.errors import AnnotationError, DataError


@dataclass(frozen=True)
class Companion:
    """An annotation file, and what it says of its picture: `name` is the picture's, "" if it doesn't say."""

    file: Path
    stem: str
    name: str = ""
    size: Size | None = None


class PictureFolders:
    """Finds pictures by name or stem in folders, each listed once.

    raises  DataError if a folder that is there can't be listed.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._names: dict[str, Path] = {}
        self._stems: dict[str, Path] = {}
        for folder in dict.fromkeys(folders):
            if not folder.is_dir():
                continue
            try:
                files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            except OSError as error:
                raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from None
            for path in files:
                self._names.setdefault(path.name, path)
                self._stems.setdefault(path.stem, path)
                if path.name.lower().endswith((".ome.tif", ".ome.tiff")):
                    self._stems.setdefault(path.name.rsplit(".", 2)[0], path)

    def find(self, *names: str) -> Path | None:
        """The picture that is called so, or else has such a stem; the first name that fits."""
        for known in (self._names, self._stems):
            for name in names:
                if name in known:
                    return known[name]
        return None


def overviews(
    files: Sequence[Path],
    overview: Callable[[Path], tuple[Companion, set[str]]],
    strict: bool,
    problems: list[Problem],
) -> tuple[list[Companion], ClassMap]:
    """What annotation files say of their pictures, and the classes in all of them, sorted by name.

    raises  AnnotationError for the first file that can't be read, with `strict` or where it is the only one; else it
            is a problem.
    """
    companions: list[Companion] = []
    names: set[str] = set()
    for file in files:
        try:
            companion, found = overview(file)
        except AnnotationError as error:
            if strict or len(files) == 1:
                raise
            problems.append(problem_of(error, file, "the picture"))
            continue
        companions.append(companion)
        names |= found
    return companions, ClassMap(tuple(sorted(names)))


def pictures_of(
    root: Path, companions: Sequence[Companion], images: Path | None, problems: list[Problem]
) -> tuple[list[Picture], list[Path]]:
    """The pictures of annotation files, each with its file; a second file of a picture is a problem.

    root  the folder that names are relative to.
    """
    folders = (
        [images] if images is not None else [*(one.file.parent for one in companions), root, root / "images"]
    )
    known = PictureFolders(folders)
    pictures: list[Picture] = []
    files: list[Path] = []
    taken: dict[str, Path] = {}
    for one in companions:
        path = known.find(*([one.name] if one.name else []), one.stem)
        name = path.name if path is not None else one.name or one.stem
        if name in taken:
            message = f"is of the picture {name}, as {taken[name].name} is; expected one file a picture."
            problems.append(
                Problem(
                    "error", str(one.file), "", message, "merge them or move one away.", "the file's objects"
                )
            )
            continue
        if path is None:
            message = f"its picture {one.name or one.stem} wasn't found."
            remedy = "give both the same name, or name the picture folder."
            problems.append(Problem("warning", str(one.file), "", message, remedy, code="no-picture"))
        taken[name] = one.file
        pictures.append(Picture(name, path, len(pictures) + 1, one.size))
        files.append(one.file)
    return pictures, files
