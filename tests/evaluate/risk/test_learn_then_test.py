"""Learn-then-Test: p-values by hand, the order of tests, and when it abstains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from apiece.errors import UsageError
from apiece.evaluate.risk.learn_then_test import (
    betting,
    exact_binomial,
    fewest,
    fixed_sequence,
    hoeffding_bentkus,
    learn_then_test,
    pooled,
)

GRID = np.array([0.2, 0.4, 0.6])


def test_hoeffding_bentkus_without_loss_is_a_power() -> None:
    assert hoeffding_bentkus(np.zeros(1), 30, 0.1)[0] == pytest.approx(0.9**30)


def test_hoeffding_bentkus_is_the_smaller_of_both_bounds() -> None:
    n, alpha, mean = 100, 0.1, 0.04
    kl = mean * math.log(mean / alpha) + (1 - mean) * math.log((1 - mean) / (1 - alpha))
    expected = min(math.exp(-n * kl), math.e * binom.cdf(4, n, alpha))
    assert hoeffding_bentkus(np.array([mean]), n, alpha)[0] == pytest.approx(expected)
    assert hoeffding_bentkus(np.array([0.5]), n, alpha)[0] == 1


def test_a_sum_that_is_not_quite_whole_counts_as_whole() -> None:
    assert (
        hoeffding_bentkus(np.array([0.1 + 0.2]) / 3, 30, 0.3)[0]
        == hoeffding_bentkus(np.array([0.1]), 30, 0.3)[0]
    )


def test_exact_binomial() -> None:
    assert exact_binomial(np.array([3 / 50]), 50, 0.2)[0] == pytest.approx(binom.cdf(3, 50, 0.2))


def test_betting_by_hand() -> None:
    """Two equal losses: the order doesn't matter."""
    alpha, delta, loss, n = 0.5, 0.1, 0.2, 2
    first_bet = min(math.sqrt(2 * math.log(1 / delta) / (n * 0.25)), 1)
    centre = (0.5 + loss) / 2
    spread = (0.25 + (loss - centre) ** 2) / 2
    second_bet = min(math.sqrt(2 * math.log(1 / delta) / (n * spread)), 1)
    capital = [1 - first_bet * (loss - alpha)]
    capital.append(capital[0] * (1 - second_bet * (loss - alpha)))
    assert betting(np.full((2, 1), loss), alpha, delta)[0] == pytest.approx(1 / max(capital))
    assert betting(np.ones((5, 1)), alpha, delta)[0] == 1


@pytest.mark.parametrize("name", ["betting", "hoeffding", "binomial"])
@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_p_values_are_rarely_small_at_the_edge(name: str, alpha: float, rng: np.random.Generator) -> None:
    """Risk exactly α: p ≤ δ in at most a share δ of draws; losses of 0 and 1 are the hardest, and correlated ones."""
    draws, n, delta = 4000, 80, 0.1
    kinds = [(rng.random((n, draws)) < alpha).astype(float)]
    if name != "binomial":
        kinds.append(rng.beta(alpha * 2, (1 - alpha) * 2, (n, draws)))
        kinds.append(rng.beta(alpha * 30, (1 - alpha) * 30, (n, draws)))
    for losses in kinds:
        if name == "betting":
            p = betting(losses, alpha, delta)
        elif name == "hoeffding":
            p = hoeffding_bentkus(losses.mean(axis=0), n, alpha)
        else:
            p = exact_binomial(losses.mean(axis=0), n, alpha)
        for level in (0.05, 0.1, 0.3):
            assert np.mean(p <= level) <= level + 3 * math.sqrt(level * (1 - level) / draws)
    if name == "binomial":
        assert np.mean(p <= 0.3) > 0.15  # exact, so not much less either


def test_betting_has_power_where_losses_vary_little(rng: np.random.Generator) -> None:
    losses = rng.beta(2, 38, (133, 1))  # mean 0.05, standard deviation 0.034
    assert betting(losses, 0.1, 0.1)[0] < 0.1 < hoeffding_bentkus(losses.mean(axis=0), 133, 0.1)[0] * 2


def test_a_fixed_sequence_ends_at_the_first_that_stands() -> None:
    assert fixed_sequence(np.array([0.01, 0.1, 0.2, 0.001]), 0.1) == 2
    assert fixed_sequence(np.array([0.01, 0.02]), 0.1) == 2
    assert fixed_sequence(np.array([0.5, 0.01]), 0.1) == 0
    assert fixed_sequence(np.array([np.nan, 0.01]), 0.1) == 0


