"""Resampling: bitmaps onto a coarser or finer picture, so that areas scale with the picture's."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Bool, Crops, tightened

TIE = 1e-6  # coverages this close are equal in spite of rounding


def resized(crops: Crops, old: tuple[int, int], new: tuple[int, int]) -> Crops:
    """Every bitmap on a picture of size `new` instead of `old`, (height, width).

    A new pixel is object where at least half of its window is. The window is the new pixel's own square
    where the picture shrinks (exact area), and an old pixel's square about the new centre where it grows,
    which is bilinear interpolation.
    An object too thin for that, so that less than half of its due area would be left, keeps as many of its
    best-covered pixels as its area is due, and all that are covered alike; at least one. None gets lost.
    """
    bitmaps: list[Bool] = []
    corners: list[tuple[int, int]] = []
    boxes = zip(crops.offsets.tolist(), crops.shapes.tolist(), strict=True)
    for i, ((x, y), (height, width)) in enumerate(boxes):
        if height == 0:
            bitmaps.append(np.zeros((0, 0), np.bool_))
            corners.append((0, 0))
            continue
        top, rows = _windows(y, height, old[0], new[0])
        left, columns = _windows(x, width, old[1], new[1])
        bits = crops.crop(i).view(np.uint8)
        total = np.asarray(cv2.integral(bits, sdepth=cv2.CV_64F), np.float64)
        covered = _between(_between(total, rows).T, columns).T
        bitmaps.append(_object(covered, float(total[-1, -1]) * new[0] * new[1] / (old[0] * old[1])))
        corners.append((left, top))
    return tightened(bitmaps, corners)


def _object(covered: NDArray[np.float64], due: float) -> Bool:
    """The pixels that are object, by how much of each is covered and how many there should be."""
    bitmap: Bool = covered >= 0.5 - TIE
    if np.count_nonzero(bitmap) >= max(1.0, due / 2):
        return bitmap
    count = min(round(due), covered.size)
    if count <= 1:
        only: Bool = np.zeros(covered.shape, np.bool_)
        only[np.unravel_index(covered.argmax(), covered.shape)] = True
        return only
    least = np.partition(covered, covered.size - count, axis=None)[covered.size - count]
    thin: Bool = covered >= max(least - TIE, TIE)
    return thin


def _windows(offset: int, length: int, old: int, new: int) -> tuple[int, NDArray[np.float64]]:
    """First new pixel whose window may touch the stretch, and the windows (2, K) of it and its followers.

    A window is its beginning and end in old pixels, counted from the stretch's beginning.
    """
    scale = new / old
    half = max(1.0, 1 / scale) / 2
    first = max(0, math.floor((offset - half) * scale - 0.5))
    last = min(new, math.ceil((offset + length + half) * scale + 0.5))
    centre = (np.arange(first, last) + 0.5) / scale - offset
    return first, np.stack([centre - half, centre + half])


def _between(total: NDArray[np.float64], windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each window (2, K) of what `total` (L + 1, ...) sums up along its first axis."""
    inside = np.clip(windows, 0, len(total) - 1)
    whole = np.minimum(inside.astype(np.int64), len(total) - 2)
    part = (inside - whole)[..., None]
    at: NDArray[np.float64] = total[whole] * (1 - part) + total[whole + 1] * part
    mean: NDArray[np.float64] = (at[1] - at[0]) / (windows[1, 0] - windows[0, 0])
    return mean
