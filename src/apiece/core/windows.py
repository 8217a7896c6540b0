"""Windows: pictures of any size, read a rectangle at a time."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from apiece.core.image import DEFAULT_LIMITS, ImageLimits, image_size, read_image
from apiece.errors import ImageError

Rgb = NDArray[np.uint8]
CACHE_BYTES = 256 * 2**20  # a row of 1024-pixel tiles of a picture 80,000 pixels wide
HEADER_BYTES = 1 << 16
TIFF_STARTS = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")


class Windows(ABC):
    """A picture, upright, of which any window can be read. A context manager; close it after use.

    name     what messages call it.
    size     (height, width), upright.
    microns  width of a pixel in µm where the file states it, else None.
    digest   tells one state of the file from another at the cost of its first bytes: hex SHA-256 of its size,
             time of change, header and page. To resume work, not to prove content.
    limits   a window, a tile or strip of the file, and a picture that can be decoded only as a whole, may each
             have `max_pixels`; the whole picture has no limit otherwise. `max_bytes` holds for one tile or
             strip as packed, and for pictures that are decoded as a whole.

    One thread reads at a time; others wait.
    """

    def __init__(
        self, name: str, size: tuple[int, int], microns: float | None, digest: str, limits: ImageLimits
    ) -> None:
        self.name, self.size, self.microns, self.digest, self.limits = name, size, microns, digest, limits
        self._lock = threading.RLock()

    def read(self, x: int, y: int, width: int, height: int) -> Rgb:
        """The window with its top-left pixel at (x, y), uint8 (height, width, 3), RGB, C-contiguous, writeable.

        It equals `read_image(path)[y : y + height, x : x + width]`, exactly, with the tone of the whole picture:
        values of more than 8 bits are counted throughout the picture at the first call.
        raises  ImageError if the window doesn't lie inside the picture, has no or too many pixels, or where the
                file is damaged there.
        """
        inside = x >= 0 and y >= 0 and x + width <= self.size[1] and y + height <= self.size[0]
        if not inside or width < 1 or height < 1:
            raise ImageError(
                f"{self.name}: the window x {x} to {x + width}, y {y} to {y + height} doesn't lie inside the "
                f"picture of {self.size[0]} x {self.size[1]} (height x width)."
            )
        check_pixels(f"{self.name}: the window", height, width, 1, self.limits)
        with self._lock:
            return np.array(self._read(x, y, width, height), np.uint8, order="C")

    @abstractmethod
    def _read(self, x: int, y: int, width: int, height: int) -> Rgb:
        """The window, which lies inside; may be a view."""

    def close(self) -> None:  # noqa: B027 - nothing to close is an ordinary case
        """Give up what is open. Nothing can be read afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_windows(
    path: str | os.PathLike[str], *, page: int | None = None, limits: ImageLimits | None = None
) -> Windows:
    """Open a picture of any size.

    TIFF   of any size and packing: only what the window touches is read and decoded. Pyramids give their full
           level. What can't be taken apart (JPEG of the old style, YCbCr without JPEG, CIELAB, NDPI) is decoded
           whole, within `limits`.
    Zarr   a local folder: an array, or OME-Zarr (level 0); needs `pip install 'apiece[cells]'`.
    other  PNG, JPEG, WebP and BMP are decoded whole at the first read, within `limits`, and kept.

    page    as in `read_image`.
    raises  ImageError as `read_image` and `image_size` do.
    """
    path, limits = Path(path), limits or DEFAULT_LIMITS
    from apiece.core.windows_zarr import ZarrWindows, is_zarr

    if is_zarr(path):
        return ZarrWindows(path, page, limits)
    size = image_size(path, page=page)  # says what is wrong with the path, too
    with path.open("rb") as file:
        start = file.read(4)
    if start in TIFF_STARTS:
        from apiece.core.windows_tiff import TiffWindows

        return TiffWindows(path, page, limits)
    return WholePicture(path, size, page, limits)


class WholePicture(Windows):
    """A picture that can be decoded only as a whole: at the first read, within the limits; then it is kept."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        page: int | None,
        limits: ImageLimits,
        microns: float | None = None,
    ) -> None:
        super().__init__(str(path), size, microns, file_digest(path, page), limits)
        self._path, self._page = path, page
        self._rgb: Rgb | None = None

    def _read(self, x: int, y: int, width: int, height: int) -> Rgb:
        if self._rgb is None:
            self._rgb = read_image(self._path, limits=self.limits, page=self._page)
        return self._rgb[y : y + height, x : x + width]

    def close(self) -> None:
        """Let the decoded picture go."""
        self._rgb = None


class Recent:
    """The blocks of a picture that were decoded last, as many as fit in `limit` bytes and at least one."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.nbytes = 0
        self._blocks: OrderedDict[Hashable, Rgb] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Rgb]) -> Rgb:
        """The block of this key, made where it isn't at hand."""
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        block = make()
        self._blocks[key] = block
        self.nbytes += block.nbytes
        while self.nbytes > self.limit and len(self._blocks) > 1:
            self.nbytes -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self.nbytes = 0


def check_pixels(what: str, height: int, width: int, channels: int, limits: ImageLimits) -> None:
    """raises ImageError where a part of a picture has more pixels than the limits let a picture have."""
    if height * width * max(4, channels) > 4 * limits.max_pixels:
        samples = f" of {channels} channels" if channels > 4 else ""
        raise ImageError(
            f"{what} has {height:,} x {width:,} = {height * width:,} pixels{samples}; the limit is "
            f"{limits.max_pixels:,} and nothing was decoded. Remedy: raise the limit with --max-pixels "
            "(ImageLimits.max_pixels) if you trust the file."
        )


def file_digest(path: Path, page: int | None) -> str:
    """The `digest` of one file.

    raises  ImageError if it can't be read.
    """
    try:
        status = path.stat()
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error
    about = f"{status.st_size} {status.st_mtime_ns} {page or 0} "
    return hashlib.sha256(about.encode() + header).hexdigest()
