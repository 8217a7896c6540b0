"""Label images: one integer picture beside each photograph, 0 for background and k for object k.

Read are PNG (8 and 16 bits), TIFF (8 to 64 bits), OME-TIFF and BMP, one plane each, in these layouts:

* images/NAME.png with labels/NAME.png, or masks/, or labels called NAME_mask, NAME_masks, NAME_cp_masks, NAME_label;
  also with the same subfolders in both, of which train, val and test (and names like these) are splits;
* train/images and train/masks, test/images and test/masks, as StarDist has them;
* pictures and labels in one folder, the labels called as above, as Cellpose has them (NAME_img.tif, NAME_masks.tif);
* labels without pictures.

All objects are of one class, "object"; they come by increasing label. A label image without a picture is read all the
same, and a warning says so. The width of a pixel in µm is the picture's, else the label's (`Picture.microns`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, image_size, read_label_image
from apiece.core.instances import Instances
from apiece.core.label_image import label_values
from apiece.data.formats.base import Holds, Picture, Target
from apiece.data.formats.ome import microns_of_file, write_tiff
from apiece.data.formats.raster import SPLITS, RasterSource, owners, write_png
from apiece.data.label_folder import (
    LABEL_ENDINGS,
    LABEL_FOLDERS,
    LABEL_SUFFIXES,
    Pair,
    by_stem,
    is_label_folder,
    match_stems,
    read_labels,
    stem_of,
)
from apiece.data.problems import Problem, refuse
from apiece.errors import DataError

NAME = "labels"
TITLE = "Label images (PNG, TIFF, OME-TIFF)"
LAYOUT = "images/NAME.png and labels/NAME.png (or masks/), an integer a pixel: 0 background, k object k"

CLASSES = ClassMap(("object",))
PROBED = 3  # label images that are looked into where names don't tell what they are
PROBED_PIXELS = 2**25
CROWDED = 4  # labels are compact: their boxes cover the picture fewer times than this; grey values' don't


@dataclass(frozen=True)
class Part:
    """Pictures and label images of one split, by stem; `folder` is what the pictures' names start from."""

    split: str
    folder: Path
    pictures: Mapping[str, Path]
    labels: Mapping[str, Path]
    matched: Mapping[str, str]


def detect(path: Path) -> bool:
    """Whether `path` is a folder of pictures with label images, or of label images alone, if that is clear."""
    try:
        if not path.is_dir():
            return False
        parts = _parts(path, None)
        if any(part.matched for part in parts):
            return True
        labels = [label for part in parts if not part.pictures for label in part.labels.values()]
        return _are_labels(labels)
    except (OSError, DataError):
        return False


def _are_labels(paths: Collection[Path]) -> bool:
    """Whether files without pictures are label images for sure: several compact objects on a background of 0."""
    from scipy import ndimage

    several = False
    for path in list(paths)[:PROBED]:
        size = image_size(path)
        if size[0] * size[1] > PROBED_PIXELS:
            return False
        array = read_label_image(path)
        values = label_values(array)
        several = several or len(values) > 1
        ranks = np.searchsorted(np.append(0, values), array)
        boxes = ndimage.find_objects(ranks)
        covered = sum((y.stop - y.start) * (x.stop - x.start) for y, x in boxes)
        if (len(values) and array.min() > 0) or covered > CROWDED * array.size:
            return False
    return several


def _parts(path: Path, images: Path | None) -> list[Part]:
    """What lies where; an empty list if it is none of the layouts."""
    if images is not None:
        inside = next((path / name for name in LABEL_FOLDERS if (path / name).is_dir()), path)
        pictures = by_stem(images, SUFFIXES) if images.is_dir() else {}
        return [_part("", images, pictures, by_stem(inside, LABEL_SUFFIXES))]
    if is_label_folder(path):
        return [_pair_of_folders("", path)]
    splits = [path / name for name in SPLITS if is_label_folder(path / name)]
    if splits:
        return [_pair_of_folders(SPLITS[folder.name], folder) for folder in splits]
    alone = next((path / name for name in LABEL_FOLDERS if (path / name).is_dir()), None)
    if alone is not None:
        labels = by_stem(alone, LABEL_SUFFIXES)
        if all(PurePosixPath(stem).parent.as_posix() in (".", *SPLITS) for stem in labels):
            return [_part("", alone, {}, labels)]
        return []
    return _one_folder(path)


def _pair_of_folders(split: str, root: Path) -> Part:
    folder = next(root / name for name in LABEL_FOLDERS if (root / name).is_dir())
    pictures = by_stem(root / "images", SUFFIXES)
    return _part(split, root / "images", pictures, by_stem(folder, LABEL_SUFFIXES))


def _one_folder(path: Path) -> list[Part]:
    """Pictures and labels side by side, told apart by the labels' endings; or labels alone."""
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file()]
    files = [file for file in files if not file.name.startswith(".")]
    endings = tuple(ending for ending in LABEL_ENDINGS if ending)
    labels = {
        stem_of(file): file
        for file in files
        if stem_of(file).endswith(endings) and file.suffix.lower() in LABEL_SUFFIXES
    }
    pictures = {stem_of(file).removesuffix("_img"): file for file in files if stem_of(file) not in labels}
    if labels and match_stems(pictures, labels):
        return [_part("", path, pictures, labels)]
    if any(file.suffix.lower() not in LABEL_SUFFIXES or "_instanceIds" in file.name for file in files):
        return []
    return [_part("", path, {}, by_stem(path, LABEL_SUFFIXES, deep=False))] if files else []


def _part(split: str, folder: Path, pictures: Mapping[str, Path], labels: Mapping[str, Path]) -> Part:
    return Part(split, folder, pictures, labels, match_stems(pictures, labels))


