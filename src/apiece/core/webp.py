"""WebP: size, metadata and number of frames from the file's chunks; Pillow would first allocate the canvas."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from apiece.errors import ImageError


@dataclass(frozen=True)
class WebPHeader:
    """What the chunks say: (height, width) as stored, frames, and `info` as Pillow names it (exif, xmp)."""

    size: tuple[int, int]
    frames: int
    info: dict[str, bytes] = field(default_factory=dict)


def read_header(file: BinaryIO, name: str) -> WebPHeader:
    """Walk over the chunks. raises ImageError if the file is cut off or its first chunk is not a picture's."""
    end = file.seek(0, 2)
    file.seek(4)
    promised = struct.unpack("<I", file.read(4))[0] + 8
    if promised > end:
        raise ImageError(
            f"{name}: is truncated: its WebP header promises {promised} bytes, the file has {end}. "
            "Remedy: copy or export the file again."
        )
    size, frames = None, 0
    info: dict[str, bytes] = {}
    at = 12
    while at + 8 <= promised:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind in (b"VP8X", b"VP8L", b"VP8 ") and size is None:
            size = _size(kind, file.read(10))
        elif kind == b"ANMF":
            frames += 1
        elif kind in (b"EXIF", b"XMP ") and length < 1 << 20:
            info["exif" if kind == b"EXIF" else "xmp"] = file.read(length)
        at += 8 + length + length % 2
    if size is None:
        raise ImageError(f"{name}: the WebP header is damaged. Remedy: copy or export the file again.")
    return WebPHeader(size, max(1, frames), info)


def _size(kind: bytes, start: bytes) -> tuple[int, int] | None:
    """(height, width) from the first ten bytes of a picture's chunk (RFC 9649; RFC 6386, 9.1)."""
    if len(start) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(start[7:10], "little"), 1 + int.from_bytes(start[4:7], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack("<HH", start[6:10])
    return height & 0x3FFF, width & 0x3FFF
