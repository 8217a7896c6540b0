"""The gate of the export: what it lets through and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from apiece.core.classes import ClassMap
from apiece.deploy.parity import FLOAT32, compare
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates

SIDE = 64
CARD = ModelCard(
    name="fake",
    family="solov2",
    builder="none",
    classes=ClassMap(("thing",)),
    input_size=(SIDE, SIDE),
    mask_frame="box",
    boxes_from="masks",
    threshold=0.5,
    licence="Apache-2.0",
    origin="test",
    data="none",
)


class Fake:
    """Three square objects, with a fault on request."""

    def __init__(self, **fault: float) -> None:
        self.card = CARD
        self.fault = fault

    def __call__(self, images: np.ndarray) -> Candidates:
        scores = np.array([[0.9, 0.8, 0.7, 0.0]], dtype=np.float32)
        boxes = np.array([[[2, 2, 22, 22], [30, 2, 50, 22], [2, 30, 22, 50], [0, 0, 0, 0]]], dtype=np.float32)
        masks = np.full((1, 4, 10, 10), 4, dtype=np.float32)
        scores[0, 1] += self.fault.get("score", 0)
        boxes[0, 1] += self.fault.get("shift", 0)
        if "hole" in self.fault:
            masks[0, 2, 3:7, 3:7] = -4
        if "lost" in self.fault:
            scores[0, 2] = 0
        if not images.any():
            scores[:] = 0
            if "ghost" in self.fault:
                scores[0, 0] = 0.9
        return Candidates(scores, np.zeros((1, 4), dtype=np.int64), boxes, masks, "box")


IMAGES = np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 9, np.uint8)])


def test_equal_runtimes_pass_and_all_their_objects_are_counted():
    parity = compare(Fake(), Fake(), IMAGES, FLOAT32)
    assert parity.passed
    assert parity.objects == 6, "three objects, seen from either side"
    assert (parity.worst_score, parity.worst_box, parity.worst_iou) == (0, 0, 1)


@pytest.mark.parametrize(
    "fault",
    [{"score": 0.05}, {"shift": 3.0}, {"hole": 1}, {"lost": 1}, {"ghost": 1}],
    ids=lambda f: next(iter(f)),
)
@pytest.mark.parametrize("side", [0, 1])
def test_every_kind_of_difference_is_refused_on_either_side(fault: dict[str, float], side: int):
    pair = [Fake(), Fake(**fault)]
    parity = compare(pair[side], pair[1 - side], IMAGES, FLOAT32)
    assert not parity.passed, parity.to_text()


def test_a_difference_within_the_tolerance_passes():
    assert compare(Fake(), Fake(score=0.001, shift=0.01), IMAGES, FLOAT32).passed
