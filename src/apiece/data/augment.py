"""Random changes of a picture and its objects: masks are moved as crops, colours leave them alone.

Every change is a small frozen value, called with a sample and a generator; the same generator state gives the same
sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.sample import Sample

RGB = npt.NDArray[np.uint8]
Augment = Callable[[Sample, np.random.Generator], Sample]


def _moved(sample: Sample, image: RGB, masks: Masks) -> Sample:
    """The sample with another picture and the same objects at other places."""
    old = sample.instances
    instances = Instances(
        size=masks.size,
        masks=masks,
        class_ids=old.class_ids,
        scores=old.scores,
        classes=old.classes,
        track_ids=old.track_ids,
        truncated=old.truncated,
        columns=old.columns,
    )
    return replace(sample, image=np.ascontiguousarray(image), instances=instances)


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
    """Left and right, and up and down, each with probability ½."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Mirror picture and masks exactly."""
        if rng.random() < 0.5:
            sample = _moved(sample, sample.image[:, ::-1], sample.instances.masks.flip(horizontal=True))
        if rng.random() < 0.5:
            sample = _moved(sample, sample.image[::-1], sample.instances.masks.flip(horizontal=False))
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
        return _moved(sample, np.rot90(sample.image, turns), sample.instances.masks.rotate90(turns))


@dataclass(frozen=True)
class ScaleCrop:
    """Scale at random, then cut or pad to exactly `size`.

    size         (height, width) of the result.
    scale        range of the factor, drawn log-uniformly, relative to the scale at which the whole picture fits.
    min_visible  an object of which the crop leaves less than this fraction of its area is no longer a target; such
                 objects are counted in `Sample.dropped`.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    min_visible: float = 0.2

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Only the window that is kept is resized, and only the masks that meet it."""
        height, width = sample.size
        target_h, target_w = self.size
        fit = min(target_h / height, target_w / width)
        factor = fit * float(np.exp(rng.uniform(np.log(self.scale[0]), np.log(self.scale[1]))))
        scaled_h, scaled_w = max(1, round(height * factor)), max(1, round(width * factor))
        top = int(rng.integers(max(0, scaled_h - target_h) + 1))
        left = int(rng.integers(max(0, scaled_w - target_w) + 1))
        bottom, right = min(top + target_h, scaled_h), min(left + target_w, scaled_w)

        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        image = cv2.resize(sample.image, (scaled_w, scaled_h), interpolation=method)[top:bottom, left:right]
        padded = np.zeros((target_h, target_w, 3), dtype=np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image

        instances, masks = sample.instances, sample.instances.masks
        ratio = np.array([scaled_w / width, scaled_h / height])
        boxes = masks.boxes * np.concatenate([ratio, ratio])
        meets = (boxes[:, 2] > left) & (boxes[:, 0] < right) & (boxes[:, 3] > top) & (boxes[:, 1] < bottom)
        near = np.flatnonzero(meets)
        whole = masks.areas[near] * float(ratio.prod())
        moved = (
            masks[near].resize((scaled_h, scaled_w)).crop_to(left, top, right, bottom).shift(0, 0, self.size)
        )
        kept = (moved.areas > 0) & (moved.areas >= self.min_visible * whole)
        chosen = instances[near[kept]]
        seen = int(np.count_nonzero(moved.areas > 0))
        return replace(
            sample,
            image=padded,
            instances=Instances(
                size=self.size,
                masks=moved[kept],
                class_ids=chosen.class_ids,
                scores=chosen.scores,
                classes=chosen.classes,
                track_ids=chosen.track_ids,
                columns=chosen.columns,
            ),
            dropped=sample.dropped + seen - int(np.count_nonzero(kept)),
        )


@dataclass(frozen=True)
class ColorJitter:
    """Contrast, brightness, saturation, gamma, hue and channel order, with probability `p`."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        values = sample.image.astype(np.float32)
        mean = float(values.mean())
        values = (values - mean) * rng.uniform(0.6, 1.5) + mean
        values = values * rng.uniform(0.6, 1.6) + rng.uniform(-25, 25)
        grey = values.mean(axis=2, keepdims=True)
        values = np.clip(grey + (values - grey) * rng.uniform(0.4, 1.6), 0, 255)
        if rng.random() < 0.5:
            values = 255 * (values / 255) ** rng.uniform(0.6, 1.6)
        image = values.astype(np.uint8)
        if rng.random() < 0.5:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(np.int32) + int(rng.integers(-15, 16))) % 180
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if rng.random() < 0.2:
            image = np.ascontiguousarray(image[..., rng.permutation(3)])
        return replace(sample, image=image)


@dataclass(frozen=True)
class Invert:
    """The negative, with probability `p`."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        return replace(sample, image=255 - sample.image) if rng.random() < self.p else sample


@dataclass(frozen=True)
class Grey:
    """Without colour, with probability `p`."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
        return replace(sample, image=np.repeat(grey[..., None], 3, axis=2))


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of 0.4 to 1.6 pixels, with probability `p`."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        blurred = cv2.GaussianBlur(sample.image, (0, 0), float(rng.uniform(0.4, 1.6)))
        return replace(sample, image=blurred.astype(np.uint8, copy=False))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of a standard deviation of 2 to 12 grey levels, with probability `p`."""

    p: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        noise = rng.standard_normal(sample.image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 12))
        return replace(sample, image=np.clip(sample.image + noise, 0, 255).astype(np.uint8))
