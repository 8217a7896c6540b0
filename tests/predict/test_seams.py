"""Seams: what tiles saw is put together to exactly what there is, wherever they lie; faults at edges are mended."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import GeometryError, UsageError
from apiece.predict.seams import Seams, Sewn, TileView
from apiece.predict.tiles import Layout, Window, quarters

ONE, TWO = ClassMap(("thing",)), ClassMap(("thing", "other"))


def instances(masks: Masks, scores: Sequence[float] | None = None, class_ids=None, classes=ONE) -> Instances:
    ids = np.zeros(len(masks), np.int64) if class_ids is None else class_ids
    return Instances(masks.size, masks, ids, scores, classes=classes)


def view(truth: Instances, window: Window, *, parts: bool = False) -> TileView:
    """What a faultless network says about a tile; with `parts` it takes every connected part for an object."""
    seen = truth.masks.crop_to(window.x, window.y, window.right, window.bottom)
    index = np.flatnonzero(seen.areas)
    crops, places, ids, scores = [], [], [], []
    for i in index.tolist():
        crop, (x, y) = seen.crop(i), seen.offsets[i].tolist()
        count, labels = (
            cv2.connectedComponents(crop.view(np.uint8), connectivity=4)
            if parts
            else (2, crop.astype(np.int32))
        )
        for number in range(1, count):
            crops.append(labels == number)
            places.append((x + window.x, y + window.y))
            ids.append(int(truth.class_ids[i]))
            scores.append(float(truth.scores[i]))
    masks = Masks.from_crops(crops, places, truth.size)
    return TileView(window, Instances(truth.size, masks, ids, scores, classes=truth.classes))


def sew(size, rows: Sequence[Sequence[TileView]], *, margin: int = 2, classes=ONE) -> Sewn:
    seams = Seams(size, classes, margin, 0.2)
    for i, row in enumerate(rows):
        seams.add(row, rows[i + 1][0].window.y if i + 1 < len(rows) else size[0])
    assert seams.waiting == 0
    return seams.finish()


def sewn(truth: Instances, layout: Layout, *, margin: int = 2, **how) -> Sewn:
    rows = [[view(truth, window, **how) for window in layout.row(top)] for top in layout.tops]
    return sew(truth.size, rows, margin=margin, classes=truth.classes)


def as_set(found: Instances) -> list[tuple]:
    """Every object as a value, sorted; equal lists are the same objects, none lost or doubled."""
    masks = found.masks
    return sorted(
        (
            *masks.offsets[i].tolist(),
            *masks.shapes[i].tolist(),
            masks.crop(i).tobytes(),
            int(found.class_ids[i]),
        )
        for i in range(len(found))
    )


def scene(seed: int, size: tuple[int, int], count: int, *, largest: int, overlapping: bool) -> Instances:
    """Ellipses, bars, rings and crosses of all sizes at random places; touching, and hiding or overlapping each
    other. A hidden object keeps the largest part that can be seen, as a network can't know that two are one."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((count, *size), np.uint8)
    for frame in frames:
        centre = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        axes = np.exp(rng.uniform(np.log(1.5), np.log(largest), 2))
        shape = (centre, tuple(2 * axes), float(rng.uniform(0, 180)))
        kind = rng.integers(4)
        if kind == 0:
            cv2.ellipse(frame, shape, 1, -1)
        elif kind == 1:
            cv2.ellipse(frame, shape, 1, max(1, int(axes.min() / 3)))
        elif kind == 2:
            cv2.fillPoly(frame, [np.round(cv2.boxPoints(shape)).astype(np.int32)], 1)
        else:
            x, y, r = *(int(v) for v in centre), int(axes.max())
            cv2.line(frame, (x - r, y), (x + r, y), 1, 3)
            cv2.line(frame, (x, y - r), (x, y + r), 1, 3)
    if not overlapping:
        top = np.zeros(size, np.int32)
        for i, frame in enumerate(frames, 1):
            top[frame > 0] = i
        frames = np.stack([top == i for i in range(1, count + 1)]).astype(np.uint8)
    for frame in frames:
        number, labels, statistics, _ = cv2.connectedComponentsWithStats(frame, connectivity=4)
        if number > 2:
            frame[labels != 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())] = 0
    masks = Masks.from_dense(frames)
    masks = masks[masks.areas > 0]
    n = len(masks)
    return instances(masks, rng.uniform(0.3, 1, n).astype(np.float32), rng.integers(2, size=n), TWO)


