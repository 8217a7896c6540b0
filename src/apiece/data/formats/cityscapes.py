"""Cityscapes: a PNG of 16 bits beside every picture, whose numbers tell class and object.

leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png goes with gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png (or gtCoarse),
or both lie in one folder. A pixel is class × 1000 + n, n from 0, for the n-th object of a class that has objects; the
class alone, below 1000, is stuff, or a group of objects that weren't told apart: `iscrowd`. Stuff isn't an object.

The classes are the ten official ones that have objects (ids 24 to 33), or those of classes.json beside the folders:
{"name": id, …}, its order being the classes'. Objects come by class in the classes' order, and by n. A group comes
where n leaves the first gap, else last of its class.

source  cityscapesScripts, helpers/labels.py and preparation/json2instanceImg.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, natural, read_label_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats.base import Holds, Picture, Target, report
from apiece.data.formats.raster import SPLITS, RasterSource, owners, read_text, write_bytes, write_png
from apiece.data.json_text import parse_json
from apiece.data.label_folder import same_size
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, DataError

NAME = "cityscapes"
TITLE = "Cityscapes"
LAYOUT = "leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png"

OFFICIAL = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "caravan": 29,
    "trailer": 30,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
EACH = 1000  # objects of a class
FIRST, LAST = 24, 64  # 64,999 is the highest class's last number that 16 bits hold
CLASS_LIST = "classes.json"
ENDING = "_instanceIds.png"
LABELS = ("_gtFine", "_gtCoarse")
PICTURE = "_leftImg8bit"
ROOTS = ("gtFine", "gtCoarse")
SEARCHED = 3  # folders below the root: gtFine, SPLIT, CITY


def detect(path: Path) -> bool:
    """Whether a folder holds files that end in _instanceIds.png."""
    try:
        return path.is_dir() and next(_files(path), None) is not None
    except OSError:
        return False


def _files(root: Path, depth: int = SEARCHED) -> Iterator[Path]:
    """Label files of the root and of the folders below it, folder by folder."""
    inside = sorted(root.iterdir(), key=lambda entry: natural(entry.name))
    yield from (entry for entry in inside if entry.name.endswith(ENDING) and entry.name[0] != ".")
    if depth:
        for folder in inside:
            if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith("."):
                yield from _files(folder, depth - 1)


@dataclass(frozen=True, eq=False)
class CityscapesSource(RasterSource):
    """Pictures with numbered pixels; see the module."""

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "iscrowd" for groups."""
        size, path = self.size(index), self.files[index]
        array = read_label_image(path)
        wrong = same_size(path, (array.shape[0], array.shape[1]), self.pictures[index].path or path, size)
        if wrong:
            raise AnnotationError(wrong)
        if array.size and int(array.max()) >= 2**16:
            raise AnnotationError(
                f"{path}: holds {int(array.max())}; expected class × {EACH} + number, at most 65,535. "
                "Remedy: read it as label images (--format labels)."
            )
        values = np.flatnonzero(np.bincount(array.reshape(-1), minlength=2**16))
        rows = self._rows(values[values > 0].tolist(), str(path), found)
        ranks = np.zeros(2**16, np.int32)
        ranks[[value for _, _, value in rows]] = np.arange(1, len(rows) + 1)
        return Instances(
            size,
            Masks.from_label_image(ranks[array]),
            np.array([class_id for class_id, _, _ in rows], np.int64),
            classes=self.classes,
            columns={"iscrowd": np.array([value < EACH for _, _, value in rows], np.bool_)},
        )

    def _rows(
        self, values: list[int], file: str, found: list[Problem] | None
    ) -> list[tuple[int, float, int]]:
        """(class index, place within the class, value) of what is an object or a group, in order."""
        places = {category: i for i, category in enumerate(self.classes.ids)}
        numbers: dict[int, set[int]] = {}
        for value in values:
            if value >= EACH:
                numbers.setdefault(value // EACH, set()).add(value % EACH)
        rows: list[tuple[int, float, int]] = []
        for value in values:
            category = value // EACH if value >= EACH else value
            if category in places:
                taken = numbers.get(category, set())
                gap = next(n for n in range(EACH + 1) if n not in taken)
                rows.append((places[category], value % EACH if value >= EACH else gap, value))
            elif value >= EACH:
                text = f"is of class {category}, which has no name; expected one of {self.classes.ids}."
                problem = Problem(
                    "error", file, f"object {value}", text, f"add it to {CLASS_LIST}.", "the object"
                )
                report(problem, found)
        return sorted(rows)


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> CityscapesSource:
    """Open a data set of this layout.

    path    the folder of leftImg8bit and gtFine, gtFine itself, or any folder of it.
    images  the picture folder, if it isn't leftImg8bit: with the same subfolders, or all in one.
    raises  DataError if there is no label file; AnnotationError for a damaged classes.json.
    """
    if not path.is_dir():
        raise DataError(
            f"{path}: not found; expected a folder in Cityscapes' layout. Remedy: check the path."
        )
    files = _fine_first(list(_files(path)))
    if not files:
        raise DataError(
            f"{path}: holds no file …{ENDING}; expected {LAYOUT}. Remedy: name the folder that does."
        )
    problems: list[Problem] = []
    pictures = []
    for number, file in enumerate(files, start=1):
        place = PurePosixPath(file.parent.relative_to(path).as_posix())
        if place.parts and place.parts[0] in ROOTS:
            place = place.relative_to(place.parts[0])
        picture = _picture(path, file, place, images)
        if picture is None:
            text = f"has no picture {_stem(file)}{PICTURE}.png; its objects are read alone."
            problems.append(Problem("warning", str(file), "", text, "add the picture.", "", "no-picture"))
        name = picture.name if picture is not None else f"{_stem(file)}{PICTURE}.png"
        split = next((SPLITS[part] for part in place.parts if part in SPLITS), "")
        pictures.append(Picture((place / name).as_posix(), picture, number, split=split))
    return CityscapesSource(path, _classes(path), tuple(pictures), tuple(problems), tuple(files))


def _stem(file: Path) -> str:
    """NAME of NAME_gtFine_instanceIds.png."""
    stem = file.name.removesuffix(ENDING)
    for label in LABELS:
        stem = stem.removesuffix(label)
    return stem


def _fine_first(files: list[Path]) -> list[Path]:
    """Without the coarse labels of pictures that have fine ones."""
    fine = {_stem(file) for file in files if "_gtCoarse" not in file.name}
    return [file for file in files if "_gtCoarse" not in file.name or _stem(file) not in fine]


def _picture(root: Path, file: Path, place: PurePosixPath, images: Path | None) -> Path | None:
    folders = [root / "leftImg8bit" / place, root.parent / "leftImg8bit" / place, file.parent]
    if images is not None:
        folders = [images / place, images]
    stem = _stem(file)
    for folder in folders:
        for name in (stem + PICTURE, stem):
            for suffix in (".png", *sorted(SUFFIXES)):
                if (folder / (name + suffix)).is_file():
                    return folder / (name + suffix)
    return None


def _classes(root: Path) -> ClassMap:
    """Those of classes.json in the folder or the one above, else the official ones."""
    listed = next((p for p in (root / CLASS_LIST, root.parent / CLASS_LIST) if p.is_file()), None)
    if listed is None:
        return ClassMap(tuple(OFFICIAL), tuple(OFFICIAL.values()))
    named = parse_json(listed, read_text(listed).encode())
    try:
        fine = all(type(number) is int and 0 < number <= LAST for number in named.values())
    except AttributeError:
        fine = False
    if not fine:
        raise AnnotationError(
            f'{listed}: is no list of classes; expected {{"name": id, …}} with ids from 1 to {LAST}. '
            "Remedy: correct the file."
        )
    try:
        return ClassMap(tuple(named), tuple(named.values()))
    except AnnotationError as error:
        raise AnnotationError(f"{listed}: {error}") from None


# ---- writing


class CityscapesTarget(Target):
    """Writes leftImg8bit and gtFine with SPLIT/CITY below, and classes.json.

    Official class names keep their ids, others get free ones from 24 to 64: 41 classes at most. CITY is the picture's
    folder, or "all"; pictures without a split are in train. Pixels without an object are 0, "unlabeled".

    A crowd region is written as a group, which Cityscapes can have once for each class and picture; further ones are
    written as objects, and a note counts them.
    """

    holds = Holds(overlaps=False, order="class", most=EACH)

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        free = [n for n in range(FIRST, LAST + 1) if n not in {OFFICIAL.get(name) for name in classes.names}]
        others = [name for name in classes.names if name not in OFFICIAL]
        if len(others) > len(free):
            raise AnnotationError(
                f"{len(classes)} classes; Cityscapes' numbers of 16 bits hold {LAST + 1 - FIRST}. "
                "Remedy: write another format, such as coco."
            )
        numbers = OFFICIAL | dict(zip(others, free, strict=False))
        self._ids = {name: numbers[name] for name in classes.names}
        self._crowds = self._others = 0

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        given = PurePosixPath(picture.name)
        bare = self.flat_name(
            Picture(given.stem.removesuffix(PICTURE) + given.suffix, picture.path, picture.id)
        )
        split = picture.split if picture.split in SPLITS.values() else "train"
        city = given.parent.name if given.parent.name not in ("", ".", "..", *SPLITS) else "all"
        place = PurePosixPath(split, city)
        suffix = bare.suffix if picture.path is not None and bare.suffix.lower() in SUFFIXES else ".png"
        file = f"{bare.stem}{PICTURE}{suffix}"
        self.copy_picture(picture, PurePosixPath("leftImg8bit") / place / file)
        self._others += suffix != ".png"
        canvas, there = owners(objects.masks)
        values = np.append(0, self._values(objects, there, picture.name))
        label = self.folder / "gtFine" / place / f"{bare.stem}{LABELS[0]}{ENDING}"
        write_png(label, values.astype(np.uint16)[canvas])
        alone = not self.with_pictures and picture.path is not None
        return (place / (bare.name if alone else file)).as_posix()

    def _values(self, objects: Instances, there: npt.NDArray[np.bool_], name: str) -> npt.NDArray[np.int64]:
        """The number of each object's pixels. A group counts on, so that it is read in its place."""
        crowd = objects.columns.get("iscrowd", np.zeros(len(objects), np.bool_))
        values = np.zeros(len(objects), np.int64)
        counts: dict[int, int] = {}
        grouped: set[int] = set()
        for i in np.flatnonzero(there).tolist():
            class_id = int(objects.class_ids[i])
            category = self._ids[self.classes.names[class_id]]
            number = counts.get(class_id, 0)
            counts[class_id] = number + 1
            if crowd[i] and class_id not in grouped:
                grouped.add(class_id)
                values[i] = category
                continue
            self._crowds += bool(crowd[i])
            if number >= EACH:
                raise AnnotationError(
                    f"{name}: has more than {EACH} objects of class {self.classes.names[class_id]!r}, which is all "
                    "that Cityscapes' numbers hold. Remedy: write another format, such as labels or coco."
                )
            values[i] = category * EACH + number
        return values

    def finish(self) -> None:
        """Write classes.json."""
        text = json.dumps(self._ids, ensure_ascii=False, indent=1)
        write_bytes(self.folder / CLASS_LIST, text.encode())
        if self._crowds:
            self.notes.append(
                f"{self._crowds} crowd regions are written as objects: a picture can have one of a class."
            )
        if self._others:
            self.notes.append(
                f"{self._others} pictures aren't PNG; Cityscapes' own tools look for .png alone."
            )


TARGET = CityscapesTarget
