"""Masks of COCO segmentations, checked and measured without their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import hotcoco.mask as codes
import numpy as np

from apiece.core.masks import MAX_PIXELS
from apiece.data.coco_codes import all_hold
from apiece.evaluate.scenes import Float64, Size

Rle = dict[str, Any]


class Measured(NamedTuple):
    """N masks.

    rles   compressed, a dict each; those that were given so are the very same.
    areas  float64 (N,), pixels.
    boxes  float64 (N, 4), x, y, width, height, tight.
    """

    rles: list[Rle]
    areas: Float64
    boxes: Float64


def measured(segmentations: Sequence[Any], size: Size) -> Measured | None:
    """The masks of segmentations on a picture of `size` (height, width), as `Masks.from_coco` has them.

    Each is run-length codes or a list of polygons. None if one is anything else, doesn't hold, or is drawn far beyond
    the picture: `Masks.from_coco` tells, one by one, what these are.

    source  cocoapi, common/maskApi.c; drawn and measured by hotcoco, equal to pycocotools.
    """
    if size[0] * size[1] > MAX_PIXELS:
        return None
    drawn = [i for i, one in enumerate(segmentations) if type(one) is list]
    coded = [i for i, one in enumerate(segmentations) if type(one) is not list]
    rles = list(segmentations)
    for places, compressed in ((drawn, _drawn), (coded, _coded)):
        made = compressed([rles[i] for i in places], size)
        if made is None:
            return None
        for i, rle in zip(places, made, strict=True):
            rles[i] = rle
    return Measured(rles, codes.area(rles).astype(np.float64), codes.to_bbox(rles).reshape(-1, 4))


def _coded(rles: Sequence[Any], size: Size) -> list[Rle] | None:
    """Run-length codes as compressed ones; None if one doesn't hold."""
    height, width = size
    if not all(type(rle) is dict and len(rle) == 2 and rle.get("size") == [height, width] for rle in rles):
        return None
    found = list(rles)
    for i, rle in enumerate(rles):
        counts = rle.get("counts")
        if type(counts) is list:
            if set(map(type, counts)) != {int} or min(counts) < 0 or sum(counts) != height * width:
                return None
            text = codes.frPyObjects(rle, height, width)["counts"]
            found[i] = {"size": [height, width], "counts": text.decode()}
    return found if all_hold([rle.get("counts") for rle in found], height * width) else None


def _drawn(outlines: Sequence[list[Any]], size: Size) -> list[Rle] | None:
    """Lists of polygons as run-length codes; None if one isn't plain or is far outside, where drawing is slow."""
    height, width = size
    parts = list(chain.from_iterable(outlines))
    if not parts:
        return None if outlines else []
    if not all(type(part) is list and len(part) >= 6 and len(part) % 2 == 0 for part in parts):
        return None
    numbers = list(chain.from_iterable(parts))
    if not set(map(type, numbers)) <= {int, float}:
        return None
    side = max(size)
    if not -side <= min(numbers) <= max(numbers) <= 2 * side or not np.isfinite(sum(numbers)):
        return None
    made = iter(codes.frPyObjects(parts, height, width))
    rles: list[Rle] = []
    for outline in outlines:
        own = [next(made) for _ in outline]
        if not own:
            return None
        rle = own[0] if len(own) == 1 else codes.merge(own)
        rles.append({"size": [height, width], "counts": rle["counts"].decode()})
    return rles
