"""MMDetection's inferencer: `preds/NAME.json` a picture, {"labels", "scores", "bboxes", "masks"}.

`bboxes` are corners x1, y1, x2, y2 in pixels, `masks` run-length codes of the whole picture, `labels` class numbers
from 0. Its `*.segm.json` and `*.bbox.json` of a test run are lists of COCO results (module `coco`).

source  github.com/open-mmlab/mmdetection, DetInferencer; the layout only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apiece.errors import AnnotationError
from apiece.evaluate.read.per_picture import documents
from apiece.evaluate.read.predictions import (
    Collector,
    Predictions,
    class_of,
    corners,
    listed,
    mapping,
    numbers,
)
from apiece.evaluate.read.truth import Truth


def is_document(value: object) -> bool:
    """Whether a JSON value is of this layout."""
    return isinstance(value, Mapping) and {"labels", "scores"} <= value.keys()


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """A file a picture, called by the picture's stem, in a folder or its `preds/`.

    raises  AnnotationError naming file and object.
    """
    collector = Collector(path, truth.pictures, all_told=True)
    for file, found in documents(path, document):
        found = mapping(found, str(file), "an object with labels, scores, bboxes and masks")
        alone = not path.is_dir() and len(truth.pictures) == 1
        page = collector.page(truth.pictures.names[0] if alone else file.stem, str(file))
        columns = {
            key: listed(found.get(key), str(file), key)
            for key in ("labels", "scores", "bboxes", "masks")
            if key in ("labels", "scores") or found.get(key) is not None
        }
        if "bboxes" not in columns and "masks" not in columns:
            raise AnnotationError(
                f"{file}: has neither bboxes nor masks; expected one of them or both. Remedy: write results of "
                "instances, not of panoptic segments."
            )
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise AnnotationError(
                f"{file}: holds lists of lengths {lengths}; expected one entry an object in each. "
                "Remedy: export the predictions again."
            )
        for i, label in enumerate(columns["labels"]):
            where = f"{file}: object {i}"
            box = None
            if "bboxes" in columns:
                box = corners(numbers(columns["bboxes"][i], 4, where, "a bbox of"), where)
            mask = columns["masks"][i] if "masks" in columns else None
            if mask is not None:
                mask = mapping(mask, where, "a mask as a run-length code with size and counts")
            collector.add(
                page,
                where,
                class_of(label, where),
                score=columns["scores"][i],
                box=box,
                segmentation=mask,
            )
    return collector.predictions()
