"""How far the counts are off: errors of the number of objects a picture, and the threshold that makes them least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apiece.core.instances import Instances
from apiece.errors import AnnotationError, UsageError
from apiece.evaluate.scenes import Int64, Key, Scenes


@dataclass(frozen=True)
class CountErrors:
    """Errors of predicted counts over images; an error is predicted - true.

    images, true, predicted  how many images, true objects (crowd regions excluded) and predictions counted.
    MAE                      mean |error| an image.
    RMSE                     root of the mean squared error an image.
    bias                     mean error an image; positive where too many are counted.
    relative                 |sum of predictions - sum of truth| / sum of truth; -1 without truth.
    relative_per_image       mean of |error| / truth over the images with truth; -1 without any.
    """

    images: int
    true: int
    predicted: int
    MAE: float
    RMSE: float
    bias: float
    relative: float
    relative_per_image: float


def count_errors(true: ArrayLike, predicted: ArrayLike) -> CountErrors:
    """Count errors from the true and the predicted number of objects on each image, whole numbers (images,).

    raises  UsageError if there is no image, or the two differ in length.
    """
    truth, found = np.asarray(true, np.int64), np.asarray(predicted, np.int64)
    if truth.ndim != 1 or truth.shape != found.shape or not truth.size:
        raise UsageError(
            f"true counts of shape {truth.shape}, predicted counts of shape {found.shape}; expected one whole "
            "number an image in each, for at least one image."
        )
    error = (found - truth).astype(np.float64)
    total, filled = int(truth.sum()), truth > 0
    return CountErrors(
        images=truth.size,
        true=total,
        predicted=int(found.sum()),
        MAE=float(np.abs(error).mean()),
        RMSE=math.sqrt(float((error**2).mean())),
        bias=float(error.mean()),
        relative=abs(int(found.sum()) - total) / total if total else -1.0,
        relative_per_image=float((np.abs(error[filled]) / truth[filled]).mean()) if total else -1.0,
    )


@dataclass(frozen=True, eq=False)
class Counting:
    """Counts at an operating threshold, and their errors.

    threshold  predictions with score >= threshold are counted.
    total      errors of the number of objects an image, all classes together.
    by_class   ((category id, name), errors) of each class alone.
    true       int64 (images, classes), true objects, crowd regions excluded.
    predicted  int64 (images, classes), predictions counted.
    """

    threshold: float
    total: CountErrors
    by_class: tuple[tuple[tuple[Key, str], CountErrors], ...]
    true: Int64
    predicted: Int64


def counting(scenes: Scenes, threshold: float) -> Counting:
    """Count true objects and predictions on every image; an image without predictions counts 0.

    Crowd regions are not true objects, and predictions inside them are counted like any other. Scores are compared
    as float32, as models produce and keep them, so that a file and the values in memory count alike.

    raises  UsageError if the threshold is not a finite number.
    """
    if isinstance(threshold, bool) or not math.isfinite(threshold):
        raise UsageError(f"score threshold is {threshold!r}; expected a finite number such as 0.5.")
    shape = len(scenes.image_ids), len(scenes.classes)
    true = scenes.truth.where(~scenes.truth.crowd).per_image(*shape)
    counted = scenes.predicted.scores.astype(np.float32) >= np.float32(threshold)
    predicted = scenes.predicted.where(counted).per_image(*shape)
    by_class = tuple(
        (named, count_errors(true[:, i], predicted[:, i])) for i, named in enumerate(scenes.classes)
    )
    total = count_errors(true.sum(axis=1), predicted.sum(axis=1))
    return Counting(float(threshold), total, by_class, true, predicted)


def best_count_threshold(
    truth: Sequence[int | Instances], predicted: Sequence[ArrayLike | Instances]
) -> float:
    """The score threshold at which the number of objects a picture, all classes together, is least wrong.

    Every threshold that counts differently is tried. The mean |error| a picture decides; among equals the
    smaller |bias|, then the wider range of scores that count alike, then the higher threshold. A short number
    near the middle of that range is returned, so that scores that shift a little still count alike.

    Choose it on training or validation data: on the data that it is judged by, the error is too kind.

    truth      how many objects each picture has, or its Instances; crowd regions (column "iscrowd") do not count.
    predicted  the scores on each picture, in the same order, or its Instances; without a high threshold of their
               own, since what they leave out is never counted.
    raises     AnnotationError if the two differ in length, or there is no prediction at all.
    """
    true = np.array([_true_count(picture) for picture in truth], np.int64)
    by_image = [np.asarray(p.scores if isinstance(p, Instances) else p, np.float32) for p in predicted]
    if len(true) != len(by_image):
        raise AnnotationError(f"{len(true)} true pictures and {len(by_image)} predicted; expected as many.")
    scores = np.concatenate([np.zeros(0, np.float32), *by_image])
    if not scores.size or not np.isfinite(scores).all():
        what = "scores that are not finite" if scores.size else "no predictions"
        raise AnnotationError(
            f"{what}; expected at least one, and finite scores, to choose a score threshold by. "
            "Remedy: predict with a low threshold, such as 0.05."
        )
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    errors, bias = sweep_counts(true, np.repeat(np.arange(len(true)), [len(s) for s in by_image])[order])
    # After k predictions the threshold lies between ranked[k - 1] and ranked[k]: only where these differ.
    apart = np.flatnonzero(np.append(np.append(True, ranked[1:] != ranked[:-1]), True))
    highest = max(np.float32(1), np.nextafter(ranked[0], np.float32(np.inf)))
    upper, lower = np.append(highest, ranked)[apart], np.append(ranked, min(np.float32(0), ranked[-1]))[apart]
    width = upper.astype(np.float64) - lower
    best = int(np.lexsort((-upper, -width, np.abs(bias[apart]), errors[apart]))[0])
    return between(lower[best], upper[best])


def _true_count(picture: int | Instances) -> int:
    if not isinstance(picture, Instances):
        return int(picture)
    return len(picture) - int(np.count_nonzero(picture.columns.get("iscrowd", ())))


def between(lower: np.float32, upper: np.float32) -> float:
    """A number of few digits near the middle of lower < number <= upper; `upper` where nothing lies between."""
    middle = (float(lower) + float(upper)) / 2
    for digits in range(2, 9):
        rounded = round(middle, digits)
        if lower < np.float32(rounded) <= upper:
            return rounded
    return float(upper)


def sweep_counts(true: NDArray[np.int64], images: Int64) -> tuple[Int64, Int64]:
    """Sum of |error| and of error after counting the first 0, 1, … of the predictions, which lie on `images`.

    One more prediction on an image lowers its |error| while fewer than `true` are counted, and raises it after.
    """
    by_image = np.argsort(images, kind="stable")
    begins = np.searchsorted(images[by_image], np.arange(len(true)))
    earlier = np.empty(len(images), np.int64)
    earlier[by_image] = np.arange(len(images)) - begins[images[by_image]]
    change = np.where(earlier < true[images], -1, 1)
    errors = np.append(0, np.cumsum(change)) + int(true.sum())
    bias = np.arange(len(images) + 1) - int(true.sum())
    return errors.astype(np.int64), bias.astype(np.int64)
