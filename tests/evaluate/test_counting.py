"""Count errors are what their definitions say; the best threshold is the best."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools_oracle import scene

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import AnnotationError, UsageError
from apiece.evaluate import best_count_threshold, count_errors, evaluate

COUNTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=20)


def test_errors_by_hand():
    found = count_errors([10, 0, 5], [12, 1, 1])
    assert (found.images, found.true, found.predicted) == (3, 15, 14)
    assert pytest.approx(7 / 3) == found.MAE
    assert pytest.approx(math.sqrt(21 / 3)) == found.RMSE
    assert found.bias == pytest.approx(-1 / 3)
    assert found.relative == pytest.approx(1 / 15)
    assert found.relative_per_image == pytest.approx((0.2 + 0.8) / 2)


@given(COUNTS)
def test_errors_bound_one_another(counts):
    true, predicted = zip(*counts, strict=True)
    found = count_errors(true, predicted)
    assert abs(found.bias) <= found.MAE + 1e-12 <= found.RMSE + 1e-9
    mirrored = count_errors(predicted, true)
    assert (mirrored.MAE, mirrored.RMSE, mirrored.bias) == (found.MAE, found.RMSE, -found.bias)
    if found.true:
        assert found.relative == pytest.approx(abs(found.bias) * found.images / found.true)


def test_without_truth_relative_errors_are_undefined():
    found = count_errors([0, 0], [3, 1])
    assert (found.relative, found.relative_per_image, found.MAE) == (-1, -1, 2)


@pytest.mark.parametrize(("true", "predicted"), [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_counts_that_do_not_pair_are_refused(true, predicted):
    with pytest.raises(UsageError, match="one whole number an image"):
        count_errors(true, predicted)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]))
def test_images_are_counted_as_a_person_would(seed, threshold):
    truth, results = scene(seed)
    found = evaluate(truth, results, threshold=threshold)
    errors = []
    for image in sorted(i["id"] for i in truth["images"]):
        true = sum(a["image_id"] == image and not a["iscrowd"] for a in truth["annotations"])
        predicted = sum(row["image_id"] == image and row["score"] >= threshold for row in results)
        errors.append(predicted - true)
    assert found.count["MAE"] == pytest.approx(np.abs(errors).mean())
    assert found.count["bias"] == pytest.approx(np.mean(errors))
    assert (found.counting.predicted.sum(1) - found.counting.true.sum(1)).tolist() == errors
    assert sum(e.predicted for _, e in found.counting.by_class) == found.count["predicted"]
    assert sum(e.true for _, e in found.counting.by_class) == found.count["true"] == found.truth


def test_a_score_equal_to_the_threshold_counts_whether_it_was_stored_short_or_long():
    """float32 0.7 is written to JSON as 0.699999988079071 by a model that kept it because it is ≥ 0.7."""
    truth, results = scene(0)
    results = [dict(results[0], score=s) for s in (0.7, float(np.float32(0.7)), 0.69)]
    assert evaluate(truth, results, threshold=0.7).count["predicted"] == 2


@pytest.mark.parametrize("threshold", [math.nan, math.inf, True])
def test_thresholds_that_are_no_numbers_are_refused(threshold):
    with pytest.raises(UsageError, match="score threshold"):
        evaluate(*scene(0), threshold=threshold)


def error_at(true, scores, threshold):
    counted = [np.count_nonzero(np.asarray(s, np.float32) >= np.float32(threshold)) for s in scores]
    return np.abs(np.subtract(counted, true)).mean()


PICTURES = st.lists(
    st.tuples(st.integers(0, 6), st.lists(st.floats(0, 1, width=32), max_size=8)), min_size=1, max_size=6
).filter(lambda pictures: any(scores for _, scores in pictures))


@settings(max_examples=200)
@given(PICTURES)
def test_no_threshold_counts_better_than_the_best(pictures):
    true, scores = zip(*pictures, strict=True)
    best = best_count_threshold(true, scores)
    every = np.unique(np.concatenate([np.asarray(s, np.float32) for s in scores]))
    others = [*every.tolist(), float(np.nextafter(every[-1], np.float32(2)))]
    assert error_at(true, scores, best) == min(error_at(true, scores, t) for t in others)


def test_the_best_threshold_lies_amid_the_scores_that_it_parts():
    assert best_count_threshold([2, 1], [[0.9, 0.8, 0.4], [0.7, 0.3]]) == 0.55
    assert best_count_threshold([1], [np.array([0.5000001, 0.5], np.float32)]) > 0.5


def test_the_best_threshold_may_count_all_or_nothing():
    assert 0 < best_count_threshold([3], [[0.2, 0.3, 0.4]]) <= 0.2
    assert best_count_threshold([0, 0], [[0.2], [0.6]]) == 0.8
    assert best_count_threshold([0], [[1.0]]) > 1


def test_the_best_threshold_of_instances_leaves_crowd_regions_out():
    def picture(scores, crowd=()):
        masks = Masks.from_crops(
            [np.ones((2, 2), bool)] * len(scores), [(3 * i, 0) for i in range(len(scores))], (9, 40)
        )
        columns = {"iscrowd": [i in crowd for i in range(len(scores))]}
        ids = np.zeros(len(scores), np.int64)
        return Instances((9, 40), masks, ids, scores, classes=ClassMap(("cell",)), columns=columns)

    truth, found = [picture([1, 1, 1], crowd=(1,))], [picture([0.9, 0.5, 0.3, 0.1])]
    assert best_count_threshold(truth, found) == best_count_threshold([2], [[0.9, 0.5, 0.3, 0.1]]) == 0.4


@pytest.mark.parametrize(
    ("true", "scores", "message"),
    [
        ([1, 2], [[0.5]], "2 true pictures and 1 predicted"),
        ([1], [[]], "no predictions"),
        ([1], [[math.nan]], "finite"),
    ],
)
def test_nothing_to_choose_a_threshold_by_is_said(true, scores, message):
    with pytest.raises(AnnotationError, match=message):
        best_count_threshold(true, scores)
