"""Count intervals: in what range the true count of a new picture, or of many, lies around the predicted one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from apiece.errors import UsageError
from apiece.evaluate.risk.units import Units, mean_of, percent, units_of
from apiece.evaluate.scenes import Float64

FEWEST = 10  # units below which no interval that rests on a normal approximation is given


@dataclass(frozen=True)
class CountInterval:
    """An interval for the true count of a new picture: predicted ± width · scale(predicted), but not below 0.

    width     of absolute residuals in objects, of scaled ones in √(predicted + 1); infinite where it abstains.
    scaled    whether it grows with the predicted count.
    level     share of new pictures whose true count it holds, at least.
    n         how many units it rests on.
    abstains  why there is no interval, else None.
    """

    width: float
    scaled: bool
    level: float
    n: int
    abstains: str | None = None

    def around(self, predicted: ArrayLike) -> tuple[Float64, Float64]:
        """The lowest and the highest true count, whole numbers, for predicted counts (…,)."""
        found = np.asarray(predicted, np.float64)
        half = self.width * _scale(found, self.scaled)
        return np.maximum(np.ceil(found - half - 1e-9), 0.0), np.floor(found + half + 1e-9)


def _scale(predicted: Float64, scaled: bool) -> Float64:
    return np.sqrt(predicted + 1) if scaled else np.ones_like(predicted)


def conformal_quantile(scores: Float64, level: float, units: Units) -> float:
    """The value that a new picture's score exceeds with probability at most 1 − level; infinite where n is too small.

    Of n pictures that is the ⌈(n + 1) level⌉-th smallest. With K groups each group weighs 1/(K + 1), its pictures
    alike, and the rest is infinity: this holds for a picture of a new group.

    source  Vovk, Gammerman and Shafer (2005); groups: Lee, Barber and Willett 2023 (2306.06342), section 2.
    """
    order = np.argsort(scores, kind="stable")
    # In whole units, so that no rounding decides: each picture weighs 1/size, and (K + 1) level are needed.
    weight = np.cumsum(1.0 / units.sizes[units.of[order]])
    at = int(np.searchsorted(weight, (len(units) + 1) * level - 1e-9))
    return float(scores[order[at]]) if at < len(order) else math.inf


def count_interval(
    true: ArrayLike,
    predicted: ArrayLike,
    level: float = 0.9,
    *,
    scaled: bool = False,
    groups: Sequence[str] | None = None,
) -> CountInterval:
    """The split-conformal interval for the true count of a new picture (of a new group).

    true, predicted  whole numbers (images,) of pictures that had no part in training or in choosing the threshold.
    source           Lei et al. 2018 (1604.04173), algorithm 2 and section 5.2 (scaled residuals).
    """
    truth, found = _counts(true, predicted)
    _level(level)
    units = units_of(len(truth), groups)
    width = conformal_quantile(np.abs(truth - found) / _scale(found, scaled), level, units)
    reason = None
    if math.isinf(width):
        needed = math.ceil(level / (1 - level) - 1e-9)
        reason = (
            f"{len(units)} {units.words} are too few: at least {needed} are needed to hold {percent(level)} of new "
            "counts."
        )
    return CountInterval(width, scaled, level, len(units), reason)


@dataclass(frozen=True)
class TotalInterval:
    """An interval for the true total of new pictures.

    value, low, high  objects; NaN where it abstains. `value` is the predicted total, corrected by the mean residual.
    pictures          how many new pictures.
    level             probability that the interval holds the total.
    method            "blocks": exact for every n, given exchangeable pictures; "normal": the more pictures, the truer.
    n                 how many units it rests on.
    abstains          why there is no interval, else None.
    """

    value: float
    low: float
    high: float
    pictures: int
    level: float
    method: str
    n: int
    abstains: str | None = None


def total_interval(
    true: ArrayLike,
    predicted: ArrayLike,
    new: float,
    pictures: int,
    level: float = 0.9,
    *,
    groups: Sequence[str] | None = None,
    new_groups: Sequence[str] | None = None,
) -> TotalInterval:
    """The interval for the true total of new pictures from their predicted total `new`.

    Blocks: the labelled pictures are cut, in their order, into blocks of as many as there are new ones; the new
    pictures' residual is one more block, so that order statistics of the blocks' residuals bound it exactly. This
    needs at least 2/(1 − level) − 1 blocks and pictures without groups.

    Normal, otherwise: m new residuals of mean r̄ have the sum m·r̄ ± t·√(m² Var(r̄) + m·s²). With groups s² is of
    their sums; a new group of m pictures where the labelled ones have n̄ on average varies at most max(m/n̄, (m/n̄)²)
    as much. Without `new_groups`, new pictures are taken to come in groups as large as the labelled ones.

    true, predicted  whole numbers (images,) of the labelled pictures.
    pictures         how many new pictures there are, at least 1.
    source           blocks: as in `count_interval`; normal: prediction of a sum, Cochran (1977), section 7.
    """
    truth, found = _counts(true, predicted)
    _level(level)
    if pictures < 1 or (new_groups is not None and len(new_groups) != pictures):
        raise UsageError(
            f"{pictures} new pictures with {'no' if new_groups is None else len(new_groups)} groups; expected at "
            "least one picture, and one group for each or none."
        )
    residual, units = truth - found, units_of(len(truth), groups)
    value = max(new + pictures * float(residual.mean()), 0.0)
    tail = (1 - level) / 2
    blocks = len(residual) // pictures
    if groups is None and (blocks + 1) * tail >= 1 - 1e-9:
        sums = np.sort(residual[: blocks * pictures].reshape(blocks, pictures).sum(axis=1))
        beyond = math.floor((blocks + 1) * tail + 1e-9)
        low, high = float(sums[beyond - 1]), float(sums[blocks - beyond])
        return _total(value, new + low, new + high, pictures, level, "blocks", blocks)
    if len(units) < FEWEST:
        reason = f"{len(units)} {units.words} are too few: at least {FEWEST} are needed for a total."
        return TotalInterval(
            float("nan"), float("nan"), float("nan"), pictures, level, "normal", len(units), reason
        )
    from scipy.special import stdtrit

    mean = mean_of(residual, units)
    each = float(((units.sums(residual) - mean.value * units.sizes) ** 2).sum()) / mean.freedom
    if groups is None:
        spread = pictures * each
    else:
        average = float(units.sizes.mean())
        if new_groups is None:
            spread = pictures / average * each
        else:
            ratio = units_of(pictures, new_groups).sizes / average
            spread = float(np.maximum(ratio, ratio**2).sum()) * each
    half = float(stdtrit(mean.freedom, 1 - tail)) * math.sqrt(pictures**2 * mean.variance + spread)
    centre = new + pictures * mean.value
    return _total(value, centre - half, centre + half, pictures, level, "normal", len(units))


def _total(
    value: float, low: float, high: float, pictures: int, level: float, method: str, n: int
) -> TotalInterval:
    """Whole numbers inside the interval, as totals are."""
    return TotalInterval(
        value,
        max(float(math.ceil(low - 1e-9)), 0.0),
        max(float(math.floor(high + 1e-9)), 0.0),
        pictures,
        level,
        method,
        n,
    )


def _counts(true: ArrayLike, predicted: ArrayLike) -> tuple[Float64, Float64]:
    truth, found = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if truth.ndim != 1 or truth.shape != found.shape or not truth.size:
        raise UsageError(
            f"true counts of shape {truth.shape}, predicted counts of shape {found.shape}; expected one number a "
            "picture in each, for at least one picture."
        )
    if not (np.isfinite(truth).all() and np.isfinite(found).all() and (found >= 0).all()):
        raise UsageError("counts that are negative or not finite; expected numbers from 0 on.")
    return truth, found


def _level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"level is {level!r}; expected a number between 0 and 1, such as 0.9.")
