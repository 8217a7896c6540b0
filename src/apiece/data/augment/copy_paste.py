"""Copy-paste: objects of other pictures put into this one (Ghiasi et al. 2021, arXiv 2012.07177)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.augment.base import RGB, Range, check_fraction
from apiece.data.augment.flips import Flip
from apiece.data.augment.partners import Others
from apiece.data.augment.scale_crop import check_window, scaled_size, seen_through
from apiece.data.augment.targets import (
    Change,
    everything,
    extent,
    is_crowd,
    lost_of,
    placed,
    settled,
    united,
    with_objects,
)
from apiece.data.sample import Sample
from apiece.errors import UsageError

BOTH_WAYS = Flip()


@dataclass(frozen=True)
class CopyPaste:
    """Objects of another sample, with a scale and flips of its own, pasted onto this one.

    An object that lay there loses the pixels that are covered. Pasted are objects with an outline: no crowd
    regions, no masks that are whole boxes, and none that the border would leave too little of. Objects keep their
    scores and columns, but not their track ids.

    others       draws the other sample; see `drawn_from`.
    p            probability.
    scale        range of the factor, drawn log-uniformly, relative to the scale at which the other picture fits into
                 this one. Where it is smaller it lies anywhere in it, where it is larger any part of it is seen.
    share        probability with which each object is pasted.
    most         the most objects that are pasted; None for all.
    min_visible  an object that lies there and of which less than this fraction stays in sight is no longer a target,
                 and counts in `Sample.dropped` as long as a pixel of it can be seen.
    blend        standard deviation in pixels of the Gaussian that softens pasted edges; 0 for none.
    flip         mirrors the other picture.
    as_ignore    see `ScaleCrop`.
    raises       UsageError if a value can't be meant.
    """

    others: Others
    p: float = 0.5
    scale: Range = (0.5, 1.5)
    share: float = 0.5
    most: int | None = None
    min_visible: float = 0.2
    blend: float = 0.0
    flip: Flip = BOTH_WAYS
    as_ignore: bool = False

    def __post_init__(self) -> None:
        check_window("CopyPaste", (1, 1), self.scale, self.min_visible)
        check_fraction("CopyPaste p", self.p)
        check_fraction("CopyPaste share", self.share)
        if self.most is not None and self.most < 1:
            raise UsageError(f"CopyPaste most is {self.most}; expected at least 1 object, or None for all.")
        if not 0 <= self.blend <= 20:
            raise UsageError(f"CopyPaste blend is {self.blend}; expected 0 to 20 pixels.")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Paste, or leave the sample as it is where nothing can be pasted."""
        if rng.random() >= self.p:
            return sample
        source = self.flip(self._placed_at_random(self.others(sample, rng), sample.size, rng), rng)
        chosen = np.flatnonzero(rng.random(len(source.instances)) < self.share)
        if self.most is not None:
            chosen = np.sort(rng.permutation(chosen)[: self.most])
        return pasted(
            sample, source.image, source.instances[chosen], self.min_visible, self.blend, self.as_ignore
        )

    def _placed_at_random(self, other: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
        objects = other.instances
        boxes_only = np.asarray(objects.columns.get("box_mask", np.zeros(len(objects), np.bool_)), np.bool_)
        outlined = objects[(objects.masks.areas > 0) & ~is_crowd(objects) & ~boxes_only]
        other = Sample(other.image, outlined, other.path, other.image_id)
        scaled = scaled_size(other.size, size, self.scale, rng)
        ranges = [sorted((0, whole - part)) for whole, part in zip(scaled, size, strict=True)]
        top, left = (int(rng.integers(low, high + 1)) for low, high in ranges)
        return seen_through(other, scaled, (left, top), size, self.min_visible)


def pasted(
    sample: Sample,
    image: RGB,
    objects: Instances,
    min_visible: float = 0.0,
    blend: float = 0.0,
    as_ignore: bool = False,
) -> Sample:
    """The sample with `objects` of `image`, a picture of the same size, put on top of its own."""
    if len(objects) == 0:
        return sample
    canvas = sample.image.copy()
    for crop, (x, y) in objects.masks:
        _paint(canvas, image, crop, x, y, blend)
    uncovered = _uncovered(sample, canvas, objects.masks.union(), min_visible, as_ignore)
    together = united([uncovered.instances, objects])
    return with_objects(uncovered, canvas, together, united([lost_of(uncovered)]), uncovered.dropped)


def _paint(canvas: RGB, image: RGB, crop: npt.NDArray[np.bool_], x: int, y: int, blend: float) -> None:
    """Copy the pixels of one mask, whose bitmap lies at (x, y), with a soft edge where `blend` is above 0."""
    room = math.ceil(3 * blend)
    top, left = max(0, y - room), max(0, x - room)
    bottom = min(canvas.shape[0], y + crop.shape[0] + room)
    right = min(canvas.shape[1], x + crop.shape[1] + room)
    new, old = image[top:bottom, left:right], canvas[top:bottom, left:right]
    if not blend:
        old[crop] = new[crop]
        return
    alpha = np.zeros(new.shape[:2], np.float32)
    alpha[y - top : y - top + crop.shape[0], x - left : x - left + crop.shape[1]] = crop
    soft = np.asarray(cv2.GaussianBlur(alpha, (0, 0), blend, borderType=cv2.BORDER_REPLICATE))[..., None]
    old[...] = np.rint(new * soft + old * (1 - soft)).astype(np.uint8)


def _uncovered(sample: Sample, canvas: RGB, cover: Masks, min_visible: float, as_ignore: bool) -> Sample:
    """The sample with what `cover`, a single mask, leaves of its objects."""
    objects = everything(sample)
    over, (cx, cy) = cover.crop(0), cover.offsets[0].tolist()
    ch, cw = over.shape
    crops: list[npt.NDArray[np.bool_]] = []
    for crop, (x, y) in objects.masks:
        x0, y0 = max(x, cx), max(y, cy)
        x1, y1 = min(x + crop.shape[1], cx + cw), min(y + crop.shape[0], cy + ch)
        if x0 < x1 and y0 < y1:
            crop = crop.copy()
            crop[y0 - y : y1 - y, x0 - x : x1 - x] &= ~over[y0 - cy : y1 - cy, x0 - cx : x1 - cx]
        crops.append(crop)
    boxed = objects.masks.areas == 0
    masks = Masks.from_crops(crops, objects.masks.offsets, objects.size)
    left_of_box = np.zeros(len(objects), np.float64)
    for i in np.flatnonzero(boxed).tolist():
        left_of_box[i] = _left_of_box(objects.boxes[i], over, cx, cy)
    left = np.where(boxed, left_of_box, masks.areas.astype(np.float64))
    change = Change(
        # A box that stands for an object stays whole, though a part of it is hidden.
        placed(objects, masks, objects.boxes),
        left=left,
        due=np.where(boxed, extent(objects.boxes), objects.masks.areas),
        seen=left > 0,
    )
    return settled(sample, canvas, change, len(sample.instances), min_visible, as_ignore)


def _left_of_box(box: npt.NDArray[np.float32], over: npt.NDArray[np.bool_], x: int, y: int) -> float:
    """Pixels of a box that a bitmap at (x, y) leaves uncovered."""
    x1, y1 = np.floor(box[:2]).astype(int).tolist()
    x2, y2 = np.ceil(box[2:]).astype(int).tolist()
    part = over[max(0, y1 - y) : max(0, y2 - y), max(0, x1 - x) : max(0, x2 - x)]
    return float((x2 - x1) * (y2 - y1) - np.count_nonzero(part))
