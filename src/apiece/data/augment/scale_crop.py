"""A picture at another scale, seen through a window: scale jitter with crop and padding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.masks import Masks
from apiece.data.augment.base import RGB, Colour, Range, as_rgb, check_colour, check_fraction, check_range
from apiece.data.augment.targets import Change, everything, extent, placed, settled
from apiece.data.sample import Sample
from apiece.errors import UsageError

# Bilinear sampling of masks would skip pixels below this scale; there their areas are resampled exactly.
SAMPLED = 0.5
BLACK: Colour = (0, 0, 0)
# `ScaleCrop(size, LARGE_SCALE)` is the large-scale jitter of Ghiasi et al. 2021, but drawn log-uniformly.
LARGE_SCALE: Range = (0.1, 2.0)
MOST_SIDE = 16_384
SMALLEST, LARGEST = 0.001, 1000.0  # factors
WHOLE = 1 << 26  # pixels; a picture enlarged beyond is sampled in the window alone


@dataclass(frozen=True)
class ScaleCrop:
    """Scale at random, then cut or pad to exactly `size`; the picture lies top left, as in `Frame.letterbox`.

    size         (height, width) of the result.
    scale        range of the factor, drawn log-uniformly, relative to the scale at which the whole picture fits.
                 `LARGE_SCALE`, 0.1 to 2, is the large-scale jitter of Ghiasi et al. 2021 (arXiv 2012.07177).
    min_visible  an object of which the crop leaves less than this fraction of its area is no longer a target. Such
                 objects, and those too thin to have a pixel at the new scale, are counted in `Sample.dropped`;
                 objects that lie outside the crop are not.
    fill         colour of the padding.
    as_ignore    such objects stay as crowd regions ("iscrowd") and aren't counted as dropped. What a loss does
                 with these: `semantic` leaves their pixels out, `yolact` anchors on them, `sam` points on them; for
                 `solov2`, `mask_rcnn` and `mask2former` they are background, as if they had been dropped.
    raises       UsageError if a value can't be meant.
    """

    size: tuple[int, int]
    scale: Range = (1.0, 1.0)
    min_visible: float = 0.2
    fill: Colour = BLACK
    as_ignore: bool = False

    def __post_init__(self) -> None:
        check_window("ScaleCrop", self.size, self.scale, self.min_visible, self.fill)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Masks that lie outside the crop are not resampled; those that it cuts are clipped."""
        scaled = scaled_size(sample.size, self.size, self.scale, rng)
        top = int(rng.integers(max(0, scaled[0] - self.size[0]) + 1))
        left = int(rng.integers(max(0, scaled[1] - self.size[1]) + 1))
        return seen_through(
            sample, scaled, (left, top), self.size, self.min_visible, self.fill, self.as_ignore
        )


def check_window(
    name: str, size: tuple[int, int], scale: Range, min_visible: float, fill: Colour = BLACK
) -> None:
    """Raises UsageError if one of the values that such changes share can't be meant."""
    if len(size) != 2 or not 1 <= min(size) <= max(size) <= MOST_SIDE:
        raise UsageError(
            f"{name} size is {size}; expected (height, width) of at least 1 pixel and at most {MOST_SIDE:,}."
        )
    check_range(f"{name} scale", scale, SMALLEST, LARGEST)
    check_fraction(f"{name} min_visible", min_visible)
    check_colour(f"{name} fill", fill)


