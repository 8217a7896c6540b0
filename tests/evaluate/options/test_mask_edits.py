"""Merging and splitting of masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_scenes import Drawn, disc

from apiece.evaluate.options import Fragments
from apiece.evaluate.options.convexity import convexity
from apiece.evaluate.options.fragments import gap, unions
from apiece.evaluate.options.waists import cut


def test_convexity_of_known_shapes():
    assert convexity(np.ones((7, 3), bool)) == 1
    corner = np.ones((10, 10), bool)
    corner[:5, :5] = False
    assert convexity(corner) == pytest.approx(75 / (100 - 12.5))
    assert convexity(disc(48, 48, 20)) > 0.95
    assert convexity(disc(36, 48, 13) | disc(60, 48, 13)) < 0.9
    assert convexity(np.zeros((3, 3), bool)) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_gap_is_the_fewest_pixels_between(seed):
    rng = np.random.default_rng(seed)
    crops = [
        (rng.random((rng.integers(1, 6), rng.integers(1, 6))) < 0.7, *rng.integers(0, 9, 2).tolist())
        for _ in "ab"
    ]
    if not all(crop[0].any() for crop in crops):
        return
    first, second = (np.argwhere(bitmap) + np.array([y, x]) for bitmap, x, y in crops)
    steps = np.abs(first[:, None] - second[None]).max(axis=2).min()
    expected = max(int(steps) - 1, 0)
    for most in (0, 2, 4):
        assert gap(crops[0], crops[1], most) == (expected if expected <= most else None)


def merged(drawn, rule):
    overlaps = drawn.overlaps()
    kept = np.ones(len(overlaps.scenes.predicted), bool)
    return [union.parts for union in unions(overlaps, kept, [rule])]


def test_fragments_merge_until_nothing_is_left_to_merge():
    drawn = Drawn(2)
    image = drawn.image()
    whole = disc(48, 48, 20)
    for columns in (slice(0, 42), slice(43, 54), slice(55, 96)):  # three strips of one disc
        strip = np.zeros_like(whole)
        strip[:, columns] = whole[:, columns]
        drawn.found(image, strip, 0.9)
    assert merged(drawn, Fragments(0.85, 2)) == [(0, 1, 2)]
    assert merged(drawn, Fragments(0.85, 0)) == []


def test_whole_objects_that_touch_and_other_classes_are_left_alone():
    drawn = Drawn(2)
    image = drawn.image()
    drawn.found(image, disc(20, 20, 10), 0.9)
    drawn.found(image, disc(40, 20, 10), 0.9)
    half = disc(60, 70, 12)
    for label in (0, 1):
        part = half.copy()
        part[:, 60:] &= label == 1
        part[:, :60] &= label == 0
        drawn.found(image, part, 0.9, label)
    assert merged(drawn, Fragments(0.9, 4)) == []


def test_the_same_object_twice_is_not_fragments():
    drawn = Drawn()
    image = drawn.image()
    drawn.found(image, disc(40, 40, 12), 0.9)
    drawn.found(image, disc(42, 40, 12), 0.8)
    assert merged(drawn, Fragments(0.85, 2)) == []


@pytest.mark.parametrize("distance", [14, 18, 24])
def test_a_waist_is_cut_in_two_of_equal_size(distance):
    both = disc(48 - distance / 2, 48, 13) | disc(48 + distance / 2, 48, 13)
    pieces = cut(both)
    if distance == 14:
        assert len(pieces) in (1, 2)  # the waist is shallow: nine tenths of the width
        return
    assert len(pieces) == 2
    np.testing.assert_array_equal(pieces[0] | pieces[1], both)
    assert not (pieces[0] & pieces[1]).any()
    assert abs(int(pieces[0].sum()) - int(pieces[1].sum())) < 0.1 * both.sum()


def test_shapes_without_a_waist_stay_whole():
    for shape in (disc(48, 48, 15), np.ones((9, 40), bool), np.tri(30, dtype=bool)):
        (piece,) = cut(shape)
        np.testing.assert_array_equal(piece, shape)


def test_a_small_wart_is_not_cut_off():
    shape = disc(48, 48, 18) | disc(69, 48, 4)
    assert len(cut(shape)) == 1


def test_three_discs_in_a_row_become_three():
    assert len(cut(disc(20, 48, 12) | disc(42, 48, 12) | disc(64, 48, 12))) == 3


def test_large_masks_are_cut_where_small_ones_are():
    small = disc(36, 48, 13) | disc(60, 48, 13)
    large = np.kron(small[30:70, 15:85], np.ones((7, 7), bool)).astype(bool)
    pieces = cut(large)
    assert len(pieces) == 2
    np.testing.assert_array_equal(pieces[0] | pieces[1], large)
    assert not (pieces[0] & pieces[1]).any()
    assert abs(int(pieces[0].sum()) - int(pieces[1].sum())) < 0.05 * large.sum()
    assert len(cut(np.kron(disc(48, 48, 15)[30:66, 30:66], np.ones((9, 9), bool)).astype(bool))) == 1
