"""decode against a brute-force float64 oracle that looks at every pixel of the picture by itself."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.errors import ModelError
from apiece.models import decode as module
from apiece.models.contract import Candidates
from apiece.models.decode import decode

CLASSES = ClassMap(("cell", "debris"))


def candidates(masks, boxes=None, scores=None, labels=None, frame="box") -> Candidates:
    """One picture's candidates; scores descend from 0.9 unless given."""
    masks = np.asarray(masks, dtype=np.float32)
    k = len(masks)
    scores = np.linspace(0.9, 0.6, k) if scores is None else scores
    boxes = np.zeros((k, 4)) if boxes is None else boxes
    labels = np.zeros(k) if labels is None else labels
    return Candidates(
        np.asarray(scores, dtype=np.float32).reshape(1, k),
        np.asarray(labels, dtype=np.int64).reshape(1, k),
        np.asarray(boxes, dtype=np.float32).reshape(1, k, 4),
        masks[None],
        frame,
    )


def whole(size: tuple[int, int]) -> Frame:
    """The picture is the network's input."""
    return Frame.letterbox(size, size)


def bilinear(grid, x, y) -> float:
    """Value of a grid at a continuous grid coordinate, cell (i, j)'s centre being (j + 0.5, i + 0.5)."""
    height, width = grid.shape
    x, y = min(max(x - 0.5, 0.0), width - 1.0), min(max(y - 0.5, 0.0), height - 1.0)
    j, i = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
    fx, fy = x - j, y - i
    right, below = min(j + 1, width - 1), min(i + 1, height - 1)
    return float(
        (1 - fy) * ((1 - fx) * grid[i, j] + fx * grid[i, right])
        + fy * ((1 - fx) * grid[below, j] + fx * grid[below, right])
    )


def oracle(grid, box, frame: Frame, mask_frame: str) -> np.ndarray:
    """Values (H, W) float64 at the pixels' centres; -inf where the centre is outside the grid's extent."""
    grid = np.asarray(grid, dtype=np.float64)
    x1, y1, x2, y2 = (float(v) for v in box) if mask_frame == "box" else (0, 0, *frame.input_size[::-1])
    height, width = frame.size
    out = np.full((height, width), -np.inf)
    for row in range(height):
        for column in range(width):
            x = (column + 0.5) * frame.content[1] / width
            y = (row + 0.5) * frame.content[0] / height
            if x1 <= x < x2 and y1 <= y < y2:
                out[row, column] = bilinear(
                    grid, (x - x1) / (x2 - x1) * grid.shape[1], (y - y1) / (y2 - y1) * grid.shape[0]
                )
    return out


