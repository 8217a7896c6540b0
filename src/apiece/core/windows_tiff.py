"""Windows of TIFF files: a window's rows where samples lie plain, else the tiles or strips that meet it.

A tile or strip is decoded as what it nearly is: a TIFF file of its own, put together in memory from the tags that
its decoding depends on and its packed bytes. So it passes through the very code that reads whole pictures, and
every packing and colour that those know is read alike.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from apiece.core import tiff
from apiece.core.image import ImageLimits, decode_image
from apiece.core.orientation import SIDEWAYS, orient
from apiece.core.pixel_width import tiff_microns
from apiece.core.tone import Tone
from apiece.core.windows import Recent, Rgb, WholePicture, Windows, check_pixels, file_digest
from apiece.errors import ImageError

Samples: TypeAlias = npt.NDArray[Any]
Page: TypeAlias = Any
# Tags on which the decoding of a tile depends: sample layout, packing, colour. Never the orientation.
COPIED = (258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 332, 338, 339, 340, 341, 529, 530, 531, 532)
BITS, PACKING, PREDICTOR, JPEG_TABLES = 258, 259, 317, 347
OLD_JPEG, JPEG = 6, 7
LONGEST_TAG = 1 << 20  # bytes; a palette of 16 bits has 393,216
STRIPS_PIXELS = 1 << 18  # so many at least are decoded at once, as strips may be a row high
BAND_VALUES = 1 << 22  # plain samples read at once when their tone is looked for


class TiffWindows(Windows):
    """A plane of a TIFF file, read by windows; see `open_windows`."""

    def __init__(self, path: Path, page: int | None, limits: ImageLimits) -> None:
        self._file = path.open("rb")
        try:
            plane = tiff.open_plane(self._file, str(path), page)
            height, width = plane.size
            upright = (width, height) if plane.orientation in SIDEWAYS else (height, width)
            super().__init__(
                str(path), upright, tiff_microns(plane.stack, plane.size), file_digest(path, page), limits
            )
            self._plane = plane
            self._tones: list[Tone] | None = None
            self._recent = Recent()
            self._whole: WholePicture | None = None
            try:
                self._plain = _plain(plane)
                self._grid = None if self._plain else _grid(plane)
            except (TypeError, ValueError) as error:  # a tag of many values where one is expected
                raise ImageError(
                    f"{path}: the TIFF header is damaged ({error}). {tiff.COPY_AGAIN}"
                ) from error
            if self._plain is None and self._grid is None:
                self._whole = WholePicture(path, upright, page, limits)
            elif self._grid is not None:
                check_pixels(f"{path}: a tile or strip", *self._grid.whole_segment, plane.channels, limits)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._recent.clear()
        if self._whole is not None:
            self._whole.close()

    def _read(self, x: int, y: int, width: int, height: int) -> Rgb:
        if self._whole is not None:
            return self._whole.read(x, y, width, height)
        if self._file.closed:
            raise ImageError(f"{self.name}: has been closed.")
        orientation = self._plane.orientation
        stored = stored_window((x, y, width, height), self._plane.size, orientation)
        return np.asarray(orient(self._stored(*stored), orientation), np.uint8)

    def _stored(self, x: int, y: int, width: int, height: int) -> Rgb:
        if self._plain is not None:
            if self._plane.is_ordinary:
                return self._plain_picture(x, y, width, height)
            return self._to_rgb(self._plain.samples(self._file, self.name, x, y, width, height))
        assert self._grid is not None
        out = np.empty((height, width, 3), np.uint8)
        rows, columns = self._grid.block
        for row in range(y // rows, (y + height - 1) // rows + 1):
            for column in range(x // columns, (x + width - 1) // columns + 1):
                block = self._recent.get((row, column), self._maker(row, column))
                top, left = row * rows, column * columns
                y0, y1 = max(y, top), min(y + height, top + block.shape[0])
                x0, x1 = max(x, left), min(x + width, left + block.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _maker(self, row: int, column: int) -> Callable[[], Rgb]:
        return lambda: self._block(row, column)

    def _block(self, row: int, column: int) -> Rgb:
        assert self._grid is not None
        if self._plane.is_ordinary:
            (number,) = self._plane.numbers
            rgb = self._picture(self._miniature(number, row, column))
        else:
            rgb = self._to_rgb(self._block_samples(row, column))
        wanted = self._grid.block_size(row, column)
        if rgb.shape[:2] != wanted:
            raise ImageError(
                f"{self.name}: the TIFF data is damaged: a tile of {rgb.shape[:2]}, not {wanted}."
            )
        return rgb

    def _block_samples(self, row: int, column: int) -> Samples:
        parts = []
        for number in self._plane.numbers:
            file = io.BytesIO(self._miniature(number, row, column))
            parts.append(tiff.open_plane(file, self.name, None).decode())
        return np.concatenate(parts, axis=2)

    def _miniature(self, number: int, row: int, column: int) -> bytes:
        assert self._grid is not None
        page = self._plane.stack.page(number)
        height, width = self._grid.block_size(row, column)
        data = []
        for k in self._grid.segments(row, column):
            offset, count = int(page.dataoffsets[k]), int(page.databytecounts[k])
            if count > self.limits.max_bytes:
                raise ImageError(
                    f"{self.name}: a tile or strip has {count:,} packed bytes; the limit is "
                    f"{self.limits.max_bytes:,}. Remedy: raise ImageLimits.max_bytes if you trust the file."
                )
            self._file.seek(offset)
            data.append(self._file.read(count))
        return _little_tiff(page, self._file, (height, width), self._grid, data)

    def _plain_picture(self, x: int, y: int, width: int, height: int) -> Rgb:
        """The window of an ordinary picture's plain rows, as a TIFF file of its own."""
        assert self._plain is not None
        (number,) = self._plane.numbers
        left = x // 8 * 8 if self._plain.bits < 8 else x  # whole bytes
        right = min(self._plane.size[1], -(-(x + width) // 8) * 8) if self._plain.bits < 8 else x + width
        parts = self._plain.rows(self._file, self.name, number, left, y, right - left, height)
        page = self._plane.stack.page(number)
        made = _little_tiff(
            page, self._file, (height, right - left), None, [part.tobytes() for part in parts]
        )
        return self._picture(made)[:, x - left : x - left + width]

    def _picture(self, data: bytes) -> Rgb:
        # Not the file's own name: Pillow opens the file of the name that it is given, to map it.
        return decode_image(data, f"{self.name}: a part of it", limits=self.limits)

    def _to_rgb(self, values: Samples) -> Rgb:
        meaning = self._plane.samples
        if self._tones is None:
            self._tones = meaning.tones(self._pieces) if meaning.needs_tones(self._plane.dtype) else []
        return meaning.to_rgb(values, self._tones or None)

    def _pieces(self) -> Iterator[Samples]:
        """All samples of the plane, a band or block at a time."""
        height, width = self._plane.size
        if self._plain is not None:
            band = max(1, BAND_VALUES // (width * self._plane.channels))
            for top in range(0, height, band):
                yield self._plain.samples(self._file, self.name, 0, top, width, min(band, height - top))
            return
        assert self._grid is not None
        rows, columns = self._grid.block
        for row in range(-(-height // rows)):
            for column in range(-(-width // columns)):
                yield self._block_samples(row, column)


@dataclass(frozen=True)
class _Plain:
    """Samples that lie in the file as they are: pages of `outer` × height rows of `stride` bytes.

    bits     of a sample.
    inner    samples that stand side by side for one pixel.
    outer    planes of a page, one behind the other.
    offsets  file position of each page that makes up the picture, by its number.
    """

    dtype: np.dtype[Any]
    bits: int
    size: tuple[int, int]
    outer: int
    inner: int
    offsets: dict[int, int]

    @property
    def stride(self) -> int:
        return -(-self.size[1] * self.inner * self.bits // 8)

    def rows(
        self, file: BinaryIO, name: str, number: int, x: int, y: int, width: int, height: int
    ) -> list[npt.NDArray[np.uint8]]:
        """For each plane of page `number` the window's bytes (height, bytes); x and its end are whole bytes."""
        stride = self.stride
        left = x * self.inner * self.bits // 8
        count = -(-width * self.inner * self.bits // 8)
        found = []
        for plane in range(self.outer):
            begin = self.offsets[number] + (plane * self.size[0] + y) * stride
            if 2 * count > stride:  # most of each row: all rows in one read
                file.seek(begin)
                whole = _exactly(file, height * stride, name).reshape(height, stride)
                found.append(whole[:, left : left + count])
                continue
            part = np.empty((height, count), np.uint8)
            for row in range(height):
                file.seek(begin + row * stride + left)
                part[row] = _exactly(file, count, name)
            found.append(part)
        return found

    def samples(self, file: BinaryIO, name: str, x: int, y: int, width: int, height: int) -> Samples:
        """The window (height, width, C) of all pages, in this machine's byte order."""
        channels = []
        for number in self.offsets:
            for part in self.rows(file, name, number, x, y, width, height):
                values = np.ascontiguousarray(part).view(self.dtype).reshape(height, width, self.inner)
                channels.append(values.astype(self.dtype.newbyteorder("="), copy=False))
        return channels[0] if len(channels) == 1 else np.concatenate(channels, axis=2)


def _exactly(file: BinaryIO, count: int, name: str) -> npt.NDArray[np.uint8]:
    data = file.read(count)
    if len(data) != count:
        raise ImageError(f"{name}: is truncated: it became shorter while it was read. {tiff.COPY_AGAIN}")
    return np.frombuffer(data, np.uint8)


def _plain(plane: tiff.Plane) -> _Plain | None:
    """How to find plain samples; None where they are packed or scattered."""
    stack = plane.stack
    key, series = stack.key, stack.series
    dtype = np.dtype(plane.dtype).newbyteorder(series.parent.byteorder)
    bits = int(key.bitspersample) if isinstance(key.bitspersample, int) else 0
    if stack.channels_last:
        if series.dataoffset is None:
            return None
        return _Plain(dtype, 8 * dtype.itemsize, plane.size, 1, plane.channels, {0: int(series.dataoffset)})
    axes = stack.page_axes
    at = axes.find("YX")
    if at < 0:
        return None
    outer, inner = math.prod(stack.page_shape[:at]), math.prod(stack.page_shape[at + 2 :])
    if series.dataoffset is not None and not (plane.is_ordinary and bits != 8 * dtype.itemsize):
        size = math.prod(stack.page_shape) * dtype.itemsize
        offsets = {number: int(series.dataoffset) + number * size for number in plane.numbers}
        return _Plain(dtype, 8 * dtype.itemsize, plane.size, outer, inner, offsets)
    if plane.packing != 1 or int(key.predictor) != 1 or int(key.fillorder) != 1 or key.is_tiled:
        return None
    if (bits != 8 * dtype.itemsize and not (plane.is_ordinary and bits in (1, 2, 4))) or key.is_subsampled:
        return None
    made = _Plain(dtype, bits, plane.size, outer, inner, {})
    expected = made.stride * plane.size[0] * outer
    for number in plane.numbers:
        page = stack.page(number)
        begins, counts = list(page.dataoffsets), list(page.databytecounts)
        ends = [begin + count for begin, count in zip(begins, counts, strict=True)]
        if ends[:-1] != begins[1:] or sum(counts) != expected:
            return None
        made.offsets[number] = int(begins[0])
    return made


@dataclass(frozen=True)
class _Grid:
    """Tiles or strips of a page, and the blocks in which they are decoded: a tile, or some strips.

    segment  (height, width) of a tile or strip; `tiled` tells which.
    planes   how many of them make up the samples of a pixel.
    block    (height, width) of a block.
    """

    size: tuple[int, int]
    segment: tuple[int, int]
    tiled: bool
    planes: int
    block: tuple[int, int]

    @property
    def across(self) -> int:
        return -(-self.size[1] // self.segment[1])

    @property
    def down(self) -> int:
        return -(-self.size[0] // self.segment[0])

    @property
    def whole_segment(self) -> tuple[int, int]:
        """(height, width) that is decoded at once."""
        return max(self.segment[0], self.block[0]), self.segment[1]

    def block_size(self, row: int, column: int) -> tuple[int, int]:
        """(height, width) of what a block holds of the picture."""
        height = min(self.block[0], self.size[0] - row * self.block[0])
        return height, min(self.block[1], self.size[1] - column * self.block[1])

    def segments(self, row: int, column: int) -> list[int]:
        """The numbers of a block's tiles or strips, plane by plane."""
        if self.tiled:
            first = [row * self.across + column]
        else:
            each = self.block[0] // self.segment[0]
            first = list(range(row * each, min((row + 1) * each, self.down)))
        return [plane * self.across * self.down + k for plane in range(self.planes) for k in first]


def _grid(plane: tiff.Plane) -> _Grid | None:
    """How a plane's pages are cut; None where it can be decoded only as a whole."""
    stack, key = plane.stack, plane.stack.key
    packing, colour = plane.packing, plane.photometric
    if stack.channels_last or packing == OLD_JPEG or getattr(key, "jpegheader", None) is not None:
        return None
    if colour == tiff.CIELAB or (colour == tiff.YCBCR and packing != JPEG):
        return None
    if colour in (tiff.CMYK, tiff.YCBCR) and plane.dtype != np.uint8:
        return None
    height, width = plane.size
    if key.is_tiled:
        segment = (int(key.tilelength), int(key.tilewidth))
        block = segment
    else:
        segment = (min(int(key.rowsperstrip), height), width)
        each = max(1, STRIPS_PIXELS // max(1, segment[0] * width))
        block = (segment[0] * each, width)
    if min(segment) < 1:
        return None
    planes = int(key.samplesperpixel) if int(key.planarconfig) == 2 else 1
    grid = _Grid(plane.size, segment, bool(key.is_tiled), planes, block)
    for number in plane.numbers:
        page = stack.page(number)
        if page is None or len(page.dataoffsets) != grid.across * grid.down * planes:
            return None
        if len(page.databytecounts) != len(page.dataoffsets):
            return None
    return grid


def _little_tiff(
    page: Page, file: BinaryIO, size: tuple[int, int], grid: _Grid | None, data: Sequence[bytes]
) -> bytes:
    """A TIFF file of the given tiles or strips of a page alone; without a grid, of one plain strip a plane."""
    order = page.parent.byteorder
    tags: dict[int, tuple[int, int, bytes]] = {}
    own = page.tags if hasattr(page, "tags") else page.keyframe.tags
    for code in COPIED:
        tag = own.get(code)
        if tag is None or tag.valuebytecount > LONGEST_TAG:
            continue
        file.seek(tag.valueoffset)
        raw, kind = file.read(tag.valuebytecount), int(tag.dtype)
        if kind == 16:  # of BigTIFF alone
            raw = np.frombuffer(raw, order + "u8").astype(order + "u4").tobytes()
            kind = 4
        tags[code] = (kind, int(tag.count), raw)
    tables = page.jpegtables
    if tables is not None:
        tags[JPEG_TABLES] = (7, len(tables), bytes(tables))
    tiled = grid is not None and grid.tiled
    where, lengths = (324, 325) if tiled else (273, 279)
    numbers: dict[int, list[int]] = {256: [size[1]], 257: [size[0]]}
    if tiled:
        assert grid is not None
        numbers |= {322: [grid.segment[1]], 323: [grid.segment[0]]}
    else:
        numbers[278] = [grid.segment[0] if grid is not None else size[0]]
    numbers |= {where: [0] * len(data), lengths: [len(one) for one in data]}
    for code, values in numbers.items():
        tags[code] = (4, len(values), struct.pack(f"{order}{len(values)}I", *values))

    # BigTIFF where Pillow doesn't open the file, so that the same decoders are chosen for its parts.
    big = page.parent.is_bigtiff and order == ">"
    wide, room, head = ("Q", 8, 16) if big else ("I", 4, 8)
    beyond = head + struct.calcsize(order + ("Q" if big else "H"))  # where long values and the data go
    beyond += len(tags) * struct.calcsize(f"{order}HH2{wide}") + room
    long = sum(len(raw) + len(raw) % 2 for _, _, raw in tags.values() if len(raw) > room)
    begins, at = [], beyond + long
    for one in data:
        begins.append(at)
        at += len(one)
    tags[where] = (4, len(data), struct.pack(f"{order}{len(data)}I", *begins))
    directory, values_part = [], b""
    for code in sorted(tags):
        kind, count, raw = tags[code]
        if len(raw) > room:
            inline = struct.pack(order + wide, beyond + len(values_part))
            values_part += raw + b"\0" * (len(raw) % 2)
        else:
            inline = raw.ljust(room, b"\0")
        directory.append(struct.pack(f"{order}HH{wide}", code, kind, count) + inline)
    if big:
        start = b"MM\0+" + struct.pack(">HHQQ", 8, 0, head, len(tags))
    else:
        start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", head, len(tags))
    return b"".join([start, *directory, bytes(room), values_part, *data])


def stored_window(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """The window (x, y, width, height) of the upright picture, as a window of the stored one of `size`.

    `orient` of the stored window is the upright one.
    """
    x, y, width, height = window
    rows, columns = size
    if orientation in SIDEWAYS:
        x, y, width, height = y, x, height, width
    if orientation in (2, 3, 7, 8):
        x = columns - x - width
    if orientation in (3, 4, 6, 7):
        y = rows - y - height
    return x, y, width, height
