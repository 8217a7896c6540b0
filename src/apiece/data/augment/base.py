"""What every change of a sample is: a callable value; and the types that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apiece.data.sample import Sample
from apiece.errors import UsageError

RGB = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]
Range = tuple[float, float]
Colour = tuple[int, int, int]
Augment = Callable[[Sample, np.random.Generator], Sample]


@dataclass(frozen=True)
class Compose:
    """Changes one after the other."""

    steps: tuple[Augment, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Apply all."""
        for step in self.steps:
            sample = step(sample, rng)
        return sample


def as_rgb(image: npt.NDArray[np.generic]) -> RGB:
    """An image of OpenCV's, which returns uint8 for uint8 though its types don't say so."""
    return np.asarray(image, np.uint8)


def is_grey(image: RGB) -> bool:
    """Whether red, green and blue are equal in every pixel."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return bool(np.array_equal(red, green) and np.array_equal(green, blue))


def check_fraction(name: str, value: float) -> None:
    """Raises UsageError unless the value is in 0..1."""
    if not 0 <= value <= 1:
        raise UsageError(f"{name} is {value}; expected a fraction in 0..1.")


def check_range(name: str, values: Range, lowest: float, highest: float) -> None:
    """Raises UsageError unless lowest <= values[0] <= values[1] <= highest."""
    if len(values) != 2 or not lowest <= values[0] <= values[1] <= highest:
        raise UsageError(f"{name} is {values}; expected {lowest:g} <= lowest <= highest <= {highest:g}.")


def check_colour(name: str, colour: Colour) -> None:
    """Raises UsageError unless the colour is three whole numbers in 0..255."""
    if len(colour) != 3 or any(int(v) != v or not 0 <= v <= 255 for v in colour):
        raise UsageError(f"{name} is {colour}; expected red, green and blue in 0..255.")
