"""COCO average precision of masks and boxes, by hotcoco, with the detection cap as an argument."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval

COCO_CAP = 100
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

Document = Mapping[str, Any]


@dataclass(frozen=True)
class AveragePrecision:
    """The twelve COCO figures, 0 … 1, -1 where undefined, and AP by class.

    With another cap than 100, AR100 and the AP figures use that cap; the key stays, the definition says so.
    """

    figures: dict[str, float]
    by_class: dict[str, float]
    cap: int


def average_precision(
    truth: Document, results: Sequence[Document], kind: Literal["segm", "bbox"], cap: int = COCO_CAP
) -> AveragePrecision:
    """COCO AP (Lin et al. 2014, arXiv 1405.0312; the definitions of cocodataset.org/#detection-eval).

    truth    COCO document with images, annotations and categories.
    results  image_id, category_id, score, and segmentation (RLE or polygons) or bbox.
    kind     overlap by masks or by boxes.
    cap      most predictions of a picture and class that are looked at, best scores first.
    A prediction's area, for the small, medium and large figures, is that of its mask (`segm`) or box (`bbox`):
    pycocotools takes the box's area for masks too when results carry both, which EXPECTED figures of other tools
    do not.
    """
    unwanted = {"segm": ("bbox", "area"), "bbox": ("segmentation", "area")}[kind]
    lean = [{key: value for key, value in result.items() if key not in unwanted} for result in results]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        # Objects are numbered from 1: COCO's matching takes an object of id 0 for "no match".
        objects = [{**annotation, "id": i} for i, annotation in enumerate(truth["annotations"], start=1)]
        ground = COCO({**truth, "annotations": objects})
        evaluation = COCOeval(ground, ground.load_res(lean), kind)
        evaluation.params.max_dets = [1, 10, cap]
        evaluation.run()
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}
    accumulated = evaluation.eval
    assert accumulated is not None
    precision = np.asarray(accumulated["precision"])
    by_class = {}
    for index, category in enumerate(evaluation.params.cat_ids):
        values = precision[:, :, index, 0, -1]
        values = values[values > -1]
        by_class[names[category]] = float(values.mean()) if values.size else -1.0
    return AveragePrecision(dict(zip(NAMES, map(float, evaluation.stats), strict=True)), by_class, cap)
