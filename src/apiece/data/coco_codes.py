"""Whether run-length codes hold, without the masks that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from apiece.core.masks import MAX_PIXELS, Masks
from apiece.data.coco_entries import Finding
from apiece.data.coco_lists import Findings
from apiece.errors import AnnotationError, GeometryError

TOGETHER = 2**21  # characters of run-length codes that are looked at together
DIGITS = 12  # 5-bit groups that fit in int64; a picture's counts need at most 8

Where = Callable[[], str]  # what an entry is called


def all_hold(texts: Sequence[Any], area: int) -> bool:
    """Whether all are compressed strings of counts from 0 on that sum to `area`, the pixels of a picture.

    False also for what this doesn't decide: lists of counts, and pictures whose masks may be too large.
    source  cocoapi, common/maskApi.c, rleFrString; core/rle.py, which says what is wrong and makes masks.
    """
    if area > MAX_PIXELS or not all(type(text) is str and text for text in texts):
        return False
    try:
        data = "".join(texts).encode("ascii")
    except UnicodeEncodeError:
        return False
    symbol = np.frombuffer(data, np.uint8) - np.uint8(48)  # what is below 48 becomes large
    ends = np.cumsum([len(text) for text in texts])
    final = symbol < 32
    if symbol.max() > 63 or not final[ends - 1].all():
        return False
    last = np.flatnonzero(final)
    first = np.append(0, last[:-1] + 1)
    digits = last - first + 1
    if digits.max() > DIGITS:
        return False
    value = (symbol[first] & 31).astype(np.int64)
    for digit in range(1, int(digits.max())):
        longer = digits > digit
        value[longer] |= (symbol[first[longer] + digit] & 31).astype(np.int64) << (5 * digit)
    negative = symbol[last] & 16 != 0
    value[negative] -= np.int64(1) << (5 * digits[negative])
    if np.abs(value).max() > area:
        return False
    # From the fourth count on, each is a step from the one two places before: sums over every second of all strings,
    # less what they were before this string. Its first count is no part of them.
    starts = np.append(0, np.searchsorted(last, ends[:-1] - 1, side="right"))
    lengths = np.diff(starts, append=value.size)
    sums = np.empty_like(value)
    sums[0::2], sums[1::2] = np.cumsum(value[0::2]), np.cumsum(value[1::2])
    odd = (np.arange(value.size) - np.repeat(starts, lengths)) % 2 == 1
    before = np.where(starts > 0, sums[starts - 1], 0)
    counts = sums - np.where(odd, np.repeat(before, lengths), np.repeat(sums[starts], lengths))
    counts[starts] = value[starts]
    return bool(counts.min() >= 0 and (np.add.reduceat(counts, starts) == area).all())


class CodeCheck:
    """Finds run-length codes that don't hold, many of one size at a time; none is kept."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], list[tuple[int, Where, Any]]] = {}
        self._length = 0
        self._damaged: list[tuple[int, Where, Finding]] = []

    def add(self, row: int, where: Where, outline: Mapping[str, Any], size: tuple[int, int]) -> None:
        """Note one, of a picture of `size` (height, width)."""
        self._waiting.setdefault(size, []).append((row, where, outline))
        self._length += 256 + len(outline["counts"])
        if self._length > TOGETHER:
            self._check()

    def report(self, problems: Findings) -> list[int]:
        """Add what doesn't hold to the problems; the rows, in their order."""
        self._check()
        self._damaged.sort(key=lambda one: one[0])
        for _, where, finding in self._damaged:
            problems.add(where(), finding)
        return [row for row, _, _ in self._damaged]

    def _check(self) -> None:
        for size, rows in self._waiting.items():
            if not all_hold([outline["counts"] for _, _, outline in rows], size[0] * size[1]):
                self._split(rows, size)
        self._waiting, self._length = {}, 0

    def _split(self, rows: list[tuple[int, Where, Any]], size: tuple[int, int]) -> None:
        try:
            Masks.from_coco([outline for _, _, outline in rows], size)
        except (AnnotationError, GeometryError) as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                self._split(rows[:middle], size)
                self._split(rows[middle:], size)
                return
            text = str(error).removeprefix("object 0: ").split(" Remedy: ")[0]
            finding = Finding("error", f"is damaged: {text}", "encode the mask again.", "the object")
            self._damaged.append((*rows[0][:2], finding))
