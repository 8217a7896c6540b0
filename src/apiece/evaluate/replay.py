"""Average precision of any choice of candidates, from overlaps that are known; equal to pycocotools."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.matching import match, ranks
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
FALSE, TRUE, NEITHER = np.int8(0), np.int8(1), np.int8(-1)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What each prediction is at each IoU threshold: TRUE, FALSE, or NEITHER (in a crowd region, or left out).

    ious      float64 (K,).
    verdict   int8 (K, P).
    truth     int64 (K, P), the true object taken, -1 for none.
    """

    ious: Float64
    verdict: NDArray[np.int8]
    truth: Int64


def verdicts(
    overlaps: Overlaps,
    kept: Bool | None = None,
    scores: Float64 | None = None,
    labels: Int64 | None = None,
    ious: Float64 = IOUS,
) -> Verdicts:
    """Match predictions as COCO does, without a cap, within classes.

    kept    bool (P,), which of the predictions there are; all without.
    scores  float64 (P,), others than their own.
    labels  int64 (P,), others than their own.
    source  cocodataset/cocoapi, cocoeval.py, evaluateImg.
    """
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    label = predicted.labels if labels is None else labels
    rank = ranks(predicted, scores)
    value, across = overlaps.iou, overlaps.across
    possible = truth.labels[across.first] == label[across.second]
    possible &= value >= ious.min()
    if kept is not None:
        possible &= kept[across.second]
    across, value = across.where(possible), value[possible]
    crowd = truth.crowd[across.first]
    verdict = np.zeros((len(ious), len(predicted)), np.int8)
    taken = np.full((len(ious), len(predicted)), -1, np.int64)
    for k, iou in enumerate(np.minimum(ious, 1 - 1e-10)):
        enough = value >= iou
        regular = enough & ~crowd
        taken[k] = match(across.where(regular), value[regular], rank, len(truth))
        verdict[k, across.second[enough & crowd]] = NEITHER
        verdict[k, taken[k] >= 0] = TRUE
    if kept is not None:
        verdict[:, ~kept] = NEITHER
    return Verdicts(np.asarray(ious), verdict, taken)


def precision_of(flags: NDArray[np.bool_], positives: float, weights: Float64 | None = None) -> float:
    """COCO's average precision of one class at one IoU from its predictions in order of score.

    flags      bool (P,), True for true positives; what is neither is left out.
    positives  how many true objects there are, above 0.
    weights    float64 (P,), how often each prediction counts (a bootstrap's draw); once without.
    source     cocodataset/cocoapi, cocoeval.py, accumulate.
    """
    true = flags.astype(np.float64) if weights is None else flags * weights
    hits = np.cumsum(true)
    total = np.arange(1, len(flags) + 1) if weights is None else np.cumsum(weights)
    recall = hits / positives
    precision = hits / (total + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[at].mean())


def average_precisions(
    overlaps: Overlaps,
    kept: Bool | None = None,
    scores: Float64 | None = None,
    labels: Int64 | None = None,
    ious: Float64 = IOUS,
) -> Float64:
    """Average precision by IoU threshold and class, float64 (K, C), without a cap; NaN for classes without truth.

    The mean over all is COCO's AP where no image and class has more than 100 predictions.
    """
    found = verdicts(overlaps, kept, scores, labels, ious)
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    classes = len(overlaps.scenes.classes)
    positives = np.bincount(truth.labels[~truth.crowd], minlength=classes)
    label = predicted.labels if labels is None else labels
    order = np.argsort(ranks(predicted, scores))
    by_class = order[np.argsort(label[order], kind="stable")]
    ends = np.searchsorted(label[by_class], np.arange(classes + 1))
    table = np.full((len(ious), classes), np.nan)
    for c in np.flatnonzero(positives).tolist():
        members = by_class[ends[c] : ends[c + 1]]
        for k in range(len(ious)):
            verdict = found.verdict[k, members]
            flags = verdict[verdict != NEITHER] == TRUE
            table[k, c] = precision_of(flags, int(positives[c])) if flags.size else 0.0
    return table
