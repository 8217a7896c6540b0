"""Bootstrap: intervals cover as often as they say, groups widen them, and few units give none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apiece.errors import UsageError
from apiece.evaluate.bootstrap import FEWEST, resamples


def test_every_draw_takes_as_many_units_as_there_are() -> None:
    made = resamples(40, draws=200)
    assert made.weights.shape == (200, 40)
    np.testing.assert_array_equal(made.weights.sum(axis=1), 40)
    assert abs(made.weights.mean(axis=0) - 1).max() < 0.4
    assert (made.weights == 0).mean() == pytest.approx(math.exp(-1), abs=0.03)


def test_images_of_a_group_are_drawn_together() -> None:
    groups = ["b", "a", "b", "c", "a", "b", "d", "e"]
    made = resamples(8, groups, draws=50)
    assert made.units == 5
    np.testing.assert_array_equal(made.weights[:, 0], made.weights[:, 2])
    np.testing.assert_array_equal(made.weights[:, 0], made.weights[:, 5])
    np.testing.assert_array_equal(made.weights[:, 1], made.weights[:, 4])
    one_each = made.weights[:, [0, 1, 3, 6, 7]]
    np.testing.assert_array_equal(one_each.sum(axis=1), 5)


def test_sums_are_those_of_the_images_drawn() -> None:
    rng = np.random.default_rng(3)
    made = resamples(6, draws=20, seed=3)
    values = rng.random((6, 2, 3))
    expected = [sum(w * v for w, v in zip(draw, values, strict=True)) for draw in made.weights]
    np.testing.assert_allclose(made.sums(values), expected)
    assert made.sums(values[:, 0, 0]).shape == (20,)


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    """400 simulated sets of 60 images with skewed counts; 95 % less the bootstrap's known shortfall and noise."""
    rng = np.random.default_rng(11)
    made = resamples(60, draws=400)
    covered = 0
    for _ in range(400):
        counts = rng.gamma(2.0, 3.0, 60)
        interval = made.interval(counts.mean(), made.sums(counts) / 60)
        assert interval.low <= interval.value <= interval.high
        covered += interval.low <= 6.0 <= interval.high
    assert 0.90 <= covered / 400 <= 0.98


def test_groups_widen_the_interval_where_their_images_are_alike() -> None:
    """20 cameras of 10 images that share their error: only draws of cameras cover as often as they say."""
    rng = np.random.default_rng(5)
    camera = np.repeat(np.arange(20), 10)
    alone, together = resamples(200, draws=300), resamples(200, [str(c) for c in camera], draws=300)
    covered = np.zeros(2)
    widths = np.zeros(2)
    for _ in range(200):
        errors = rng.normal(0, 1, 20)[camera] + rng.normal(0, 0.3, 200)
        for i, made in enumerate((alone, together)):
            interval = made.interval(errors.mean(), made.sums(errors) / made.weights.sum(axis=1))
            covered[i] += interval.low <= 0 <= interval.high
            widths[i] += interval.high - interval.low
    assert widths[1] > 2 * widths[0]
    assert covered[0] / 200 < 0.7
    assert 0.87 <= covered[1] / 200 <= 0.99


def test_level_sets_the_width() -> None:
    values = np.random.default_rng(2).normal(0, 1, 50)
    narrow, wide = (
        made.interval(values.mean(), made.sums(values) / 50)
        for made in (resamples(50, level=0.5), resamples(50, level=0.99))
    )
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("images", "groups"), [(FEWEST - 1, None), (30, ["a", "b"] * 15), (1, None)], ids=["few", "groups", "one"]
)
def test_few_units_give_no_interval(images: int, groups: list[str] | None) -> None:
    made = resamples(images, groups)
    interval = made.interval(0.25, made.sums(np.ones(images)))
    assert not made.enough
    assert interval.value == 0.25
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_just_enough_units_give_one() -> None:
    made = resamples(FEWEST)
    assert made.enough
    assert made.interval(1.0, made.sums(np.arange(FEWEST)) / FEWEST).low < 2


def test_draws_that_are_undefined_are_left_out() -> None:
    made = resamples(10, draws=4)
    interval = made.interval(0.5, np.array([np.nan, 0.4, np.nan, 0.6]))
    assert interval == made.interval(0.5, np.array([0.4, 0.6]))
    assert 0.4 <= interval.low < interval.high <= 0.6


def test_draws_without_spread_give_no_interval() -> None:
    made = resamples(10, draws=4)
    interval = made.interval(0.5, np.full(4, 0.5))
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)
    assert math.isnan(made.interval(0.5, np.full(4, np.nan)).low)


def test_the_same_seed_gives_the_same_draws() -> None:
    np.testing.assert_array_equal(resamples(9, seed=4).weights, resamples(9, seed=4).weights)
    assert (resamples(9, seed=4).weights != resamples(9, seed=5).weights).any()


@pytest.mark.parametrize(("images", "groups"), [(0, None), (3, ["a", "b"]), (2, ["a", "b", "c"])])
def test_refuses_no_images_and_groups_of_another_number(images: int, groups: list[str] | None) -> None:
    with pytest.raises(UsageError, match="expected at least one"):
        resamples(images, groups)
