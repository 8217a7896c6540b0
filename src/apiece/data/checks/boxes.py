"""Boxes that are not their mask's: above all those written as corners instead of corner and sides."""

from __future__ import annotations

from collections.abc import Iterator

from apiece.data.checks.view import Finding, View

APART = 0.5  # IoU below which a box isn't its mask's
ROUNDING = 2  # pixels on each side, which for small objects is much of the box


def odd_boxes(view: View) -> Iterator[Finding]:
    """COCO's `bbox` against the outline's own box."""
    masks = view.objects.masks
    for i, entry in enumerate(view.entries or ()):
        if masks.areas[i] == 0:
            continue
        x, y, width, height = entry["bbox"]
        x1, y1, x2, y2 = masks.boxes[i].tolist()
        shared_w, shared_h = min(x + width, x2) - max(x, x1), min(y + height, y2) - max(y, y1)
        shared = max(0.0, shared_w) * max(0.0, shared_h)
        union = width * height + (x2 - x1) * (y2 - y1) - shared
        slack = max(abs(x - x1), abs(y - y1), abs(x + width - x2), abs(y + height - y2)) <= ROUNDING
        if slack or shared >= APART * union:
            continue
        corners = max(abs(x - x1), abs(y - y1), abs(width - x2), abs(height - y2)) <= ROUNDING
        remedy = "write bbox as x, y, width, height." if corners else "recompute bbox from the outline."
        text = (
            f"has bbox {[round(v, 2) for v in (x, y, width, height)]}, but its outline spans "
            f"{[round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]} (x, y, width, height)."
        )
        yield Finding("warning", "box-as-corners" if corners else "box-elsewhere", (i,), text, remedy)
