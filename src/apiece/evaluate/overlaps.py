"""Overlaps: which objects of all pictures share pixels, and how many; made once, so that nothing needs masks again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from apiece.core.masks import Masks
from apiece.errors import UsageError
from apiece.evaluate.scenes import Float64, Int64, Kind, Objects, Scenes

Bool = NDArray[np.bool_]


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
    """The overlaps of all objects of these scenes.

    Masks are decoded picture by picture, so that memory follows the fullest picture.
    raises  UsageError for "segm" if an object has no mask.
    """
    truth, predicted = scenes.truth, scenes.predicted
    if kind == "segm" and (truth.without_mask or predicted.without_mask):
        raise UsageError(
            f"{truth.without_mask} true and {predicted.without_mask} predicted objects have no mask; expected masks. "
            "Remedy: compare boxes (kind 'bbox')."
        )
    true_at, found_at = by_image(truth, len(scenes.image_ids)), by_image(predicted, len(scenes.image_ids))
    areas = [np.zeros(len(truth)), np.zeros(len(predicted))]
    gathered: tuple[list[Pairs], list[Pairs], list[Pairs]] = ([], [], [])
    for true, found in zip(true_at, found_at, strict=True):
        if not true.size and not found.size:
            continue
        if kind == "segm":
            masks, others = masks_of(truth, true), masks_of(predicted, found)
            size = (masks if true.size else others).size
            masks = masks if true.size else Masks.empty(size)
            others = others if found.size else Masks.empty(size)
            areas[0][true], areas[1][found] = masks.areas, others.areas
            tables = (masks.intersection(others), masks.intersection(masks), others.intersection(others))
        else:
            boxes, other_boxes = truth.boxes[true], predicted.boxes[found]
            areas[0][true], areas[1][found] = boxes[:, 2] * boxes[:, 3], other_boxes[:, 2] * other_boxes[:, 3]
            tables = (_boxes(boxes, other_boxes), _boxes(boxes, boxes), _boxes(other_boxes, other_boxes))
        gathered[0].append(_pairs(tables[0], true, found))
        gathered[1].append(_pairs(tables[1], true, true, within=True))
        gathered[2].append(_pairs(tables[2], found, found, within=True))
    across, among_truth, among_predicted = (_joined(parts) for parts in gathered)
    crowd = truth.crowd
    regular = ~(crowd[among_truth.first] | crowd[among_truth.second])
    return Overlaps(scenes, kind, areas[0], areas[1], across, among_truth.where(regular), among_predicted)


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


def _boxes(a: Float64, b: Float64) -> csr_array:
    """What boxes x, y, width, height share."""
    if not len(a) or not len(b):
        return csr_array((len(a), len(b)))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    return csr_array(np.maximum(high - low, 0).prod(axis=2))


def _pairs(table: csr_array, first: Int64, second: Int64, within: bool = False) -> Pairs:
    found = coo_array(table)
    keep = found.data > 0
    if within:
        keep &= found.coords[0] < found.coords[1]
    row, column = (c[keep].astype(np.int64) for c in found.coords)
    return Pairs(first[row], second[column], found.data[keep].astype(np.float64))


def _joined(parts: list[Pairs]) -> Pairs:
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return Pairs(
        np.concatenate([none, *(part.first for part in parts)]),
        np.concatenate([none, *(part.second for part in parts)]),
        np.concatenate([nothing, *(part.shared for part in parts)]),
    )
