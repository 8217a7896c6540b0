"""Paint: the picture of a layout, any rows of it at a time and always the same."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Bool
from apiece.core.masks import Masks
from apiece.data.synthetic.disc_scene import colour_of
from apiece.data.synthetic.layout import Layout

Float32 = NDArray[np.float32]
GRAIN = 6  # pixels between the knots of the ground's texture
NOISE, TEXTURE, OBJECT = 1, 2, 3  # streams of random numbers: each row and each object has its own


def ids_rows(masks: Masks, top: int, bottom: int) -> NDArray[np.uint8]:
    """Rows top to bottom (exclusive) with each of the masks in the colour of its number, uint8 (h, W, 3).

    Object i has R + 256 G + 65536 B = i + 1; the ground is 0. Masks must not share pixels.
    """
    out = np.zeros((bottom - top, masks.size[1], 3), np.uint8)
    for i, rows, (y, x) in _met(masks, top, bottom):
        number = i + 1
        window = out[y : y + rows.shape[0], x : x + rows.shape[1]]
        window[rows] = (number & 255, number >> 8 & 255, number >> 16)
    return out


class Painter:
    """Paints a layout as its scene says.

    What rows look like doesn't depend on which rows are painted along or before: every random number belongs to a row
    or to an object, and every operation to a pixel and its fixed surroundings.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.scene = layout, layout.scene
        height, width = layout.size
        rng = self._stream(0, 0)
        self._ground = rng.uniform(*self.scene.ground, (4, 4)).astype(np.float32)
        self._ground = _between(self._ground.T, np.linspace(0, 3, width)).T  # (4, W)
        bearing = rng.uniform(0, 2 * np.pi)
        x, y = np.cos(bearing) * np.arange(width), np.sin(bearing) * np.arange(height)
        low, high = min(x[0], x[-1]) + min(y[0], y[-1]), max(x[0], x[-1]) + max(y[0], y[-1])
        span = max(high - low, 1.0)
        self._light_x, self._light_y = ((x - low) / span).astype(np.float32), (y / span).astype(np.float32)
        self._bars = float(rng.uniform(60, 110))
        sigma = self.scene.blur
        self._halo = int(np.ceil(3 * sigma))
        self._kernel = cv2.getGaussianKernel(2 * self._halo + 1, sigma, cv2.CV_32F) if sigma > 0 else None
        self._kept: dict[int, Float32] = {}

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Rows top to bottom (exclusive) of the picture, uint8 (h, W, 3), RGB."""
        above, below = max(0, top - self._halo), min(self.layout.size[0], bottom + self._halo)
        picture = self._sharp(above, below)
        if self._kernel is not None:
            blurred = cv2.sepFilter2D(picture, cv2.CV_32F, self._kernel, self._kernel)
            picture = np.asarray(blurred, np.float32)
        picture = np.ascontiguousarray(picture[top - above : bottom - above])
        scene = self.scene
        if scene.photons > 0 or scene.noise > 0:
            grain = np.empty(picture.shape[1:], np.float32)
            for row, y in zip(picture, range(top, bottom), strict=True):
                rng = self._stream(NOISE, y)
                if scene.photons > 0:
                    mean = np.maximum(row, 0) * np.float32(scene.photons / 255)
                    row[...] = rng.poisson(mean) * np.float32(255 / scene.photons)
                if scene.noise > 0:
                    rng.standard_normal(out=grain, dtype=np.float32)
                    grain *= np.float32(scene.noise)
                    row += grain
        picture += np.float32(0.5)
        np.clip(picture, 0, 255, out=picture)
        return picture.astype(np.uint8)

    def _stream(self, kind: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.layout.seed, kind, number]))

    def _sharp(self, top: int, bottom: int) -> Float32:
        """Ground, objects and fence in their light, float32 (h, W, 3)."""
        height, width = self.layout.size
        ground = _between(self._ground, np.linspace(0, 3, height)[top:bottom])
        if self.scene.ground_texture > 0:
            ground *= 1 + np.float32(self.scene.ground_texture) * self._knots(top, bottom)
        picture = np.empty((bottom - top, width, 3), np.float32)
        picture[...] = ground[..., None]
        kept: dict[int, Float32] = {}
        for i, rows, (y, x) in _met(self.layout.masks, top, bottom):
            shade = self._kept.get(i)
            kept[i] = shade = self._shade(i) if shade is None else shade
            first = max(0, top - int(self.layout.masks.offsets[i, 1]))
            window = picture[y : y + rows.shape[0], x : x + rows.shape[1]]
            window[rows] = shade[first : first + rows.shape[0]][rows]
        self._kept = kept
        if self.layout.fence is not None:
            picture[self.layout.fence.window(0, top, width, bottom)] = self._bars
        if self.scene.light > 0:
            fall = self._light_y[top:bottom, None] + self._light_x
            picture *= (1 - np.float32(self.scene.light) * fall)[..., None]
        return picture

    def _shade(self, i: int) -> Float32:
        """Colours of object i in the window of its mask, float32 (h, w, 3)."""
        body, masks = self.layout.bodies[i], self.layout.masks
        rng = self._stream(OBJECT, i)
        names = len(self.scene.class_map) if self.scene.colours == "class" else 1
        colour = colour_of(rng, int(self.layout.class_ids[i]), names)
        (left, top), (height, width) = masks.offsets[i].tolist(), masks.shapes[i].tolist()
        x: Float32 = np.arange(left, left + width, dtype=np.float32) + np.float32(0.5 - body.x)
        y = (np.arange(top, top + height, dtype=np.float32) + np.float32(0.5 - body.y))[:, None]
        cosine, sine = np.cos(body.angle), np.sin(body.angle)
        u = x * np.float32(cosine / body.a) + y * np.float32(sine / body.a)
        v = y * np.float32(cosine / body.b) - x * np.float32(sine / body.b)
        shade = 1 - np.float32(0.25) * np.minimum(u * u + v * v, 1)
        if self.scene.texture > 0:
            shade *= 1 + np.float32(self.scene.texture) * _pattern(rng, u, v, max(body.a, body.b))
        return np.asarray(shade[..., None] * colour, np.float32)

    def _knots(self, top: int, bottom: int) -> Float32:
        """Smooth noise of mean 0 and deviation near 1 on rows top to bottom, float32 (h, W)."""
        width = self.layout.size[1]
        first, last = top // GRAIN, (bottom - 1) // GRAIN + 1
        across = np.arange(width) / GRAIN
        knots = np.empty((last + 1 - first, width), np.float32)
        for k in range(first, last + 1):
            values = self._stream(TEXTURE, k).standard_normal(width // GRAIN + 2, np.float32)
            knots[k - first] = _between(values[:, None], across)[:, 0]
        return _between(knots, np.arange(top, bottom) / GRAIN - first)


def _met(masks: Masks, top: int, bottom: int) -> Iterator[tuple[int, Bool, tuple[int, int]]]:
    """The objects with pixels on these rows: number, the mask's rows there, and their y and x from row `top`."""
    begins = masks.offsets[:, 1]
    met = np.flatnonzero((begins < bottom) & (begins + masks.shapes[:, 0] > top))
    for i in met.tolist():
        x, y = masks.offsets[i].tolist()
        rows = masks.crop(i)[max(0, top - y) : bottom - y]
        yield i, rows, (max(0, y - top), x)


def _between(values: Float32, places: NDArray[np.float64]) -> Float32:
    """Rows of `values` (K, W) at fractional places (h,), linearly; float32 (h, W)."""
    low = np.minimum(places.astype(np.int64), len(values) - 2)
    share = (places - low).astype(np.float32)[:, None]
    return np.asarray(values[low] * (1 - share) + values[low + 1] * share, np.float32)


def _pattern(rng: np.random.Generator, u: Float32, v: Float32, radius: float) -> Float32:
    """Texture of deviation about 1 at an object's own coordinates: grain, stripes or clouds."""
    kind = int(rng.integers(3))
    if kind == 0:
        grain = rng.standard_normal(u.shape, np.float32)
        return np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.8), np.float32) * np.float32(2.5)
    waves, phases = rng.uniform(0.15, 0.35, 2) * radius, rng.uniform(0, 2 * np.pi, 2)
    stripes = np.sin(u * np.float32(np.pi * waves[0]) + np.float32(phases[0]))
    if kind == 1:
        return np.asarray(stripes * np.float32(1.4), np.float32)
    return np.asarray(
        2 * stripes * np.sin(v * np.float32(np.pi * waves[1]) + np.float32(phases[1])), np.float32
    )
