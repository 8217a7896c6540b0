"""What COCO files hold once checked: pictures, categories and objects, whose masks are made when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, GeometryError

Entry = dict[str, Any]


@dataclass(frozen=True)
class ImageRecord:
    """One entry of `images`; height and width in pixels, `file_name` as given ("" where there is none)."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """A COCO document whose entries have been checked.

    path      the file.
    images    its pictures, in the file's order.
    classes   its categories, by increasing id.
    document  images, categories and annotations that were kept, as COCO has them: ids are integers, every
              annotation has id, iscrowd, area and bbox.
    problems  what was found wrong; with errors only if it was read with strict=False.
    """

    path: Path
    images: tuple[ImageRecord, ...]
    classes: ClassMap
    document: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()
    _by_image: Mapping[int, list[Entry]] = field(default_factory=dict, repr=False)
    _records: Mapping[int, ImageRecord] = field(default_factory=dict, repr=False)

    @property
    def annotation_count(self) -> int:
        """Objects in the document, crowd regions among them."""
        return len(self.document["annotations"])

    @property
    def has_masks(self) -> bool:
        """Whether every object has an outline; without objects, True."""
        return all("segmentation" in entry for entry in self.document["annotations"])

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
        """The annotations of a picture as the document has them, in its order."""
        return list(self._by_image.get(self.image(image_id).id, []))

    def instances(self, image_id: int) -> Instances:
        """The objects of a picture, in the file's order; masks are made now, exactly as pycocotools does.

        An object with a box and no outline keeps its box and has an empty mask; so has one that covers no pixel.
        columns  "iscrowd" bool, "annotation_id" int64.
        Track ids are kept where every object of the picture has an integer `track_id`.
        raises   AnnotationError naming the annotation if a run-length code doesn't hold.
        """
        record, rows = self.image(image_id), self._by_image.get(image_id, [])
        masks = masks_of(rows, record, lambda i: f"{self.path}: annotation {rows[i]['id']}")
        tracks = [row.get("track_id") for row in rows]
        tracked = bool(rows) and all(type(t) is int and abs(t) < 2**63 for t in tracks)
        return Instances(
            masks.size,
            masks,
            np.array([self.classes.index_of(row["category_id"]) for row in rows], np.int64),
            boxes=_boxes(rows, masks),
            classes=self.classes,
            track_ids=np.array(tracks, np.int64) if tracked else None,
            columns={
                "iscrowd": np.array([row["iscrowd"] for row in rows], np.bool_),
                "annotation_id": np.array([row["id"] for row in rows], np.int64),
            },
        )


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
