"""Pascal VOC segmentation: indexed PNGs, one of objects and one of classes, beside every picture.

SegmentationObject/NAME.png holds k for object k, SegmentationClass/NAME.png the class of each pixel; 0 is background
and 255 void, which is no object. LabelMe's export has the same, sometimes as SegmentationObjectPNG and
SegmentationClassPNG. An object's class is that of most of its pixels. Only pictures with object masks are part of the
set; ImageSets/Segmentation/train.txt, val.txt and test.txt name their splits.

Class k is line k of class_names.txt, or of labels.txt, after `__ignore__` and `_background_` if the list begins with
these; without a list, the 20 classes of VOC.

source  PASCAL VOC 2012 development kit, section 2.2; labelme examples/instance_segmentation/labelme2voc.py.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, natural, read_label_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats.base import Holds, Picture, Target, report
from apiece.data.formats.raster import RasterSource, one_line, owners, read_lines, write_bytes
from apiece.data.label_folder import same_size
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, DataError

NAME = "voc"
TITLE = "Pascal VOC segmentation (and LabelMe's export)"
LAYOUT = "JPEGImages/NAME.jpg, SegmentationObject/NAME.png, SegmentationClass/NAME.png, class_names.txt"

VOC_NAMES = (
    *(
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
    ),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CLASS_LISTS = ("class_names.txt", "labels.txt")
IGNORED, BACKGROUND = ("__ignore__",), ("_background_", "__background__", "background")
VOID = 255
MOST = 254
SPLITS = ("train", "val", "test")


def detect(path: Path) -> bool:
    """Whether `path` is a folder of this layout, or holds one such folder, as VOCdevkit does."""
    try:
        return path.is_dir() and _root(path) is not None
    except OSError:
        return False


def _root(path: Path) -> Path | None:
    """The folder that holds the layout: `path`, or the only one in it."""
    if _is_root(path):
        return path
    inside = [folder for folder in path.iterdir() if folder.is_dir() and _is_root(folder)]
    return inside[0] if len(inside) == 1 else None


def _is_root(path: Path) -> bool:
    found = [_masks(path, "Object"), _masks(path, "Class")]
    return any(found) if (path / "JPEGImages").is_dir() else all(found)


def _masks(root: Path, what: str) -> Path | None:
    """The folder of masks; in LabelMe's older exports the one without PNG holds NumPy arrays."""
    for name in (f"Segmentation{what}PNG", f"Segmentation{what}"):
        if (root / name).is_dir() and any(file.suffix.lower() == ".png" for file in (root / name).iterdir()):
            return root / name
    return None


