"""Synthetic scenes with exact ground truth, for tests, demonstrations and the proof of exports."""

from __future__ import annotations

import cv2
import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.sample import Sample


def discs(
    rng: np.random.Generator,
    size: tuple[int, int],
    count: int,
    *,
    radius: tuple[float, float] | None = None,
    overlap: bool = False,
    noise: float = 6.0,
) -> Sample:
    """Bright ellipses with texture on a dark, uneven ground.

    size     (height, width).
    count    ellipses that are drawn; those that later ones hide completely, or for which no free place is found
             in 50 trials without `overlap`, are not among the objects.
    radius   range of half axes in pixels; by default about a tenth of the smaller side, less where there are many.
    overlap  whether later objects may cover earlier ones. A covered pixel belongs to the later object alone.
    returns  the picture and the visible pixels of every object; reproducible by the generator's state.
    """
    height, width = size
    if radius is None:
        largest = 0.45 * np.sqrt(height * width / max(count, 1)) / 1.6
        largest = float(np.clip(largest, 3.0, 0.16 * min(size)))
        radius = (0.55 * largest, largest)
    owner = np.zeros(size, dtype=np.int32)
    ground = cv2.resize(rng.uniform(10, 50, (4, 4)).astype(np.float32), (width, height))
    picture = np.repeat(ground[..., None], 3, axis=2)
    placed = 0
    for _ in range(count):
        for _ in range(1 if overlap else 50):
            a, b = rng.uniform(*radius, 2)
            angle = float(rng.uniform(0, np.pi))
            reach = int(np.ceil(max(a, b)))
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            left, top = max(0, int(x) - reach), max(0, int(y) - reach)
            right, bottom = min(width, int(x) + reach + 2), min(height, int(y) + reach + 2)
            dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
            dx, dy = dx - x, dy - y
            u = (dx * np.cos(angle) + dy * np.sin(angle)) / a
            v = (dy * np.cos(angle) - dx * np.sin(angle)) / b
            inside = u * u + v * v <= 1
            window = owner[top:bottom, left:right]
            if not inside.any() or (not overlap and window[inside].any()):
                continue
            placed += 1
            window[inside] = placed
            shade = rng.uniform(110, 235, 3) * (1 - 0.25 * (u * u + v * v))[..., None]
            picture[top:bottom, left:right][inside] = shade[inside]
            break
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.7)
    picture = picture + rng.normal(0, noise, picture.shape)
    masks = Masks.from_label_image(owner)
    instances = Instances(
        size=size,
        masks=masks,
        class_ids=np.zeros(len(masks), dtype=np.int64),
        classes=ClassMap(("disc",)),
    )
    return Sample(np.clip(picture, 0, 255).astype(np.uint8), instances, "synthetic discs")
