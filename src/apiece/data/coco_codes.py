"""Whether run-length codes hold, without the masks that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apiece.core.masks import MAX_PIXELS, Masks
from apiece.data.coco_entries import Finding
from apiece.data.coco_lists import Findings
from apiece.errors import AnnotationError, GeometryError

TOGETHER = 2**21  # characters of run-length codes that are looked at together
SYMBOLS = bytes(range(48, 112))  # 5 bits each, of which compressed strings are made
CONTINUED = "P"  # from here on, symbols after which a count goes on

Where = Callable[[], str]  # what an entry is called


def all_hold(texts: Sequence[Any], area: int) -> bool:
    """Whether all are compressed strings of counts from 0 on that sum to `area`, the pixels of a picture.

    False also for what this doesn't decide: lists of counts, and pictures whose masks may be too large. hotcoco refuses
    counts below 0 and sums above the picture; that a sum isn't less shows where one pixel less is refused.

    source  cocoapi, common/maskApi.c, rleFrString; core/rle.py, which says what is wrong and makes masks.
    """
    from hotcoco import mask

    if area > MAX_PIXELS or not all(type(text) is str and text and text[-1] < CONTINUED for text in texts):
        return False
    joined = "".join(texts)
    if not joined.isascii() or joined.encode().translate(None, SYMBOLS):
        return False
    try:
        mask.area([{"size": [area, 1], "counts": text} for text in texts])
    except ValueError:
        return False
    for text in texts:
        try:
            mask.area({"size": [area - 1, 1], "counts": text})
        except ValueError:
            continue
        return False
    return True


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
