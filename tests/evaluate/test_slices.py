"""Slices: they divide everything once, reconcile, are worked out by hand, and flag what differs."""

from __future__ import annotations

import json

import numpy as np
import pycocotools_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_costs import A, B, C, found, ledger_of_boxes

from apiece.evaluate.bootstrap import percentiles, resamples
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.ledger import IGNORED, KINDS, NOT_COUNTED, ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.slices import FIGURES, crowded, divisions, holm, slices, worst_images
from apiece.evaluate.subject import Subject

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")


def subject_of(made, **metadata):
    scenes = made.overlaps.scenes
    names = tuple(map(str, scenes.image_ids))
    return Subject(scenes, names, (None,) * len(names), metadata)


def sliced(made, draws=50, groups=None, **metadata):
    images = len(made.overlaps.scenes.image_ids)
    result = slices(subject_of(made, **metadata), made, resamples(images, groups, draws=draws))
    return {(part.by, part.name): part for part in result.slices}


def ledger_of_seed(seed, threshold=0.4):
    overlaps = overlaps_of(scenes_of_coco(*oracle.scene(seed)))
    return ledger(overlaps, select(overlaps, OperatingPoint(threshold)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_every_division_divides_everything_once_and_reconciles(seed):
    made = ledger_of_seed(seed)
    scenes = made.overlaps.scenes
    images = len(scenes.image_ids)
    r = np.random.default_rng(seed)
    camera = tuple(r.choice(["left", "right", ""], images).tolist())
    subject = subject_of(made, camera=camera)
    result = slices(subject, made, resamples(images, draws=5))
    json.dumps(result.to_json(), allow_nan=False)
    whole = result.slices[0]
    assert (whole.by, whole.images) == ("all", images)
    assert whole.true == (~scenes.truth.crowd).sum()
    assert whole.predicted == (made.predicted_kind != NOT_COUNTED).sum()
    for by in {part.by for part in result.slices}:
        parts = [part for part in result.slices if part.by == by]
        assert sum(part.true for part in parts) == whole.true
        assert sum(part.predicted for part in parts) == whole.predicted
        gross = sum(part.gross.value * part.true for part in parts if part.true)
        if all(part.true for part in parts):
            assert gross == pytest.approx(made.errors.sum())
    found_divisions, _ = divisions(subject, made)
    for division in found_divisions:
        if division.pictures is None:
            continue
        for place, name in enumerate(division.names):
            part = next(p for p in result.slices if (p.by, p.name) == (division.by, name))
            chosen = division.pictures == place
            assert part.images == chosen.sum()
            assert part.predicted - part.true == made.signed[chosen].sum()
            assert part.bias.value == pytest.approx(made.signed[chosen].sum() / chosen.sum())


def test_figures_by_hand():
    truth = [A, B, C, *[(1, 0, *box[2:]) for box in (A, B)]]
    predictions = [
        found(A, 0.9),
        found(B, 0.8, moved=4),  # loose
        found(A, 0.7),  # duplicate
        (1, 0, *A[2:], 0.9),
        (1, 0, 150, 0, 10, 10, 0.8),  # spurious
    ]
    made = ledger_of_boxes(truth, predictions, images=2)
    parts = sliced(made, camera=("left", "right"))
    left, right = parts["metadata: camera", "left"], parts["metadata: camera", "right"]
    assert (left.images, left.true, left.predicted) == (1, 3, 3)
    assert left.recall.value == pytest.approx(2 / 3)
    assert left.precision.value == pytest.approx(2 / 3)
    assert (left.bias.value, left.gross.value) == (0, pytest.approx(2 / 3))
    assert left.kinds["duplicate"].value == pytest.approx(1 / 3)
    assert left.kinds["missed"].value == pytest.approx(1 / 3)
    assert (right.recall.value, right.precision.value, right.gross.value) == (0.5, 0.5, 1)
    assert right.kinds["spurious"].value == 0.5
    assert parts["density", "2 objects"].true == 2
    assert parts["density", "3 objects"].true == 3
    assert left.few == "objects in 1 images or groups; intervals need at least 5."
    assert np.isnan(left.recall[1:]).all()


def test_objects_lie_in_slices_of_their_own_and_predictions_in_those_of_their_object():
    truth = [
        (0, 0, 5, 5, 31, 33),  # area 1023: small
        (0, 0, 50, 5, 32, 32),  # 1024: medium
        (0, 0, 100, 0, 96, 96),  # 9216: large, at the border
    ]
    predictions = [
        (0, 0, 5, 5, 33, 33, 0.9),  # of medium size, but about the small one
        (0, 0, 50, 5, 32, 32, 0.8),
        (0, 0, 120, 96, 5, 4, 0.7),  # spurious, small, at the border
    ]
    parts = sliced(ledger_of_boxes(truth, predictions))
    sizes = {name: (parts["size", name].true, parts["size", name].predicted) for name in ("small", "medium")}
    assert sizes == {"small": (1, 2), "medium": (1, 1)}
    assert (parts["size", "large"].true, parts["size", "large"].predicted) == (1, 0)
    assert np.isnan(parts["size", "large"].precision.value)
    edge = parts["border", "at the border"]
    assert (edge.true, edge.predicted, edge.recall.value, edge.gross.value) == (1, 1, 0, 2)


def test_a_class_holds_its_own_predictions():
    parts = sliced(ledger_of_boxes([A, (0, 1, *B[2:])], [found(A, 0.9), found(B, 0.8)], classes=3))
    first, second = parts["class", "class 0"], parts["class", "class 1"]
    assert (first.true, first.predicted, second.true, second.predicted) == (1, 2, 1, 0)
    assert second.kinds["confused"].value == 1
    assert ("class", "class 2") not in parts


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6))
def test_crowding_is_what_comparing_every_pair_gives(seed):
    r = np.random.default_rng(seed)

    def boxes(n, scored):
        side = np.exp(r.uniform(0, 5, (n, 2))).round()
        at = r.integers(-20, 180, (n, 2)).astype(float)
        image = np.sort(r.integers(0, 3, n))[:, None]
        table = np.hstack([image, np.zeros((n, 1)), at, side, *([r.random((n, 1))] if scored else [])])
        return [tuple(row) for row in table.tolist()]

    truth, predictions = boxes(int(r.integers(0, 12)), False), boxes(int(r.integers(0, 12)), True)
    crowd = tuple(np.flatnonzero(r.random(len(truth)) < 0.2).tolist())
    made = ledger_of_boxes(truth, predictions, images=3, crowd=crowd)
    of_truth, of_predicted = crowded(made)

    def close(one, others):
        x, y, w, h = one[2:6]
        reach = max(2, 0.1 * np.sqrt(w * h))
        return any(
            one[0] == other[0]
            and other[2] <= x + w + reach
            and x - reach <= other[2] + other[4]
            and other[3] <= y + h + reach
            and y - reach <= other[3] + other[5]
            for other in others
        )

    for i, one in enumerate(truth):
        others = [other for j, other in enumerate(truth) if j != i and j not in crowd]
        assert of_truth[i] == close(one, others)
    real = [other for j, other in enumerate(truth) if j not in crowd]
    for i, one in enumerate(predictions):
        if made.predicted_kind[i] != NOT_COUNTED and made.partner[i] < 0:
            assert of_predicted[i] == close(one, real)


