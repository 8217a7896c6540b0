"""COCO run-length encoding, in and out, straight between crops and counts.

COCO counts run down the columns of the whole picture, first background, then object, in turn. The
compressed string holds, in 5-bit groups with a continuation bit, each count's difference from the
count two places before it (from the fourth count on). Strings equal pycocotools' byte for byte.

source  cocoapi, common/maskApi.c, rleEncode, rleToString, rleFrString.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Crops, Int64, transposed
from apiece.core.runs import Runs, bounds, merged, painted, row_runs
from apiece.errors import AnnotationError

DIGITS = 12  # 5-bit groups that fit in int64; a picture's counts need at most 8


def encode_counts(crops: Crops, size: tuple[int, int]) -> tuple[Int64, Int64]:
    """Counts of all objects one after the other, and where each object's begin: int64 (K,), (N + 1,)."""
    height, width = size
    count = len(crops.shapes)
    columns = row_runs(transposed(crops))
    begin = columns.line * height + columns.start
    # A run that reaches the bottom goes on at the top of the next column.
    owner, begin, end = merged(columns.owner, begin, begin + columns.length)
    tail = np.ones(count, np.int64)  # the background after the last run, unless that ends the picture
    if owner.size:
        last = np.flatnonzero(np.diff(owner, append=count))
        tail[owner[last]] = end[last] < height * width
    lengths = 2 * np.bincount(owner, minlength=count) + tail
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    marks = np.zeros(int(starts[-1]), np.int64)  # where each count ends
    place = starts[owner] + 2 * (np.arange(owner.size) - np.searchsorted(owner, owner))
    marks[place], marks[place + 1] = begin, end
    marks[starts[1:][tail == 1] - 1] = height * width
    counts = np.diff(marks, prepend=0)
    counts[starts[:-1]] = marks[starts[:-1]]
    return counts, starts


