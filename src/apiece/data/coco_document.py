"""What COCO files hold once checked: pictures, categories and objects, whose masks are made when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.coco_entries import Entry
from apiece.data.coco_index import DRAWN, CocoIndex
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, GeometryError


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One entry of `images`; height and width in pixels, `file_name` as given ("" where there is none)."""

    id: int
    file_name: str
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """A COCO document whose entries have been checked. Its annotations stay in the file until they are asked for.

    path      the file.
    images    its pictures, in the file's order.
    classes   its categories, by increasing id.
    problems  what was found wrong; with errors only if it was read with strict=False.

    A file of more than 32 MB must not change while it is in use: AnnotationError says so if it has.
    """

    path: Path
    images: tuple[ImageRecord, ...]
    classes: ClassMap
    problems: tuple[Problem, ...] = ()
    _index: CocoIndex | None = field(default=None, repr=False)
    _records: Mapping[int, ImageRecord] = field(default_factory=dict, repr=False)

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """Images, categories and annotations that were kept, as COCO has them: ids are integers, every annotation
        has id, iscrowd, area and bbox. Made and kept when first asked for: it takes ten times the file's size."""
        if self._index is None:
            images = [
                {"id": one.id, "file_name": one.file_name, "height": one.height, "width": one.width}
                for one in self.images
            ]
            return {"images": images, "annotations": [], "categories": self.classes.to_coco()}
        document = self._index.document({record.id: record.size for record in self.images})
        lacking: dict[int, list[Entry]] = {}
        for entry in document["annotations"]:
            if "area" not in entry or "bbox" not in entry:
                lacking.setdefault(entry["image_id"], []).append(entry)
        for image_id, rows in lacking.items():
            self._measure(rows, self._records[image_id])
        return document

    @property
    def annotation_count(self) -> int:
        """Objects in the document, crowd regions among them."""
        return 0 if self._index is None else len(self._index.rows)

    @property
    def has_masks(self) -> bool:
        """Whether every object has an outline; without objects, True."""
        return self._index is None or bool(self._index.rows[:, DRAWN].all())

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._records

    def image(self, image_id: int) -> ImageRecord:
        """The picture with this id.

        raises  AnnotationError when there is none.
        """
        try:
            return self._records[image_id]
        except KeyError:
            raise AnnotationError(f"{self.path}: has no image with id {image_id!r}.") from None

    def annotations(self, image_id: int) -> list[Entry]:
        """The annotations of a picture, in the file's order, as `document` has them; to be changed as one likes."""
        rows = self._rows(image_id)
        self._measure([row for row in rows if "area" not in row or "bbox" not in row], self.image(image_id))
        return rows

    def instances(self, image_id: int) -> Instances:
        """The objects of a picture, in the file's order; masks are made now, exactly as pycocotools does.

        An object with a box and no outline keeps its box and has an empty mask; so has one that covers no pixel.
        columns  "iscrowd" bool, "annotation_id" int64.
        Track ids are kept where every object of the picture has an integer `track_id`.
        raises   AnnotationError naming the annotation if a run-length code doesn't hold.
        """
        return self.instances_of(self._rows(image_id), image_id)

    def instances_of(
        self,
        rows: Sequence[Entry],
        image_id: int,
        scores: npt.ArrayLike | None = None,
        columns: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Instances:
        """`instances` for annotations of a picture that are at hand, with scores and further columns."""
        masks = masks_of(rows, self.image(image_id), self._name(rows))
        tracks = [row.get("track_id") for row in rows]
        tracked = bool(rows) and all(type(t) is int and abs(t) < 2**63 for t in tracks)
        return Instances(
            masks.size,
            masks,
            np.array([self.classes.index_of(row["category_id"]) for row in rows], np.int64),
            scores,
            boxes=_boxes(rows, masks),
            classes=self.classes,
            track_ids=np.array(tracks, np.int64) if tracked else None,
            columns={
                "iscrowd": np.array([row["iscrowd"] for row in rows], np.bool_),
                "annotation_id": np.array([row["id"] for row in rows], np.int64),
                **(columns or {}),
            },
        )

    def _rows(self, image_id: int) -> list[Entry]:
        record = self.image(image_id)
        return [] if self._index is None else self._index.annotations(image_id, record.size)

    def _name(self, rows: Sequence[Entry]) -> Callable[[int], str]:
        return lambda i: f"{self.path}: annotation {rows[i]['id']}"

    def _measure(self, rows: Sequence[Entry], record: ImageRecord) -> None:
        """Give every entry the area and box that it lacks: its mask's, or its box's."""
        masks = masks_of(rows, record, self._name(rows))
        for row, area, (x1, y1, x2, y2) in zip(rows, masks.areas.tolist(), masks.boxes.tolist(), strict=True):
            if "segmentation" not in row:
                row.setdefault("area", float(row["bbox"][2] * row["bbox"][3]))
            row.setdefault("area", float(area))
            row.setdefault("bbox", [x1, y1, x2 - x1, y2 - y1])


@dataclass(frozen=True, eq=False)
class CocoPredictions:
    """Predictions, checked against the truth of the same pictures where that is given.

    path       the file.
    raw        COCO results in the file's order, as evaluation takes them: ids are integers, scores are finite.
    has_masks  whether every one has a segmentation; without any, True.
    truth      the ground truth, or else what the file itself says of pictures and categories.
    """

    path: Path
    raw: list[Entry]
    has_masks: bool
    truth: CocoDataset
    _by_image: Mapping[int, list[Entry]] = field(repr=False)

    @property
    def image_ids(self) -> tuple[int, ...]:
        """All pictures, also those without a prediction."""
        return tuple(record.id for record in self.truth.images)

    def instances(self, image_id: int) -> Instances:
        """The predictions on a picture with their scores, in the file's order.

        Boxes are the file's, where it has them, else the masks'. A prediction with a box alone has an empty mask.
        raises  AnnotationError when there is no such picture.
        """
        record, rows = self.truth.image(image_id), self._by_image.get(image_id, [])
        masks = masks_of(rows, record, lambda i: f"{self.path}: image {image_id}: prediction {i}")
        return Instances(
            masks.size,
            masks,
            np.array([self.truth.classes.index_of(row["category_id"]) for row in rows], np.int64),
            np.array([row["score"] for row in rows], np.float32),
            boxes=_boxes(rows, masks, given=True),
            classes=self.truth.classes,
        )


def masks_of(rows: Sequence[Entry], record: ImageRecord, name: Callable[[int], str]) -> Masks:
    """The masks of entries, empty where an entry has a box alone."""
    size = (record.height, record.width)
    drawn = [i for i, row in enumerate(rows) if "segmentation" in row]
    try:
        made = Masks.from_coco([rows[i]["segmentation"] for i in drawn], size)
    except (AnnotationError, GeometryError) as together:
        for i in drawn:
            try:
                Masks.from_coco([rows[i]["segmentation"]], size)
            except (AnnotationError, GeometryError) as error:
                raise AnnotationError(f"{name(i)}: {str(error).removeprefix('object 0: ')}") from None
        raise AnnotationError(f"{name(0)} and the others of its picture: {together}") from None
    if len(drawn) == len(rows):
        return made
    shapes, offsets = np.zeros((len(rows), 2), np.int32), np.zeros((len(rows), 2), np.int32)
    shapes[drawn], offsets[drawn] = made.shapes, made.offsets
    return Masks(size, offsets, shapes, made.pixels)


def _boxes(rows: Sequence[Entry], masks: Masks, given: bool = False) -> npt.NDArray[np.float32]:
    """The masks' boxes; the file's own for objects without outline, and with `given` wherever it has one."""
    boxes = masks.boxes
    for i, row in enumerate(rows):
        if "bbox" in row and (given or "segmentation" not in row):
            x, y, width, height = row["bbox"]
            boxes[i] = x, y, x + width, y + height
    return boxes
