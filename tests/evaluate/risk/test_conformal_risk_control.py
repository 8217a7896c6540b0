"""Conformal risk control by hand."""

from __future__ import annotations

import numpy as np
import pytest

from apiece.errors import UsageError
from apiece.evaluate.risk import conformal_risk_control

GRID = np.array([0.2, 0.4, 0.6])


def test_the_least_careful_threshold_within_alpha() -> None:
    losses = np.zeros((19, 3))
    losses[0, 1:] = 1
    losses[:2, 2] = 1
    # (19 · mean + 1) / 20 is 0.05, 0.1 and 0.15.
    assert conformal_risk_control(losses, GRID, 0.1).threshold == 0.4
    assert conformal_risk_control(losses, GRID, 0.0999).threshold == 0.2
    assert conformal_risk_control(losses, GRID, 0.15).threshold == 0.6
    high = conformal_risk_control(losses[:, ::-1], GRID, 0.1, start="high")
    assert (high.threshold, high.place, high.passed, high.mean) == (0.4, 1, 2, 1 / 19)


def test_the_bound_counts_for_the_new_picture() -> None:
    losses = np.zeros((19, 3))
    assert conformal_risk_control(losses, GRID, 0.1, bound=2).threshold == 0.6
    assert conformal_risk_control(losses, GRID, 0.1, bound=2.1).threshold is None


def test_losses_that_fall_are_refused_or_made_monotone() -> None:
    losses = np.zeros((39, 3))
    losses[:3, 1] = 1  # (3 + 1) / 40 = 0.1, and 0 beyond
    with pytest.raises(UsageError, match="Remedy: use Learn-then-Test"):
        conformal_risk_control(losses, GRID, 0.1)
    assert conformal_risk_control(losses, GRID, 0.1, envelope=True).threshold == 0.6
    losses[3, 2] = 1  # another picture: the envelope's mean is 4 / 39
    assert conformal_risk_control(losses, GRID, 0.1, envelope=True).threshold == 0.4


def test_abstains_where_pictures_are_too_few_or_the_careful_end_loses_too_much() -> None:
    few = conformal_risk_control(np.zeros((8, 3)), GRID, 0.1)
    assert few.threshold is None
    assert (
        few.abstains == "8 pictures are too few: at least 9 are needed for an expected loss of at most 10 %."
    )
    assert conformal_risk_control(np.zeros((9, 3)), GRID, 0.1).threshold == 0.6
    poor = conformal_risk_control(np.full((50, 3), 0.3), GRID, 0.1)
    assert poor.threshold is None
    assert poor.abstains is not None
    assert "30 %" in poor.abstains