@st.composite
def scenes(draw):
    """A frame of any proportions, and up to four candidates on it, some of them partly outside."""
    side = st.integers(1, 24)
    frame = Frame.letterbox((draw(side), draw(side)), (draw(st.integers(8, 40)), draw(st.integers(8, 40))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, rows, columns = draw(st.integers(0, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    grids = rng.normal(size=(count, rows, columns)).astype(np.float32)
    corner = rng.uniform(-0.3, 1.0, (count, 2)) * np.array(frame.input_size[::-1])
    sides = rng.uniform(0.01, 1.2, (count, 2)) * np.array(frame.input_size[::-1])
    boxes = np.hstack([corner, corner + sides]).astype(np.float32)
    if draw(st.booleans()):
        boxes = boxes.round()
    return frame, grids, boxes


@given(scenes(), st.sampled_from(["box", "image"]))
@settings(max_examples=120, deadline=None)
def test_masks_are_those_of_the_oracle(scene, mask_frame: str):
    frame, grids, boxes = scene
    found = decode(candidates(grids, boxes, frame=mask_frame), 0, frame, CLASSES, threshold=0.5)
    values = [oracle(g, b, frame, mask_frame) for g, b in zip(grids, boxes, strict=True)]
    # Float32 may turn a pixel whose exact value is nought but for rounding; nothing else.
    sure = [np.abs(v) > 1e-5 for v in values]
    expected = [v > 0 for v in values]
    kept = [i for i, (e, s) in enumerate(zip(expected, sure, strict=True)) if (e & s).any()]
    if all(s.all() for s in sure):
        assert len(found.instances) == len(kept)
    assert len(found.instances) + found.empty == len(grids)
    dense = found.instances.masks.to_dense()
    by_score = {round(float(s), 4): d for s, d in zip(found.instances.scores, dense, strict=True)}
    scores = np.linspace(0.9, 0.6, len(grids))
    for i, score in enumerate(scores):
        got = by_score.get(round(float(score), 4), np.zeros(frame.size, bool))
        np.testing.assert_array_equal(got[sure[i]], expected[i][sure[i]])


@pytest.mark.parametrize("mask_frame", ["box", "image"])
def test_hardly_a_pixel_differs_from_the_oracle_at_real_sizes(mask_frame: str, rng):
    """28 × 28 to about 150 × 150: at most one pixel in 10,000."""
    size = (180, 200)
    y, x = np.indices((28, 28)) - 13.5
    grids = [8 * (9.5 + np.sin(k * np.arctan2(y, x)) - np.hypot(x, y)) for k in (2, 3, 5)]
    corner = rng.uniform(0, 30, (3, 2))
    boxes = np.hstack([corner, corner + rng.uniform(130, 150, (3, 2))])
    found = decode(candidates(grids, boxes, frame=mask_frame), 0, whole(size), CLASSES, threshold=0.5)
    grids = np.asarray(grids, dtype=np.float32)
    boxes = boxes.astype(np.float32)
    for mask, grid, box in zip(found.instances.masks.to_dense(), grids, boxes, strict=True):
        expected = oracle(grid, box, whole(size), mask_frame) > 0
        assert expected.sum() > 5000
        assert (mask != expected).mean() <= 1e-4


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(16, 64), st.integers(16, 64)),
    st.floats(0.07, 0.93),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_a_straight_edge_lies_where_it_is_to_the_sub_pixel(size, input_size, share: float, vertical: bool):
    """A ramp is interpolated without error, so its zero is known; x and y scale differently after rounding."""
    frame = Frame.letterbox(size, input_size)
    axis = 1 if vertical else 0
    edge = share * frame.content[axis]
    rows, columns = input_size[0] // 4, input_size[1] // 4
    centre = (np.arange((rows, columns)[axis]) + 0.5) * input_size[axis] / (rows, columns)[axis]
    assume(np.abs(centre[[0, -1]] - edge).min() > 1e-4)  # else a logit is 0 by rounding or not
    ramp = np.broadcast_to((centre - edge) if vertical else (centre - edge)[:, None], (rows, columns))
    at = (np.arange(size[axis]) + 0.5) * frame.content[axis] / size[axis]
    # Before the first cell centre and after the last one the border's value continues, and no edge is there.
    beyond = (centre[0] < edge < centre[-1]) & (at - edge > 1e-4)
    unsure = np.abs(at - edge) <= 1e-4
    found = decode(candidates([ramp], frame="image"), 0, frame, CLASSES, threshold=0.5)
    dense = np.zeros((1, *size), bool) if found.empty else found.instances.masks.to_dense()
    line = dense[0].any(axis=1 - axis)
    assert (line == dense[0].all(axis=1 - axis)).all()
    if centre[0] < edge < centre[-1]:
        np.testing.assert_array_equal(line[~unsure], beyond[~unsure])
    else:
        assert line.all() if edge <= centre[0] else not line.any()


@given(st.integers(0, 2**32 - 1), st.integers(-40, 40), st.integers(-40, 40))
@settings(max_examples=40, deadline=None)
def test_a_box_moved_by_whole_pixels_moves_its_mask_and_is_cut_at_the_border(seed: int, dx: int, dy: int):
    rng = np.random.default_rng(seed)
    grid = rng.normal(size=(7, 5)) + 0.5
    # Eighths are exact in float32, so that the move is; nothing is cut before it.
    left, top, width, height = (rng.integers([40, 40, 1, 1], [200, 200, 200, 200]) / 8).tolist()
    box = np.array([left, top, left + width, top + height])
    base = decode(candidates([grid], [box]), 0, whole((50, 60)), CLASSES, threshold=0.5)
    moved = decode(
        candidates([grid], [box + np.array([dx, dy, dx, dy])]), 0, whole((50, 60)), CLASSES, threshold=0.5
    )
    expected = base.instances.masks.shift(dx, dy)
    assert moved.instances.masks == expected[expected.areas > 0]
    assert moved.empty + len(moved.instances) == 1


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["box", "image"]))
@settings(max_examples=40, deadline=None)
def test_a_mirrored_scene_gives_mirrored_masks(seed: int, horizontal: bool, mask_frame: str):
    """No half pixel is lost to one side."""
    rng = np.random.default_rng(seed)
    size = (37, 53)
    grids = rng.normal(size=(3, 6, 8)) + 0.3
    corner = rng.uniform(-5, 30, (3, 2))
    boxes = np.hstack([corner, corner + rng.uniform(3, 40, (3, 2))])
    there = decode(candidates(grids, boxes, frame=mask_frame), 0, whole(size), CLASSES, threshold=0.5)
    axis, extent = (2, size[1]) if horizontal else (1, size[0])
    low, high = (0, 2) if horizontal else (1, 3)
    turned = boxes.copy()
    turned[:, low], turned[:, high] = extent - boxes[:, high], extent - boxes[:, low]
    back = decode(
        candidates(np.flip(grids, axis), turned, frame=mask_frame), 0, whole(size), CLASSES, threshold=0.5
    )
    assert there.empty == back.empty
    expected = there.instances.masks.flip(horizontal).to_dense()
    assert (back.instances.masks.to_dense() != expected).mean() <= 1e-4


def test_both_frames_agree_where_the_box_is_cut_along_cells(rng):
    """The part of an image-frame grid that holds the object, given as a box-frame grid, is the same mask."""
    size = (96, 128)
    grid = np.full((24, 32), -3.0)
    grid[5:12, 9:20] = rng.normal(size=(7, 11)) + 1
    part, box = grid[4:13, 8:21], [8 * 4, 4 * 4, 21 * 4, 13 * 4]
    a = decode(candidates([grid], frame="image"), 0, whole(size), CLASSES, threshold=0.5)
    b = decode(candidates([part], [box], frame="box"), 0, whole(size), CLASSES, threshold=0.5)
    assert a.instances.masks == b.instances.masks
    assert a.instances.masks.areas[0] > 500


def test_long_masks_in_bands_are_those_in_one_piece(monkeypatch, rng):
    grids = rng.normal(size=(3, 9, 6)) + 0.2
    boxes = [[0, 0, 60, 41], [-20, 5.25, 30.5, 70], [10, 10, 12.5, 90]]
    one = decode(candidates(grids, boxes), 0, whole((80, 64)), CLASSES, threshold=0.5)
    monkeypatch.setattr(module, "BAND", 7)
    assert (
        decode(candidates(grids, boxes), 0, whole((80, 64)), CLASSES, threshold=0.5).instances
        == one.instances
    )


@pytest.mark.parametrize("mask_frame", ["box", "image"])
def test_no_candidate_is_an_ordinary_result(mask_frame: str):
    for given_ in (
        candidates(np.zeros((0, 4, 4)), frame=mask_frame),
        candidates(np.ones((3, 4, 4)), scores=[0.4, 0.3, 0.0], frame=mask_frame),
    ):
        found = decode(given_, 0, whole((20, 30)), CLASSES, threshold=0.5)
        assert len(found.instances) == 0
        assert found.empty == 0
        assert found.instances.size == (20, 30)
    assert found.instances.truncated is False


def test_an_empty_slot_is_no_object_however_low_the_threshold():
    given_ = candidates(np.ones((2, 4, 4)), [[0, 0, 8, 8]] * 2, scores=[0.3, 0.0])
    assert len(decode(given_, 0, whole((20, 30)), CLASSES, threshold=0.0).instances) == 1


@pytest.mark.parametrize(
    ("grid", "box"),
    [
        (-np.ones((4, 4)), [2, 2, 9, 9]),
        (np.zeros((4, 4)), [2, 2, 9, 9]),
        (np.ones((4, 4)), [-9, 2, -1, 9]),
        (np.ones((4, 4)), [2, 20, 9, 30]),
        (np.ones((4, 4)), [5, 5, 5, 9]),
        (np.ones((4, 4)), [9, 9, 5, 5]),
        (np.ones((4, 4)), [5.6, 2, 6.4, 9]),
        (np.ones((4, 4)), [-3e38, -3e38, -1e38, -1e38]),
    ],
    ids=["off", "zero", "left", "below", "thin", "turned", "between centres", "far"],
)
def test_a_mask_without_a_pixel_is_counted_not_dropped(grid, box):
    whole_one = np.ones((4, 4))
    given_ = candidates([whole_one, grid, whole_one], [[0, 0, 3, 3], box, [4, 4, 8, 8]], labels=[0, 1, 1])
    found = decode(given_, 0, whole((12, 12)), CLASSES, threshold=0.5)
    assert found.empty == 1
    assert found.instances.masks.areas.tolist() == [9, 16]
    assert found.instances.class_ids.tolist() == [0, 1]
    assert found.instances.scores == pytest.approx([0.9, 0.6])
    assert found.instances.truncated


def test_truncated_says_that_every_slot_is_over_the_threshold():
    given_ = candidates(np.ones((3, 4, 4)), [[0, 0, 8, 8]] * 3, scores=[0.9, 0.8, 0.5])
    for threshold, expected in ((0.5, True), (0.51, False), (0.95, False)):
        assert (
            decode(given_, 0, whole((20, 30)), CLASSES, threshold=threshold).instances.truncated is expected
        )


def test_scores_out_of_order_keep_their_own_masks():
    boxes = [[0, 0, 3, 3], [0, 0, 4, 4], [0, 0, 5, 5], [0, 0, 6, 6]]
    given_ = candidates(np.ones((4, 2, 2)), boxes, scores=[0.6, 0.1, 0.9, 0.2], labels=[0, 0, 1, 0])
    found = decode(given_, 0, whole((12, 12)), CLASSES, threshold=0.5).instances
    assert found.masks.areas.tolist() == [9, 25]
    assert found.scores == pytest.approx([0.6, 0.9])
    assert found.class_ids.tolist() == [0, 1]


def test_each_picture_of_a_batch_is_its_own():
    a = candidates(np.ones((2, 2, 2)), [[0, 0, 3, 3], [0, 0, 4, 4]])
    b = candidates(np.ones((2, 2, 2)), [[0, 0, 5, 5], [0, 0, 6, 6]])
    both = Candidates(
        *(np.concatenate([getattr(a, n), getattr(b, n)]) for n in ("scores", "labels", "boxes", "masks")),
        "box",
    )
    for index, single in enumerate((a, b)):
        alone = decode(single, 0, whole((12, 12)), CLASSES, threshold=0.5)
        assert decode(both, index, whole((12, 12)), CLASSES, threshold=0.5).instances == alone.instances


@pytest.mark.parametrize("mask_frame", ["box", "image"])
@pytest.mark.parametrize("input_size", [(512, 512), (8, 64), (1, 1)])
def test_a_picture_of_one_pixel_is_one_pixel(mask_frame: str, input_size):
    frame = Frame.letterbox((1, 1), input_size)
    given_ = candidates(np.ones((1, 4, 4)), [[0, 0, *input_size[::-1]]], frame=mask_frame)
    found = decode(given_, 0, frame, CLASSES, threshold=0.5).instances
    assert found.masks.to_dense().tolist() == [[[True]]]
    assert found.boxes.tolist() == [[0, 0, 1, 1]]


def test_a_grid_of_four_cells_on_six_megapixels():
    """Corner cells -1, 1, 1, -1: on between the centres is where (u - v)² … i.e. where the saddle is positive."""
    size = (2000, 3000)
    given_ = candidates([[[-1, 1], [1, -1]]], frame="image")
    found = decode(given_, 0, whole(size), CLASSES, threshold=0.5).instances
    u = np.clip((np.arange(3000) + 0.5) / 3000 * 2 - 0.5, 0, 1)
    v = np.clip((np.arange(2000) + 0.5) / 2000 * 2 - 0.5, 0, 1)[:, None]
    saddle = (2 * u - 1) * (1 - 2 * v)
    sure = np.abs(saddle) > 1e-6
    dense = found.masks.to_dense()[0]
    np.testing.assert_array_equal(dense[sure], saddle[sure] > 0)


def test_boxes_of_the_network_are_put_back_and_clipped():
    frame = Frame.letterbox((100, 50), (64, 64))
    given_ = candidates(np.ones((2, 4, 4)), [[2, 4, 10, 20], [-5, 60, 40, 70]])
    found = decode(given_, 0, frame, CLASSES, threshold=0.5, boxes_from="network").instances
    scale = np.array([frame.content[1] / 50, frame.content[0] / 100] * 2)
    assert found.boxes[0] == pytest.approx(np.array([2, 4, 10, 20]) / scale, rel=1e-6)
    assert found.boxes[1] == pytest.approx([0, 60 / scale[1], 50, 100], rel=1e-6)
    tight = decode(given_, 0, frame, CLASSES, threshold=0.5).instances
    assert tight.boxes.tolist() == tight.masks.boxes.tolist()


def test_what_a_damaged_network_gives_is_refused():
    def refuse(match: str, boxes_from: str = "masks", **changes):
        values = {"masks": np.ones((2, 4, 4)), "boxes": [[0, 0, 8, 8]] * 2, **changes}
        with pytest.raises(ModelError, match=match):
            decode(candidates(**values), 0, whole((12, 12)), CLASSES, threshold=0.5, boxes_from=boxes_from)

    refuse("label 2, its card names 2 classes", labels=[0, 2])
    refuse("label -1", labels=[-1, 0])
    for value in (np.nan, np.inf, -np.inf):
        masks = np.ones((2, 4, 4))
        masks[1, 2, 2] = value
        refuse("candidate 1 .*NaN or infinite", masks=masks)
        if value != -np.inf:  # in the image frame far cells below 0 are not looked at
            masks[1] = -1
            masks[1, 2, 2] = value
            refuse("candidate 1 .*NaN or infinite", masks=masks, frame="image")
    refuse("expected x1 <= x2", boxes=[[0, 0, 8, 8], [9, 1, 3, 5]], frame="image", boxes_from="network")
    # What is below the threshold may be anything.
    masks = np.ones((2, 4, 4))
    masks[1] = np.nan
    given_ = candidates(masks, [[0, 0, 8, 8]] * 2, scores=[0.9, 0.1], labels=[0, 7])
    assert len(decode(given_, 0, whole((12, 12)), CLASSES, threshold=0.5).instances) == 1


@pytest.mark.parametrize("mask_frame", ["box", "image"])
def test_memory_is_that_of_the_objects_not_of_the_picture(mask_frame: str):
    """200 objects of about 60 × 60 pixels on 100 megapixels: full frames would take 20 GB."""
    size, count = (10_000, 10_000), 200
    frame = Frame.letterbox(size, (640, 640))
    corner = np.stack(np.divmod(np.arange(count), 20), axis=1) * 30 + 8
    boxes = np.hstack([corner, corner + 4])
    grids = np.ones((count, 8, 8))
    if mask_frame == "image":
        grids = np.full((count, 160, 160), -1.0)
        for grid, (x, y) in zip(grids, corner // 4, strict=True):
            grid[y, x] = 1
    given_ = candidates(grids, boxes, frame=mask_frame)
    tracemalloc.start()
    found = decode(given_, 0, frame, CLASSES, threshold=0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.instances) == count
    assert peak < 20e6


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
