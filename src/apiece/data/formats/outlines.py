"""Outlines: the objects of one picture as parts with holes, collected until they become masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import MAX_PIXELS, Masks
from apiece.core.polygons import Part
from apiece.data.formats.base import Size, report
from apiece.data.formats.drawing import Ring, ShapeError, ring_of
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, GeometryError

BATCH = 1 << 14  # objects whose outlines are held before they become masks, which are smaller
MARGIN = 1.0  # px by which an outline may leave its picture before this is said


class Outlines:
    """Collects objects in order, each with its parts (outer ring, holes); rings of a part count by even and odd.

    size   (height, width) of the picture; coordinates are its pixels, (0, 0) being its corner.
    file   as problems name it.
    found  where problems go; None: the first error is raised (see `report`).
    """

    def __init__(self, size: Size, classes: ClassMap, file: str, found: list[Problem] | None) -> None:
        self.size, self.classes, self.file, self.found = size, classes, file, found
        self._index = {name: i for i, name in enumerate(classes.names)}
        self._parts: list[Sequence[Part]] = []
        self._masks = [Masks.empty(size)]
        self._pixels = 0
        self._class_ids: list[int] = []
        self._scores: list[float] = []
        self._tracks: list[int] = []
        self._crowds: list[bool] = []
        self._boxes: list[bool] = []
        self._places: list[str] = []

    def add(
        self,
        where: str,
        class_name: str,
        parts: Sequence[Part],
        *,
        box: bool = False,
        score: float = 1.0,
        crowd: bool = False,
        track: int = 0,
    ) -> None:
        """Add an object.

        raises  ShapeError if it lies outside the picture wholly; AnnotationError as `instances`.
        """
        height, width = self.size
        low = np.min([ring.min(axis=0) for ring, _ in parts], axis=0).tolist()
        high = np.max([ring.max(axis=0) for ring, _ in parts], axis=0).tolist()
        span = (
            f"(x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}; the picture has {height} x {width} pixels, "
            "height x width)"
        )
        if high[0] < -MARGIN or high[1] < -MARGIN or low[0] > width + MARGIN or low[1] > height + MARGIN:
            raise ShapeError(f"lies outside its picture {span}.")
        if min(low) < -MARGIN or high[0] > width + MARGIN or high[1] > height + MARGIN:
            self.warn(where, f"reaches beyond its picture {span}.", "nothing: what lies outside is cut off.")
        self._parts.append(parts)
        self._class_ids.append(self._index[class_name])
        self._scores.append(score)
        self._tracks.append(track)
        self._crowds.append(crowd)
        self._boxes.append(box)
        self._places.append(where)
        if len(self._parts) >= BATCH:
            self._make_masks()

    def _make_masks(self) -> None:
        try:
            made = Masks.from_polygons(self._parts, self.size, max_pixels=MAX_PIXELS - self._pixels)
        except (AnnotationError, GeometryError) as error:
            raise AnnotationError(f"{self.file}: {error}") from None
        self._masks.append(made)
        self._pixels += made.pixels.size
        self._parts = []

    def problem(self, where: str, message: str, remedy: str) -> None:
        """Note an error that leaves the object out, or raise it."""
        report(Problem("error", self.file, where, message, remedy, "the object"), self.found)

    def warn(self, where: str, message: str, remedy: str, left_out: str = "") -> None:
        """Note a warning."""
        report(Problem("warning", self.file, where, message, remedy, left_out), self.found)

    def instances(self) -> Instances:
        """All objects; columns and track ids are there where any object has them.

        raises  AnnotationError if the masks together need more pixels than one picture may.
        """
        self._make_masks()
        masks = Masks.concatenate(self._masks)
        for i in np.flatnonzero(masks.areas == 0).tolist():
            self.warn(self._places[i], "covers no pixel's centre.", "nothing, or delete it.")
        flags = {"iscrowd": self._crowds, "box_mask": self._boxes}
        return Instances(
            self.size,
            masks,
            np.array(self._class_ids, np.int64),
            np.array(self._scores, np.float32),
            classes=self.classes,
            track_ids=np.array(self._tracks, np.int64) if any(self._tracks) else None,
            columns={name: np.array(flag, np.bool_) for name, flag in flags.items() if any(flag)} or None,
        )


def one_part(rings: Sequence[Ring]) -> Part:
    """The rings of one part, the first being the outer one, each checked and without a repeated first point.

    raises  ShapeError if there is none, or one is no ring.
    """
    if not rings:
        raise ShapeError("has no ring; expected an outline.")
    open_rings = []
    for ring in rings:
        points = ring_of(ring)
        if len(points) > 3 and (points[0] == points[-1]).all():
            points = points[:-1]
        open_rings.append(points)
    return open_rings[0], open_rings[1:]
