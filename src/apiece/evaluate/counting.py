"""How wrong the count is, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def counting_error(true: Sequence[int], predicted: Sequence[int]) -> dict[str, float]:
    """Errors e = predicted - true of the counts of n pictures, n ≥ 0.

    MAE                 mean |e|; NaN-free: 0 for no pictures.
    RMSE                square root of the mean e².
    bias                mean e: positive where too many are found.
    relative            |sum of e| / sum of true: the error of the total, in which errors cancel; -1 without objects.
    relative_per_image  mean of |e| / true over pictures with objects, in which they don't; -1 without objects.
    """
    t, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    error = p - t
    filled = t > 0
    return {
        "true": float(t.sum()),
        "predicted": float(p.sum()),
        "MAE": float(np.abs(error).mean()) if len(t) else 0.0,
        "RMSE": float(np.sqrt(np.square(error).mean())) if len(t) else 0.0,
        "bias": float(error.mean()) if len(t) else 0.0,
        "relative": float(abs(error.sum()) / t.sum()) if filled.any() else -1.0,
        "relative_per_image": float((np.abs(error[filled]) / t[filled]).mean()) if filled.any() else -1.0,
    }


def best_count_threshold(true: Sequence[int], scores: Sequence[Sequence[float]]) -> float:
    """The score threshold with the smallest mean absolute count error.

    true    objects of each picture.
    scores  scores of each picture's predictions.
    returns the middle of the best interval of thresholds on a grid of 0.01, so that it is not tuned to one score.
    Choose it on data that you don't report on.
    """
    grid = np.round(np.arange(0.05, 0.96, 0.01), 2)
    errors = np.zeros(len(grid))
    for count, found in zip(true, scores, strict=True):
        kept = (np.asarray(found, dtype=np.float64)[None, :] >= grid[:, None]).sum(axis=1)
        errors += np.abs(kept - count)
    best = np.flatnonzero(errors == errors.min())
    return float(grid[best[len(best) // 2]])


def counts_by_image(image_ids: Sequence[int], owners: Mapping[int, int]) -> list[int]:
    """Counts in the order of `image_ids`; a picture without an entry counts 0."""
    return [int(owners.get(image, 0)) for image in image_ids]
