"""Other samples: where changes that put several pictures together take them from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apiece.data.dataset import Dataset
from apiece.data.sample import Sample
from apiece.errors import UsageError

# A partner for a sample. The generator is the change's own, so that partners follow from seed, step and position as
# all else does, and a resumed run meets the same ones. Whoever calls the change reads them: with workers, these do.
Others = Callable[[Sample, np.random.Generator], Sample]


@dataclass(frozen=True, eq=False)
class Pool:
    """Some places in a dataset, and the sums of their probabilities up to each; both (N,)."""

    places: npt.NDArray[np.int64]
    ends: npt.NDArray[np.float64]

    def draw(self, rng: np.random.Generator) -> int:
        """One of the places."""
        return int(
            self.places[min(int(np.searchsorted(self.ends, rng.random(), "right")), len(self.ends) - 1)]
        )


@dataclass(frozen=True, eq=False)
class Drawn:
    """Partners from a dataset; see `drawn_from`.

    pools  of each group, and of all pictures under None.
    group  of each picture, by its number.
    """

    samples: Sequence[Sample]
    pools: Mapping[str | None, Pool]
    group: Mapping[int, str]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Read one."""
        return self.samples[self.pools[self.group.get(sample.image_id)].draw(rng)]


def drawn_from(samples: Sequence[Sample], weights: npt.NDArray[np.float64] | None = None) -> Drawn:
    """Partners from a dataset: where it has groups, of the same group as the sample that they are for.

    So a nucleus of a stained section is not pasted into a fluorescence picture. A partner may be the sample itself.
    weights  float64 (N,), the samples' probabilities are in proportion; equal ones without.
    raises   UsageError if there is no sample, or weights don't fit.
    """
    count = len(samples)
    if count == 0:
        raise UsageError("partners are drawn from a dataset without a picture; expected at least one.")
    chances = np.ones(count) if weights is None else weights
    if chances.shape != (count,) or not (chances >= 0).all() or not chances.sum() > 0:
        raise UsageError(
            f"weights of {count} samples have shape {chances.shape}; expected one each, 0 or more, and some above 0."
        )
    pools: dict[str | None, Pool] = {None: _pool(np.arange(count), chances)}
    group: dict[int, str] = {}
    if isinstance(samples, Dataset) and samples.groups is not None:
        names = np.array(samples.groups)
        for name in sorted(set(samples.groups)):
            places = np.flatnonzero(names == name)
            if chances[places].sum() > 0:
                pools[name] = _pool(places, chances[places])
        group = dict(zip(samples.image_ids, samples.groups, strict=True))
    return Drawn(samples, pools, {number: name for number, name in group.items() if name in pools})


def _pool(places: npt.NDArray[np.int64], chances: npt.NDArray[np.float64]) -> Pool:
    return Pool(places, np.cumsum(chances / chances.sum()))
