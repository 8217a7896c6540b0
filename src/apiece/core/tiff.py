"""TIFF: what a microscope's file holds, found from its header before anything is decoded."""

from __future__ import annotations

import io
import logging
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.tone import as_rgb, over_white, project, to_eight_bits
from apiece.errors import ImageError

MINISWHITE, MINISBLACK, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
UNCOMPRESSED, DEFLATE = (1,), (8, 32946)
# An array of shape (H, W, C) that was written as H pages of W × C: no picture is that narrow.
NARROWEST_PAGE = 16


@dataclass(frozen=True)
class Plane:
    """One picture inside a TIFF file: its header, and how to decode it.

    size         (height, width) as stored, before orientation.
    channels     samples of each pixel.
    dtype        type of a sample.
    photometric  TIFF's tag 262: how samples mean colour.
    extras       TIFF's tag 338 for the samples beyond colour: 0 unspecified, 1 and 2 alpha.
    orientation  TIFF's tag 274, 1 to 8.
    ifd          the one directory of the main chain that holds this plane whole, or None.
    """

    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    photometric: int
    extras: tuple[int, ...]
    orientation: int
    ifd: int | None
    decode: Callable[[], npt.NDArray[Any]] = field(repr=False)

    @property
    def is_ordinary(self) -> bool:
        """8-bit or 1-bit grey, colour, palette or CMYK in one directory: Pillow knows its colour rules."""
        if self.ifd is None or self.dtype not in (np.uint8, np.bool_):
            return self.photometric in (CMYK, YCBCR, CIELAB) and self.ifd is not None
        if self.photometric in (MINISWHITE, MINISBLACK, PALETTE):
            return self.channels == 1
        return self.photometric in (RGB, CMYK, YCBCR, CIELAB) and self.channels <= 4

    def to_rgb(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Decoded samples (H, W, C) as uint8 (H, W, 3) by the rules that `read_image` documents."""
        if self.photometric == MINISWHITE:
            top = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 0
            values = ~values if values.dtype == np.bool_ else top - values
        colours = 3 if self.photometric == RGB else 1
        has_alpha = self.channels == colours + 1 and self.extras[:1] in ((1,), (2,))
        if self.photometric == RGB and self.channels in (3, 4):
            rgb = to_eight_bits(np.ascontiguousarray(values[..., :3]))
        elif self.channels == 1 or has_alpha:
            rgb = as_rgb(to_eight_bits(values[..., 0]))
        elif self.channels == 3:
            rgb = np.stack([to_eight_bits(values[..., k]) for k in range(3)], axis=2)
        else:
            rgb = as_rgb(project(values))
        return over_white(rgb, _opacity(values[..., -1])) if has_alpha else rgb


def open_plane(file: BinaryIO, name: str, page: int | None) -> Plane:
    """The plane of a TIFF file that `page` names, from the header alone.

    file     open for reading; must stay open until the plane is decoded.
    page     index among the file's planes in stored order; None demands that there be just one.
    raises   ImageError if the header is damaged, the file holds several planes and `page` is None, or the
             plane's data lies beyond the end of the file.
    """
    # tifffile is imported late: it is wanted by TIFF files alone and takes a tenth of a second.
    import tifffile

    log = logging.getLogger("tifffile")
    if not any(isinstance(handler, logging.NullHandler) for handler in log.handlers):
        log.addHandler(logging.NullHandler())  # else Python's last resort prints its warnings to stderr
    file.seek(0)
    try:
        # _multifile=False: an OME header names other files; what was given is read, nothing else.
        tiff = tifffile.TiffFile(file, _multifile=False)
        series = [one for one in tiff.series if not one.keyframe.is_reduced] or list(tiff.series)
    except Exception as error:  # damaged headers surface as anything from struct.error to RecursionError
        raise ImageError(
            f"{name}: the TIFF header is damaged or cut off ({_brief(error)}); "
            "expected a whole TIFF file. Remedy: copy or export the file again."
        ) from error
    if not series:
        raise ImageError(f"{name}: this TIFF file holds no picture; expected at least one page.")
    stacks = [_Stack(one, file, name) for one in series]
    total = sum(stack.planes for stack in stacks)
    if page is None and total > 1:
        raise ImageError(
            f"{name}: holds {total} pages ({stacks[0].describe()}); expected one picture. "
            f"Remedy: choose one with page=0 to page={total - 1}, or split the stack into files."
        )
    wanted = page or 0
    if not 0 <= wanted < total:
        raise ImageError(f"{name}: has no page {wanted}; it holds {total}, counted from 0.")
    for stack in stacks:
        if wanted < stack.planes:
            return stack.plane(wanted)
        wanted -= stack.planes
    raise AssertionError("unreachable: wanted < total")


class _Stack:
    """A series of equal pages, sorted into planes (each one picture) and the channels of a plane."""

    def __init__(self, series: Any, file: BinaryIO, name: str) -> None:
        self.series, self.file, self.name = series, file, name
        self.key = series.keyframe
        self.shape, self.axes = tuple(int(n) for n in series.shape), str(series.axes)
        if min(self.shape, default=0) < 1:
            raise ImageError(f"{name}: a page of this TIFF has the shape {self.shape}; expected sides ≥ 1 pixel.")
        inner = len(str(self.key.axes))
        self.channels_last = (
            series.kind == "shaped"
            and len(self.shape) == 3
            and not set(self.axes) & {"C", "S"}
            and self.shape[2] <= NARROWEST_PAGE < min(self.shape[:2])
        )
        lead = len(self.shape) - inner
        if "".join(self.axes[lead:]) != str(self.key.axes) or self.shape[lead:] != tuple(self.key.shape):
            raise ImageError(
                f"{name}: pages of shape {tuple(self.key.shape)} ({self.key.axes}) make a series of shape "
                f"{self.shape} ({self.axes}), which cannot be taken apart. Remedy: save the plane as its own file."
            )
        self.lead_shape, self.lead_axes = self.shape[:lead], self.axes[:lead]
        self.inner_axes = self.axes[lead:]
        if set(self.inner_axes) - {"Y", "X", "S", "C"}:
            raise ImageError(
                f"{name}: one page is a volume ({self.inner_axes} = {self.shape[lead:]}); expected a flat picture."
            )

    @property
    def planes(self) -> int:
        """How many pictures the series holds; the channels of one picture count once."""
        if self.channels_last:
            return 1
        return math.prod(n for n, axis in zip(self.lead_shape, self.lead_axes, strict=True) if axis not in "CS")

    def describe(self) -> str:
        sides = dict(zip(self.axes, self.shape, strict=True))
        return f"{sides['Y']} x {sides['X']} pixels, axes {self.axes} = {' x '.join(map(str, self.shape))}"

    def plane(self, index: int) -> Plane:
        """The plane `index`, checked to lie within the file."""
        pages = np.arange(math.prod(self.lead_shape)).reshape(self.lead_shape)
        if self.channels_last:
            height, width, channels = self.shape
        else:
            sides = dict(zip(self.inner_axes, self.shape[len(self.lead_shape) :], strict=True))
            height, width = sides["Y"], sides["X"]
            outer = [k for k, axis in enumerate(self.lead_axes) if axis not in "CS"]
            rest = [k for k, axis in enumerate(self.lead_axes) if axis in "CS"]
            pages = pages.transpose(outer + rest).reshape(self.planes, -1)[index]
            channels = pages.size * math.prod(n for axis, n in sides.items() if axis in "CS")
        numbers = [int(number) for number in pages.reshape(-1)]
        tags = self.key.tags
        first = None
        if len(numbers) == 1 and self.series.dataoffset is None or len(self.series) == 1:
            page = self.series[numbers[0]]
            first = page.index if page is not None and isinstance(page.index, int) else None
        orientation = int(tags.valueof(274, default=1)) if isinstance(tags.valueof(274, default=1), int) else 1
        return Plane(
            size=(height, width),
            channels=channels,
            dtype=np.dtype(self.series.dtype),
            photometric=int(self.key.photometric),
            extras=tuple(int(extra) for extra in self.key.extrasamples),
            orientation=orientation,
            ifd=first,
            decode=lambda: self._decode(numbers, channels),
        )
