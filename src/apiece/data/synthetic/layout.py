"""Layout: where the objects of a synthetic scene lie, and which of their pixels can be seen."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Bool
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic.config import Scene
from apiece.data.synthetic.shapes import Part, outline, turned
from apiece.data.synthetic.space import Space
from apiece.errors import GeometryError, UsageError

TRIALS = 400
SHRINK = 0.985  # with each trial, so that the last places are found by small objects
PATIENCE = 6  # failures in a row after which nobody tries to join an object any more
FREE, TOUCHING, OVERLAP = 0, 1, 2
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


class Body(NamedTuple):
    """One object, whole.

    parts    its outline, in pixels of a window of its own whose top-left pixel is at (left, top) in the picture.
    x, y     its centre in the picture.
    a, b     half axes, turned by `angle`.
    full     pixels that it would have in the picture if nothing hid it.
    shape    index into the scene's shapes.
    """

    parts: list[Part]
    left: int
    top: int
    x: float
    y: float
    a: float
    b: float
    angle: float
    full: int
    shape: int


class Fence(NamedTuple):
    """Bars in front of everything; see Scene.fence."""

    period: float
    width: float
    angle: float
    phase: float

    def window(self, left: int, top: int, right: int, bottom: int) -> Bool:
        """Which pixels of a window bars hide, bool (h, w)."""
        x = np.arange(left, right) * np.cos(self.angle)
        y = np.arange(top, bottom) * np.sin(self.angle)
        return np.asarray((y[:, None] + x + self.phase) % self.period < self.width)


class Layout(NamedTuple):
    """What lies where, in the order in which it was put down.

    size     (height, width) of the picture.
    masks    the pixels of each object that can be seen; no two objects share one.
    bodies   the objects, whole.
    areas    int64 (N,), pixels of each mask.
    class_ids  int64 (N,), indices into the scene's classes.
    fence    bars in front, or None.
    seed     of all that the picture shows beyond this.
    """

    size: tuple[int, int]
    scene: Scene
    masks: Masks
    bodies: list[Body]
    areas: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    fence: Fence | None
    seed: int

    @property
    def instances(self) -> Instances:
        """The objects with the pixels that can be seen; column "visible" is their share of all pixels that the object
        would have in the picture, float32."""
        full = np.array([body.full for body in self.bodies], np.float64)
        visible = (self.areas / np.maximum(full, 1)).astype(np.float32)
        return Instances(
            self.size,
            self.masks,
            self.class_ids,
            classes=self.scene.class_map,
            columns={"visible": visible},
        )

    @property
    def amodal(self) -> Masks:
        """Every object's pixels in the picture whether seen or hidden; masks overlap."""
        crops = [drawn(body.parts) for body in self.bodies]
        corners = np.array([(body.left, body.top) for body in self.bodies], np.int64).reshape(-1, 2)
        moved = [
            (x + left, y + top) for (_, (x, y)), (left, top) in zip(crops, corners.tolist(), strict=True)
        ]
        return Masks.from_crops(
            [crop for crop, _ in crops], np.array(moved, np.int64).reshape(-1, 2), self.size
        )


def drawn(parts: list[Part]) -> tuple[Bool, tuple[int, int]]:
    """Bitmap of an outline whose points are all at least 0, and the place (x, y) of its top-left pixel."""
    high = np.max([outer.max(axis=0) for outer, _ in parts], axis=0)
    masks = Masks.from_polygons([parts], (int(high[1]) + 2, int(high[0]) + 2))
    x, y = masks.offsets[0].tolist()
    return masks.crop(0), (x, y)


def lay_out(rng: np.random.Generator, size: tuple[int, int], count: int, scene: Scene) -> Layout:
    """Put `count` objects down: first those that lie free, then those that touch or overlap others.

    Time grows with the objects, not with their square; memory with the objects' pixels, not with the picture.
    raises  UsageError if size or count can't be meant; GeometryError if no place is found for an object.
    """
    height, width = size
    if count < 0 or min(size) < 1:
        raise UsageError(f"scene: {count} objects on {size}; expected 0 or more on at least 1 x 1 pixel.")
    return _Layer(rng, (int(height), int(width)), count, scene).run()