def encode_strings(crops: Crops, size: tuple[int, int]) -> list[str]:
    """The compressed string of every object."""
    counts, starts = encode_counts(crops, size)
    if counts.size == 0:
        return []
    value = counts.copy()
    value[2:] -= counts[:-2]
    place = np.arange(counts.size) - np.repeat(starts[:-1], np.diff(starts))
    early = place <= 2
    value[early] = counts[early]
    symbols = np.zeros((counts.size, DIGITS), np.uint8)
    alive = np.arange(counts.size)
    for digit in range(DIGITS):
        low = value & 0x1F
        value = value >> 5
        more = value != np.where(low & 0x10, -1, 0)
        symbols[alive, digit] = low + np.where(more, 0x20 + 48, 48)
        if not more.any():
            break
        alive, value = alive[more], value[more]
    used = symbols != 0
    text = symbols[used].tobytes().decode("ascii")
    ends = np.cumsum(np.count_nonzero(used, axis=1))[starts[1:] - 1].tolist()
    return [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def decode(
    items: Sequence[str | bytes | Sequence[int] | NDArray[np.integer]],
    size: tuple[int, int],
    names: Sequence[int],
    max_pixels: int,
) -> Crops:
    """Crops from compressed strings or lists of counts, without making the picture.

    names       the index by which each item is called in messages.
    max_pixels  the most crop pixels that all items together may need.
    raises      AnnotationError for anything that is not an RLE of a picture of this size.
    """
    height, width = size
    area = height * width
    counts, starts = _all_counts(items, names, area)
    lengths = np.diff(starts)
    owner = np.repeat(np.arange(len(items)), lengths)
    bad = np.flatnonzero((counts < 0) | (counts > area))
    if bad.size:
        raise _refusal(names[int(owner[bad[0]])], f"has a count of {counts[bad[0]]}", area)
    # No count exceeds the picture's area, so int64 sums of fewer than 2**28 counts cannot overflow.
    ends = np.cumsum(counts)
    base = np.append(0, ends)[starts]
    totals = np.diff(base)
    bad = np.flatnonzero(totals != area)
    if bad.size:
        raise _refusal(names[int(bad[0])], f"has counts that sum to {totals[bad[0]]}", area)
    ends -= base[owner]
    place = np.arange(counts.size) - starts[owner]
    object_runs = (place % 2 == 1) & (counts > 0)
    owner, length = owner[object_runs], counts[object_runs]
    begin = ends[object_runs] - length
    line = begin // height
    runs = Runs(owner, line, begin - line * height, length)
    offsets, shapes = bounds(runs, len(items), wrap=height)
    needed = int((shapes[:, 0].astype(np.int64) * shapes[:, 1]).sum())
    if needed > max_pixels:
        raise AnnotationError(
            f"{len(items)} RLE objects need {needed:,} crop pixels; expected at most {max_pixels:,}. "
            "Remedy: decode fewer objects at a time, or raise max_pixels if the file is trusted."
        )
    return transposed(painted(runs, offsets, shapes))


def _refusal(name: int, what: str, area: int) -> AnnotationError:
    return AnnotationError(
        f"object {name}: RLE {what}; expected counts >= 0 that sum to height × width = {area}. "
        "Remedy: encode the mask again on a picture of this size, or correct the picture's size in the file."
    )


def _all_counts(
    items: Sequence[str | bytes | Sequence[int] | NDArray[np.integer]], names: Sequence[int], area: int
) -> tuple[Int64, Int64]:
    """Counts of all items one after the other, and where each item's begin."""
    parts: list[Int64] = [np.zeros(0, np.int64)] * len(items)
    texts = [i for i, item in enumerate(items) if isinstance(item, str | bytes)]
    if texts:
        decoded, begins = _parse([items[i] for i in texts], [names[i] for i in texts], area)  # type: ignore[misc]
        for k, i in enumerate(texts):
            parts[i] = decoded[begins[k] : begins[k + 1]]
    for i, item in enumerate(items):
        if isinstance(item, str | bytes):
            continue
        try:
            array = np.asarray(item)
        except (ValueError, OverflowError):
            array = np.zeros((0, 0), np.object_)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
            raise _refusal(names[i], "has counts that are not a flat list of int64 numbers", area)
        wrong = np.flatnonzero((array < 0) | (array > area))
        if wrong.size:
            raise _refusal(names[i], f"has a count of {array[wrong[0]]}", area)
        parts[i] = array.astype(np.int64)
    starts = np.zeros(len(items) + 1, np.int64)
    np.cumsum([part.size for part in parts], out=starts[1:])
    return np.concatenate([np.zeros(0, np.int64), *parts]), starts


def _parse(texts: Sequence[str | bytes], names: Sequence[int], area: int) -> tuple[Int64, Int64]:
    """Counts of compressed strings one after the other, and where each string's begin."""
    raw: list[bytes] = []
    for text, name in zip(texts, names, strict=True):
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if not data:
            raise _refusal(name, "is an empty string", area)
        raw.append(data)
    byte_ends = np.cumsum([len(data) for data in raw])
    symbol = np.frombuffer(b"".join(raw), np.uint8).astype(np.int64) - 48

    def whose(position: int) -> int:
        return names[int(np.searchsorted(byte_ends, position, side="right"))]

    bad = np.flatnonzero((symbol < 0) | (symbol > 63))
    if bad.size:
        shown = bytes([int(symbol[bad[0]]) + 48])
        raise _refusal(whose(int(bad[0])), f"holds the byte {shown!r}, which no COCO RLE string holds", area)
    final = symbol & 0x20 == 0
    cut = np.flatnonzero(~final[byte_ends - 1])
    if cut.size:
        raise _refusal(names[int(cut[0])], "string breaks off in the middle of a count", area)
    last = np.flatnonzero(final)
    first = np.append(0, last[:-1] + 1)
    digits = last - first + 1
    long = np.flatnonzero(digits > DIGITS)
    if long.size:
        raise _refusal(whose(int(first[long[0]])), f"holds a count of {digits[long[0]]} digits", area)
    shift = 5 * (np.arange(symbol.size) - np.repeat(first, digits))
    value = np.add.reduceat((symbol & 0x1F) << shift, first)
    value -= np.where(symbol[last] & 0x10, np.int64(1) << (5 * digits), 0)
    wide = np.flatnonzero(np.abs(value) > area)
    if wide.size:
        raise _refusal(whose(int(first[wide[0]])), f"has a count or a step of {value[wide[0]]}", area)

    # From the fourth count on, each is a step from the one two places before: sums over every second.
    starts = np.append(0, np.searchsorted(last, byte_ends - 1, side="right"))
    lengths = np.diff(starts)
    owner = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(value.size) - starts[owner]
    chain = np.where(place == 0, 0, 2 - place % 2)  # 0: the first alone; 1: 1, 3, 5...; 2: 2, 4, 6...
    order = np.argsort(3 * owner + chain, kind="stable")
    key = (3 * owner + chain)[order]
    running = np.cumsum(value[order])
    heads = np.flatnonzero(np.diff(key, prepend=-1))
    base = np.append(0, running)[heads]
    counts = np.empty_like(value)
    counts[order] = running - np.repeat(base, np.diff(heads, append=key.size))
    return counts, starts
