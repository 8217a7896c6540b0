"""Overlaps: which objects of all pictures share pixels, and how many; made once, so that nothing needs masks again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco.mask as codes
import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.errors import UsageError
from apiece.evaluate.scenes import Float64, Int64, Kind, Objects, Scenes

Bool = NDArray[np.bool_]
CHUNK = 2**21  # pairs of boxes that are held at a time
TOO_LARGE = 2**32  # pixels of a picture, of which hotcoco's counts hold one less


@dataclass(frozen=True, eq=False)
class Pairs:
    """R pairs of objects of one picture that share a pixel (of masks) or area (of boxes).

    first   int64 (R,), places in one list of objects.
    second  int64 (R,), places in the other; within one list first < second.
    shared  float64 (R,), what both cover, in pixels; above 0.
    """

    first: Int64
    second: Int64
    shared: Float64

    def __len__(self) -> int:
        return len(self.first)

    def where(self, chosen: Bool) -> Pairs:
        """The pairs at which `chosen` (R,) is True."""
        return Pairs(self.first[chosen], self.second[chosen], self.shared[chosen])

    def iou(self, first_areas: Float64, second_areas: Float64) -> Float64:
        """Intersection over union, float64 (R,)."""
        return self.shared / (first_areas[self.first] + second_areas[self.second] - self.shared)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """All overlaps of the objects of scenes.

    scenes             whose objects they are; `truth` and `predicted` are numbered as there.
    kind               "segm": pixels of masks; "bbox": area of boxes.
    truth_areas        float64 (T,), pixels of the mask or area of the box, whatever `area` the file states.
    predicted_areas    float64 (P,), the same.
    across             truth (crowd regions included) × predicted.
    among_truth        truth × truth, crowd regions left out.
    among_predicted    predicted × predicted.
    """

    scenes: Scenes
    kind: Kind
    truth_areas: Float64
    predicted_areas: Float64
    across: Pairs
    among_truth: Pairs
    among_predicted: Pairs

    @property
    def iou(self) -> Float64:
        """IoU of the pairs `across`; a crowd region's is the share of the prediction that lies in it."""
        across = self.across
        iou = across.iou(self.truth_areas, self.predicted_areas)
        share = across.shared / self.predicted_areas[across.second]
        return np.where(self.scenes.truth.crowd[across.first], share, iou)

    def only(self, places: Int64) -> Overlaps:
        """The overlaps on the images at these places, as `scenes.only` has them; nothing is computed again."""
        scenes = self.scenes
        wanted = np.zeros(len(scenes.image_ids), np.bool_)
        wanted[places] = True
        true, found = wanted[scenes.truth.images], wanted[scenes.predicted.images]
        new_true, new_found = np.cumsum(true) - 1, np.cumsum(found) - 1

        def part(pairs: Pairs, first: Int64, second: Int64, kept: Bool) -> Pairs:
            some = pairs.where(kept[pairs.first])
            return Pairs(first[some.first], second[some.second], some.shared)

        return Overlaps(
            scenes.only(np.flatnonzero(wanted).tolist()),
            self.kind,
            self.truth_areas[true],
            self.predicted_areas[found],
            part(self.across, new_true, new_found, true),
            part(self.among_truth, new_true, new_true, true),
            part(self.among_predicted, new_found, new_found, found),
        )


def overlaps_of(scenes: Scenes, kind: Kind = "segm") -> Overlaps:
    """The overlaps of all objects of these scenes; pairs by image, then first, then second.

    Boxes tell which objects can meet, all pictures at once; only these masks are compared, by their run-length codes,
    which hotcoco does. No mask is decoded, and nothing grows with the square of the number of objects.

    raises  UsageError for "segm" if an object has no mask, or a picture has 2**32 pixels or more.
    """
    truth, predicted = scenes.truth, scenes.predicted
    if kind == "segm" and (truth.without_mask or predicted.without_mask):
        raise UsageError(
            f"{truth.without_mask} true and {predicted.without_mask} predicted objects have no mask; expected masks. "
            "Remedy: compare boxes (kind 'bbox')."
        )
    images = np.concatenate([truth.images, predicted.images])
    rles = [rle for objects in (truth, predicted) for rle in objects.masks if rle is not None]
    if kind == "segm":
        largest = max((rle["size"][0] * rle["size"][1] for rle in rles), default=0)
        if largest >= TOO_LARGE:
            raise UsageError(
                f"a picture has {largest:,} pixels; expected fewer than {TOO_LARGE:,}. "
                "Remedy: compare tiles, or boxes (kind 'bbox')."
            )
        areas = codes.area(rles).astype(np.float64)
        boxes = codes.to_bbox(rles).reshape(-1, 4)
    else:
        boxes = np.concatenate([truth.boxes, predicted.boxes])
        areas = boxes[:, 2] * boxes[:, 3]
    found = []
    for first, second in _meetings(images, boxes):
        shared = (
            _shared_pixels(rles, areas, first, second)
            if kind == "segm"
            else _shared_area(boxes, first, second)
        )
        found.append(Pairs(np.minimum(first, second), np.maximum(first, second), shared).where(shared > 0))
    pairs = _joined(found)
    order = np.lexsort((pairs.second, pairs.first, images[pairs.first]))
    pairs = Pairs(pairs.first[order], pairs.second[order], pairs.shared[order])
    count = len(truth)
    both, neither = pairs.second < count, pairs.first >= count
    regular = np.append(~truth.crowd, np.zeros(len(predicted), np.bool_))
    across, found_pairs = pairs.where(~both & ~neither), pairs.where(neither)
    return Overlaps(
        scenes,
        kind,
        areas[:count],
        areas[count:],
        Pairs(across.first, across.second - count, across.shared),
        pairs.where(both & regular[pairs.first] & regular[pairs.second]),
        Pairs(found_pairs.first - count, found_pairs.second - count, found_pairs.shared),
    )


