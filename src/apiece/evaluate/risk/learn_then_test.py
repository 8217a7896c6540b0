"""Learn-then-Test: thresholds whose risk is at most α, with probability at least 1 − δ over the pictures at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError
from apiece.evaluate.risk.units import percent
from apiece.evaluate.scenes import Float64

Bool = NDArray[np.bool_]
Start = Literal["low", "high"]
Test = Literal["betting", "hoeffding-bentkus", "binomial"]


@dataclass(frozen=True)
class Choice:
    """The threshold that a method chose.

    threshold  None where there is none.
    place      its place in the grid.
    n          how many units it rests on.
    mean       their mean loss there; where none was chosen, at the most careful threshold. NaN without one.
    p          p-value there, NaN for methods without.
    passed     how many thresholds of the grid keep the promise.
    abstains   why there is no threshold, else None.
    """

    threshold: float | None
    place: int | None
    n: int
    mean: float
    p: float
    passed: int
    abstains: str | None = None


def hoeffding_bentkus(mean: Float64, n: int, alpha: float) -> Float64:
    """p-values of "the risk is above α" from the mean of n independent losses in [0, 1].

    mean    float64 (…,), mean losses.
    source  Bates et al. 2021 (2101.02703) and Angelopoulos et al. 2021 (2110.01052), Hoeffding–Bentkus p-values.
    """
    from scipy.special import bdtr, rel_entr

    # Rounding keeps a sum such as 3.0000000004 from counting as 4.
    bentkus = math.e * bdtr(np.ceil(np.round(n * mean, 9)), n, alpha)
    below = np.minimum(mean, alpha)
    hoeffding = np.exp(-n * (rel_entr(below, alpha) + rel_entr(1 - below, 1 - alpha)))
    p: Float64 = np.minimum(np.minimum(bentkus, hoeffding), 1.0)
    return p


def betting(losses: Float64, alpha: float, delta: float) -> Float64:
    """p-values of "the risk is above α" from n independent losses in [0, 1] of shape (n, G), far smaller where they
    vary little.

    Capital grows by 1 − λ (loss − α) with each loss, and λ is chosen from the losses before; where the risk is above
    α capital seldom ever grows much, and p is one over the most that it reached. Losses are taken in an order that
    is shuffled once, so that a trend in the file has no part in it.

    delta   level at which the test is meant to have power; the p-value is valid at any.
    source  Waudby-Smith and Ramdas 2024 (2010.09686); as in Bates et al. 2021 (2101.02703), section 3.1.3.
    """
    n = len(losses)
    shuffled = losses[np.random.default_rng(0).permutation(n)]
    count = np.arange(1, n + 1)[:, None]
    centre = (0.5 + np.cumsum(shuffled, axis=0)) / (count + 1)
    spread = (0.25 + np.cumsum((shuffled - centre) ** 2, axis=0)) / (count + 1)
    before = np.vstack([np.full((1, losses.shape[1]), 0.25), spread[:-1]])
    bet = np.minimum(np.sqrt(2 * math.log(1 / delta) / (n * before)), 1.0)
    capital = np.cumsum(np.log1p(-bet * (shuffled - alpha)), axis=0).max(axis=0)
    p: Float64 = np.exp(-np.maximum(capital, 0.0))
    return p


def exact_binomial(mean: Float64, n: int, alpha: float) -> Float64:
    """p-values of "the risk is above α" from the mean of n independent losses that can only be 0 or 1.

    source  Angelopoulos et al. 2021 (2110.01052), p-values of 0/1 losses.
    """
    from scipy.special import bdtr

    p: Float64 = bdtr(np.round(n * mean), n, alpha)
    return p


def fixed_sequence(p: Float64, delta: float) -> int:
    """How many hypotheses are refuted when they are tested in the given order until the first that stands.

    p       float64 (G,), in an order that the data had no part in.
    source  Angelopoulos et al. 2021 (2110.01052), fixed sequence testing.
    """
    stands = np.flatnonzero(~(p <= delta))
    return int(stands[0]) if stands.size else len(p)


def fewest(alpha: float, delta: float, test: Test = "betting") -> int:
    """The fewest units with which losses that are all 0 refute "the risk is above α"."""
    n = math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9)
    while test == "betting" and betting(np.zeros((n, 1)), alpha, delta)[0] > delta:
        n += 1
    return n


def learn_then_test(
    losses: Float64,
    grid: Float64,
    alpha: float,
    delta: float,
    *,
    start: Start | None = "low",
    test: Test = "betting",
    words: str = "pictures",
    loss: str = "loss",
) -> Choice:
    """The threshold that keeps the mean loss of new units at most α, with probability ≥ 1 − δ.

    losses  float64 (units, G) in [0, 1]; independent, equally distributed units.
    grid    float64 (G,), thresholds, rising, chosen without these data.
    start   "low" or "high": where the careful end lies, from which thresholds are tested one after another until one
            fails (fixed sequence); the last that passed is chosen. None: all are tested, each at δ/G (Bonferroni), and
            of those that pass that of least mean loss is chosen.
    test    "betting" or "hoeffding-bentkus"; "binomial" only for losses that by their nature are 0 or 1. Which one
            may not depend on the data.
    words   what units are called in the reason to abstain, and `loss` what is lost.
    raises  UsageError if losses leave [0, 1], or shapes or levels cannot be meant.
    source  Angelopoulos et al. 2021 (2110.01052).
    """
    check(losses, grid, alpha)
    if not 0 < delta < 1:
        raise UsageError(f"delta is {delta!r}; expected a number between 0 and 1, such as 0.1.")
    if test == "binomial" and not np.isin(losses, (0.0, 1.0)).all():
        raise UsageError("losses other than 0 and 1 for the exact binomial test; expected 0 or 1 only.")
    n, mean = len(losses), losses.mean(axis=0)
    each = delta if start is not None else delta / len(grid)
    needed = fewest(alpha, each, test)
    careful = {"low": 0, "high": len(grid) - 1, None: int(np.argmin(mean))}[start]
    if n < needed:
        reason = (
            f"{n} {words} are too few: even without any loss, {needed} are needed to promise a risk of at most "
            f"{percent(alpha)} with {percent(1 - delta)} confidence."
        )
        return Choice(None, None, n, float(mean[careful]), float("nan"), 0, reason)
    if test == "betting":
        p = betting(losses, alpha, each)
    else:
        p = (exact_binomial if test == "binomial" else hoeffding_bentkus)(mean, n, alpha)
    if start is None:
        passed = np.flatnonzero(p <= each)
        place = int(passed[np.argmin(mean[passed])]) if passed.size else None
        count = len(passed)
    else:
        count = fixed_sequence(p if start == "low" else p[::-1], delta)
        place = None if not count else count - 1 if start == "low" else len(grid) - count
    if place is None:
        at = f"{'the most careful' if start else 'the best'} threshold, {grid[careful]:g}"
        reason = (
            f"no threshold passes; at {at}, the mean {loss} of {n} {words} is {percent(float(mean[careful]))}, too "
            f"much to promise {percent(alpha)} with {percent(1 - delta)} confidence."
        )
        return Choice(None, None, n, float(mean[careful]), float(p[careful]), 0, reason)
    return Choice(float(grid[place]), place, n, float(mean[place]), float(p[place]), count)


def pooled(part: Float64, whole: Float64, alpha: float, most: int) -> Float64:
    """Losses whose risk is at most α exactly where the expected part is at most α of the expected whole.

    A mean of pictures' shares weighs a picture of 2 objects like one of 200. Pooled over objects, "at most α of all
    objects are missed" is E[part − α whole] ≤ 0, and (part − α whole) / most + α lies in [0, 1]. This is valid only
    for a bound that does not come from these data, so it has to be declared, and is refused where a picture breaks it.

    part    float64 (units, G), such as missed objects; whole the objects of the same units, (units, 1) or (units, G).
    most    declared bound of `whole` for any unit that may come.
    raises  UsageError if a unit exceeds `most`.
    """
    if whole.max(initial=0) > most:
        raise UsageError(
            f"a unit of {whole.max():g} objects, though at most {most} were declared. "
            "Remedy: declare a bound that holds for every picture, known before the data."
        )
    losses: Float64 = (part - alpha * whole) / most + alpha
    return np.clip(losses, 0.0, 1.0)


def check(losses: Float64, grid: Float64, alpha: float, bound: float = 1.0) -> None:
    """Refuse losses outside [0, bound], shapes that differ, or an α that cannot be meant."""
    if losses.ndim != 2 or losses.shape[1:] != grid.shape or not losses.size:
        raise UsageError(
            f"losses of shape {losses.shape} for {grid.size} thresholds; expected (units, thresholds), at least one."
        )
    if not ((losses >= 0) & (losses <= bound)).all():
        raise UsageError(
            f"losses from {losses.min():g} to {losses.max():g}; expected numbers from 0 to {bound:g}."
        )
    if not 0 < alpha < bound:
        raise UsageError(f"alpha is {alpha!r}; expected a number between 0 and {bound:g}, such as 0.1.")
