"""Folds: two parts of the images, so that no setting is judged by the images that chose it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError

Bool = NDArray[np.bool_]

FEWEST_IMAGES = 10  # below which nothing is chosen and judged apart


def halves(true: NDArray[np.int64], groups: Sequence[str] | None = None, seed: int = 0) -> Bool:
    """bool (images,), True for the first of two halves that hold about as many objects.

    true    int64 (images,), the true objects of each image.
    groups  the group of each image; a group stays whole.
    Images, or groups, are paired by falling number of objects, ties at random; of each pair one goes to either half.
    raises  UsageError if `groups` has another length.
    """
    if groups is not None and len(groups) != len(true):
        raise UsageError(f"{len(groups)} groups for {len(true)} images; expected one of each image.")
    rng = np.random.default_rng(seed)
    unit = np.arange(len(true))
    if groups is not None:
        unit = np.unique(np.asarray(groups), return_inverse=True)[1]
    units = int(unit.max(initial=-1)) + 1
    size = np.bincount(unit, true, units)
    order = np.lexsort((rng.random(units), -size))
    first = np.zeros(units, np.bool_)
    heads = rng.random(-(-units // 2)) < 0.5
    first[order[::2]] = heads
    first[order[1::2]] = ~heads[: units // 2]
    return first[unit]
