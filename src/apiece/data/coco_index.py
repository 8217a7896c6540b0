"""CocoIndex: where every entry of a COCO file lies, so that a million annotations cost megabytes."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.data.coco_entries import Entry, check_outline, mend_area, mend_crowd
from apiece.data.json_stream import JsonText, Span

Int64 = npt.NDArray[np.int64]
START, END, ID, IMAGE, CATEGORY, DRAWN = range(6)


class CocoIndex:
    """The entries of one file that are used; each is parsed, and mended as when it was checked, when asked for.

    text         the file.
    members      where the values of its outermost object lie.
    image_spans  where the images in use lie, by id.
    categories   the file's, their ids as integers.
    rows         int64 (N, 6), an annotation each, in the file's order: first byte, byte behind the last, id,
                 image id, category id, whether it has an outline.
    """

    def __init__(
        self,
        text: JsonText,
        members: Mapping[str, Span],
        image_spans: Mapping[int, tuple[int, int]],
        categories: Sequence[Any],
        rows: Int64,
    ) -> None:
        self.text, self.members, self.categories, self.rows = text, dict(members), list(categories), rows
        self.image_spans = dict(image_spans)
        self._order = np.argsort(rows[:, IMAGE], kind="stable")
        self._images = rows[self._order, IMAGE]

    def annotations(self, image_id: int, size: tuple[int, int]) -> list[Entry]:
        """The annotations of a picture of `size` (height, width); area and bbox may be missing."""
        first, behind = (int(np.searchsorted(self._images, image_id, side)) for side in ("left", "right"))
        rows = self.rows[self._order[first:behind]]
        return self._mended(rows, {image_id: size})

    def document(self, sizes: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
        """The whole document, of the sizes (height, width) by image id; area and bbox may be missing."""
        images = self.text.values(self.image_spans.values())
        for entry, (number, (height, width)) in zip(images, sizes.items(), strict=True):
            entry["id"], entry["height"], entry["width"] = number, height, width
        made = {
            "images": images,
            "annotations": self._mended(self.rows, sizes),
            "categories": self.categories,
        }
        others = [key for key in self.members if key not in made]
        made |= dict(zip(others, self.text.values(self.members[key] for key in others), strict=True))
        return {key: made[key] for key in self.members}

    def _mended(self, rows: Int64, sizes: Mapping[int, tuple[int, int]]) -> list[Entry]:
        entries: list[Entry] = self.text.values(rows[:, :ID].tolist())
        for entry, (number, image, category) in zip(entries, rows[:, ID:DRAWN].tolist(), strict=True):
            check_outline(entry, *sizes[image])
            mend_crowd(entry)
            mend_area(entry)
            entry["id"], entry["image_id"], entry["category_id"] = number, image, category
        return entries


def as_rows(numbers: array[int]) -> Int64:
    """The rows of a CocoIndex, from one array of the numbers of all."""
    return np.frombuffer(numbers, np.int64).reshape(-1, 6) if len(numbers) else np.zeros((0, 6), np.int64)
