"""Space: bitmaps on a picture of any size, and which of them are near, by a hash grid."""

from __future__ import annotations

from collections.abc import Iterator

from apiece.core.crops import Bool

Window = tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive


class Space:
    """Bitmaps put down one after the other; looking for those near a place costs the same however many there are.

    cell  side of the grid's cells in pixels; best about the width of a bitmap.
    """

    def __init__(self, cell: int) -> None:
        self._cell = cell
        self._grid: dict[tuple[int, int], list[int]] = {}
        self.bitmaps: list[Bool] = []
        self.windows: list[Window] = []

    def __len__(self) -> int:
        return len(self.bitmaps)

    def put(self, bitmap: Bool, left: int, top: int) -> None:
        """One more bitmap (h, w) with its top-left pixel there; it may be changed in place later."""
        window = (left, top, left + bitmap.shape[1], top + bitmap.shape[0])
        number = len(self.bitmaps)
        self.bitmaps.append(bitmap)
        self.windows.append(window)
        for cell in self._cells(window):
            self._grid.setdefault(cell, []).append(number)

    def _cells(self, window: Window) -> list[tuple[int, int]]:
        left, top, right, bottom = window
        side = self._cell
        return [
            (y, x)
            for y in range(top // side, (bottom - 1) // side + 1)
            for x in range(left // side, (right - 1) // side + 1)
        ]

    def near(self, left: int, top: int, right: int, bottom: int) -> list[int]:
        """Numbers of the bitmaps whose windows meet this one, in order."""
        found: set[int] = set()
        for cell in self._cells((left, top, right, bottom)):
            for number in self._grid.get(cell, ()):
                x0, y0, x1, y1 = self.windows[number]
                if x0 < right and left < x1 and y0 < bottom and top < y1:
                    found.add(number)
        return sorted(found)

    def meetings(self, bitmap: Bool, left: int, top: int) -> Iterator[tuple[int, Bool, Bool]]:
        """For each bitmap near this one: its number, and of the two windows' common part the pixels that they share
        and a view of its own pixels there."""
        right, bottom = left + bitmap.shape[1], top + bitmap.shape[0]
        for number in self.near(left, top, right, bottom):
            x0, y0, x1, y1 = self.windows[number]
            a, b = max(left, x0), max(top, y0)
            c, d = min(right, x1), min(bottom, y1)
            other = self.bitmaps[number][b - y0 : d - y0, a - x0 : c - x0]
            yield number, bitmap[b - top : d - top, a - left : c - left] & other, other