def scaled_size(
    size: tuple[int, int], target: tuple[int, int], scale: Range, rng: np.random.Generator
) -> tuple[int, int]:
    """(height, width) of a picture scaled by a random factor relative to the scale at which it fits `target`."""
    fit = min(target[0] / size[0], target[1] / size[1])
    factor = fit * math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def seen_through(
    sample: Sample,
    scaled: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    min_visible: float,
    fill: Colour = BLACK,
    as_ignore: bool = False,
) -> Sample:
    """The sample resized to `scaled` (height, width), through a window of `size`.

    corner  x and y of the window's top-left pixel in the resized picture; negative where the picture begins
            further inside the window.
    """
    height, width = sample.size
    left, top = corner
    # The part of the window, in its own pixels, in which the picture lies.
    x0, y0 = max(0, -left), max(0, -top)
    x1, y1 = min(size[1], scaled[1] - left), min(size[0], scaled[0] - top)
    x1, y1 = max(x0, x1), max(y0, y1)

    window = np.full((*size, 3), fill, np.uint8)
    window[y0:y1, x0:x1] = _resized(sample.image, scaled, (x0 + left, y0 + top, x1 + left, y1 + top))

    objects = everything(sample)
    ratio = np.array([scaled[1] / width, scaled[0] / height])
    boxes = objects.boxes * np.tile(ratio, 2) - np.array([left, top, left, top])
    low, high = np.array([x0, y0]), np.array([x1, y1])
    near = np.flatnonzero((boxes[:, 2:] > low).all(axis=1) & (boxes[:, :2] < high).all(axis=1))
    targets = int(np.searchsorted(near, len(sample.instances)))
    objects, boxes = objects[near], boxes[near]
    inside = (boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)
    clipped = np.clip(boxes, np.tile(low, 2), np.tile(high, 2)).astype(np.float32)
    masks = _zoomed(objects.masks, scaled, left, top, size)
    boxed = objects.masks.areas == 0  # objects that have a box alone are judged by it
    remains = np.where(boxed, extent(clipped), masks.areas)
    change = Change(
        placed(objects, masks, clipped),
        left=remains,
        due=np.where(boxed, extent(boxes), objects.masks.areas * ratio.prod()),
        seen=inside | (remains > 0),
    )
    return settled(sample, window, change, targets, min_visible, as_ignore)


def _resized(image: RGB, scaled: tuple[int, int], part: tuple[int, int, int, int]) -> RGB:
    """The part x0, y0, x1, y1 of a picture resized to `scaled`."""
    x0, y0, x1, y1 = part
    height, width = image.shape[:2]
    area = scaled[0] * scaled[1]
    if area > max(WHOLE, height * width) and x1 > x0 and y1 > y0:
        sx, sy = scaled[1] / width, scaled[0] / height
        # A pixel of room on either side, as samples lie between two centres.
        left, top = max(0, math.floor(x0 / sx) - 1), max(0, math.floor(y0 / sy) - 1)
        source = image[top : math.ceil(y1 / sy) + 1, left : math.ceil(x1 / sx) + 1]
        matrix = np.array(
            [[sx, 0, (left + 0.5) * sx - 0.5 - x0], [0, sy, (top + 0.5) * sy - 0.5 - y0]], np.float64
        )
        return as_rgb(
            cv2.warpAffine(
                source, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        )
    if scaled != (height, width):
        # The whole picture is averaged where it shrinks, else interpolated.
        method = cv2.INTER_AREA if area < height * width else cv2.INTER_LINEAR
        image = as_rgb(cv2.resize(image, scaled[::-1], interpolation=method))
    return image[y0:y1, x0:x1]


def _zoomed(masks: Masks, scaled: tuple[int, int], left: int, top: int, size: tuple[int, int]) -> Masks:
    """The masks on a picture resized to `scaled`, seen through a window of `size` at (left, top)."""
    if scaled == masks.size:
        return masks.crop_to(left, top, left + size[1], top + size[0])
    sy, sx = scaled[0] / masks.size[0], scaled[1] / masks.size[1]
    if min(sx, sy) < SAMPLED:
        return masks.resize(scaled).crop_to(left, top, left + size[1], top + size[0])
    # Masks end where the picture does.
    most = min(size[0], scaled[0] - top), min(size[1], scaled[1] - left)
    crops: list[npt.NDArray[np.bool_]] = []
    corners: list[tuple[int, int]] = []
    for crop, (x, y) in masks:
        # The part of the window on which the crop falls; pixel centres lie at whole numbers + 0.5.
        x0 = max(0, -left, math.floor(x * sx - left))
        y0 = max(0, -top, math.floor(y * sy - top))
        x1 = min(most[1], math.ceil((x + crop.shape[1]) * sx - left))
        y1 = min(most[0], math.ceil((y + crop.shape[0]) * sy - top))
        if crop.size == 0 or x1 <= x0 or y1 <= y0:
            crops.append(np.zeros((0, 0), np.bool_))
            corners.append((0, 0))
            continue
        matrix = np.array(
            [[sx, 0, (x + 0.5) * sx - 0.5 - left - x0], [0, sy, (y + 0.5) * sy - 0.5 - top - y0]], np.float64
        )
        # Bytes 0 and 1 are interpolated and rounded, which cuts at one half.
        drawn = cv2.warpAffine(crop.view(np.uint8), matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        crops.append(drawn.view(np.bool_))
        corners.append((x0, y0))
    return Masks.from_crops(crops, np.array(corners, np.int64).reshape(-1, 2), size)
