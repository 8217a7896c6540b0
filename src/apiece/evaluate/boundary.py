"""Boundaries: IoU of outlines' inner bands, average precision by it, and the length of outlines; all on crops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import cv2
import hotcoco
import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.errors import UsageError
from apiece.evaluate.overlaps import Overlaps, Pairs
from apiece.evaluate.replay import average_precisions
from apiece.evaluate.scenes import Float64, Int64, Key, Objects

Bool = NDArray[np.bool_]

RATIO = 0.02  # of the picture's diagonal, as for COCO
AT_ONCE = 256  # pairs whose masks are decoded together
MOST_PAIRS = 5_000
AT_50, AT_75 = 0, 5  # places among the IoU thresholds 0.50, 0.55, …, 0.95

DEFINITIONS = {
    "boundary.iou": (
        "IoU of the inner bands of the true and the predicted mask: of each mask the pixels within d of what is "
        "outside it or outside the picture, in king's moves; d is 2 % of the picture's diagonal, rounded, at "
        "least 1 (Cheng et al. 2021, arXiv 2103.16562)."
    ),
    "boundary.AP": (
        "Average precision by the smaller of mask IoU and boundary IoU, over IoU 0.50:0.05:0.95 and all classes "
        "that have truth, without a cap on the number of detections; crowd regions as for masks. Where more than "
        f"{MOST_PAIRS:,} boundaries would have to be compared, of images drawn at random, as `images` says."
    ),
}


class Outline(NamedTuple):
    """What is measured of a mask's outline.

    band       bool (h, w), the pixels of the mask within its band width of its outside.
    corner     x and y of the band's top-left pixel.
    pixels     how many pixels the band has.
    perimeter  the outline's length in pixels, holes included; NaN where not asked for.
    """

    band: Bool
    corner: tuple[int, int]
    pixels: int
    perimeter: float


@dataclass(frozen=True, eq=False)
class Outlines:
    """What is measured of R pairs of a true and a predicted object; all float64 (R,).

    iou                   boundary IoU.
    true_perimeter        length of the true outline, in pixels.
    predicted_perimeter   length of the predicted outline, in pixels.
    """

    iou: Float64
    true_perimeter: Float64
    predicted_perimeter: Float64


def band_width(size: tuple[int, int]) -> int:
    """The width in pixels of the bands on a picture of this size (height, width)."""
    return max(1, round(RATIO * math.sqrt(size[0] ** 2 + size[1] ** 2)))


def inner_band(mask: Bool, width: int) -> Bool:
    """The pixels of a tight mask (h, w) that lie within `width` of its outside; beyond its crop all is outside.

    source  Cheng et al. 2021, arXiv 2103.16562; erosion by a square, as in their boundary-iou-api.
    """
    side = 2 * width + 1
    if min(mask.shape) < side:  # no pixel is further inside
        return mask
    inner = cv2.erode(
        mask.view(np.uint8), np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    band: Bool = mask & (inner == 0)
    return band


def perimeter(mask: Bool) -> float:
    """Length of the outline of a mask (h, w), in pixels, by Crofton's formula in four directions.

    Within 5 % of the length for straight edges of any direction, exact on average over directions. Stairs count.
    source  Legland et al. 2011, Image Analysis & Stereology 30, 83; skimage.measure.perimeter_crofton.
    """
    area = np.count_nonzero(mask)
    beside = np.count_nonzero(mask[:, 1:] & mask[:, :-1])
    below = np.count_nonzero(mask[1:] & mask[:-1])
    falling = np.count_nonzero(mask[1:, 1:] & mask[:-1, :-1])
    rising = np.count_nonzero(mask[1:, :-1] & mask[:-1, 1:])
    return math.pi / 4 * (2 * area - beside - below + (2 * area - falling - rising) / math.sqrt(2))


def outlines(overlaps: Overlaps, pairs: Pairs, lengths: bool = True) -> Outlines:
    """The outlines of pairs, truth first, of `overlaps.across` or of other objects of one image.

    Only the masks of these pairs are decoded, a few hundred at once, whatever image they are of.

    lengths  whether perimeters are measured too; they are NaN without.
    raises   UsageError if the overlaps are of boxes.
    """
    if overlaps.kind != "segm":
        raise UsageError(
            "boundaries were asked of boxes; expected masks. Remedy: overlaps_of(scenes, 'segm')."
        )
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    found = np.zeros((3, len(pairs)))
    for chosen in _by_size(truth, pairs):
        true = _measured(truth, pairs.first[chosen], lengths)
        other = _measured(predicted, pairs.second[chosen], lengths)
        for i in chosen.tolist():
            a, b = true[int(pairs.first[i])], other[int(pairs.second[i])]
            shared = _shared(a, b)
            found[:, i] = shared / (a.pixels + b.pixels - shared), a.perimeter, b.perimeter
    return Outlines(*found)


@dataclass(frozen=True)
class BoundaryPrecision:
    """Average precision by boundary IoU, in 0..1; None where there is no truth.

    AP, AP50, AP75  over all classes that have truth.
    by_class        (category id, name, AP) of each class.
    pairs           how many pairs were compared.
    images          on how many images, and
    of              of how many: where there are very many pairs, images are drawn at random.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    by_class: tuple[tuple[Key, str, float | None], ...]
    pairs: int
    images: int
    of: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps(…, allow_nan=False)`."""
        classes = [{"category_id": key, "name": name, "AP": ap} for key, name, ap in self.by_class]
        return {**asdict(self), "by_class": classes}


def boundary_average_precision(
    overlaps: Overlaps, most: int = MOST_PAIRS, seed: int = 0
) -> BoundaryPrecision:
    """Average precision by the smaller of mask IoU and boundary IoU, without a cap.

    most    pairs of one class with mask IoU ≥ 0.5 whose boundaries are drawn. Where there are more, it is the average
            precision of images drawn at random, as many as have that many pairs, at least one.
    raises  UsageError if the overlaps are of boxes.
    source  Cheng et al. 2021, arXiv 2103.16562; equal to pycocotools with that IoU.
    """
    total = len(overlaps.scenes.image_ids)
    needed, pairs = _needed(overlaps)
    if int(np.count_nonzero(needed)) > most:
        image = overlaps.scenes.truth.images[overlaps.across.first[needed]]
        drawn = np.random.default_rng(seed).permutation(total)
        grown = np.cumsum(np.bincount(image, minlength=total)[drawn])
        overlaps = overlaps.only(np.sort(drawn[: max(int(np.searchsorted(grown, most, side="right")), 1)]))
        needed, pairs = _needed(overlaps)
    value = overlaps.iou.copy()
    drawn_pairs = overlaps.across.where(needed)
    value[needed] = np.minimum(value[needed], outlines(overlaps, drawn_pairs, lengths=False).iou)
    table = average_precisions(_Valued(**vars(overlaps), value=value))

    def mean(part: Float64) -> float | None:
        return None if np.isnan(part).all() else float(np.nanmean(part))

    scenes = overlaps.scenes
    by_class = tuple((key, name, mean(table[:, i])) for i, (key, name) in enumerate(scenes.classes))
    averages = mean(table), mean(table[AT_50]), mean(table[AT_75])
    return BoundaryPrecision(*averages, by_class, pairs, len(scenes.image_ids), total)


def _needed(overlaps: Overlaps) -> tuple[Bool, int]:
    """The pairs `across` whose boundaries must be drawn, bool (R,), and how many pairs matter in all."""
    truth, predicted, across = overlaps.scenes.truth, overlaps.scenes.predicted, overlaps.across
    needed: Bool = (overlaps.iou >= 0.5) & ~truth.crowd[across.first]
    needed &= truth.labels[across.first] == predicted.labels[across.second]
    pairs = int(np.count_nonzero(needed))
    if overlaps.kind == "segm" and pairs:
        # What is all band has a boundary IoU that is its mask IoU.
        needed[needed] = ~(_thin(truth, across.first[needed]) & _thin(predicted, across.second[needed]))
    return needed, pairs


@dataclass(frozen=True, eq=False)
class _Valued(Overlaps):
    """Overlaps whose pairs fit as well as `value` (R,) says."""

    value: Float64

    @property
    def iou(self) -> Float64:
        return self.value


def _by_size(objects: Objects, pairs: Pairs) -> Iterator[Int64]:
    """The places of pairs, in parts on pictures of one size each, by image."""
    sizes = np.array([_size(objects, i) for i in pairs.first.tolist()], np.int64).reshape(-1, 2)
    order = np.lexsort((objects.images[pairs.first], sizes[:, 1], sizes[:, 0]))
    change = np.flatnonzero((np.diff(sizes[order], axis=0) != 0).any(axis=1)) + 1
    for same in np.split(order, change):
        for begin in range(0, len(same), AT_ONCE):
            yield same[begin : begin + AT_ONCE]


def _thin(objects: Objects, places: Int64) -> Bool:
    """Whether masks are so narrow that all of each lies in its band."""
    unique, back = np.unique(places, return_inverse=True)
    rles = [objects.masks[i] for i in unique.tolist()]
    sides = np.asarray(hotcoco.mask.to_bbox(rles)).reshape(-1, 4)[:, 2:].min(axis=1)
    widths = {size: band_width(size) for size in {_size(objects, i) for i in unique.tolist()}}
    bands = np.array([widths[_size(objects, i)] for i in unique.tolist()])
    thin: Bool = (sides < 2 * bands + 1)[back]
    return thin


def _measured(objects: Objects, places: Int64, lengths: bool) -> dict[int, Outline]:
    """The outlines of objects on pictures of one size, by their place."""
    unique = np.unique(places).tolist()
    height, width = _size(objects, unique[0])
    masks = Masks.from_coco([objects.masks[i] for i in unique], (height, width))
    distance = band_width((height, width))
    found = {}
    for place, (mask, corner) in zip(unique, masks, strict=True):
        band = inner_band(mask, distance)
        length = perimeter(mask) if lengths else math.nan
        found[place] = Outline(band, corner, int(np.count_nonzero(band)), length)
    return found


def _size(objects: Objects, place: int) -> tuple[int, int]:
    mask = objects.masks[place]
    assert mask is not None  # kind "segm" has masks
    return int(mask["size"][0]), int(mask["size"][1])


def _shared(a: Outline, b: Outline) -> int:
    """How many pixels two bands share."""
    left, top = max(a.corner[0], b.corner[0]), max(a.corner[1], b.corner[1])
    right = min(a.corner[0] + a.band.shape[1], b.corner[0] + b.band.shape[1])
    bottom = min(a.corner[1] + a.band.shape[0], b.corner[1] + b.band.shape[0])
    if right <= left or bottom <= top:
        return 0

    def window(outline: Outline) -> Bool:
        x, y = outline.corner
        return outline.band[top - y : bottom - y, left - x : right - x]

    return int(np.count_nonzero(window(a) & window(b)))
