"""Tone: how values of any type and any number of channels become the 8-bit RGB that networks see.

8-bit values are never rescaled. Everything else (16-bit, 32-bit, float) is stretched linearly so that the
0.1 % and 99.9 % quantiles of the picture's finite values become 0 and 255: microscope cameras fill only a part
of their range, and a plain minimum and maximum would hand the scale to one hot or dead pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LOW, HIGH = 0.001, 0.999  # quantiles that become black and white
CHUNK = 1 << 22  # values converted at once, so that a big picture needs no second copy as float64


@dataclass(frozen=True)
class Tone:
    """The values that become 0 and 255; what lies between is stretched linearly."""

    low: float
    high: float


def to_eight_bits(values: npt.NDArray[Any], tone: Tone | None = None) -> npt.NDArray[np.uint8]:
    """Values of any real type as uint8 of the same shape, with one stretch for the whole array.

    uint8 comes back unchanged and bool as 0 and 255. NaN becomes 0, −inf 0 and +inf 255. Where both quantiles
    coincide (a few bright pixels on an even ground) minimum and maximum take their place; a constant array
    becomes 0.
    tone  the stretch of the whole picture where `values` is a part of it (`Tally` finds it).
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if tone is None and values.dtype == np.uint16:
        histogram = _histogram(values)
        table: npt.NDArray[np.uint8] = _stretch(
            np.arange(65536, dtype=np.float64), *_limits_of_histogram(histogram)
        )
        return np.take(table, values)
    low, high = _limits(values) if tone is None else (tone.low, tone.high)
    flat = values.reshape(-1)
    out = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, CHUNK):
        out[start : start + CHUNK] = _stretch(flat[start : start + CHUNK].astype(np.float64), low, high)
    return out.reshape(values.shape)


class Tally:
    """Finds the `Tone` of a picture that is seen in pieces: the same as of all its values at once, exactly.

    Values are counted by their first 16 bits, then, only those that share them with a sought quantile, by the
    next 16, and so on: two passes for 32 bits, four for 64. Usage:

        while tally.wants_more:
            for piece in pieces:
                tally.add(piece)
            tally.end_pass()
    """

    def __init__(self) -> None:
        self._bits = 0  # of a value; unknown before the first
        self._counts = [
            np.zeros(1 << 16, np.int64)
        ] * 2  # of both quantiles; in the first pass one and the same
        self._prefixes = [0, 0]
        self._ranks: list[int] | None = None
        self._known = 0  # leading bits
        self._ends: list[np.generic] = []
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)

    @property
    def wants_more(self) -> bool:
        """Whether the values must be seen (once more)."""
        return self._ranks is None or (bool(self._ends) and self._known < self._bits)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count a piece, of any shape. All pieces are of one type; 8-bit ones need no tone and aren't counted."""
        if values.dtype == np.uint8 or values.dtype == np.bool_:
            return
        if values.dtype.kind == "f" and values.dtype.itemsize > 8:
            values = values.astype(np.float64)
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            self._add(flat[start : start + CHUNK])

    def _add(self, values: npt.NDArray[Any]) -> None:
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if not values.size:
            return
        self._dtype, self._bits = values.dtype, max(16, 8 * values.dtype.itemsize)
        keys = _ordered(values)
        shift = self._bits - self._known - 16
        if self._ranks is None:
            self._ends = [min([values.min(), *self._ends[:1]]), max([values.max(), *self._ends[1:]])]
            self._counts[0] += np.bincount((keys >> shift).astype(np.int64), minlength=1 << 16)
            return
        for counts, prefix in zip(self._counts, self._prefixes, strict=True):
            near = keys[keys >> (shift + 16) == prefix]
            counts += np.bincount(((near >> shift) & 0xFFFF).astype(np.int64), minlength=1 << 16)

    def end_pass(self) -> None:
        """All pieces have been seen once."""
        if self._ranks is None:
            total = int(self._counts[0].sum())
            self._ranks = [max(0, int(np.ceil(share * total)) - 1) for share in (LOW, HIGH)]
        if not self._ends:
            return
        for k, counts in enumerate(self._counts):
            below = np.cumsum(counts)
            digit = int(np.searchsorted(below, self._ranks[k], side="right"))
            self._ranks[k] -= int(below[digit - 1]) if digit else 0
            self._prefixes[k] = self._prefixes[k] << 16 | digit
        self._counts = [np.zeros(1 << 16, np.int64) for _ in range(2)]
        self._known += 16

    def tone(self) -> Tone:
        """The stretch; call it when no more passes are wanted."""
        if not self._ends:
            return Tone(0.0, 0.0)
        low, high = (_value(prefix, self._dtype) for prefix in self._prefixes)
        return Tone(low, high) if high > low else Tone(float(self._ends[0]), float(self._ends[1]))


def _ordered(values: npt.NDArray[Any]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Unsigned numbers of the same width and in the same order as the values (finite floats, integers)."""
    width = 8 * values.dtype.itemsize
    keys = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    if width == 8:
        keys = keys.astype(np.uint16)
    top = keys.dtype.type(1 << (width - 1))
    if values.dtype.kind == "i":
        keys = keys ^ top
    elif values.dtype.kind == "f":  # IEEE 754: sign and magnitude
        keys = np.where(keys & top, ~keys, keys | top)
    return keys


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """The inverse of `_ordered` for one key."""
    width = 8 * dtype.itemsize
    top = 1 << (width - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else key ^ ((1 << width) - 1)
    return float(np.array(key, f"u{dtype.itemsize}").view(dtype).item())


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
