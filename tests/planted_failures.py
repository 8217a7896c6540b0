"""Pictures with planted failures: what each kind of the ledger looks like, and which entries must come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.evaluate.scenes import Objects, Scenes

Frame = NDArray[np.bool_]
Entry = tuple[str, frozenset[int], frozenset[int]]  # kind, true objects, predictions

CELL = 24
THRESHOLD = 0.5
CLASSES = ((3, "cell"), (7, "debris"), (90, "fibre"))


@dataclass
class Planter:
    """Objects as they are planted, and the entries that they must give.

    rng    decides shapes, classes and scores; no two scores are equal.
    grid   how many cells a picture has along each side; a failure fills one cell.
    tight  whether shapes fill their cells, so that neighbours touch.
    """

    rng: np.random.Generator
    grid: int = 3
    tight: bool = False
    truth: list[tuple[int, int, Frame, bool]] = field(default_factory=list)
    predicted: list[tuple[int, int, Frame, float]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    image: int = 0
    corner: tuple[int, int] = (0, 0)

    def shape(self) -> Frame:
        """A disc, a rectangle or a blob in a cell, of at least 150 pixels; the whole cell where tight."""
        if self.tight:
            return np.ones((CELL, CELL), bool)
        y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2
        kind = self.rng.integers(3)
        if kind == 0:
            disc: Frame = np.hypot(y, x) < self.rng.uniform(8, 11)
            return disc
        if kind == 1:
            rectangle: Frame = (abs(y) < self.rng.uniform(7, 11)) & (abs(x) < self.rng.uniform(7, 11))
            return rectangle
        angle = np.arctan2(y, x)
        wave = sum(
            self.rng.uniform(-0.8, 0.8) * np.cos(k * angle + self.rng.uniform(0, 6)) for k in (2, 3, 5)
        )
        blob: Frame = np.hypot(y, x) < 8.5 + wave
        return blob

    def parts(self, shape: Frame, shares: list[float]) -> list[Frame]:
        """The shape cut across into parts of these shares of its pixels, along x or y."""
        y, x = np.nonzero(shape)
        order = np.lexsort((y, x) if self.rng.random() < 0.5 else (x, y))
        ends = np.round(np.cumsum([0.0, *shares]) / sum(shares) * len(order)).astype(int)
        cut = []
        for begin, end in pairwise(ends.tolist()):
            part = np.zeros_like(shape)
            part[y[order[begin:end]], x[order[begin:end]]] = True
            cut.append(part)
        return cut

    def worn(self, shape: Frame, most: float = 0.25) -> Frame:
        """The shape without up to that share of its pixels, at one side."""
        return self.parts(shape, [(lost := self.rng.uniform(0, most)), 1 - lost])[1]

    def high(self) -> float:
        return float(self.rng.uniform(THRESHOLD + 0.01, 1))

    def label(self) -> int:
        return int(self.rng.integers(len(CLASSES)))

    def other(self, label: int) -> int:
        return (label + int(self.rng.integers(1, len(CLASSES)))) % len(CLASSES)

    def true(self, label: int, shape: Frame, crowd: bool = False) -> int:
        self.truth.append((self.image, label, self._placed(shape), crowd))
        return len(self.truth) - 1

    def found(self, label: int, shape: Frame, score: float | None = None) -> int:
        self.predicted.append(
            (self.image, label, self._placed(shape), self.high() if score is None else score)
        )
        return len(self.predicted) - 1

    def expect(self, kind: str, truth: list[int], predicted: list[int]) -> None:
        self.entries.append((kind, frozenset(truth), frozenset(predicted)))

    def _placed(self, shape: Frame) -> Frame:
        frame = np.zeros((self.grid * CELL, self.grid * CELL), bool)
        frame[self.corner[0] : self.corner[0] + CELL, self.corner[1] : self.corner[1] + CELL] = shape
        return frame

    def picture(self, plants: list[Plant]) -> None:
        """One more picture, with these failures in cells of their own."""
        cells = self.rng.permutation(self.grid**2)[: len(plants)]
        for plant, cell in zip(plants, cells.tolist(), strict=True):
            self.corner = (cell // self.grid * CELL, cell % self.grid * CELL)
            plant(self)
            if self.rng.random() < 0.5:  # candidates below the threshold change nothing
                self.found(
                    self.label(), self.worn(self.shape()), float(self.rng.uniform(0, THRESHOLD - 0.01))
                )
        self.image += 1

    def scenes(self) -> Scenes:
        """All pictures, their objects in a random order; `entries` are renumbered to it."""
        orders = self.rng.permutation(len(self.truth)), self.rng.permutation(len(self.predicted))
        places = [np.argsort(order) for order in orders]
        self.entries = [
            (kind, *(frozenset(int(places[s][i]) for i in members) for s, members in enumerate(both)))  # type: ignore[misc]
            for kind, *both in self.entries
        ]
        size = (self.grid * CELL, self.grid * CELL)
        truth = [self.truth[i] for i in orders[0]]
        predicted = [self.predicted[i] for i in orders[1]]
        crowd = np.array([row[3] for row in truth], bool)
        return Scenes(
            tuple(range(1, self.image + 1)),
            (size,) * self.image,
            CLASSES,
            columns([row[:3] for row in truth], np.ones(len(truth)), crowd, size),
            columns([row[:3] for row in predicted], np.array([row[3] for row in predicted]), None, size),
        )


Plant = Callable[[Planter], None]


def columns(
    rows: list[tuple[int, int, Frame]],
    scores: NDArray[np.float64],
    crowd: NDArray[np.bool_] | None,
    size: tuple[int, int],
) -> Objects:
    """Objects from (image, label, dense mask)."""
    masks = Masks.from_dense(np.stack([row[2] for row in rows])) if rows else Masks.empty(size)
    corners = masks.boxes.astype(np.float64)
    areas = masks.areas.astype(np.float64)
    return Objects(
        images=np.array([row[0] for row in rows], np.int64),
        labels=np.array([row[1] for row in rows], np.int64),
        scores=np.asarray(scores, np.float64),
        crowd=np.zeros(len(rows), bool) if crowd is None else crowd,
        boxes=np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]),
        masks=tuple(masks.to_coco()),
        segm_areas=areas,
        bbox_areas=areas,
    )


def matched(p: Planter) -> None:
    """A prediction that fits, IoU ≥ 0.75."""
    label, shape = p.label(), p.shape()
    p.expect("matched", [p.true(label, shape)], [p.found(label, p.worn(shape))])


def loose(p: Planter) -> None:
    """A prediction of 15 to 45 % of the object, or an object of that share of its prediction."""
    label, shape = p.label(), p.shape()
    share = p.rng.uniform(0.15, 0.45)
    inner = p.parts(shape, [share, 1 - share])[0]
    true, found = (shape, inner) if p.rng.random() < 0.5 else (inner, shape)
    p.expect("loose", [p.true(label, true)], [p.found(label, found)])


def shifted(p: Planter) -> None:
    """A prediction that covers just over half of the object and lies to that share in it: IoU about 0.4."""
    label, shape = p.label(), p.shape()
    first, middle, last = p.parts(shape, [0.3, 0.4, 0.3])
    p.expect("loose", [p.true(label, first | middle)], [p.found(label, middle | last)])


def confused(p: Planter) -> None:
    """A prediction that fits, of another class."""
    label, shape = p.label(), p.shape()
    p.expect("confused", [p.true(label, shape)], [p.found(p.other(label), p.worn(shape))])


def duplicate(p: Planter) -> None:
    """One to three more predictions on an object, lower in score, whole or worn or parts of the first."""
    label, shape = p.label(), p.shape()
    first = p.worn(shape, 0.15)
    score = p.high()
    p.expect("matched", [p.true(label, shape)], [p.found(label, first, score)])
    for _ in range(int(p.rng.integers(1, 4))):
        again = p.worn(first, 0.8)
        p.expect("duplicate", [], [p.found(label, again, float(p.rng.uniform(THRESHOLD + 0.005, score)))])


def duplicate_of_other_class(p: Planter) -> None:
    """A second prediction on a matched object, of another class and of any score."""
    label, shape = p.label(), p.shape()
    p.expect("matched", [p.true(label, shape)], [p.found(label, p.worn(shape, 0.2))])
    p.expect("duplicate", [], [p.found(p.other(label), p.worn(shape, 0.2))])


def merged(p: Planter) -> None:
    """One prediction over two to four objects, of like sizes or not."""
    label, shape = p.label(), p.shape()
    shares = p.rng.uniform(0.2, 1, int(p.rng.integers(2, 5)))
    objects = [p.true(label, part) for part in p.parts(shape, shares.tolist())]
    p.expect("merged", objects, [p.found(label, p.worn(shape, 0.02))])


def split(p: Planter) -> None:
    """Two to four predictions that share one object, equally or not."""
    label, shape = p.label(), p.shape()
    count = int(p.rng.integers(2, 5))
    shares = [1.0] * count if p.rng.random() < 0.5 else p.rng.uniform(0.05, 1, count).tolist()
    p.expect("split", [p.true(label, shape)], [p.found(label, part) for part in p.parts(shape, shares)])


def tangled(p: Planter) -> None:
    """Two objects of which one prediction holds the first and most of the second, another the rest of the second."""
    label, shape = p.label(), p.shape()
    first, most, rest = p.parts(shape, [0.5, 0.3, 0.2])
    objects = [p.true(label, first), p.true(label, most | rest)]
    p.expect("tangled", objects, [p.found(label, first | most), p.found(label, rest)])


def spurious(p: Planter) -> None:
    """A prediction on background."""
    p.expect("spurious", [], [p.found(p.label(), p.shape())])


def spurious_inside(p: Planter) -> None:
    """A prediction of another class within a matched object, of less than half of it."""
    label, shape = p.label(), p.shape()
    p.expect("matched", [p.true(label, shape)], [p.found(label, p.worn(shape))])
    share = p.rng.uniform(0.1, 0.45)
    inner = p.parts(shape, [share, 1 - share])[0]
    p.expect("spurious", [], [p.found(p.other(label), inner)])


def speck(p: Planter) -> None:
    """A prediction of less than a tenth of the object: neither is about the other."""
    label, shape = p.label(), p.shape()
    p.expect("missed", [p.true(label, shape)], [])
    p.expect("spurious", [], [p.found(label, p.parts(shape, [0.06, 0.94])[0])])


def missed(p: Planter) -> None:
    """An object without prediction."""
    p.expect("missed", [p.true(p.label(), p.shape())], [])


def on_top(p: Planter) -> None:
    """A missed object that lies on a matched one of its class: it is not merged with it."""
    label, shape = p.label(), p.shape()
    share = p.rng.uniform(0.1, 0.4)
    p.expect("missed", [p.true(label, p.parts(shape, [share, 1 - share])[0])], [])
    p.expect("matched", [p.true(label, shape)], [p.found(label, p.worn(shape, 0.1))])


def ignored(p: Planter) -> None:
    """A crowd region with predictions in it; one of another class is spurious."""
    label, shape = p.label(), p.shape()
    p.expect("ignored", [p.true(label, shape, crowd=True)], [])
    for _ in range(int(p.rng.integers(0, 4))):
        p.expect("ignored", [], [p.found(label, p.worn(shape, 0.9))])
    if p.rng.random() < 0.3:
        p.expect("spurious", [], [p.found(p.other(label), p.worn(shape, 0.5))])


PLANTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        matched,
        loose,
        shifted,
        confused,
        duplicate,
        duplicate_of_other_class,
        merged,
        split,
        tangled,
        spurious,
        spurious_inside,
        speck,
        missed,
        on_top,
        ignored,
    )
}


def messy(rng: np.random.Generator, images: int, side: int = 14, most: int = 6) -> Scenes:
    """Pictures in which rectangles and noise overlap at random, with crowd regions, equal scores and empty masks."""
    size = (side, side)

    def rows() -> list[tuple[int, int, Frame]]:
        made = []
        for image in range(images):
            for _ in range(int(rng.integers(0, most + 1))):
                frame = np.zeros(size, bool)
                y, x = rng.integers(0, side - 1, 2)
                h, w = rng.integers(1, side // 2 + 2, 2)
                frame[y : y + h, x : x + w] = True
                if rng.random() < 0.2:
                    frame &= rng.random(size) < 0.6
                made.append((image, int(rng.random() < 0.3), frame))
                if rng.random() < 0.4:  # again, moved a little
                    moved = np.roll(frame, rng.integers(-1, 2, 2).tolist(), (0, 1))
                    made.append((image, int(rng.random() < 0.3), moved))
        return [made[i] for i in rng.permutation(len(made))]

    truth, predicted = rows(), rows()
    near = [(image, label, frame) for image, label, frame in truth if rng.random() < 0.6]
    predicted += [
        (image, label, np.roll(frame, rng.integers(-2, 3, 2).tolist(), (0, 1)))
        for image, label, frame in near
    ]
    scores = np.round(rng.random(len(predicted)), 1 if rng.random() < 0.5 else 6)
    return Scenes(
        tuple(range(1, images + 1)),
        (size,) * images,
        CLASSES[:2],
        columns(truth, np.ones(len(truth)), rng.random(len(truth)) < 0.1, size),
        columns(predicted, scores, None, size),
    )
