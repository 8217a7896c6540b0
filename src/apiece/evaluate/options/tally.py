"""Tallies: what any choice of candidates counts and finds on each image, from pairs sorted out once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.matching import match, ranks
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]


class Tally:
    """Counts of chosen candidates by image.

    true  int64 (images,), true objects, crowd regions left out.
    """

    true: Int64

    def __init__(self, overlaps: Overlaps, scores: Float64 | None = None, found: float = 0.5) -> None:
        """`scores` (P,) others than their own; `found` the IoU from which a prediction is right."""
        truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
        self._predicted, self._truths = predicted, len(truth)
        self._images = len(overlaps.scenes.image_ids)
        self.true = np.bincount(truth.images[~truth.crowd], minlength=self._images)
        value, pairs = overlaps.iou, overlaps.across
        fits = (value >= found) & (truth.labels[pairs.first] == predicted.labels[pairs.second])
        crowd = truth.crowd[pairs.first]
        self._pairs, self._value = pairs.where(fits & ~crowd), value[fits & ~crowd]
        self._in_crowd = np.zeros(len(predicted), np.bool_)
        self._in_crowd[pairs.second[fits & crowd]] = True
        self._rank = ranks(predicted, scores)

    def counted(self, kept: Bool) -> Int64:
        """int64 (images,), how many of the candidates `kept` (P,) lie on each image."""
        return np.bincount(self._predicted.images[kept], minlength=self._images)

    def verdicts(self, kept: Bool) -> tuple[Int64, Int64]:
        """Objects missed and predictions that are wrong, int64 (images,) both.

        What fits nothing but a crowd region is not wrong.
        """
        some = kept[self._pairs.second]
        right = match(self._pairs.where(some), self._value[some], self._rank, self._truths) >= 0
        found = self.counted(right)
        return self.true - found, self.counted(kept & ~right & ~self._in_crowd)
