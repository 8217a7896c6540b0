"""Random COCO scenes, and pycocotools' figures for them."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Document = dict[str, Any]
Results = list[dict[str, Any]]

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def run(truth: Document, results: Results, kind: str, caps: list[int] | None = None) -> COCOeval:
    """A finished COCOeval. Its stats are the twelve figures."""
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = copy.deepcopy(truth)
        true.createIndex()
        if results:
            found = true.loadRes(copy.deepcopy(results))
        else:  # loadRes looks at the first result
            found = COCO()
            found.dataset = {**copy.deepcopy(truth), "annotations": []}
            found.createIndex()
        made = COCOeval(true, found, kind)
        made.params.maxDets = caps or made.params.maxDets
        made.evaluate()
        made.accumulate()
        made.summarize()
    return made


def stats(truth: Document, results: Results, kind: str) -> list[float]:
    return [float(value) for value in run(truth, results, kind).stats]


def encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def without(results: Results, *fields: str) -> Results:
    return [{key: value for key, value in row.items() if key not in fields} for row in results]


def scene(seed: int) -> tuple[Document, Results]:
    """Images, classes, truth and results with masks and boxes; every odd case turns up in some seeds.

    Crowd regions, `ignore`, areas that differ from the masks', tied scores, images and classes without truth or
    without predictions, ids from 0 and out of order, objects in several parts, empty masks, dense images.
    """
    r = np.random.default_rng(seed)
    height, width = r.integers(8, 140, 2).tolist()
    image_ids = (r.permutation(int(r.integers(1, 5))) + int(r.integers(0, 3))).tolist()
    class_ids = (r.permutation(int(r.integers(1, 4))) + int(r.integers(0, 2))).tolist()
    dense = r.random() < 0.1

    def shape() -> np.ndarray:
        mask = np.zeros((height, width), bool)
        if r.random() < 0.05:
            return mask
        y, x = int(r.integers(0, height)), int(r.integers(0, width))
        mask[y : y + int(r.integers(1, height + 1)), x : x + int(r.integers(1, width + 1))] = True
        if r.random() < 0.3:
            mask &= r.random((height, width)) > 0.2
        return mask

    def entry(image: int, category: int, mask: np.ndarray) -> dict[str, Any]:
        rle = encoded(mask)
        box = [float(value) for value in coco_mask.toBbox(rle)]
        return {"image_id": image, "category_id": category, "segmentation": rle, "bbox": box}

    annotations: Results = []
    results: Results = []
    for image in image_ids:
        for _ in range(int(r.integers(100, 130)) if dense else int(r.integers(0, 6))):
            mask, category = shape(), class_ids[int(r.integers(len(class_ids)))]
            area = float(mask.sum()) * (1.0 if r.random() < 0.7 else 0.9)
            true = entry(image, category, mask)
            true |= {"id": len(annotations) + 1, "area": area, "iscrowd": int(r.random() < 0.2)}
            if r.random() < 0.2:
                true["ignore"] = int(r.random() < 0.5)
            annotations.append(true)
            for _ in range(int(r.integers(0, 3))):
                found = (
                    np.roll(mask, int(r.integers(-3, 4)), int(r.integers(0, 2))) if r.random() < 0.6 else mask
                )
                found = shape() if r.random() < 0.2 else found
                named = category if r.random() < 0.8 else class_ids[int(r.integers(len(class_ids)))]
                score = float(np.round(r.random(), int(r.integers(1, 4))))
                results.append(entry(image, named, found) | {"score": score})
    order = r.permutation(len(results))
    images = [{"id": i, "height": height, "width": width, "file_name": f"{i}.png"} for i in image_ids]
    categories = [{"id": i, "name": f"class {i}"} for i in class_ids]
    truth = {"images": images, "categories": categories, "annotations": annotations}
    return truth, [results[i] for i in order.tolist()]
