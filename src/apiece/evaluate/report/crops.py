"""Crops: what is around an entry, as a small picture, with outlines of truth and prediction as vector paths."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.image import read_image
from apiece.core.masks import Masks
from apiece.errors import ApieceError
from apiece.evaluate.scenes import Float64, Int64, Objects
from apiece.evaluate.subject import Subject

RGB = NDArray[np.uint8]
Side = Literal["truth", "prediction"]
Role = Literal["subject", "near", "candidate"]

SIDE = 288  # pixels of a crop, at most; smaller ones are enlarged by the browser
WHOLE = 512  # of a whole picture
SMALLEST = 48  # pixels of the surroundings that are shown
AROUND = 0.45  # times the objects' longer side, shown on each side of them
QUALITIES = (72, 45, 20, 8)  # of WebP; the next where a picture of much detail is larger than
MOST_BYTES = 28_000  # for a crop; a page of a hundred stays below 6 MB
MOST_BYTES_WHOLE = 90_000
GROUND = (33, 38, 46)
NEIGHBOURS = 40  # of a side, drawn thinly; more would only hide the picture
STEP = 0.8  # pixels on the page by which an outline may be straightened
STAIR = 0.75  # pixels of the picture: the steps of a slanting line
TINY = 8  # pixels of an outline's longer side below which it is drawn to the pixel

Window = tuple[int, int, int, int]


class Outline(NamedTuple):
    """An object's outline in the crop's own pixels, as the data of an SVG path."""

    side: Side
    role: Role
    path: str


@dataclass(frozen=True)
class Wish:
    """A crop that is wanted.

    key          by which it is found again.
    image        place of the picture in the scenes.
    truth        places of the true objects that it is about; drawn strongly, as are
    predicted    those of the predictions.
    candidates   places of predictions that do not count, but explain.
    whole        the whole picture rather than what is around those objects.
    box          what else it must show, x1, y1, x2, y2 in pixels of the picture.
    """

    key: str
    image: int
    truth: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()
    whole: bool = False
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Crop:
    """A picture and its outlines.

    uri       data URI of the picture; "" where it could not be read.
    width     in pixels of the picture, which are the outlines' unit.
    height    the same.
    outlines  from back to front.
    note      why there is no picture; "" where there is.
    """

    uri: str
    width: int
    height: int
    outlines: tuple[Outline, ...]
    note: str = ""


@dataclass(frozen=True)
class Drawn:
    """All crops by their key, and sentences about what could not be drawn."""

    crops: Mapping[str, Crop]
    notes: tuple[str, ...] = field(default=())


def draw(subject: Subject, wishes: Iterable[Wish], counted: NDArray[np.bool_], kind: str) -> Drawn:
    """Draw what is wanted, picture by picture, each read once and none kept.

    counted  bool (P,), predictions that count: others are no neighbours.
    kind     "segm" draws masks where there are any; "bbox" draws boxes.
    """
    by_image: dict[int, list[Wish]] = {}
    for wish in wishes:
        by_image.setdefault(wish.image, []).append(wish)
    scenes = subject.scenes
    near = {
        "truth": _by_image(scenes.truth, ~scenes.truth.crowd, by_image),
        "prediction": _by_image(scenes.predicted, counted, by_image),
    }
    crops: dict[str, Crop] = {}
    unread: list[str] = []
    missing = 0
    for image, wanted in sorted(by_image.items()):
        size = _size(subject, image, wanted)
        picture, why = _read(subject, image, size)
        missing += why == MISSING
        if picture is None and why != MISSING:
            unread.append(why)
        for wish in wanted:
            neighbours = {side: near[side][image] for side in ("truth", "prediction")}
            crops[wish.key] = _drawn(subject, wish, picture, size, why, neighbours, kind)
    notes = tuple(unread[:5])
    if len(unread) > 5:
        notes += (f"{len(unread) - 5} more pictures could not be shown.",)
    if missing:
        notes += (
            f"{missing} of the {len(by_image)} pictures to show were not found; their objects are shown on a plain "
            "ground. Remedy: keep the picture files where the ground truth says they are.",
        )
    return Drawn(crops, notes)


MISSING = "The picture file was not found."


def _by_image(objects: Objects, which: NDArray[np.bool_], images: Iterable[int]) -> dict[int, Int64]:
    wanted = sorted(images)
    some = np.flatnonzero(which & np.isin(objects.images, wanted))
    some = some[np.argsort(objects.images[some], kind="stable")]
    of = objects.images[some]
    cuts = np.searchsorted(of, wanted), np.searchsorted(of, wanted, side="right")
    return {image: some[a:b] for image, a, b in zip(wanted, cuts[0].tolist(), cuts[1].tolist(), strict=True)}


def _size(subject: Subject, image: int, wishes: Sequence[Wish]) -> tuple[int, int]:
    """(height, width); what the objects need where the file doesn't say."""
    known = subject.scenes.sizes[image]
    if known is not None:
        return known
    ends = [(1.0, 1.0)]
    for objects in (subject.scenes.truth, subject.scenes.predicted):
        here = objects.images == image
        for i in np.flatnonzero(here).tolist():
            mask = objects.masks[i]
            if mask is not None:
                return int(mask["size"][0]), int(mask["size"][1])
        boxes = objects.boxes[here]
        if len(boxes):
            x, y = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).tolist()
            ends.append((y, x))
    ends += [(wish.box[3], wish.box[2]) for wish in wishes if wish.box is not None]
    height, width = (max(1, int(np.ceil(max(end)))) for end in zip(*ends, strict=True))
    return height, width


