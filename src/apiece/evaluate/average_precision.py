"""COCO's average precision and recall of masks or boxes, matched by hotcoco, exactly as pycocotools has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError
from apiece.evaluate.scenes import Float64, Key, Kind, Objects, Scenes

COCO_CAP = 100
CAPS = (1, 10, COCO_CAP)
AREAS = ("all", "small", "medium", "large")
AT_50, AT_75 = 0, 5  # places among the IoU thresholds 0.50, 0.55, …, 0.95


@dataclass(frozen=True)
class ClassPrecision:
    """The figures of one class: AP, AP50, AP75 and AR100 under COCO's cap, AP without it; -1 if undefined.

    truth      true objects, crowd regions excluded.
    predicted  predictions, whatever their score.
    """

    category_id: Key
    name: str
    AP: float
    AP50: float
    AP75: float
    AR100: float
    AP_uncapped: float
    truth: int
    predicted: int


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's twelve figures, in 0..1 or -1 where undefined.

    figures   AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl, in pycocotools' order.
    uncapped  the same with the cap of 100 detections raised so far that it cuts nothing; "AR100" keeps its name.
    by_class  one entry a class, in the order of category ids.
    """

    figures: dict[str, float]
    uncapped: dict[str, float]
    by_class: tuple[ClassPrecision, ...]


def average_precision(scenes: Scenes, kind: Kind, cap: int) -> AveragePrecision:
    """Average precision and recall over IoU 0.50:0.05:0.95 and all classes that have truth.

    kind    "segm": IoU of masks, which every object must have; "bbox": IoU of boxes.
    cap     detections that `uncapped` allows each class in each image; counts if above COCO's 100.
    raises  UsageError for "segm" if an object has no mask.
    source  Lin et al. 2014, arXiv 1405.0312; cocodataset/cocoapi, cocoeval.py. Memory is in proportion to the
            largest number of predictions × truths of one class in one image.

    hotcoco matches and accumulates; its precision and recall arrays equal pycocotools' bit for bit. Here they
    are only averaged, with NumPy and in pycocotools' order, so that capped and uncapped figures come from one
    run and are averaged alike. (A higher cap cannot change the first 100 matches: they are made in order of score.)
    """
    caps = [*CAPS, cap] if cap > COCO_CAP else list(CAPS)
    precision, recall = _accumulated(scenes, kind, caps)
    coco, raised = CAPS.index(COCO_CAP), len(caps) - 1
    classes = len(scenes.classes)
    true = np.bincount(scenes.truth.labels[~scenes.truth.crowd], minlength=classes).tolist()
    found = np.bincount(scenes.predicted.labels, minlength=classes).tolist()
    by_class = tuple(
        ClassPrecision(
            category_id=key,
            name=name,
            AP=_mean(precision[:, :, i, 0, coco]),
            AP50=_mean(precision[AT_50, :, i, 0, coco]),
            AP75=_mean(precision[AT_75, :, i, 0, coco]),
            AR100=_mean(recall[:, i, 0, coco]),
            AP_uncapped=_mean(precision[:, :, i, 0, raised]),
            truth=true[i],
            predicted=found[i],
        )
        for i, (key, name) in enumerate(scenes.classes)
    )
    return AveragePrecision(_twelve(precision, recall, coco), _twelve(precision, recall, raised), by_class)


def _twelve(precision: Float64, recall: Float64, cap: int) -> dict[str, float]:
    """COCO's figures, with the cap at place `cap` where COCO has its 100."""

    def ap(area: str = "all", thresholds: slice = slice(None)) -> float:
        return _mean(precision[thresholds, :, :, AREAS.index(area), cap])

    def ar(area: str = "all", at: int = cap) -> float:
        return _mean(recall[:, :, AREAS.index(area), at])

    return {
        "AP": ap(),
        "AP50": ap(thresholds=slice(AT_50, AT_50 + 1)),
        "AP75": ap(thresholds=slice(AT_75, AT_75 + 1)),
        "APs": ap("small"),
        "APm": ap("medium"),
        "APl": ap("large"),
        "AR1": ar(at=0),
        "AR10": ar(at=1),
        "AR100": ar(),
        "ARs": ar("small"),
        "ARm": ar("medium"),
        "ARl": ar("large"),
    }


def coco_eval(scenes: Scenes, kind: Kind) -> hotcoco.COCOeval:
    """hotcoco's evaluator of these scenes, with images and classes by their places; nothing is matched yet.

    raises  UsageError for "segm" if an object has no mask.
    """
    with_masks = kind == "segm"
    images = [{"id": i, **_sides(size)} for i, size in enumerate(scenes.sizes)]
    categories = [{"id": i, "name": str(i)} for i in range(len(scenes.classes))]
    truth, predicted = scenes.truth, scenes.predicted
    true = hotcoco.COCO.from_arrays(
        images,
        categories,
        truth.images,
        truth.labels,
        truth.boxes,
        ids=_ids(truth),
        area=truth.areas(kind),
        iscrowd=truth.crowd.astype(np.int64),
        segmentation=_rles(truth) if with_masks else None,
    )
    rows = np.column_stack([predicted.images, predicted.boxes, predicted.scores, predicted.labels])
    found = true.load_res(rows, segmentation=_rles(predicted) if with_masks else None)
    # load_res takes every area from the box; masks are small, medium or large by their own area.
    found.update_anns(ids=_ids(predicted), area=predicted.areas(kind))
    return hotcoco.COCOeval(true, found, kind)


def _accumulated(scenes: Scenes, kind: Kind, caps: list[int]) -> tuple[Float64, Float64]:
    """Precision (IoU, recall point, class, area, cap) and recall (IoU, class, area, cap); -1 without truth."""
    run = coco_eval(scenes, kind)
    run.params.max_dets = caps
    run.evaluate()
    run.accumulate()
    arrays = run.eval
    assert arrays is not None  # accumulate() fills it
    return np.asarray(arrays["precision"]), np.asarray(arrays["recall"])


def _sides(size: tuple[int, int] | None) -> dict[str, int]:
    return {} if size is None else {"height": size[0], "width": size[1]}


def _rles(objects: Objects) -> list[dict[str, Any] | list[list[float]]]:
    found: list[dict[str, Any] | list[list[float]]] = [rle for rle in objects.masks if rle is not None]
    if len(found) < len(objects):
        raise UsageError(
            f"{len(objects) - len(found)} of {len(objects)} objects have no mask; evaluate as bbox."
        )
    return found


def _ids(objects: Objects) -> NDArray[np.int64]:
    """1, 2, …: ids in files play no part, since pycocotools takes a match with id 0 for no match."""
    return np.arange(1, len(objects) + 1)


def _mean(values: Float64) -> float:
    """The mean of what is defined, summed in pycocotools' order; -1 where nothing is."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0