def lone(images):
    return ledger_of_boxes([(i, 0, *A[2:]) for i in range(images)], [], images=images)


def test_columns_of_metadata():
    images = 24
    made = lone(images)
    metadata = {
        "hour": tuple(["10", "9", ""] * 8),
        "depth": tuple(f"{value / 2}" for value in range(images)),
        "plate": tuple(f"plate {value}" for value in range(images)),
        "site": ("one",) * images,
    }
    result = slices(subject_of(made, **metadata), made, resamples(images, draws=5))
    names = {by: [part.name for part in result.slices if part.by == f"metadata: {by}"] for by in metadata}
    assert names["hour"] == ["9", "10", "(unknown)"]
    assert names["depth"] == ["0–2.5", "3–5.5", "6–8.5", "9–11.5"]
    assert names["plate"] == names["site"] == []
    assert result.notes == (
        "Metadata column 'plate' is not sliced by: it has 24 distinct values that are not numbers; at most 20 are "
        "sliced by.",
        "Metadata column 'site' is not sliced by: it has 1 distinct values; at least 2 are needed.",
    )


def cameras(seed, worse, images=60):
    """Two objects a picture, found with chance 0.8, with camera "a" with chance `worse`; a column of noise."""
    r = np.random.default_rng(seed)
    camera = r.choice(["a", "b", "c"], images)
    truth = [(i, 0, *box[2:]) for i in range(images) for box in (A, B)]
    chance = np.where(camera == "a", worse, 0.8)
    predictions = [(*row, 0.9) for row in truth if r.random() < chance[row[0]]]
    noise = r.choice(["x", "y"], images)
    return ledger_of_boxes(truth, predictions, images=images), tuple(camera.tolist()), tuple(noise.tolist())


