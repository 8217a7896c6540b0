"""A network that makes no faults, or known ones: it reads the objects' numbers from the picture's colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.predict.predictor import Model

# Number of an object, its pixels bool (h, w) in the whole input -> what the network says: pixels and a score.
Fault = Callable[[int, NDArray[np.bool_], np.random.Generator], tuple[NDArray[np.bool_], float]]


class Oracle:
    """Runtime for pictures whose colours are R + 256 G + 65536 B = number of the object, 0 for ground; at scale 1.

    side      of the input; slots: K, the best-scored objects where there are more.
    parts     every connected part is a candidate of its own.
    fault     what the network does to an object, by tile.
    fails_at  call that raises, counted from 1, as if the machine went down.
    calls     so far.
    """

    path: Path | None = None

    def __init__(
        self,
        side: int,
        slots: int = 64,
        *,
        parts: bool = False,
        fault: Fault | None = None,
        fails_at: int | None = None,
    ) -> None:
        self.card = ModelCard(
            name="oracle",
            family="none",
            builder="none",
            classes=ClassMap(("thing",)),
            input_size=(side, side),
            mask_frame="box",
            boxes_from="masks",
            threshold=0.2,
            licence="Apache-2.0",
            origin="tests",
            data="none",
        )
        self.slots, self.parts, self.fault, self.fails_at = slots, parts, fault, fails_at
        self.calls = 0

    def __call__(self, images: NDArray[np.uint8]) -> Candidates:
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("the machine went down")
        assert len(images) == 1
        colours = images[0].astype(np.int32)
        numbers = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        seen = [
            (mask, score_of(number))
            for number in np.unique(numbers[numbers > 0]).tolist()
            for mask in self._masks(numbers == number)
        ]
        if self.fault is not None:
            rng = np.random.default_rng(int(numbers.sum()) % 2**32)
            ids = np.unique(numbers[numbers > 0]).tolist()
            seen = [self.fault(n, mask, rng) for n in ids for mask in self._masks(numbers == n)]
        boxes = [cv2.boundingRect(mask.view(np.uint8)) for mask, _ in seen]
        seen = [(mask, score) for (mask, score), box in zip(seen, boxes, strict=True) if box[2]]
        boxes = [box for box in boxes if box[2]]
        best = sorted(range(len(seen)), key=lambda i: -seen[i][1])[: self.slots]
        # One grid for all, as large as the largest: a cell a pixel, so that nothing is rounded.
        side = max((max(boxes[i][2:]) for i in best), default=1)
        masks = np.full((1, self.slots, side, side), -1, np.float32)
        out = np.zeros((1, self.slots, 4), np.float32)
        scores = np.zeros((1, self.slots), np.float32)
        for slot, i in enumerate(best):
            x, y, w, h = boxes[i]
            masks[0, slot, :h, :w][seen[i][0][y : y + h, x : x + w]] = 1
            out[0, slot] = x, y, x + side, y + side
            scores[0, slot] = seen[i][1]
        return Candidates(scores, np.zeros((1, self.slots), np.int64), out, masks, "box")

    def _masks(self, mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        if not self.parts:
            return [mask]
        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
        return [labels == i for i in range(1, count)]


def score_of(number: int) -> float:
    """Each object has a score of its own, so that an order by score is an order of objects."""
    return 0.4 + 0.6 * ((number * 7919) % 100_003) / 100_003


def oracle(side: int, slots: int = 64, **how: object) -> Model:
    """A model of it."""
    return Model(Oracle(side, slots, **how))  # type: ignore[arg-type]
