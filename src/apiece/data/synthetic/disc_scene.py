"""Discs: the first and simplest synthetic scene. Its stream of random numbers stays, recorded figures depend on it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.sample import Sample
from apiece.errors import GeometryError, UsageError

DISC = ClassMap(("disc",))
TRIALS = 300
SHRINK = 0.985  # with each trial, so that the last places are found by small objects


def discs(
    rng: np.random.Generator,
    size: tuple[int, int],
    count: int,
    *,
    radius: tuple[float, float] | None = None,
    overlap: bool = False,
    touching: float = 0.0,
    min_visible: float = 0.25,
    lobes: float = 0.0,
    texture: float = 0.0,
    blur: float = 0.7,
    noise: float = 6.0,
    classes: ClassMap = DISC,
) -> Sample:
    """Bright blobs with texture on a dark, uneven ground: exactly `count`, each with the pixels that can be seen.

    size         (height, width) in pixels.
    radius       range of half axes in pixels; by default about a tenth of the smaller side, less where there are
                 many. Where no place is left, objects get smaller.
    overlap      whether a later object may hide parts of earlier ones. A pixel belongs to the last object on it.
    touching     share of objects that are put against an earlier one: side by side with a common border, or with
                 `overlap` partly over it.
    min_visible  the least share of its pixels that every object keeps in sight.
    lobes        how far outlines depart from ellipses, 0 (not at all) to 0.5.
    texture      relative deviation of brightness within an object.
    blur, noise  of the picture, as standard deviations in pixels and in grey levels.
    classes      each object is of one of these at random; with several, colour tells them apart.
    returns      the sample; its objects are in the order in which they were put down. The same generator state
                 gives the same sample. Memory grows with the picture, not with the objects.
    raises       UsageError if a value can't be meant; GeometryError if no place is found for an object.
    """
    height, width = size
    if count < 0 or min(size) < 1:
        raise UsageError(f"discs: {count} objects on {size}; expected 0 or more on at least 1 x 1 pixel.")
    if not 0 <= lobes <= 0.5 or not 0 <= touching <= 1 or not 0 <= min_visible <= 1:
        raise UsageError("discs: expected lobes in 0..0.5, touching and min_visible in 0..1.")
    low, high = radius or _usual_radius(size, count)
    owner = np.zeros(size, np.int32)
    ground = cv2.resize(rng.uniform(10, 50, (4, 4)).astype(np.float32), (width, height))
    picture = np.repeat(ground[..., None], 3, axis=2)
    class_ids = np.zeros(count, np.int64) if len(classes) == 1 else rng.integers(len(classes), size=count)
    full = np.zeros(count + 1, np.int64)  # pixels of each object when it was put down
    visible = np.zeros(count + 1, np.int64)
    put: list[_Blob] = []
    for number in range(1, count + 1):
        for trial in range(TRIALS):
            axes, angle = rng.uniform(low, high, 2) * SHRINK**trial, rng.uniform(0, np.pi)
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            beside = bool(put) and touching > 0 and rng.random() < touching
            if beside:
                x, y = _beside(rng, put[int(rng.integers(len(put)))], float(axes.mean()), overlap)
            phase = rng.uniform(0, 2 * np.pi) if lobes > 0 else 0.0
            blob = _Blob(x, y, axes[0], axes[1], angle, lobes, phase)
            (top, left), depth = blob.draw(size)
            window = owner[top : top + depth.shape[0], left : left + depth.shape[1]]
            inside = depth <= 1
            drawn = int(np.count_nonzero(inside))
            if drawn == 0:  # it lies outside the picture
                continue
            if beside and not overlap:
                inside &= window == 0
                whole = cv2.connectedComponents(inside.view(np.uint8), connectivity=4)[0] == 2
                if not whole or np.count_nonzero(inside) < 0.6 * drawn:
                    continue
            hidden = np.bincount(window[inside], minlength=count + 1)
            hidden[0] = 0
            if not inside.any() or (hidden.any() and not overlap):
                continue
            if ((visible - hidden)[1:number] < np.maximum(1, min_visible * full[1:number])).any():
                continue
            visible -= hidden
            visible[number] = full[number] = np.count_nonzero(inside)
            window[inside] = number
            shade = colour_of(rng, int(class_ids[number - 1]), len(classes)) * (1 - 0.25 * depth)[..., None]
            if texture > 0:
                grain = 1 + texture * rng.standard_normal(depth.shape, np.float32)
                shade *= cv2.GaussianBlur(grain, (0, 0), 1.0)[..., None]
            picture[top : top + depth.shape[0], left : left + depth.shape[1]][inside] = shade[inside]
            put.append(blob)
            break
        else:
            raise GeometryError(
                f"discs: found no place for object {number} of {count} on {height} x {width} pixels in {TRIALS} "
                "trials. Remedy: a larger picture, fewer or smaller objects, or overlap=True."
            )
    if blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    image = np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)
    masks = Masks.from_label_image(owner)
    return Sample(image, Instances(size, masks, class_ids, classes=classes), "synthetic discs")


class _Blob(NamedTuple):
    """An ellipse of half axes a and b, turned by an angle, its outline waved three times around."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    lobes: float
    phase: float

    def draw(self, size: tuple[int, int]) -> tuple[tuple[int, int], npt.NDArray[np.float32]]:
        """Row and column of a window's first pixel, and each of its pixels' squared depth: 0 at the centre, 1 at
        the outline, more outside."""
        reach = int(np.ceil(max(self.a, self.b) * (1 + self.lobes)))
        top, left = max(0, int(self.y) - reach), max(0, int(self.x) - reach)
        bottom, right = min(size[0], int(self.y) + reach + 2), min(size[1], int(self.x) + reach + 2)
        dy, dx = np.mgrid[top : max(top, bottom), left : max(left, right)].astype(np.float32)
        dx, dy = dx - self.x, dy - self.y
        u = (dx * np.cos(self.angle) + dy * np.sin(self.angle)) / self.a
        v = (dy * np.cos(self.angle) - dx * np.sin(self.angle)) / self.b
        outline = 1 + self.lobes * np.cos(3 * np.arctan2(v, u) + self.phase)
        return (top, left), ((u * u + v * v) / (outline * outline)).astype(np.float32)


def _usual_radius(size: tuple[int, int], count: int) -> tuple[float, float]:
    largest = 0.45 * np.sqrt(size[0] * size[1] / max(count, 1)) / 1.6
    largest = float(np.clip(largest, 3.0, max(3.0, 0.16 * min(size))))
    return 0.55 * largest, largest


def _beside(rng: np.random.Generator, other: _Blob, radius: float, overlap: bool) -> tuple[float, float]:
    """A centre near another blob, so that a blob of this mean radius meets it."""
    angle = rng.uniform(0, 2 * np.pi)
    distance = ((other.a + other.b) / 2 + radius) * rng.uniform(0.55 if overlap else 0.8, 0.95)
    return other.x + distance * np.cos(angle), other.y + distance * np.sin(angle)


def colour_of(rng: np.random.Generator, index: int, classes: int) -> npt.NDArray[np.float32]:
    """R, G, B of an object: any bright colour for one class, a hue of its own for each of several."""
    if classes == 1:
        return rng.uniform(110, 235, 3).astype(np.float32)
    angle = 2 * np.pi * (index / classes + np.array([0, 1, 2]) / 3)
    return ((0.62 + 0.38 * np.cos(angle)) * rng.uniform(170, 245)).astype(np.float32)
