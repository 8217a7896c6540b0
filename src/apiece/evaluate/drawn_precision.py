"""Average precision in many bootstrap draws at once, by COCO's definition (`replay.precision_of`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from apiece.evaluate.replay import RECALLS
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ranked:
    """R detections of all classes that are true or false positives; what is neither is left out.

    labels  int64 (R,), place of the class.
    ranks   int64 (R,), the order within a class, lowest first; among equals, as they stand here.
    images  int64 (R,), place of the image.
    true    bool (R,), True for true positives.
    """

    labels: Int64
    ranks: Int64
    images: Int64
    true: Bool

    def where(self, chosen: Bool) -> Ranked:
        """The detections at which `chosen` (R,) is True."""
        return Ranked(self.labels[chosen], self.ranks[chosen], self.images[chosen], self.true[chosen])

    def with_true(self, labels: Int64, ranks: Int64, images: Int64) -> Ranked:
        """These and further true positives."""
        return Ranked(
            np.concatenate([self.labels, labels]),
            np.concatenate([self.ranks, ranks]),
            np.concatenate([self.images, images]),
            np.concatenate([self.true, np.ones(len(labels), np.bool_)]),
        )


def drawn_precisions(ranked: Ranked, positives: Float64, weights: Float64) -> Float64:
    """Average precision of each class in each draw, float64 (C, B); NaN where a class has no true object.

    positives  float64 (C, B), how many true objects each class has in each draw.
    weights    float64 (B, images), how often each image counts in each draw.

    Recall rises, and interpolated precision is reached, at true positives only. So false ones need only be summed
    between them, by one product with the weights, and everything else is done for the true ones alone.
    """
    by_image = np.ascontiguousarray(weights.T)
    order = np.lexsort((ranked.ranks, ranked.labels))
    labels, images, true = ranked.labels[order], ranked.images[order], ranked.true[order]
    at = np.flatnonzero(true)
    owner = labels[at]
    before: Int64 = np.cumsum(true) - true  # the true positive that comes next after each row
    false = np.flatnonzero(~true & (before < len(at)))
    false = false[labels[false] == owner[before[false]]]
    ends = np.searchsorted(before[false], np.arange(len(at) + 1))
    table = csr_array((np.ones(len(false)), images[false], ends), shape=(len(at), len(by_image)))
    bounds = np.searchsorted(owner, np.arange(len(positives) + 1)).tolist()
    found = np.where(positives > 0, 0.0, np.nan)
    for label, (begin, end) in enumerate(pairwise(bounds)):
        if begin == end:
            continue
        hit = by_image[images[at[begin:end]]]
        hits = np.cumsum(hit, axis=0)
        total = np.cumsum(table[begin:end] @ by_image, axis=0) + hits
        precision = hits / (total + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        there = positives[label] > 0
        recall = hits / np.where(there, positives[label], 1)
        passed = np.searchsorted(RECALLS, recall, side="right")  # recall levels reached by then
        points = np.diff(passed, axis=0, prepend=0)
        mean = np.einsum("ij,ij->j", precision, points) / len(RECALLS)
        found[label] = np.where(there, mean, np.nan)
    return found
