"""Samples: what the decoded numbers of a picture mean as colour, for whole pictures and for parts of one alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.tone import Tally, Tone, as_rgb, over_white, to_eight_bits

MINISWHITE, MINISBLACK, RGB = 0, 1, 2  # of TIFF's tag 262


@dataclass(frozen=True)
class Samples:
    """How samples (H, W, C) of any real type become uint8 RGB, by the rules that `read_image` documents.

    channels     C.
    photometric  TIFF's tag 262: MINISWHITE, RGB; anything else is channels without colour.
    extras       TIFF's tag 338 for the samples beyond colour: 0 unspecified, 1 and 2 alpha.
    """

    channels: int
    photometric: int = MINISBLACK
    extras: tuple[int, ...] = ()

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is opacity."""
        colours = 3 if self.photometric == RGB else 1
        return self.channels == colours + 1 and self.extras[:1] in ((1,), (2,))

    @property
    def groups(self) -> list[slice]:
        """The channels that share a stretch, group by group."""
        if self.photometric == RGB and self.channels in (3, 4):
            return [slice(0, 3)]
        if self.channels == 1 or self.has_alpha:
            return [slice(0, 1)]
        return [slice(k, k + 1) for k in range(self.channels)]

    def to_rgb(self, values: npt.NDArray[Any], tones: Sequence[Tone] | None = None) -> npt.NDArray[np.uint8]:
        """Decoded samples (H, W, C) as uint8 (H, W, 3).

        tones  one for each of `groups`, where `values` is a part of the picture; else they are its own.
        """
        values = self._colours(values)
        shared: Sequence[Tone | None] = tones if tones is not None else [None] * len(self.groups)
        parts = [to_eight_bits(values[..., k], tone) for k, tone in zip(self.groups, shared, strict=True)]
        if len(parts) == 1:
            rgb = parts[0] if parts[0].shape[2] == 3 else as_rgb(parts[0][..., 0])
        elif len(parts) == 3:
            rgb = np.concatenate(parts, axis=2)
        else:
            best = parts[0]
            for part in parts[1:]:
                best = np.maximum(best, part)
            rgb = as_rgb(best[..., 0])
        return over_white(rgb, _opacity(values[..., -1])) if self.has_alpha else rgb

    def needs_tones(self, dtype: np.dtype[Any]) -> bool:
        """Whether samples of this type are stretched; 8-bit ones aren't."""
        multiplied = self.has_alpha and self.extras[0] == 1
        return multiplied or dtype not in (np.uint8, np.bool_)

    def tones(self, pieces: Callable[[], Iterable[npt.NDArray[Any]]]) -> list[Tone]:
        """The stretch of every group, from the pieces (h, w, C) of a picture, exactly as of the whole picture.

        pieces  gives all of them anew at each call: once for 16 bits, twice for 32, four times for 64.
        """
        tallies = [Tally() for _ in self.groups]
        while any(tally.wants_more for tally in tallies):
            for piece in pieces():
                values = self._colours(piece)
                for tally, k in zip(tallies, self.groups, strict=True):
                    if tally.wants_more:
                        tally.add(values[..., k])
            for tally in tallies:
                if tally.wants_more:
                    tally.end_pass()
        return [tally.tone() for tally in tallies]

    def _colours(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bright is high, and colours aren't multiplied by their opacity."""
        if self.photometric == MINISWHITE:
            values = ~values if values.dtype.kind in "biu" else -values
        if self.has_alpha and self.extras[0] == 1:
            share = np.maximum(_opacity(values[..., -1:]), 1) / 255.0
            values = np.concatenate([values[..., :-1] / share, values[..., -1:]], axis=2)
        return values


def _opacity(alpha: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An alpha channel as 0 to 255: the whole range of an integer type, 0 to 1 of a float."""
    if alpha.dtype == np.uint8:
        return alpha
    top = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "iu" else 1.0
    return (np.clip(np.nan_to_num(alpha.astype(np.float64) / top), 0, 1) * 255 + 0.5).astype(np.uint8)
