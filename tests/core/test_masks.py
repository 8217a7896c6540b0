from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiece.core.masks import Masks
from apiece.errors import GeometryError
from strategies import dense, masks, sizes


def discs(count: int, radius: int, size: tuple[int, int], seed: int = 0) -> Masks:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    rng = np.random.default_rng(seed)
    corners = np.column_stack([rng.integers(0, size[1], count), rng.integers(0, size[0], count)]) - radius
    return Masks.from_crops([disc] * count, corners, size)


def is_canonical(made: Masks) -> bool:
    """The public constructor checks everything, so it must accept what any operation made."""
    return Masks(made.size, made.offsets, made.shapes, made.pixels) == made and all(
        not array.flags.writeable for array in (made.offsets, made.shapes, made.starts, made.pixels)
    )


# ---- dense frames and measures


@given(dense())
def test_dense_frames_come_back_and_measures_are_those_of_the_frames(frames):
    made = Masks.from_dense(frames)
    assert is_canonical(made)
    assert made.size == frames.shape[1:]
    assert len(made) == len(frames)
    assert np.array_equal(made.to_dense(), frames)
    assert made.to_dense().dtype == np.bool_
    assert made.areas.dtype == np.int64
    assert np.array_equal(made.areas, frames.sum(axis=(1, 2)))
    assert made.boxes.dtype == np.float32
    assert made.boxes.shape == (len(frames), 4)
    assert made.centroids.shape == (len(frames), 2)
    for frame, box, centre in zip(frames, made.boxes, made.centroids, strict=True):
        y, x = np.nonzero(frame)
        if y.size == 0:
            assert box.tolist() == [0, 0, 0, 0]
            assert np.isnan(centre).all()
        else:
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert centre == pytest.approx([x.mean(), y.mean()])


