"""Beyond: what no choice among stored predictions can give, with the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.caps import find_caps
from apiece.evaluate.ledger import MATCHED, MISSED, SPURIOUS, Ledger
from apiece.evaluate.operating import Reason

Bool = NDArray[np.bool_]

LOW_ENOUGH = 0.1  # lowest stored score from which lower thresholds can be replayed
MUCH = 0.1  # share from which a remedy is named
SMALL_SHARE = 0.4  # share of misses among the smallest fifth from which size is the reason
FEWEST = 10  # misses below which nothing is said of their sizes


@dataclass(frozen=True)
class Beyond:
    """A remedy that needs more than stored predictions.

    what      "predict_lower", "cap", "retrain", "resolution" or "relabel".
    evidence  a sentence with the figures that speak for it.
    share     the share that the evidence is about, 0 to 1; None where there is none.
    """

    what: str
    evidence: str
    share: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"what": self.what, "evidence": self.evidence, "share": self.share}


def beyond(entries: Ledger, causes: Mapping[str, Any] | None = None, *, scored: bool = True) -> list[Beyond]:
    """The remedies that the ledger speaks for, those first that come before the others.

    causes  the document's part on causes of misses; its largest is added to the evidence for retraining.
    scored  False where predictions have no scores.
    """
    found = [
        _predict_lower(entries) if scored else None,
        _cap(entries),
        _retrain(entries, causes, scored),
        _resolution(entries),
        _relabel(entries) if scored else None,
    ]
    return [one for one in found if one is not None]


def _predict_lower(entries: Ledger) -> Beyond | None:
    scores = entries.overlaps.scenes.predicted.scores
    missed = entries.truth_kind == MISSED
    if not scores.size or scores.min() <= LOW_ENOUGH or not missed.any():
        return None
    without = missed & ~_has_candidate(entries)
    share = float(without.sum() / missed.sum())
    return Beyond(
        "predict_lower",
        f"Predict again with a lower threshold, such as 0.05: the lowest stored score is {scores.min():.2f}, so no "
        f"threshold below it could be tried; {int(without.sum()):,} of {int(missed.sum()):,} missed objects have no "
        "stored candidate.",
        share,
    )


def _cap(entries: Ledger) -> Beyond | None:
    caps = find_caps(entries.overlaps.scenes)
    images = max(caps.images, 1)
    if caps.truncated:
        return Beyond(
            "cap",
            f"Predict again with a higher cap: the model cut its predictions on {caps.truncated:,} of {caps.images:,} "
            "images, and what it cut can't be replayed.",
            caps.truncated / images,
        )
    if caps.suspected is None:
        return None
    # What a cap removes scores less than what it leaves: where that is below the threshold, no count changes.
    predicted, number = entries.overlaps.scenes.predicted.images, len(entries.overlaps.scenes.image_ids)
    below = np.bincount(predicted[entries.selection.reason == Reason.BELOW], minlength=number)
    full = int(np.count_nonzero((np.bincount(predicted, minlength=number) == caps.suspected) & (below == 0)))
    if not full:
        return None
    return Beyond(
        "cap",
        f"Predict again with a higher cap: {full:,} of {caps.images:,} images have exactly {caps.suspected:,} "
        "predictions, the most of any, as if cut there, and all of them count.",
        full / images,
    )


def _retrain(entries: Ledger, causes: Mapping[str, Any] | None, scored: bool) -> Beyond | None:
    missed = entries.truth_kind == MISSED
    total = int(missed.sum())
    without = int((missed & ~_has_candidate(entries)).sum())
    if not total or without < MUCH * total:
        return None
    lowest = entries.overlaps.scenes.predicted.scores.min(initial=1.0)
    stored = f" (scores from {lowest:.2f})" if scored else ""
    text = (
        f"Train on more such objects: {without:,} of {total:,} missed objects ({100 * without / total:.0f} %) have no "
        f"candidate of any class with IoU ≥ {entries.rules.near:g} among the stored predictions{stored}, so no setting "
        "can find them."
    )
    named = sorted((causes or {}).get("causes", ()), key=lambda one: -(one.get("share") or 0.0))
    if named and named[0].get("share"):
        first = named[0]
        text += f" The largest cause of misses: {first['cause']} ({100 * first['share']:.0f} %)."
    return Beyond("retrain", text, without / total)


def _resolution(entries: Ledger) -> Beyond | None:
    real = ~entries.overlaps.scenes.truth.crowd
    areas = entries.overlaps.truth_areas
    missed = (entries.truth_kind == MISSED) & real
    if missed.sum() < FEWEST:
        return None
    limit = float(np.quantile(areas[real], 0.2))
    small = real & (areas <= limit)
    share = float((missed & small).sum() / missed.sum())
    expected = float(small.sum() / real.sum())
    # Areas that many objects share can make the "fifth" far larger; then it says nothing.
    if share < SMALL_SHARE or share < 2 * expected:
        return None
    return Beyond(
        "resolution",
        f"Predict at a higher input resolution: {100 * share:.0f} % of the missed objects are among the "
        f"{100 * expected:.0f} % smallest (up to {limit:.0f} pixels); {100 * float(missed[small].mean()):.0f} % of "
        f"these are missed, of the larger ones {100 * float(missed[real & ~small].mean()):.0f} %.",
        share,
    )


def _relabel(entries: Ledger) -> Beyond | None:
    scores = entries.selection.scores
    matched = entries.predicted_kind == MATCHED
    spurious = entries.predicted_kind == SPURIOUS
    if not matched.any() or not spurious.any():
        return None
    typical = float(np.median(scores[matched]))
    sure = spurious & (scores >= typical)
    share = float(sure.sum() / spurious.sum())
    if share < MUCH:
        return None
    return Beyond(
        "relabel",
        f"Look at the labels: {int(sure.sum()):,} of {int(spurious.sum()):,} predictions without a true object "
        f"({100 * share:.0f} %) score {typical:.2f} or more, as the better half of the right ones do; these may be "
        "objects that the truth lacks.",
        share,
    )


def _has_candidate(entries: Ledger) -> Bool:
    """bool (T,), true objects with a stored prediction of any score and class of IoU ≥ `near`."""
    overlaps = entries.overlaps
    found = np.zeros(len(entries.truth_kind), np.bool_)
    found[overlaps.across.first[overlaps.iou >= entries.rules.near]] = True
    return found
