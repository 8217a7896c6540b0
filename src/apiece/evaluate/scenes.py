"""Scenes: all images' true and predicted objects as columns, checked, in the order in which COCO counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.errors import AnnotationError

Key = int | str
Kind = Literal["segm", "bbox"]
Size = tuple[int, int]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects of all images, in file order.

    images         int64 (N,), place of the image in `Scenes.image_ids`.
    labels         int64 (N,), place of the class in `Scenes.classes`.
    scores         float64 (N,), as written in the file; 1 for truth.
    crowd          bool (N,), `iscrowd`; False for predictions.
    boxes          float64 (N, 4), x, y, width, height in pixels.
    masks          N compressed RLEs; None where an object has no mask.
    segm_areas     float64 (N,), the areas that sort objects into small, medium and large for masks.
    bbox_areas     float64 (N,), the same for boxes.
    derived_boxes  how many boxes were taken from masks because the file gives none.
    no_effect      how many objects carry `ignore` without `iscrowd`, which COCO's evaluation overrides.
    """

    images: Int64
    labels: Int64
    scores: Float64
    crowd: NDArray[np.bool_]
    boxes: Float64
    masks: tuple[dict[str, Any] | None, ...]
    segm_areas: Float64
    bbox_areas: Float64
    derived_boxes: int = 0
    no_effect: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def without_mask(self) -> int:
        """How many objects have no mask."""
        return self.masks.count(None)

    def areas(self, kind: Kind) -> Float64:
        """The areas by which objects are small, medium or large in this kind of evaluation."""
        return self.segm_areas if kind == "segm" else self.bbox_areas

    def per_image(self, images: int, classes: int) -> Int64:
        """int64 (images, classes): how many of the objects each image holds."""
        flat = np.bincount(self.images * max(classes, 1) + self.labels, minlength=images * classes)
        return flat.astype(np.int64).reshape(images, classes)

    def where(self, chosen: NDArray[np.bool_]) -> Objects:
        """The objects at which `chosen` (N,) is True."""
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            scores=self.scores[chosen],
            crowd=self.crowd[chosen],
            boxes=self.boxes[chosen],
            masks=tuple(mask for mask, keep in zip(self.masks, chosen.tolist(), strict=True) if keep),
            segm_areas=self.segm_areas[chosen],
            bbox_areas=self.bbox_areas[chosen],
        )


@dataclass(frozen=True, eq=False)
class Scenes:
    """What is evaluated: images and classes by increasing id, as pycocotools orders them, and their objects.

    image_ids   the images' ids: whole numbers first, then names.
    sizes       (height, width) of each image; None where the file does not say.
    classes     (category id, name) of each class.
    truth       true objects, crowd regions included.
    predicted   predicted objects.
    truncated   how many images' predictions are known to have been cut by a cap of the model.
    """

    image_ids: tuple[Key, ...]
    sizes: tuple[Size | None, ...]
    classes: tuple[tuple[Key, str], ...]
    truth: Objects
    predicted: Objects
    truncated: int = 0

    def only(self, places: Sequence[int]) -> Scenes:
        """The scenes of the images at these places, and nothing of the others; keeps the order of ids."""
        kept = sorted(places)
        moved = np.full(len(self.image_ids), -1, np.int64)
        moved[kept] = np.arange(len(kept))

        def chosen(objects: Objects) -> Objects:
            part = objects.where(moved[objects.images] >= 0)
            return replace(part, images=moved[part.images])

        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in kept),
            sizes=tuple(self.sizes[i] for i in kept),
            truth=chosen(self.truth),
            predicted=chosen(self.predicted),
        )


def scenes_of_instances(truth: Sequence[Instances], predicted: Sequence[Instances]) -> Scenes:
    """Scenes from values in memory; `truth[i]` and `predicted[i]` are of the same picture.

    Image ids are 1, 2, …. Crowd regions are the True entries of the truth's column "iscrowd". Where all masks
    of a side are empty though its boxes are not, that side counts as having boxes only.

    raises  AnnotationError if the sequences differ in length, or a pair in size or classes.
    """
    if len(truth) != len(predicted):
        raise AnnotationError(f"{len(truth)} true pictures and {len(predicted)} predicted; expected as many.")
    if not truth:
        raise AnnotationError("no pictures to evaluate; expected at least one.")
    classes = truth[0].classes
    for i, (true, found) in enumerate(zip(truth, predicted, strict=True)):
        if true.size != found.size:
            raise AnnotationError(
                f"picture {i}: truth is {true.size} (height, width), prediction {found.size}; expected the same. "
                "Remedy: predictions are evaluated in the pixels of the original picture."
            )
        for side in (true, found):
            if side.classes != classes:
                raise AnnotationError(
                    f"picture {i}: classes {_told(side.classes)} differ from {_told(classes)} of the first picture. "
                    "Remedy: give both the same class list, such as by Dataset.with_classes."
                )
    order = np.argsort(classes.ids)
    labels = np.empty(len(order), np.int64)
    labels[order] = np.arange(len(order))
    return Scenes(
        tuple(range(1, len(truth) + 1)),
        tuple(true.size for true in truth),
        tuple((classes.ids[i], classes.names[i]) for i in order.tolist()),
        _columns(truth, labels, scored=False),
        _columns(predicted, labels, scored=True),
        sum(found.truncated for found in predicted),
    )


def _columns(pictures: Sequence[Instances], labels: Int64, scored: bool) -> Objects:
    def joined(parts: Iterable[Any], width: tuple[int, ...] = ()) -> NDArray[Any]:
        return np.concatenate([np.zeros((0, *width)), *parts])

    count = sum(len(picture) for picture in pictures)
    corners = joined((picture.boxes.astype(np.float64) for picture in pictures), (4,))
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    areas = joined(picture.masks.areas for picture in pictures)
    box_areas = boxes[:, 2] * boxes[:, 3]
    boxes_only = count > 0 and not areas.any() and bool(box_areas.any())
    masks: list[dict[str, Any] | None] = [None] * count
    if not boxes_only:
        masks = [rle for picture in pictures for rle in picture.masks.to_coco()]
    crowd = np.zeros(count, np.bool_)
    if not scored:
        none = [np.zeros(len(picture)) for picture in pictures]
        crowd = joined(
            picture.columns.get("iscrowd", no) for picture, no in zip(pictures, none, strict=True)
        ).astype(np.bool_)
        given = [picture.columns.get("area", picture.masks.areas) for picture in pictures]
        areas = box_areas if boxes_only and all("area" not in p.columns for p in pictures) else joined(given)
        box_areas = areas
    return Objects(
        images=np.repeat(np.arange(len(pictures)), [len(picture) for picture in pictures]),
        labels=labels[joined(picture.class_ids for picture in pictures).astype(np.int64)],
        scores=joined(picture.scores for picture in pictures) if scored else np.ones(count),
        crowd=crowd,
        boxes=boxes,
        masks=tuple(masks),
        segm_areas=areas,
        bbox_areas=box_areas,
    )


def _told(classes: ClassMap) -> str:
    """Ids and names, as either may differ."""
    pairs = [f"{number} {name}" for number, name in zip(classes.ids, classes.names, strict=True)]
    return ", ".join(pairs[:20]) + (", …" if len(pairs) > 20 else "")
