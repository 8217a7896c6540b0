"""The shapes of CVAT's XML: elements and their attributes, added to a drawing."""

from __future__ import annotations

import math
from typing import Any

from apiece.data.coco_entries import whole
from apiece.data.formats.drawing import (
    Drawing,
    Ring,
    ShapeError,
    bitmap_of_rows,
    ellipse,
    rectangle,
    ring_of,
    turned,
)

NO_AREA = {
    "polyline": "a polyline",
    "points": "points",
    "cuboid": "a cuboid",
    "skeleton": "a skeleton",
    "tag": "a tag of the whole picture",
}


def add_shape(
    drawing: Drawing,
    place: int,
    shape: Any,
    label: str | None,
    group: str | None,
    track_id: int | None = None,
) -> None:
    """Add an element to the drawing, or a problem.

    place     its number in the picture, for messages.
    label     its class, as the file has it.
    group     the group_id of it or its track; shapes of one are one object, but 0 is none.
    track_id  of a video.
    """
    where = f"{shape.tag} {place}" + (f' ("{label}")' if label is not None else "")
    if shape.tag in NO_AREA:
        drawing.no_area(where, NO_AREA[shape.tag])
        return
    try:
        if label is None or label not in drawing.class_of:
            raise ShapeError(f"has the label {label!r:.60}, which the document doesn't list.")
        class_id = drawing.class_of[label]
        _add(drawing, where, class_id, shape, None if not group or whole(group) == 0 else group, track_id)
    except ShapeError as error:
        drawing.problem(where, str(error), "redraw or delete it.")


def _add(
    drawing: Drawing, where: str, class_id: int, shape: Any, group: str | None, track_id: int | None
) -> None:
    if shape.tag == "polygon":
        drawing.ring(where, class_id, _points(shape.get("points")), group=group, track_id=track_id)
    elif shape.tag == "box":
        left, top, right, bottom = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        degrees = _number(shape, "rotation", 0.0)
        ring = turned(rectangle(left, top, right, bottom), ((left + right) / 2, (top + bottom) / 2), degrees)
        drawing.ring(where, class_id, ring, group=group, box=degrees == 0, track_id=track_id)
    elif shape.tag == "ellipse":
        x, y, radius_x, radius_y = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        ring = ellipse(x, y, radius_x, radius_y, _number(shape, "rotation", 0.0))
        drawing.ring(where, class_id, ring, group=group, track_id=track_id)
    elif shape.tag == "mask":
        _add_mask(drawing, class_id, shape, group, track_id)
    else:
        raise ShapeError("is of a kind that isn't known.")


def _add_mask(drawing: Drawing, class_id: int, shape: Any, group: str | None, track_id: int | None) -> None:
    left, top, width, height = (whole(shape.get(key)) for key in ("left", "top", "width", "height"))
    if left is None or top is None or width is None or height is None:
        raise ShapeError("has no left, top, width and height in whole pixels.")
    rows, columns = drawing.size
    if min(width, height) < 1 or min(left, top) < 0 or left + width > columns or top + height > rows:
        raise ShapeError(
            f"is at x {left}, y {top}, {height} x {width} (height x width); expected a place in the picture of "
            f"{rows} x {columns}."
        )
    try:
        counts = [int(count) for count in (shape.get("rle") or "").split(",")]
    except ValueError:
        raise ShapeError("has an rle that isn't a list of whole numbers.") from None
    crop, (x, y) = bitmap_of_rows(counts, (height, width), drawing.pixels_left)
    drawing.bitmap(class_id, crop, (left + x, top + y), group=group, track_id=track_id)


def _number(shape: Any, key: str, default: float | None = None) -> float:
    value = shape.get(key, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ShapeError(f"has {key} {value!r:.40}; expected a finite number.")
    return number


def _points(text: str | None) -> Ring:
    try:
        return ring_of([[float(value) for value in point.split(",")] for point in (text or "").split(";")])
    except ValueError:
        raise ShapeError('has points that aren\'t "x,y;x,y;…".') from None
