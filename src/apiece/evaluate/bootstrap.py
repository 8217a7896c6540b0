"""Bootstrap intervals over images, or over groups of images, never over objects: those of one image hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError

Float64 = NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95
FEWEST = 5  # units below which no interval is given


class Interval(NamedTuple):
    """A figure with the interval that a bootstrap gives; low and high are NaN where there are too few units, or no spread."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each image counts in each draw.

    weights  float64 (B, images); images of one group share their weight.
    units    how many images or groups were drawn from.
    level    share of the draws that an interval holds.
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

    def interval(self, value: float, draws: Float64) -> Interval:
        """The percentile interval of a figure from its values in the draws (B,); NaN draws are left out.

        Draws that all say the same give none: that nothing else was seen on a few images doesn't make it sure.
        """
        known = draws[~np.isnan(draws)]
        if not self.enough or not known.size or known.min() == known.max():
            return Interval(value, float("nan"), float("nan"))
        low, high = np.quantile(known, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(value, float(low), float(high))


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
    return Resamples(drawn[:, unit].astype(np.float64), units, level)
