"""Sweeps: what every score threshold would give, from one matching.

Greedy matching by falling score does not depend on what comes later, so candidates that count at a threshold are
matched as they are among all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.counting import between, sweep_counts
from apiece.evaluate.matching import ranks
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.replay import NEITHER, TRUE, verdicts
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]
Criterion = Literal["f1", "lrp", "bias", "mae", "cost"]
PER_CLASS = 20  # true objects that a class needs for a threshold of its own


@dataclass(frozen=True, eq=False)
class Sweep:
    """R candidates by falling score, and the true objects, of some images.

    scores   float32 (R,).
    images   int64 (R,).
    labels   int64 (R,), places of classes.
    right    bool (R,), takes a true object of its class at IoU ≥ `found`.
    counts   bool (R,), False where it fits a crowd region alone: neither right nor wrong.
    fit      float64 (R,), IoU with the object taken; 0 where none.
    true     int64 (images, classes), true objects, crowd regions left out.
    found    IoU from which a prediction is right.
    """

    scores: NDArray[np.float32]
    images: Int64
    labels: Int64
    right: Bool
    counts: Bool
    fit: Float64
    true: Int64
    found: float = 0.5

    def of(self, part: Bool) -> Sweep:
        """The candidates and objects of the images at which `part` (images,) is True; places stay."""
        chosen = part[self.images]
        return self._where(chosen, np.where(part[:, None], self.true, 0))

    def of_class(self, label: int) -> Sweep:
        """The candidates and objects of one class."""
        mine = np.zeros_like(self.true)
        mine[:, label] = self.true[:, label]
        return self._where(self.labels == label, mine)

    def _where(self, chosen: Bool, true: Int64) -> Sweep:
        return replace(
            self,
            scores=self.scores[chosen],
            images=self.images[chosen],
            labels=self.labels[chosen],
            right=self.right[chosen],
            counts=self.counts[chosen],
            fit=self.fit[chosen],
            true=true,
        )

    def losses(self, criterion: Criterion, miss: float = 1.0, false: float = 1.0) -> tuple[Float64, Float64]:
        """What counting the first 0, 1, … R candidates costs, and what decides among equals; float64 (R + 1,) both.

        criterion  "f1": 1 less F1 of right predictions; "lrp": localisation recall precision error
                   (Oksuz et al., arXiv 1807.01696, equation 1, τ = `found`, all classes together); "bias": |predicted
                   less true objects|; "mae": sum over images of |predicted less true|; "cost": `miss` for each object
                   not found and `false` for each prediction that is wrong.
        """
        total = int(self.true.sum())
        bias = np.abs(np.arange(len(self.scores) + 1) - total).astype(np.float64)
        if criterion == "bias":
            return bias, np.zeros(len(bias))
        if criterion == "mae":
            return sweep_counts(self.true.sum(axis=1), self.images)[0].astype(np.float64), bias
        right = _after(self.right)
        wrong = _after(self.counts & ~self.right)
        missed = total - right
        if criterion == "cost":
            return miss * missed + false * wrong, np.zeros(len(bias))
        everything = np.maximum(right + wrong + missed, 1)
        if criterion == "lrp":
            looseness = _after(np.where(self.right, 1 - self.fit, 0)) / max(1 - self.found, 1e-9)
            loss = (looseness + wrong + missed) / everything
        else:
            loss = 1 - 2 * right / np.maximum(2 * right + wrong + missed, 1)
        return loss, np.zeros(len(bias))

    def threshold(self, criterion: Criterion, miss: float = 1.0, false: float = 1.0) -> float | None:
        """The threshold of least loss; None without candidates.

        Among equals the smaller |bias| ("mae" only), then the wider range of scores that count alike, then the higher.
        """
        if not self.scores.size:
            return None
        loss, then = self.losses(criterion, miss, false)
        ranked = self.scores
        # After k candidates the threshold lies between ranked[k - 1] and ranked[k]: only where these differ.
        apart = np.flatnonzero(np.append(np.append(True, ranked[1:] != ranked[:-1]), True))
        highest = max(np.float32(1), np.nextafter(ranked[0], np.float32(np.inf)))
        upper = np.append(highest, ranked)[apart]
        lower = np.append(ranked, min(np.float32(0), ranked[-1]))[apart]
        width = upper.astype(np.float64) - lower
        best = int(np.lexsort((-upper, -width, then[apart], loss[apart]))[0])
        return between(lower[best], upper[best])

    def thresholds(self, criterion: Criterion) -> tuple[float | None, dict[int, float]]:
        """One threshold for all, and one for each class with at least PER_CLASS true objects here."""
        enough = np.flatnonzero(self.true.sum(axis=0) >= PER_CLASS).tolist()
        own = {label: self.of_class(label).threshold(criterion) for label in enough}
        return self.threshold(criterion), {label: t for label, t in own.items() if t is not None}


def sweep_of(overlaps: Overlaps, kept: Bool, scores: Float64 | None = None, found: float = 0.5) -> Sweep:
    """The candidates `kept` (P,), all that a threshold may let through, by falling score.

    scores  float64 (P,), others than their own.
    found   IoU from which a prediction is right.
    """
    scenes, predicted = overlaps.scenes, overlaps.scenes.predicted
    given = predicted.scores if scores is None else scores
    matched = verdicts(overlaps, kept, given, ious=np.array([found]))
    taken, verdict = matched.truth[0], matched.verdict[0]
    order = np.argsort(ranks(predicted, given))
    order = order[kept[order]]
    crowd = scenes.truth.crowd
    return Sweep(
        given[order].astype(np.float32),
        predicted.images[order],
        predicted.labels[order],
        verdict[order] == TRUE,
        verdict[order] != NEITHER,
        _fit(overlaps, taken)[order],
        scenes.truth.where(~crowd).per_image(len(scenes.image_ids), len(scenes.classes)),
        found,
    )


def _fit(overlaps: Overlaps, taken: Int64) -> Float64:
    """IoU of each prediction with the true object it takes; 0 for none."""
    across = overlaps.across
    own = taken[across.second] == across.first
    fit = np.zeros(len(taken))
    fit[across.second[own]] = overlaps.iou[own]
    return fit


def _after(values: NDArray[np.generic]) -> Float64:
    """Sum of the first 0, 1, … of the values, float64 (R + 1,)."""
    return np.append(0.0, np.cumsum(values, dtype=np.float64))
