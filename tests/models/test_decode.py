"""decode equals a brute-force bilinear oracle in float64, in both frames, at any scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.errors import ModelError
from apiece.models.contract import Candidates
from apiece.models.decode import decode

CLASSES = ClassMap(("a", "b"))


def oracle(logits: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """A grid that spans `box` (original pixels), sampled at every pixel centre of the picture; off outside the box."""
    rows, columns = logits.shape
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    u = np.clip((x - box[0]) / (box[2] - box[0]) * columns - 0.5, 0, columns - 1)
    v = np.clip((y - box[1]) / (box[3] - box[1]) * rows - 0.5, 0, rows - 1)
    i, j = np.floor(v).astype(int), np.floor(u).astype(int)
    i1, j1 = np.minimum(i + 1, rows - 1), np.minimum(j + 1, columns - 1)
    f, g = v - i, u - j
    grid = logits.astype(np.float64)
    value = (grid[i, j] * (1 - g) + grid[i, j1] * g) * (1 - f) + (
        grid[i1, j] * (1 - g) + grid[i1, j1] * g
    ) * f
    inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return np.where(inside, value, -1.0)


def candidates(
    logits: np.ndarray, boxes: np.ndarray, frame: str, scores: list[float] | None = None
) -> Candidates:
    k = len(logits)
    return Candidates(
        np.array([scores or [0.9] * k], dtype=np.float32),
        np.zeros((1, k), dtype=np.int64),
        np.asarray(boxes, dtype=np.float32)[None],
        logits[None].astype(np.float32),
        frame,  # type: ignore[arg-type]
    )


def agree(found: np.ndarray, value: np.ndarray) -> bool:
    """The same pixels, but for those whose oracle value is 0 within float32."""
    return bool(((found == (value > 0)) | (np.abs(value) < 1e-4)).all())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 90), width=st.integers(1, 120))
def test_box_frame(seed: int, height: int, width: int):
    rng = np.random.default_rng(seed)
    frame = Frame.letterbox((height, width), (64, 64))
    corner = rng.uniform(-20, 60, 2)
    box = np.concatenate([corner, corner + rng.uniform(2, 60, 2)]).astype(np.float32)
    logits = rng.normal(0.3, 2, (1, int(rng.integers(1, 12)), int(rng.integers(1, 12))))
    decoded = decode(candidates(logits, box[None], "box"), 0, frame, CLASSES, threshold=0.5)
    value = oracle(logits[0].astype(np.float32), tuple(frame.boxes_to_original(box)), (height, width))
    found = decoded.instances.masks.to_dense()
    mask = found[0] if len(found) else np.zeros((height, width), bool)
    assert agree(mask, value)
    assert len(decoded.instances) + decoded.empty == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 90), width=st.integers(1, 120))
def test_image_frame(seed: int, height: int, width: int):
    rng = np.random.default_rng(seed)
    frame = Frame.letterbox((height, width), (64, 96))
    logits = np.full((1, 16, 24), -3.0)
    i, j = rng.integers(0, 14), rng.integers(0, 22)
    logits[0, i : i + 5, j : j + 6] = rng.normal(1, 2, logits[0, i : i + 5, j : j + 6].shape)
    decoded = decode(candidates(logits, np.zeros((1, 4)), "image"), 0, frame, CLASSES, threshold=0.5)
    box = frame.boxes_to_original(np.array([0.0, 0.0, 96.0, 64.0]))
    value = oracle(logits[0].astype(np.float32), tuple(box), (height, width))
    found = decoded.instances.masks.to_dense()
    assert agree(found[0] if len(found) else np.zeros((height, width), bool), value)


def test_no_candidate_is_ordinary_and_slots_with_score_0_never_count():
    frame = Frame.letterbox((50, 70), (64, 64))
    empty = candidates(np.ones((3, 4, 4)), np.tile([0.0, 0, 9, 9], (3, 1)), "box", [0.0, 0.0, 0.0])
    decoded = decode(empty, 0, frame, CLASSES, threshold=0.0)
    assert (len(decoded.instances), decoded.empty, decoded.instances.truncated) == (0, 0, False)
    assert decoded.instances.size == (50, 70)


def test_a_candidate_without_a_pixel_is_counted_not_dropped_silently():
    frame = Frame.letterbox((64, 64), (64, 64))
    logits = np.stack([np.full((4, 4), -1.0), np.full((4, 4), 1.0)])
    decoded = decode(
        candidates(logits, np.tile([0.0, 0, 9, 9], (2, 1)), "box"), 0, frame, CLASSES, threshold=0.5
    )
    assert (len(decoded.instances), decoded.empty) == (1, 1)


def test_a_full_list_is_truncated():
    frame = Frame.letterbox((64, 64), (64, 64))
    logits, boxes = np.ones((2, 4, 4)), np.tile([0.0, 0, 9, 9], (2, 1))
    for scores, truncated in (([0.9, 0.6], True), ([0.9, 0.4], False)):
        decoded = decode(candidates(logits, boxes, "box", scores), 0, frame, CLASSES, threshold=0.5)
        assert decoded.instances.truncated is truncated


def test_boxes_of_the_network_are_clipped_to_the_picture():
    frame = Frame.letterbox((64, 64), (128, 128))
    found = decode(
        candidates(np.ones((1, 4, 4)), np.array([[-10.0, 4, 150, 60]]), "box"),
        0,
        frame,
        CLASSES,
        threshold=0.5,
        boxes_from="network",
    ).instances
    np.testing.assert_allclose(found.boxes, [[0, 2, 64, 30]])


def test_a_label_without_a_class_is_refused():
    found = candidates(np.ones((1, 4, 4)), np.array([[0.0, 0, 9, 9]]), "box")
    found.labels[0, 0] = 2
    with pytest.raises(ModelError, match="label 2"):
        decode(found, 0, Frame.letterbox((9, 9), (9, 9)), CLASSES, threshold=0.5)


@pytest.mark.parametrize("field", ["labels", "boxes", "masks"])
def test_candidates_of_other_shapes_are_refused(field: str):
    parts = {
        "scores": np.zeros((1, 3), np.float32),
        "labels": np.zeros((1, 3), np.int64),
        "boxes": np.zeros((1, 3, 4), np.float32),
        "masks": np.zeros((1, 3, 5, 5), np.float32),
    }
    parts[field] = parts[field][:, :2]
    with pytest.raises(ModelError, match=field):
        Candidates(**parts, mask_frame="box")
