"""Rankings: average precision of all candidates, and how much each image has to do with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.matching import ranks
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.replay import IOUS, NEITHER, TRUE, precision_of, verdicts
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Average precision of a ranking of candidates; no threshold and no cap of COCO's has a part in it.

    AP, AP50   means over the classes that have true objects, over the IoUs 0.50, 0.55, …, 0.95 and at 0.50; NaN
               without true objects.
    influence  float64 (images, 2), how fast AP and AP50 rise with an image's weight. Times (weights - 1), summed over
               images, this is the change that a bootstrap's draw makes, to first order (the infinitesimal jackknife).
    """

    AP: float
    AP50: float
    influence: Float64


def ranking(overlaps: Overlaps, kept: Bool | None = None, scores: Float64 | None = None) -> Ranking:
    """The average precision of the candidates `kept` (P,), with the influence of every image.

    The values are pycocotools' (uncapped). For the influence precision is interpolated at every recall instead of at
    101 levels.

    scores  float64 (P,), others than their own.
    source  Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 20.5; Jaeckel 1972.
    """
    scenes, predicted = overlaps.scenes, overlaps.scenes.predicted
    images, classes = len(scenes.image_ids), len(scenes.classes)
    true = scenes.truth.where(~scenes.truth.crowd).per_image(images, classes)
    positives = true.sum(axis=0)
    present = np.flatnonzero(positives)
    if not present.size:
        return Ranking(float("nan"), float("nan"), np.zeros((images, 2)))
    found = verdicts(overlaps, kept, scores)
    order = np.argsort(ranks(predicted, scores))
    order = order[(found.verdict[:, order] != NEITHER).any(axis=0)]
    order = order[positives[predicted.labels[order]] > 0]
    order = order[np.argsort(predicted.labels[order], kind="stable")]
    labels = predicted.labels[order]
    verdict = found.verdict[:, order]
    starts = np.searchsorted(labels, np.arange(classes + 1))
    table = np.zeros((len(IOUS), classes))
    for c in present.tolist():
        for k in range(len(IOUS)):
            row = verdict[k, starts[c] : starts[c + 1]]
            flags = row[row != NEITHER] == TRUE
            if flags.size:
                table[k, c] = precision_of(flags, int(positives[c]))
    influence = np.zeros((images, 2))
    for k in range(len(IOUS)):
        own = _influence(verdict[k], starts, labels, positives, predicted.images[order], true)
        influence[:, 0] += own / len(IOUS)
        if k == 0:
            influence[:, 1] = own
    means = table[:, present].mean(axis=1)
    return Ranking(float(means.mean()), float(means[0]), influence / len(present))


def by_class(overlaps: Overlaps) -> Int64:
    """int64 (P,), the places of all predictions by class and falling score."""
    order = np.argsort(ranks(overlaps.scenes.predicted))
    placed: Int64 = order[np.argsort(overlaps.scenes.predicted.labels[order], kind="stable")]
    return placed


def precision_on(overlaps: Overlaps, verdict: NDArray[np.int8], part: Bool, order: Int64) -> float:
    """Average precision on some images, mean over IoUs and classes; 0 without true objects.

    verdict  int8 (K, P), as `replay.verdicts` gives it for the predictions' own scores.
    part     bool (images,), the images.
    order    int64 (P,), as `by_class` gives it.
    """
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    positives = np.bincount(
        truth.labels[~truth.crowd & part[truth.images]], minlength=len(overlaps.scenes.classes)
    )
    order = order[part[predicted.images[order]]]
    ends = np.searchsorted(predicted.labels[order], np.arange(len(positives) + 1))
    values = [0.0]
    for c in np.flatnonzero(positives).tolist():
        for row in verdict[:, order[ends[c] : ends[c + 1]]]:
            flags = row[row != NEITHER] == TRUE
            values.append(precision_of(flags, int(positives[c])) if flags.size else 0.0)
    return float(np.sum(values) / max(len(values) - 1, 1))


def _influence(
    verdict: NDArray[np.int8], starts: Int64, labels: Int64, positives: Int64, images: Int64, true: Int64
) -> Float64:
    """Derivative of the sum over classes of average precision by each image's weight, float64 (images,).

    verdict  int8 (R,), by class and falling score. With T and D the sums of true positives and of all up to a row, AP
    is the sum over true positives i of T/D at the row k(i) ≥ i where that is highest, over the positives N. So row j
    has T/D at k(j), plus 1/D less T/D² summed over the i with k(i) ≥ j.
    """
    counts = verdict != NEITHER
    flags = (verdict == TRUE).astype(np.float64)
    begin = starts[labels]
    hits = np.append(0.0, np.cumsum(flags))
    total = np.append(0.0, np.cumsum(counts))
    right = hits[1:] - hits[begin]
    rows = np.maximum(total[1:] - total[begin], 1)
    precision = np.where(counts, right / rows, 0.0)
    # Classes one after another, backwards: an offset that rises with each keeps their maxima apart.
    apart = 2.0 * (labels.max(initial=0) - labels)
    highest = np.maximum.accumulate((precision + apart)[::-1])[::-1] - apart
    size = len(labels)
    places = np.where((precision >= highest - 1e-12) & counts, np.arange(size), size)
    peak = np.minimum.accumulate(places[::-1])[::-1]
    at = np.minimum(peak, max(size - 1, 0))
    times = np.bincount(at[flags > 0], minlength=size).astype(np.float64)
    gain, loss = times / rows, times * right / rows**2
    ends = starts[labels + 1]
    gain_sum, loss_sum = np.append(0.0, np.cumsum(gain)), np.append(0.0, np.cumsum(loss))
    later_gain = gain_sum[ends] - gain_sum[:-1]
    later_loss = loss_sum[ends] - loss_sum[:-1]
    share = flags * (precision[at] + later_gain) - np.where(counts, later_loss, 0.0)
    number = positives[labels].astype(np.float64)
    found = np.bincount(images, share / number, len(true))
    known = np.maximum(positives, 1)
    area = np.bincount(labels, flags * precision[at] / number, len(positives))
    derivative: Float64 = found - (true * (area / known)).sum(axis=1)
    return derivative