def test_a_planted_difference_is_flagged_and_noise_is_not():
    made, camera, noise = cameras(0, 0.2)
    parts = sliced(made, draws=300, camera=camera, noise=noise)
    assert set(parts["metadata: camera", "a"].differs) == {"recall", "bias", "gross"}
    assert parts["metadata: camera", "a"].recall.high < parts["all", "all images"].recall.low
    assert parts["metadata: noise", "x"].differs == parts["metadata: noise", "y"].differs == ()
    assert parts["all", "all images"].differs == ()


def test_without_a_difference_few_runs_flag_anything():
    flagged = 0
    for seed in range(40):
        made, camera, noise = cameras(seed, 0.8, images=40)
        parts = sliced(made, draws=100, camera=camera, noise=noise)
        flagged += any(part.differs for part in parts.values())
    assert flagged <= 6  # 5 % of 40 is 2; more than 6 has a chance of 0.3 %


def test_intervals_are_of_whole_groups():
    made, camera, _ = cameras(1, 0.5)
    groups = [f"group {i // 4}" for i in range(60)]
    draws = resamples(60, groups, draws=80)
    part = {
        (p.by, p.name): p
        for p in slices(subject_of(made, camera=camera), made, draws).slices
    }["metadata: camera", "a"]  # fmt: skip
    truth = made.overlaps.scenes.truth
    chosen = (np.array(camera) == "a")[truth.images]
    hit = np.isin(made.truth_kind, (0, 1))
    weight = draws.weights[:, truth.images]
    drawn = (weight * (chosen & hit)).sum(axis=1) / (weight * chosen).sum(axis=1)
    assert part.recall.value == pytest.approx(hit[chosen].mean())
    units = len({group for group, name in zip(groups, camera, strict=True) if name == "a"})
    assert tuple(part.recall[1:]) == pytest.approx(np.quantile(drawn, percentiles(units)))


def test_few_groups_give_no_interval_however_many_pictures():
    made, camera, _ = cameras(1, 0.5)
    groups = [
        f"group {(name == 'a') * (i % 4) + (name != 'a') * (4 + i % 9)}" for i, name in enumerate(camera)
    ]
    part = sliced(made, groups=groups, camera=camera)["metadata: camera", "a"]
    assert part.images > 5
    assert part.few == "objects in 4 images or groups; intervals need at least 5."
    assert np.isnan(part.recall.low)
    assert all(np.isnan(p) for p in part.p.values())


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.005])), [0.06, 0.03, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.6])), [1, 1])
    assert holm(np.zeros(0)).size == 0


def test_worst_pictures_come_first():
    truth = [A, (1, 0, *A[2:]), (1, 0, *B[2:]), (2, 0, *A[2:]), (3, 0, *A[2:])]
    predictions = [
        found(A, 0.9),
        (1, 0, *C[2:], 0.9),
        (2, 0, *A[2:], 0.9),
        (2, 0, *A[2:], 0.8),
        (3, 0, 4, 0, 10, 10, 0.9),
    ]
    made = ledger_of_boxes(truth, predictions, images=5)
    worst = worst_images(made, 10)
    assert [(image.place, image.id, image.gross) for image in worst] == [(1, 2, 3), (2, 3, 1), (3, 4, 0)]
    assert worst[0].to_json() == {
        "place": 1,
        "id": 2,
        "true": 2,
        "predicted": 1,
        "too_many": 1,
        "too_few": 2,
        "gross": 3,
        "kinds": {"spurious": [0, 1], "missed": [2, 0]},
    }
    assert worst[2].kinds == {"loose": (1, 1)}
    assert [image.place for image in worst_images(made, 1)] == [1]


@pytest.mark.parametrize("seed", range(0, 20, 4))
def test_worst_pictures_reconcile(seed):
    made = ledger_of_seed(seed)
    for image in worst_images(made, 100):
        ignored = image.kinds.get(KINDS[IGNORED], (0, 0))[0]
        signed = sum(p - t for t, p in image.kinds.values()) + ignored
        assert image.predicted - image.true == image.too_many - image.too_few == signed


@pytest.mark.parametrize(("truth", "predictions"), [([], [found(A, 0.9)]), ([A], []), ([], [])])
def test_empty_sides(truth, predictions):
    made = ledger_of_boxes(truth, predictions)
    result = slices(subject_of(made), made, resamples(1, draws=5))
    json.dumps(result.to_json(), allow_nan=False)
    assert result.slices[0].true == len(truth)
    assert set(FIGURES) <= set(result.to_json()[0])