def _read(subject: Subject, image: int, size: tuple[int, int]) -> tuple[RGB | None, str]:
    path, name = subject.paths[image], subject.names[image]  # a page that is sent on names no folders
    if path is None:
        return None, MISSING
    try:
        picture = read_image(path)
    except ApieceError as error:
        return None, str(error).replace(str(path), name)
    if picture.shape[:2] != size and subject.scenes.sizes[image] is not None:
        return None, (
            f"{name}: has {picture.shape[0]} × {picture.shape[1]} pixels, but the ground truth says "
            f"{size[0]} × {size[1]} (height × width), so its objects can't be drawn on it."
        )
    return picture, ""


def _drawn(
    subject: Subject,
    wish: Wish,
    picture: RGB | None,
    size: tuple[int, int],
    why: str,
    neighbours: Mapping[str, Int64],
    kind: str,
) -> Crop:
    truth, predicted = subject.scenes.truth, subject.scenes.predicted
    window = (0, 0, size[1], size[0]) if wish.whole else _window(subject, wish, size)
    width, height = window[2] - window[0], window[3] - window[1]
    scale = (WHOLE if wish.whole else SIDE) / max(width, height)
    outlines: list[Outline] = []

    def add(objects: Objects, side: Side, role: Role, places: Sequence[int]) -> None:
        tolerance = max(STAIR, STEP / scale)
        paths = _paths(objects, places, window, kind, tolerance)
        outlines.extend(Outline(side, role, path) for path in paths if path)

    if not wish.whole:
        for objects, side, own in (
            (truth, "truth", wish.truth),
            (predicted, "prediction", (*wish.predicted, *wish.candidates)),
        ):
            around = _inside(objects, neighbours[side], window)
            add(objects, side, "near", [i for i in around if i not in own][:NEIGHBOURS])  # type: ignore[arg-type]
    add(predicted, "prediction", "candidate", wish.candidates)
    add(truth, "truth", "subject", wish.truth)
    add(predicted, "prediction", "subject", wish.predicted)
    uri = (
        ""
        if picture is None
        else _uri(_cut(picture, window), scale, MOST_BYTES_WHOLE if wish.whole else MOST_BYTES)
    )
    return Crop(uri, width, height, tuple(outlines), why)


