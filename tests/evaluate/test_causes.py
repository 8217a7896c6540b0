"""Causes of misses: each planted cause is found, in the documented order."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
from planted_failures import messy

from apiece.evaluate.caps import Caps, find_caps
from apiece.evaluate.causes import CAUSES, Causes, causes
from apiece.evaluate.ledger import KINDS, Rules, ledger
from apiece.evaluate.operating import OperatingPoint, Suppression, select
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.scenes import Objects, Scenes

# The package may export a function of the same name.
module = importlib.import_module("apiece.evaluate.causes")

Row = tuple[int, int, float, float, float, float]  # image, label, x, y, width, height
SIDE = 1000


def scenes_of(truth: list[Row], predicted: list[tuple[Row, float]], crowd: tuple[int, ...] = ()) -> Scenes:
    def objects(rows: list[Row], scores: list[float]) -> Objects:
        table = np.array(rows, np.float64).reshape(-1, 6)
        boxes = table[:, 2:]
        area = boxes[:, 2] * boxes[:, 3]
        return Objects(
            table[:, 0].astype(np.int64),
            table[:, 1].astype(np.int64),
            np.array(scores, np.float64),
            np.zeros(len(rows), bool),
            boxes,
            (None,) * len(rows),
            area,
            area,
        )

    true = objects(truth, [1.0] * len(truth))
    true.crowd[list(crowd)] = True
    images = 1 + max([0, *(r[0] for r in truth), *(r[0][0] for r in predicted)])
    return Scenes(
        tuple(range(1, images + 1)),
        ((SIDE, SIDE),) * images,
        ((1, "cell"), (2, "debris")),
        true,
        objects([row for row, _ in predicted], [score for _, score in predicted]),
    )


def causes_of(scenes: Scenes, point: OperatingPoint | None = None, caps: Caps | None = None) -> Causes:
    overlaps = overlaps_of(scenes, "bbox")
    return causes(ledger(overlaps, select(overlaps, point or OperatingPoint(0.5))), caps)


def names(found: Causes) -> list[str]:
    return ["" if c < 0 else CAUSES[c] for c in found.cause]


def far(n: int, size: float = 40, image: int = 0, label: int = 0) -> list[Row]:
    """Objects on a grid, far from each other and from the border."""
    return [(image, label, 100 + 100 * (i % 8), 100 + 100 * (i // 8), size, size) for i in range(n)]


OBJECT: Row = (0, 0, 300, 300, 40, 40)
LIKE: Row = (0, 0, 302, 300, 40, 40)
POOR: Row = (0, 0, 320, 300, 40, 40)
WRONG: Row = (0, 1, 302, 300, 40, 40)


@pytest.mark.parametrize(
    ("predicted", "point", "expected"),
    [
        ([(LIKE, 0.3)], OperatingPoint(0.5), "below threshold"),
        ([(LIKE, 0.6)], OperatingPoint(0.5, {0: 0.7}), "below threshold"),
        ([(LIKE, 0.3), (WRONG, 0.4), (POOR, 0.45)], OperatingPoint(0.5), "below threshold"),
        ([(WRONG, 0.3), (POOR, 0.45)], OperatingPoint(0.5), "wrong class below threshold"),
        ([(POOR, 0.45)], OperatingPoint(0.5), "poor outline below threshold"),
        ([((0, 1, 320, 300, 40, 40), 0.45)], OperatingPoint(0.5), "no candidate"),
        ([((0, 0, 338, 300, 40, 40), 0.45)], OperatingPoint(0.5), "no candidate"),
        ([(LIKE, 0.9)], OperatingPoint(0.5, min_area=2000), "removed as too small"),
        ([(LIKE, 0.9)], OperatingPoint(0.5, cap=0), "cut by the cap"),
        ([(LIKE, 0.9), (LIKE, 0.2)], OperatingPoint(0.5, cap=0), "cut by the cap"),
        ([((0, 0, 800, 800, 40, 40), 0.95), (LIKE, 0.9)], OperatingPoint(0.5, cap=1), "cut by the cap"),
        (
            [((0, 1, 310, 300, 60, 60), 0.9), (LIKE, 0.8)],
            OperatingPoint(0.5, nms=Suppression(0.3, per_class=False)),
            "suppressed by NMS",
        ),
        ([], OperatingPoint(0.5), "no candidate"),
    ],
)
def test_candidates_in_the_file_show_the_cause(
    predicted: list[tuple[Row, float]], point: OperatingPoint, expected: str
) -> None:
    found = causes_of(scenes_of([OBJECT], predicted), point)
    assert names(found) == [expected]
    assert found.counts.sum() == 1
    assert (found.candidate[0] >= 0) == (CAUSES.index(expected) in module.WITH_CANDIDATE)


def test_an_object_at_the_edge_whose_candidate_the_border_rule_dropped() -> None:
    edge: Row = (0, 0, 0, 300, 40, 40)
    found = causes_of(scenes_of([edge], [(edge, 0.9)]), OperatingPoint(0.5, border="drop"))
    assert names(found) == ["removed at the border"]


def test_of_two_right_candidates_the_higher_score_is_named() -> None:
    found = causes_of(scenes_of([OBJECT], [(LIKE, 0.2), (OBJECT, 0.4), (LIKE, 0.3)]))
    assert found.candidate.tolist() == [1]


def test_the_rules_of_the_ledger_decide_what_a_candidate_is() -> None:
    overlaps = overlaps_of(scenes_of([OBJECT], [((0, 0, 310, 300, 40, 40), 0.2)]), "bbox")  # IoU 0.6
    at = select(overlaps, OperatingPoint(0.5))
    assert names(causes(ledger(overlaps, at))) == ["below threshold"]
    assert names(causes(ledger(overlaps, at, Rules(0.7, 0.65)))) == ["no candidate"]
    strict = causes(ledger(overlaps, at, Rules(0.7, 0.5)))
    assert names(strict) == ["poor outline below threshold"]
    assert "0.5 ≤ IoU < 0.7" in strict.definitions["poor outline below threshold"]


def test_suppression_in_the_model_is_likely_beside_a_found_object_of_its_class() -> None:
    beside: Row = (0, 0, 308, 300, 40, 40)  # IoU 0.67
    other_class: Row = (0, 1, 308, 300, 40, 40)
    assert names(causes_of(scenes_of([OBJECT, beside], [(OBJECT, 0.9)]))) == ["", "likely suppressed by NMS"]
    assert names(causes_of(scenes_of([OBJECT, other_class], [(OBJECT, 0.9)]))) == ["", "no candidate"]
    less: Row = (0, 0, 316, 300, 40, 40)  # IoU 0.43
    assert names(causes_of(scenes_of([OBJECT, less], [(OBJECT, 0.9)]))) == ["", "no candidate"]
    assert names(causes_of(scenes_of([OBJECT, beside], []))) == ["no candidate"] * 2


def test_a_cut_is_likely_where_an_image_stops_at_the_suspected_number() -> None:
    truth = far(30) + far(30, image=1) + far(20, image=2)
    predicted = [(row, 0.9) for row in far(20) + far(20, image=1) + far(19, image=2)]
    scenes = scenes_of(truth, predicted)
    assert find_caps(scenes).suspected == 20
    found = causes_of(scenes)
    assert [CAUSES[c] for c in found.cause if c >= 0] == ["likely cut by the cap"] * 20 + ["no candidate"]
    nothing = Caps(**{**find_caps(scenes).__dict__, "suspected": None})
    assert causes_of(scenes, caps=nothing).counts[module.LIKELY_CUT] == 0
    # What a cap cut scores less than what it left: below the threshold it would not count either.
    scenes.predicted.scores[[0, 20]] = 0.1
    found = causes_of(scenes, OperatingPoint(0.5))
    assert find_caps(scenes).suspected == 20
    assert found.counts[module.LIKELY_CUT] == 0


def test_too_small_in_pixels() -> None:
    truth = [*far(3), (0, 0, 900, 900, 7, 9)]
    found = causes_of(scenes_of(truth, [(row, 0.9) for row in far(2)]))
    assert names(found) == ["", "", "no candidate", "too small"]
    assert causes_of(scenes_of([(0, 0, 900, 900, 8, 8)], [])).counts[module.TOO_SMALL] == 0
    tiny = far(6, size=7)  # missed as often as others: then their size explains nothing
    others = far(6, image=1)
    found = causes_of(scenes_of(tiny + others, [(row, 0.9) for row in tiny[:3] + others[:3]]))
    assert found.counts[module.TOO_SMALL] == 0


@pytest.mark.parametrize(
    ("hits", "expected"), [(3, ["too small"] * 9), (8, ["no candidate"] * 4)], ids=["rare", "usual"]
)
def test_too_small_for_this_model(hits: int, expected: list[str]) -> None:
    """Sizes of which less than half as many are found as of all; big ones are never too small."""
    large, small = far(24), far(12, size=20, image=1)
    found = causes_of(scenes_of(large + small, [(row, 0.9) for row in large + small[:hits]]))
    assert [n for n in names(found) if n] == expected
    found = causes_of(scenes_of(large + small, [(row, 0.9) for row in large[:1] + small]))
    assert set(names(found)) == {"", "no candidate"}


def test_crowded_only_if_such_objects_are_missed_more_often() -> None:
    def cluster(x: float, y: float, step: float) -> list[Row]:
        return [(0, 0, x + step * (i % 2), y + step * (i // 2), 40, 40) for i in range(4)]

    lone = far(6)
    close = cluster(600, 600, 45)
    found = causes_of(scenes_of(lone + close, [(row, 0.9) for row in lone]))
    assert names(found) == [""] * 6 + ["crowded"] * 4
    apart = cluster(600, 600, 55)  # gaps of 15 pixels, above 0.25 × 40
    found = causes_of(scenes_of(lone + apart, [(row, 0.9) for row in lone]))
    assert names(found) == [""] * 6 + ["no candidate"] * 4
    found = causes_of(scenes_of(lone + close, [(row, 0.9) for row in close[:3]]))
    assert names(found) == ["no candidate"] * 6 + [""] * 3 + ["no candidate"]
    found = causes_of(scenes_of([*lone, *close[:3], close[3]], [(row, 0.9) for row in lone], crowd=(9,)))
    assert names(found)[6:9] == ["no candidate"] * 3  # a crowd region is no neighbour


def test_at_the_border_only_if_such_objects_are_missed_more_often() -> None:
    edge: list[Row] = [(0, 0, 0, 100 * i, 40, 40) for i in range(1, 4)]
    found = causes_of(scenes_of(far(5) + edge, [(row, 0.9) for row in far(5)]))
    assert names(found) == [""] * 5 + ["at the border"] * 3
    assert found.found_share[module.AT_BORDER] == 0
    found = causes_of(scenes_of(far(5) + edge, [(row, 0.9) for row in edge[:2]]))
    assert names(found) == ["no candidate"] * 5 + ["", "", "no candidate"]


@pytest.mark.parametrize(("missed", "expected"), [(7, "no candidate"), (8, "at the border")])
def test_more_often_means_half_as_often_again(missed: int, expected: str) -> None:
    """Of 20 objects inside 5 are missed, so that more than 7.5 of 20 at the border must be."""
    edge: list[Row] = [(1, 0, 0, 45 * i + 60, 40, 40) for i in range(20)]
    inside = far(20)
    found = causes_of(scenes_of(inside + edge, [(row, 0.9) for row in inside[5:] + edge[missed:]]))
    assert set(names(found)) - {""} == {"no candidate", expected}
    assert names(found)[20] == expected


def plain_neighbours(scenes: Scenes, found: np.ndarray) -> tuple[list[int], list[bool]]:
    truth = scenes.truth
    counts, overlapped = [0] * len(truth), [False] * len(truth)
    for i in range(len(truth)):
        for j in range(len(truth)):
            if i == j or truth.images[i] != truth.images[j] or truth.crowd[i] or truth.crowd[j]:
                continue
            x, y, w, h = truth.boxes[i]
            a, b, c, d = truth.boxes[j]
            dx, dy = max(a - x - w, x - a - c, 0), max(b - y - h, y - b - d, 0)
            counts[i] += (dx * dx + dy * dy) ** 0.5 <= module.CLOSE * (w * h) ** 0.5
            both = max(min(x + w, a + c) - max(x, a), 0) * max(min(y + h, b + d) - max(y, b), 0)
            same = truth.labels[i] == truth.labels[j] and found[j]
            overlapped[i] |= bool(same and both / (w * h + c * d - both) >= module.SUPPRESSING_IOU)
    return counts, overlapped


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_neighbours_equal_the_plain_count(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(4)
    rows: list[Row] = [
        (int(rng.integers(4)), int(rng.integers(2)), *rng.uniform(0, 80, 2), *rng.uniform(5, 60, 2))
        for _ in range(60)
    ]
    scenes = scenes_of(rows, [], crowd=(3, 17))
    found = (rng.random(60) < 0.6) & ~scenes.truth.crowd
    beside, suppressing = module._neighbours(overlaps_of(scenes, "bbox"), found)
    assert (beside.tolist(), suppressing.tolist()) == plain_neighbours(scenes, found)
    assert suppressing.any()


@pytest.mark.parametrize("seed", range(4))
def test_every_miss_has_one_cause_and_nothing_else_has(seed: int) -> None:
    overlaps = overlaps_of(messy(np.random.default_rng(seed), 60))
    made = ledger(overlaps, select(overlaps, OperatingPoint(0.4, nms=Suppression(0.3), cap=5, border="drop")))
    found = causes(made)
    missed = made.truth_kind == KINDS.index("missed")
    np.testing.assert_array_equal(found.cause >= 0, missed)
    assert found.counts.sum() == missed.sum()
    np.testing.assert_array_equal(found.by_class.sum(axis=0), found.counts)
    with_candidate = np.isin(found.cause, list(module.WITH_CANDIDATE))
    np.testing.assert_array_equal(found.candidate >= 0, with_candidate)
    assert found.without_candidate == pytest.approx(1 - with_candidate.sum() / missed.sum())
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["total"] == missed.sum() == sum(row["missed"] for row in told["causes"])
    assert [row["cause"] for row in told["causes"]] == list(CAUSES)
    assert sum(row["share"] for row in told["causes"]) == pytest.approx(1)
    assert sum(row["missed"] for row in told["by_class"]) == missed.sum()
    assert not any("{" in row["definition"] for row in told["causes"])


def test_a_size_of_few_objects_says_nothing() -> None:
    large, small = far(24), far(module.FEWEST - 1, size=20, image=1)
    assert set(names(causes_of(scenes_of(large + small, [(row, 0.9) for row in large])))) == {
        "",
        "no candidate",
    }
    small = far(module.FEWEST, size=20, image=1)
    assert set(names(causes_of(scenes_of(large + small, [(row, 0.9) for row in large])))) == {"", "too small"}


def test_nothing_missed_and_nothing_there() -> None:
    for scenes in (scenes_of([OBJECT], [(OBJECT, 0.9)]), scenes_of([], [(OBJECT, 0.9)]), scenes_of([], [])):
        found = causes_of(scenes)
        assert found.counts.tolist() == [0] * len(CAUSES)
        told = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert (told["total"], told["without_candidate"], told["note"]) == (0, None, None)
        assert {row["share"] for row in told["causes"]} == {None}


def test_says_when_the_file_holds_no_candidates() -> None:
    assert "no prediction below the operating point" in str(causes_of(scenes_of([OBJECT], [])).note)
    assert causes_of(scenes_of([OBJECT], [(LIKE, 0.1)])).note is None
    without_scores = scenes_of([OBJECT, *far(2)], [(row, 1.0) for row in far(2)])
    assert "only likely" in str(causes_of(without_scores).note)
    assert "Remedy" not in str(causes_of(without_scores).note)
