"""Losses: what each picture would lose at every threshold of a grid, from one matching."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.replay import FALSE, TRUE, verdicts
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]
FOUND = 0.5  # IoU from which an object is found
# Fixed before any data is seen, as tests of many thresholds need it; finer where detectors' scores crowd.
GRID: Float64 = np.concatenate(
    [np.arange(90) / 100, 0.9 + np.arange(90) / 1000, 0.99 + np.arange(20) / 2000]
).round(4)
COARSE: Float64 = (np.arange(1, 20) / 20).round(2)


@dataclass(frozen=True, eq=False)
class Losses:
    """What each picture holds, and what is counted on it at each threshold.

    grid       float64 (G,), thresholds, rising; a prediction counts if its score ≥ threshold, as float32.
    true       int64 (images,), true objects, crowd regions left out.
    found      int64 (images, G), true objects that a prediction of their class fits with IoU ≥ 0.5.
    false      int64 (images, G), predictions that fit no true object and lie in no crowd region.
    predicted  int64 (images, G), predictions that count, as `counting` counts them.
    """

    grid: Float64
    true: Int64
    found: Int64
    false: Int64
    predicted: Int64

    def __len__(self) -> int:
        return len(self.true)

    @property
    def miss(self) -> Float64:
        """Share of a picture's objects that is missed, float64 (images, G); 0 on pictures without objects."""
        true = self.true[:, None]
        share: Float64 = (true - self.found) / np.maximum(true, 1)
        return share

    @property
    def false_share(self) -> Float64:
        """Share of a picture's predictions that is false, float64 (images, G); 0 where none is predicted."""
        share: Float64 = self.false / np.maximum(self.false + self.found, 1)
        return share

    @property
    def count_error(self) -> Float64:
        """|predicted − true| / max(true, 1) of a picture, float64 (images, G); errors above 1 count as 1."""
        true = self.true[:, None]
        error: Float64 = np.minimum(np.abs(self.predicted - true) / np.maximum(true, 1), 1.0)
        return error

    def at(self, images: Int64) -> Losses:
        """The losses of the pictures at these places, which may repeat."""
        return Losses(
            self.grid, self.true[images], self.found[images], self.false[images], self.predicted[images]
        )


def losses_of(overlaps: Overlaps, point: OperatingPoint, grid: Float64 = GRID) -> Losses:
    """The losses at all thresholds of a grid; suppression, cap, size and border act as in `point`.

    One threshold for all classes takes the place of the point's. Candidates of lower score change nothing for those
    of higher score, neither in suppression and cap nor in matching, so that one matching serves all thresholds.
    """
    scenes = overlaps.scenes
    truth, predicted, images = scenes.truth, scenes.predicted, len(scenes.image_ids)
    kept = select(overlaps, replace(point, threshold=-np.inf, thresholds={})).kept
    found = verdicts(overlaps, kept, ious=np.array([FOUND]))
    # How many thresholds of the grid a score reaches.
    reached = np.searchsorted(grid.astype(np.float32), predicted.scores.astype(np.float32), side="right")

    def counts(which: Bool) -> Int64:
        flat = predicted.images[which] * (len(grid) + 1) + reached[which]
        table = np.bincount(flat, minlength=images * (len(grid) + 1)).reshape(images, len(grid) + 1)
        return np.cumsum(table[:, ::-1], axis=1)[:, ::-1][:, 1:]

    return Losses(
        grid,
        np.bincount(truth.images[~truth.crowd], minlength=images),
        counts(found.verdict[0] == TRUE),
        counts(kept & (found.verdict[0] == FALSE)),
        counts(kept),
    )
