"""What every annotation format is here: a Source that reads it, a Target that writes it, and what it can hold."""

from __future__ import annotations

import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from apiece.core.classes import ClassMap
from apiece.core.image import image_size
from apiece.core.instances import Instances
from apiece.data.label_folder import same_size, stem_of
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, DataError

Size = tuple[int, int]
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # the last stand for bytes that are no UTF-8


@dataclass(frozen=True)
class Holds:
    """What a format can hold of the objects of a picture. What it can't is a loss that `convert` counts.

    holes      False: holes are filled.
    parts      "kept"; "joined": the parts of an object become one outline, joined by bridges of no width, so that
               the pixels stay but other readers may draw the bridge.
    overlaps   False: a pixel belongs to the object that comes first; an object left without a pixel is lost.
    classes    False: all objects are of one class.
    crowd      whether regions of many objects ("iscrowd") can be told from objects.
    track_ids  whether they are kept.
    scores     whether they are kept.
    boxes_only whether an object with a box and no outline can be held.
    order      "kept": objects come back in the order in which they were written; "class": sorted by class index,
               within a class in that order.
    most       the most objects of one picture (of one class, where order is "class"); None for no limit.
    """

    holes: bool = True
    parts: Literal["kept", "joined"] = "kept"
    overlaps: bool = True
    classes: bool = True
    crowd: bool = False
    track_ids: bool = False
    scores: bool = False
    boxes_only: bool = False
    order: Literal["kept", "class"] = "kept"
    most: int | None = None


@dataclass(frozen=True)
class Picture:
    """A picture as annotations name it; nothing is opened.

    name    its path in the data set, relative and with forward slashes; unique within a source.
    path    where the file lies, None if it can't be found.
    id      its number in the source: COCO's own, else 1, 2, … in the source's order.
    size    (height, width) as the annotations state it, None if they don't.
    split   what part of the data set the format says it is in ("train", "val"), "" if it doesn't.
    microns width of a pixel in µm where the format states it, else None.
    """

    name: str
    path: Path | None
    id: int
    size: Size | None = None
    split: str = ""
    microns: float | None = None


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """Annotations that can be read, a picture at a time.

    path      as the user named it.
    classes   the classes of its objects.
    pictures  in the source's own order.
    problems  what was found when it was opened; with strict opening, warnings only.
    shared    whether one annotation file holds the objects of several pictures.
    """

    shared: ClassVar[bool] = True

    path: Path
    classes: ClassMap
    pictures: tuple[Picture, ...]
    problems: tuple[Problem, ...] = field(default=())

    @abstractmethod
    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """The objects of picture `index`, in the file's order.

        found   where problems go; objects that can't be read are then left out, each with a Problem that says so.
        raises  DataError for the first such object where `found` is None; and, with `found` too, where nothing of
                the picture can be read.
        columns "iscrowd" (bool) where the format marks crowds; "box_mask" (bool) where an object is a drawn
                rectangle, its mask being the whole box. Tracks are in `track_ids`, confidences in `scores`.
        """

    def file_of(self, index: int) -> Path:
        """The file that holds the objects of picture `index`, for messages; what the user named, by default."""
        return self.path

    def size(self, index: int) -> Size:
        """(height, width) of picture `index`: of its file, upright, or as the annotations state it.

        raises  AnnotationError where the two differ, or where neither is there; ImageError for a damaged file.
        """
        picture = self.pictures[index]
        if picture.path is None:
            if picture.size is None:
                raise AnnotationError(
                    f"{self.path}: {picture.name}: the picture wasn't found and nothing states its size. "
                    "Remedy: name the picture folder."
                )
            return picture.size
        size = image_size(picture.path)
        if picture.size is not None:
            wrong = same_size(f"{self.path}: {picture.name}", picture.size, picture.path, size)
            if wrong:
                raise AnnotationError(wrong)
        return size


@dataclass(frozen=True, eq=False)
class FileSource(Source):
    """Annotations of which every picture has a file of its own.

    files  one for each picture.
    """

    shared: ClassVar[bool] = False
    files: tuple[Path, ...] = field(default=())

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.files[index]


