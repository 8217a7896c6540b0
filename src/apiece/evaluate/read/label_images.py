"""Label images of Cellpose, StarDist and others: an integer picture for each picture, 0 background, k object k.

Read are PNG and TIFF called as the picture (NAME.tif) or with an ending (NAME_cp_masks.png, NAME_masks.tif,
NAME_label.png), in a folder and those inside, or in its labels/ or masks/. Where names have such endings, other images
are the pictures, and passed over. There are no classes and no scores.

source  cellpose.readthedocs.io, Outputs; docs of StarDist, label images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.image import read_label_image
from apiece.core.masks import Masks
from apiece.data.label_folder import LABEL_FOLDERS, LABEL_SUFFIXES, same_size, stem_of
from apiece.errors import AnnotationError, DataError, GeometryError
from apiece.evaluate.read.pictures import ENDINGS, picture_stem
from apiece.evaluate.read.predictions import Collector, Predictions
from apiece.evaluate.read.truth import Truth

CLASS = "object"


def files(path: Path) -> tuple[dict[str, Path], int]:
    """Label images by the stem of the picture that they are of, and how many pictures beside them are passed over.

    raises  DataError if two are of one picture.
    """
    if path.is_file():
        return {picture_stem(stem_of(path)): path}, 0
    root = next((path / name for name in LABEL_FOLDERS if (path / name).is_dir()), path)
    try:
        found = sorted(
            file
            for file in root.rglob("*")
            if file.suffix.lower() in LABEL_SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(root).parts)
            and "images" not in file.relative_to(root).parts[:-1]
            and file.is_file()
        )
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror}). Remedy: check the path.") from None
    ended = [file for file in found if stem_of(file).endswith(ENDINGS)]
    by_stem: dict[str, Path] = {}
    for file in ended or found:  # where names have endings, those without are the pictures
        stem = file.relative_to(root).with_name(picture_stem(stem_of(file))).as_posix()
        if stem in by_stem:
            raise DataError(
                f"{file.parent}: {by_stem[stem].name} and {file.name} are both of the picture {stem!r}; expected one "
                "label image a picture. Remedy: remove one of them."
            )
        by_stem[stem] = file
    return by_stem, len(found) - len(by_stem)


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """The label images of a folder, or one.

    raises  AnnotationError for a label image of another size than its picture, or none of integers; ImageError if it
            can't be read; DataError if there is none.
    """
    found, passed = files(path)
    if not found:
        raise DataError(
            f"{path}: holds no label image; expected NAME.png or NAME.tif, or NAME_cp_masks.png, a picture. "
            "Remedy: name their folder."
        )
    collector = Collector(path, truth.pictures, all_told=True)
    collector.class_named(CLASS)
    if passed:
        collector.notes.append(
            f"{path}: {passed} images without an ending such as _masks are taken for pictures, not for label images."
        )
    single = 0
    for stem, file in found.items():
        page = collector.page(stem, str(file))
        array = read_label_image(file)
        if page.place is None:
            for _ in range(len(np.unique(array[array != 0]))):
                collector.add(page, str(file), CLASS)
            continue
        name = truth.pictures.names[page.place]
        wrong = same_size(file, (array.shape[0], array.shape[1]), name, truth.pictures.size(page.place))
        if wrong:
            raise AnnotationError(wrong)
        try:
            masks = Masks.from_label_image(array)
        except GeometryError as error:
            raise AnnotationError(f"{file}: {error}") from None
        single += len(masks) == 1
        boxes = masks.boxes.tolist()
        for i, (code, (x1, y1, x2, y2)) in enumerate(zip(masks.to_coco(), boxes, strict=True)):
            collector.add(
                page,
                f"{file}: object {i}",
                CLASS,
                box=[x1, y1, x2 - x1, y2 - y1],
                segmentation=code,
            )
    if single == len(found) > 1:
        collector.notes.append(
            f"{path}: each of its {single} label images holds one object. Remedy: if they are foreground against "
            "background, number the objects."
        )
    return collector.predictions()
