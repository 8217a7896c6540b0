"""Causes of misses: what most likely kept each missed object from being found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.caps import Caps, find_caps
from apiece.evaluate.ledger import MISSED, Ledger
from apiece.evaluate.operating import Reason, at_border
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]
Int8 = NDArray[np.int8]

CAUSES = (
    "cut by the cap",
    "suppressed by NMS",
    "below threshold",
    "removed at the border",
    "removed as too small",
    "wrong class below threshold",
    "poor outline below threshold",
    "likely suppressed by NMS",
    "likely cut by the cap",
    "too small",
    "crowded",
    "at the border",
    "no candidate",
)
(
    CUT,
    SUPPRESSED,
    BELOW,
    REMOVED_AT_BORDER,
    REMOVED_AS_SMALL,
    WRONG_CLASS,
    POOR,
    LIKELY_SUPPRESSED,
    LIKELY_CUT,
    TOO_SMALL,
    CROWDED,
    AT_BORDER,
    NO_CANDIDATE,
) = range(len(CAUSES))
NOT_MISSED = -1
WITH_CANDIDATE = range(CUT, POOR + 1)
BY_REASON = {
    Reason.CUT: CUT,
    Reason.SUPPRESSED: SUPPRESSED,
    Reason.BELOW: BELOW,
    Reason.BORDER: REMOVED_AT_BORDER,
    Reason.SMALL: REMOVED_AS_SMALL,
}

SUPPRESSING_IOU = 0.5  # of boxes; models suppress at 0.5 to 0.7
SMALLEST = 64.0  # pixels, 8 × 8: one cell at stride 8
FEWEST = 10  # objects of a size from which their recall says something
NEIGHBOURS = 3
MORE = 1.5  # times as often missed as others, so that what is common among all objects explains nothing
CLOSE = 0.25  # of √(width · height)
PAIRS_AT_ONCE = 1 << 20

DEFINITIONS = {
    "causes": (
        "Every missed object has one cause, the first of the list that applies. A candidate is a prediction in the "
        "file that does not count at the operating point; the right candidate has the object's class and IoU ≥ "
        "{found:g} with it, and of several the one that came furthest through the rules decides."
    ),
    "cut by the cap": "The right candidate was left out by the operating point's cap.",
    "suppressed by NMS": "The right candidate was removed by the operating point's suppression.",
    "below threshold": "The right candidate has a score below the threshold of its class.",
    "removed at the border": "The right candidate was dropped by the operating point because it touches the border.",
    "removed as too small": "The right candidate is smaller than the operating point's minimum area.",
    "wrong class below threshold": "No right candidate, but one of another class with IoU ≥ {found:g}.",
    "poor outline below threshold": (
        "Neither of these, but a candidate of the object's class with {near:g} ≤ IoU < {found:g}."
    ),
    "likely suppressed by NMS": (
        "No candidate, and the object's box has IoU ≥ {suppressing:g} with the box of a found object of its class, so "
        "that suppression inside the model, before the file was written, would have removed one."
    ),
    "likely cut by the cap": (
        "No candidate, in an image that holds exactly the number of predictions at which the file seems to be cut, "
        "none of them below the threshold, as then what was cut would be below it, too."
    ),
    "too small": (
        "No candidate, and an area below {smallest:g} pixels, provided that such objects are missed more than {more:g} "
        "times as often as others; or of a size (areas from 2ⁿ to 2ⁿ⁺¹, at least {fewest} objects, below the median "
        "area) of which less than half as many are found as of all."
    ),
    "crowded": (
        "No candidate, and at least {neighbours} true objects whose boxes lie within {close:g} · √(width · height) of "
        "the object's box, provided that such objects are missed more than {more:g} times as often as others."
    ),
    "at the border": (
        "No candidate, and a box that reaches the image's edge, provided that such objects are missed more than "
        "{more:g} times as often as others."
    ),
    "no candidate": "No candidate, and none of the conditions above.",
}


@dataclass(frozen=True, eq=False)
class Causes:
    """Why objects were missed.

    cause         int8 (T,), a place in CAUSES; NOT_MISSED for objects that were not missed.
    candidate     int64 (T,), the candidate that would have been the object, or nearest to it; -1 without one.
    found_share   float64 (causes,), the share of found objects that meet the condition of a cause that is only
                  likely; NaN for causes that are seen, and without found objects. A cause that meets found objects
                  as often as missed ones explains nothing.
    """

    ledger: Ledger
    cause: Int8
    candidate: Int64
    found_share: Float64

    @property
    def counts(self) -> Int64:
        """int64 (causes,): how many missed objects have each cause."""
        return np.bincount(self.cause[self.cause != NOT_MISSED], minlength=len(CAUSES))

    @property
    def by_class(self) -> Int64:
        """int64 (classes, causes)."""
        scenes = self.ledger.overlaps.scenes
        missed = self.cause != NOT_MISSED
        flat = scenes.truth.labels[missed] * len(CAUSES) + self.cause[missed]
        shape = len(scenes.classes), len(CAUSES)
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)

    @property
    def without_candidate(self) -> float:
        """The share of missed objects for which the file holds no candidate; NaN if none was missed."""
        counts = self.counts
        return float(counts[POOR + 1 :].sum() / counts.sum()) if counts.sum() else float("nan")

    @property
    def stored(self) -> int:
        """How many predictions of the file do not count at the operating point."""
        return int((~self.ledger.selection.kept).sum())

    @property
    def note(self) -> str | None:
        """What a reader must know before trusting "no candidate"; None if nothing."""
        if self.stored or not self.counts.sum():
            return None
        scores = self.ledger.selection.scores
        if scores.size > 1 and scores.min() == scores.max():
            return (
                "No score is lower than another, so that no prediction lies below the operating point and no miss can "
                "show a candidate: all causes are only likely."
            )
        return (
            "The file holds no prediction below the operating point, so that no miss can show a candidate. Remedy: "
            "predict with a low threshold, such as 0.05, and without a second suppression."
        )

    @property
    def definitions(self) -> dict[str, str]:
        """A sentence for each cause, with the thresholds used."""
        rules = self.ledger.rules
        return {
            name: sentence.format(
                found=rules.found,
                near=rules.near,
                suppressing=SUPPRESSING_IOU,
                smallest=SMALLEST,
                fewest=FEWEST,
                neighbours=NEIGHBOURS,
                close=CLOSE,
                more=MORE,
            )
            for name, sentence in DEFINITIONS.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Counts and shares of all causes, in order of precedence, and by class."""
        counts, total = self.counts, int(self.counts.sum())
        told = self.definitions
        return {
            "total": total,
            "candidates": self.stored,
            "note": self.note,
            "without_candidate": _known(self.without_candidate),
            "causes": [
                {
                    "cause": name,
                    "missed": int(counts[i]),
                    "share": counts[i] / total if total else None,
                    "seen": i in WITH_CANDIDATE,
                    "share_of_found": _known(self.found_share[i]),
                    "definition": told[name],
                }
                for i, name in enumerate(CAUSES)
            ],
            "by_class": [
                {
                    "category_id": number,
                    "name": name,
                    "missed": int(row.sum()),
                    "causes": {CAUSES[i]: int(row[i]) for i in np.flatnonzero(row).tolist()},
                }
                for (number, name), row in zip(
                    self.ledger.overlaps.scenes.classes, self.by_class, strict=True
                )
            ],
        }


