"""YOLO segmentation: a text file of normalised outlines beside every picture, as Ultralytics defines it.

A line is `class x y x y …`, coordinates as shares of the picture's width and height. A line of exactly four
coordinates is a box: its centre, width and height. The text of `images/train/a.jpg` is `labels/train/a.txt` (the last
folder called images is exchanged); without such a folder it lies beside the picture. A picture without a text has no
objects. Class numbers count from 0, in the order of `names` in data.yaml or of the lines of classes.txt; without
either the classes are called "class 0", "class 1", … up to the highest number that occurs.

An outline can hold neither holes nor several parts. What is written has holes filled, and parts joined by bridges of
no width (see `bridges`): read by even and odd, as here, the pixels are the same.

source  docs.ultralytics.com/datasets/segment; the format only, none of its code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.core.polygons import Part
from apiece.data.formats.base import Holds, Picture, Size, Source, Target
from apiece.data.formats.bridges import joined
from apiece.data.formats.drawing import Drawing, Ring, ShapeError, rectangle, ring_of
from apiece.data.formats.yolo_layout import (
    class_names,
    is_label_line,
    label_folders,
    layout_of,
    read_text,
)
from apiece.data.problems import Problem, refuse
from apiece.errors import DataError

NAME = "yolo"
TITLE = "YOLO segmentation (Ultralytics)"
LAYOUT = "data.yaml, images/train/NAME.jpg and labels/train/NAME.txt with lines `class x y x y …`"

NEAR = 0.1  # shares of a side: what reaches out further is no outline of this picture
DIGITS = 8  # of 30,000 px the last is 0.0003 px


def detect(path: Path) -> bool:
    """Whether `path` is a folder with labels of this format."""
    try:
        if path.is_file():
            return path.name in ("data.yaml", "data.yml") and bool(_first_label(path.parent))
        return path.is_dir() and bool(_first_label(path))
    except OSError:
        return False


def _first_label(root: Path) -> bool:
    for folder in label_folders(root):
        texts = (text for text in folder.rglob("*.txt") if text.name != "classes.txt")
        for _, text in zip(range(5), texts, strict=False):
            with text.open("rb") as file:
                lines = file.read(4096).decode("ascii", "replace").splitlines()
            line = next((line for line in lines if line.strip()), None)
            if line is not None:
                return is_label_line(line)
            if (root / "data.yaml").is_file():
                return True
    return False


@dataclass(frozen=True, eq=False)
class YoloSource(Source):
    """A YOLO data set; see the module."""

    labels: tuple[Path | None, ...] = field(default=())  # one for each picture; None where it has no text
    shared: ClassVar[bool] = False

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.labels[index] or self.pictures[index].path or self.path

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "box_mask" where a line is a box."""
        size, path = self.size(index), self.labels[index]
        if path is None:
            return Instances.empty(size, self.classes)
        drawing = Drawing(size, self.classes, str(path), found)
        class_of = {number: i for i, number in enumerate(self.classes.ids)}
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                category, values = _numbers(line)
                if category not in class_of:
                    known = f"0 to {len(class_of) - 1}" if len(class_of) else "none"
                    raise ShapeError(f"has the class {category}, which has no name; expected {known}.")
                where += f' ("{self.classes.names[class_of[category]]}")'
                ring = _ring(values, size)
                drawing.ring(where, class_of[category], ring, box=len(values) == 4)
            except ShapeError as error:
                drawing.problem(where, str(error), "redraw or delete the object.")
        return drawing.instances()


def _numbers(line: str) -> tuple[int, list[float]]:
    """Class and coordinates of a line."""
    words = line.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ShapeError(
            f"is {line.strip()[:60]!r}; expected a class number and coordinates, all numbers."
        ) from None
    if not np.isfinite(numbers).all():
        raise ShapeError("holds a number that is not finite.")
    if not numbers[0].is_integer() or numbers[0] < 0:
        raise ShapeError(f"has the class {words[0]}; expected a whole number from 0.")
    count = len(numbers) - 1
    if count % 2 or count < 4:
        raise ShapeError(
            f"has {count} coordinates; expected x and y of at least three points, an even number, "
            "or four: centre, width and height of a box."
        )
    return int(numbers[0]), numbers[1:]


