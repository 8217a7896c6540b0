"""Units: what a promise is counted in, pictures or groups of pictures; never objects, which hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from apiece.errors import UsageError
from apiece.evaluate.scenes import Float64, Int64


@dataclass(frozen=True, eq=False)
class Units:
    """Which unit each picture belongs to.

    of     int64 (images,), units numbered 0, 1, … as their first picture comes.
    sizes  int64 (units,), how many pictures each has.
    word   "picture" where every picture is its own unit, else "group".
    """

    of: Int64
    sizes: Int64
    word: str

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def words(self) -> str:
        """The word for several."""
        return f"{self.word}s"

    def sums(self, values: Float64) -> Float64:
        """Sums over the pictures of each unit, float64 (units, …), of values (images, …)."""
        if self.word == "picture":
            return np.asarray(values, np.float64)
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        images = len(self.of)
        table = csr_array((np.ones(images), (self.of, np.arange(images))), shape=(len(self), images))
        sums: Float64 = np.asarray(table @ flat)
        return sums.reshape(len(self), *np.shape(values)[1:])

    def means(self, values: Float64) -> Float64:
        """Means over the pictures of each unit, float64 (units, …), of values (images, …)."""
        sums = self.sums(values)
        return sums / self.sizes.reshape(-1, *(1,) * (sums.ndim - 1))


def units_of(images: int, groups: Sequence[str] | None = None) -> Units:
    """The units of pictures: their groups where these are given, else every picture alone.

    raises  UsageError without pictures, or if `groups` has another length.
    """
    if images < 1 or (groups is not None and len(groups) != images):
        raise UsageError(
            f"{images} pictures and {images if groups is None else len(groups)} groups; expected at least one "
            "picture, and one group for each. Remedy: give every picture a group, or none."
        )
    if groups is None:
        return Units(np.arange(images), np.ones(images, np.int64), "picture")
    _, first, code = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    of = place[code]
    return Units(of, np.bincount(of), "group")


def percent(share: float) -> str:
    """A share as it is told: 0.1 is 10 %."""
    return f"{100 * share:.3g} %"


class Mean(NamedTuple):
    """The mean a picture, and the variance of that mean with its degrees of freedom."""

    value: float
    variance: float
    freedom: int


def mean_of(values: Float64, units: Units, estimated: int = 1) -> Mean:
    """Mean of values (images,) over pictures, with its variance over units.

    With units of one picture the variance is s²/n. With groups it is that of a ratio, K/(K−1) Σ(S_k − mean·n_k)² / n².
    estimated  how many numbers the residuals' own fit took (2 for a slope and a mean); the variance grows by it.
    source     Cochran, Sampling Techniques (1977), section 2.9 and equation 9A.5 (ratio to size).
    """
    count, value = len(units), float(np.mean(values))
    if count <= estimated:
        return Mean(value, float("nan"), 0)
    squares = float(((units.sums(values) - value * units.sizes) ** 2).sum())
    variance = count / (count - estimated) * squares / len(values) ** 2
    return Mean(value, variance, count - estimated)