@given(dense())
def test_a_mask_costs_its_own_box_and_not_the_picture(frames):
    made = Masks.from_dense(frames)
    boxes = made.boxes.astype(int)
    assert made.pixels.size == ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert made.nbytes == made.pixels.size + 16 * len(made) + 8 * (len(made) + 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_whole_numbers_are_object_wherever_they_are_not_zero(dtype):
    frames = np.array([[[0, 1], [200, 0]]], dtype)
    assert np.array_equal(Masks.from_dense(frames).to_dense(), frames != 0)
    assert Masks.from_crops([frames[0]], [[0, 0]], (2, 2)) == Masks.from_dense(frames)


def test_probabilities_are_refused():
    with pytest.raises(GeometryError, match="threshold"):
        Masks.from_dense(np.full((1, 2, 2), 0.7))
    with pytest.raises(GeometryError, match=r"crop 1 has dtype float"):
        Masks.from_crops([np.ones((1, 1), bool), np.ones((1, 1))], np.zeros((2, 2), int), (2, 2))


# ---- construction


@given(dense(), st.data())
def test_loose_crops_are_cut_at_the_border_and_tightened(frames, data):
    count, height, width = frames.shape
    x0 = data.draw(st.integers(-width, width))
    y0 = data.draw(st.integers(-height, height))
    made = Masks.from_crops(list(frames), np.tile([x0, y0], (count, 1)), (height, width))
    padded = np.zeros((count, 3 * height, 3 * width), bool)
    padded[:, height + y0 : 2 * height + y0, width + x0 : 2 * width + x0] = frames
    assert is_canonical(made)
    assert made == Masks.from_dense(padded[:, height : 2 * height, width : 2 * width])


def test_crops_far_outside_become_empty_without_an_overflow():
    one = np.ones((2, 2), bool)
    made = Masks.from_crops([one, one], [[2**40, 0], [-(2**40), 5]], (9, 9))
    assert made.areas.tolist() == [0, 0]
    assert is_canonical(made)


@pytest.mark.parametrize(
    ("offsets", "shapes", "pixels", "message"),
    [
        ([[0, 0]], [[1, 2]], [True], "pixels for shapes that need 2"),
        ([[0, 0]], [[1, 2]], [True, False], "tight"),
        ([[0, 0]], [[2, 1]], [False, True], "tight"),
        ([[9, 0]], [[1, 2]], [True, True], "leaves"),
        ([[0, 8]], [[2, 1]], [True, True], "leaves"),
        ([[-1, 0]], [[1, 2]], [True, True], "expected 0 to"),
        ([[2**32, 0]], [[1, 1]], [True], "expected 0 to"),
        ([[1, 0]], [[0, 0]], [], "empty mask"),
        ([[0, 0]], [[0, 3]], [], "empty mask"),
        ([[0, 0], [1, 1]], [[1, 1]], [True], "2 offsets for 1 shapes"),
        ([[0.5, 0]], [[1, 1]], [True], "whole numbers"),
        ([[0, 0, 0]], [[1, 1]], [True], r"expected \(N, 2\)"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(offsets, shapes, pixels, message):
    with pytest.raises(GeometryError, match=message):
        Masks((9, 10), offsets, shapes, np.array(pixels, bool))


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (2.5, 4), (4,), (1, 2, 3), (2**31, 1), (2**30, 2**30)])
def test_impossible_picture_sizes_are_refused(size):
    with pytest.raises(GeometryError, match="picture size"):
        Masks.empty(size)


def test_wrong_ranks_are_refused():
    with pytest.raises(GeometryError, match=r"\(N, height, width\)"):
        Masks.from_dense(np.zeros((3, 4), bool))
    with pytest.raises(GeometryError, match="crop 0 has shape"):
        Masks.from_crops([np.ones(3, bool)], [[0, 0]], (4, 4))
    with pytest.raises(GeometryError, match="offsets"):
        Masks.from_crops([np.ones((3, 3), bool)], [[0, 0], [1, 1]], (4, 4))


def test_nothing_is_ordinary_everywhere():
    none = Masks.empty((7, 9))
    assert len(none) == 0
    assert none == Masks.from_crops([], [], (7, 9)) == Masks.from_dense(np.zeros((0, 7, 9), bool))
    assert none == Masks((7, 9), [], [], [])
    assert none.areas.shape == (0,)
    assert none.boxes.shape == (0, 4)
    assert none.centroids.shape == (0, 2)
    assert none.to_dense().shape == (0, 7, 9)
    assert none.union().areas.tolist() == [0]
    assert none.to_coco() == none.to_coco(compressed=False) == none.to_polygons() == []
    assert none.iou(none).shape == (0, 0)
    assert none.overlapping_pixels() == 0
    assert (
        none.flip(True)
        == none.shift(3, 3)
        == none[[]]
        == none[::-1]
        == Masks.concatenate([none, none])
        == none
    )
    assert none.rotate90(1).size == (9, 7)
    assert none.resize((3, 3)) == none.crop_to(1, 1, 4, 4) == Masks.empty((3, 3))
    assert list(none) == []


# ---- a value


@given(masks(count=4), st.data())
def test_selection_is_that_of_the_dense_frames(made, data):
    frames = made.to_dense()
    index = data.draw(
        st.one_of(
            st.lists(st.integers(-4, 3), max_size=6).map(lambda v: np.array(v, int)),
            st.lists(st.booleans(), min_size=4, max_size=4).map(np.array),
            st.slices(4),
        )
    )
    chosen = made[index]
    assert is_canonical(chosen)
    assert np.array_equal(chosen.to_dense(), frames[index])
    one = data.draw(st.integers(-4, 3))
    assert np.array_equal(made[one].to_dense()[0], frames[one])
    assert np.array_equal(made.crop(one), made[one].crop(0))


def test_a_position_beyond_the_end_is_an_index_error():
    made = Masks.from_dense(np.ones((2, 3, 3), bool))
    for index in (2, -3, [0, 2], np.ones(3, bool)):
        with pytest.raises(IndexError):
            made[index]


@given(sizes(), st.data())
def test_concatenation_keeps_every_mask_in_order(size, data):
    parts = [data.draw(masks(size=size, most=3)) for _ in range(data.draw(st.integers(1, 3)))]
    joined = Masks.concatenate(parts)
    assert is_canonical(joined)
    assert np.array_equal(joined.to_dense(), np.concatenate([part.to_dense() for part in parts]))


def test_concatenation_needs_one_picture():
    with pytest.raises(GeometryError, match=r"Masks\.empty"):
        Masks.concatenate([])
    with pytest.raises(GeometryError, match="picture"):
        Masks.concatenate([Masks.empty((3, 4)), Masks.empty((4, 3))])


@given(masks())
def test_pickled_and_copied_masks_are_equal_and_still_read_only(made):
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert twin == made
        assert is_canonical(twin)


def test_a_slice_pickles_its_own_pixels_only():
    made = discs(200, 10, (300, 300))
    assert len(pickle.dumps(made[:2])) < len(pickle.dumps(made)) / 20


def test_masks_cannot_be_changed():
    pixels, offsets = np.ones(4, bool), np.array([[1, 1]])
    made = Masks((5, 5), offsets, [[2, 2]], pixels)
    pixels[:] = False
    offsets[:] = 0
    assert made.areas.tolist() == [4]
    assert made.boxes.tolist() == [[1, 1, 3, 3]]
    for array in (made.pixels, made.areas, made.crop(0), next(iter(made))[0]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError, match="immutable"):
        made.size = (1, 1)
    with pytest.raises(AttributeError, match="immutable"):
        del made.pixels
    with pytest.raises(TypeError):
        hash(made)


def test_read_only_input_is_accepted():
    frames = np.ones((1, 3, 3), bool)
    frames.flags.writeable = False
    assert Masks.from_dense(frames) == Masks.from_crops([frames[0]], [[0, 0]], (3, 3))


def test_equality_looks_at_picture_place_and_pixels():
    made = Masks.from_crops([np.ones((2, 2), bool)], [[1, 1]], (5, 5))
    assert made != made.shift(1, 0)
    assert made != made.shift(0, 0, (6, 5))
    assert made != Masks.empty((5, 5))
    assert made != Masks.from_crops([np.eye(2, dtype=bool)], [[1, 1]], (5, 5))
    assert made != "masks"
    assert repr(made) == "Masks(1 on 5 × 5, 36 bytes)"


# ---- moved, cut, turned


@given(masks(), st.integers(-16, 16), st.integers(-16, 16), sizes())
def test_a_window_shows_what_the_padded_frames_show(made, x0, y0, window):
    height, width = window
    seen = made.crop_to(x0, y0, x0 + width, y0 + height)
    padded = np.pad(made.to_dense(), ((0, 0), (32, 32), (32, 32)))
    expected = padded[:, 32 + y0 : 32 + y0 + height, 32 + x0 : 32 + x0 + width]
    assert is_canonical(seen)
    assert seen == Masks.from_dense(expected)
    assert made.shift(-x0, -y0, window) == seen


@given(masks(), st.integers(0, 20), st.integers(0, 20))
def test_pasting_and_cropping_back_is_the_identity(made, dx, dy):
    height, width = made.size
    pasted = made.shift(dx, dy, (height + 20, width + 20))
    assert pasted.crop_to(dx, dy, dx + width, dy + height) == made


def test_a_window_without_pixels_is_refused():
    with pytest.raises(GeometryError, match="no pixels"):
        Masks.empty((4, 4)).crop_to(2, 2, 2, 4)


@given(masks(), st.integers(-5, 5))
def test_turns_and_mirrors_are_those_of_numpy(made, k):
    frames = made.to_dense()
    turned = made.rotate90(k)
    assert is_canonical(turned)
    assert np.array_equal(turned.to_dense(), np.rot90(frames, k, axes=(1, 2)))
    for horizontal, axis in ((True, 2), (False, 1)):
        mirrored = made.flip(horizontal)
        assert is_canonical(mirrored)
        assert np.array_equal(mirrored.to_dense(), np.flip(frames, axis))
        assert mirrored.flip(horizontal) == made


@given(masks())
def test_union_is_any_of_the_frames(made):
    together = made.union()
    assert is_canonical(together)
    assert np.array_equal(together.to_dense(), made.to_dense().any(axis=0, keepdims=True))


# ---- resize


@given(masks(), sizes(30))
def test_resize_keeps_every_object_and_the_identity(made, size):
    assert made.resize(made.size) == made
    other = made.resize(size)
    assert is_canonical(other)
    assert other.size == size
    assert np.array_equal(other.areas > 0, made.areas > 0)


@given(masks(), st.integers(1, 4), st.integers(1, 4))
def test_shrinking_by_a_whole_factor_takes_cells_that_are_at_least_half_full(made, fy, fx):
    height, width = made.size
    frames = np.kron(made.to_dense(), np.ones((1, fy, fx), bool)).astype(bool)
    large = Masks.from_dense(frames)
    assert large.resize((height, width)) == made  # cells are wholly full or wholly empty

    cells = np.pad(made.to_dense(), ((0, 0), (0, -height % fy), (0, -width % fx)))
    share = cells.reshape(len(made), -(-height // fy), fy, -(-width // fx), fx).mean(axis=(2, 4))
    small = Masks.from_dense(cells).resize(share.shape[1:]).to_dense()
    for covered, cell in zip(share, small, strict=True):
        half, due = covered >= 0.5, covered.sum()
        if due == 0 or half.sum() >= max(1, due / 2):
            assert np.array_equal(cell, half)
        else:  # too thin: the best-covered cells, as many as the area is due
            assert cell.sum() >= max(1, round(due))
            assert covered[cell].min() >= covered[~cell].max(initial=0) - 1e-5
            assert covered[cell].min() > 0


@pytest.mark.parametrize("scale", [0.25, 0.4, 0.77, 1.5, 2.3, 4.0])
def test_areas_scale_with_the_picture(scale):
    made = discs(40, 20, (400, 500), seed=3)
    size = (round(400 * scale), round(500 * scale))
    true_scale = size[0] * size[1] / (400 * 500)
    big = made.areas > 600
    ratio = made.resize(size).areas[big] / (made.areas[big] * true_scale)
    assert np.abs(ratio - 1).max() < 0.06
    assert ratio.mean() == pytest.approx(1, abs=0.02)


def test_a_fibre_stays_a_fibre():
    frames = np.zeros((2, 90, 90), bool)
    frames[0, 4:85, 40] = True
    frames[1][np.arange(5, 85), np.arange(5, 85)] = True
    upright, slanted = Masks.from_dense(frames).resize((30, 30))
    assert upright[0].shape == (26, 1)  # 81 pixels are due 9, and 26 cells are covered alike
    assert slanted[0].shape == (26, 26)
    assert slanted[0].diagonal().sum() >= 26


@pytest.mark.parametrize("scale", [0.4, 2.3])
def test_resizing_commutes_with_mirrors_and_turns(scale):
    made = discs(30, 9, (100, 130), seed=4)
    size = (round(100 * scale), round(130 * scale))
    assert made.flip(True).resize(size) == made.resize(size).flip(True)
    assert made.rotate90(1).resize(size[::-1]) == made.resize(size).rotate90(1)


def test_centres_stay_where_they_were_in_the_picture():
    made = discs(20, 12, (200, 200), seed=5).crop_to(20, 20, 180, 180)
    made = made[made.areas > 400]
    for side in (80, 333):
        moved = (made.resize((side, side)).centroids + 0.5) * 160 / side - 0.5
        assert np.abs(moved - made.centroids).max() < 0.6


# ---- cost


def test_many_small_objects_on_a_huge_picture_stay_small():
    size = (60_000, 60_000)
    made = discs(2_000, 5, size, seed=6)
    tracemalloc.start()
    try:
        made.boxes, made.centroids, made.iou(made), made.overlapping_pixels()
        made.flip(True).rotate90(1).shift(5, 5).resize((30_000, 30_000))
        assert Masks.from_coco(made.to_coco(), size) == made
        assert Masks.from_polygons(made.to_polygons(), size) == made
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # full frames would take 7.2e12 bytes
