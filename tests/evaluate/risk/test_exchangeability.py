"""The drift gate and the comparison within labelled pictures: planted changes trip them, nothing else often does."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from apiece.errors import UsageError
from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.risk import Summaries, alike, drift_gate, summaries
from apiece.evaluate.risk.exchangeability import _between, _corrected, _distances
from apiece.evaluate.scenes import Objects, Scenes


def test_summaries_of_pictures_by_hand() -> None:
    def columns(image: list[int], scores: list[float], side: float) -> Objects:
        n = len(image)
        boxes = np.column_stack([np.arange(n) * 20.0, np.zeros(n), np.full(n, side), np.full(n, side)])
        return Objects(
            np.array(image, np.int64), np.zeros(n, np.int64), np.array(scores), np.zeros(n, np.bool_), boxes,
            (None,) * n, np.full(n, side**2), np.full(n, side**2),
        )  # fmt: skip

    scenes = Scenes(
        (1, 2, 3),
        ((50, 200),) * 3,
        ((1, "a"),),
        columns([0], [1], 5),
        columns([0, 0, 0, 1], [0.9, 0.55, 0.45, 0.1], 6),
    )
    found = summaries(overlaps_of(scenes, "bbox"), OperatingPoint(0.5), ["x", "x", "y"])
    np.testing.assert_array_equal(found.count, [2, 0, 0])
    np.testing.assert_allclose(found.columns["mean score"], [0.725, np.nan, np.nan])
    np.testing.assert_allclose(found.columns["mean size"], [6, np.nan, np.nan])
    np.testing.assert_allclose(found.columns["share near the threshold"], [2 / 3, 0, np.nan])
    assert found.groups == ("x", "x", "y")


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_scipys(seed: int) -> None:
    r = np.random.default_rng(seed)
    values, labels = r.integers(0, 6, 70).astype(float), r.random((4, 70)) < 0.4
    expected = [ks_2samp(values[label], values[~label]).statistic for label in labels]
    np.testing.assert_allclose(_distances(values, labels), expected)
    hidden = np.where(values == 5, np.nan, values)
    expected = [
        ks_2samp(v[label], v[~label]).statistic
        for label in labels
        for v in [np.where(values == 5, -1, values)]
    ]
    np.testing.assert_allclose(_distances(hidden, labels), expected)


def test_share_of_ranks_variance_by_hand() -> None:
    values, codes = np.array([1.0, 2, 3, 4, 9]), np.array([[0, 0, 1, 1, -1], [0, 1, 0, 1, -1]])
    # Ranks 1 to 4: variance sum 5; between 4 · 1² = 4, or 4 · 0.5² = 1.
    np.testing.assert_allclose(_between(values, codes, 2), [4 / 5, 1 / 5])
    np.testing.assert_array_equal(_between(np.ones(5), codes, 2), [0, 0])


def test_holms_correction() -> None:
    rows = [(str(p), 0.0, {}, p) for p in (0.04, 0.01, 0.5, 0.03)]
    assert [test.adjusted for test in _corrected(rows)] == pytest.approx([0.09, 0.04, 0.5, 0.09])


def normal(
    r: np.random.Generator, n: int, shift: float = 0, groups: bool = False, name: str = ""
) -> Summaries:
    """Counts of pictures; with groups of 5 they share most of their deviation."""
    of = np.arange(n) // 5
    base = r.normal(0, 3, n) + (r.normal(0, 6, n)[of] if groups else 0)
    count = np.maximum(np.round(20 + shift + base), 0)
    return Summaries(
        count,
        {"mean score": r.beta(8, 3, n), "mean size": np.where(r.random(n) < 0.2, np.nan, r.normal(30, 4, n))},
        tuple(f"{name}{i}" for i in of) if groups else None,
    )


@pytest.mark.parametrize("groups", [False, True])
def test_false_alarms_are_as_rare_as_stated(groups: bool, rng: np.random.Generator) -> None:
    level, repetitions = 0.1, 500
    tripped = [
        drift_gate(
            normal(rng, 100, groups=groups, name="a"),
            normal(rng, 60, groups=groups, name="b"),
            level,
            draws=99,
            seed=i,
        ).tripped
        for i in range(repetitions)
    ]
    slack = 3 * math.sqrt(level * (1 - level) / repetitions)
    assert 0.02 < np.mean(tripped) <= level + slack


def test_blind_to_groups_the_gate_would_trip_too_often(rng: np.random.Generator) -> None:
    tripped = []
    for i in range(200):
        parts = [normal(rng, n, groups=True) for n in (100, 60)]
        tripped.append(
            drift_gate(*(Summaries(p.count, p.columns) for p in parts), 0.1, draws=99, seed=i).tripped
        )
    assert np.mean(tripped) > 0.25


def test_a_planted_shift_trips_and_says_what(rng: np.random.Generator) -> None:
    gate = drift_gate(normal(rng, 100), normal(rng, 60, shift=6))
    assert gate.tripped
    assert gate.sentence.startswith(
        "The promises are withdrawn: live pictures are not like the audited ones in predicted"
    )
    first = gate.tests[0]
    assert (first.what, first.adjusted) == ("predicted count", pytest.approx(3 / 500))
    assert first.means["live"] - first.means["audited"] == pytest.approx(6, abs=2)  # type: ignore[operator]
    assert first.distance > 0.4
    document = json.loads(json.dumps(gate.to_json(), allow_nan=False))
    assert document["tripped"] is True
    assert document["units"] == {"audited": 100, "live": 60}


def test_empty_pictures_are_seen(rng: np.random.Generator) -> None:
    """Pictures without predictions have no mean score; that there are more of them is a change."""
    one, other = normal(rng, 100), normal(rng, 100)
    size = np.where(rng.random(100) < 0.8, np.nan, other.columns["mean size"])
    gate = drift_gate(one, Summaries(other.count, {**other.columns, "mean size": size}))
    assert [test.what for test in gate.tests if test.adjusted <= 0.05] == ["mean size"]


def test_too_few_units_are_not_tested(rng: np.random.Generator) -> None:
    few = drift_gate(normal(rng, 40), normal(rng, 1, shift=50))
    assert not few.tripped
    assert few.abstains is not None
    assert "40 audited and 1 live pictures are too few" in few.abstains
    assert drift_gate(normal(rng, 40), normal(rng, 2, shift=50)).tripped


def test_groups_on_one_side_only_are_not_tested(rng: np.random.Generator) -> None:
    gate = drift_gate(normal(rng, 40, groups=True), normal(rng, 40, shift=50))
    assert not gate.tripped
    assert gate.abstains == "audited pictures come in groups, live ones without; pictures can't be permuted."


def test_a_group_with_audited_and_live_pictures_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(UsageError, match=r"group 'a0' has audited and live pictures.*Remedy"):
        drift_gate(normal(rng, 40, groups=True, name="a"), normal(rng, 40, groups=True, name="a"))


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="'mean score': 3"):
        Summaries(np.zeros(4), {"mean score": np.zeros(3)})


def test_many_pictures_are_compared_quickly_enough_to_count(rng: np.random.Generator) -> None:
    """The number of permutations of 6,000 pictures exceeds what a float holds."""
    assert not drift_gate(normal(rng, 4000), normal(rng, 2000), draws=99).tripped


def test_a_trend_in_file_order_is_found(rng: np.random.Generator) -> None:
    residual = np.round(rng.normal(0, 2, 120))
    assert not alike(residual).tripped
    trend = alike(residual + np.arange(120) / 20)
    assert trend.tripped
    assert trend.kind == "within"
    assert "by file order" in trend.sentence
    assert "'second half'" in trend.sentence


def test_a_column_is_found_and_unknown_or_rare_values_are_left_out(rng: np.random.Generator) -> None:
    camera = rng.permutation(["left", "right", "", "rare"] * 30)
    camera[np.flatnonzero(camera == "rare")[4:]] = "left"
    residual = np.round(rng.normal(0, 2, 120)) + 3 * (camera == "right") + 50 * (camera == "rare")
    found = alike(residual, {"camera": camera.tolist(), "same": ["x"] * 120})
    assert [test.what for test in found.tests] == ["file order", "camera"]
    assert found.tripped
    assert set(found.tests[1].means) == {"left", "right"}
    assert "by camera" in found.sentence
    assert "'right'" in found.sentence


def test_labelled_pictures_that_are_alike_seldom_trip(rng: np.random.Generator) -> None:
    repetitions, level, tripped = 500, 0.1, []
    for i in range(repetitions):
        of = np.repeat(np.arange(30), 4)
        residual = np.round(rng.normal(0, 2, 120) + rng.normal(0, 3, 30)[of])
        plate = rng.choice(["a", "b", "c"], 30)[of].tolist()
        found = alike(
            residual, {"plate": plate}, groups=of.astype(str).tolist(), level=level, draws=99, seed=i
        )
        assert len(found.tests) == 2
        tripped.append(found.tripped)
    assert np.mean(tripped) <= level + 3 * math.sqrt(level * (1 - level) / repetitions)


def test_a_column_that_differs_within_a_group_is_left_out(rng: np.random.Generator) -> None:
    found = alike(rng.normal(0, 1, 40), {"hour": ["am", "pm"] * 20}, groups=[str(i // 2) for i in range(40)])
    assert [test.what for test in found.tests] == ["file order"]
    assert alike(np.arange(4.0)).abstains is not None