@dataclass(frozen=True, eq=False)
class LabelsSource(RasterSource):
    """Label images, one for each picture; see the module."""

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source.

        column  "label": int64, each object's number in the label image.
        """
        picture, label = self.pictures[index], self.files[index]
        return read_labels(Pair(picture.path or label, label, picture.id), self.size(index), self.classes)


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> LabelsSource:
    """Open label images.

    path    a folder of one of the layouts above, or one label image.
    images  the picture folder, if pictures lie elsewhere.
    raises  DataError if there is no label image; AnnotationError, with `strict`, for the first picture without one.
    """
    problems: list[Problem] = []
    if path.is_file():
        parts = [_part("", path.parent, {}, {stem_of(path): path})]
        if images is not None:
            parts = [_part("", images, by_stem(images, SUFFIXES), parts[0].labels)]
    elif path.is_dir():
        parts = _parts(path, images)
    else:
        raise DataError(f"{path}: not found; expected a folder of label images. Remedy: check the path.")
    pictures: list[Picture] = []
    labels: list[Path] = []
    for part in parts:
        for picture, label in _entries(part, problems, complain=images is None):
            pictures.append(replace(picture, id=len(pictures) + 1))
            labels.append(label)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    if not labels:
        raise DataError(
            f"{path}: holds no label image (PNG, TIFF or BMP) of a picture; expected {LAYOUT}. "
            "Remedy: name the folder that holds images/ and labels/, or the labels' folder."
        )
    return LabelsSource(path, CLASSES, tuple(pictures), tuple(problems), tuple(labels))


def _entries(part: Part, problems: list[Problem], complain: bool) -> list[tuple[Picture, Path]]:
    """Pictures with their label images, by name; then the labels without a picture."""
    entries = []
    for stem, path in part.pictures.items():
        if stem in part.matched:
            name = path.relative_to(part.folder).as_posix()
            entries.append(_picture(part, name, path, part.labels[part.matched[stem]]))
        elif complain:
            text = "has no label image; expected one of the same stem."
            remedy = "add it: all zero, if the picture holds no object."
            problems.append(Problem("error", str(path), "", text, remedy, "the picture", "no-label"))
    used = set(part.matched.values())
    for stem, label in part.labels.items():
        if stem not in used:
            name = PurePosixPath(stem).with_name(label.name).as_posix()
            entries.append(_picture(part, name, None, label))
            if part.pictures or part.folder.name == "images":
                text = "is a label image without a picture; its objects are read alone."
                problems.append(
                    Problem("warning", str(label), "", text, "add the picture.", "", "no-picture")
                )
    return entries


def _picture(part: Part, name: str, path: Path | None, label: Path) -> tuple[Picture, Path]:
    microns = microns_of_file(path) if path is not None else None
    parts = PurePosixPath(name).parts
    split = part.split or (SPLITS.get(parts[0], "") if len(parts) > 1 else "")
    name = f"{part.split}/{name}" if part.split else name
    return Picture(name, path, 1, None, split, microns or microns_of_file(label)), label


class LabelsTarget(Target):
    """Writes images/NAME and labels/STEM: PNG of 16 bits, or TIFF; pictures with a split are in its subfolder.

    A picture of known pixel width gets labels/STEM.ome.tif, with PhysicalSizeX and Y in µm: QuPath, Fiji, napari and
    CellProfiler read it, and measure in µm at once. Others get labels/STEM.png, and labels/STEM.tif of 32 bits where
    there are more than 65,535 objects. Objects are numbered from 1 without gaps.

    ome  False: PNG also where the pixel width is known, which is then lost.
    """

    holds = Holds(overlaps=False, classes=False, most=2**32 - 1)

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True, ome: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self.ome = ome

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name, stem = self._names(picture)
        split = picture.split if picture.split in SPLITS.values() else ""
        self.copy_picture(picture, PurePosixPath("images", split, name))
        canvas, there = owners(objects.masks)
        numbers = np.append(0, np.where(there, np.cumsum(there), 0))
        count = int(numbers.max())
        labels = numbers.astype(np.uint16 if count < 2**16 else np.uint32)[canvas]
        base = self.folder / "labels" / split
        if picture.microns is not None and self.ome:
            label = f"{stem}.ome.tif"
            write_tiff(base / label, labels, picture.microns)
        elif count < 2**16:
            label = f"{stem}.png"
            write_png(base / label, labels)
        else:
            label = f"{stem}.tif"
            write_tiff(base / label, labels, None)
            self.notes.append(
                f"{picture.name}: has {count:,} objects, so its labels are a TIFF of 32 bits, labels/{label}."
            )
        if picture.path is not None and name.suffix.lower() not in SUFFIXES:
            self.notes.append(f"{picture.name}: has no suffix of a picture, so its labels are read alone.")
        found = picture.path is not None and name.suffix.lower() in SUFFIXES
        return PurePosixPath(split, name if found else label).as_posix()

    def _names(self, picture: Picture) -> tuple[PurePosixPath, str]:
        """The picture's file name and the stem of its label; that of x.ome.tif is x, so it must not be x.tif's."""
        given = PurePosixPath(picture.name)
        stem = stem_of(Path(given.name))
        ending = given.name[len(stem) :]
        flat = self.flat_name(replace(picture, name=stem + (given.suffix or ".x"))).stem
        return PurePosixPath(flat + ending), flat

    def finish(self) -> None:
        """Make the folders of an empty set."""
        try:
            for name in ("images", "labels") if self.with_pictures else ("labels",):
                (self.folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror}).") from None


TARGET = LabelsTarget
