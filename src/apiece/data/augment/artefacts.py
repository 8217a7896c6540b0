"""What lenses, motion, sensors and files do to a picture: objects stay where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import cv2
import numpy as np

from apiece.data.augment.base import Range, as_rgb, check_fraction, check_range
from apiece.data.sample import Sample
from apiece.errors import UsageError

# A standard normal variable in 256 equally likely steps, so that noise is a look-up of random bytes.
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur; `sigma` is the range of its standard deviation in pixels."""

    p: float
    sigma: Range = (0.4, 1.6)

    def __post_init__(self) -> None:
        check_fraction("Blur p", self.p)
        check_range("Blur sigma", self.sigma, 0.01, 50)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        return replace(sample, image=as_rgb(cv2.GaussianBlur(sample.image, (0, 0), rng.uniform(*self.sigma))))


@dataclass(frozen=True)
class MotionBlur:
    """A straight smear in any direction, even about each pixel, so that nothing is displaced.

    length  range of the smear's length in pixels.
    """

    p: float
    length: Range = (3.0, 9.0)

    def __post_init__(self) -> None:
        check_fraction("MotionBlur p", self.p)
        check_range("MotionBlur length", self.length, 0, 100)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        length, angle = rng.uniform(*self.length), rng.uniform(0, math.pi)
        reach = math.ceil(length / 2) + 1
        # Many points along the line, each shared among the four pixels around it.
        along = np.linspace(-0.5, 0.5, 8 * reach + 1) * length
        y, x = along * math.sin(angle) + reach, along * math.cos(angle) + reach
        kernel = np.zeros((2 * reach + 2, 2 * reach + 2))
        row, column = np.floor(y).astype(int), np.floor(x).astype(int)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = np.abs(1 - dy - (y - row)) * np.abs(1 - dx - (x - column))
            np.add.at(kernel, (row + dy, column + dx), weight)
        kernel = kernel[:-1, :-1] / kernel.sum()
        image = cv2.filter2D(sample.image, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        return replace(sample, image=as_rgb(image))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, independent in every pixel and channel; `sigma` is the range of its deviation in grey levels."""

    p: float
    sigma: Range = (2.0, 12.0)

    def __post_init__(self) -> None:
        check_fraction("Noise p", self.p)
        check_range("Noise sigma", self.sigma, 0, 255)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        table = np.rint(NORMAL * rng.uniform(*self.sigma)).astype(np.int16)
        count = sample.image.size
        # Whole words are drawn, as single bytes take ten times as long.
        words = rng.integers(0, 2**64, -(-count // 8), dtype=np.uint64)
        noise = cv2.LUT(words.view(np.uint8)[:count].reshape(sample.image.shape), table)
        return replace(sample, image=as_rgb(cv2.add(sample.image, noise, dtype=cv2.CV_8U)))


@dataclass(frozen=True)
class Jpeg:
    """What JPEG leaves of a picture; `quality` is the range of its setting, 1 to 100."""

    p: float
    quality: tuple[int, int] = (30, 90)

    def __post_init__(self) -> None:
        check_fraction("Jpeg p", self.p)
        check_range("Jpeg quality", self.quality, 1, 100)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
        bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
        written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if written else None
        if decoded is None:
            raise UsageError(
                f"Jpeg: a picture of {sample.size} can't be written as JPEG, which ends at 65,500 pixels a side. "
                "Remedy: cut it first with ScaleCrop."
            )
        return replace(sample, image=as_rgb(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)))