@pytest.mark.parametrize("test", ["betting", "hoeffding-bentkus", "binomial"])
def test_from_either_end_the_last_that_passes_is_chosen(test: str) -> None:
    losses = np.zeros((60, 3))
    losses[:40, 2] = 1
    low = learn_then_test(losses, GRID, 0.1, 0.1, start="low", test=test)  # type: ignore[arg-type]
    assert (low.threshold, low.place, low.passed, low.abstains) == (0.4, 1, 2, None)
    high = learn_then_test(losses[:, ::-1], GRID, 0.1, 0.1, start="high", test=test)  # type: ignore[arg-type]
    assert (high.threshold, high.place, high.passed) == (0.4, 1, 2)
    # What fails at the careful end ends the search, though less careful thresholds would pass.
    none = learn_then_test(losses, GRID, 0.1, 0.1, start="high", test=test)  # type: ignore[arg-type]
    assert none.threshold is None
    assert none.abstains is not None
    assert "0.6" in none.abstains
    assert none.mean == pytest.approx(40 / 60)


def test_bonferroni_takes_the_least_mean_loss_of_those_that_pass() -> None:
    losses = np.zeros((60, 3))
    losses[:2, 0], losses[:1, 1], losses[:30, 2] = 1, 1, 1
    choice = learn_then_test(losses, GRID, 0.2, 0.1, start=None, test="binomial")
    p = binom.cdf([2, 1, 30], 60, 0.2)
    assert (p <= 0.1 / 3).tolist() == [True, True, False]
    assert (choice.threshold, choice.passed, choice.p) == (0.4, 2, pytest.approx(p[1]))
    # 0.1 alone would do for one test, not for one of three.
    edge = np.zeros((25, 3))
    assert learn_then_test(edge, GRID, 0.1, 0.1, start="low", test="binomial").threshold == 0.6
    assert learn_then_test(edge, GRID, 0.1, 0.1, start=None, test="binomial").threshold is None


def test_abstains_where_even_no_loss_would_not_do() -> None:
    assert fewest(0.1, 0.1, "hoeffding-bentkus") == 22
    few = learn_then_test(np.zeros((21, 3)), GRID, 0.1, 0.1, test="hoeffding-bentkus")
    assert few.threshold is None
    assert few.abstains is not None
    assert "21 pictures are too few" in few.abstains
    assert "22 are needed" in few.abstains
    assert learn_then_test(np.zeros((22, 3)), GRID, 0.1, 0.1, test="hoeffding-bentkus").threshold == 0.6
    needed = fewest(0.1, 0.1)
    assert learn_then_test(np.zeros((needed - 1, 3)), GRID, 0.1, 0.1).threshold is None
    assert learn_then_test(np.zeros((needed, 3)), GRID, 0.1, 0.1).threshold == 0.6


def test_pooled_losses_are_bounded_and_centred() -> None:
    part, whole = np.array([[0.0, 1.0], [10.0, 10.0]]), np.array([[4.0], [10.0]])
    losses = pooled(part, whole, 0.1, 20)
    np.testing.assert_allclose(losses, [[0.08, 0.13], [0.55, 0.55]])
    exact = pooled(np.array([[1.0], [1.0]]), np.array([[5.0], [15.0]]), 0.1, 20)
    assert exact.mean() == pytest.approx(0.1)  # 2 of 20 are missed
    with pytest.raises(UsageError, match=r"at most 9 were declared.*Remedy"):
        pooled(part, whole, 0.1, 9)


@pytest.mark.parametrize(
    "losses, alpha, delta, message",
    [
        (np.full((3, 3), 1.5), 0.1, 0.1, "numbers from 0 to 1"),
        (np.full((3, 3), np.nan), 0.1, 0.1, "numbers from 0 to 1"),
        (np.zeros((3, 2)), 0.1, 0.1, "shape"),
        (np.zeros((0, 3)), 0.1, 0.1, "shape"),
        (np.zeros((3, 3)), 1.0, 0.1, "alpha"),
        (np.zeros((3, 3)), 0.1, 0.0, "delta"),
    ],
)
def test_refuses_what_cannot_be_meant(losses: np.ndarray, alpha: float, delta: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        learn_then_test(losses, GRID, alpha, delta)


def test_the_binomial_test_refuses_losses_between() -> None:
    with pytest.raises(UsageError, match="0 or 1 only"):
        learn_then_test(np.full((40, 3), 0.5), GRID, 0.1, 0.1, test="binomial")
