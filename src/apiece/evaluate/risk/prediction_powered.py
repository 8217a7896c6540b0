"""Prediction-powered inference: a mean or total count from many predictions and a small random audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from apiece.errors import UsageError
from apiece.evaluate.risk.units import Units, mean_of, units_of
from apiece.evaluate.scenes import Float64

FEWEST = 10  # audited units below which no interval is given


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval; low and high are NaN where it abstains.

    method    "PPI", "PPI++", "audit alone" or "DISCount".
    slope     λ, how much of the predictions is used; 1 in PPI, 0 in an audit alone.
    freedom   degrees of freedom of the t quantile.
    n         how many audited units it rests on.
    abstains  why there is no interval, else None.
    """

    value: float
    low: float
    high: float
    level: float
    method: str
    slope: float
    freedom: float
    n: int
    abstains: str | None = None


@dataclass(frozen=True)
class Powered:
    """What the predictions add to an audit.

    powered      PPI++, with tuned λ.
    plain        PPI, λ = 1.
    classical    from the audited pictures alone.
    correlation  of true and predicted counts in the audit; NaN where either is constant.
    weak         a warning where the correlation may be too weak for predictions to help, else None.
    """

    powered: Estimate
    plain: Estimate
    classical: Estimate
    correlation: float
    weak: str | None


def mean_count(
    true: ArrayLike,
    predicted: ArrayLike,
    unlabelled: ArrayLike,
    level: float = 0.9,
    *,
    groups: Sequence[str] | None = None,
    unlabelled_groups: Sequence[str] | None = None,
) -> Powered:
    """The mean count a picture of the population that audited and unlabelled pictures are drawn from.

    mean(y − λf) over the audit + λ · mean(f) over the unlabelled, of variance Var(y − λf)/n + λ² Var(f)/N; variances
    over groups where these are given. λ is Cov(y, f) / ((1 + n/N) Var(f)). Quantiles are of Student's t, with
    Satterthwaite's degrees of freedom, and with a tuned λ one less, as the small audit also chose it.

    true, predicted  numbers (n,) of the audited pictures, a random sample.
    unlabelled       predicted counts (N,) of the others.
    source           Angelopoulos et al. 2023, PPI (2301.09633) and PPI++ (2311.01453), means.
    """
    y, f, others = _columns(true, predicted, unlabelled)
    _level(level)
    units, more = units_of(len(y), groups), units_of(len(others), unlabelled_groups)
    ratio = len(y) / len(others)

    def estimate(slope: float, method: str, fitted: int) -> Estimate:
        rest = mean_of(y - slope * f, units, fitted)
        known = mean_of(others, more)
        parts = [(rest.variance, rest.freedom)]
        if slope != 0:
            parts.append((slope**2 * known.variance, known.freedom))
        return _interval(rest.value + slope * known.value, parts, level, method, slope, units)

    return _powered(y, f, units, _slope(y, f) / (1 + ratio), estimate)


def total_count(
    true: ArrayLike,
    predicted: ArrayLike,
    unlabelled: ArrayLike,
    level: float = 0.9,
    *,
    groups: Sequence[str] | None = None,
    unlabelled_groups: Sequence[str] | None = None,
) -> Powered:
    """The true total of the very pictures that were predicted, not of the population that they come from.

    λ · Σf over the N unlabelled + N · mean(y − λf) over the audit. What it misses is N times the difference of two
    means of y − λf, so that its variance is N² Var(y − λf) (1/n + 1/N): how much f itself varies has no part, which
    makes it far narrower than N times the interval of the mean. λ is Cov(y, f) / Var(f). With groups, the N pictures
    are taken to vary as the audited groups do, larger ones as in `total_interval`.

    Objects on the audited pictures are not in it: add their true count.
    source  PPI as in `mean_count`; the difference and regression estimators of Cochran (1977), sections 7.1 to 7.3.
    """
    y, f, others = _columns(true, predicted, unlabelled)
    _level(level)
    units, count = units_of(len(y), groups), len(others)
    average = float(units.sizes.mean())
    if unlabelled_groups is not None:
        ratios = units_of(count, unlabelled_groups).sizes / average
        new = float(np.maximum(ratios, ratios**2).sum())
    else:
        new = count / average

    def estimate(slope: float, method: str, fitted: int) -> Estimate:
        rest = mean_of(y - slope * f, units, fitted)
        each = rest.variance * len(y) ** 2 / len(units)  # of a unit's sum
        variance = count**2 * rest.variance + new * each
        value = slope * float(others.sum()) + count * rest.value
        return _interval(value, [(variance, rest.freedom)], level, method, slope, units)

    return _powered(y, f, units, _slope(y, f), estimate)


