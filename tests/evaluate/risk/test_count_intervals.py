"""Count intervals by hand, and with groups by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from apiece.errors import UsageError
from apiece.evaluate.risk import count_interval, total_interval
from apiece.evaluate.risk.count_intervals import conformal_quantile
from apiece.evaluate.risk.units import mean_of, units_of


@pytest.mark.parametrize(
    "n, level, rank", [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (39, 0.95, 38)]
)
def test_the_quantile_is_an_order_statistic(n: int, level: float, rank: int) -> None:
    scores = np.random.default_rng(n).permutation(n).astype(float) + 1
    assert rank == math.ceil((n + 1) * level - 1e-9)
    assert conformal_quantile(scores, level, units_of(n)) == rank


def test_too_few_pictures_give_no_interval() -> None:
    few = count_interval(np.arange(8), np.arange(8), 0.9)
    assert math.isinf(few.width)
    assert few.abstains == "8 pictures are too few: at least 9 are needed to hold 90 % of new counts."
    assert count_interval(np.arange(9), np.arange(9), 0.9).width == 0


def test_an_interval_holds_whole_numbers_from_zero_on() -> None:
    predicted = np.full(19, 8)
    one = count_interval(predicted + np.arange(19) - 9, predicted, 0.9)
    assert one.width == 9  # 18th of 0, 1, 1, …, 9, 9
    low, high = one.around([3, 20])
    assert (low.tolist(), high.tolist()) == ([0, 11], [12, 29])
    scaled = count_interval(predicted + np.arange(19) - 9, predicted, 0.9, scaled=True)
    assert scaled.width == 3  # 9 / √(8 + 1)
    low, high = scaled.around([0, 8, 15, 2])
    assert (low.tolist(), high.tolist()) == ([0, 0, 3, 0], [3, 17, 27, 7])


def test_groups_weigh_alike_however_many_pictures_they_have() -> None:
    # One group of 91 pictures with large residuals, 9 of one picture each with small ones.
    scores = np.append(np.full(91, 50.0), np.arange(1.0, 10))
    groups = ["big"] * 91 + [f"g{i}" for i in range(9)]
    assert conformal_quantile(scores, 0.8, units_of(100, groups)) == 9
    assert conformal_quantile(scores, 0.8, units_of(100)) == 50
    assert conformal_quantile(scores, 0.95, units_of(100, groups)) == math.inf


def test_a_total_by_blocks() -> None:
    residual = np.arange(38) % 2 * np.repeat(np.arange(19), 2)  # 19 blocks of 2 with sums 0, 1, …, 18
    total = total_interval(10 + residual, np.full(38, 10), 100, 2, 0.9)
    assert (total.method, total.n, total.low, total.high) == ("blocks", 19, 100, 118)
    assert total.value == 100 + 2 * residual.mean()
    narrower = total_interval(10 + residual, np.full(38, 10), 100, 2, 0.8)
    assert (narrower.low, narrower.high) == (101, 117)  # second from either end: 20 · 0.1 = 2
    assert total_interval(10 + residual[:36], np.full(36, 10), 100, 2, 0.9).method == "normal"


def test_a_total_by_the_normal_approximation() -> None:
    r = np.random.default_rng(0)
    predicted, true = r.integers(0, 20, 30), r.integers(0, 20, 30)
    residual = (true - predicted).astype(float)
    total = total_interval(true, predicted, 500, 50, 0.9)
    s, quantile = residual.std(ddof=1), student.ppf(0.95, 29)
    half = quantile * s * math.sqrt(50**2 / 30 + 50)
    assert total.method == "normal"
    assert total.low == math.ceil(500 + 50 * residual.mean() - half)
    assert total.high == math.floor(500 + 50 * residual.mean() + half)
    few = total_interval(true[:9], predicted[:9], 500, 50)
    assert math.isnan(few.low)
    assert few.abstains is not None


def test_groups_of_one_picture_are_no_groups() -> None:
    r = np.random.default_rng(1)
    predicted, true = r.integers(0, 20, 30), r.integers(0, 20, 30)
    names = [str(i) for i in range(30)]
    alone = total_interval(true, predicted, 500, 50)
    for new_groups in (None, [str(i) for i in range(50)]):
        grouped = total_interval(true, predicted, 500, 50, groups=names, new_groups=new_groups)
        assert (grouped.low, grouped.high) == (alone.low, alone.high)
    assert count_interval(true, predicted, groups=names).width == count_interval(true, predicted).width


def test_variance_of_a_mean_over_groups() -> None:
    units = units_of(5, ["b", "a", "b", "a", "c"])
    assert units.of.tolist() == [0, 1, 0, 1, 2]
    values = np.array([1.0, 2, 3, 6, 8])
    mean = mean_of(values, units)
    assert mean.value == 4
    assert mean.variance == pytest.approx(3 / 2 * ((4 - 8) ** 2 + (8 - 8) ** 2 + (8 - 4) ** 2) / 25)
    assert mean_of(values, units_of(5)).variance == pytest.approx(values.var(ddof=1) / 5)
    np.testing.assert_allclose(units.means(np.column_stack([values, values**2])), [[2, 5], [4, 20], [8, 64]])


def test_new_groups_that_are_larger_widen_the_total() -> None:
    r = np.random.default_rng(2)
    predicted, true = r.integers(0, 20, 60), r.integers(0, 20, 60)
    groups = [str(i // 3) for i in range(60)]

    def width(new_groups: list[str]) -> float:
        total = total_interval(true, predicted, 5000, 60, groups=groups, new_groups=new_groups)
        return total.high - total.low

    assert (
        width(["one"] * 60)
        > width([str(i // 10) for i in range(60)])
        > width([str(i // 3) for i in range(60)])
    )


def test_with_groups_new_groups_are_covered(rng: np.random.Generator) -> None:
    """Pictures of a group share an error: their interval holds for a picture of a new one; blind to groups it fails."""
    repetitions, groups, level = 500, 24, 0.9
    picture, blind, total = [], [], []
    for _ in range(repetitions):
        sizes = rng.integers(1, 12, groups + 4)
        of = np.repeat(np.arange(groups + 4), sizes)
        residual = np.round(rng.normal(0, 4, groups + 4)[of] + rng.normal(0, 1.5, len(of)))
        predicted = rng.poisson(60, len(of)) + 20
        true, names, old = predicted + residual, of.astype(str), of < groups
        given = (true[old], predicted[old], level)
        first = int(np.flatnonzero(of == groups)[0])
        one = count_interval(*given, groups=names[old].tolist())
        low, high = one.around(predicted[first])
        picture.append(low <= true[first] <= high)
        args = float(predicted[~old].sum()), int((~old).sum()), level
        for found, kind in ((names[old].tolist(), total), (None, blind)):
            new = names[~old].tolist() if found else None
            interval = total_interval(*given[:2], *args, groups=found, new_groups=new)
            kind.append(interval.low <= true[~old].sum() <= interval.high)
    slack = 3 * math.sqrt(level * (1 - level) / repetitions)
    assert np.mean(picture) >= level - slack
    assert np.mean(total) >= level - slack
    assert np.mean(blind) < level - slack


@pytest.mark.parametrize(
    "true, predicted, level", [([1, 2], [1], 0.9), ([], [], 0.9), ([1, 2], [1, -1], 0.9), ([1], [1], 1.0)]
)
def test_refuses_what_cannot_be_meant(true: list[int], predicted: list[int], level: float) -> None:
    with pytest.raises(UsageError, match="expected"):
        count_interval(true, predicted, level)


def test_refuses_groups_of_another_length() -> None:
    with pytest.raises(UsageError, match="2 pictures and 1 groups"):
        count_interval([1, 2], [1, 2], groups=["a"])
    with pytest.raises(UsageError, match="new pictures"):
        total_interval([1, 2], [1, 2], 4, 3, new_groups=["a"])