class _Layer:
    """Puts objects down."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], count: int, scene: Scene) -> None:
        self.rng, self.size, self.count, self.scene = rng, size, count, scene
        self.seed = int(rng.integers(2**62))
        self.radius = scene.radius or usual_radius(size, count)
        self.space = Space(2 * int(np.ceil(self.radius[1])) + 4)
        self.bodies: list[Body] = []
        self.visible: list[int] = []  # pixels of each that neither objects nor the fence hide
        self.groups: list[int] = []
        self.members: list[int] = []  # of each group
        self.open: list[int] = []  # objects that others may still join
        self.failures: list[int] = []
        kernel = 2 * scene.gap + 1
        self.margin = np.ones((kernel, kernel), np.uint8)
        self.fence = None
        if scene.fence is not None:
            period, bar = scene.fence
            self.fence = Fence(period, bar, rng.uniform(0, np.pi), rng.uniform(0, period))

    def run(self) -> Layout:
        scene, count = self.scene, self.count
        others = max(count - 1, 0)
        touching, overlap = round(scene.touching * others), round(scene.overlap * others)
        most = others if scene.cluster is None else count - -(-count // scene.cluster)
        touching = min(touching, most)  # halves may have been rounded up twice
        overlap = min(overlap, most - touching)
        joined = self.rng.permutation([TOUCHING] * touching + [OVERLAP] * overlap).astype(int).tolist()
        for role in [FREE] * (count - len(joined)) + joined:
            self.place(role)
        names = len(scene.class_map)
        ids = [body.shape for body in self.bodies]
        if scene.classes is not None:
            ids = self.rng.integers(names, size=count).tolist()
        bitmaps, corners = self.space.bitmaps, []
        for i, (left, top, right, bottom) in enumerate(self.space.windows):
            corners.append((left, top))
            if self.fence is not None:
                bitmaps[i] = bitmaps[i] & ~self.fence.window(left, top, right, bottom)
        places = np.array(corners, np.int64).reshape(-1, 2)
        masks = Masks.from_crops(bitmaps, places, self.size)
        # Masks.areas would cost eight bytes a pixel here.
        areas, class_ids = np.array(self.visible, np.int64), np.array(ids, np.int64)
        return Layout(self.size, scene, masks, self.bodies, areas, class_ids, self.fence, self.seed)

    def place(self, role: int) -> None:
        """Put one more object down."""
        for trial in range(TRIALS):
            a, b = self.rng.uniform(*self.radius, 2) * SHRINK**trial
            angle, shape = self.rng.uniform(0, 2 * np.pi), int(self.rng.integers(len(self.scene.shapes)))
            parts = outline(self.rng, self.scene.shapes[shape], a, b)
            reach = int(np.ceil(max(a, b, 1))) + 1
            # The centre's place within its pixel is drawn with it: all further moves are by whole pixels.
            fx, fy = self.rng.uniform(0, 1, 2)
            parts = turned(parts, angle, reach + fx, reach + fy)
            bitmap, corner = drawn(parts)
            if bitmap.size == 0:
                continue
            parent = None
            if role == FREE:
                x, y = int(self.rng.integers(self.size[1])), int(self.rng.integers(self.size[0]))
            else:
                parent = self.parent()
                moved = self.beside(parent, bitmap, (corner[0] - reach, corner[1] - reach), reach, role)
                if moved is None:
                    self.failures[parent] += 1
                    continue
                x, y = moved
            left, top = x - reach, y - reach
            cut, place = self.cut(bitmap, left + corner[0], top + corner[1])
            if not cut.any() or not self.accepted(cut, place, role, parent):
                if parent is not None:
                    self.failures[parent] += 1
                continue
            full = int(np.count_nonzero(cut))
            self.take(cut, place, parent)
            self.bodies.append(Body(parts, left, top, x + fx, y + fy, a, b, angle, full, shape))
            return
        height, width = self.size
        raise GeometryError(
            f"scene: found no place for object {len(self.bodies) + 1} of {self.count} on {height} x {width} pixels in "
            f"{TRIALS} trials. Remedy: a larger picture, fewer or smaller objects, or more overlap."
        )

    def parent(self) -> int:
        """An object that another may join."""
        while True:
            if not self.open:
                self.open, self.failures = list(range(len(self.bodies))), [0] * len(self.bodies)
            at = int(self.rng.integers(len(self.open)))
            number = self.open[at]
            most = self.scene.cluster
            if self.failures[number] < PATIENCE and (
                most is None or self.members[self.groups[number]] < most
            ):
                return number
            self.open[at] = self.open[-1]
            self.open.pop()

    def cut(self, bitmap: Bool, left: int, top: int) -> tuple[Bool, tuple[int, int]]:
        """What of a bitmap lies in the picture, and where."""
        height, width = self.size
        x, y = max(0, -left), max(0, -top)
        return bitmap[y : max(0, height - top), x : max(0, width - left)], (left + x, top + y)

    def beside(
        self, parent: int, bitmap: Bool, shift: tuple[int, int], reach: int, role: int
    ) -> tuple[int, int] | None:
        """Where the object's centre pixel comes to lie, so that it touches others or lies partly over the parent.

        shift  from the centre pixel to the bitmap's top-left pixel.
        """
        body = self.bodies[parent]
        far = reach + max(body.a, body.b) + 3
        way = staircase(self.rng.uniform(0, 2 * np.pi), int(far))
        x, y = int(body.x), int(body.y)

        def meets(step: int) -> bool:
            left, top = x + way[step][0] + shift[0], y + way[step][1] + shift[1]
            shared = self.space.meetings(bitmap, left, top)
            if role == OVERLAP:  # only how far it is over the parent matters
                return any(number == parent and common.any() for number, common, _ in shared)
            return any(common.any() for _, common, _ in shared)

        low, high = 0, len(way) - 1
        if meets(high) or not meets(low):
            return None
        while high - low > 1:  # low meets and high doesn't, so at the end the two are neighbours
            middle = (low + high) // 2
            low, high = (middle, high) if meets(middle) else (low, middle)
        step = int(high * self.rng.uniform(0.5, 0.9)) if role == OVERLAP else high
        x, y = x + way[step][0], y + way[step][1]
        inside = 0 <= x < self.size[1] and 0 <= y < self.size[0]
        return (x, y) if inside else None

    def accepted(self, bitmap: Bool, place: tuple[int, int], role: int, parent: int | None) -> bool:
        """Whether the object may lie here."""
        least = self.scene.min_visible
        full = int(np.count_nonzero(bitmap))
        if self.seen(bitmap, *place) < max(1.0, least * full):
            return False
        if role == FREE or self.scene.cluster is not None:
            own = None if parent is None else self.groups[parent]
            gap = self.scene.gap
            grown = cv2.dilate(np.pad(bitmap, gap).view(np.uint8), self.margin).view(np.bool_)
            for number, common, _ in self.space.meetings(grown, place[0] - gap, place[1] - gap):
                if self.groups[number] != own and common.any():
                    return False
        if role == FREE:
            return True
        if role == TOUCHING:  # also where the picture's border cuts it
            ring = cv2.dilate(np.pad(bitmap, 1).view(np.uint8), CROSS).view(np.bool_)
            return any(common.any() for _, common, _ in self.space.meetings(ring, place[0] - 1, place[1] - 1))
        hides = False
        for number, common, _ in self.space.meetings(bitmap, *place):
            if not common.any():
                continue
            hides = True
            x0, y0 = self.space.windows[number][:2]
            lost = self.seen(common, max(place[0], x0), max(place[1], y0))
            if self.visible[number] - lost < max(1.0, least * self.bodies[number].full):
                return False
        return hides

    def seen(self, bitmap: Bool, left: int, top: int) -> int:
        """Pixels of a bitmap that the fence doesn't hide."""
        if self.fence is None:
            return int(np.count_nonzero(bitmap))
        hidden = self.fence.window(left, top, left + bitmap.shape[1], top + bitmap.shape[0])
        return int(np.count_nonzero(bitmap & ~hidden))

    def take(self, bitmap: Bool, place: tuple[int, int], parent: int | None) -> None:
        """Put the object down on whatever lies there."""
        for number, common, other in self.space.meetings(bitmap, *place):
            if common.any():
                x0, y0 = self.space.windows[number][:2]
                self.visible[number] -= self.seen(common, max(place[0], x0), max(place[1], y0))
                other[common] = False
        self.space.put(bitmap.copy(), *place)
        self.visible.append(self.seen(bitmap, *place))
        self.failures.append(0)
        new = len(self.groups)
        if parent is None:
            self.groups.append(len(self.members))
            self.members.append(1)
            self.open.append(new)
            return
        self.groups.append(self.groups[parent])
        self.members[self.groups[parent]] += 1
        self.failures[parent] = 0
        self.open.append(new)


def staircase(angle: float, length: int) -> list[tuple[int, int]]:
    """Pixels (x, y) from (0, 0) in a direction, each an edge neighbour of the one before."""
    dx, dy = np.cos(angle), np.sin(angle)
    x = y = 0
    way = [(0, 0)]
    while x * x + y * y < length * length:
        # The next pixel is the one that stays nearer to the line.
        if abs((x + np.sign(dx)) * dy - y * dx) <= abs(x * dy - (y + np.sign(dy)) * dx):
            x += 1 if dx > 0 else -1
        else:
            y += 1 if dy > 0 else -1
        way.append((x, y))
    return way


def usual_radius(size: tuple[int, int], count: int) -> tuple[float, float]:
    """Half axes at which so many objects fill about a fifth of a picture, a tenth of its smaller side at most."""
    largest = 0.45 * np.sqrt(size[0] * size[1] / max(count, 1)) / 1.6
    largest = float(np.clip(largest, 3.0, max(3.0, 0.16 * min(size))))
    return 0.55 * largest, largest
