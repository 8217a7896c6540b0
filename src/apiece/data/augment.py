"""Random changes of a picture and its objects: masks are moved as crops, colours leave them alone.

Every change is a small frozen value, called with a sample and a generator; the same generator state gives the same
sample. `p` is the probability with which a change happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.sample import Sample
from apiece.errors import UsageError

RGB = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]
Range = tuple[float, float]
Augment = Callable[[Sample, np.random.Generator], Sample]

# Bilinear sampling of masks would skip pixels below this scale; there their areas are resampled exactly.
SAMPLED = 0.5
# A standard normal variable in 256 equally likely steps, so that noise is a look-up of random bytes.
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


@dataclass(frozen=True)
class Compose:
    """Changes one after the other."""

    steps: tuple[Augment, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Apply all."""
        for step in self.steps:
            sample = step(sample, rng)
        return sample


@dataclass(frozen=True)
class Flip:
    """Left and right, and up and down, each with its own probability."""

    horizontal: float = 0.5
    vertical: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Mirror picture and masks exactly."""
        for axis, chance in ((1, self.horizontal), (0, self.vertical)):
            if rng.random() < chance:
                extent = sample.size[axis]
                boxes = sample.instances.boxes.copy()
                low, high = (0, 2) if axis == 1 else (1, 3)
                boxes[:, [low, high]] = extent - boxes[:, [high, low]]
                masks = sample.instances.masks.flip(horizontal=axis == 1)
                sample = _moved(sample, np.flip(sample.image, axis), masks, boxes)
        return sample


@dataclass(frozen=True)
class Rotate90:
    """A turn by 0, 90, 180 or 270°; only by 0 or 180° where the picture is not square, so that it keeps its size."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Turn picture and masks exactly."""
        turns = int(rng.integers(4))
        if sample.size[0] != sample.size[1]:
            turns = 2 * (turns // 2)
        if turns == 0:
            return sample
        x1, y1, x2, y2 = sample.instances.boxes.T
        height, width = sample.size
        turned = {
            1: (y1, width - x2, y2, width - x1),
            2: (width - x2, height - y2, width - x1, height - y1),
            3: (height - y2, x1, height - y1, x2),
        }[turns]
        masks = sample.instances.masks.rotate90(turns)
        return _moved(sample, np.rot90(sample.image, turns), masks, np.stack(turned, axis=1))


@dataclass(frozen=True)
class ScaleCrop:
    """Scale at random, then cut or pad to exactly `size`; the picture lies top left, as in `Frame.letterbox`.

    size         (height, width) of the result.
    scale        range of the factor, drawn log-uniformly, relative to the scale at which the whole picture fits.
    min_visible  an object of which the crop leaves less than this fraction of its area is no longer a target. Such
                 objects, and those too thin to have a pixel at the new scale, are counted in `Sample.dropped`;
                 objects that lie outside the crop are not.
    raises       UsageError if a value can't be meant.
    """

    size: tuple[int, int]
    scale: Range = (1.0, 1.0)
    min_visible: float = 0.2

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise UsageError(f"ScaleCrop size is {self.size}; expected (height, width) of at least 1 pixel.")
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise UsageError(f"ScaleCrop scale is {self.scale}; expected 0 < lowest <= highest.")
        if not 0 <= self.min_visible <= 1:
            raise UsageError(f"ScaleCrop min_visible is {self.min_visible}; expected a fraction in 0..1.")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Masks that lie outside the crop are not resampled; those that it cuts are clipped."""
        height, width = sample.size
        target_h, target_w = self.size
        fit = min(target_h / height, target_w / width)
        factor = fit * math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        scaled_h, scaled_w = max(1, round(height * factor)), max(1, round(width * factor))
        top = int(rng.integers(max(0, scaled_h - target_h) + 1))
        left = int(rng.integers(max(0, scaled_w - target_w) + 1))
        bottom, right = min(top + target_h, scaled_h), min(left + target_w, scaled_w)

        image: RGB = sample.image
        if (scaled_h, scaled_w) != (height, width):
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            image = _rgb(cv2.resize(image, (scaled_w, scaled_h), interpolation=method))
        padded = np.zeros((target_h, target_w, 3), np.uint8)
        padded[: bottom - top, : right - left] = image[top:bottom, left:right]

        instances = sample.instances
        ratio = np.array([scaled_w / width, scaled_h / height])
        boxes = instances.boxes * np.tile(ratio, 2) - np.array([left, top, left, top])
        edges = np.array([right - left, bottom - top])
        near = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < edges).all(axis=1))
        objects, boxes = instances[near], boxes[near]
        inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= edges).all(axis=1)
        clipped = np.clip(boxes, 0, np.tile(edges, 2)).astype(np.float32)
        masks = _zoomed(objects.masks, (scaled_h, scaled_w), left, top, (bottom - top, right - left))
        masks = masks.shift(0, 0, self.size)
        boxed = objects.masks.areas == 0  # objects that have a box alone are judged by it
        due = np.where(boxed, _extent(boxes), objects.masks.areas * ratio.prod())
        left_over = np.where(boxed, _extent(clipped), masks.areas)
        kept = (left_over > 0) & (left_over >= self.min_visible * due)
        seen = (left_over > 0) | inside
        return replace(
            sample,
            image=padded,
            instances=_placed(objects[kept], masks[kept], clipped[kept]),
            dropped=sample.dropped + int(np.count_nonzero(seen & ~kept)),
        )


@dataclass(frozen=True)
class ColorJitter:
    """Contrast, brightness and gamma, then saturation, hue and channel order.

    contrast    factor about the picture's mean.
    brightness  factor of all values, after which up to `offset` grey levels are added or taken away.
    gamma       exponent on values in 0..1, in half of the cases.
    saturation  factor of the distance from grey.
    hue         largest turn about the grey axis in degrees, in half of the cases; grey stays grey.
    shuffle     probability of another order of the channels.
    """

    p: float
    contrast: Range = (0.6, 1.5)
    brightness: Range = (0.6, 1.6)
    offset: float = 25.0
    gamma: Range = (0.6, 1.6)
    saturation: Range = (0.4, 1.6)
    hue: float = 30.0
    shuffle: float = 0.2

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        mean = float(np.mean(cv2.mean(sample.image)[:3]))
        levels = (np.arange(256) - mean) * rng.uniform(*self.contrast) + mean
        levels = levels * rng.uniform(*self.brightness) + rng.uniform(-self.offset, self.offset)
        if rng.random() < 0.5:
            levels = 255 * (np.clip(levels, 0, 255) / 255) ** rng.uniform(*self.gamma)
        table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        mix = _saturation(rng.uniform(*self.saturation))
        if rng.random() < 0.5:
            mix = _hue(math.radians(rng.uniform(-self.hue, self.hue))) @ mix
        if rng.random() < self.shuffle:
            mix = mix[rng.permutation(3)]
        return replace(sample, image=_rgb(cv2.transform(cv2.LUT(sample.image, table), mix)))


@dataclass(frozen=True)
class Invert:
    """The negative."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        return replace(sample, image=~sample.image) if rng.random() < self.p else sample


@dataclass(frozen=True)
class Grey:
    """Without colour."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
        return replace(sample, image=_rgb(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)))


@dataclass(frozen=True)
class Blur:
    """Gaussian blur; `sigma` is the range of its standard deviation in pixels."""

    p: float
    sigma: Range = (0.4, 1.6)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        return replace(sample, image=_rgb(cv2.GaussianBlur(sample.image, (0, 0), rng.uniform(*self.sigma))))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, independent in every pixel and channel; `sigma` is the range of its deviation in grey levels."""

    p: float
    sigma: Range = (2.0, 12.0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        table = np.rint(NORMAL * rng.uniform(*self.sigma)).astype(np.int16)
        count = sample.image.size
        # Whole words are drawn, as single bytes take ten times as long.
        words = rng.integers(0, 2**64, -(-count // 8), dtype=np.uint64)
        noise = cv2.LUT(words.view(np.uint8)[:count].reshape(sample.image.shape), table)
        return replace(sample, image=_rgb(cv2.add(sample.image, noise, dtype=cv2.CV_8U)))


def _moved(sample: Sample, image: RGB, masks: Masks, boxes: Boxes) -> Sample:
    """The sample with another picture and the same objects at other places."""
    return replace(
        sample, image=np.ascontiguousarray(image), instances=_placed(sample.instances, masks, boxes)
    )


def _placed(objects: Instances, masks: Masks, boxes: Boxes) -> Instances:
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


def _zoomed(masks: Masks, scaled: tuple[int, int], left: int, top: int, size: tuple[int, int]) -> Masks:
    """The masks on a picture resized to `scaled`, seen through a window of `size` at (left, top)."""
    if scaled == masks.size:
        return masks.crop_to(left, top, left + size[1], top + size[0])
    sy, sx = scaled[0] / masks.size[0], scaled[1] / masks.size[1]
    if min(sx, sy) < SAMPLED:
        return masks.resize(scaled).crop_to(left, top, left + size[1], top + size[0])
    crops: list[npt.NDArray[np.bool_]] = []
    corners: list[tuple[int, int]] = []
    for crop, (x, y) in masks:
        # The part of the window on which the crop falls; pixel centres lie at whole numbers + 0.5.
        x0, x1 = max(0, math.floor(x * sx - left)), min(size[1], math.ceil((x + crop.shape[1]) * sx - left))
        y0, y1 = max(0, math.floor(y * sy - top)), min(size[0], math.ceil((y + crop.shape[0]) * sy - top))
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


def _extent(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Areas of boxes (N, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]


def _saturation(factor: float) -> npt.NDArray[np.float64]:
    """The matrix that scales a colour's distance from its grey, the mean of R, G and B."""
    return factor * np.eye(3) + (1 - factor) / 3


def _hue(angle: float) -> npt.NDArray[np.float64]:
    """The matrix that turns colours about the grey axis (Rodrigues' formula); rows sum to 1, so grey stays."""
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned: npt.NDArray[np.float64] = (
        np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    )
    return turned


def _rgb(image: npt.NDArray[np.generic]) -> RGB:
    """An image of OpenCV's, which returns uint8 for uint8 though its types don't say so."""
    return np.asarray(image, np.uint8)
