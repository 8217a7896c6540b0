"""Label Studio's run-length code of brush masks: bits, in bytes, of the RGBA values of a whole picture.

32 bits number of values (4 × height × width), 5 bits length of a value less one, four times 4 bits length of a run's
count less one (3, 4, 8 and 16 bits are usual); then runs until all values are there: a bit, 2 bits that choose the
count's length, the count less one, and, where the bit is 1, a value that is repeated, else as many values. Values run
along the rows, R, G, B and A of every pixel; a pixel is object where A isn't 0. Bits come highest first.

source  the description in thi.ng/umbrella, packages/rle-pack, whose code Label Studio uses; checked against
        label-studio-converter 0.0.59 (Apache-2.0).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.data.formats.base import Size
from apiece.data.formats.drawing import ShapeError
from apiece.errors import AnnotationError

CHANNELS = 4
VALUE_BITS = 8
COUNT_BITS = (3, 4, 8, 16)
MOST_VALUES = 2**32 - 1


def decode(rle: Any, size: Size) -> list[int]:
    """Run lengths of pixels along the rows of a picture of `size`, background first.

    No picture is made: memory follows the length of the code.
    raises  ShapeError unless it is a code of a picture of this size.
    """
    try:
        data = bytes(rle) if isinstance(rle, list) else b""
    except (TypeError, ValueError, OverflowError):
        data = b""
    if not data:
        raise ShapeError("has an rle that is no list of bytes, 0 to 255.")
    read = _Bits(data).read
    wanted, count = CHANNELS * size[0] * size[1], read(32)
    if count != wanted:
        raise ShapeError(
            f"has an rle of {count} values; expected 4 × height × width = {wanted}, as the picture has "
            f"{size[0]} x {size[1]} pixels (height x width)."
        )
    bits = read(5) + 1
    if bits != VALUE_BITS:
        raise ShapeError(f"has an rle of values of {bits} bits; expected {VALUE_BITS}.")
    lengths = [read(4) + 1 for _ in range(4)]
    counts, state, at = [0], 0, 0
    while at < wanted:
        repeated = read(1)
        end = at + 1 + read(lengths[read(2)])
        if end > wanted:
            raise ShapeError(f"has an rle of more than the {wanted} values of its picture.")
        runs: list[tuple[int, int]]
        if repeated:
            runs = [(1 if read(VALUE_BITS) else 0, end // CHANNELS - at // CHANNELS)]
        else:
            values = read((end - at) * VALUE_BITS).to_bytes(end - at, "big")
            opacity = values[CHANNELS - 1 - at % CHANNELS :: CHANNELS]
            runs = [(int(on), len(list(same))) for on, same in groupby(opacity, bool)]
        for on, pixels in runs:
            if pixels and on != state:
                counts.append(0)
                state = on
            counts[-1] += pixels
        at = end
    return counts


class _Bits:
    """Reads whole numbers from bits."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._end = data, 0, 8 * len(data)

    def read(self, bits: int) -> int:
        begin, end = self._at, self._at + bits
        if end > self._end:
            raise ShapeError("has an rle that breaks off.")
        self._at = end
        last = (end + 7) // 8
        value = int.from_bytes(self._data[begin // 8 : last], "big") >> (8 * last - end)
        return value & ((1 << bits) - 1)


def encode(counts: list[int], size: Size) -> list[int]:
    """The code of run lengths along the rows, background first: 0 in all channels there, 255 for the object.

    raises  AnnotationError if the picture has more values than the code can count.
    """
    total = CHANNELS * size[0] * size[1]
    if total > MOST_VALUES:
        raise AnnotationError(
            f"a picture of {size[0]} x {size[1]} (height x width) has more values than Label Studio's run lengths can "
            f"count; expected at most {MOST_VALUES // CHANNELS:,} pixels. Remedy: cut it into tiles."
        )
    lengths = CHANNELS * np.array(counts, np.int64)
    value = np.where(np.arange(len(counts)) % 2 == 1, 255, 0)
    most = 1 << COUNT_BITS[-1]
    pieces = np.maximum(-(-lengths // most), (lengths > 0).astype(np.int64))
    length = np.full(int(pieces.sum()), most, np.int64)
    last = np.cumsum(pieces)[pieces > 0] - 1
    length[last] = (lengths - (pieces - 1) * most)[pieces > 0]
    value = np.repeat(value, pieces)

    kind = np.searchsorted(1 << np.array(COUNT_BITS), length)
    count_bits = np.array(COUNT_BITS)[kind]
    code = (((4 + kind) << count_bits | (length - 1)) << VALUE_BITS) | value
    head = [(total, 32), (VALUE_BITS - 1, 5), *((bits - 1, 4) for bits in COUNT_BITS)]
    return _packed(
        np.array([number for number, _ in head] + code.tolist(), np.int64),
        np.array([bits for _, bits in head] + (3 + count_bits + VALUE_BITS).tolist(), np.int64),
    )


def _packed(numbers: NDArray[np.int64], bits: NDArray[np.int64]) -> list[int]:
    """Numbers of so many bits one after the other, as bytes."""
    widest = int(bits.max())
    place = np.arange(widest)
    kept = place >= widest - bits[:, None]
    all_bits = (numbers[:, None] >> (widest - 1 - place)) & 1
    packed: list[int] = np.packbits(all_bits[kept].astype(np.uint8)).tolist()
    return packed
