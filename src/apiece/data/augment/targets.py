"""Which objects are still targets after a change, which are lost though seen in part, and which are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.augment.base import RGB, Boxes
from apiece.data.sample import Sample

Areas = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Cut(Sample):
    """A sample some of whose objects are no longer targets although they can be seen in part.

    lost  these objects, with what is left of their masks. They move along with every later change, so that one
          that is cut out of the picture or covered later no longer counts in `dropped`.
    """

    lost: Instances = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Change:
    """Objects after a change of geometry, one for one in the order of `everything`, and what it took from them.

    objects  as they are now; those without a pixel have an empty mask. Boxes are cut at the picture's border.
    left     float (N,), the area in pixels that can be seen of each: of its mask, or of its box where it has no mask.
    due      float (N,), the area that each would have if nothing were cut off or hidden.
    seen     bool (N,), whether a part of each can be seen, also where it is too thin to have a pixel.
    """

    objects: Instances
    left: Areas
    due: Areas
    seen: npt.NDArray[np.bool_]


def lost_of(sample: Sample) -> Instances:
    """The objects that are seen in part and are no longer targets, as far as they are known."""
    return sample.lost if isinstance(sample, Cut) else sample.instances[:0]


def everything(sample: Sample) -> Instances:
    """Targets, then lost objects."""
    lost = lost_of(sample)
    return united([sample.instances, lost], tracks=True) if len(lost) else sample.instances


def settled(
    sample: Sample, image: RGB, change: Change, targets: int, min_visible: float, as_ignore: bool
) -> Sample:
    """The sample after a change.

    targets      the first so many of `change.objects` were targets; the others were lost before and stay so.
    min_visible  a target stays one where at least this fraction of its due area is left, and at least a pixel.
    as_ignore    a target that doesn't but has a pixel stays among the objects as a crowd region; else it is lost.
    """
    objects = change.objects
    was_target = np.arange(len(objects)) < targets
    kept = was_target & (change.left > 0) & (change.left >= min_visible * change.due)
    ignored = was_target & ~kept & (objects.masks.areas > 0) & as_ignore
    lost = change.seen & ~kept & ~ignored
    staying = objects[kept | ignored]
    if ignored.any():
        staying = marked_crowd(staying, ignored[kept | ignored])
    dropped = sample.dropped - len(lost_of(sample)) + int(np.count_nonzero(lost))
    return with_objects(sample, image, staying, objects[lost], dropped)


def moved(sample: Sample, image: RGB, move: Callable[[Instances], Instances]) -> Sample:
    """The sample after an exact change, which takes nothing from any object."""
    return with_objects(sample, image, move(sample.instances), move(lost_of(sample)), sample.dropped)


def with_objects(sample: Sample, image: RGB, objects: Instances, lost: Instances, dropped: int) -> Sample:
    """The sample with another picture and other objects; `dropped` includes `lost`."""
    image = np.ascontiguousarray(image)
    if isinstance(sample, Cut):
        return replace(sample, image=image, instances=objects, dropped=dropped, lost=lost)
    if len(lost):
        return Cut(image, objects, sample.path, sample.image_id, dropped, lost=lost)
    return replace(sample, image=image, instances=objects, dropped=dropped)


def placed(objects: Instances, masks: Masks, boxes: Boxes) -> Instances:
    """The same objects with other masks. Boxes follow from masks; `boxes` are for objects that have none."""
    return Instances(
        masks.size,
        masks,
        objects.class_ids,
        objects.scores,
        np.where(masks.areas[:, None] > 0, masks.boxes, boxes),
        classes=objects.classes,
        track_ids=objects.track_ids,
        truncated=objects.truncated,
        columns=objects.columns,
    )


def shifted(objects: Instances, dx: int, dy: int, size: tuple[int, int]) -> Instances:
    """The objects moved to the right and down, onto a picture of `size` in which all of them lie."""
    boxes = objects.boxes + np.array([dx, dy, dx, dy], np.float32)
    return placed(objects, objects.masks.shift(dx, dy, size), boxes)


def united(parts: Sequence[Instances], *, tracks: bool = False) -> Instances:
    """The objects of several on one picture, also where their columns differ.

    A column that only some have stays if it is bool, and is False for the others; else it is left out, as nothing
    is known about them.
    tracks  whether they come from one picture; ids of tracks mean nothing across pictures and are left out then.
    """
    shapes = {
        name: {(p.columns[name].dtype.kind, p.columns[name].shape[1:]) for p in parts if name in p.columns}
        for part in parts
        for name in part.columns
    }
    common = {name for name, kinds in shapes.items() if len(kinds) == 1}
    wanted = [
        name
        for name in shapes
        if name in common and (all(name in p.columns for p in parts) or next(iter(shapes[name])) == ("b", ()))
    ]
    return Instances.concatenate(
        [
            _with_columns(
                part,
                {n: part.columns.get(n, np.zeros(len(part), np.bool_)) for n in wanted},
                part.track_ids if tracks else None,
            )
            for part in parts
        ]
    )


def marked_crowd(objects: Instances, which: npt.NDArray[np.bool_]) -> Instances:
    """The objects with the column "iscrowd" True for `which`, too."""
    crowd = is_crowd(objects) | which
    return _with_columns(objects, {**objects.columns, "iscrowd": crowd}, objects.track_ids)


def is_crowd(objects: Instances) -> npt.NDArray[np.bool_]:
    """bool (N,), the column "iscrowd"."""
    return np.asarray(objects.columns.get("iscrowd", np.zeros(len(objects), np.bool_)), np.bool_)


def extent(boxes: npt.NDArray[np.floating[Any]]) -> Areas:
    """Areas of boxes (N, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]


def _with_columns(
    objects: Instances, columns: dict[str, npt.NDArray[Any]], tracks: npt.NDArray[np.int64] | None
) -> Instances:
    return Instances(
        objects.size,
        objects.masks,
        objects.class_ids,
        objects.scores,
        objects.boxes,
        classes=objects.classes,
        track_ids=tracks,
        truncated=objects.truncated,
        columns=columns,
    )
