"""Bootstrap: intervals cover as often as they say, groups widen them, and few units give none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apiece.errors import UsageError
from apiece.evaluate.bootstrap import FEWEST, percentiles, resamples


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


@pytest.mark.parametrize(("count", "least"), [(5, 0.86), (10, 0.91), (20, 0.92)])
def test_few_units_widen_the_interval(count: int, least: float) -> None:
    """Plain percentiles of 5 units hold a mean in 82 % for 95 %, these in 88 %."""
    rng = np.random.default_rng(count)
    made = resamples(count, draws=500)
    covered = plain = 0
    for _ in range(500):
        errors = rng.normal(1, 2, count)
        drawn = made.sums(errors) / count
        _, low, high = made.interval(errors.mean(), drawn)
        covered += low <= 1 <= high
        plain += np.quantile(drawn, 0.025) <= 1 <= np.quantile(drawn, 0.975)
    assert covered / 500 >= least
    assert covered > plain


def test_percentiles_are_those_of_students_t() -> None:
    low, high = percentiles(10)
    assert low == pytest.approx(0.00855, abs=1e-5)  # Φ(−2.2622 · √(10/9))
    assert low + high == pytest.approx(1)
    assert percentiles(100_000)[0] == pytest.approx(0.025, abs=1e-4)


def test_a_figure_of_few_of_the_units_has_the_interval_of_few() -> None:
    values = np.random.default_rng(4).normal(0, 1, 40)
    made = resamples(40)
    drawn = made.sums(values) / 40
    everything, few = made.interval(0.0, drawn), made.interval(0.0, drawn, 6)
    assert few.low < everything.low < everything.high < few.high
    assert math.isnan(made.interval(0.0, drawn, FEWEST - 1).low)


def test_a_distance_is_mirrored_as_chance_adds_to_every_draw() -> None:
    """Sums of |means| of 30 units, each truly 0.1 of the spread: their own draws lie too high."""
    rng = np.random.default_rng(9)
    made = resamples(30, draws=400)
    covered = np.zeros(2)
    for _ in range(300):
        values = rng.normal(0.1, 1, (30, 8))
        figure = np.abs(values.mean(axis=0)).sum()
        drawn = np.abs(made.sums(values) / 30).sum(axis=1)
        mirrored, plain = made.reflected(figure, drawn), made.interval(figure, drawn)
        assert 0 <= mirrored.low <= figure <= mirrored.high
        covered += [mirrored.low <= 0.8 <= mirrored.high, plain.low <= 0.8 <= plain.high]
    assert covered[0] / 300 >= 0.85
    assert covered[1] / 300 < 0.5
