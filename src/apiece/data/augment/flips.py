"""Mirror images and quarter turns: exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apiece.core.instances import Instances
from apiece.data.augment.base import check_fraction
from apiece.data.augment.targets import moved, placed
from apiece.data.sample import Sample


@dataclass(frozen=True)
class Flip:
    """Left and right, and up and down, each with its own probability."""

    horizontal: float = 0.5
    vertical: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("Flip horizontal", self.horizontal)
        check_fraction("Flip vertical", self.vertical)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Mirror picture and masks exactly."""
        for axis, chance in ((1, self.horizontal), (0, self.vertical)):
            if rng.random() < chance:
                sample = _mirrored(sample, axis)
        return sample


@dataclass(frozen=True)
class Rotate90:
    """A turn by 0, 90, 180 or 270°; only by 0 or 180° where the picture is not square, so that it keeps its size."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Turn picture and masks exactly."""
        turns = int(rng.integers(4))
        if sample.size[0] != sample.size[1]:
            turns = 2 * (turns // 2)
        return _turned(sample, turns) if turns else sample


def _mirrored(sample: Sample, axis: int) -> Sample:
    extent = sample.size[axis]
    low, high = (0, 2) if axis == 1 else (1, 3)

    def mirror(objects: Instances) -> Instances:
        boxes = objects.boxes.copy()
        boxes[:, [low, high]] = extent - boxes[:, [high, low]]
        return placed(objects, objects.masks.flip(horizontal=axis == 1), boxes)

    return moved(sample, np.flip(sample.image, axis), mirror)


def _turned(sample: Sample, turns: int) -> Sample:
    height, width = sample.size

    def turn(objects: Instances) -> Instances:
        x1, y1, x2, y2 = objects.boxes.T
        sides = {
            1: (y1, width - x2, y2, width - x1),
            2: (width - x2, height - y2, width - x1, height - y1),
            3: (height - y2, x1, height - y1, x2),
        }[turns]
        return placed(objects, objects.masks.rotate90(turns), np.stack(sides, axis=1))

    return moved(sample, np.rot90(sample.image, turns), turn)
