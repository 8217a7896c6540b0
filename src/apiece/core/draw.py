"""Overlays: the objects drawn onto their picture, so that a person can check the count by eye."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import GeometryError

RGB = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Bright enough for dark pictures, strong enough for light ones, and told apart side by side: RGB.
PALETTE: tuple[Colour, ...] = (
    (230, 25, 75),  # red
    (60, 200, 75),  # green
    (255, 215, 0),  # yellow
    (40, 110, 255),  # blue
    (255, 130, 30),  # orange
    (180, 60, 230),  # violet
    (30, 220, 230),  # cyan
    (250, 60, 200),  # magenta
    (180, 240, 40),  # lime
    (0, 160, 140),  # teal
    (255, 150, 160),  # rose
    (160, 120, 255),  # lavender
)
STEP = 5  # through the palette from one object to the next; has no factor in common with its length
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
FONT = cv2.FONT_HERSHEY_DUPLEX
SMALLEST_TEXT = 0.3  # OpenCV's font scale, about 7 pixels of height; less can't be read


def overlay(
    image: RGB,
    instances: Instances,
    *,
    fill: float = 0.35,
    outline: bool = True,
    ids: bool = True,
    scores: bool = False,
    max_side: int | None = None,
) -> RGB:
    """The picture with every object tinted, outlined and numbered: uint8 (H, W, 3), RGB, a new array.

    image     uint8 (H, W, 3), RGB, of the instances' size.
    fill      opacity of the tint, 0 (none) to 1.
    outline   an object's outermost 1 to 3 pixels, more in a larger picture; drawn for every object, however
              small. An object without a mask shows its box.
    ids       the object's number: its track id, or else its position counted from 1, which is its label in a
              label image. Left out where the object is too small for legible digits.
    scores    the score beside, or in place of, the number.
    max_side  longer side of the result in pixels, at most; None keeps the picture's size. Never enlarges.

    Objects near one another get different colours as far as a palette of 12 allows; with track ids a track
    keeps its colour from picture to picture instead. Larger objects lie beneath smaller ones. Time goes with
    the picture's size and the objects' areas.

    raises    GeometryError if the picture is of another size or type, or `fill` or `max_side` out of range.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.shape[:2] != instances.size:
        raise GeometryError(
            f"got a picture of {image.dtype} {image.shape} for instances on {instances.size}; "
            "expected uint8 (height, width, 3) of that size. Remedy: pass the picture that was segmented."
        )
    if not 0 <= fill <= 1:
        raise GeometryError(f"fill is {fill}; expected an opacity from 0 to 1.")
    if max_side is not None and max_side < 1:
        raise GeometryError(f"max_side is {max_side}; expected at least 1 pixel.")
    canvas, masks, boxes = _shrunk(image, instances, max_side)
    colours = colours_of(instances)
    areas = np.where(masks.areas > 0, masks.areas, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    order = np.argsort(-areas, kind="stable").tolist()
    if fill > 0:
        for i in order:
            _tint(canvas, masks, i, colours[i], fill)
    if outline:
        width = min(3, max(1, round(max(canvas.shape[:2]) / 700)))
        for i in order:
            _outline(canvas, masks, i, boxes[i], colours[i], width)
    if ids or scores:
        largest = min(1.5, max(0.45, max(canvas.shape[:2]) / 1600))
        for i in order:
            _label(canvas, masks, i, _text(instances, i, ids, scores), largest)
    return canvas


def colours_of(instances: Instances) -> list[Colour]:
    """A colour for each object, as `overlay` uses them."""
    if instances.track_ids is not None:
        return [PALETTE[int(track) * STEP % len(PALETTE)] for track in instances.track_ids]
    return _spread(instances.boxes.astype(np.float64))


def _spread(boxes: npt.NDArray[np.float64]) -> list[Colour]:
    """Greedy colouring: each object takes a colour that no object with an overlapping, grown box has taken.

    Objects are visited from left to right, so that only those within the widest box's reach are looked at.
    Where all colours are taken, the one taken least is used again.
    """
    count = len(boxes)
    margin = 4 + 0.15 * np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1, keepdims=True))
    grown = boxes + margin * (-1, -1, 1, 1)
    visited = np.argsort(grown[:, 0], kind="stable")
    x1, y1, x2, y2 = grown[visited].T
    reach = float((x2 - x1).max()) if count else 0.0
    begins = np.searchsorted(x1, x1 - reach)
    taken = np.zeros(count, np.int64)
    for place, (begin, index) in enumerate(zip(begins.tolist(), visited.tolist(), strict=True)):
        earlier = slice(begin, place)
        near = (x2[earlier] > x1[place]) & (y1[earlier] < y2[place]) & (y2[earlier] > y1[place])
        uses = np.bincount(taken[earlier][near], minlength=len(PALETTE))
        wanted = (index * STEP + np.arange(len(PALETTE)) * STEP) % len(PALETTE)
        taken[place] = wanted[np.argmin(uses[wanted])]
    colours = np.empty(count, np.int64)
    colours[visited] = taken
    return [PALETTE[colour] for colour in colours]