def by_image(objects: Objects, images: int) -> list[Int64]:
    """The places of the objects of each image, in file order."""
    order = np.argsort(objects.images, kind="stable")
    return np.split(order, np.searchsorted(objects.images[order], np.arange(1, images)))


def masks_of(objects: Objects, places: Int64) -> Masks:
    """The masks of objects of one image, decoded; an empty picture of 1 × 1 where there is no object."""
    rles = [objects.masks[i] for i in places.tolist()]
    if not rles or rles[0] is None:
        return Masks.empty((1, 1))
    return Masks.from_coco(rles, rles[0]["size"])


def _meetings(images: Int64, boxes: Float64) -> Iterator[tuple[Int64, Int64]]:
    """All pairs of objects of one image whose boxes x, y, width, height share area, each once, in chunks.

    In order of image and left side, what an object can meet follows it, as far as its right side reaches.
    """
    full = np.flatnonzero((boxes[:, 2] > 0) & (boxes[:, 3] > 0))
    order = full[np.lexsort((boxes[full, 0], images[full]))]
    image, (left, top, width, height) = images[order], boxes[order].T
    right, bottom = left + width, top + height
    count = len(order)
    begins = np.repeat([True, False], count)
    # A right side that is another's left side comes first: they only touch.
    sides = np.lexsort((begins, np.concatenate([left, right]), np.concatenate([image, image])))
    begun = np.empty(2 * count, np.int64)
    begun[sides] = np.cumsum(begins[sides])
    length = np.maximum(begun[count:] - np.arange(count) - 1, 0)
    ends = np.cumsum(length)
    start = 0
    while start < count:
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - length[start] + CHUNK)))
        some = length[start:stop]
        first = np.repeat(np.arange(start, stop), some)
        second = np.arange(len(first)) - np.repeat(np.cumsum(some) - some, some) + first + 1
        meet = (top[first] < bottom[second]) & (top[second] < bottom[first])
        if meet.any():
            yield order[first[meet]], order[second[meet]]
        start = stop


def _shared_pixels(rles: Sequence[dict[str, Any]], areas: Float64, first: Int64, second: Int64) -> Float64:
    """Pixels that the masks of each pair share, float64 (R,); pairs with the same first follow each other."""
    share = np.zeros(len(first))
    begins = np.flatnonzero(np.diff(first, prepend=-1))
    ends = [*begins[1:].tolist(), len(first)]
    partners = second.tolist()
    crowds = np.ones(len(first), np.bool_)
    for begin, end, one in zip(begins.tolist(), ends, first[begins].tolist(), strict=True):
        others = [rles[other] for other in partners[begin:end]]
        # With crowds as partners this is the shared part of the first, which times its area is a whole number.
        share[begin:end] = codes.iou([rles[one]], others, crowds[begin:end])[0]
    pixels: Float64 = np.rint(share * areas[first])
    return pixels


def _shared_area(boxes: Float64, first: Int64, second: Int64) -> Float64:
    """What the boxes of each pair share, float64 (R,)."""
    a, b = boxes[first], boxes[second]
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared: Float64 = np.maximum(high - low, 0).prod(axis=1)
    return shared


def _joined(parts: list[Pairs]) -> Pairs:
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return Pairs(
        np.concatenate([none, *(part.first for part in parts)]),
        np.concatenate([none, *(part.second for part in parts)]),
        np.concatenate([nothing, *(part.shared for part in parts)]),
    )
