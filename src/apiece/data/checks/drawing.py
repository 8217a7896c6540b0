"""Pictures for the report: a problem's objects in their surroundings, and duplicates side by side, as data URIs."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.draw import overlay
from apiece.core.image import read_image
from apiece.core.instances import Instances
from apiece.data.checks.report import Spot
from apiece.data.formats.base import Source
from apiece.errors import ApieceError

SIDE = 480  # pixels of a drawing, at most
SMALLEST = 96  # of the surroundings that are shown
AROUND = 1.5  # times an object's sides, shown on each side of it
QUALITY = 78
MARK = (255, 0, 80)  # frame of the object concerned
DRAWN = 2000  # objects of a picture, at most; more would only hide it

RGB = npt.NDArray[np.uint8]


def draw_spot(source: Source, spot: Spot) -> str | None:
    """A problem's picture as a JPEG data URI: its objects framed, all others tinted; None if it can't be read."""
    picture = source.pictures[spot.picture]
    if picture.path is None:
        return None
    try:
        image = read_image(picture.path)
        objects = source.read(spot.picture, [])
    except ApieceError:
        return draw_plain(source, spot)
    if objects.size != image.shape[:2]:
        return draw_plain(source, spot)
    x1, y1, x2, y2 = _window(objects, spot.objects)
    near = np.flatnonzero(
        (objects.boxes[:, 0] < x2)
        & (objects.boxes[:, 2] > x1)
        & (objects.boxes[:, 1] < y2)
        & (objects.boxes[:, 3] > y1)
    )[:DRAWN]
    part = objects[near]
    cut = np.ascontiguousarray(image[y1:y2, x1:x2])
    boxes = np.clip(part.boxes - (x1, y1, x1, y1), 0, (x2 - x1, y2 - y1, x2 - x1, y2 - y1))
    shown = Instances(
        cut.shape[:2], part.masks.crop_to(x1, y1, x2, y2), part.class_ids, boxes=boxes, classes=part.classes
    )
    scale = SIDE / max(cut.shape[:2])
    if scale > 1:
        size = max(1, round(cut.shape[0] * scale)), max(1, round(cut.shape[1] * scale))
        cut = np.ascontiguousarray(cv2.resize(cut, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
        shown = Instances(
            size, shown.masks.resize(size), shown.class_ids, boxes=shown.boxes * scale, classes=shown.classes
        )
    canvas = overlay(cut, shown, fill=0.15, ids=False, max_side=SIDE)
    for i in spot.objects:
        _frame(canvas, objects.boxes[i] - (x1, y1, x1, y1), canvas.shape[1] / (x2 - x1))
    return _uri(canvas)


def draw_plain(source: Source, spot: Spot) -> str | None:
    """The picture alone, as a JPEG data URI; None if it can't be read."""
    path = source.pictures[spot.picture].path
    if path is None:
        return None
    try:
        image = read_image(path)
    except ApieceError:
        return None
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return _uri(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def _window(objects: Instances, chosen: tuple[int, ...]) -> tuple[int, int, int, int]:
    """What to show, x1, y1, x2, y2: the objects and some surroundings, or everything where none is chosen."""
    height, width = objects.size
    if not chosen:
        return 0, 0, width, height
    boxes = objects.boxes[list(chosen)]
    x1, y1 = boxes[:, :2].min(axis=0).tolist()
    x2, y2 = boxes[:, 2:].max(axis=0).tolist()
    side = max(SMALLEST, max(x2 - x1, y2 - y1) * (1 + 2 * AROUND))
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    left, top = max(0, int(middle_x - side / 2)), max(0, int(middle_y - side / 2))
    left, top = max(0, min(left, width - int(side))), max(0, min(top, height - int(side)))
    return left, top, min(width, left + int(side)), min(height, top + int(side))


def _frame(canvas: RGB, box: npt.NDArray[np.float32], scale: float) -> None:
    x1, y1, x2, y2 = (box * scale).tolist()
    corner = max(0, round(x1) - 4), max(0, round(y1) - 4)
    other = min(canvas.shape[1] - 1, round(x2) + 3), min(canvas.shape[0] - 1, round(y2) + 3)
    cv2.rectangle(canvas, corner, other, (255, 255, 255), 4)
    cv2.rectangle(canvas, corner, other, MARK, 2)


def _uri(image: RGB) -> str:
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
    )
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