def _ring(values: list[float], size: Size) -> Ring:
    """The outline in pixels of a line's coordinates."""
    if len(values) == 4:
        x, y, width, height = values
        if width < 0 or height < 0:
            raise ShapeError(f"has a box of width {width:g} and height {height:g}; expected none below 0.")
        ring = rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        ring = ring_of(np.array(values).reshape(-1, 2))
    low, high = float(ring.min()), float(ring.max())
    if low < -NEAR or high > 1 + NEAR:
        raise ShapeError(
            f"has coordinates from {low:g} to {high:g}; expected shares of width and height, 0 to 1."
        )
    return np.asarray(ring * size[::-1], np.float64)


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> YoloSource:
    """Open a YOLO data set.

    path    its folder, or the data.yaml in it. Paths in data.yaml count from there and are never followed outside.
    images  where the pictures lie, if not in the data set: by the same subfolders and stems, or all in one folder.
            Then only pictures with a label file belong to the set.
    raises  DataError if there is no label or picture; AnnotationError for a damaged data.yaml and, with `strict`, the
            first label file without a picture.
    """
    root = path.parent if path.is_file() else path
    if not root.is_dir():
        raise DataError(f"{path}: not found; expected the folder of a YOLO data set. Remedy: check the path.")
    problems: list[Problem] = []
    entries, settings = layout_of(root, path if path.is_file() else None, images, problems)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    labels = [entry.label for entry in entries if entry.label]
    if not entries or not (labels or settings):
        raise DataError(
            f"{path}: holds no picture with YOLO labels; expected images/ and labels/, a text of each picture's stem "
            "in the same subfolder. Remedy: name the folder that holds both, or the picture folder besides."
        )
    if not labels:
        message = f"none of its {len(entries)} pictures has a label file; they are read as pictures without objects."
        remedy = "nothing, if so it is meant; else add the folder labels."
        problems.append(Problem("warning", str(path), "", message, remedy, code="no-label"))
    classes = class_names(root, settings, labels, problems)
    named = Counter(entry.name for entry in entries)
    pictures = tuple(
        Picture(
            entry.name if named[entry.name] == 1 else entry.place,
            entry.picture,
            number,
            split=entry.split,
        )
        for number, entry in enumerate(entries, start=1)
    )
    return YoloSource(path, classes, pictures, tuple(problems), tuple(entry.label for entry in entries))


class YoloTarget(Target):
    """Writes data.yaml, images/SPLIT/NAME and labels/SPLIT/STEM.txt; pictures without a split are in train."""

    holds = Holds(holes=False, parts="joined")

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self._splits: set[str] = set()

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = self.flat_name(picture)
        split = picture.split if picture.split in ("train", "val", "test") else "train"
        self._splits.add(split)
        self.copy_picture(picture, PurePosixPath("images", split, name))
        if name.suffix.lower() not in SUFFIXES:
            self.notes.append(f"{picture.name}: has no suffix of a picture, so YOLO readers pass it over.")
        place = self.folder / "labels" / split / f"{name.stem}.txt"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("".join(_lines(objects)), encoding="ascii")
        except OSError as error:
            raise DataError(f"{place}: cannot be written ({error.strerror}).") from None
        return f"{split}/{name}"

    def finish(self) -> None:
        """Write data.yaml."""
        import yaml

        settings: dict[str, object] = {"path": "."}
        for split in ("train", "val", "test"):
            if split in self._splits:
                settings[split] = f"images/{split}"
        settings.setdefault("train", "images/train")
        settings.setdefault("val", settings["train"])  # its readers demand one
        settings["names"] = dict(enumerate(self.classes.names))
        text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
        try:
            (self.folder / "data.yaml").write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{self.folder / 'data.yaml'}: cannot be written ({error.strerror}).") from None


def _lines(objects: Instances) -> list[str]:
    """One line for each object that has a pixel."""
    outer: list[list[Part]] = [[(ring, []) for ring, _ in parts] for parts in objects.masks.to_polygons()]
    filled = Masks.from_polygons(outer, objects.size)  # islands in a hole are part of what fills it
    sides = np.array(objects.size[::-1])
    lines = []
    for class_id, parts in zip(objects.class_ids.tolist(), filled.to_polygons(), strict=True):
        if parts:
            shares = (joined([ring for ring, _ in parts]) / sides).reshape(-1).tolist()
            written = " ".join(f"{share:.{DIGITS}f}".rstrip("0").rstrip(".") for share in shares)
            lines.append(f"{class_id} {written}\n")
    return lines


TARGET = YoloTarget