def _shrunk(
    image: RGB, instances: Instances, max_side: int | None
) -> tuple[RGB, Masks, npt.NDArray[np.float64]]:
    height, width = instances.size
    scale = 1.0 if max_side is None else max_side / max(height, width)
    boxes = instances.boxes.astype(np.float64)
    if scale >= 1:
        return np.array(image, order="C"), instances.masks, boxes
    size = max(1, round(height * scale)), max(1, round(width * scale))
    shrunk = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    boxes = boxes * ([size[1] / width, size[0] / height] * 2)
    return np.ascontiguousarray(shrunk, np.uint8), instances.masks.resize(size), boxes


def _window(canvas: RGB, masks: Masks, i: int) -> tuple[RGB, npt.NDArray[np.bool_]]:
    (x, y), (height, width) = masks.offsets[i].tolist(), masks.shapes[i].tolist()
    return canvas[y : y + height, x : x + width], masks.crop(i)


def _tint(canvas: RGB, masks: Masks, i: int, colour: Colour, fill: float) -> None:
    window, crop = _window(canvas, masks, i)
    inside = window[crop].astype(np.float32)
    window[crop] = (inside * (1 - fill) + np.array(colour, np.float32) * fill + 0.5).astype(np.uint8)


def _outline(
    canvas: RGB, masks: Masks, i: int, box: npt.NDArray[np.float64], colour: Colour, width: int
) -> None:
    window, crop = _window(canvas, masks, i)
    if not crop.size:  # no mask, or shrunk to nothing: the box stands for it, at least as one pixel
        limit = np.array([*canvas.shape[1::-1]] * 2) - 1
        left, top, right, bottom = np.clip(np.floor(box - (0, 0, 0.5, 0.5)), 0, limit).astype(int).tolist()
        cv2.rectangle(canvas, (left, top), (max(left, right), max(top, bottom)), colour, min(width, 2))
        return
    # The object's own outermost pixels, so that the outlines of touching objects don't cover one another.
    # (OpenCV's line of thickness 3 is five pixels wide.)
    solid = crop.view(np.uint8)
    rounds = 1 if min(crop.shape) < 16 else width
    core = cv2.erode(solid, CROSS, iterations=rounds, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    window[solid > core] = colour


def _text(instances: Instances, i: int, ids: bool, scores: bool) -> str:
    number = i + 1 if instances.track_ids is None else int(instances.track_ids[i])
    parts = [str(number)] if ids else []
    if scores:
        parts.append(f"{instances.scores[i]:.2f}")
    return " ".join(parts)


def _label(canvas: RGB, masks: Masks, i: int, text: str, largest: float) -> None:
    """White digits with a dark edge where the object is widest, if they fit there."""
    crop = masks.crop(i)
    (width, height), _ = cv2.getTextSize(text, FONT, 1.0, 1)
    diagonal = float(np.hypot(width, height))
    if min(crop.shape) < diagonal * SMALLEST_TEXT * 0.7:
        return
    step = max(1, min(crop.shape) // 64)  # the widest place of a large object needn't be found to the pixel
    inside = np.pad(crop[::step, ::step].view(np.uint8), 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    _, radius, _, (column, row) = cv2.minMaxLoc(distance)
    scale = min(largest, 2 * radius * step / diagonal)
    if scale < SMALLEST_TEXT:
        return
    (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
    x, y = masks.offsets[i].tolist()
    left = x + round((column - 1) * step - width / 2)
    base = y + round((row - 1) * step + height / 2)
    # The edge is the text itself moved by a pixel: OpenCV 5 has other fonts, with no use for a thickness.
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        colour = (255, 255, 255) if dx == dy == 0 else (20, 20, 20)
        cv2.putText(canvas, text, (left + dx, base + dy), FONT, scale, colour, 1, cv2.LINE_AA)
