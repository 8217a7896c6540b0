"""Calibrated scores: what share of predictions of such a score is right, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from apiece.evaluate.calibration import Isotonic, fit_isotonic
from apiece.evaluate.options.sweep import PER_CLASS, Sweep
from apiece.evaluate.scenes import Float64, Int64


@dataclass(frozen=True, eq=False)
class ClassIsotonic:
    """One rising map for each class, by its place, and one for all others."""

    pooled: Isotonic
    own: Mapping[int, Isotonic]

    def apply(self, scores: Float64, labels: Int64) -> Float64:
        """float64 (P,) from scores (P,) and places of classes (P,)."""
        repaired = self.pooled.apply(scores)
        for label, fitted in self.own.items():
            mine = labels == label
            repaired[mine] = fitted.apply(scores[mine])
        return repaired


def fit_classes(sweep: Sweep) -> ClassIsotonic | None:
    """The maps of these candidates; a class needs PER_CLASS true objects for its own; None without candidates.

    source  isotonic per class on held-out images: arXiv 2405.20459.
    """
    scores, counts = sweep.scores.astype(np.float64), sweep.counts
    if not counts.any():
        return None
    pooled = fit_isotonic(scores[counts], sweep.right[counts])
    enough = np.flatnonzero(sweep.true.sum(axis=0) >= PER_CLASS).tolist()
    chosen = {label: counts & (sweep.labels == label) for label in enough}
    own = {c: fit_isotonic(scores[some], sweep.right[some]) for c, some in chosen.items() if some.any()}
    return ClassIsotonic(pooled, own)
