"""Label images: one integer picture beside each photograph, 0 for background and k for object k.

Layout: `root/images/NAME.png` with `root/labels/NAME.png` (or `root/masks/NAME.png`, `NAME_mask.png`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES as PICTURE_SUFFIXES
from apiece.core.image import read_label_image
from apiece.core.instances import Instances
from apiece.core.label_image import label_values
from apiece.core.masks import Masks
from apiece.errors import AnnotationError, DataError, did_you_mean

LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
LABEL_FOLDERS = ("labels", "masks")
LABEL_ENDINGS = ("", "_mask", "_label")

Size = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """A picture, its label image, and its number in the folder (1 for the first by name)."""

    picture: Path
    label: Path
    image_id: int


@dataclass(frozen=True)
class Pairing:
    """What a label folder holds: pairs by name, and the files without a counterpart."""

    root: Path
    pairs: tuple[Pair, ...]
    unlabelled: tuple[Path, ...]
    orphans: tuple[Path, ...]


def is_label_folder(root: Path) -> bool:
    """Whether `root` has a folder of pictures and a folder of label images."""
    return (root / "images").is_dir() and any((root / name).is_dir() for name in LABEL_FOLDERS)


def pair_files(root: str | Path, names: Collection[str] | None = None) -> Pairing:
    """Match pictures with label images by file stem; nothing is opened.

    root    folder with `images/` and `labels/` (or `masks/`).
    names   file names or stems of the pictures wanted; None for all. Counterparts are missed only for these.
    raises  DataError if a folder is absent or empty, if two files share a stem, or if a name is unknown.
    """
    root = Path(root)
    labels_folder = next((root / name for name in LABEL_FOLDERS if (root / name).is_dir()), None)
    if not (root / "images").is_dir() or labels_folder is None:
        raise DataError(
            f"{root}: expected the folders images/ and labels/ (or masks/), each picture with a label image "
            "of the same stem. Remedy: name the folder that holds both."
        )
    pictures = by_stem(root / "images", PICTURE_SUFFIXES)
    if not pictures:
        raise DataError(
            f"{root / 'images'}: holds no picture; expected files ending in "
            f"{', '.join(sorted(PICTURE_SUFFIXES))}. Remedy: put the pictures there."
        )
    labels = by_stem(labels_folder, LABEL_SUFFIXES)
    wanted = set(pictures) if names is None else select(pictures, names, root / "images")
    pairs, unlabelled, used = [], [], set()
    for number, (stem, picture) in enumerate(pictures.items(), start=1):
        key = next((stem + ending for ending in LABEL_ENDINGS if stem + ending in labels), None)
        if key is not None:
            used.add(key)
        if stem in wanted:
            if key is None:
                unlabelled.append(picture)
            else:
                pairs.append(Pair(picture, labels[key], number))
    orphans = [path for stem, path in labels.items() if stem not in used] if names is None else []
    return Pairing(root, tuple(pairs), tuple(unlabelled), tuple(orphans))


def by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """The files of a folder by stem, in order of name; hidden files are passed over.

    raises  DataError if two files share a stem, as then nobody can say which of them a label belongs to.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in files:
            raise DataError(
                f"{folder}: {files[path.stem].name} and {path.name} share the stem {path.stem!r}; expected "
                "one file a stem. Remedy: rename or remove one of them."
            )
        files[path.stem] = path
    return files


def select(files: dict[str, Path], names: Iterable[str], folder: Path) -> set[str]:
    """The stems that file names or stems stand for.

    raises  DataError naming the first name that no file of the folder has.
    """
    by_name = {path.name: stem for stem, path in files.items()}
    chosen = set()
    for name in names:
        stem = by_name.get(Path(name).name) or (name if name in files else None)
        if stem is None:
            raise DataError(
                f"{folder}: no picture is named {name!r}. {did_you_mean(name, files)[:400]} "
                "Remedy: correct the name in the subset."
            )
        chosen.add(stem)
    return chosen


def same_size(label_file: str | Path, label: Size, picture_file: str | Path, picture: Size) -> str | None:
    """None if a label fits its picture, else a sentence with both files, both sizes and the remedy."""
    if tuple(label) == tuple(picture):
        return None
    remedy = "export the labels again at the picture's size, or pair the right files."
    if tuple(label) == (picture[1], picture[0]):
        remedy = (
            "the sides are swapped, so the label was probably drawn on the picture without its EXIF "
            "rotation; rotate the label, or save the picture upright and without the EXIF tag."
        )
    return (
        f"{label_file}: labels are {label[0]} x {label[1]} (height x width) but the picture "
        f"{picture_file} is {picture[0]} x {picture[1]}; expected the same size. Remedy: {remedy}"
    )


def read_labels(pair: Pair, size: Size, classes: ClassMap) -> Instances:
    """The objects of one label image, in order of their numbers; all of the first class.

    size    (height, width) of the picture, upright.
    raises  AnnotationError if the label is of another size, or no image of integers; ImageError if it can't be
            read.
    column  "label": int64, each object's number in the label image.
    """
    array = read_label_image(pair.label)
    wrong = same_size(pair.label, (array.shape[0], array.shape[1]), pair.picture, size)
    if wrong:
        raise AnnotationError(wrong)
    masks = Masks.from_label_image(array)
    return Instances(
        size=size,
        masks=masks,
        class_ids=np.zeros(len(masks), np.int64),
        classes=classes,
        columns={"label": label_values(array)},
    )
