"""Conformal risk control: the threshold at which a new picture's expected loss is at most α."""

from __future__ import annotations

import math

import numpy as np

from apiece.errors import UsageError
from apiece.evaluate.risk.learn_then_test import Choice, Start, check
from apiece.evaluate.risk.units import percent
from apiece.evaluate.scenes import Float64


def conformal_risk_control(
    losses: Float64,
    grid: Float64,
    alpha: float,
    *,
    start: Start = "low",
    bound: float = 1.0,
    envelope: bool = False,
    words: str = "pictures",
    loss: str = "loss",
) -> Choice:
    """The least careful threshold with n/(n+1) · mean loss + bound/(n+1) ≤ α; then E[loss of a new unit] ≤ α.

    The expectation is over new unit and calibration units together. Where no threshold qualifies nothing is promised,
    and that counts as no loss; the original instead supposes that the loss is ≤ α at the careful end.

    losses    float64 (units, G) in [0, bound], which never fall from the careful end on.
    grid      float64 (G,), thresholds, rising.
    start     where the careful end lies.
    words     what units are called in the reason to abstain, and `loss` what is lost.
    envelope  make other losses monotone, each unit's by its largest up to there; this promises more than was asked.
    raises    UsageError for losses that are not monotone, unless `envelope`.
    source    Angelopoulos et al. 2022 (2208.02814), theorem 1, which holds for the envelope as for any monotone loss.
    """
    check(losses, grid, alpha, bound)
    along = losses if start == "low" else losses[:, ::-1]
    if envelope:
        along = np.maximum.accumulate(along, axis=1)
    elif (np.diff(along, axis=1) < 0).any():
        raise UsageError(
            "losses that fall from the careful end on, such as shares of false predictions; expected monotone ones. "
            "Remedy: use Learn-then-Test, or envelope=True for the largest loss up to each threshold."
        )
    n, mean = len(along), along.mean(axis=0)
    if bound / (n + 1) > alpha:
        needed = math.ceil(bound / alpha - 1 - 1e-9)
        reason = (
            f"{n} {words} are too few: at least {needed} are needed for an expected loss of at most "
            f"{percent(alpha)}."
        )
        return Choice(None, None, n, float(mean[0]), float("nan"), 0, reason)
    passed = int(np.count_nonzero((n * mean + bound) / (n + 1) <= alpha + 1e-12))
    if not passed:
        careful = grid[0 if start == "low" else -1]
        reason = (
            f"no threshold passes; at the most careful one, {careful:g}, the mean {loss} of {n} {words} is "
            f"{percent(float(mean[0]))}, too much for an expected loss of at most {percent(alpha)}."
        )
        return Choice(None, None, n, float(mean[0]), float("nan"), 0, reason)
    place = passed - 1 if start == "low" else len(grid) - passed
    return Choice(float(grid[place]), place, n, float(mean[passed - 1]), float("nan"), passed)
