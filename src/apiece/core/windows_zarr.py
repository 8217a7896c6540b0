"""Windows of Zarr: arrays of versions 2 and 3 and OME-Zarr in local folders, chunk by chunk.

What the folder says is checked before the library `zarr` sees it: only number types, only packings that execute
nothing and state or bound their size, and only paths within the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.core.image import ImageLimits
from apiece.core.pixel_width import microns_of
from apiece.core.samples import Samples
from apiece.core.tiff import MOST_CHANNELS, NARROWEST_PAGE
from apiece.core.tone import Tone
from apiece.core.windows import Recent, Rgb, Windows, check_pixels
from apiece.errors import ImageError

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
LONGEST_METADATA = 1 << 24  # bytes; consolidated metadata of a plate
BLOCK_SIDE = 512  # chunks are taken together up to this side, as each call of zarr takes a millisecond
FILTERS_V2 = ("delta", "shuffle", "fixedscaleoffset", "bitround")
PACKINGS = ("blosc", "zstd", "gzip", "zlib", "lz4")
CODECS_V3 = ("bytes", "transpose", "crc32c", "sharding_indexed", "blosc", "zstd", "gzip")
COPY_AGAIN = "Remedy: copy or export the data again."


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    try:
        return path.is_dir() and any((path / name).is_file() for name in METADATA)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class _Array:
    """An array's metadata, checked.

    packing  the one codec that may shrink data, or None.
    shard    inner chunks along each axis of a shard, or None; their index lies at its end, or its start.
    """

    path: Path
    version: int
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    packing: str | None
    shard: tuple[int, ...] | None
    index_first: bool
    axes: tuple[str, ...]


class ZarrWindows(Windows):
    """A plane of a Zarr array, read by windows; see `open_windows`. Chunks that aren't there hold the fill value."""

    def __init__(self, path: Path, page: int | None, limits: ImageLimits) -> None:
        name = str(path)
        array, microns, documents = _find(path, name)
        y, x, channel = (array.axes.index(a) if a in array.axes else -1 for a in "yxc")
        height, width = array.shape[y], array.shape[x]
        channels = array.shape[channel] if channel >= 0 else 1
        if channels > MOST_CHANNELS:
            raise ImageError(
                f"{name}: has {channels} channels ({_words(array)}); expected at most {MOST_CHANNELS}. "
                "Remedy: save the channels to be segmented as an array of their own."
            )
        outer = [k for k in range(len(array.shape)) if k not in (y, x, channel)]
        lead = tuple(array.shape[k] for k in outer)
        planes = math.prod(lead)
        if page is None and planes > 1:
            raise ImageError(
                f"{name}: holds {planes} planes ({_words(array)}); expected one picture. "
                f"Remedy: choose one with page=0 to page={planes - 1}."
            )
        if not 0 <= (page or 0) < planes:
            raise ImageError(f"{name}: has no page {page}; it holds {planes}, counted from 0.")
        self._array, self._y, self._x, self._channel = array, y, x, channel
        self._fixed = dict(zip(outer, np.unravel_index(page or 0, lead), strict=True)) if lead else {}
        chunk = math.prod(array.chunks)
        check_pixels(f"{name}: a chunk", 1, -(-chunk // channels), channels, limits)
        self._block = tuple(
            min(side * max(1, BLOCK_SIDE // side), whole)
            for side, whole in ((array.chunks[y], height), (array.chunks[x], width))
        )
        super().__init__(name, (height, width), microns, _digest(documents, array, page), limits)
        self._data = _opened(array, name)
        self._meaning = Samples(channels)
        self._tones: list[Tone] | None = None
        self._recent = Recent()

    def close(self) -> None:
        """Forget the decoded chunks."""
        self._recent.clear()

    def _read(self, x: int, y: int, width: int, height: int) -> Rgb:
        out = np.empty((height, width, 3), np.uint8)
        rows, columns = self._block
        for top in range(y // rows * rows, y + height, rows):
            for left in range(x // columns * columns, x + width, columns):
                block = self._recent.get((top, left), self._maker(top, left))
                y0, y1 = max(y, top), min(y + height, top + block.shape[0])
                x0, x1 = max(x, left), min(x + width, left + block.shape[1])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _maker(self, top: int, left: int) -> Callable[[], Rgb]:
        return lambda: self._rgb(top, left)

    def _rgb(self, top: int, left: int) -> Rgb:
        if self._tones is None:
            wanted = self._meaning.needs_tones(self._array.dtype)
            self._tones = self._meaning.tones(self._pieces) if wanted else []
        return self._meaning.to_rgb(self._samples(top, left), self._tones or None)

    def _pieces(self) -> Iterator[NDArray[Any]]:
        for top in range(0, self.size[0], self._block[0]):
            for left in range(0, self.size[1], self._block[1]):
                yield self._samples(top, left)

    def _samples(self, top: int, left: int) -> NDArray[Any]:
        """A block's samples (h, w, C) in this machine's byte order."""
        begin, end = [0] * len(self._array.shape), list(self._array.shape)
        for axis, value in self._fixed.items():
            begin[axis], end[axis] = int(value), int(value) + 1
        for axis, first, side in ((self._y, top, self._block[0]), (self._x, left, self._block[1])):
            begin[axis], end[axis] = first, min(first + side, self._array.shape[axis])
        self._check_chunks(begin, end)
        try:
            values = np.asarray(self._data[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))])
        except Exception as error:  # each codec has its own errors
            raise ImageError(
                f"{self.name}: the chunks of rows {begin[self._y]} to {end[self._y]}, columns {begin[self._x]} to "
                f"{end[self._x]} are damaged ({_brief(error)}). {COPY_AGAIN}"
            ) from error
        front = [self._y, self._x] + ([self._channel] if self._channel >= 0 else [])
        values = values.transpose(front + [k for k in range(values.ndim) if k not in front])
        values = values.reshape(values.shape[0], values.shape[1], -1)
        return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))

    def _check_chunks(self, begin: list[int], end: list[int]) -> None:
        """Refuse chunks that would unpack to more than they should, before they are unpacked."""
        array = self._array
        each = [c * s for c, s in zip(array.chunks, array.shard or (1,) * len(array.chunks), strict=True)]
        ranges = [range(a // n, (b - 1) // n + 1) for a, b, n in zip(begin, end, each, strict=True)]
        for number in range(math.prod(len(r) for r in ranges)):
            at = np.unravel_index(number, [len(r) for r in ranges])
            key = self._data.metadata.encode_chunk_key(
                tuple(int(r[k]) for r, k in zip(ranges, at, strict=True))
            )
            path = array.path / key
            if not path.is_file():
                continue
            if not _is_inside(path, array.path):
                raise ImageError(f"{self.name}: chunk {key} is a link that leads out of the folder.")
            wrong = _oversized(path, array)
            if wrong:
                raise ImageError(f"{self.name}: chunk {key} is damaged: {wrong}. {COPY_AGAIN}")


def _oversized(path: Path, array: _Array) -> str | None:
    """What makes a chunk's file more than it should be; None if nothing does."""
    limit = math.prod(array.chunks) * array.dtype.itemsize
    inner = math.prod(array.shard) if array.shard else 1
    length = path.stat().st_size
    if length > inner * (2 * limit + (1 << 16)):
        return f"it has {length:,} bytes for {inner * limit:,} of samples"
    if array.packing is None:
        return None
    with path.open("rb") as file:
        pieces = [(0, length)]
        if array.shard:
            index = 16 * inner + 4  # offset and length of each inner chunk, and a checksum
            if length < index:
                return "its index is cut off"
            file.seek(0 if array.index_first else length - index)
            table = np.frombuffer(file.read(index - 4), "<u8").reshape(-1, 2)
            pieces = [(int(a), int(b)) for a, b in table.tolist() if a != 2**64 - 1]
            if any(a + b > length for a, b in pieces):
                return "its index leads beyond its end"
        for offset, count in pieces:
            file.seek(offset)
            if array.packing in ("gzip", "zlib"):
                unpacker, packed, size = zlib.decompressobj(47), file.read(count), 0
                try:
                    while packed and size <= limit:
                        size += len(unpacker.decompress(packed, 1 << 20))
                        packed = unpacker.unconsumed_tail
                except zlib.error as error:
                    return str(error)
            else:
                size = _stated_size(file.read(min(count, 18)), array.packing)
            if size > limit:
                return f"it unpacks to more than its {limit:,} bytes"
    return None


def _stated_size(head: bytes, packing: str) -> int:
    """How many bytes packed data says it holds, from its first bytes; more than any chunk where it doesn't say."""
    try:
        if packing == "blosc":  # blosc 1: version, version, flags, type size, then the size
            return int.from_bytes(head[4:8], "little")
        if packing == "lz4":  # numcodecs puts the size in front
            return int.from_bytes(head[:4], "little")
        if head[:4] != b"\x28\xb5\x2f\xfd":  # zstd, RFC 8878, 3.1.1
            return 0  # no zstd: the decoder will say so
        flags = head[4]
        single = flags >> 5 & 1
        width = (single, 2, 4, 8)[flags >> 6]
        at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        if not width:
            return 1 << 62
        return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)
    except IndexError:
        return 0


def _opened(array: _Array, name: str) -> Any:
    try:
        import zarr
        from zarr.storage import LocalStore
    except ImportError as error:
        raise ImageError(
            f"{name}: reading Zarr needs a further package: pip install 'apiece[cells]'."
        ) from error
    try:
        return zarr.open_array(
            store=LocalStore(array.path, read_only=True), mode="r", zarr_format=3 if array.version == 3 else 2
        )
    except Exception as error:
        raise ImageError(f"{name}: the Zarr metadata is damaged ({_brief(error)}). {COPY_AGAIN}") from error


def _find(path: Path, name: str) -> tuple[_Array, float | None, list[Path]]:
    """The array that a folder stands for, the width of its pixels, and the documents that say so."""
    documents = [path / one for one in METADATA if (path / one).is_file()]
    attributes = _attributes(path, name)
    if _is_array(path, name):
        return _array(path, name, None), None, documents
    inner = attributes.get("ome")
    ome: Mapping[str, Any] = inner if isinstance(inner, Mapping) else attributes
    scales = ome.get("multiscales")
    if not isinstance(scales, list) or not scales:
        if "bioformats2raw.layout" in ome and not (path / "1").is_dir() and is_zarr(path / "0"):
            return _find(path / "0", name)
        raise ImageError(
            f"{name}: is a Zarr group without a picture of its own (no multiscales); expected an array or an OME-Zarr "
            "picture. Remedy: name the folder inside it that holds one."
        )
    try:
        first = scales[0]
        level = first["datasets"][0]
        inside = PurePosixPath(str(level["path"]).replace("\\", "/"))
        given = first.get("axes", ["t", "c", "z", "y", "x"])
        axes = [str(a["name"] if isinstance(a, Mapping) else a).lower() for a in given]
        units = {a["name"].lower(): a.get("unit") for a in given if isinstance(a, Mapping)}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ImageError(
            f"{name}: the OME-Zarr metadata is damaged (multiscales: {_brief(error)}). {COPY_AGAIN}"
        ) from error
    place = path / inside
    if inside.is_absolute() or ".." in inside.parts or ":" in str(inside) or not _is_inside(place, path):
        raise ImageError(f"{name}: its level 0 lies at {str(inside)!r}; expected a path within the folder.")
    array = _array(place, name, axes)
    documents += [place / one for one in METADATA if (place / one).is_file()]
    return array, _microns(first, level, axes, units), documents


def _microns(first: Any, level: Any, axes: list[str], units: Mapping[str, Any]) -> float | None:
    """The scales of the level and of all levels, multiplied."""
    width = 1.0
    for holder in (first, level):
        given = holder.get("coordinateTransformations") if isinstance(holder, Mapping) else None
        for step in given if isinstance(given, list) else []:
            try:
                if step["type"] == "scale":
                    width *= float(step["scale"][axes.index("x")])
            except (KeyError, IndexError, TypeError, ValueError):
                return None
    return microns_of(width, units.get("x"))


def _json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LONGEST_METADATA:
            raise ImageError(
                f"{name}: {path.name} has more than {LONGEST_METADATA:,} bytes; nothing was read."
            )
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ImageError(f"{name}: {path.name} is damaged ({_brief(error)}). {COPY_AGAIN}") from error
    return found if isinstance(found, dict) else {}


def _attributes(path: Path, name: str) -> dict[str, Any]:
    if (path / "zarr.json").is_file():
        found = _json(path / "zarr.json", name).get("attributes")
    else:
        found = _json(path / ".zattrs", name)
    return found if isinstance(found, dict) else {}


def _is_array(path: Path, name: str) -> bool:
    if (path / "zarr.json").is_file():
        return _json(path / "zarr.json", name).get("node_type") == "array"
    return (path / ".zarray").is_file()


def _array(path: Path, name: str, axes: list[str] | None) -> _Array:
    if not is_zarr(path) or not _is_array(path, name):
        raise ImageError(f"{name}: holds no Zarr array at {path.name!r}. {COPY_AGAIN}")
    try:
        parsed = _version_3(path, name) if (path / "zarr.json").is_file() else _version_2(path, name)
        version, shape, chunks, dtype, packing, shard, index_first, names = parsed
        sides = zip(shape, chunks, strict=True)
        if not shape or any(n < 1 or c < 1 for n, c in sides) or dtype.kind not in "biuf":
            raise ImageError(
                f"{name}: is an array {shape} of {dtype} in chunks {chunks}; expected numbers in rows and columns."
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(f"{name}: the Zarr metadata is damaged ({_brief(error)}). {COPY_AGAIN}") from error
    axes = axes or names or _guessed_axes(shape)
    if len(axes) != len(shape) or "y" not in axes or "x" not in axes or len(set(axes)) != len(axes):
        raise ImageError(f"{name}: has the axes {axes} for the shape {shape}; expected y and x among them.")
    return _Array(path, version, shape, chunks, dtype, packing, shard, index_first, tuple(axes))


_Parsed = tuple[
    int,
    tuple[int, ...],
    tuple[int, ...],
    "np.dtype[Any]",
    "str | None",
    "tuple[int, ...] | None",
    bool,
    "list[str] | None",
]


def _version_2(path: Path, name: str) -> _Parsed:
    given = _json(path / ".zarray", name)
    packed = given.get("compressor")
    filters = [one["id"] for one in given.get("filters") or []]
    packing = packed["id"] if packed else None
    _only(name, filters, FILTERS_V2)
    _only(name, [packing] if packing else [], PACKINGS)
    if not isinstance(given["dtype"], str):
        raise ImageError(f"{name}: is an array of records; expected numbers.")
    shape, chunks = _sides(given["shape"]), _sides(given["chunks"])
    names = _names(_json(path / ".zattrs", name).get("_ARRAY_DIMENSIONS"))
    return 2, shape, chunks, np.dtype(given["dtype"]), packing, None, False, names


def _version_3(path: Path, name: str) -> _Parsed:
    given = _json(path / "zarr.json", name)
    if given["chunk_grid"]["name"] != "regular" or given.get("storage_transformers"):
        raise ImageError(f"{name}: has a chunk grid of its own kind; expected regular chunks.")
    chunks = _sides(given["chunk_grid"]["configuration"]["chunk_shape"])
    codecs, shard, index_first = given["codecs"], None, False
    _only(name, [one["name"] for one in codecs], CODECS_V3)
    if codecs and codecs[-1]["name"] == "sharding_indexed":
        settings = codecs[-1]["configuration"]
        if [one["name"] for one in settings["index_codecs"]] != ["bytes", "crc32c"] or len(codecs) != 1:
            raise ImageError(
                f"{name}: its shards have an unusual index; expected the codecs bytes and crc32c."
            )
        inner = _sides(settings["chunk_shape"])
        shard = tuple(a // b for a, b in zip(chunks, inner, strict=True))
        index_first = settings.get("index_location", "end") == "start"
        codecs, chunks = settings["codecs"], inner
        _only(name, [one["name"] for one in codecs], CODECS_V3)
    packings = [one["name"] for one in codecs if one["name"] in PACKINGS]
    if len(packings) > 1 or any(one["name"] == "sharding_indexed" for one in codecs):
        raise ImageError(f"{name}: is packed more than once; expected one packing.")
    if not isinstance(given["data_type"], str):
        raise ImageError(f"{name}: has an unusual data type; expected numbers.")
    names = _names(given.get("dimension_names"))
    packing = packings[0] if packings else None
    return 3, _sides(given["shape"]), chunks, np.dtype(given["data_type"]), packing, shard, index_first, names


def _only(name: str, codecs: list[str], known: tuple[str, ...]) -> None:
    for codec in codecs:
        if codec not in known:
            raise ImageError(
                f"{name}: is packed with {codec!r}; expected one of {', '.join(known)}. "
                "Remedy: save the array with one of these."
            )


def _sides(given: Any) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(n) is int for n in given):
        raise ValueError(f"shape {given!r}")
    return tuple(given)


def _names(given: Any) -> list[str] | None:
    """Names of the axes where y and x are among them."""
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return None
    names = [one.lower() for one in given]
    return names if "y" in names and "x" in names else None


def _guessed_axes(shape: tuple[int, ...]) -> list[str]:
    """Axes without names: rows and columns come last, before them channels; or channels last, if they are few."""
    if len(shape) == 3 and shape[2] <= NARROWEST_PAGE < min(shape[:2]):
        return ["y", "x", "c"]
    return ["t", "z", "c", "y", "x"][-len(shape) :] if len(shape) <= 5 else []


def _digest(documents: list[Path], array: _Array, page: int | None) -> str:
    """Of the metadata, and of the folder and those directly in it: chunks that came or went change their time."""
    made = hashlib.sha256(f"{page or 0} ".encode())
    try:
        for document in documents:
            made.update(f"{document.name} {document.stat().st_mtime_ns} ".encode() + document.read_bytes())
        made.update(f"{array.path.stat().st_mtime_ns} ".encode())
        with os.scandir(array.path) as entries:
            found = sorted((one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in entries)
        made.update(repr(found[:10_000]).encode())
    except OSError as error:
        raise ImageError(f"{array.path}: cannot be read ({error.strerror}).") from error
    return made.hexdigest()


def _is_inside(path: Path, folder: Path) -> bool:
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _words(array: _Array) -> str:
    return f"axes {''.join(array.axes)} = {' x '.join(map(str, array.shape))}"


def _brief(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
