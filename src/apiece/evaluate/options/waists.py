"""Waists: masks that look like several objects grown together, and the pieces that a watershed cuts them into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.evaluate.options.convexity import convexity
from apiece.evaluate.options.setting import Watershed
from apiece.evaluate.overlaps import Overlaps, by_image, masks_of

Bool = NDArray[np.bool_]

DEPTH = 0.15  # how much narrower than the widest place a waist must be, as a share of the greatest distance inside
SMALLEST = 0.1  # share of the mask that each piece must have
FEWEST_PIXELS = 20  # of a mask that is cut
SIDE = 48  # a longer bitmap is cut at a coarser scale, at which its longer side is about this


@dataclass(frozen=True)
class Split:
    """A candidate that becomes several objects.

    part      its place.
    solidity  what it fills of its convex hull.
    pieces    two or more masks.
    """

    part: int
    solidity: float
    pieces: Masks


def splits(overlaps: Overlaps, kept: Bool, highest: float) -> list[Split]:
    """Every candidate `kept` (P,) of solidity up to `highest` that has a waist, with its pieces."""
    predicted = overlaps.scenes.predicted
    made: list[Split] = []
    large = kept & (overlaps.predicted_areas >= FEWEST_PIXELS)
    for members in by_image(predicted, len(overlaps.scenes.image_ids)):
        some = members[large[members]]
        masks = masks_of(predicted, some)
        for i, place in enumerate(some.tolist()):
            bitmap = masks.crop(i)
            solidity = convexity(bitmap)
            if solidity > highest:
                continue
            pieces = cut(bitmap)
            if len(pieces) > 1:
                corner = masks.offsets[i].tolist()
                made.append(
                    Split(place, solidity, Masks.from_crops(pieces, [corner] * len(pieces), masks.size))
                )
    return made


def cut(bitmap: Bool) -> list[Bool]:
    """The pieces of a mask, in its own frame; the mask alone where it has no waist.

    A large mask is cut at a coarser scale; its pixels then go to the nearest piece.
    Seeds are the maxima of the distance to the outside that rise by DEPTH of the greatest above the way to a higher
    one; pixels go to them by watershed.

    source  Vincent and Soille 1991; h-maxima after Soille, Morphological Image Analysis (2003), section 6.3.
    """
    stride = max(1, max(bitmap.shape) // SIDE)
    if stride > 1:
        return _enlarged(cut(bitmap[stride // 2 :: stride, stride // 2 :: stride]), bitmap, stride)
    inside = np.pad(bitmap, 1)
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    top = float(distance.max())
    # A maximum that rises by DEPTH stands apart at one of any levels that lie closer than that.
    levels = np.arange(0.0, 1.0, 0.9 * DEPTH) * top
    if all(cv2.connectedComponents((distance > level).astype(np.uint8))[0] <= 2 for level in levels):
        return [bitmap]
    from skimage.measure import label
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    distance = distance.astype(np.float64)
    depth = DEPTH * top
    raised = reconstruction(distance - depth, distance)  # type: ignore[no-untyped-call]
    seeds = label(distance - raised >= depth - 1e-9, connectivity=2)  # type: ignore[no-untyped-call]
    while seeds.max(initial=0) > 1:
        pieces = watershed(-distance, seeds, mask=inside)  # type: ignore[no-untyped-call]
        areas = np.bincount(pieces.ravel(), minlength=seeds.max() + 1)[1:].astype(np.float64)
        areas[areas == 0] = np.inf  # seeds that are gone
        if areas.min() >= SMALLEST * np.count_nonzero(inside):
            present = np.flatnonzero(np.isfinite(areas)) + 1
            return [(pieces == number)[1:-1, 1:-1] for number in present.tolist()]
        seeds[seeds == int(areas.argmin()) + 1] = 0
        if len(np.unique(seeds)) <= 2:
            break
    return [bitmap]


def _enlarged(pieces: list[Bool], bitmap: Bool, stride: int) -> list[Bool]:
    """Pieces that were cut at a coarser scale, at that of the whole mask."""
    if len(pieces) == 1:
        return [bitmap]
    numbers = np.zeros(bitmap.shape, np.int32)
    seen = numbers[stride // 2 :: stride, stride // 2 :: stride]
    for number, piece in enumerate(pieces, start=1):
        seen[piece] = number
    _, places = cv2.distanceTransformWithLabels(
        (numbers == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(places.max() + 1, np.int32)
    owner[places[numbers > 0]] = numbers[numbers > 0]
    return [(owner[places] == number) & bitmap for number in range(1, len(pieces) + 1)]


def wanted(overlaps: Overlaps, found: Sequence[Split], rule: Watershed) -> list[int]:
    """Which of the splits a rule asks for, by their places in `found`."""
    areas, labels = overlaps.predicted_areas, overlaps.scenes.predicted.labels
    return [
        number
        for number, split in enumerate(found)
        if split.solidity <= rule.solidity
        and areas[split.part] >= rule.ratio * rule.typical.get(int(labels[split.part]), 0.0)
    ]


def typical_areas(overlaps: Overlaps, kept: Bool, part: Bool) -> dict[int, float]:
    """The median area of the candidates `kept` (P,) of each class on the images `part` (images,)."""
    predicted = overlaps.scenes.predicted
    some = kept & part[predicted.images]
    labels, areas = predicted.labels[some], overlaps.predicted_areas[some]
    return {label: float(np.median(areas[labels == label])) for label in np.unique(labels).tolist()}
