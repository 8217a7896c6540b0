"""Drawing: the shapes that an annotation tool drew on one picture, collected until they become masks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import MAX_PIXELS, Masks
from apiece.core.polygons import FAR
from apiece.data.formats.base import Size, report
from apiece.data.problems import Problem
from apiece.errors import AnnotationError

Ring = NDArray[np.float64]
Bool = NDArray[np.bool_]
SAGITTA = 0.01  # px that the polygon of an ellipse may differ from it
MOST_CORNERS = 4096


class ShapeError(Exception):
    """What is wrong with one shape, to be told in a Problem; never leaves the readers."""


class Drawing:
    """Collects the shapes of one picture, in order; shapes of one group are the parts of one object.

    size     (height, width) of the picture; coordinates are its pixels, (0, 0) being its corner.
    file     as problems name it.
    picture  which one of the file's; "" where the file is of one picture.
    found    where problems go; None: the first error is raised (see `report`).
    class_of the index of each class by its name.
    """

    def __init__(
        self, size: Size, classes: ClassMap, file: str, found: list[Problem] | None, picture: str = ""
    ) -> None:
        self.size, self.classes, self.file, self.found, self.picture = size, classes, file, found, picture
        self.class_of = {name: i for i, name in enumerate(classes.names)}
        self._class_ids: list[int] = []
        self._track_ids: list[int | None] = []
        self._rings: list[list[tuple[Ring, Sequence[Ring]]]] = []
        self._boxes: list[bool] = []
        self._crops: list[Bool] = []
        self._corners: list[tuple[int, int]] = []
        self._crop_owners: list[int] = []
        self._groups: dict[Hashable, int] = {}
        self._pixels = 0

    def ring(
        self,
        where: str,
        class_id: int,
        ring: Ring,
        *,
        group: Hashable = None,
        box: bool = False,
        track_id: int | None = None,
    ) -> None:
        """Add an outline (P, 2), filled by even and odd; `box` where it is a drawn rectangle.

        raises  ShapeError if it lies outside the picture wholly. What reaches out by a pixel or more is a warning.
        """
        height, width = self.size
        (left, top), (right, bottom) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
        if right < -1 or bottom < -1 or left > width + 1 or top > height + 1:
            raise ShapeError(f"lies outside its picture {self._span(left, right, top, bottom)}.")
        if left < -1 or top < -1 or right > width + 1 or bottom > height + 1:
            self.warn(
                where,
                f"reaches beyond its picture {self._span(left, right, top, bottom)}.",
                "nothing: what lies outside is cut off.",
            )
        owner = self._owner(class_id, group, box, track_id)
        self._rings[owner].append((ring, ()))

    def bitmap(
        self,
        class_id: int,
        crop: Bool,
        corner: tuple[int, int],
        *,
        group: Hashable = None,
        track_id: int | None = None,
    ) -> None:
        """Add a bitmap (h, w) whose top-left pixel is at x, y."""
        self._pixels += crop.size
        self._crop_owners.append(self._owner(class_id, group, False, track_id))
        self._crops.append(crop)
        self._corners.append(corner)

    @property
    def pixels_left(self) -> int:
        """How many pixels of bitmaps may still be decoded for this picture: a guard against hostile files."""
        return MAX_PIXELS - self._pixels

    def problem(self, where: str, message: str, remedy: str, left_out: str = "the object") -> None:
        """Note an error, or raise it."""
        report(Problem("error", self.file, self._place(where), message, remedy, left_out), self.found)

    def warn(self, where: str, message: str, remedy: str, left_out: str = "") -> None:
        """Note a warning."""
        report(Problem("warning", self.file, self._place(where), message, remedy, left_out), self.found)

    def _place(self, where: str) -> str:
        return f"{self.picture}: {where}" if self.picture else where

    def no_area(self, where: str, what: str) -> None:
        """Note a shape that has no area, such as a point or a line."""
        remedy = "nothing, if it isn't an object; else draw its outline."
        self.warn(where, f"is {what}, which has no area.", remedy, "the shape")

    def instances(self) -> Instances:
        """All objects; "box_mask" is there where any is one, track ids where all have one.

        raises  AnnotationError if the masks together need more pixels than one picture may.
        """
        try:
            masks = self._masks()
        except AnnotationError as error:
            place = f"{self.file}: {self.picture}" if self.picture else self.file
            raise AnnotationError(f"{place}: {error}") from None
        tracks = [track for track in self._track_ids if track is not None]
        return Instances(
            self.size,
            masks,
            np.array(self._class_ids, np.int64),
            classes=self.classes,
            track_ids=np.array(tracks, np.int64) if tracks and len(tracks) == len(masks) else None,
            columns={"box_mask": np.array(self._boxes)} if any(self._boxes) else None,
        )

    def _owner(self, class_id: int, group: Hashable, box: bool, track_id: int | None) -> int:
        if group is not None and (class_id, group) in self._groups:
            owner = self._groups[class_id, group]
            self._boxes[owner] = False  # several rectangles together are a shape of their own
            return owner
        owner = len(self._class_ids)
        if group is not None:
            self._groups[class_id, group] = owner
        self._class_ids.append(class_id)
        self._track_ids.append(track_id)
        self._rings.append([])
        self._boxes.append(box)
        return owner

    def _masks(self) -> Masks:
        drawn = Masks.from_polygons(self._rings, self.size)
        if not self._crops:
            return drawn
        painted = Masks.from_crops(self._crops, np.array(self._corners, np.int64), self.size)
        pieces = Masks.concatenate([drawn, painted])
        of_object: list[list[int]] = [[i] if rings else [] for i, rings in enumerate(self._rings)]
        for place, owner in enumerate(self._crop_owners):
            of_object[owner].append(len(drawn) + place)
        united = [pieces[places].union() for places in of_object if len(places) > 1]
        order, next_union = [], len(pieces)
        for places in of_object:
            order.append(places[0] if len(places) == 1 else next_union)
            next_union += len(places) > 1
        return Masks.concatenate([pieces, *united])[order]

    def _span(self, left: float, right: float, top: float, bottom: float) -> str:
        height, width = self.size
        return (
            f"(x {left:g} to {right:g}, y {top:g} to {bottom:g}; the picture has {height} x {width} pixels, "
            "height x width)"
        )


def ring_of(points: Any, least: int = 3) -> Ring:
    """Points as files hold them, as float64 (P, 2).

    raises  ShapeError unless they are at least `least` pairs of finite numbers.
    """
    try:
        array = np.asarray(points)
    except (ValueError, TypeError, OverflowError):
        array = np.zeros(0, np.object_)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iuf":
        raise ShapeError("has points that are not a list of pairs of numbers x, y.")
    if len(array) < least:
        raise ShapeError(f"has {len(array)} points; expected at least {least}.")
    ring = array.astype(np.float64)
    if not (np.abs(ring) <= FAR).all():
        raise ShapeError(f"has a coordinate that is not a finite number within ±{FAR:g}.")
    return ring


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    """The ring of a rectangle with level sides; corners may come in any order."""
    x0, x1 = sorted((left, right))
    y0, y1 = sorted((top, bottom))
    return ring_of([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Ring:
    """The ring of an ellipse around (x, y), turned clockwise on the screen; off by 0.01 px at most.

    raises  ShapeError if a radius is not positive.
    """
    if not (radius_x > 0 and radius_y > 0):
        raise ShapeError(f"has the radii {radius_x:g} and {radius_y:g}; expected positive numbers.")
    corners = math.ceil(math.pi * math.sqrt(max(radius_x, radius_y) / (2 * SAGITTA)))
    angle = np.linspace(0, 2 * np.pi, min(max(corners, 8), MOST_CORNERS), endpoint=False)
    flat = np.column_stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)])
    return ring_of(turned(flat, (x, y), degrees))


def turned(ring: Ring, around: tuple[float, float], degrees: float) -> Ring:
    """A ring turned clockwise on the screen (y points down)."""
    if not degrees:
        return ring
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (ring - around).T
    return np.column_stack([x * cos - y * sin, x * sin + y * cos]) + around


def bitmap_of_rows(counts: Sequence[int], size: Size, most: int) -> tuple[Bool, tuple[int, int]]:
    """The bitmap of run lengths along the rows of an area (h, w), background first: its tight crop and x, y.

    most    the most pixels that the crop may have.
    raises  ShapeError unless the counts are whole numbers that fill the area; AnnotationError beyond `most`.
    """
    height, width = size
    try:
        total = sum(counts)
        whole = set(map(type, counts)) <= {int}
    except TypeError:
        total, whole = -1, False
    if not whole or total != height * width or min(counts, default=-1) < 0:
        raise ShapeError(
            f"has run lengths that sum to {total if whole else 'no number'}; expected whole numbers, not negative, "
            f"that sum to height × width = {height * width}."
        )
    # COCO counts down the columns: the same counts, read so, give the mask with x and y exchanged.
    rle = {"size": [width, height], "counts": counts}
    mask = Masks.from_coco([rle], (width, height), max_pixels=most)
    y, x = mask.offsets[0].tolist()
    return mask.crop(0).T, (x, y)


def row_counts(crop: Bool) -> list[int]:
    """Run lengths of a bitmap along its rows, background first; the inverse of `bitmap_of_rows`."""
    flat = crop.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begin = [0] if flat.size == 0 or not flat[0] else [0, 0]
    counts: list[int] = np.diff(np.concatenate([begin, changes, [flat.size]]).astype(np.int64)).tolist()
    return counts


def rectangles(masks: Masks, flags: Bool | None) -> list[bool]:
    """Which masks can be written as drawn rectangles: flagged so, and full."""
    if flags is None:
        return [False] * len(masks)
    full = masks.areas == masks.shapes[:, 0].astype(np.int64) * masks.shapes[:, 1]
    kept: list[bool] = (np.asarray(flags, np.bool_) & full & (masks.areas > 0)).tolist()
    return kept
