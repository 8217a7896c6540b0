"""Tone: how values of any type and any number of channels become the 8-bit RGB that networks see.

8-bit values are never rescaled. Everything else (16-bit, 32-bit, float) is stretched linearly so that the
0.1 % and 99.9 % quantiles of the picture's finite values become 0 and 255: microscope cameras fill only a part
of their range, and a plain minimum and maximum would hand the scale to one hot or dead pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LOW, HIGH = 0.001, 0.999  # quantiles that become black and white
CHUNK = 1 << 22  # values converted at once, so that a big picture needs no second copy as float64


def to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Values of any real type as uint8 of the same shape, with one stretch for the whole array.

    uint8 comes back unchanged and bool as 0 and 255. NaN becomes 0, −inf 0 and +inf 255. Where both quantiles
    coincide (a few bright pixels on an even ground) minimum and maximum take their place; a constant array
    becomes 0.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if values.dtype == np.uint16:
        histogram = _histogram(values)
        table: npt.NDArray[np.uint8] = _stretch(
            np.arange(65536, dtype=np.float64), *_limits_of_histogram(histogram)
        )
        return np.take(table, values)
    low, high = _limits(values)
    flat = values.reshape(-1)
    out = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, CHUNK):
        out[start : start + CHUNK] = _stretch(flat[start : start + CHUNK].astype(np.float64), low, high)
    return out.reshape(values.shape)


def project(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Many channels (H, W, C) as one (H, W): each stretched by itself, then the maximum over the channels."""
    best = to_eight_bits(values[..., 0])
    for channel in range(1, values.shape[-1]):
        best = np.maximum(best, to_eight_bits(values[..., channel]))
    return best


def over_white(rgb: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The colours (H, W, 3) seen through their opacity (H, W), 255 = opaque, in front of white."""
    if alpha.size == 0 or alpha.min() == 255:
        return rgb
    out = np.empty_like(rgb)
    weight = alpha.astype(np.uint16)
    ground = 255 * (255 - weight) + 127
    for channel in range(rgb.shape[-1]):
        out[..., channel] = (rgb[..., channel] * weight + ground) // 255
    return out


def as_rgb(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey (H, W) repeated on three channels; (H, W, 3) as it is."""
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def _histogram(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    flat = values.reshape(-1)
    counts = np.zeros(65536, np.int64)
    for start in range(0, flat.size, CHUNK):
        counts += np.bincount(flat[start : start + CHUNK], minlength=65536)
    return counts


def _limits_of_histogram(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    below = np.cumsum(counts)
    present = np.flatnonzero(counts)
    if not present.size:
        return 0.0, 0.0
    low, high = (int(np.searchsorted(below, share * below[-1])) for share in (LOW, HIGH))
    return (float(low), float(high)) if high > low else (float(present[0]), float(present[-1]))


def _limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    if not finite.size:
        return 0.0, 0.0
    # The same definition as the histogram's: the smallest value that at least this share doesn't exceed.
    ranks = [max(0, int(np.ceil(share * finite.size)) - 1) for share in (LOW, HIGH)]
    sorted_there = np.partition(finite, ranks)
    low, high = (float(sorted_there[rank]) for rank in ranks)
    return (low, high) if high > low else (float(finite.min()), float(finite.max()))


def _stretch(values: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.uint8]:
    if not np.isfinite(high - low):  # beyond the range of float64: halve all of it
        values, low, high = values * 0.5, low * 0.5, high * 0.5
    with np.errstate(invalid="ignore"):
        if high > low:
            scaled = (np.clip(values, low, high) - low) / (high - low) * 255.0 + 0.5
        else:
            scaled = np.where(values > high, 255.0, 0.0)
    return np.where(np.isnan(values), 0.0, scaled).astype(np.uint8)
