from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apiece.core.frame import Frame
from apiece.errors import GeometryError

sides = st.integers(1, 5000)
sizes = st.tuples(sides, sides)


@given(sizes, sizes)
@example((1, 5000), (64, 64))
@example((3, 3), (1, 1))
def test_letterbox_fits_and_touches_one_side(size, input_size):
    frame = Frame.letterbox(size, input_size)
    height, width = frame.content
    assert frame.pad == (0, 0)
    assert 1 <= height <= input_size[0]
    assert 1 <= width <= input_size[1]
    assert height == input_size[0] or width == input_size[1]
    # the aspect is kept up to the rounding to whole pixels
    assert abs(height - max(1, size[0] * frame.scale)) <= 0.5 + 1e-9
    assert abs(width - max(1, size[1] * frame.scale)) <= 0.5 + 1e-9


@given(sizes, sizes, st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 4), max_size=5))
def test_points_and_boxes_come_back(size, input_size, rows):
    frame = Frame.letterbox(size, input_size)
    boxes = np.array(rows, float).reshape(-1, 4)
    points = boxes.reshape(-1, 2, 2)
    assert np.allclose(frame.to_original(frame.to_input(points)), points, rtol=0, atol=1e-7)
    assert np.allclose(frame.boxes_to_original(frame.boxes_to_input(boxes)), boxes, rtol=0, atol=1e-7)
    # a pixel's centre is half a pixel right of its left edge, in both coordinate systems
    edges = frame.boxes_to_input(np.concatenate([points + 0.5, points + 0.5], -1))[..., :2]
    assert np.allclose(frame.to_input(points) + 0.5, edges, rtol=0, atol=1e-7)


@given(sizes, sizes)
def test_the_whole_picture_becomes_exactly_the_content(size, input_size):
    frame = Frame.letterbox(size, input_size)
    box = frame.boxes_to_input([0, 0, size[1], size[0]])
    assert np.allclose(box, [0, 0, frame.content[1], frame.content[0]], rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(12, 90), st.integers(12, 90)),
    st.sampled_from([(16, 16), (64, 48), (37, 200), (128, 128)]),
    st.data(),
)
def test_a_dot_lands_where_to_input_says(size, input_size, data):
    """apply() and to_input() must agree: the brightness centre of a drawn dot, within half an input pixel."""
    frame = Frame.letterbox(size, input_size)
    x = data.draw(st.integers(3, size[1] - 4))
    y = data.draw(st.integers(3, size[0] - 4))
    image = np.zeros((*size, 1), np.uint8)
    image[y - 1 : y + 2, x - 1 : x + 2] = 255
    shown = frame.apply(image)[..., 0].astype(float)
    assert shown.shape == input_size
    assert shown.sum() > 0
    rows, columns = np.indices(shown.shape)
    centre = np.array([(columns * shown).sum(), (rows * shown).sum()]) / shown.sum()
    assert np.abs(centre - frame.to_input([x, y])).max() <= 0.5


@pytest.mark.parametrize("pad", [(0, 0), (5, 3)])
def test_padding_is_zero_and_the_content_moves_with_it(pad):
    frame = Frame((10, 20), (32, 32), 1.0, pad)
    image = np.full((10, 20, 3), 200, np.uint8)
    shown = frame.apply(image)
    assert shown.shape == (32, 32, 3)
    assert (shown[pad[1] : pad[1] + 10, pad[0] : pad[0] + 20] == 200).all()
    assert shown.sum(dtype=np.int64) == image.sum(dtype=np.int64)
    assert np.allclose(frame.to_input([0, 0]), pad)
    assert np.allclose(frame.to_original(pad), [0, 0])


def test_a_picture_of_the_inputs_size_is_unchanged(rng):
    image = rng.integers(0, 256, (31, 47, 3), dtype=np.uint8)
    frame = Frame.letterbox((31, 47), (31, 47))
    shown = frame.apply(image)
    assert np.array_equal(shown, image)
    assert not np.shares_memory(shown, image)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_single_pixel_sides_survive(size, channels):
    frame = Frame.letterbox(size, (64, 64))
    shown = frame.apply(np.full((*size, channels), 90, np.uint8))
    height, width = frame.content
    assert (shown[:height, :width] == 90).all()
    assert not shown[height:].any()
    assert not shown[:, width:].any()


def test_shrinking_averages_every_pixel(rng):
    """Area interpolation: a checkerboard becomes grey, where nearest or linear sampling would keep its stripes."""
    image = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    shown = Frame.letterbox((64, 64), (16, 16)).apply(image)
    assert np.ptp(shown) == 0
    assert abs(int(shown[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), float), np.zeros((5, 4), np.uint8)],
    ids=["transposed", "float", "two axes"],
)
def test_another_picture_is_refused(image):
    with pytest.raises(GeometryError, match=r"expected uint8 .*\(5, 4, C\)"):
        Frame.letterbox((5, 4), (8, 8)).apply(image)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Frame.letterbox((0, 4), (8, 8)), "at least 1 pixel"),
        (lambda: Frame((4, 4), (8, 0), 1.0), "network input size"),
        (lambda: Frame((4, 4), (8, 8), 3.0), "doesn't fit"),
        (lambda: Frame((4, 4), (8, 8), 2.0, (1, 0)), "doesn't fit"),
        (lambda: Frame((4, 4), (8, 8), float("nan")), "positive number"),
        (lambda: Frame.letterbox((4, 4), (8, 8)).to_input([1, 2, 3]), r"\(\.\.\., 2\)"),
    ],
)
def test_impossible_geometry_is_refused(make, words):
    with pytest.raises(GeometryError, match=words):
        make()
