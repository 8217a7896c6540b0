"""Stain jitter: other amounts of dye in a histology picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from apiece.data.augment.base import RGB, as_rgb, check_fraction, is_grey
from apiece.data.sample import Sample
from apiece.errors import UsageError

Float = npt.NDArray[np.float64]
Method = Literal["ruifrok", "macenko"]

# Haematoxylin, eosin, DAB: optical densities of red, green, blue. Ruifrok and Johnston 2001, as rows of length 1.
RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
RUIFROK /= np.linalg.norm(RUIFROK, axis=1, keepdims=True)
DENSITY = -np.log10((np.arange(256) + 1) / 256).astype(np.float32)  # of each grey level; 0 for white
TISSUE = 0.15  # optical density from which a pixel counts as stained (Macenko et al. 2009, beta)
SAMPLES = 20_000  # pixels from which stains are estimated


@dataclass(frozen=True)
class StainJitter:
    """Each stain's amount is multiplied and shifted at random (Tellez et al. 2018, HED-light and -strong).

    Amounts are found by colour deconvolution in optical densities. White stays white: the shift grows from nothing
    at the bare glass to its whole at an optical density of 0.15. Grey pictures stay as they are.

    p               probability.
    strength        largest relative change of an amount: factors are from 1 - strength to 1 + strength.
    shift           largest amount, in optical density, that is added or taken away where there is tissue.
    method          ruifrok: haematoxylin, eosin and DAB as published (Ruifrok and Johnston 2001); macenko: the two
                    stains of the picture itself (Macenko et al. 2009), and what isn't of these stays.
    only_histology  leaves pictures alone that don't look stained, see `looks_stained`.
    raises          UsageError if a value can't be meant.
    """

    p: float = 0.5
    strength: float = 0.2
    shift: float = 0.02
    method: Method = "ruifrok"
    only_histology: bool = True

    def __post_init__(self) -> None:
        check_fraction("StainJitter p", self.p)
        check_fraction("StainJitter strength", self.strength)
        check_fraction("StainJitter shift", self.shift)
        if self.method not in get_args(Method):
            raise UsageError(
                f"StainJitter method is {self.method!r}; expected {' or '.join(get_args(Method))}."
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Colours change, objects stay."""
        if rng.random() >= self.p:
            return sample
        factors = rng.uniform(1 - self.strength, 1 + self.strength, 3)
        shifts = rng.uniform(-self.shift, self.shift, 3)
        if is_grey(sample.image) or (self.only_histology and not looks_stained(sample.image)):
            return sample
        stains = RUIFROK
        if self.method == "macenko":
            stains = stains_of(sample.image)
            factors[2], shifts[2] = 1, 0
        return replace(sample, image=restained(sample.image, stains, factors, shifts))


def restained(image: RGB, stains: Float, factors: Float, shifts: Float) -> RGB:
    """The picture with other amounts of its stains.

    stains   float64 (3, 3), rows are optical densities of red, green, blue for a unit of each stain.
    factors  float64 (3,), by which amounts are multiplied.
    shifts   float64 (3,), what is added to amounts where there is tissue.
    """
    density = np.asarray(cv2.LUT(image, DENSITY), np.float32)
    # Rows are pixels: density = amounts @ stains.
    mix = np.linalg.inv(stains) @ np.diag(factors) @ stains
    changed = np.asarray(cv2.transform(density, mix.T), np.float32)
    if shifts.any():
        tissue = np.minimum(density.mean(axis=2, keepdims=True) / TISSUE, 1)
        changed += tissue * (shifts @ stains).astype(np.float32)
    levels = 256 * np.exp(changed * np.float32(-np.log(10))) - 1
    return as_rgb(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def looks_stained(image: RGB) -> bool:
    """Whether a picture looks like stained tissue in transmitted light.

    That is: light somewhere, next to nothing dark, and nearly all that absorbs is coloured as mixtures of
    haematoxylin, eosin and DAB are. True for all 107 histology pictures of BBBC038, for StarDist's H&E and
    scikit-image's immunohistochemistry; of photographs for 1 of 61 (balloons) and 2 of 104 (COCO).
    """
    pixels = _some_pixels(image)
    pixels = pixels[pixels.any(axis=1)]  # black padding says nothing
    if len(pixels) == 0:
        return False
    levels = pixels.mean(axis=1)
    density = DENSITY[pixels].astype(np.float64)
    density = density[density.mean(axis=1) > TISSUE]
    if len(density) < 0.01 * len(pixels) or np.percentile(levels, 95) < 150 or np.mean(levels < 25) > 0.02:
        return False
    direction = density / np.linalg.norm(density, axis=1, keepdims=True)
    coloured = direction.sum(axis=1) / np.sqrt(3) < 0.985  # cosine of the angle to the grey axis
    of_stains = (direction @ np.linalg.inv(RUIFROK) > -0.25).all(axis=1)
    return bool(coloured.mean() > 0.6 and of_stains[coloured].mean() > 0.85)


def stains_of(image: RGB) -> Float:
    """The two stains of a picture by Macenko et al. 2009, and the direction that is neither; (3, 3), rows of length 1.

    The published stains where the picture has too little tissue, or of one colour only.
    """
    density = DENSITY[_some_pixels(image)].astype(np.float64)
    density = density[(density > TISSUE).all(axis=1)]
    if len(density) < 100:
        return RUIFROK
    _, plane = np.linalg.eigh(np.cov(density, rowvar=False))
    plane = plane[:, [2, 1]] * np.where(plane[:, [2, 1]].sum(axis=0) < 0, -1, 1)
    x, y = (density @ plane).T
    low, high = np.percentile(np.arctan2(y, x), [1, 99])
    first, second = (plane @ [np.cos(angle), np.sin(angle)] for angle in (low, high))
    third = np.cross(first, second)
    if np.linalg.norm(third) < 0.05:
        return RUIFROK
    return np.stack([first, second, third / np.linalg.norm(third)])


def _some_pixels(image: RGB) -> RGB:
    """At most `SAMPLES` pixels (N, 3), evenly over the picture."""
    pixels = image.reshape(-1, 3)
    return pixels[:: max(1, len(pixels) // SAMPLES)]
