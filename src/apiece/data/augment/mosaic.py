"""Mosaic: four samples in one picture (Bochkovskiy et al. 2020, arXiv 2004.10934)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apiece.core.instances import Instances
from apiece.data.augment.base import Colour, Range, check_fraction, check_range
from apiece.data.augment.partners import Others
from apiece.data.augment.scale_crop import BLACK, ScaleCrop, check_window, scaled_size, seen_through
from apiece.data.augment.targets import lost_of, shifted, united, with_objects
from apiece.data.sample import Sample


@dataclass(frozen=True)
class Mosaic:
    """The sample and three others around a random point, each scaled and cut at the seams; else `ScaleCrop` of one.

    The result always has `size`, so this stands in the place of `ScaleCrop`. A picture larger than its quarter is
    seen through a random window, a smaller one lies against the point where the four meet. Objects keep their
    scores and columns, but not their track ids.

    size         (height, width) of the result.
    others       draws a partner; see `drawn_from`.
    p            probability of a mosaic.
    scale        range of the factor, drawn for each picture, relative to the scale at which it fits into `size`.
    centre       range of the place where the four meet, as a fraction of each side.
    min_visible  an object of which a seam or the border leaves less than this fraction is no longer a target, and
                 counts in `Sample.dropped` as long as a pixel of it can be seen.
    fill         colour of what no picture covers.
    as_ignore    see `ScaleCrop`.
    raises       UsageError if a value can't be meant.
    """

    size: tuple[int, int]
    others: Others
    p: float = 0.5
    scale: Range = (1.0, 1.0)
    centre: Range = (0.3, 0.7)
    min_visible: float = 0.2
    fill: Colour = BLACK
    as_ignore: bool = False

    def __post_init__(self) -> None:
        check_window("Mosaic", self.size, self.scale, self.min_visible, self.fill)
        check_fraction("Mosaic p", self.p)
        check_range("Mosaic centre", self.centre, 0, 1)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Put four together, or scale and cut one."""
        if rng.random() >= self.p:
            return ScaleCrop(self.size, self.scale, self.min_visible, self.fill, self.as_ignore)(sample, rng)
        height, width = self.size
        # At least a pixel for each, where there are two.
        row, column = (
            min(max(round(side * rng.uniform(*self.centre)), 1), max(side - 1, 1)) for side in self.size
        )
        image = np.full((height, width, 3), self.fill, np.uint8)
        objects: list[Instances] = []
        lost: list[Instances] = []
        dropped = 0
        quarters = [(0, 0, row, column), (0, column, row, width), (row, 0, height, column)]
        for top, left, bottom, right in [*quarters, (row, column, height, width)]:
            one = sample if not objects else self.others(sample, rng)
            if bottom == top or right == left:
                continue
            piece = self._piece(one, (bottom - top, right - left), (top == 0, left == 0), rng)
            image[top:bottom, left:right] = piece.image
            objects.append(shifted(piece.instances, left, top, self.size))
            lost.append(shifted(lost_of(piece), left, top, self.size))
            dropped += piece.dropped
        return with_objects(sample, image, united(objects), united(lost), dropped)

    def _piece(
        self, sample: Sample, size: tuple[int, int], low: tuple[bool, bool], rng: np.random.Generator
    ) -> Sample:
        """One quarter; `low` says whether it lies above, and whether left of the place where the four meet."""
        scaled = scaled_size(sample.size, self.size, self.scale, rng)
        top, left = (
            int(rng.integers(whole - part + 1)) if whole >= part else (whole - part) * before
            for whole, part, before in zip(scaled, size, low, strict=True)
        )
        return seen_through(sample, scaled, (left, top), size, self.min_visible, self.fill, self.as_ignore)
