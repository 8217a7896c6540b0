"""TIFF: what a microscope's file holds, found from its header before anything is decoded."""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from apiece.core import orientation
from apiece.core.samples import MINISBLACK, MINISWHITE, RGB, Samples
from apiece.errors import ImageError

PALETTE, CMYK, YCBCR, CIELAB = 3, 5, 6, 8
UNCOMPRESSED, DEFLATE = (1,), (8, 32946)
# Packings that Pillow's and OpenCV's libtiff undo; those that the former lists but its wheels lack are left out.
PILLOW_UNPACKS = frozenset(TiffImagePlugin.COMPRESSION_INFO) - {50001}
OPENCV_UNPACKS = (5, 7, 32773)
PILLOW_READS = (np.bool_, np.uint8, np.uint16, np.int16, np.int32, np.float32)
OPENCV_READS = (np.uint8, np.uint16, np.float32, np.float64)
# An array of shape (H, W, C) that was written as H pages of W × C: no picture is that narrow.
NARROWEST_PAGE = 16
MOST_CHANNELS = 512
COPY_AGAIN = "Remedy: copy or export the file again."

# tifffile's TiffPage and TiffPageSeries; it is imported late, and its types change between versions.
Page: TypeAlias = Any
Series: TypeAlias = Any


@dataclass(frozen=True)
class Plane:
    """One picture inside a TIFF file: its header, and how to decode it.

    size         (height, width) as stored, before orientation.
    channels     samples of each pixel.
    dtype        type of a sample.
    packing      TIFF's tag 259: how samples are compressed.
    photometric  TIFF's tag 262: how samples mean colour.
    extras       TIFF's tag 338 for the samples beyond colour: 0 unspecified, 1 and 2 alpha.
    orientation  TIFF's tag 274, 1 to 8.
    ifd          the one directory of the main chain that holds this plane whole, or None.
    decode       gives the samples as (H, W, C).
    stack        the series that the plane belongs to, and the `numbers` of its pages there.
    """

    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    packing: int
    photometric: int
    extras: tuple[int, ...]
    orientation: int
    ifd: int | None
    decode: Callable[[], npt.NDArray[Any]] = field(repr=False)
    stack: Stack = field(repr=False)
    numbers: tuple[int, ...]

    @property
    def samples(self) -> Samples:
        """What the decoded numbers mean."""
        return Samples(self.channels, self.photometric, self.extras)

    @property
    def is_ordinary(self) -> bool:
        """8-bit or 1-bit grey, colour, palette or CMYK in one directory: Pillow knows its colour rules."""
        unknown = self.packing not in PILLOW_UNPACKS or not self.stack.pillow_opens
        if unknown and self.photometric in (MINISWHITE, MINISBLACK, RGB):
            return False  # JPEG 2000 and others, which tifffile decodes with the package imagecodecs
        if self.ifd is None or self.dtype not in (np.uint8, np.bool_):
            return self.photometric in (CMYK, YCBCR, CIELAB) and self.ifd is not None
        if self.photometric in (MINISWHITE, MINISBLACK, PALETTE):
            return self.channels == 1
        return self.photometric in (RGB, CMYK, YCBCR, CIELAB) and self.channels <= 4

    def to_rgb(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Decoded samples (H, W, C) as uint8 (H, W, 3) by the rules that `read_image` documents."""
        return self.samples.to_rgb(values)


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
        return _choose([Stack(one, file, name) for one in series], name, page)
    except ImageError:
        raise
    except Exception as error:  # damaged headers surface as anything from struct.error to RecursionError
        raise ImageError(
            f"{name}: the TIFF header is damaged or cut off ({_brief(error)}); expected a whole TIFF file. "
            f"{COPY_AGAIN}"
        ) from error


def _choose(stacks: list[Stack], name: str, page: int | None) -> Plane:
    total = sum(stack.planes for stack in stacks)
    if not total:
        raise ImageError(f"{name}: this TIFF file holds no picture; expected at least one page.")
    if page is None and total > 1:
        raise ImageError(
            f"{name}: holds {total} pages ({stacks[0].describe()}); expected one picture. "
            f"Remedy: choose one with page=0 to page={total - 1}, or split the stack into files."
        )
    wanted = page or 0
    if not 0 <= wanted < total:
        raise ImageError(f"{name}: has no page {wanted}; it holds {total}, counted from 0.")
    ends = np.cumsum([stack.planes for stack in stacks])
    chosen = int(np.searchsorted(ends, wanted, side="right"))
    return stacks[chosen].plane(wanted - int(ends[chosen]) + stacks[chosen].planes)


class Stack:
    """A series of equal pages, sorted into planes (each one picture) and the channels of a plane."""

    def __init__(self, series: Series, file: BinaryIO, name: str) -> None:
        self.series, self.file, self.name = series, file, name
        self.key = series.keyframe
        self.shape, self.axes = tuple(int(n) for n in series.shape), str(series.axes)
        self.page_shape, self.page_axes = tuple(int(n) for n in self.key.shape), str(self.key.axes)
        if min(*self.shape, *self.page_shape) < 1:
            raise ImageError(
                f"{name}: a page of this TIFF has shape {self.shape}; expected sides of ≥ 1 pixel."
            )
        if set(self.page_axes) - {"Y", "X", "S", "C"}:
            raise ImageError(
                f"{name}: one page is a volume ({self.page_axes} = {self.page_shape}); expected a flat picture. "
                "Remedy: save its planes as separate pages or files."
            )
        # What stands before a page's own axes counts pages. Formats differ in how they name that part.
        pages = math.prod(self.shape) // math.prod(self.page_shape)
        prefixes = [k for k in range(len(self.shape) + 1) if math.prod(self.shape[:k]) == pages]
        self.lead_shape: tuple[int, ...] = (pages,)
        self.lead_axes = "I"
        if prefixes:
            self.lead_shape, self.lead_axes = self.shape[: prefixes[0]], self.axes[: prefixes[0]]
        self.channels_last = (
            series.kind == "shaped"
            and self.page_axes == "YX"
            and len(self.shape) == 3
            and "C" not in self.lead_axes
            and self.shape[2] <= NARROWEST_PAGE < min(self.shape[:2])
        )

    @property
    def planes(self) -> int:
        """How many pictures the series holds; the channels of one picture count once."""
        if self.channels_last:
            return 1
        return math.prod(
            n for n, axis in zip(self.lead_shape, self.lead_axes, strict=True) if axis not in "CS"
        )

    @property
    def pillow_opens(self) -> bool:
        """Whether Pillow opens this file: BigTIFF of the Motorola byte order it doesn't."""
        parent = self.series.parent
        return not (parent.is_bigtiff and parent.byteorder == ">")

    def page(self, number: int) -> Page:
        """tifffile's view of one page with all its tags; None if it lies in another file."""
        page = self.series[number]
        return page.aspage() if page is not None and page.is_frame and not page.is_virtual else page

    def describe(self) -> str:
        """The shape in words, for messages."""
        return f"axes {self.axes} = {' x '.join(map(str, self.shape))}"

    def plane(self, index: int) -> Plane:
        """The plane `index`, from the header alone."""
        pages = np.arange(math.prod(self.lead_shape)).reshape(self.lead_shape)
        if self.channels_last:
            height, width, channels = self.shape
        else:
            sides = dict(zip(self.page_axes, self.page_shape, strict=True))
            height, width = sides["Y"], sides["X"]
            outer = [k for k, axis in enumerate(self.lead_axes) if axis not in "CS"]
            inner = [k for k, axis in enumerate(self.lead_axes) if axis in "CS"]
            pages = pages.transpose(outer + inner).reshape(self.planes, -1)[index]
            channels = pages.size * math.prod(n for axis, n in sides.items() if axis in "CS")
        if channels > MOST_CHANNELS:
            raise ImageError(
                f"{self.name}: has {channels} channels ({self.describe()}); expected at most {MOST_CHANNELS}. "
                "Remedy: save the channels to be segmented as a file of their own."
            )
        numbers = [int(number) for number in pages.reshape(-1)]
        self._check(numbers)
        return Plane(
            size=(height, width),
            channels=channels,
            dtype=np.dtype(self.series.dtype),
            packing=int(self.key.compression),
            photometric=int(self.key.photometric),
            extras=tuple(int(extra) for extra in self.key.extrasamples),
            orientation=self._orientation(),
            ifd=self._ifd(numbers[0]) if len(numbers) == 1 else None,
            decode=lambda: self._decode(numbers),
            stack=self,
            numbers=tuple(numbers),
        )

    def _orientation(self) -> int:
        value = self.key.tags.valueof(orientation.TAG, default=1)
        return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1

    def _ifd(self, number: int) -> int | None:
        if number and self.series.is_truncated:  # one directory stands for all pages
            return None
        page = self.series[number]
        return page.index if page is not None and isinstance(page.index, int) else None

    def _decode(self, numbers: list[int]) -> npt.NDArray[Any]:
        """The pages as one array (H, W, C)."""
        try:
            parts = [self._page(number) for number in numbers]
        except ImageError:
            raise
        except Exception as error:  # each decoder has its own set of errors
            if "imagecodecs" in str(error):
                raise ImageError(
                    f"{self.name}: cannot decode {self.key.dtype} samples, {self.describe()}, of TIFF compression "
                    f"{getattr(self.key.compression, 'name', self.key.compression)}. Remedy: save it without "
                    "compression or with deflate, or `pip install imagecodecs`."
                ) from error
            raise ImageError(
                f"{self.name}: the TIFF data is damaged ({_brief(error)}). {COPY_AGAIN}"
            ) from error
        if self.channels_last:
            return np.stack(parts)
        order = [self.page_axes.index(axis) for axis in "YX"]
        order += [k for k in range(len(self.page_axes)) if k not in order]
        parts = [part.transpose(order) for part in parts]
        height, width = parts[0].shape[:2]
        return np.concatenate([part.reshape(height, width, -1) for part in parts], axis=2)

    def _page(self, number: int) -> npt.NDArray[Any]:
        """One page as stored, of shape `page_shape`."""
        if self.series.dataoffset is not None:  # plain samples, page after page, maybe one directory for all
            dtype = np.dtype(self.series.dtype).newbyteorder(self.series.parent.byteorder)
            size = math.prod(self.page_shape) * dtype.itemsize
            self.file.seek(int(self.series.dataoffset) + number * size)
            stored = np.frombuffer(self.file.read(size), dtype).reshape(self.page_shape)
            return stored.astype(dtype.newbyteorder("="), copy=False)
        page = self.series[number]
        self._check_unpacked(page)
        return self._decoder(page)(page).reshape(self.page_shape)

    def _decoder(self, page: Page) -> Callable[[Page], npt.NDArray[Any]]:
        """Without the package imagecodecs, tifffile knows few packings; Pillow and OpenCV know few sample types."""
        plain = self.key.bitspersample in (1, 8, 16, 32, 64) and int(self.key.predictor) in (1, 2)
        if (int(self.key.compression) in UNCOMPRESSED + DEFLATE and plain) or not isinstance(page.index, int):
            return _by_tifffile
        packing, samples = int(self.key.compression), self.key.samplesperpixel
        if not self.pillow_opens:
            return _by_tifffile
        # Pillow swaps the bytes of packed samples of the Motorola order that libtiff has swapped already.
        ordered = self.series.parent.byteorder == "<" or self.series.dtype.itemsize == 1
        if packing in PILLOW_UNPACKS and ordered and samples == 1 and self.series.dtype in PILLOW_READS:
            return self._by_pillow
        side_by_side = samples == 1 or int(self.key.planarconfig) == 1  # OpenCV mixes up planes
        known = samples == 1 or (samples in (3, 4) and int(self.key.photometric) == RGB)
        known = known and self.series.dtype in OPENCV_READS
        if packing in OPENCV_UNPACKS and known and side_by_side:
            return self._by_opencv
        return _by_tifffile

    def _check(self, numbers: list[int]) -> None:
        """Refuse pages whose data isn't in the file."""
        end = self.file.seek(0, io.SEEK_END)
        if self.series.dataoffset is not None:
            size = math.prod(self.page_shape) * int(self.series.dtype.itemsize)
            needed = int(self.series.dataoffset) + (max(numbers) + 1) * size
        else:
            needed = max(self._check_segments(self.series[number], number) for number in numbers)
        if needed > end:
            raise ImageError(
                f"{self.name}: is truncated: its header promises data up to byte {needed}, the file ends at "
                f"byte {end}. {COPY_AGAIN}"
            )

    def _check_segments(self, page: Page | None, number: int) -> int:
        """The file position at which a page's strips or tiles end."""
        if page is None:
            raise ImageError(
                f"{self.name}: page {number} lies in another file of a multi-file OME-TIFF. "
                "Remedy: save the picture as one file."
            )
        if not page.dataoffsets or 0 in page.dataoffsets or 0 in page.databytecounts:
            raise ImageError(
                f"{self.name}: page {number} has no data for a part of the picture. {COPY_AGAIN}"
            )
        if math.prod(page.chunks) > 4 * math.prod(self.page_shape) + (1 << 24):
            raise ImageError(
                f"{self.name}: the TIFF header is damaged: tiles of {page.chunks} in a page of "
                f"{self.page_shape}. {COPY_AGAIN}"
            )
        return int(max(a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)))

    def _check_unpacked(self, page: Page) -> None:
        """Refuse strips that would unpack to more than the picture, so that memory stays bounded."""
        if int(self.key.compression) not in DEFLATE:
            return
        limit = math.prod(page.chunks) * int(self.series.dtype.itemsize)
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            self.file.seek(offset)
            packed, unpacker, size = self.file.read(count), zlib.decompressobj(), 0
            try:
                while packed and size <= limit:
                    size += len(unpacker.decompress(packed, 1 << 20))
                    packed = unpacker.unconsumed_tail
            except zlib.error as error:
                raise ImageError(f"{self.name}: the TIFF data is damaged ({error}). {COPY_AGAIN}") from error
            if size > limit:
                raise ImageError(
                    f"{self.name}: the TIFF data is damaged: a strip unpacks to more than its {limit} bytes. "
                    f"{COPY_AGAIN}"
                )

    def _by_pillow(self, page: Page) -> npt.NDArray[Any]:
        with orientation.unguarded():
            self.file.seek(0)
            # Left open: the file is the caller's. Without a name: Pillow would open the file of that name.
            picture = TiffImagePlugin.TiffImageFile(self.file)
            picture.seek(page.index)
            values = np.array(picture)
        if self.key.photometric == MINISWHITE and values.dtype in (np.uint8, np.bool_):
            values = ~values  # Pillow has turned it round; here samples are given as stored
        return self._as_stored(values)

    def _by_opencv(self, page: Page) -> npt.NDArray[Any]:
        self.file.seek(0)
        data = np.frombuffer(self.file.read(), np.uint8)
        _, found = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page.index, page.index + 1))
        values: npt.NDArray[Any] = found[0]
        if values.ndim == 3:
            values = values[..., [2, 1, 0, 3][: values.shape[2]]]
        return self._as_stored(values)

    def _as_stored(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Undo the orientation, which Pillow and OpenCV have applied."""
        if values.dtype != self.series.dtype and values.dtype != np.int32:  # Pillow widens small integers
            raise ValueError(f"{values.dtype} samples where {self.series.dtype} was expected")
        turned = orientation.INVERSE.get(self._orientation(), self._orientation())
        return orientation.orient(values, turned).astype(self.series.dtype, copy=False)


def _by_tifffile(page: Page) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = page.asarray()
    return values


def _brief(error: BaseException) -> str:
    """One line of an exception from elsewhere."""
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
