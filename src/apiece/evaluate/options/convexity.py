"""Convexity: how much of its convex hull a bitmap fills."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]


def convexity(bitmap: Bool) -> float:
    """Pixels over the area of the convex hull of the pixels' corners, in (0, 1]; 0 for an empty bitmap.

    A rectangle has 1, a drawn disc about 0.95; also called solidity.
    """
    lines = np.flatnonzero(bitmap.any(axis=1))
    if not lines.size:
        return 0.0
    rows = bitmap[lines]
    left, right = rows.argmax(axis=1), rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([lines, lines + 1, lines, lines + 1])
    hull = cv2.convexHull(np.column_stack([x, y]).astype(np.float32))
    return float(np.count_nonzero(bitmap) / cv2.contourArea(hull))
