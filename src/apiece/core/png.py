"""PNG: what is checked before a decoder sees the file, and the 16-bit colour that Pillow cuts to 8 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from apiece.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COPY_AGAIN = "Remedy: copy or export the file again."
# What a picture's values depend on. Everything else is metadata, about which libpng would warn on stderr.
ESSENTIAL = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def check_structure(file: BinaryIO, name: str) -> bytes | None:
    """Walk over the chunks' headers, up to the last; return EXIF that stands anywhere, which Pillow may miss.

    raises ImageError if the file ends before its last chunk does, or its header chunk is not the first.
    """
    exif = None
    for kind, length in _chunks(file, name):
        if kind == b"eXIf" and length < 1 << 20:
            exif = file.read(length)
    return exif


def check_sums(file: BinaryIO, name: str) -> None:
    """raises ImageError if a checksum of the pixels' chunks is wrong: Pillow would decode such data in silence."""
    for kind, length in _chunks(file, name):
        if kind in ESSENTIAL:
            data = file.read(length)
            if zlib.crc32(data, zlib.crc32(kind)) != struct.unpack(">I", file.read(4))[0]:
                raise ImageError(
                    f"{name}: is damaged: the checksum of a PNG chunk {kind.decode()} is wrong. {COPY_AGAIN}"
                )


def is_sixteen_bit_colour(file: BinaryIO) -> bool:
    """Whether the header says 16 bits and more than one channel."""
    file.seek(24)
    depth, colour = file.read(2)
    return depth == 16 and colour in (2, 4, 6)


def decode_sixteen_bit_colour(file: BinaryIO, name: str) -> npt.NDArray[np.uint16]:
    """The samples as uint16 (H, W, 3), or (H, W, 4) with opacity; grey with opacity becomes four, too."""
    parts = [SIGNATURE]
    for kind, length in _chunks(file, name):
        if kind in ESSENTIAL:
            parts.append(struct.pack(">I", length) + kind + file.read(length + 4))
    samples: npt.NDArray[Any] | None
    try:
        samples = cv2.imdecode(np.frombuffer(b"".join(parts), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        samples = None
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3:
        raise ImageError(f"{name}: the PNG data is damaged; expected 16-bit colour. {COPY_AGAIN}")
    return np.ascontiguousarray(samples[..., [2, 1, 0, 3][: samples.shape[2]]])


def _chunks(file: BinaryIO, name: str) -> Iterator[tuple[bytes, int]]:
    """Each chunk's name and length, the file standing at its data."""
    end = file.seek(0, 2)
    at = len(SIGNATURE)
    first = True
    while True:
        file.seek(at)
        header = file.read(8)
        length, kind = struct.unpack(">I4s", header) if len(header) == 8 else (0, b"")
        if len(header) < 8 or at + 12 + length > end:
            raise ImageError(
                f"{name}: is truncated: the PNG file ends before its last chunk does. {COPY_AGAIN}"
            )
        if first and (kind != b"IHDR" or length != 13):
            raise ImageError(f"{name}: the PNG header is damaged: it begins with {kind!r}. {COPY_AGAIN}")
        first = False
        yield kind, length
        if kind == b"IEND":
            return
        at += 12 + length
