"""Calibration: whether a score says how often such a prediction is right, and what isotonic repair would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apiece.errors import UsageError
from apiece.evaluate.scenes import Float64

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising map from scores to precision, linear between its knots and level beyond them.

    scores     float64 (K,), where the knots are; rising.
    precision  float64 (K,), the map's value there; never falling, in 0..1.
    """

    scores: Float64
    precision: Float64

    def apply(self, scores: ArrayLike) -> Float64:
        """The repaired scores, float64, of the same shape; the order is kept, though scores may become equal."""
        repaired: Float64 = np.interp(np.asarray(scores, np.float64), self.scores, self.precision)
        return repaired


def fit_isotonic(scores: ArrayLike, true: ArrayLike) -> Isotonic:
    """The rising map of scores to precision that fits best by squared error.

    scores  finite numbers (P,).
    true    bool (P,), which predictions are right.
    raises  UsageError without predictions, or if shapes differ or a score is not finite.
    source  pool adjacent violators: Ayer et al. 1955; Zadrozny and Elkan 2002; scipy.optimize.isotonic_regression.
            Equal scores are pooled first, so that they stay equal. Linear between knots as in scikit-learn.
    """
    from scipy.optimize import isotonic_regression

    given, right = np.asarray(scores, np.float64), np.asarray(true, np.bool_)
    if given.ndim != 1 or given.shape != right.shape or not given.size or not np.isfinite(given).all():
        raise UsageError(
            f"scores of shape {given.shape} and verdicts of shape {right.shape}; expected as many finite scores as "
            "verdicts, at least one. Remedy: learn from images with predictions."
        )
    levels, place, count = np.unique(given, return_inverse=True, return_counts=True)
    share = np.bincount(place, right) / count
    fitted = isotonic_regression(share, weights=count)
    # A level stretch needs only its ends.
    starts = np.asarray(fitted.blocks, np.int64)
    ends = np.unique(np.concatenate([starts[:-1], starts[1:] - 1]))
    return Isotonic(levels[ends], np.clip(fitted.x[ends], 0.0, 1.0))
