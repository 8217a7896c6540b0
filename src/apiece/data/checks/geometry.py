"""Objects whose shape is odd: none, tiny, huge, torn, crossed, with pinholes, from border to border."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.masks import Masks
from apiece.data.checks.view import Finding, View

TINY = 10  # pixels; an object below is more often a slip of the pen than an object
HUGE = 0.9  # share of the picture from which an object is more often the picture's own frame
PARTS = 10  # a drawn outline in more parts is rarely one thing
PINHOLE = 3  # pixels; a hole below is more often lost than meant
PINHOLES = 5  # of an object, before it is told
CROSSED = 0.15  # how much an outline's signed area and its pixels may differ, as a share


def shapes(view: View, tiny: int = TINY) -> Iterator[Finding]:
    """Everything odd about single objects; at most one finding an object and kind."""
    yield from pixelless(view)
    yield from small(view, tiny)
    yield from large(view)
    yield from torn(view)
    yield from crossed(view)


def pixelless(view: View) -> Iterator[Finding]:
    """Objects that cover nothing; the reader has told those whose file says so itself."""
    objects = view.objects
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    for i in np.flatnonzero(objects.masks.areas == 0).tolist():
        remedy = "delete the object, or redraw it."
        if view.entries is not None:
            entry = view.entries[i]
            if "segmentation" in entry and entry["area"] != 0:
                text = f"has an outline that covers no pixel, though its area is given as {entry['area']:g}."
                yield Finding("warning", "no-pixel", (i,), text, remedy)
        elif sides[i].min() <= 0:
            text = "covers no pixel; expected a shape."
            yield Finding("warning", "no-pixel", (i,), text, remedy)


def small(view: View, tiny: int = TINY) -> Iterator[Finding]:
    """Objects below `tiny` pixels."""
    masks = view.objects.masks
    for i in np.flatnonzero((masks.areas > 0) & (masks.areas < tiny)).tolist():
        area, (x, y) = int(masks.areas[i]), masks.offsets[i].tolist()
        pixels = "1 pixel" if area == 1 else f"{area} pixels"
        text = f"has {pixels} at x {x}, y {y}; objects below {tiny} pixels are rarely meant."
        yield Finding("warning", "tiny", (i,), text, "delete the object, if it is a slip.")


def large(view: View) -> Iterator[Finding]:
    """Objects that cover nearly the whole picture, or touch all its sides; regions of many objects may."""
    masks, (height, width) = view.objects.masks, view.objects.size
    ends = masks.offsets + masks.shapes[:, ::-1]
    around = (masks.offsets == 0).all(axis=1) & (ends == (width, height)).all(axis=1)
    share = masks.areas / (height * width)
    for i in np.flatnonzero((around | (share > HUGE)) & (masks.areas > 0) & ~view.crowd).tolist():
        if share[i] > HUGE:
            text = f"covers {share[i]:.0%} of the picture; an object mostly leaves more of its surroundings."
            remedy = "nothing, if it fills the picture; delete it, if it is the background."
            yield Finding("warning", "huge", (i,), text, remedy)
        elif not view.boxed[i]:
            text = f"touches all four sides of the picture, but covers {share[i]:.0%} of it, as a background does."
            remedy = "nothing, if it does; delete it, if it is the background."
            yield Finding("warning", "all-sides", (i,), text, remedy)


def torn(view: View) -> Iterator[Finding]:
    """Objects in several parts, and those with many holes of a pixel or two.

    In label images two parts are told already: there nobody draws an object's parts on purpose, one number for two
    objects is a slip; unless another object lies between them. One number on everything is told once.
    """
    masks = view.objects.masks
    parts = [parts_of(crop) for crop, _ in masks]
    limit = 1 if view.painted else PARTS
    if view.painted and len(masks) == 1 and parts[0] > 2:
        number = view.objects.columns["label"][0] if "label" in view.objects.columns else 1
        text = (
            f"holds a single number, {number}, on {parts[0]} separate shapes, so it seems to mark what is "
            "object and what is not; expected a number of its own for every object."
        )
        remedy = "number the connected shapes (touching objects must be cut apart by hand)."
        yield Finding("warning", "semantic", (0,), text, remedy)
        return
    for i in np.flatnonzero((np.array(parts, np.int64) > limit) & ~view.crowd).tolist():
        if view.painted and is_divided(masks, i):
            continue
        text = f"is in {parts[i]} parts that don't touch; an object mostly is in one."
        remedy = "give each its own number, if they are objects of their own; else nothing."
        if not view.painted:
            remedy = "make each an object, if they are objects of their own; delete slivers."
        yield Finding("warning", "parts", (i,), text, remedy)
    for i, (crop, _) in enumerate(masks):
        # Polygons of thin things that overlap leave such holes on purpose; only in bitmaps are pixels lost.
        bitmap = view.painted or (view.entries and isinstance(view.entries[i].get("segmentation"), dict))
        count = pinholes_of(crop) if bitmap and not view.crowd[i] else 0
        if count >= PINHOLES:
            text = f"has {count} holes of at most {PINHOLE} pixels; so small they are rarely meant."
            yield Finding("warning", "pinholes", (i,), text, "fill them, if they were lost by a conversion.")


def crossed(view: View) -> Iterator[Finding]:
    """Outlines that cross themselves: the area between them counts twice, or against itself.

    An outline's signed area equals the pixels that it covers; where it crosses itself, loops of the other sense
    count as negative. Told by COCO outlines of one ring.
    """
    masks = view.objects.masks
    for i, entry in enumerate(view.entries or ()):
        rings = entry.get("segmentation")
        if not isinstance(rings, list) or len(rings) != 1 or masks.areas[i] == 0:
            continue
        height, width = masks.size
        points = np.clip(np.array(rings[0], np.float64).reshape(-1, 2), 0, (width, height))
        signed, length = _signed_area(points), _length(points)
        covered = int(masks.areas[i])
        # Pixels along the outline are rounded, half of them at most.
        if abs(abs(signed) - covered) > max(CROSSED * covered, length / 2 + 2):
            text = (
                f"has an outline that crosses itself: it encloses {abs(signed):.0f} pixels by its sense, but "
                f"{covered} are drawn."
            )
            yield Finding("warning", "crossed", (i,), text, "put the outline's points in order.")


def is_divided(masks: Masks, i: int) -> bool:
    """Whether another object lies between all parts of mask i, as one in front of it does."""
    padded: npt.NDArray[np.bool_] = np.pad(masks.crop(i), 1)
    count, parts = cv2.connectedComponents(padded.view(np.uint8), connectivity=8)
    x, y = (masks.offsets[i] - 1).tolist()
    height, width = padded.shape
    ends = masks.offsets + masks.shapes[:, ::-1]
    near = (masks.offsets < (x + width, y + height)).all(axis=1) & (ends > (x, y)).all(axis=1)
    for j in np.flatnonzero(near & (np.arange(len(masks)) != i)).tolist():
        # The object with a border of one pixel, which meets the parts that it touches; as far as it lies here.
        grown = cv2.dilate(np.pad(masks.crop(j), 1).view(np.uint8), np.ones((3, 3), np.uint8))
        (left, top), (right, bottom) = (masks.offsets[j] - 1).tolist(), (ends[j] + 1).tolist()
        here = slice(max(top, y), min(bottom, y + height)), slice(max(left, x), min(right, x + width))
        window = slice(here[0].start - y, here[0].stop - y), slice(here[1].start - x, here[1].stop - x)
        own = slice(here[0].start - top, here[0].stop - top), slice(here[1].start - left, here[1].stop - left)
        if len(np.unique(np.append(parts[window][grown[own] > 0], 0))) < count:
            continue  # most objects touch few of the parts, and cost no more than their own area
        both = padded.copy()
        both[window] |= np.pad(masks.crop(j), 1)[own]
        labels = cv2.connectedComponents(both.view(np.uint8), connectivity=8)[1]
        if len(np.unique(labels[padded])) == 1:
            return True
    return False


def parts_of(crop: npt.NDArray[np.bool_]) -> int:
    """Parts of a bitmap; pixels that meet at a corner are of one part."""
    if not crop.size:
        return 0  # OpenCV would divide by zero
    return int(cv2.connectedComponents(crop.view(np.uint8), connectivity=8)[0]) - 1


def pinholes_of(crop: npt.NDArray[np.bool_]) -> int:
    """Holes of a bitmap of at most PINHOLE pixels."""
    if crop.all():
        return 0
    outside = np.pad(~crop, 1, constant_values=True).view(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    return 0 if count <= 2 else int((stats[1:, cv2.CC_STAT_AREA] <= PINHOLE).sum())


def _signed_area(points: npt.NDArray[np.float64]) -> float:
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _length(points: npt.NDArray[Any]) -> float:
    return float(np.hypot(*(points - np.roll(points, -1, axis=0)).T).sum())
