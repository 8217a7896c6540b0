from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.draw import PALETTE, STEP, colours_of, overlay
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import GeometryError

CELL = ClassMap(("cell",))


def disc(radius: int) -> np.ndarray:
    y, x = np.indices((2 * radius + 1, 2 * radius + 1)) - radius
    return x * x + y * y <= radius * radius


def scene(size: tuple[int, int], centres: np.ndarray, radius: int, **more) -> Instances:
    crop = disc(radius)
    masks = Masks.from_crops([crop] * len(centres), np.asarray(centres, int).reshape(-1, 2) - radius, size)
    return Instances(size, masks, np.zeros(len(masks), int), classes=CELL, **more)


def grid(size: tuple[int, int], step: int, radius: int) -> Instances:
    y, x = np.mgrid[step // 2 : size[0] : step, step // 2 : size[1] : step]
    return scene(size, np.stack([x.ravel(), y.ravel()], 1), radius)


@pytest.fixture
def picture(rng) -> np.ndarray:
    return rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)


def test_nothing_found_leaves_the_picture(picture):
    shown = overlay(picture, Instances.empty((90, 130), CELL), scores=True)
    assert np.array_equal(shown, picture)
    assert not np.shares_memory(shown, picture)


def test_the_input_is_untouched_even_when_read_only(picture):
    before = picture.copy()
    picture.flags.writeable = False
    shown = overlay(picture, grid((90, 130), 30, 12))
    assert np.array_equal(picture, before)
    assert shown.flags.writeable
    assert shown.flags.c_contiguous
    assert shown.dtype == np.uint8


def test_the_tint_is_the_blend_and_stays_inside(picture):
    found = scene((90, 130), np.array([[30, 40], [90, 50]]), 20)
    shown = overlay(picture, found, fill=0.4, outline=False, ids=False)
    dense = found.masks.to_dense()
    assert np.array_equal(shown[~dense.any(0)], picture[~dense.any(0)])
    for mask, colour in zip(dense, colours_of(found), strict=True):
        expected = picture[mask] * 0.6 + np.array(colour) * 0.4
        assert np.abs(shown[mask] - expected).max() <= 0.51
    assert np.array_equal(overlay(picture, found, fill=0, outline=False, ids=False), picture)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_every_object_however_small_has_an_outline(height, width, data):
    """Of any shape, at any place including the border: pixels of its own colour."""
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width).filter(any))
    x, y = data.draw(st.integers(0, 40 - width)), data.draw(st.integers(0, 30 - height))
    masks = Masks.from_crops([np.reshape(bits, (height, width))], [[x, y]], (30, 40))
    found = Instances((30, 40), masks, [0], classes=CELL)
    shown = overlay(np.zeros((30, 40, 3), np.uint8), found)
    inside = shown[masks.to_dense()[0]]
    assert (inside == colours_of(found)[0]).all(-1).any()


def test_objects_that_vanish_when_shrunk_still_show():
    found = grid((400, 600), 50, 0)
    shown = overlay(np.zeros((400, 600, 3), np.uint8), found, max_side=60)
    assert shown.shape == (40, 60, 3)
    assert int(shown.any(-1).sum()) == len(found) == 96


def test_an_object_without_a_mask_shows_its_box():
    boxes = np.array([[10, 5, 30, 25], [39, 29, 40, 30]], np.float32)
    masks = Masks.concatenate([Masks.from_crops([np.zeros((0, 0), bool)] * 2, [[0, 0]] * 2, (30, 40))])
    found = Instances((30, 40), masks, [0, 0], boxes=boxes, classes=CELL)
    shown = overlay(np.zeros((30, 40, 3), np.uint8), found).any(-1)
    assert shown[5, 10:30].all()
    assert shown[24, 10:30].all()
    assert shown[5:25, 10].all()
    assert shown[5:25, 29].all()
    assert not shown[6:24, 11:29].any()
    assert shown[29, 39]


def test_holes_are_outlined():
    ring = disc(20)
    ring[10:31, 10:31] &= ~disc(10)
    masks = Masks.from_crops([ring], [[5, 5]], (60, 60))
    found = Instances((60, 60), masks, [0], classes=CELL)
    shown = overlay(np.zeros((60, 60, 3), np.uint8), found, fill=0, ids=False)
    assert shown[25, 5].any()  # the outer edge
    assert shown[25, 14:16].any()  # the hole's edge
    assert not shown[25, 20:31].any()  # the hole itself


