"""Operating points: which candidates count as objects, by threshold, suppression, cap, size and border."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.matching import ranks
from apiece.evaluate.overlaps import Overlaps, Pairs
from apiece.evaluate.scenes import Float64

Bool = NDArray[np.bool_]


class Reason(IntEnum):
    """Why a candidate does not count."""

    KEPT = 0
    SMALL = 1
    BORDER = 2
    BELOW = 3
    SUPPRESSED = 4
    CUT = 5


@dataclass(frozen=True)
class Suppression:
    """Non-maximum suppression: a candidate goes where one of higher score that stays overlaps it by more.

    iou        the most overlap that two objects may have.
    measure    "iou": shared over either; "smaller": shared over the smaller, which also takes fragments away.
    per_class  whether only candidates of one class suppress each other.
    """

    iou: float
    measure: Literal["iou", "smaller"] = "iou"
    per_class: bool = True


@dataclass(frozen=True)
class OperatingPoint:
    """What makes a candidate an object; rules act in this order.

    min_area    fewest pixels of an object.
    border      "keep"; "drop": what touches the picture's border is no object.
    threshold   lowest score, compared as float32 (as in `counting`).
    thresholds  lowest score of some classes, by their place in `Scenes.classes`; the others have `threshold`.
    nms         suppression, or None.
    cap         most objects of an image, those of highest score; or None.
    """

    threshold: float = 0.5
    thresholds: Mapping[int, float] = field(default_factory=dict)
    nms: Suppression | None = None
    cap: int | None = None
    min_area: float = 0
    border: Literal["keep", "drop"] = "keep"


@dataclass(frozen=True, eq=False)
class Selection:
    """The candidates that count.

    scores   float64 (P,), by which they were chosen.
    reason   int8 (P,), a Reason each.
    """

    scores: Float64
    reason: NDArray[np.int8]

    @property
    def kept(self) -> Bool:
        """bool (P,), those that count."""
        kept: Bool = self.reason == Reason.KEPT
        return kept


def select(overlaps: Overlaps, point: OperatingPoint, scores: Float64 | None = None) -> Selection:
    """The candidates that count at an operating point.

    scores  others than the predictions' own, such as calibrated ones.
    """
    predicted = overlaps.scenes.predicted
    given = predicted.scores if scores is None else scores
    reason = np.zeros(len(predicted), np.int8)

    def refuse(which: Bool, why: Reason) -> None:
        reason[which & (reason == Reason.KEPT)] = why

    if point.min_area > 0:
        refuse(overlaps.predicted_areas < point.min_area, Reason.SMALL)
    if point.border == "drop":
        refuse(at_border(overlaps, "predicted"), Reason.BORDER)
    limits = np.full(len(overlaps.scenes.classes), point.threshold, np.float32)
    for label, limit in point.thresholds.items():
        limits[label] = limit
    refuse(given.astype(np.float32) < limits[predicted.labels], Reason.BELOW)
    if point.nms is not None:
        refuse(~survivors(overlaps, point.nms, given, reason == Reason.KEPT), Reason.SUPPRESSED)
    if point.cap is not None:
        left = np.flatnonzero(reason == Reason.KEPT)
        rank = ranks(predicted, given)
        order = left[np.lexsort((rank[left], predicted.images[left]))]
        first = np.searchsorted(predicted.images[order], predicted.images[order])
        beyond = np.zeros(len(predicted), np.bool_)
        beyond[order] = np.arange(len(order)) - first >= point.cap
        refuse(beyond, Reason.CUT)
    return Selection(given, reason)


def at_border(overlaps: Overlaps, side: Literal["truth", "predicted"]) -> Bool:
    """Whether each object's box reaches its picture's edge, to half a pixel; False where the size is unknown."""
    objects = overlaps.scenes.truth if side == "truth" else overlaps.scenes.predicted
    sizes = np.array([(0, 0) if size is None else size for size in overlaps.scenes.sizes], np.float64)
    height, width = sizes[objects.images].T
    x, y, w, h = objects.boxes.T
    touches = (x < 0.5) | (y < 0.5) | (x + w > width - 0.5) | (y + h > height - 0.5)
    # A mask without a pixel has the box 0, 0, 0, 0, which is nowhere.
    at: Bool = touches & (height > 0) & (w > 0) & (h > 0)
    return at


def survivors(overlaps: Overlaps, nms: Suppression, scores: Float64, among: Bool) -> Bool:
    """bool (P,), what suppression leaves of the candidates `among` (P,).

    The greedy rule (highest score first) for all pictures at once: what has no undecided neighbour above it stays,
    its neighbours below go, until all is decided.
    """
    predicted, pairs = overlaps.scenes.predicted, overlaps.among_predicted
    pairs = pairs.where(overlap_measure(overlaps, pairs, nms.measure) > nms.iou)
    close = among[pairs.first] & among[pairs.second]
    if nms.per_class:
        close &= predicted.labels[pairs.first] == predicted.labels[pairs.second]
    rank = ranks(predicted, scores)
    first, second = pairs.first[close], pairs.second[close]
    swap = rank[first] > rank[second]
    upper, lower = np.where(swap, second, first), np.where(swap, first, second)
    stays, undecided = among.copy(), among.copy()
    while upper.size:
        below = np.zeros(len(predicted), np.bool_)
        below[lower] = True
        top = undecided & ~below
        undecided &= ~top
        gone = np.unique(lower[top[upper]])
        stays[gone] = False
        undecided[gone] = False
        left = undecided[upper] & undecided[lower]
        upper, lower = upper[left], lower[left]
    return stays


def overlap_measure(overlaps: Overlaps, pairs: Pairs, measure: Literal["iou", "smaller"]) -> Float64:
    """How much each pair of predictions overlaps, float64 (R,)."""
    areas = overlaps.predicted_areas
    if measure == "iou":
        return pairs.iou(areas, areas)
    share: Float64 = pairs.shared / np.minimum(areas[pairs.first], areas[pairs.second])
    return share