def _powered(
    y: Float64, f: Float64, units: Units, slope: float, estimate: Callable[[float, str, int], Estimate]
) -> Powered:
    spread = float(y.std() * f.std())
    correlation = float(np.mean((y - y.mean()) * (f - f.mean()))) / spread if spread > 0 else float("nan")
    n = len(units)
    weak = None
    if n > 3:
        # The lower end of Fisher's 90 % interval must reach what the correlation has to be.
        least = 1 / math.sqrt(n - 2)
        sure = math.tanh(max(math.atanh(min(abs(correlation), 1 - 1e-12)) - 1.645 / math.sqrt(n - 3), 0.0))
        if not sure > least:
            shown = "unknown, as counts don't vary" if math.isnan(correlation) else f"{correlation:.2f}"
            weak = (
                f"The correlation of true and predicted counts is {shown} in {n} {units.words}; predictions only help "
                f"where it is surely above {least:.2f}. The audit alone may be as good or better."
            )
    return Powered(
        estimate(slope, "PPI++", 2),
        estimate(1.0, "PPI", 1),
        estimate(0.0, "audit alone", 1),
        correlation,
        weak,
    )


def discount(
    predicted: ArrayLike,
    audited: ArrayLike,
    true: ArrayLike,
    level: float = 0.9,
    floor: float | None = None,
) -> Estimate:
    """The true total of N pictures from an audit that looks more often where more is predicted (DISCount).

    Pictures are drawn with replacement with probability ∝ max(predicted, floor), see `chances`; the total is the mean
    of true / probability. Without a floor above 0, pictures that are predicted empty would never be seen; with a low
    one they are seen too rarely for a normal interval, where some are not empty after all.

    predicted  counts (N,) of all pictures.
    audited    int (n,), places of the pictures as they were drawn; repeats count as often as they were drawn.
    true       counts (n,) of these.
    source     Perez, Maji and Sheldon 2024, DISCount (AAAI 2024), section 3.
    """
    _level(level)
    places, y = np.asarray(audited, np.int64), np.asarray(true, np.float64)
    if places.shape != y.shape or places.ndim != 1 or not places.size:
        raise UsageError(
            f"{places.size} audited pictures and {y.size} true counts; expected as many, at least one."
        )
    ratio = y / chances(predicted, floor)[places]
    units = units_of(len(ratio))
    mean = mean_of(ratio, units)
    return _interval(mean.value, [(mean.variance, mean.freedom)], level, "DISCount", 1.0, units)


def chances(predicted: ArrayLike, floor: float | None = None) -> Float64:
    """With what probability each picture is to be drawn for a DISCount audit, float64 (N,).

    floor   the least count that a picture is taken to have; half the mean predicted count without. In simulations
            with 5 % of pictures wrongly predicted empty, 90 % intervals then held 89 %, but 54 % with a floor of 0.5.
    raises  UsageError unless the floor is above 0.
    """
    found = np.asarray(predicted, np.float64)
    least = (float(found.mean()) / 2 or 1.0) if floor is None else floor
    if not least > 0:
        raise UsageError(
            f"floor is {floor!r}; expected a number above 0. "
            "Remedy: leave it out, so that pictures that are predicted empty can be drawn."
        )
    weight = np.maximum(found, least)
    share: Float64 = weight / weight.sum()
    return share


def _slope(y: Float64, f: Float64) -> float:
    spread = float(((f - f.mean()) ** 2).sum())
    return float(((y - y.mean()) * (f - f.mean())).sum()) / spread if spread > 0 else 0.0


def _interval(
    value: float, parts: list[tuple[float, int]], level: float, method: str, slope: float, units: Units
) -> Estimate:
    """Value ± t · √variance, where variance is a sum of independent parts with their degrees of freedom."""
    from scipy.special import stdtrit

    nan, n = float("nan"), len(units)
    if n < FEWEST or any(freedom < 1 for _, freedom in parts):
        few = f"{n} audited {units.words}" if n < FEWEST else "a single unlabelled unit"
        reason = (
            f"{few}: too few; at least {FEWEST} audited {units.words} and 2 unlabelled ones are needed for an "
            "interval."
        )
        return Estimate(value, nan, nan, level, method, slope, nan, n, reason)
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / below if below > 0 else float(parts[0][1])
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    low, centre, high = (max(end, 0.0) for end in (value - half, value, value + half))
    return Estimate(centre, low, high, level, method, slope, freedom, n)


def _columns(
    true: ArrayLike, predicted: ArrayLike, unlabelled: ArrayLike
) -> tuple[Float64, Float64, Float64]:
    y, f, others = (np.asarray(part, np.float64) for part in (true, predicted, unlabelled))
    if y.ndim != 1 or y.shape != f.shape or others.ndim != 1 or not y.size or not others.size:
        raise UsageError(
            f"true counts of shape {y.shape}, predicted {f.shape}, unlabelled {others.shape}; expected one number a "
            "picture, as many true as predicted, and at least one picture of each."
        )
    return y, f, others


def _level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"level is {level!r}; expected a number between 0 and 1, such as 0.9.")
