"""Objects on the same pixels: labelled twice, with two classes, or one inside another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from apiece.data.checks.geometry import TINY
from apiece.data.checks.view import Finding, View

SAME = 0.95  # IoU from which two objects are one object, labelled twice
INSIDE = 0.95  # share of an object inside another of its class from which it is a part of it


def overlaps(view: View, tiny: int = TINY) -> Iterator[Finding]:
    """Doubles and objects inside others; regions of many objects don't count, boxes don't lie inside boxes."""
    objects = view.objects
    areas, classes, crowd = objects.masks.areas, objects.class_ids, view.crowd
    shared = objects.masks.intersection(objects.masks).tocoo()
    a, b, common = shared.row, shared.col, shared.data
    near = (a < b) & (common >= SAME * np.minimum(areas[a], areas[b])) & ~crowd[a] & ~crowd[b]
    told: set[int] = set()
    for first, second, pixels in sorted(
        zip(a[near].tolist(), b[near].tolist(), common[near].tolist(), strict=True)
    ):
        iou = pixels / (areas[first] + areas[second] - pixels)
        if iou >= SAME:
            if second in told:
                continue
            told.add(second)
            if classes[first] == classes[second]:
                text = f"covers the same pixels as {view.name(first)}; expected every object once."
                yield Finding("warning", "double", (second, first), text, "delete one of the two.")
            else:
                text = (
                    f"covers the same pixels as {view.name(first)}: one object is labelled with two classes."
                )
                remedy = "delete the one whose class is wrong."
                yield Finding("warning", "two-classes", (second, first), text, remedy)
            continue
        inner, outer = (first, second) if areas[first] < areas[second] else (second, first)
        if inner in told or classes[inner] != classes[outer] or areas[inner] < tiny:
            continue
        if pixels >= INSIDE * areas[inner] and not (view.boxed[inner] or view.boxed[outer]):
            told.add(inner)
            text = f"lies inside {view.name(outer)} of the same class ({pixels / areas[inner]:.0%} of it)."
            remedy = "delete it, if it is a part of the other; else cut it out of the other."
            yield Finding("warning", "inside", (inner, outer), text, remedy)
