"""Label images: one integer picture beside each photograph, 0 for background and k for object k.

Layout: `root/images/NAME.png` with `root/labels/NAME.png` (or `root/masks/NAME.png`, `NAME_mask.png`), or both in
subfolders of the same names. The stem of NAME.ome.tif is NAME.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
LABEL_ENDINGS = ("", "_mask", "_masks", "_cp_masks", "_label", "_labels")  # those with s: Cellpose, Labkit
OME_ENDINGS = (".ome.tif", ".ome.tiff")

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
    pairs, unlabelled = [], []
    matched = match_stems(pictures, labels)
    for number, (stem, picture) in enumerate(pictures.items(), start=1):
        if stem in wanted:
            if stem in matched:
                pairs.append(Pair(picture, labels[matched[stem]], number))
            else:
                unlabelled.append(picture)
    used = set(matched.values())
    orphans = [path for stem, path in labels.items() if stem not in used] if names is None else []
    return Pairing(root, tuple(pairs), tuple(unlabelled), tuple(orphans))


def match_stems(pictures: Collection[str], labels: Collection[str]) -> dict[str, str]:
    """The stem of each picture's label, for pictures that have one: the same stem, or with an ending such as _mask.

    A label of the same stem as another picture is that picture's.
    """
    matched = {}
    for stem in pictures:
        for ending in LABEL_ENDINGS:
            if stem + ending in labels and not (ending and stem + ending in pictures):
                matched[stem] = stem + ending
                break
    return matched


def stem_of(path: Path) -> str:
    """The file's name without its suffix, which may be a double one: .ome.tif."""
    ending = next((ending for ending in OME_ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def by_stem(folder: Path, suffixes: Collection[str], deep: bool = True) -> dict[str, Path]:
    """The files of a folder by stem, in order of name; hidden ones are passed over.

    deep    files of subfolders too, as "subfolder/stem".
    raises  DataError if two files share a stem, as then nobody can say which of them a label belongs to.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        place = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in place.parts):
            continue
        if path.is_dir():
            continue
        stem = place.with_name(stem_of(path)).as_posix()
        if stem in files:
            raise DataError(
                f"{folder}: {files[stem].name} and {path.name} share the stem {stem!r}; expected "
                "one file a stem. Remedy: rename or remove one of them."
            )
        files[stem] = path
    return files


def select(files: Mapping[str, Path], names: Iterable[str], folder: Path) -> set[str]:
    """The stems that file names, paths in the folder or stems stand for.

    raises  DataError naming the first name that no file of the folder has.
    """
    known: dict[str, set[str]] = {}
    for stem, path in files.items():
        for key in {stem, path.relative_to(folder).as_posix(), path.name, stem_of(path)}:
            known.setdefault(key, set()).add(stem)
    chosen: set[str] = set()
    for name in names:
        stems = known.get(name) or known.get(Path(name).name)
        if stems is None:
            raise DataError(
                f"{folder}: no picture is named {name!r}. {did_you_mean(name, files)[:400]} "
                "Remedy: correct the name in the subset."
            )
        chosen |= stems
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