@dataclass(frozen=True, eq=False)
class VocSource(RasterSource):
    """Pictures with masks of objects and of classes; see the module."""

    class_masks: tuple[Path | None, ...] = field(default=())

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; in order of the objects' numbers.

        column  "label": int64, each object's number.
        """
        size, path, class_path = self.size(index), self.files[index], self.class_masks[index]
        if class_path is None:
            raise AnnotationError(
                f"{path}: has no mask of classes; expected SegmentationClass/{path.name}. Remedy: add it."
            )
        objects, classes = _indices(path), _indices(class_path)
        for file, array in ((path, objects), (class_path, classes)):
            wrong = same_size(file, array.shape, self.pictures[index].path or path, size)
            if wrong:
                raise AnnotationError(wrong)
        numbers, categories, mixed = _classes_of(objects, classes)
        places = {number: i for i, number in enumerate(self.classes.ids)}
        known = np.array([category in places for category in categories.tolist()], np.bool_)
        for number, category, several in zip(
            numbers.tolist(), categories.tolist(), mixed.tolist(), strict=True
        ):
            self._judge(str(path), f"object {number}", category, several, found)
        stray = int(np.count_nonzero((classes != 0) & (classes != VOID) & (objects == 0)))
        if stray:
            text = f"has {stray:,} pixels of a class where {path.parent.name} has no object."
            remedy = "nothing, if they are no objects; else export both masks again."
            report(Problem("warning", str(class_path), "", text, remedy, "the pixels"), found)
        ranks = np.zeros(256, np.int32)
        ranks[numbers[known]] = np.arange(1, int(known.sum()) + 1)
        masks = Masks.from_label_image(ranks[objects])
        class_ids = np.array([places[category] for category in categories[known].tolist()], np.int64)
        return Instances(size, masks, class_ids, classes=self.classes, columns={"label": numbers[known]})

    def _judge(self, file: str, where: str, category: int, mixed: bool, found: list[Problem] | None) -> None:
        """Report an object without a class, and one of several."""
        if category == 0:
            text, remedy = (
                "has no class; all its pixels are background or void in SegmentationClass.",
                "give it one.",
            )
            report(Problem("error", file, where, text, remedy, "the object"), found)
        elif category not in self.classes.ids:
            text = f"has the class {category}, which has no name; expected 1 to {len(self.classes)}."
            report(Problem("error", file, where, text, "add it to class_names.txt.", "the object"), found)
        elif mixed:
            name = self.classes.name_of(self.classes.index_of(category))
            text = f"lies on pixels of several classes; most are {name!r}, which it is read as."
            report(Problem("warning", file, where, text, "export both masks again."), found)


def _indices(path: Path) -> npt.NDArray[np.uint8]:
    """The indices of a mask."""
    array = read_label_image(path)
    if array.dtype != np.uint8 and array.size and array.max() > VOID:
        raise AnnotationError(
            f"{path}: holds the value {array.max()}; expected 0 to {VOID}, 0 for background and {VOID} for void. "
            "Remedy: read masks of more objects as label images (--format labels)."
        )
    return array.astype(np.uint8, copy=False)


def _classes_of(
    objects: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Numbers of the objects in order, the class of most of their pixels (0: none), whether there are several."""
    pairs = objects.astype(np.int64) * 256 + classes
    counts = np.bincount(pairs.reshape(-1), minlength=256 * 256).reshape(256, 256)
    numbers = np.flatnonzero(counts.any(axis=1))
    numbers = numbers[(numbers != 0) & (numbers != VOID)]
    votes = counts[numbers]
    votes[:, [0, VOID]] = 0
    return numbers, votes.argmax(axis=1), np.count_nonzero(votes, axis=1) > 1


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> VocSource:
    """Open a data set of this layout.

    path    the folder that holds SegmentationObject, or the one above it.
    images  the picture folder, if it isn't JPEGImages.
    raises  DataError if there are no masks of objects; AnnotationError for a damaged list of classes and, with
            `strict`, for the first mask of objects without one of classes.
    """
    root = _root(path) if path.is_dir() else None
    folder = None if root is None else _masks(root, "Object")
    if root is None or folder is None:
        classes_alone = root is not None and _masks(root, "Class") is not None
        what = "only the class of each pixel" if classes_alone else "no masks of objects"
        raise DataError(
            f"{path}: holds {what}; expected SegmentationObject/NAME.png, which tells objects apart. "
            "Remedy: export again with objects (labelme2voc.py of instance_segmentation), or name the right folder."
        )
    problems: list[Problem] = []
    pictures_folder = images if images is not None else root / "JPEGImages"
    by_stem = _pictures(pictures_folder)
    class_folder = _masks(root, "Class")
    splits = _splits(root)
    pictures, objects, class_masks = [], [], []
    files = (
        file for file in folder.iterdir() if file.suffix.lower() == ".png" and not file.name.startswith(".")
    )
    for number, file in enumerate(sorted(files, key=lambda file: natural(file.name)), start=1):
        class_mask = class_folder / file.name if class_folder is not None else None
        if class_mask is None or not class_mask.is_file():
            text = f"has no mask of classes; expected SegmentationClass/{file.name}."
            problems.append(
                Problem("error", str(file), "", text, "add it.", "the picture's objects", "no-label")
            )
            class_mask = None
        picture = by_stem.get(file.stem)
        if picture is None:
            text = f"has no picture in {pictures_folder}; its objects are read alone."
            problems.append(Problem("warning", str(file), "", text, "add the picture.", "", "no-picture"))
        name = picture.name if picture is not None else file.name
        pictures.append(Picture(name, picture, number, split=splits.get(file.stem, "")))
        objects.append(file)
        class_masks.append(class_mask)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    return VocSource(
        path, _classes(root), tuple(pictures), tuple(problems), tuple(objects), tuple(class_masks)
    )


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures by stem; of two with one stem the JPEG, which the layout demands."""
    if not folder.is_dir():
        return {}
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
    files.sort(key=lambda file: (file.suffix.lower() in (".jpg", ".jpeg"), file.name))
    return {file.stem: file for file in files}


def _splits(root: Path) -> dict[str, str]:
    """The split of each stem that a list names."""
    splits: dict[str, str] = {}
    for split in reversed(SPLITS):
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if listed.is_file():
            splits |= dict.fromkeys(read_lines(listed), split)
    return splits


def _classes(root: Path) -> ClassMap:
    listed = next((root / name for name in CLASS_LISTS if (root / name).is_file()), None)
    if listed is None:
        return ClassMap(VOC_NAMES)
    names = read_lines(listed)
    for first in (IGNORED, BACKGROUND):
        names = names[1:] if names and names[0] in first else names
    if len(names) > MOST:
        raise AnnotationError(
            f"{listed}: lists {len(names)} classes; expected at most {MOST}. Remedy: is it the right file?"
        )
    try:
        return ClassMap(tuple(names))
    except AnnotationError as error:
        raise AnnotationError(f"{listed}: {error}") from None


# ---- writing


class VocTarget(Target):
    """Writes JPEGImages, SegmentationObject, SegmentationClass, class_names.txt and lists in ImageSets/Segmentation.

    Pictures are copied as they are, also those that aren't JPEG. trainval.txt lists all; train.txt, val.txt and
    test.txt those of these splits. Objects are numbered from 1; the format holds 254 of a picture, and 254 classes.
    """

    holds = Holds(overlaps=False, most=MOST)

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        if len(classes) > MOST:
            raise AnnotationError(
                f"{len(classes)} classes; a VOC mask holds at most {MOST}. Remedy: write another format, such as coco."
            )
        self._names = one_line(classes, self.notes)
        self._lists: dict[str, list[str]] = {"trainval": []}
        self._others = 0

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = self.flat_name(picture)
        canvas, there = owners(objects.masks)
        count = int(there.sum())
        if count > MOST:
            raise AnnotationError(
                f"{picture.name}: has {count} objects; a VOC mask holds at most {MOST}. "
                "Remedy: write another format, such as labels or coco."
            )
        numbers = np.append(0, np.where(there, np.cumsum(there), 0))
        classes = np.append(0, objects.class_ids + 1)
        file = f"{name.stem}.png"
        self._write(PurePosixPath("SegmentationObject", file), numbers[canvas])
        self._write(PurePosixPath("SegmentationClass", file), classes[canvas])
        self.copy_picture(picture, PurePosixPath("JPEGImages", name))
        self._lists["trainval"].append(name.stem)
        if picture.split in SPLITS:
            self._lists.setdefault(picture.split, []).append(name.stem)
        self._others += picture.path is not None and name.suffix.lower() not in (".jpg", ".jpeg")
        found = picture.path is not None and name.suffix.lower() in SUFFIXES
        return str(name) if found else file

    def _write(self, place: PurePosixPath, values: npt.NDArray[np.int64]) -> None:
        from PIL import Image

        picture = Image.fromarray(values.astype(np.uint8)).convert("P")
        picture.putpalette(_palette().tobytes())
        file = io.BytesIO()
        picture.save(file, "PNG")
        write_bytes(self.folder / place, file.getvalue())

    def finish(self) -> None:
        """Write the lists."""
        lines = ("_background_", *self._names)
        write_bytes(self.folder / "class_names.txt", "".join(f"{line}\n" for line in lines).encode())
        for split, stems in self._lists.items():
            place = self.folder / "ImageSets" / "Segmentation" / f"{split}.txt"
            write_bytes(place, "".join(f"{stem}\n" for stem in stems).encode())
        if self._others:
            self.notes.append(
                f"{self._others} pictures in JPEGImages aren't JPEG; some readers look for .jpg alone."
            )


def _palette() -> npt.NDArray[Any]:
    """VOC's colours, uint8 (256, 3): the bits of the index in turn to R, G and B, from the highest down."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


TARGET = VocTarget
