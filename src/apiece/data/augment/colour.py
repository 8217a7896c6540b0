"""Other colours: objects stay where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from apiece.data.augment.base import Range, as_rgb, check_fraction, check_range, is_grey
from apiece.data.sample import Sample
from apiece.errors import UsageError


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

    def __post_init__(self) -> None:
        check_fraction("ColorJitter p", self.p)
        check_fraction("ColorJitter shuffle", self.shuffle)
        for name in ("contrast", "brightness", "saturation"):
            check_range(f"ColorJitter {name}", getattr(self, name), 0, 10)
        check_range("ColorJitter gamma", self.gamma, 0.05, 20)
        if not 0 <= self.offset <= 255 or not 0 <= self.hue <= 180:
            raise UsageError(
                f"ColorJitter offset is {self.offset} and hue {self.hue}; expected 0 to 255 grey levels and 0 to "
                "180 degrees."
            )

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
        return replace(sample, image=as_rgb(cv2.transform(cv2.LUT(sample.image, table), mix)))


@dataclass(frozen=True)
class Invert:
    """The negative."""

    p: float

    def __post_init__(self) -> None:
        check_fraction("Invert p", self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        return replace(sample, image=~sample.image) if rng.random() < self.p else sample


@dataclass(frozen=True)
class Grey:
    """Without colour."""

    p: float

    def __post_init__(self) -> None:
        check_fraction("Grey p", self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
        return replace(sample, image=as_rgb(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)))


@dataclass(frozen=True)
class ChannelDrop:
    """One channel goes black, as where a stain of a fluorescence picture failed.

    It is one of those that hold anything, and never the last of these. Grey pictures stay as they are.
    """

    p: float

    def __post_init__(self) -> None:
        check_fraction("ChannelDrop p", self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p or is_grey(sample.image):
            return sample
        filled = np.flatnonzero(sample.image.reshape(-1, 3).any(axis=0))
        if len(filled) < 2:
            return sample
        image = sample.image.copy()
        image[..., int(rng.choice(filled))] = 0
        return replace(sample, image=image)


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
