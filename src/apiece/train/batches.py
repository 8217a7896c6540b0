"""Which pictures make which step, and how they are changed: a function of seed, step and position only.

So a run that was killed and resumed at step n sees the same pixels from step n on as one that never stopped.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apiece.core.instances import Instances
from apiece.data.sample import Sample


class Batch(NamedTuple):
    """images (B, 3, H, W) uint8; targets of each picture as the family's loss makes them."""

    images: Tensor
    targets: list[Any]


class Plan:
    """Picks pictures for every step.

    Plain sampling goes through a new permutation each epoch; balanced sampling draws with replacement.
    """

    def __init__(self, weights: npt.NDArray[np.float64], batch: int, epoch_samples: int, seed: int) -> None:
        self.weights = weights
        self.batch = batch
        self.steps_per_epoch = max(1, epoch_samples // batch)
        self.seed = seed
        self.plain = bool(np.allclose(weights, weights[0]))

    def step(self, step: int) -> npt.NDArray[np.int64]:
        """Indices (batch,) of step `step`, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng([self.seed, 1, epoch])
        needed = self.steps_per_epoch * self.batch
        if self.plain:
            rounds = -(-needed // len(self.weights))
            order = np.concatenate([rng.permutation(len(self.weights)) for _ in range(rounds)])
        else:
            order = rng.choice(len(self.weights), needed, p=self.weights)
        chosen: npt.NDArray[np.int64] = order[position * self.batch : (position + 1) * self.batch]
        return chosen


class _Steps(Dataset[Batch]):
    """One item is one step's share of one process."""

    def __init__(
        self,
        samples: Sequence[Sample],
        plan: Plan,
        augment: Callable[[Sample, np.random.Generator], Sample],
        targets: Callable[[Instances], Any],
        first: int,
        last: int,
        rank: int,
        world: int,
    ) -> None:
        self.samples, self.plan, self.augment, self.targets = samples, plan, augment, targets
        self.first, self.last, self.rank, self.world = first, last, rank, world

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, item: int) -> Batch:
        step = self.first + item
        images, targets = [], []
        for position, index in enumerate(self.plan.step(step)):
            if position % self.world != self.rank:
                continue
            rng = np.random.default_rng([self.plan.seed, 2, step, position])
            sample = self.augment(self.samples[int(index)], rng)
            images.append(torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1))))
            targets.append(self.targets(sample.instances))
        return Batch(torch.stack(images), targets)


def _whole(batch: list[Batch]) -> Batch:
    return batch[0]


def batches(
    samples: Sequence[Sample],
    plan: Plan,
    augment: Callable[[Sample, np.random.Generator], Sample],
    targets: Callable[[Instances], Any],
    *,
    first: int,
    last: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of steps first … last - 1 for one process of `world`."""
    steps = _Steps(samples, plan, augment, targets, first, last, rank, world)
    loader: DataLoader[Batch] = DataLoader(
        steps,
        batch_size=1,
        shuffle=False,
        num_workers=workers,
        collate_fn=_whole,
        prefetch_factor=4 if workers else None,
    )
    # A forked worker must not free what the parent left behind: some objects wait for threads that it doesn't have.
    gc.freeze()
    try:
        return iter(loader)
    finally:
        gc.unfreeze()
