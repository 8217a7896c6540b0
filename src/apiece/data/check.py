"""`apiece check`: everything that is wrong or odd in a dataset, with file, object and remedy; nothing is changed."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, image_size, read_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.coco import CocoDataset, read_coco
from apiece.data.dataset import find_document, match_names, picture_folder, read_subset
from apiece.data.label_folder import Pair, is_label_folder, pair_files, read_labels, same_size
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, ApieceError, DataError, ImageError

SCHEMA = "apiece/check/1"
TINY = 10  # pixels; an object below is more often a slip of the pen than an object
SAME = 0.95  # IoU from which two objects of one class are one object, labelled twice
ANY = ClassMap(("object",))

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    path      the dataset.
    images    pictures that were looked at.
    objects   objects in them that can be read.
    problems  all that was found, errors and warnings, picture by picture.
    """

    path: str
    images: int
    objects: int
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What keeps the dataset, or a part of it, from being used."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is used as it stands but is probably not meant."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """The machine-readable document."""
        return {
            "schema": SCHEMA,
            "path": self.path,
            "images": self.images,
            "objects": self.objects,
            "ok": self.ok,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "problems": [
                {
                    "severity": problem.severity,
                    "file": problem.file,
                    "where": problem.where,
                    "message": problem.message,
                    "remedy": problem.remedy,
                    "left_out": problem.left_out,
                }
                for problem in self.problems
            ],
        }

    def to_text(self) -> str:
        """For a person: a problem a line, and a last line that sums up."""
        lines = [f"{problem.severity}: {problem}" for problem in self.problems]
        lines.append(
            f"{self.path}: {self.images} pictures, {self.objects} objects, {len(self.errors)} errors, "
            f"{len(self.warnings)} warnings; nothing was changed."
        )
        return "\n".join(lines)


def check(
    path: str | Path,
    images: str | Path | None = None,
    subset: str | Path | None = None,
    *,
    pictures: bool = True,
    tiny: int = TINY,
    progress: Progress | None = None,
) -> Report:
    """Look at every picture and object of a dataset of either layout, as `open_dataset` takes it.

    images    the picture folder of a COCO document.
    subset    a text file with the pictures to look at; None for all.
    pictures  whether every picture is decoded, which is the only way to find one that breaks off; else only
              headers are read.
    tiny      objects of fewer pixels are reported.
    progress  called with the number of pictures done and of all.
    raises    DataError only if `path` or `subset` is not there; all else is in the report.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: not found; expected a folder or a COCO document. Remedy: check the path.")
    names = None if subset is None else read_subset(subset)
    if path.is_dir() and is_label_folder(path):
        found: _Check = _LabelFolderCheck(path, names, pictures, tiny, progress)
    else:
        found = _CocoCheck(path, None if images is None else Path(images), names, pictures, tiny, progress)
    problems = tuple(found.run())
    return Report(str(path), found.images, found.objects, problems)


class _Check(ABC):
    """What both layouts have in common: pictures that must be readable, and masks that must be plausible."""

    def __init__(self, pictures: bool, tiny: int, progress: Progress | None) -> None:
        self.pictures, self.tiny, self.progress = pictures, tiny, progress
        self.images = self.objects = 0
        self._seen: dict[bytes, Path] = {}

    @abstractmethod
    def run(self) -> Iterator[Problem]:
        """All problems, picture by picture; counts `images` and `objects` on the way."""

    def done(self, total: int) -> None:
        self.images += 1
        if self.progress is not None:
            self.progress(self.images, total)

    def picture(self, path: Path) -> tuple[tuple[int, int] | None, list[Problem]]:
        """Size of a picture, None if it can't be read, and what is wrong with it."""
        try:
            size = image_size(path)
            if self.pictures:
                read_image(path)
            digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        except ImageError as error:
            return None, [problem_of(error, path, "the picture")]
        except OSError as error:
            text = f"cannot be read ({error.strerror})."
            return None, [Problem("error", str(path), "", text, "check the file.", "the picture")]
        twin = self._seen.setdefault(digest, path)
        if twin == path:
            return size, []
        remedy = "keep one; a picture in both training and validation data makes figures too good."
        return size, [Problem("warning", str(path), "", f"is the same picture as {twin.name}.", remedy)]

    def small(self, masks: Masks, file: str, name: Callable[[int], str]) -> Iterator[Problem]:
        for i in np.flatnonzero((masks.areas > 0) & (masks.areas < self.tiny)).tolist():
            area, (x, y) = int(masks.areas[i]), masks.offsets[i].tolist()
            pixels = "1 pixel" if area == 1 else f"{area} pixels"
            text = f"has {pixels} at x {x}, y {y}; objects below {self.tiny} pixels are rarely meant."
            yield Problem("warning", file, name(i), text, "delete the object, if it is a slip.")


