"""Scenes of drawn masks with one planted fault each."""

from __future__ import annotations

import numpy as np

from apiece.core.masks import Masks
from apiece.evaluate.overlaps import Overlaps, overlaps_of
from apiece.evaluate.scenes import Objects, Scenes

SIZE = (96, 96)
CENTRES = [(24, 24), (72, 24), (24, 72), (72, 72)]  # x, y of up to four objects, far apart
SPARE = [(48, 48), (48, 8), (8, 48), (88, 48), (48, 88)]  # where no object is


def disc(x: float, y: float, radius: float = 9.0) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


class Drawn:
    """Collects true and predicted masks, image by image."""

    def __init__(self, classes: int = 1) -> None:
        self.classes = classes
        self.rows: dict[str, list[tuple[int, np.ndarray, float, int]]] = {"truth": [], "predicted": []}
        self.images = 0

    def image(self) -> int:
        self.images += 1
        return self.images - 1

    def true(self, image: int, mask: np.ndarray, label: int = 0) -> None:
        self.rows["truth"].append((image, mask, 1.0, label))

    def found(self, image: int, mask: np.ndarray, score: float, label: int = 0) -> None:
        self.rows["predicted"].append((image, mask, score, label))

    def overlaps(self, kind: str = "segm") -> Overlaps:
        classes = tuple((c + 1, f"class {c}") for c in range(self.classes))
        sides = [self._objects(self.rows[side]) for side in ("truth", "predicted")]
        ids = tuple(range(1, self.images + 1))
        return overlaps_of(Scenes(ids, (SIZE,) * self.images, classes, *sides), kind)

    @staticmethod
    def _objects(rows: list[tuple[int, np.ndarray, float, int]]) -> Objects:
        masks = [Masks.from_crops([mask], [(0, 0)], SIZE) for _, mask, _, _ in rows]
        corners = np.concatenate([np.zeros((0, 4)), *(m.boxes.astype(np.float64) for m in masks)])
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        areas = np.array([float(m.areas[0]) for m in masks])
        return Objects(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[3] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float64),
            np.zeros(len(rows), np.bool_),
            boxes,
            tuple(m.to_coco()[0] for m in masks),
            areas,
            areas,
        )


def false_alarms(seed: int = 0, images: int = 24) -> Overlaps:
    """Right ones score above 0.7; one to three false alarms an image score 0.5 to 0.6, above the threshold of 0.5."""
    rng, drawn = np.random.default_rng(seed), Drawn()
    for _ in range(images):
        image = drawn.image()
        for x, y in CENTRES[: rng.integers(1, 5)]:
            drawn.true(image, disc(x, y))
            drawn.found(image, disc(x + 1, y), rng.uniform(0.7, 0.95))
        for x, y in SPARE[: rng.integers(1, 4)]:
            drawn.found(image, disc(x, y, 5), rng.uniform(0.5, 0.6))
    return drawn.overlaps()


def duplicates(seed: int = 0, images: int = 24) -> Overlaps:
    """Every object is found once, and half of them a second time, with scores that mix."""
    rng, drawn = np.random.default_rng(seed), Drawn()
    for _ in range(images):
        image = drawn.image()
        for x, y in CENTRES[: rng.integers(1, 5)]:
            drawn.true(image, disc(x, y))
            drawn.found(image, disc(x, y), rng.uniform(0.6, 0.95))
            if rng.random() < 0.5:
                drawn.found(image, disc(x + 2, y + 1), rng.uniform(0.6, 0.95))
    return drawn.overlaps()


def halves_of_discs(seed: int = 0, images: int = 20) -> Overlaps:
    """Half of the objects were found as two halves, one column apart."""
    rng, drawn = np.random.default_rng(seed), Drawn()
    for _ in range(images):
        image = drawn.image()
        for x, y in CENTRES[: rng.integers(1, 5)]:
            drawn.true(image, disc(x, y))
            whole = disc(x, y)
            if rng.random() < 0.5:
                left, right = whole.copy(), whole.copy()
                left[:, x:] = False
                right[:, : x + 1] = False
                drawn.found(image, left, rng.uniform(0.6, 0.95))
                drawn.found(image, right, rng.uniform(0.6, 0.95))
            else:
                drawn.found(image, whole, rng.uniform(0.6, 0.95))
    return drawn.overlaps()


def grown_together(seed: int = 0, images: int = 20) -> Overlaps:
    """Some objects lie in pairs that touch and were found as one."""
    rng, drawn = np.random.default_rng(seed), Drawn()
    for _ in range(images):
        image = drawn.image()
        for x, y in CENTRES[: rng.integers(1, 5)]:
            if rng.random() < 0.5:
                pair = disc(x - 8, y), disc(x + 8, y)
                for one in pair:
                    drawn.true(image, one & ~(pair[0] & pair[1]))
                drawn.found(image, pair[0] | pair[1], rng.uniform(0.6, 0.95))
            else:
                drawn.true(image, disc(x, y))
                drawn.found(image, disc(x, y), rng.uniform(0.6, 0.95))
    return drawn.overlaps()


def speckle(seed: int = 0, images: int = 24) -> Overlaps:
    """One to four specks of five pixels an image, with scores like the right ones'."""
    rng, drawn = np.random.default_rng(seed), Drawn()
    for _ in range(images):
        image = drawn.image()
        for x, y in CENTRES[: rng.integers(1, 5)]:
            drawn.true(image, disc(x, y))
            drawn.found(image, disc(x, y), rng.uniform(0.6, 0.95))
        for x, y in SPARE[: rng.integers(1, 5)]:
            drawn.found(image, disc(x, y, 1), rng.uniform(0.6, 0.95))
    return drawn.overlaps()


def noise(seed: int, images: int = 24, classes: int = 3) -> Overlaps:
    """Objects, candidates and scores without any relation but place; low scores, several classes, some tied."""
    rng, drawn = np.random.default_rng(seed), Drawn(classes)
    for _ in range(images):
        image = drawn.image()
        for x, y in CENTRES[: rng.integers(0, 5)]:
            drawn.true(image, disc(x, y), int(rng.integers(classes)))
        for _ in range(rng.integers(0, 6)):
            x, y = (CENTRES + SPARE)[rng.integers(9)]
            radius, score = rng.uniform(6, 11), round(rng.uniform(0, 1), 1)
            drawn.found(image, disc(x + rng.integers(-3, 4), y, radius), score, int(rng.integers(classes)))
    return drawn.overlaps()