@st.composite
def layouts(draw) -> Layout:
    size = draw(st.integers(20, 150)), draw(st.integers(20, 150))
    tile = draw(st.integers(24, 60)), draw(st.integers(24, 60))
    overlap = draw(st.integers(6, min(tile) // 2))
    offset = draw(st.integers(0, 70)), draw(st.integers(0, 70))
    return Layout(size, tile, overlap, offset, draw(st.sampled_from([1.0, 4.0, 5.5, 11.3, 40.0])))


# ---- the layout


@settings(deadline=None)
@given(layouts())
def test_tiles_cover_the_picture_are_full_and_overlap(layout: Layout):
    (height, width), (tall, wide) = layout.size, layout.tile
    for starts, length, side in ((layout.tops, height, tall), (layout.lefts, width, wide)):
        assert starts[0] == 0
        assert starts[-1] == max(0, length - side)
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (steps <= side - layout.overlap).all()
    for top in layout.tops:
        for window in layout.row(top):
            assert window.size == (min(height, tall), min(width, wide))
            assert window.right <= width
            assert window.bottom <= height


@settings(deadline=None)
@given(layouts())
def test_an_object_no_longer_than_the_overlap_less_margins_is_whole_in_some_tile(layout: Layout):
    margin = 2
    side = layout.overlap - 2 * margin
    windows = [window for top in layout.tops for window in layout.row(top)]
    for x in range(0, max(1, layout.size[1] - side), 7):
        for y in range(0, max(1, layout.size[0] - side), 7):
            box = np.array([[x, y, min(x + side, layout.size[1]), min(y + side, layout.size[0])]])
            assert max(window.depths(box, layout.size)[0] for window in windows) >= margin


def test_an_offset_moves_the_seams():
    size, tile = (200, 300), (64, 64)
    plain, moved = Layout(size, tile, 16), Layout(size, tile, 16, (10, 20))
    assert plain.lefts == [0, 48, 96, 144, 192, 236]
    assert moved.lefts == [0, 38, 86, 134, 182, 230, 236]
    assert moved.tops == [0, 28, 76, 124, 136]
    assert Layout(size, tile, 16, (48, 96)).lefts == plain.lefts


def test_windows_lie_whole_cells_apart():
    assert Layout((200, 300), (64, 64), 16, cell=10).lefts == [0, 40, 80, 120, 160, 200, 236]
    assert Layout((200, 200), (64, 64), 16, cell=32 / 3).lefts == [0, 43, 85, 128, 136]
    assert Layout((200, 200), (64, 64), 16, cell=50).lefts == [
        0,
        48,
        96,
        136,
    ]  # a tile doesn't hold that many
    with pytest.raises(UsageError, match="cell"):
        Layout((200, 200), (64, 64), 16, cell=0)


@pytest.mark.parametrize("overlap", [0, 1, 33])
def test_an_overlap_that_cannot_be_meant_is_refused(overlap: int):
    with pytest.raises(UsageError, match="expected 2 to 32 pixels"):
        Layout((100, 100), (64, 70), overlap)
    with pytest.raises(UsageError, match="offset"):
        Layout((100, 100), (64, 70), 8, (-1, 0))


@settings(deadline=None)
@given(layouts())
def test_quarters_cover_their_window_and_overlap(layout: Layout):
    window = Window(3, 5, layout.tile[1], layout.tile[0])
    parts = quarters(window, layout.overlap)
    assert len(parts) in (0, 2, 4)
    seen = np.zeros((window.bottom, window.right), int)
    for part in parts:
        assert part.size != window.size
        seen[part.y : part.bottom, part.x : part.right] += 1
    if parts:
        assert (seen[5:, 3:] > 0).all()
        assert seen[:5].sum() == seen[:, :3].sum() == 0
    assert quarters(Window(0, 0, 9, 9), 8) == []


# ---- faultless tiles


@settings(max_examples=60, deadline=None)
@given(layouts(), st.integers(0, 10**6), st.booleans(), st.integers(1, 3))
def test_faultless_tiles_give_exactly_what_there_is(
    layout: Layout, seed: int, overlapping: bool, margin: int
):
    truth = scene(seed, layout.size, 14, largest=70, overlapping=overlapping)
    found = sewn(truth, layout, margin=margin)
    assert found.fragments == 0
    assert as_set(found.instances) == as_set(truth)
    assert (np.diff(found.instances.scores) <= 0).all()


def test_arms_of_a_ring_that_a_tile_sees_apart_become_one_ring():
    size = (200, 200)
    frame = np.zeros((1, *size), np.uint8)
    cv2.circle(frame[0], (100, 100), 80, 1, 7)
    truth = instances(Masks.from_dense(frame))
    for offset in ((0, 0), (7, 13), (20, 5), (31, 31)):
        found = sewn(truth, Layout(size, (64, 64), 20, offset), parts=True)
        assert as_set(found.instances) == as_set(truth)
        assert not found.whole.any()


def test_views_of_an_object_that_other_tiles_see_whole_are_not_joined_to_it():
    truth = scene(5, (150, 150), 25, largest=9, overlapping=False)
    found = sewn(truth, Layout((150, 150), (60, 60), 26))
    small = (found.instances.masks.shapes <= 26 - 4).all(axis=1)
    assert found.whole[small].all()


# ---- tiles with faults

SIZE = (40, 100)
LEFT, RIGHT = Window(0, 0, 60, 40), Window(40, 0, 60, 40)  # they share the columns 40 to 59


def seen(window: Window, *boxes: tuple, classes=ONE, class_ids=None, scores=None) -> TileView:
    """A tile that saw these boxes x1, y1, x2, y2."""
    crops = [np.ones((y2 - y1, x2 - x1), bool) for x1, y1, x2, y2 in boxes]
    masks = Masks.from_crops(crops, [box[:2] for box in boxes], SIZE)
    return TileView(window, instances(masks, scores, class_ids, classes))


def boxes_of(found: Sewn) -> list[list[int]]:
    return sorted(found.instances.boxes.astype(int).tolist())


def test_the_deepest_whole_view_is_the_object_and_gives_its_score():
    a, b = (43, 5, 51, 15), (43, 4, 52, 15)
    found = sew(SIZE, [[seen(LEFT, a, scores=[0.5]), seen(RIGHT, b, scores=[0.9])]])
    assert boxes_of(found) == [list(a)]
    assert found.instances.scores.tolist() == [0.5]
    assert found.whole.tolist() == [True]


def test_touching_objects_at_the_seam_stay_two():
    upper, lower = (30, 5, 70, 15), (30, 15, 70, 25)
    found = sew(
        SIZE,
        [[seen(LEFT, (30, 5, 60, 15), (30, 15, 60, 25)), seen(RIGHT, (40, 5, 70, 15), (40, 15, 70, 25))]],
    )
    assert boxes_of(found) == [list(upper), list(lower)]
    assert found.fragments == 0


def test_side_by_side_across_the_seam_stay_two():
    found = sew(
        SIZE, [[seen(LEFT, (30, 5, 50, 15), (50, 5, 60, 15)), seen(RIGHT, (40, 5, 50, 15), (50, 5, 70, 15))]]
    )
    assert boxes_of(found) == [[30, 5, 50, 15], [50, 5, 70, 15]]


def test_an_edge_view_of_nothing_is_dropped_where_another_tile_looked():
    found = sew(SIZE, [[seen(LEFT, (53, 5, 60, 15)), seen(RIGHT)]])
    assert (len(found.instances), found.fragments) == (0, 1)
    # A tile whose slots were all used may have missed it.
    full = TileView(RIGHT, instances(Masks.empty(SIZE)), truncated=True)
    found = sew(SIZE, [[seen(LEFT, (53, 5, 60, 15)), full]])
    assert (len(found.instances), found.fragments) == (1, 0)
    # It is no edge view where the picture ends, nor where nobody saw all of it.
    found = sew(SIZE, [[seen(LEFT, (0, 0, 10, 10), (20, 5, 60, 15)), seen(RIGHT, (95, 30, 100, 40))]])
    assert (len(found.instances), found.fragments) == (3, 0)


def test_a_whole_object_that_the_other_tile_missed_is_kept_once():
    found = sew(SIZE, [[seen(LEFT, (43, 5, 53, 15)), seen(RIGHT)]])
    assert boxes_of(found) == [[43, 5, 53, 15]]


def test_a_doubtful_object_that_the_better_placed_tile_missed_is_dropped():
    box = (46, 5, 56, 15)  # 4 pixels from the left tile's edge, 6 from the right one's
    for score, count in ((0.6, 1), (0.45, 0)):
        found = sew(SIZE, [[seen(LEFT, box, scores=[score]), seen(RIGHT)]])
        assert (len(found.instances), found.fragments) == (count, 1 - count)
    assert len(sew(SIZE, [[seen(LEFT), seen(RIGHT, box, scores=[0.21])]]).instances) == 1


def test_a_score_at_the_threshold_is_kept():
    found = sew(SIZE, [[seen(LEFT, (5, 5, 15, 15), scores=[np.float32(0.2)]), seen(RIGHT)]])
    assert len(found.instances) == 1
    seams = Seams(SIZE, ONE, 2, 0.19)  # which no float32 can hold: the nearest is less
    seams.add([seen(LEFT, (5, 5, 15, 15), scores=[np.float32(0.19)])], 40)
    assert len(seams.finish().instances) == 1


def test_pieces_of_an_object_that_another_tile_saw_whole_are_dropped():
    found = sew(
        SIZE,
        [
            [
                seen(LEFT, (42, 5, 54, 35)),
                seen(RIGHT, (42, 5, 54, 15), (42, 15, 54, 25), (42, 25, 54, 35), scores=[0.4] * 3),
            ]
        ],
    )
    assert boxes_of(found) == [[42, 5, 54, 35]]
    assert found.fragments == 3


def test_an_object_on_another_stays_where_a_tile_saw_both():
    large, small = (10, 5, 50, 35), (45, 10, 49, 20)
    rows = [[seen(LEFT, large, small), seen(RIGHT, (40, 5, 50, 35), small)]]
    assert boxes_of(sew(SIZE, rows)) == [list(large), list(small)]
    # Only one tile knows of it, and not of the large one: a piece.
    found = sew(SIZE, [[seen(LEFT, large), seen(RIGHT, small, scores=[0.4])]])
    assert (boxes_of(found), found.fragments) == ([list(large)], 1)


def test_two_classes_on_one_place_are_one_object_unless_a_tile_saw_both():
    box = (43, 5, 53, 15)
    one = [
        [
            seen(LEFT, box, class_ids=[0], classes=TWO, scores=[0.6]),
            seen(RIGHT, box, class_ids=[1], classes=TWO, scores=[0.7]),
        ]
    ]
    found = sew(SIZE, one, classes=TWO)
    # The left tile has it 7 pixels deep, the right one 3, so the surer score is believed less.
    assert (found.instances.class_ids.tolist(), found.fragments) == ([0], 1)
    both = [[seen(w, box, box, class_ids=[0, 1], classes=TWO) for w in (LEFT, RIGHT)]]
    assert sorted(sew(SIZE, both, classes=TWO).instances.class_ids.tolist()) == [0, 1]


def test_a_chain_does_not_join_what_a_tile_told_apart():
    """The left tile takes for one what the right one sees as two that touch."""
    found = sew(SIZE, [[seen(LEFT, (20, 5, 60, 25)), seen(RIGHT, (40, 5, 90, 15), (40, 15, 80, 25))]])
    assert len(found.instances) == 2


def test_a_view_that_ends_before_the_edge_does_not_cut_a_long_object():
    # The network fades out four pixels before its tile ends, beyond the margin of two: the view looks whole.
    found = sew(SIZE, [[seen(LEFT, (5, 5, 56, 15)), seen(RIGHT, (40, 5, 95, 15))]])
    assert boxes_of(found) == [[5, 5, 95, 15]]


def test_a_cut_view_that_runs_over_does_not_enlarge_a_whole_one():
    found = sew(SIZE, [[seen(LEFT, (30, 5, 57, 35)), seen(RIGHT, (40, 5, 65, 35))]])
    assert boxes_of(found) == [[30, 5, 57, 35]]


def test_pixels_of_a_margin_count_only_where_no_other_tile_of_the_object_saw_them():
    smear = np.zeros(SIZE, bool)
    smear[5:15, 5:60] = smear[5:20, 58:60] = True  # a hook in the last two columns
    left = TileView(LEFT, instances(Masks.from_dense(smear[None])))
    found = sew(SIZE, [[left, seen(RIGHT, (40, 5, 95, 15))]])
    assert found.instances.masks == Masks.from_crops([np.ones((10, 90), bool)], [(5, 5)], SIZE)


def test_unrelated_pictures_are_refused():
    with pytest.raises(GeometryError, match="expected"):
        Seams((40, 90), ONE, 2, 0.2).add([seen(LEFT)], 40)


def test_the_working_set_is_a_few_rows():
    truth = scene(3, (400, 90), 60, largest=8, overlapping=False)
    layout = Layout(truth.size, (40, 40), 18)
    seams = Seams(truth.size, truth.classes, 2, 0.2)
    tops = layout.tops
    most = 0
    for top, following in zip(tops, [*tops[1:], truth.size[0]], strict=True):
        seams.add([view(truth, window) for window in layout.row(top)], following)
        most = max(most, seams.waiting)
    assert most <= 3 * len(layout.lefts)
    assert as_set(seams.finish().instances) == as_set(truth)