class _LabelFolderCheck(_Check):
    def __init__(
        self,
        root: Path,
        names: Collection[str] | None,
        pictures: bool,
        tiny: int,
        progress: Progress | None,
    ) -> None:
        super().__init__(pictures, tiny, progress)
        self.root, self.names = root, names

    def run(self) -> Iterator[Problem]:
        try:
            pairing = pair_files(self.root, self.names)
        except DataError as error:
            yield problem_of(error, self.root)
            return
        for path in pairing.unlabelled:
            text = "has no label image; expected one of the same stem."
            remedy = "add it: all zero, if the picture holds no object."
            yield Problem("error", str(path), "", text, remedy, "the picture")
        for path in pairing.orphans:
            text = "is a label image without a picture; expected one of the same stem."
            yield Problem("error", str(path), "", text, "add the picture, or remove the label.", "the label")
        for pair in pairing.pairs:
            size, problems = self.picture(pair.picture)
            yield from problems
            yield from self.label(pair, size)
            self.done(len(pairing.pairs))

    def label(self, pair: Pair, size: tuple[int, int] | None) -> Iterator[Problem]:
        file = str(pair.label)
        try:
            objects = read_labels(pair, size or image_size(pair.label), ANY)
        except DataError as error:
            yield problem_of(error, pair.label, "the picture")
            return
        masks, numbers = objects.masks, objects.columns["label"]
        self.objects += len(masks)
        if len(masks) == 0:
            remedy = "nothing, if the picture holds no object; else draw them."
            yield Problem("warning", file, "", "labels no object.", remedy)
        parts = [_parts(crop) for crop, _ in masks]
        if len(masks) == 1 and parts[0] > 2:
            text = (
                f"holds a single number, {numbers[0]}, on {parts[0]} separate shapes, so it seems to mark what is "
                "object and what is not; expected a number of its own for every object."
            )
            remedy = "number the connected shapes (touching objects must be cut apart by hand)."
            yield Problem("warning", file, f"object {numbers[0]}", text, remedy)
            return
        for i in np.flatnonzero(np.array(parts, np.int64) > 1).tolist():
            text = f"is in {parts[i]} parts that don't touch; an object mostly is in one."
            remedy = "give each its own number, if they are objects of their own; else nothing."
            yield Problem("warning", file, f"object {numbers[i]}", text, remedy)
        yield from self.small(masks, file, lambda i: f"object {numbers[i]}")


class _CocoCheck(_Check):
    def __init__(
        self,
        path: Path,
        folder: Path | None,
        names: Collection[str] | None,
        pictures: bool,
        tiny: int,
        progress: Progress | None,
    ) -> None:
        super().__init__(pictures, tiny, progress)
        self.path, self.folder, self.names = path, folder, names

    def run(self) -> Iterator[Problem]:
        file = self.path
        try:
            file = find_document(self.path)
            coco = read_coco(file, strict=False)
        except DataError as error:
            yield problem_of(error, file)
            return
        yield from coco.problems
        records = coco.images
        if self.names is not None:
            try:
                wanted = match_names([record.file_name for record in records], self.names, str(coco.path))
            except DataError as error:
                yield problem_of(error, coco.path)
                return
            records = tuple(record for record in records if record.file_name in wanted)
        folder = self.folder
        if folder is None:
            try:
                folder = picture_folder(coco)
            except DataError as error:
                yield problem_of(error, coco.path)
        first: dict[str, int] = {}
        for record in records:
            if folder is not None and record.file_name:
                twin = first.setdefault(record.file_name, record.id)
                if twin != record.id:
                    text = (
                        f"has the file_name of image {twin}, {record.file_name!r}; expected another picture."
                    )
                    remedy = "merge the two entries and their objects."
                    yield Problem("warning", str(coco.path), f"image {record.id}", text, remedy)
                size, problems = self.picture(folder / record.file_name)
                yield from problems if twin == record.id else ()
                wrong = size and same_size(
                    f"{coco.path}: image {record.id}",
                    (record.height, record.width),
                    folder / record.file_name,
                    size,
                )
                if wrong:
                    yield problem_of(AnnotationError(wrong), coco.path, "the picture")
            yield from self.outlines(coco, record.id)
            self.done(len(records))
        if folder is not None and self.names is None:
            yield from _unlisted(coco, folder)

    def outlines(self, coco: CocoDataset, image_id: int) -> Iterator[Problem]:
        file = str(coco.path)
        try:
            objects = coco.instances(image_id)
        except DataError as error:
            yield problem_of(error, coco.path, "the picture")
            return
        self.objects += len(objects)
        masks, ids = objects.masks, objects.columns["annotation_id"]

        def name(i: int) -> str:
            return f'annotation {ids[i]} ("{objects.classes.name_of(int(objects.class_ids[i]))}")'

        entries = coco.annotations(image_id)
        for i, entry in enumerate(entries):
            if masks.areas[i] == 0 and "segmentation" in entry and entry["area"] != 0:
                text = f"has an outline that covers no pixel, though its area is given as {entry['area']:g}."
                yield Problem("warning", file, name(i), text, "delete the object, or redraw it.")
        yield from self.small(masks, file, name)
        yield from _odd_boxes(entries, objects, file, name)
        yield from _doubles(objects, file, name)


