"""How often each picture is taken. Imports no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from apiece.data.dataset import Dataset


def sampling_weights(balance: str, data: Dataset) -> npt.NDArray[np.float64]:
    """Probability of each picture, float64 (N,).

    balance  plain: equal; group: 1 / sqrt(pictures of its group), and the dataset has groups; class: 1 / sqrt(pictures
             that show the rarest of its classes), where one without an object counts as one of the commonest class.
    """
    count = len(data)
    if balance == "plain":
        return np.full(count, 1.0 / count)
    if balance == "group":
        assert data.groups is not None
        _, index, totals = np.unique(np.array(data.groups), return_inverse=True, return_counts=True)
        weight = (1.0 / np.sqrt(totals))[index]
    else:
        classes = [np.unique(data.instances(i).class_ids) for i in range(count)]
        frequency = np.bincount(np.concatenate(classes), minlength=1)
        rarest = [frequency[c].min() if len(c) else frequency.max() for c in classes]
        # The commonest class has no picture where there is no object at all.
        weight = 1.0 / np.sqrt(np.maximum(np.array(rarest, np.float64), 1))
    normal: npt.NDArray[np.float64] = weight / weight.sum()
    return normal
