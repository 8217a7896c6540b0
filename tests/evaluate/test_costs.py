"""Costs: every repair against figures worked out by hand, and what must hold on any scene."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pycocotools_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.evaluate.bootstrap import percentiles, resamples
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.costs import costs, entries_of
from apiece.evaluate.drawn_precision import Ranked, drawn_precisions
from apiece.evaluate.ledger import DUPLICATE, IGNORED, KINDS, SPURIOUS, ledger
from apiece.evaluate.operating import OperatingPoint, Suppression, select
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.replay import average_precisions, precision_of
from apiece.evaluate.scenes import Objects, Scenes

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")


def scenes_of_boxes(truth, found, images=1, classes=1, crowd=()):
    """Scenes from (image, class, x, y, width, height) and, for predictions, a score."""

    def objects(rows, width):
        table = np.array(rows, float).reshape(len(rows), width)
        areas = table[:, 4] * table[:, 5]
        return Objects(
            table[:, 0].astype(np.int64),
            table[:, 1].astype(np.int64),
            table[:, 6] if width == 7 else np.ones(len(rows)),
            np.isin(np.arange(len(rows)), crowd if width == 6 else ()),
            table[:, 2:6],
            (None,) * len(rows),
            areas,
            areas,
        )

    names = tuple((c + 1, f"class {c}") for c in range(classes))
    ids = tuple(range(1, images + 1))
    return Scenes(ids, ((100, 200),) * images, names, objects(truth, 6), objects(found, 7))


def ledger_of_boxes(truth, found, point=None, **others):
    overlaps = overlaps_of(scenes_of_boxes(truth, found, **others), "bbox")
    return ledger(overlaps, select(overlaps, point or OperatingPoint(0.5)))


def costed(made, **others):
    images = len(made.overlaps.scenes.image_ids)
    return costs(made, resamples(images, draws=20), **others)


def cost_of(made, kind):
    return next(cost for cost in costed(made).kinds if cost.kind == kind)


A, B, C = (0, 0, 0, 0, 10, 10), (0, 0, 50, 0, 10, 10), (0, 0, 100, 0, 10, 10)


def found(box, score, label=0, moved=0):
    return (box[0], label, box[2] + moved, *box[3:], score)


HALF = 51 / 101  # AP where half of the objects are found at precision 1

# kind: true objects, predictions, classes; gain in AP50, change of count, of gross error, true and predicted area
BY_HAND = {
    "loose": ([A, B], [found(A, 0.9), found(B, 0.8, moved=4)], 1, (1 - HALF, 0, 0, 100, 100)),
    # Class 0 has nothing, then all; in class 1 the false alarm above the true positive goes: 1/2 to 1.
    "confused": (
        [A, (0, 1, *B[2:])],
        [found(A, 0.9, label=1), found(B, 0.8, label=1)],
        2,
        ((1 + 0.5) / 2, 0, 0, 100, 100),
    ),
    # True, false, true: precision 2/3 from recall 1/2 on.
    "duplicate": ([A, B], [found(A, 0.9), found(A, 0.8), found(B, 0.7)], 1, (50 / 101 / 3, -1, -1, 0, 100)),
    "spurious": ([A], [found(B, 0.9), found(A, 0.8)], 1, (0.5, -1, -1, 0, 100)),
    # One box over three objects: IoU 1/3 with each.
    "merged": (
        [A, (0, 0, 10, 0, 10, 10), (0, 0, 20, 0, 10, 10)],
        [(0, 0, 0, 0, 30, 10, 0.9)],
        1,
        (1, 2, -2, 300, 300),
    ),
    # Parts of IoU 0.4 and 0.45: the better one, of lower score, becomes right, the other goes.
    "split": (
        [(0, 0, 0, 0, 20, 10)],
        [(0, 0, 0, 0, 8, 10, 0.9), (0, 0, 10, 0, 9, 10, 0.8)],
        1,
        (1, -1, -1, 200, 170),
    ),
    # The first finds one object and covers most of the other, in which the second lies.
    "tangled": (
        [A, (0, 0, 10, 0, 10, 10)],
        [(0, 0, 0, 0, 16, 10, 0.9), (0, 0, 16, 0, 4, 10, 0.8)],
        1,
        (1 - HALF, 0, 0, 200, 200),
    ),
    "missed": ([A, B], [found(A, 0.9)], 1, (1 - HALF, 1, -1, 100, 0)),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_each_repair_by_hand(kind):
    truth, predicted, classes, (gain, count, gross, area, predicted_area) = BY_HAND[kind]
    made = costed(ledger_of_boxes(truth, predicted, classes=classes))
    cost = next(cost for cost in made.kinds if cost.kind == kind)
    assert cost.entries == 1
    assert cost.AP50.value == pytest.approx(gain, abs=1e-12)
    assert (cost.count.value, cost.gross.value) == (count, gross)
    assert (cost.area.value, cost.predicted_area.value) == (area, predicted_area)
    assert cost.area_change.value == area - predicted_area
    others = [other for other in made.kinds if other.kind != kind]
    assert all(other.entries == other.AP50.value == other.count.value == 0 for other in others)
    assert made.all_repaired.value == pytest.approx(1)


def test_the_later_part_of_a_split_object_takes_its_own_score():
    # A false alarm between the parts: the better part is below it.
    truth, parts = BY_HAND["split"][:2]
    cost = cost_of(ledger_of_boxes(truth, [*parts, (0, 0, 100, 50, 10, 10, 0.85)]), "split")
    assert cost.AP50.value == pytest.approx(0.5)


def test_the_part_that_average_precision_counts_stays_the_true_positive():
    # The first, of IoU 0.5, takes the object; the second, of IoU 0.55, comes after a false alarm.
    parts = [(0, 0, 0, 0, 10, 10, 0.9), (0, 0, 100, 50, 10, 10, 0.85), (0, 0, 9, 0, 11, 10, 0.8)]
    made = ledger_of_boxes([(0, 0, 0, 0, 20, 10)], parts)
    assert cost_of(made, "split").AP50.value == 0
    assert cost_of(made, "split").count.value == -1


def test_a_tangle_gives_as_many_true_positives_as_objects():
    truth, parts = BY_HAND["tangled"][:2]
    third = (0, 0, 12, 6, 8, 4, 0.95)  # another part of the second object, above all others
    made = ledger_of_boxes(truth, [*parts, third])
    cost = cost_of(made, "tangled")
    assert (cost.objects, cost.predictions, cost.count.value) == (2, 3, -1)
    assert costed(made).AP50.value == pytest.approx(51 / 101 / 2)  # false, true, false
    assert cost.AP50.value == pytest.approx(1 - 51 / 101 / 2)


def test_an_object_that_no_part_of_a_tangle_is_about_goes_to_the_part_left_over():
    # The first lies half in each object and is loosely about the second, of which the other is a part too.
    parts = [(0, 0, 4, 0, 12, 10, 0.9), (0, 0, 100, 50, 10, 10, 0.85), (0, 0, 16, 0, 3, 10, 0.8)]
    made = ledger_of_boxes([A, (0, 0, 10, 0, 10, 10)], parts)
    cost = cost_of(made, "tangled")
    assert (cost.entries, cost.objects, cost.predictions) == (1, 2, 2)
    assert cost.AP50.value == pytest.approx((51 + 50 * 2 / 3) / 101)  # true, false, true


def test_a_merged_prediction_of_two_that_fits_one_gains_the_other():
    made = ledger_of_boxes([A, (0, 0, 10, 0, 10, 10)], [(0, 0, 0, 0, 20, 10, 0.9)])
    cost = cost_of(made, "merged")
    assert cost.AP50.value == pytest.approx(1 - HALF)
    assert (cost.count.value, cost.gross.value) == (1, -1)


def test_an_object_that_a_candidate_below_the_threshold_finds_costs_the_count_only():
    made = ledger_of_boxes([A, B], [found(A, 0.9), found(C, 0.4), found(B, 0.3)])
    cost = cost_of(made, "missed")
    assert (cost.objects, cost.AP50.value, cost.count.value) == (1, 0, 1)


def test_a_candidate_below_the_threshold_gives_its_object_to_the_repaired_prediction():
    # True, false, true (below the threshold), one not found: after the repair, true, true, and the third left out.
    predictions = [found(A, 0.9), found(B, 0.8, moved=4), found(B, 0.3)]
    made = ledger_of_boxes([A, B, C], predictions)
    assert costed(made).AP50.value == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert cost_of(made, "loose").AP50.value == pytest.approx(33 / 101 / 3)
    assert costed(made).all_repaired.value == pytest.approx(1)


def test_a_candidate_below_its_own_threshold_that_ranks_higher_keeps_its_object():
    # Class 1 has the higher threshold: its candidate of 0.8 is below, the confused one of class 0 counts.
    truth = [(0, 1, *A[2:]), B]
    predictions = [found(A, 0.8, label=1), found(C, 0.7, label=1), found(A, 0.6), found(B, 0.55)]
    made = ledger_of_boxes(truth, predictions, OperatingPoint(0.5, {1: 0.9}), classes=2)
    cost = cost_of(made, "confused")
    assert cost.entries == 1
    assert cost.AP50.value == pytest.approx(
        0.25
    )  # class 0: 1/2 to 1; class 1 stays at 1, above its false alarm


def test_what_suppression_takes_away_is_not_in_average_precision():
    predictions = [found(A, 0.9), found(A, 0.8), found(B, 0.7)]
    made = ledger_of_boxes([A, B], predictions, OperatingPoint(0.5, nms=Suppression(0.5)))
    assert costed(made).AP50.value == pytest.approx(1)


def test_perfect_predictions_cost_nothing():
    made = costed(ledger_of_boxes([A, B, C], [found(box, 0.9) for box in (A, B, C)]))
    assert made.AP50.value == made.all_repaired.value == pytest.approx(1)
    for cost in made.kinds:
        assert (cost.entries, cost.AP50.value, cost.count.value, cost.gross.value) == (0, 0, 0, 0)


def test_gains_of_kinds_do_not_sum():
    # A loose mask under a false alarm: each repair alone leaves half of the loss in place.
    made = costed(ledger_of_boxes([A], [found(B, 0.9), found(A, 0.8, moved=4)]))
    gains = {cost.kind: cost.AP50.value for cost in made.kinds}
    assert gains["loose"] == pytest.approx(0.5)
    assert gains["spurious"] == 0
    assert made.all_repaired.value - made.AP50.value == pytest.approx(1)


def ledger_of_seed(seed, kind="segm", threshold=0.4):
    scenes = scenes_of_coco(*oracle.scene(seed))
    overlaps = overlaps_of(scenes, kind)
    return ledger(overlaps, select(overlaps, OperatingPoint(threshold)))


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.6]), st.sampled_from(["segm", "bbox"]))
def test_what_holds_on_any_scene(seed, threshold, kind):
    made = ledger_of_seed(seed, kind, threshold)
    overlaps = made.overlaps
    truth = overlaps.scenes.truth
    images = len(overlaps.scenes.image_ids)
    draws = replace(resamples(images, draws=10, seed=seed), units=10)  # so that intervals are given
    result = costs(made, draws)
    table = average_precisions(overlaps, ious=np.array([0.5]))
    expected = np.nanmean(table) if (~np.isnan(table)).any() else np.nan
    np.testing.assert_allclose(result.AP50.value, expected, rtol=1e-12)
    for cost in result.kinds:
        if not np.isnan(expected):
            assert cost.AP50.value >= -1e-12
            assert np.nanmin([gain.value for gain in cost.by_class]) >= -1e-12
        if not np.isnan(cost.AP50.low):
            assert cost.AP50.low - 1e-12 <= cost.AP50.value <= cost.AP50.high + 1e-12
    counted = made.table("prediction").sum() - made.table("prediction")[:, :, IGNORED].sum()
    assert sum(cost.count.value for cost in result.kinds) == (~truth.crowd).sum() - counted
    ignored = int((made.predicted_kind == IGNORED).sum())
    assert sum(cost.gross.value for cost in result.kinds) == ignored - made.errors.sum()
    if threshold == 0 and not np.isnan(expected):
        assert result.all_repaired.value == pytest.approx(1, abs=1e-12)
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("seed", range(30))
def test_removing_kinds_is_evaluating_without_them(seed):
    made = ledger_of_seed(seed)
    result = costed(made)
    for kind in (DUPLICATE, SPURIOUS):
        gain = next(cost.AP50.value for cost in result.kinds if cost.kind == KINDS[kind])
        table = average_precisions(made.overlaps, made.predicted_kind != kind, ious=np.array([0.5]))
        without = np.nanmean(table) if (~np.isnan(table)).any() else np.nan
        np.testing.assert_allclose(result.AP50.value + gain, without, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_precision_of_draws_is_that_of_weighted_predictions(seed):
    r = np.random.default_rng(seed)
    rows, classes, images = int(r.integers(0, 60)), int(r.integers(1, 4)), int(r.integers(1, 6))
    labels, image = r.integers(0, classes, rows), r.integers(0, images, rows)
    true = r.random(rows) < r.random()
    # Each true positive is one true object; some objects are not found.
    objects = np.zeros((images, classes))
    np.add.at(objects, (image[true], labels[true]), 1)
    objects += r.integers(0, 3, objects.shape)
    weights = np.vstack([np.ones(images), r.multinomial(images, np.full(images, 1 / images), 8)]).astype(
        float
    )
    positives = (weights @ objects).T
    rank = r.permutation(rows)
    got = drawn_precisions(Ranked(labels, rank, image, true), positives, weights)
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(rank[members])]
        for draw, weight in enumerate(weights):
            if positives[label, draw] == 0:
                assert np.isnan(got[label, draw])
                continue
            expected = (
                precision_of(true[members], positives[label, draw], weight[image[members]])
                if members.size
                else 0
            )
            assert got[label, draw] == pytest.approx(expected, abs=1e-12)
            if draw == 0 and members.size:
                assert got[label, 0] == pytest.approx(precision_of(true[members], positives[label, 0]))


def many(images=12, seed=0):
    """Pictures with two objects each: the first found, the second missed in about half; a false alarm in some."""
    r = np.random.default_rng(seed)
    truth = [(i, 0, *box[2:]) for i in range(images) for box in (A, B)]
    predictions = [(i, 0, *A[2:], round(float(r.uniform(0.6, 1)), 3)) for i in range(images)]
    predictions += [
        (i, 0, *B[2:], round(float(r.uniform(0.6, 1)), 3)) for i in range(images) if r.random() < 0.5
    ]
    predictions += [
        (i, 0, *C[2:], round(float(r.uniform(0.6, 1)), 3)) for i in range(images) if r.random() < 0.6
    ]
    return ledger_of_boxes(truth, predictions, images=images)


def test_intervals_of_counts_are_those_of_the_drawn_totals():
    made = many()
    draws = resamples(12, draws=200)
    missed = next(cost for cost in costs(made, draws).kinds if cost.kind == "missed")
    by_image = np.zeros(12)
    np.add.at(by_image, made.overlaps.scenes.truth.images[made.truth_kind == KINDS.index("missed")], 1)
    totals = draws.weights @ by_image
    held = np.count_nonzero(by_image)
    low, high = np.quantile(totals, percentiles(held))
    assert tuple(missed.count) == (by_image.sum(), low, high)
    assert tuple(missed.area) == pytest.approx((100 * by_image.sum(), 100 * low, 100 * high))


def test_intervals_of_precision_are_of_whole_pictures_drawn_again():
    made = many()
    draws = resamples(12, draws=30)
    result = costs(made, draws)
    predicted = made.overlaps.scenes.predicted
    order = np.lexsort((np.arange(len(predicted)), predicted.images, -predicted.scores))
    true = (made.predicted_kind == 0)[order]
    drawn = np.array(
        [precision_of(true, 2 * weight.sum(), weight[predicted.images[order]]) for weight in draws.weights]
    )
    drawn += result.AP50.value - drawn.mean()
    np.testing.assert_allclose(result.AP50[1:], np.quantile(drawn, percentiles(12)).clip(0, 1), rtol=1e-12)


def test_no_interval_from_few_pictures_or_for_what_few_of_them_show():
    few = costed(many(images=4))
    assert all(np.isnan(cost.count.low) and np.isnan(cost.AP50.low) for cost in few.kinds)
    assert "too few" in few.notes[0]
    enough = costed(many())
    by_kind = {cost.kind: cost for cost in enough.kinds}
    assert not np.isnan(by_kind["missed"].AP50.low)
    assert by_kind["loose"].count.value == 0
    assert np.isnan(by_kind["loose"].count[1:]).all()


def test_units_are_images_or_the_groups_that_are_drawn_together():
    groups = ["a", "b", "a", "c", "b", "b"]
    units = resamples(6, groups, draws=50).unit
    for i, own in enumerate(groups):
        assert [other == own for other in groups] == (units == units[i]).tolist()
    np.testing.assert_array_equal(resamples(6).unit, np.arange(6))


def test_without_scores_there_is_no_average_precision_but_counts():
    result = costed(many(), scored=False)
    assert np.isnan(result.AP50.value)
    assert result.to_json()["kinds"][7]["AP50"] == {"value": None, "low": None, "high": None}
    assert next(cost for cost in result.kinds if cost.kind == "missed").count.value > 0
    assert "no scores" in result.notes[0]


@pytest.mark.parametrize(("truth", "predictions"), [([], [found(A, 0.9)]), ([A], []), ([], [])])
def test_empty_sides(truth, predictions):
    result = costed(ledger_of_boxes(truth, predictions))
    assert result.AP50.value == 0 if truth else np.isnan(result.AP50.value)
    assert sum(cost.count.value for cost in result.kinds) == len(truth) - len(predictions)
    if truth:
        assert result.all_repaired.value == 1
    json.dumps(result.to_json(), allow_nan=False)


def test_crowd_regions_and_what_lies_in_them_cost_nothing():
    result = costed(ledger_of_boxes([A, B], [found(A, 0.9), found(B, 0.8)], crowd=(1,)))
    assert result.AP50.value == pytest.approx(1)
    assert all(cost.entries == cost.AP50.value == 0 for cost in result.kinds)


@pytest.mark.parametrize("seed", range(0, 30, 3))
def test_entries_have_the_ledgers_errors(seed):
    made = ledger_of_seed(seed)
    entries = entries_of(made)
    errors = np.zeros_like(made.errors)
    np.add.at(errors[:, 0], entries.image, np.maximum(entries.surplus, 0))
    np.add.at(errors[:, 1], entries.image, np.maximum(-entries.surplus, 0))
    np.testing.assert_array_equal(errors, made.errors)
    some = made.predicted_entry >= 0
    np.testing.assert_array_equal(entries.kind[made.predicted_entry[some]], made.predicted_kind[some])
    np.testing.assert_array_equal(entries.kind[made.truth_entry], made.truth_kind)
