"""Which anchor learns which object, and the objects' masks at the network's resolutions (NumPy, in the loader)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

POSITIVE, NEGATIVE = 0.5, 0.4
CROWD = 0.7
"""Share of an anchor inside a crowd region over which it is no negative."""


class Matches(NamedTuple):
    """state (A,) int64: -1 neutral, 0 background, else 1 + class; objects (A,) int64: the best object."""

    state: Int
    objects: Int


def corners(anchors: Float) -> Float:
    """Centre and size (A, 4) -> x1, y1, x2, y2."""
    half = anchors[:, 2:] / 2
    return np.concatenate([anchors[:, :2] - half, anchors[:, :2] + half], axis=1)


def intersection(a: Float, b: Float) -> Float:
    """Common areas (N, M) of xyxy boxes (N, 4) and (M, 4)."""
    width = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0])
    height = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1])
    both: Float = np.maximum(width, 0) * np.maximum(height, 0)
    return both


def area(boxes: Float) -> Float:
    """Areas (N,) of xyxy boxes (N, 4)."""
    found: Float = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def match(anchors: Float, boxes: Float, classes: Int, crowds: Float) -> Matches:
    """Match anchors (A, 4: centre and size) to objects (N, 4: xyxy) of these classes (N,), by IoU.

    At least POSITIVE: the object's class; under NEGATIVE: background; between: neutral. Beyond that every object
    gets an anchor, the closest pairs first, and an anchor once given is closed to the others (as in SSD, but
    one-to-one). Background in a crowd region (M, 4) becomes neutral.
    """
    places = corners(anchors)
    state = np.zeros(len(anchors), dtype=np.int64)
    objects = np.zeros(len(anchors), dtype=np.int64)
    if len(boxes):
        both = intersection(boxes, places)
        overlap = both / (area(boxes)[:, None] + area(places) - both)
        objects = overlap.argmax(axis=0)
        best = overlap[objects, np.arange(len(anchors))]
        for i, anchor in enumerate(closest_pairs(overlap)):
            if anchor >= 0:
                best[anchor], objects[anchor] = 2.0, i
        state = classes[objects] + 1
        state[best < POSITIVE] = -1
        state[best < NEGATIVE] = 0
    if len(crowds):
        covered = (intersection(crowds, places) / area(places)).max(axis=0)
        state[(state <= 0) & (covered > CROWD)] = -1
    return Matches(state, objects)


def closest_pairs(overlap: Float) -> Int:
    """An anchor for each object (N,) from IoUs (N, A), greedily by the highest IoU left anywhere; no anchor twice.
    -1 where the anchors ran out."""
    count = len(overlap)
    overlap = overlap.copy()
    chosen = np.full(count, -1, dtype=np.int64)
    anchor = overlap.argmax(axis=1)
    value = overlap[np.arange(count), anchor]
    for _ in range(min(count, overlap.shape[1])):
        i = int(value.argmax())
        taken = chosen[i] = anchor[i]
        value[i] = -2.0
        overlap[:, taken] = -1.0
        for j in np.flatnonzero((anchor == taken) & (chosen < 0)):
            anchor[j] = overlap[j].argmax()
            value[j] = overlap[j, anchor[j]]
    return chosen


class Window(NamedTuple):
    """Cells from (x, y), `width` by `height` of them."""

    x: int
    y: int
    width: int
    height: int


def crop_window(box: Float, size: tuple[int, int]) -> Window:
    """The cells of a map of `size` (h, w) whose index lies in a relative box grown by one cell on each side."""
    height, width = size
    x1, y1, x2, y2 = box * np.array([width, height, width, height], dtype=np.float32)
    left, upper = int(np.ceil(max(x1 - 1, 0))), int(np.ceil(max(y1 - 1, 0)))
    right, lower = min(int(np.ceil(x2 + 1)), width), min(int(np.ceil(y2 + 1)), height)
    return Window(left, upper, max(right - left, 0), max(lower - upper, 0))


def touched_window(crop: Bool, corner: tuple[int, int], old: tuple[int, int], new: tuple[int, int]) -> Window:
    """The cells of a map of size `new` that a crop on a picture of size `old` may reach when interpolated."""
    (x, y), (height, width) = corner, crop.shape
    sx, sy = new[1] / old[1], new[0] / old[0]
    left, upper = max(int(x * sx) - 1, 0), max(int(y * sy) - 1, 0)
    right = min(int(np.ceil((x + width) * sx)) + 1, new[1])
    lower = min(int(np.ceil((y + height) * sy)) + 1, new[0])
    return Window(left, upper, right - left, lower - upper)


def shrink(
    crop: Bool, corner: tuple[int, int], old: tuple[int, int], new: tuple[int, int], window: Window
) -> Bool:
    """A crop at `corner` (x, y) of a picture of size `old`, resized bilinearly to `new` and cut at more than one
    half, in one window: equal to resizing the whole frame, at the window's cost.

    Half-pixel centres, no anti-aliasing, float32 as torch computes it.
    """
    # A border of zeros stands for the rest of the frame.
    padded = np.pad(crop, 1).astype(np.float32)
    (row, next_row, down), (column, next_column, right) = (
        _steps(new[axis], old[axis], window[1 - axis], window[3 - axis], corner[1 - axis], crop.shape[axis])
        for axis in (0, 1)
    )
    upper, lower = padded[row], padded[next_row]
    stay = 1 - right
    upper = stay * upper[:, column] + right * upper[:, next_column]
    lower = stay * lower[:, column] + right * lower[:, next_column]
    covered: Bool = (1 - down)[:, None] * upper + down[:, None] * lower > 0.5
    return covered


def _steps(new: int, old: int, first: int, count: int, offset: int, length: int) -> tuple[Int, Int, Float]:
    """Lines of the padded crop before and after each of `count` new lines, and the way from one to the other."""
    at = (
        np.float32(old)
        / np.float32(new)
        * (np.arange(first, first + count, dtype=np.float32) + np.float32(0.5))
    )
    at = np.maximum(at - np.float32(0.5), np.float32(0))
    line = at.astype(np.int64)
    after = np.minimum(line + 1, old - 1)
    way = (at - line.astype(np.float32)).astype(np.float32)
    return (
        np.clip(line - offset + 1, 0, length + 1),
        np.clip(after - offset + 1, 0, length + 1),
        way,
    )