def causes(ledger: Ledger, caps: Caps | None = None) -> Causes:
    """The likely cause of every miss, by the first of CAUSES whose definition applies; see DEFINITIONS.

    caps  what is known of caps on the predictions; found from the scenes if not given.
    """
    overlaps = ledger.overlaps
    scenes = overlaps.scenes
    truth = scenes.truth
    missed = ledger.truth_kind == MISSED
    found = ~missed & ~truth.crowd
    cause = np.full(len(truth), NOT_MISSED, np.int8)
    candidate = np.full(len(truth), -1, np.int64)
    cause[missed] = NO_CANDIDATE
    if not missed.any():
        return Causes(ledger, cause, candidate, np.full(len(CAUSES), np.nan))
    _by_candidates(ledger, missed, cause, candidate)

    beside, suppressing = _neighbours(overlaps, found)
    recall = found.sum() / (~truth.crowd).sum()
    conditions = {
        LIKELY_SUPPRESSED: suppressing,
        LIKELY_CUT: _at_cap(ledger, find_caps(scenes) if caps is None else caps),
        TOO_SMALL: _too_small(overlaps.truth_areas, found, missed, float(recall)),
        CROWDED: _telling(beside >= NEIGHBOURS, found, missed),
        AT_BORDER: _telling(at_border(overlaps, "truth"), found, missed),
    }
    found_share = np.full(len(CAUSES), np.nan)
    for place, condition in conditions.items():
        cause[(cause == NO_CANDIDATE) & condition] = place
        if found.any():
            found_share[place] = condition[found].mean()
    return Causes(ledger, cause, candidate, found_share)


def _by_candidates(ledger: Ledger, missed: Bool, cause: Int8, candidate: Int64) -> None:
    """Fill in the causes that candidates in the file show."""
    scenes, across, iou = ledger.overlaps.scenes, ledger.overlaps.across, ledger.overlaps.iou
    reason = ledger.selection.reason[across.second]
    same = scenes.truth.labels[across.first] == scenes.predicted.labels[across.second]
    some = missed[across.first] & (reason != Reason.KEPT)
    some &= (iou >= ledger.rules.found) | (same & (iou >= ledger.rules.near))
    fits = iou >= ledger.rules.found
    of_reason = np.full(len(Reason), -1, np.int8)
    of_reason[list(BY_REASON)] = list(BY_REASON.values())
    what = np.where(same & fits, of_reason[reason], np.where(fits, WRONG_CLASS, POOR))
    places = np.flatnonzero(some)
    scores = ledger.selection.scores[across.second]
    order = places[np.lexsort((-scores[places], what[places], across.first[places]))]
    first = order[np.flatnonzero(np.diff(across.first[order], prepend=-1))]
    cause[across.first[first]] = what[first]
    candidate[across.first[first]] = across.second[first]


