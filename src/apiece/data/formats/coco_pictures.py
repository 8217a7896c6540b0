"""Where the pictures of a COCO document lie, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from apiece.data.formats.base import Picture, clean_name, find_picture, is_confined, unlike
from apiece.data.problems import Problem
from apiece.errors import DataError

TRIED = 200  # names by which folders are told from each other


def bases_of(document: Path) -> tuple[Path, Path]:
    """The folder that a document lies in, and the one that this lies in."""
    parent = document.parent
    return parent, parent / ".." if parent.name in ("", "..") else parent.parent


def picture_folders(
    document: Path, images: Path | None, stems: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """The folder that holds most of a document's pictures, as a list; empty if none holds any.

    document  the file.
    images    the folder that the user names, and then the only one.
    stems     further folders to try beside it, and one up, after `images/` and before the document's own.
    names     the pictures', as the document has them.
    raises    DataError if `images` is no folder.
    """
    if images is not None:
        if not images.is_dir():
            raise DataError(
                f"{images}: is no folder; expected the pictures of {document}. Remedy: check the path."
            )
        return [images]
    folders = [base / name for base in bases_of(document) for name in ("images", *stems, "")]
    some = names[:: max(1, len(names) // TRIED)]
    best, most = None, (0, 0)
    for folder in folders:
        if folder.is_dir():
            found = [(find_picture(name, [folder]), name) for name in some]
            whole = sum(is_confined(name) and path == folder / clean_name(name) for path, name in found)
            held = (
                whole,
                sum(path is not None for path, _ in found),
            )  # under their whole names, or the last part
            best, most = (folder, held) if held > most else (best, most)
    return [] if best is None else [best]


class PictureFinder:
    """`find_picture` for many names in the same folders: each folder is listed once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._listed: dict[tuple[Path, str], frozenset[str]] = {}

    def find(self, name: str) -> Path | None:
        """See `find_picture`."""
        if is_confined(name):
            pure = PurePosixPath(clean_name(name))
            for folder in self.folders:
                if pure.name in self._names(folder, str(pure.parent)):
                    return folder / pure
        return find_picture(name, self.folders)

    def _names(self, folder: Path, parent: str) -> frozenset[str]:
        """The ordinary files in a folder below; of what is a link `find_picture` decides."""
        key = (folder, parent)
        if key not in self._listed:
            inside, found = folder / parent, set[str]()
            try:
                if os.path.realpath(inside) == os.path.normpath(Path(os.path.realpath(folder)) / parent):
                    with os.scandir(inside) as entries:
                        found = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
            except (OSError, ValueError):
                pass
            self._listed[key] = frozenset(found)
        return self._listed[key]


def own_names(names: Iterable[str], ids: Iterable[int]) -> list[str]:
    """A relative path with forward slashes for each picture, no two alike.

    names  as the document has them: of a path that isn't relative, or leads out, the last part is taken; without a
           name the picture is called by its id.
    """
    taken: dict[str, int] = {}
    made = []
    for given, number in zip(names, ids, strict=True):
        whole = _confined(given)
        made.append(own_path(whole if whole.name else PurePosixPath(f"image {number}"), taken))
    return made


class TargetNames:
    """What pictures are called in a set that is written: names and folders are kept where that can be.

    notes  where it is said of a picture that it is called otherwise.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._names: dict[str, int] = {}
        self._ids: set[int] = set()
        self._most = 0

    def take(self, picture: Picture) -> tuple[str, int]:
        """Name and id of a picture, which no other has; file systems may not tell cases apart."""
        whole = _confined(picture.name)
        name = own_path(whole if whole.name else PurePosixPath(f"image {picture.id}"), self._names, str.lower)
        if name != str(PurePosixPath(clean_name(picture.name))):
            self._notes.append(f"{picture.name}: is called {name}.")
        number = picture.id
        if number in self._ids:
            number = self._most + 1
            self._notes.append(f"{picture.name}: has the id {number}; another picture has {picture.id}.")
        self._ids.add(number)
        self._most = max(self._most, number)
        return name, number


def _confined(name: str) -> PurePosixPath:
    pure = PurePosixPath(clean_name(name).replace("\0", ""))
    return pure if is_confined(name) else PurePosixPath("" if pure.name == ".." else pure.name)


def own_path(pure: PurePosixPath, taken: dict[str, int], key: Callable[[str], str] = str) -> str:
    """A path like this one that isn't taken (a/x.jpg, then a/x-2.jpg); takes it. See `base.unlike`."""
    return unlike(str(pure), taken, lambda n: str(pure.with_name(f"{pure.stem}-{n}{pure.suffix}")), key)[0]


def not_found(document: Path, pictures: Sequence[Picture], folders: Sequence[Path]) -> list[Problem]:
    """One warning for the pictures of a document that aren't there."""
    missing = [picture.name for picture in pictures if picture.path is None]
    if not missing:
        return []
    searched = ", ".join(map(str, folders)) or "the folders around it"
    text = (
        f"{len(missing)} of its {len(pictures)} pictures are not in {searched}; the first is {missing[0]!r}. "
        "Their objects are read all the same."
    )
    return [Problem("warning", str(document), "", text, "name the picture folder, or add the files.")]
