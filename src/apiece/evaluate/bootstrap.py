"""Bootstrap intervals over images, or over groups of images, never over objects: those of one image hang together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

DRAWS = 1000
LEVEL = 0.95
FEWEST = 5  # units below which no interval is given

DEFINITIONS = {
    "intervals": (
        "Intervals are of whole pictures, or groups of pictures, drawn again with replacement, with percentiles as far "
        f"out as Student's t for so few; none where fewer than {FEWEST} have to do with a figure, or where no draw "
        "differs. In simulations of a level of 95 % they held the truth in 92 to 96 % of cases with 30 pictures or 10 "
        "groups, in 87 to 92 % with 10 pictures of very unequal counts or 5 groups."
    ),
}


class Interval(NamedTuple):
    """A figure with the interval that a bootstrap gives; low and high are NaN of too few units, or without spread."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """`{"value", "low", "high"}`, None where unknown."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(number) if np.isfinite(number) else None for name, number in parts.items()}


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each image counts in each draw.

    weights  float64 (B, images); images of one group share their weight.
    units    how many images or groups were drawn from.
    level    how often an interval is to hold the truth.
    """

    weights: Float64
    units: int
    level: float = LEVEL

    @property
    def enough(self) -> bool:
        """Whether there are enough units for an interval."""
        return self.units >= FEWEST

    def sums(self, values: NDArray[np.generic]) -> Float64:
        """Sums over images in every draw, float64 (B, …), of values (images, …)."""
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        sums: Float64 = self.weights @ flat
        return sums.reshape(len(self.weights), *np.shape(values)[1:])

    @property
    def unit(self) -> Int64:
        """The unit of each image, int64 (images,), numbered from 0: images of one share all their weights."""
        images = self.weights.shape[1]
        if self.units == images:
            return np.arange(images)
        some = self.weights[:64].astype(np.int64)
        code = np.random.default_rng(0).integers(1, 2**40, len(some))
        unit: Int64 = np.unique(code @ some, return_inverse=True)[1].astype(np.int64)
        return unit

    def interval(self, value: float, draws: Float64, units: int | None = None) -> Interval:
        """The percentile interval of a figure from its values in the draws (B,); NaN draws are left out.

        Percentiles lie as far out as Student's t does from n units, which a plain bootstrap of few leaves too narrow.
        Draws that all say the same give none: that nothing else was seen on a few images doesn't make it sure.

        units   how many of the images or groups have to do with the figure; all without.
        source  expanded percentiles: Hesterberg, The American Statistician 69 (2015) 371, section 5.3.
        """
        known = draws[~np.isnan(draws)]
        n = self.units if units is None else units
        if n < FEWEST or not self.enough or not known.size or known.min() == known.max():
            return Interval(value, float("nan"), float("nan"))
        low, high = np.quantile(known, percentiles(n, self.level))
        return Interval(value, float(low), float(high))

    def reflected(self, value: float, draws: Float64, units: int | None = None) -> Interval:
        """The interval of a distance, at least 0, that chance makes larger: in each draw once more by as much.

        Draws are mirrored in the figure, which takes that off; the interval reaches up to the figure at least.

        units   as in `interval`.
        source  basic bootstrap: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 5.2.
        """
        _, low, high = self.interval(value, 2 * value - draws, units)
        return Interval(value, float(np.maximum(low, 0.0)), float(np.maximum(high, value)))


@lru_cache(maxsize=1024)
def percentiles(units: int, level: float = LEVEL) -> tuple[float, float]:
    """Which quantiles of the draws end an interval: Φ(∓√(n / (n − 1)) · t), which makes it as wide as Student's t.

    units  n, at least 2.
    """
    from scipy.special import ndtr, stdtrit

    t = float(stdtrit(units - 1, (1 + level) / 2)) * math.sqrt(units / (units - 1))
    return float(ndtr(-t)), float(ndtr(t))


def resamples(
    images: int,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Resamples:
    """Draws with replacement: every draw takes as many units as there are.

    groups   the group of each image; whole groups are drawn, so that what they share widens the interval.
    raises   UsageError without images, or if `groups` has another length.
    source   Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    if images < 1 or (groups is not None and len(groups) != images):
        raise UsageError(
            f"{images} images and {len(groups or ())} groups; expected at least one, a group each."
        )
    unit = np.arange(images) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = int(unit.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)
    # Column by column, as sparse tables times the weights' transpose read them.
    weights = np.asfortranarray(drawn, np.float64)
    return Resamples(weights if groups is None else weights[:, unit], units, level)