def _neighbours(overlaps: Overlaps, found: Bool) -> tuple[Int64, Bool]:
    """How many true objects lie close to each, and whether a found one of its class overlaps its box too much."""
    truth = overlaps.scenes.truth
    real = np.flatnonzero(~truth.crowd)
    order = real[np.lexsort((truth.boxes[real, 0], truth.images[real]))]
    images, left, width = truth.images[order], truth.boxes[order, 0], truth.boxes[order, 2]
    corner, side = truth.boxes[order, :2], truth.boxes[order, 2:]
    area = side.prod(axis=1)
    near, label, by_model = CLOSE * np.sqrt(area), truth.labels[order], found[order]
    widest = np.zeros(len(overlaps.scenes.image_ids))
    np.maximum.at(widest, images, width)
    # Only what begins between these two can be close; a pixel more, as sums of large numbers are rounded.
    reach = left - near - widest[images] - 1, left + width + near + 1
    span = 1 + (reach[1].max() - reach[0].min() if len(order) else 0.0)
    begin, end = (np.searchsorted(images * span + left, images * span + limit) for limit in reach)
    begin = np.maximum(begin, np.searchsorted(images, images))
    count = np.minimum(end, np.searchsorted(images, images, side="right")) - begin
    beside = np.zeros(len(truth), np.int64)
    suppressing = np.zeros(len(truth), np.bool_)
    ends = np.cumsum(count)
    at = 0
    while at < len(order):  # in blocks, so that memory does not follow the square of a full picture
        past = max(int(np.searchsorted(ends, (ends[at - 1] if at else 0) + PAIRS_AT_ONCE)), at + 1)
        rows = np.repeat(np.arange(at, past), count[at:past])
        within = np.arange(len(rows)) - np.repeat(np.cumsum(count[at:past]) - count[at:past], count[at:past])
        others = begin[rows] + within
        apart = rows != others
        rows, others = rows[apart], others[apart]
        low = np.maximum(corner[rows], corner[others])
        high = np.minimum(corner[rows] + side[rows], corner[others] + side[others])
        gap = np.hypot(*np.maximum(low - high, 0).T)
        beside[order] += np.bincount(rows[gap <= near[rows]], minlength=len(order))
        shared = np.maximum(high - low, 0).prod(axis=1)
        iou = shared / np.maximum(area[rows] + area[others] - shared, np.finfo(float).tiny)
        close = (iou >= SUPPRESSING_IOU) & (label[rows] == label[others]) & by_model[others]
        suppressing[order[rows[close]]] = True
        at = past
    return beside, suppressing


def _at_cap(ledger: Ledger, caps: Caps) -> Bool:
    """Whether each true object lies in an image whose predictions all count and stop where the file seems cut."""
    scenes = ledger.overlaps.scenes
    predicted, images = scenes.predicted.images, len(scenes.image_ids)
    held = np.bincount(predicted, minlength=images)
    if caps.suspected is None:
        return np.zeros(len(scenes.truth), np.bool_)
    below = np.bincount(predicted[ledger.selection.reason == Reason.BELOW], minlength=images)
    at: Bool = ((held == caps.suspected) & (below == 0))[scenes.truth.images]
    return at


def _too_small(areas: Float64, found: Bool, missed: Bool, recall: float) -> Bool:
    """Areas below SMALLEST if that tells, and sizes below the median that are found less than half as often as all."""
    octave = np.floor(np.log2(np.maximum(areas, 1))).astype(np.int64)
    hits, misses = (np.bincount(octave[which], minlength=octave.max() + 1) for which in (found, missed))
    objects = hits + misses
    rare = (objects >= FEWEST) & (hits < 0.5 * recall * objects)
    small: Bool = _telling(areas < SMALLEST, found, missed) | (
        rare[octave] & (areas < np.median(areas[found | missed]))
    )
    return small


def _telling(condition: Bool, found: Bool, missed: Bool) -> Bool:
    """The condition, if objects that meet it are missed MORE often than others; else nothing."""
    real = found | missed
    inside, outside = real & condition, real & ~condition
    if not inside.any():
        return np.zeros_like(condition)
    telling = not outside.any() or missed[inside].mean() > MORE * missed[outside].mean()
    return condition if telling else np.zeros_like(condition)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
