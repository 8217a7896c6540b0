"""Notes: mistakes in the files that figures alone would hide are said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apiece.evaluate.caps import find_caps
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.counting import counting
from apiece.evaluate.notes import notes_of

WIDTH, HEIGHT = 400, 300


def notes(results: list[dict[str, Any]], threshold: float = 0.5) -> str:
    images = [{"id": i, "width": WIDTH, "height": HEIGHT} for i in (1, 2)]
    truth = {"images": images, "categories": [{"id": 1, "name": "cell"}], "annotations": []}
    scenes = scenes_of_coco(truth, results)
    return "\n".join(notes_of(scenes, counting(scenes, threshold), find_caps(scenes)))


def results(boxes: list[list[float]], scores: list[float] | None = None) -> list[dict[str, Any]]:
    given = np.linspace(0.05, 0.9, len(boxes)).tolist() if scores is None else scores
    return [
        {"image_id": 1 + i % 2, "category_id": 1, "bbox": box, "score": score}
        for i, (box, score) in enumerate(zip(boxes, given, strict=True))
    ]


def spread(count: int = 40) -> list[list[float]]:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1, (count, 2)) * [WIDTH - 60, HEIGHT - 60]
    return np.hstack([corner, rng.uniform(10, 60, (count, 2))]).tolist()


def test_boxes_as_they_should_be_are_not_mentioned() -> None:
    boxes = spread()
    boxes[0] = [WIDTH - 10, HEIGHT - 10, 30, 30]  # a little past the picture, as some models write them
    assert "Remedy" not in notes(results(boxes))


def test_boxes_written_as_corners() -> None:
    corners = [[x, y, x + w, y + h] for x, y, w, h in spread()]
    assert "not two corners" in notes(results(corners))


def test_boxes_written_as_shares_of_the_sides() -> None:
    shares = [[x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT] for x, y, w, h in spread()]
    assert "shares of the sides" in notes(results(shares))


@pytest.mark.parametrize(("scale", "said"), [(1, False), (100, True)])
def test_scores_that_are_percentages(scale: float, said: bool) -> None:
    scores = (scale * np.linspace(0.05, 0.9, 40)).tolist()
    assert ("divide percentages by 100" in notes(results(spread(), scores))) is said


def test_scores_that_are_all_the_same_leave_nothing_out() -> None:
    assert "lowest score" not in notes(results(spread(), [1.0] * 40))
    assert "The lowest score is 0.3" in notes(results(spread(), [0.3] + [0.9] * 39))


def test_a_cap_below_the_threshold_costs_no_count() -> None:
    boxes = spread(200)
    assert "missing in AP, not in counts" in notes(results(boxes), 0.5)
    assert "hides objects in full images" in notes(results(boxes), 0.01)