def problem_of(error: ApieceError, file: str | Path, left_out: str = "") -> Problem:
    """An error as a problem: its message without the file at its beginning, and the remedy at its end."""
    message, _, remedy = str(error).removeprefix(f"{file}: ").partition(" Remedy: ")
    return Problem("error", str(file), "", message, remedy or "see the message.", left_out)


def _parts(crop: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    """Parts of a bitmap; pixels that meet at a corner are of one part."""
    return int(cv2.connectedComponents(crop.view(np.uint8), connectivity=8)[0]) - 1


def _odd_boxes(
    entries: list[dict[str, Any]], objects: Instances, file: str, name: Callable[[int], str]
) -> Iterator[Problem]:
    """Boxes that are not their mask's: above all those written as corners instead of corner and sides."""
    drawn = objects.masks.areas > 0
    for i in np.flatnonzero(drawn).tolist():
        x, y, width, height = entries[i]["bbox"]
        x1, y1, x2, y2 = objects.masks.boxes[i].tolist()
        shared_w, shared_h = min(x + width, x2) - max(x, x1), min(y + height, y2) - max(y, y1)
        shared = max(0.0, shared_w) * max(0.0, shared_h)
        union = width * height + (x2 - x1) * (y2 - y1) - shared
        # A pixel on each side is rounding, which for small objects is much of the box.
        slack = max(abs(x - x1), abs(y - y1), abs(x + width - x2), abs(y + height - y2)) <= 2
        if slack or shared >= 0.5 * union:
            continue
        corners = max(abs(x - x1), abs(y - y1), abs(width - x2), abs(height - y2)) <= 2
        remedy = "write bbox as x, y, width, height." if corners else "recompute bbox from the outline."
        text = (
            f"has bbox {[round(v, 2) for v in (x, y, width, height)]}, but its outline spans "
            f"{[round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]} (x, y, width, height)."
        )
        yield Problem("warning", file, name(i), text, remedy)


def _doubles(objects: Instances, file: str, name: Callable[[int], str]) -> Iterator[Problem]:
    """Objects of one class on the same pixels."""
    pairs = objects.masks.iou(objects.masks).tocoo()
    crowd = objects.columns["iscrowd"]
    near = (pairs.data >= SAME) & (pairs.row < pairs.col)
    for a, b in zip(pairs.row[near].tolist(), pairs.col[near].tolist(), strict=True):
        if objects.class_ids[a] == objects.class_ids[b] and not (crowd[a] or crowd[b]):
            text = f"covers the same pixels as {name(a)}; expected every object once."
            yield Problem("warning", file, name(b), text, "delete one of the two.")


def _unlisted(coco: CocoDataset, folder: Path) -> Iterator[Problem]:
    """One warning for all pictures of the folder that the document doesn't know."""
    listed = {Path(record.file_name).name for record in coco.images}
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.name not in listed
    )
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        text = f"holds {len(others)} pictures that {coco.path.name} doesn't list ({shown})."
        yield Problem("warning", str(folder), "", text, "nothing, if they aren't meant to be used.")
