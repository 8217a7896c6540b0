"""How often promises are kept in 500 draws from a population whose truth is known, and in a changed one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import risk_population as population

ALPHA, LEVEL = population.ALPHA, population.LEVEL
LEARNED = ("Learn-then-Test, miss", "Learn-then-Test, miss, Hoeffding–Bentkus", "Learn-then-Test, false")
INTERVALS = (
    "count of a picture, absolute",
    "count of a picture, scaled",
    "total of pictures, blocks",
    "total of pictures, normal",
    "mean, PPI",
    "mean, PPI++",
    "mean, audit alone",
    "total, PPI",
    "total, PPI++",
)
EXPECTED = ("conformal risk control, miss", "conformal risk control, false")


@pytest.fixture(scope="module")
def same() -> population.Pool:
    return population.pool(3000, 1)


@pytest.fixture(scope="module")
def alike(same: population.Pool) -> dict[str, dict[str, Any]]:
    return population.repeat(same, same, 500)


@pytest.fixture(scope="module")
def changed(same: population.Pool) -> dict[str, dict[str, Any]]:
    return population.repeat(same, population.pool(1500, 2, "shifted"), 100)


def rate(found: dict[str, dict[str, Any]], name: str) -> tuple[float, float]:
    """How often a promise that was made was kept, and three standard errors."""
    kept = found[name]["kept"]
    return float(np.nanmean(kept)), 3 * population.error(kept)


@pytest.mark.parametrize("name", [*LEARNED, "Learn-then-Test, count", *INTERVALS])
def test_promises_are_kept_at_their_level(alike: dict[str, dict[str, Any]], name: str) -> None:
    mean, slack = rate(alike, name)
    assert mean >= LEVEL - slack
    assert np.isnan(alike[name]["kept"]).mean() < 0.1  # it does promise


@pytest.mark.parametrize("name", INTERVALS)
def test_intervals_are_not_idly_wide(alike: dict[str, dict[str, Any]], name: str) -> None:
    assert rate(alike, name)[0] < 0.98


def test_learned_thresholds_use_the_room_that_they_have(alike: dict[str, dict[str, Any]]) -> None:
    """`width` is the true risk at the chosen threshold; betting comes closer to α than Hoeffding–Bentkus."""
    found = (
        alike["Learn-then-Test, miss"]["width"],
        alike["Learn-then-Test, miss, Hoeffding–Bentkus"]["width"],
    )
    assert found[1] < found[0] < ALPHA
    assert found[0] > 0.06


@pytest.mark.parametrize("name", EXPECTED)
def test_expected_losses_are_within_alpha_and_near_it(alike: dict[str, dict[str, Any]], name: str) -> None:
    mean, slack = rate(alike, name)
    assert 0.7 * ALPHA < mean <= ALPHA + slack


def test_predictions_make_intervals_narrower(alike: dict[str, dict[str, Any]]) -> None:
    assert alike["mean, PPI++"]["width"] < 0.7 * alike["mean, audit alone"]["width"]
    assert alike["count of a picture, scaled"]["width"] < alike["count of a picture, absolute"]["width"]


def test_the_gate_seldom_trips_where_nothing_changed(alike: dict[str, dict[str, Any]]) -> None:
    mean, slack = rate(alike, "gate")
    assert mean <= 0.05 + slack


@pytest.mark.parametrize("name", [*LEARNED, *INTERVALS])
def test_a_change_breaks_every_promise(changed: dict[str, dict[str, Any]], name: str) -> None:
    mean, slack = rate(changed, name)
    assert mean + slack < LEVEL


@pytest.mark.parametrize("name", EXPECTED)
def test_a_change_breaks_every_expectation(changed: dict[str, dict[str, Any]], name: str) -> None:
    mean, slack = rate(changed, name)
    assert mean - slack > ALPHA


def test_a_change_that_predictions_do_not_show_is_not_seen(same: population.Pool) -> None:
    """The gate's limit, which its docstring states: only labels show a sort of object that is never predicted."""
    found = population.repeat(same, population.pool(1500, 3, "hidden"), 100)
    assert np.nanmean(found["Learn-then-Test, miss"]["kept"]) < 0.1
    assert found["gate"]["kept"].mean() < 0.15


def test_and_the_gate_trips(changed: dict[str, dict[str, Any]]) -> None:
    assert changed["gate"]["kept"].mean() > 0.95