class Target(ABC):
    """Writes one data set into a new, empty folder; `convert` moves it into place when it is whole.

    folder    exists and is empty.
    classes   of all objects that will come.
    pictures  whether pictures are copied along.
    lent      pictures are linked instead of copied where the disk allows, as `return_pictures` will remove them.
    notes     what the user should know of what was written: names made different, files without a picture.
    """

    holds: ClassVar[Holds]
    document: ClassVar[str | None] = None  # the one file that holds all annotations, relative to the folder

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        self.folder, self.classes, self.with_pictures = folder, classes, pictures
        self.lent = False
        self.notes: list[str] = []
        self._copied: list[Path] = []
        self._taken: dict[str, int] = {}  # stems, with the last number that was tried for each

    @abstractmethod
    def add(self, picture: Picture, objects: Instances) -> str:
        """Write one picture's objects; `objects.classes` equals `classes`.

        returns  the name that `open_source` gives this picture when the written set is read.
        raises   AnnotationError where the format can't hold as many objects; DataError where a file can't be
                 written.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write what holds all pictures. Called once, also for a set without pictures."""

    def flat_name(self, picture: Picture) -> PurePosixPath:
        """A file name of its own for every picture, without folders: "a/x.jpg" is x.jpg, the next x.jpg is x-2.jpg.

        Two pictures never share a stem, as labels are often found by stem alone. None is hidden, as readers pass
        hidden files over: ".x.jpg" is x.jpg. Control characters and bytes that are no UTF-8, which texts and XML can't
        hold, are "_".
        """
        given = PurePosixPath(picture.name)
        shown = UNWRITABLE.sub("_", given.name).lstrip(".") or "picture"
        first = stem_of(Path(shown))
        suffix = shown[len(first) :]
        stem, number = unlike(first, self._taken, lambda n: f"{first}-{n}", str.lower)
        if number > 1:
            self.notes.append(f"{picture.name}: is called {stem}{suffix}, another picture has its name.")
        elif shown != given.name:
            why = "hidden files are passed over" if given.name[0] == "." else "texts can't hold its name"
            self.notes.append(f"{picture.name}: is called {stem}{suffix}, as {why}.")
        return PurePosixPath(stem + suffix)

    def copy_picture(self, picture: Picture, to: str | PurePosixPath) -> None:
        """Copy the picture's file to `to` within the folder, if pictures are wanted and it was found."""
        if not self.with_pictures:
            return
        if picture.path is None:
            self.notes.append(f"{picture.name}: the picture wasn't found, so it is not copied.")
            return
        place = self.folder / to
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not (self.lent and _linked(picture.path, place)):
                shutil.copyfile(picture.path, place)
        except OSError as error:
            raise DataError(f"{place}: cannot be written ({error.strerror}).") from None
        self._copied.append(place)

    def append(self, to: str, text: str) -> None:
        """Write on at the end of a text file within the folder, so that no document is held in memory."""
        place = self.folder / to
        try:
            with place.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"{place}: cannot be written ({error.strerror}).") from None

    def return_pictures(self) -> None:
        """Remove the pictures that were copied along, and folders that held nothing else."""
        for place in self._copied:
            place.unlink()
        for folder in sorted({place.parent for place in self._copied}, reverse=True):
            # A folder within it may have taken it along.
            while folder != self.folder and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent


def unlike(
    name: str, taken: dict[str, int], numbered: Callable[[int], str], key: Callable[[str], str] = str
) -> tuple[str, int]:
    """A name that is not yet taken: this one, or as `numbered` makes it of 2, 3, …; takes it.

    taken    keys of all names, each with the number last tried for it, so that many equal names take no time.
    key      str.lower where file systems may not tell cases apart.
    returns  the name, and its number.
    """
    first, number = key(name), 1
    made = name
    if first in taken:
        number = taken[first]
        while key(made) in taken:
            number += 1
            made = numbered(number)
        taken[first] = number
    taken.setdefault(key(made), 1)
    return made, number


def _linked(path: Path, place: Path) -> bool:
    try:
        os.link(path, place)
    except OSError:
        return False
    return True


def report(problem: Problem, found: list[Problem] | None) -> None:
    """Note a problem, or raise an error where nobody collects them; warnings without a collector are let pass."""
    if found is not None:
        found.append(problem)
    elif problem.severity == "error":
        raise AnnotationError(str(problem))


def clean_name(name: str) -> str:
    """A path as annotations give it, with forward slashes: `C:\\a\\b.jpg` is C:/a/b.jpg."""
    return name.replace("\\", "/")


def is_confined(name: str) -> bool:
    """Whether a name from an annotation file stays inside the folder that it is relative to."""
    pure = PurePosixPath(clean_name(name))
    drive = len(pure.parts[0]) == 2 and pure.parts[0][1] == ":" if pure.parts else False
    return (
        bool(pure.parts)
        and not pure.is_absolute()
        and not drive
        and ".." not in pure.parts
        and "\0" not in name
    )


def find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that a name from an annotation file means, searched in `folders` in turn and nowhere else.

    Absolute paths and those with `..` or a drive, as of the computer where the labels were drawn, are never
    followed: of those only the last part is searched. So is it where the whole isn't found. Links that lead out of
    the folder aren't followed either. None if there is no such file.
    """
    pure = PurePosixPath(clean_name(name))
    if not pure.name or "\0" in name:
        return None
    wanted = [pure.as_posix(), pure.name] if is_confined(name) else [pure.name]
    for one in wanted:
        for folder in folders:
            path = folder / one
            try:
                if path.is_file() and _inside(path, folder):
                    return path
            except OSError:  # a name that no file system takes
                continue
    return None


def _inside(path: Path, folder: Path) -> bool:
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) == root