def _window(subject: Subject, wish: Wish, size: tuple[int, int]) -> Window:
    """A square around the objects, as far as the picture reaches where that is smaller; it may leave the picture."""
    scenes = subject.scenes
    boxes = np.concatenate(
        [
            scenes.truth.boxes[list(wish.truth)],
            scenes.predicted.boxes[[*wish.predicted, *wish.candidates]],
        ]
    )
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    if wish.box is not None:
        corners = np.vstack([corners, wish.box])
    height, width = size
    low = np.clip(corners[:, :2].min(axis=0, initial=np.inf), 0, (width, height))
    high = np.clip(corners[:, 2:].max(axis=0, initial=0), 0, (width, height))
    if (high < low).any():
        low, high = np.zeros(2), np.array([width, height], np.float64)
    side = max(SMALLEST, float((high - low).max()) * (1 + 2 * AROUND))
    side = int(np.ceil(min(side, max(size))))
    x, y = (
        _placed(float(a), float(b), side, end) for a, b, end in zip(low, high, (width, height), strict=True)
    )
    return x, y, x + side, y + side


def _placed(low: float, high: float, side: int, end: int) -> int:
    """Where a window of this side begins: around the middle, inside the picture where it fits."""
    begin = round((low + high - side) / 2)
    return (end - side) // 2 if side >= end else min(max(0, begin), end - side)


def _inside(objects: Objects, places: Int64, window: Window) -> list[int]:
    """Objects whose box reaches into the window, the largest first."""
    x, y, w, h = objects.boxes[places].T
    meets = (x < window[2]) & (x + w > window[0]) & (y < window[3]) & (y + h > window[1])
    found = places[meets]
    sizes: Float64 = (w * h)[meets]
    return [int(i) for i in found[np.argsort(-sizes, kind="stable")]]


def _cut(picture: RGB, window: Window) -> RGB:
    x1, y1, x2, y2 = window
    height, width = picture.shape[:2]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return picture[y1:y2, x1:x2]
    canvas = np.full((y2 - y1, x2 - x1, 3), GROUND, np.uint8)
    left, top, right, bottom = max(0, x1), max(0, y1), min(width, x2), min(height, y2)
    canvas[top - y1 : bottom - y1, left - x1 : right - x1] = picture[top:bottom, left:right]
    return canvas


def _uri(part: RGB, scale: float, most: int) -> str:
    if scale < 1:
        size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2BGR)
    for quality in QUALITIES:
        _, data = cv2.imencode(".webp", bgr, (cv2.IMWRITE_WEBP_QUALITY, quality))
        if data.size <= most:
            break
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _paths(objects: Objects, places: Sequence[int], window: Window, kind: str, tolerance: float) -> list[str]:
    """SVG path data of each object in the window's own pixels; "" where nothing of it is inside."""
    if not places:
        return []
    masks = [objects.masks[i] for i in places]
    if kind == "bbox" or any(mask is None for mask in masks):
        return [_box_path(objects.boxes[i], window) for i in places]
    size = masks[0]["size"]  # type: ignore[index]
    shown = Masks.from_coco(masks, size).crop_to(*window)
    return [
        "".join(_ring_path(ring, tolerance) for outer, holes in parts for ring in (outer, *holes))
        for parts in shown.to_polygons()
    ]


def _ring_path(ring: Float64, tolerance: float) -> str:
    """A closed line, straightened by at most `tolerance` pixels, so that it is short and its steps don't show."""
    points = cv2.approxPolyDP(ring.astype(np.float32).reshape(-1, 1, 2), tolerance, True).reshape(-1, 2)
    if len(points) < 3 or np.ptp(ring, axis=0).max() < TINY:
        points = ring
    x, y = np.round(points, 1).T.tolist()
    told = " ".join(f"{a:g} {b:g}" for a, b in zip(x, y, strict=True))
    return f"M{told}Z"


def _box_path(box: Float64, window: Window) -> str:
    x, y, w, h = box.tolist()
    left, top = x - window[0], y - window[1]
    return f"M{left:.1f} {top:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}Z"
