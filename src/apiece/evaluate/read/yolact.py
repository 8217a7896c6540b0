"""YOLACT's web JSON: {"info", "images": [{"image_id", "dets": [{"score", "bbox", "category", "mask"}]}]}.

`bbox` is x, y, width, height; `category` a name; `mask` a run-length code. `image_id` is COCO's.

source  github.com/dbolya/yolact (MIT), eval.py --output_web_json.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apiece.data.coco_entries import load_json
from apiece.errors import AnnotationError
from apiece.evaluate.coco_scenes import as_key
from apiece.evaluate.read.predictions import Collector, Predictions, class_of, listed, mapping, numbers
from apiece.evaluate.read.truth import Truth


def is_document(value: object) -> bool:
    """Whether a JSON value is of this layout."""
    if not isinstance(value, Mapping) or "annotations" in value or not isinstance(value.get("images"), list):
        return False
    images = value["images"]
    return "info" in value and all(isinstance(one, Mapping) and "dets" in one for one in images[:3])


def read(path: Path, truth: Truth, document: Any = None) -> Predictions:
    """One file of all pictures; by id, or by the number in the file name where the truth's format has no ids.

    raises  AnnotationError naming picture and detection.
    """
    found = mapping(load_json(path) if document is None else document, str(path), "an object with images")
    collector = Collector(path, truth.pictures, all_told=True)
    for i, image in enumerate(listed(found.get("images"), str(path), "images")):
        image = mapping(image, f"{path}: images[{i}]", "an object with image_id and dets")
        key = as_key(image.get("image_id"))
        if key is None:
            raise AnnotationError(
                f"{path}: images[{i}]: has image_id {image.get('image_id')!r}; expected a whole number. "
                "Remedy: export the predictions again."
            )
        where = f"{path}: image {key}"
        place = None if truth.coco or not isinstance(key, int) else truth.pictures.by_number(key)
        name = key if place is None else truth.pictures.names[place]
        page = collector.page(name, where, by_id=truth.coco)
        for j, det in enumerate(listed(image.get("dets"), where, "dets")):
            spot = f"{where}: detection {j}"
            det = mapping(det, spot, "a detection with score, bbox, category and mask")
            mask = det.get("mask")
            collector.add(
                page,
                spot,
                class_of(det.get("category"), spot),
                score=det.get("score"),
                box=None if det.get("bbox") is None else numbers(det["bbox"], 4, spot, "a bbox of"),
                segmentation=None if mask is None else mapping(mask, spot, "a mask as a run-length code"),
            )
    return collector.predictions()
