"""Prediction-powered inference by hand; its coverage is in test_coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from apiece.errors import UsageError
from apiece.evaluate.risk import discount, mean_count, total_count
from apiece.evaluate.risk.prediction_powered import chances


def counts(seed: int, n: int = 40, live: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    true = r.poisson(r.gamma(4, 2, n + live)).astype(float)
    predicted = np.maximum(true + np.round(r.normal(-1, 2, n + live)), 0)
    return true[:n], predicted[:n], predicted[n:]


def test_plain_mean_is_the_papers_formula() -> None:
    y, f, others = counts(0)
    one = mean_count(y, f, others).plain
    first, second = (y - f).var(ddof=1) / 40, others.var(ddof=1) / 500
    assert one.value == pytest.approx(others.mean() + (y - f).mean())
    freedom = (first + second) ** 2 / (first**2 / 39 + second**2 / 499)
    half = student.ppf(0.95, freedom) * math.sqrt(first + second)
    assert (one.low, one.high) == (pytest.approx(one.value - half), pytest.approx(one.value + half))


def test_tuned_mean_uses_the_best_slope() -> None:
    y, f, others = counts(1)
    powered = mean_count(y, f, others)
    slope = np.cov(y, f)[0, 1] / f.var(ddof=1) / (1 + 40 / 500)
    assert powered.powered.slope == pytest.approx(slope)
    assert powered.powered.value == pytest.approx(slope * others.mean() + (y - slope * f).mean())
    assert powered.correlation == pytest.approx(np.corrcoef(y, f)[0, 1])
    assert powered.weak is None
    widths = [one.high - one.low for one in (powered.powered, powered.plain, powered.classical)]
    assert widths[0] < widths[2]
    assert widths[1] < widths[2]
    assert powered.classical.value == y.mean()


def test_the_total_leaves_out_how_much_predictions_vary() -> None:
    y, f, others = counts(2)
    one = total_count(y, f, others).plain
    assert one.value == pytest.approx(others.sum() + 500 * (y - f).mean())
    half = student.ppf(0.95, 39) * 500 * math.sqrt((y - f).var(ddof=1) * (1 / 40 + 1 / 500))
    assert one.high - one.value == pytest.approx(half)
    assert half < 500 * (mean_count(y, f, others).plain.high - mean_count(y, f, others).plain.value)
    classical = total_count(y, f, others).classical
    assert classical.value == pytest.approx(500 * y.mean())


def test_weak_predictions_are_warned_of() -> None:
    r = np.random.default_rng(3)
    y, f, others = r.poisson(8, 40), r.poisson(8, 40), r.poisson(8, 500)
    powered = mean_count(y, f, others)
    assert powered.weak is not None
    assert "0.16" in powered.weak  # 1/√38
    constant = mean_count(y, np.full(40, 3), np.full(500, 3))
    assert math.isnan(constant.correlation)
    assert constant.weak is not None
    assert "don't vary" in constant.weak
    assert constant.powered.slope == 0
    assert constant.powered.value == pytest.approx(y.mean())


def test_abstains_below_ten_audited_pictures_or_groups() -> None:
    y, f, others = counts(4, n=9)
    few = mean_count(y, f, others).powered
    assert math.isnan(few.low)
    assert few.abstains is not None
    assert "9 audited pictures: too few" in few.abstains
    assert few.value == pytest.approx(mean_count(y, f, others).powered.value)
    y, f, others = counts(4, n=40)
    grouped = mean_count(y, f, others, groups=[str(i % 8) for i in range(40)]).plain
    assert grouped.abstains is not None
    assert "8 audited groups" in grouped.abstains
    assert mean_count(y, f, others[:1]).plain.abstains is not None


def test_groups_of_one_picture_are_no_groups() -> None:
    y, f, others = counts(5)
    names, more = [str(i) for i in range(40)], [str(i) for i in range(500)]
    for method in (mean_count, total_count):
        alone = method(y, f, others)
        grouped = method(y, f, others, groups=names, unlabelled_groups=more)
        assert grouped.powered.low == pytest.approx(alone.powered.low)
        assert grouped.plain.high == pytest.approx(alone.plain.high)


def test_groups_that_share_errors_widen_the_interval() -> None:
    r = np.random.default_rng(6)
    of = np.repeat(np.arange(20), 4)
    y, f = r.poisson(20, 80) + r.integers(-6, 7, 20)[of], np.full(80, 20) + r.poisson(2, 80)
    others = r.poisson(20, 300)
    alone, grouped = mean_count(y, f, others), mean_count(y, f, others, groups=of.astype(str).tolist())
    assert grouped.plain.high - grouped.plain.low > 1.2 * (alone.plain.high - alone.plain.low)
    assert grouped.plain.value == alone.plain.value


def test_with_groups_the_mean_and_total_are_covered(rng: np.random.Generator) -> None:
    repetitions, level = 500, 0.9
    kept = np.zeros(2)
    for _ in range(repetitions):
        sizes = rng.integers(2, 8, 130)
        of = np.repeat(np.arange(130), sizes)
        hidden = rng.gamma(5, 4, 130)[of]
        y = rng.poisson(hidden)
        f = np.maximum(y + np.round(rng.normal(-2, 3, 130)[of] + rng.normal(0, 1, len(of))), 0)
        old, names = of < 30, of.astype(str)
        given = (y[old], f[old], f[~old], level)
        groups = {"groups": names[old].tolist(), "unlabelled_groups": names[~old].tolist()}
        mean = mean_count(*given, **groups).powered
        total = total_count(*given, **groups).powered
        kept += [mean.low <= 20 <= mean.high, total.low <= y[~old].sum() <= total.high]
    assert (kept / repetitions >= level - 3 * math.sqrt(level * (1 - level) / repetitions)).all()


def test_discount_by_hand() -> None:
    predicted = [0, 1, 2, 6.5]
    np.testing.assert_allclose(chances(predicted, 0.5), [0.05, 0.1, 0.2, 0.65])
    np.testing.assert_allclose(chances([0, 4, 8]), [2 / 14, 4 / 14, 8 / 14])
    np.testing.assert_allclose(chances([0, 0]), [0.5, 0.5])
    one = discount(predicted, [3, 3, 1, 2, 0] * 2, [7, 7, 2, 2, 1] * 2, floor=0.5)
    ratios = np.array([7 / 0.65, 7 / 0.65, 20, 10, 20] * 2)
    assert one.value == pytest.approx(ratios.mean())
    half = student.ppf(0.95, 9) * ratios.std(ddof=1) / math.sqrt(10)
    assert one.high == pytest.approx(one.value + half)
    assert discount(predicted, [3], [7]).abstains is not None
    with pytest.raises(UsageError, match="predicted empty can be drawn"):
        chances(predicted, 0)


def test_discount_covers_a_total_with_pictures_that_are_wrongly_predicted_empty(
    rng: np.random.Generator,
) -> None:
    true = rng.poisson(rng.gamma(1.5, 4, 2000))
    predicted = np.where(rng.random(2000) < 0.05, 0, np.maximum(true + np.round(rng.normal(0, 1, 2000)), 0))
    share, kept, narrow = chances(predicted), [], []
    for _ in range(500):
        drawn = rng.choice(2000, 60, p=share)
        one = discount(predicted, drawn, true[drawn])
        kept.append(one.low <= true.sum() <= one.high)
        narrow.append(one.high - one.low)
    assert np.mean(kept) >= 0.9 - 3 * math.sqrt(0.09 / 500)
    sample = [2000 * 2 * 1.67 * true[rng.choice(2000, 60)].std(ddof=1) / math.sqrt(60) for _ in range(50)]
    assert np.mean(narrow) < 0.6 * np.mean(sample)  # less labelling for the same width


@pytest.mark.parametrize("y, f, others", [([1.0], [1.0, 2.0], [1.0]), ([], [], [1.0]), ([1.0], [1.0], [])])
def test_refuses_columns_that_do_not_fit(y: list[float], f: list[float], others: list[float]) -> None:
    with pytest.raises(UsageError, match="expected one number a picture"):
        mean_count(y, f, others)