def test_the_outline_grows_with_the_picture_up_to_three_pixels():
    def thickness(side: int) -> int:
        masks = Masks.from_crops(
            [np.ones((side // 2, side // 2), bool)], [[side // 4, side // 4]], (side, side)
        )
        found = Instances((side, side), masks, [0], classes=CELL)
        shown = overlay(np.zeros((side, side, 3), np.uint8), found, fill=0, ids=False)
        return int(shown[side // 2, : side // 2].any(-1).sum())

    assert [thickness(side) for side in (200, 1400, 6000)] == [1, 2, 3]


def test_the_outline_stays_inside_its_object():
    found = grid((90, 130), 30, 12)
    shown = overlay(np.zeros((90, 130, 3), np.uint8), found, fill=0, ids=False).any(-1)
    dense = found.masks.union().to_dense()[0]
    assert not shown[~dense].any()
    eroded = cv2.erode(dense.astype(np.uint8), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8))
    assert np.array_equal(shown, dense & (eroded == 0))


@pytest.mark.parametrize("step", [14, 20, 40])
def test_neighbours_differ_in_colour(step):
    """Touching discs in a lattice: eight neighbours each, twelve colours."""
    found = grid((300, 420), step, step // 2)
    colours = np.array(colours_of(found))
    rows, columns = 300 // step + (300 % step > step // 2), 420 // step + (420 % step > step // 2)
    lattice = colours.reshape(rows, columns, 3)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = lattice[: rows - down, max(0, -right) : columns - max(0, right)]
        b = lattice[down:, max(0, right) : columns - max(0, -right)]
        assert (a != b).any(-1).all()
    assert len(np.unique(colours, axis=0)) > 6


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 11), st.integers(0, 10**6))
def test_any_dozen_that_overlap_all_differ(extra, seed):
    rng = np.random.default_rng(seed)
    centres = rng.integers(45, 55, (extra + 1, 2))
    found = scene((100, 100), centres, 30)
    assert len(set(colours_of(found))) == extra + 1


def test_a_nest_of_more_than_the_palette_uses_all_evenly():
    found = scene((100, 100), np.full((30, 2), 50), 30)
    counts = [colours_of(found).count(colour) for colour in PALETTE]
    assert max(counts) - min(counts) <= 1
    assert np.gcd(STEP, len(PALETTE)) == 1


def test_a_track_keeps_its_colour_and_shows_its_number():
    first = scene((100, 200), np.array([[50, 50], [150, 50]]), 30, track_ids=[7, 3])
    later = scene((100, 200), np.array([[60, 50]]), 30, track_ids=[3])
    assert colours_of(first)[1] == colours_of(later)[0]
    black = np.zeros((100, 200, 3), np.uint8)
    alone = scene((100, 200), np.array([[60, 50]]), 30)
    numbered = overlay(black, later, fill=0, outline=False)
    assert not np.array_equal(numbered, overlay(black, alone, fill=0, outline=False))  # 3, not 1
    third = scene((100, 200), np.array([[150, 50], [150, 50], [60, 50]]), 30)[2]
    assert len(third) == 1


def test_numbers_stay_inside_and_only_where_they_fit():
    black = np.zeros((200, 300, 3), np.uint8)
    large = scene((200, 300), np.array([[70, 100], [220, 90]]), 50)
    shown = overlay(black, large, fill=0, outline=False)
    inside = large.masks.union().to_dense()[0]
    assert (shown[inside] > 200).any()
    assert not shown[~inside].any()
    for found in large[0], large[1]:
        assert shown[found.masks.to_dense()[0]].any()
    tiny = scene((200, 300), np.array([[70, 100], [220, 90]]), 3)
    assert np.array_equal(overlay(black, tiny, fill=0, outline=False), black)
    assert overlay(black, tiny, fill=0).any()
    assert np.array_equal(overlay(black, large, fill=0, outline=False, ids=False), black)


def test_scores_are_drawn_when_asked():
    black = np.zeros((200, 300, 3), np.uint8)
    found = scene((200, 300), np.array([[150, 100]]), 80, scores=[0.5])
    plain, scored, only = (
        overlay(black, found, fill=0, outline=False, ids=ids, scores=scores)
        for ids, scores in ((True, False), (True, True), (False, True))
    )
    assert plain.astype(bool).sum() < only.astype(bool).sum() < scored.astype(bool).sum()


def test_small_objects_lie_on_large_ones():
    masks = Masks.from_crops([disc(3), disc(30)], [[47, 47], [20, 20]], (100, 100))
    found = Instances((100, 100), masks, [0, 0], classes=CELL)
    shown = overlay(np.zeros((100, 100, 3), np.uint8), found, fill=1, outline=False, ids=False)
    assert shown[50, 50].tolist() == list(colours_of(found)[0])
    assert shown[30, 50].tolist() == list(colours_of(found)[1])


@pytest.mark.parametrize("max_side", [None, 1, 64, 130, 4000])
def test_max_side_shrinks_and_never_enlarges(picture, max_side):
    found = grid((90, 130), 30, 12)
    shown = overlay(picture, found, max_side=max_side)
    longer = 130 if max_side is None else min(130, max_side)
    assert max(shown.shape[:2]) == longer
    assert abs(shown.shape[0] - max(1, longer * 90 / 130)) <= 0.5


def test_a_shrunk_overlay_resembles_the_shrunken_overlay(rng):
    smooth = cv2.resize(
        rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (600, 400), interpolation=cv2.INTER_CUBIC
    )
    found = grid((400, 600), 100, 40)
    large = overlay(smooth, found, ids=False, outline=False)
    small = overlay(smooth, found, ids=False, outline=False, max_side=150)
    reference = cv2.resize(large, (150, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - reference).mean() < 2


def test_ten_thousand_objects_take_seconds():
    found = grid((2000, 2000), 20, 9)
    assert len(found) == 10_000
    image = np.full((2000, 2000, 3), 40, np.uint8)
    begin = time.perf_counter()
    shown = overlay(image, found)
    seconds = time.perf_counter() - begin
    assert seconds < 15  # about one on an idle core
    assert (shown != image).any(-1).sum() > 0.9 * found.masks.areas.sum()


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.zeros((130, 90, 3), np.uint8), {}, r"instances on \(90, 130\)"),
        (np.zeros((90, 130), np.uint8), {}, "expected uint8"),
        (np.zeros((90, 130, 3), float), {}, "float64"),
        (np.zeros((90, 130, 3), np.uint8), {"fill": 1.5}, "opacity from 0 to 1"),
        (np.zeros((90, 130, 3), np.uint8), {"max_side": 0}, "at least 1 pixel"),
    ],
)
def test_what_cannot_be_drawn_is_refused(image, options, words):
    with pytest.raises(GeometryError, match=words):
        overlay(image, grid((90, 130), 30, 12), **options)
