"""Label errors: planted ones come first, and a clean truth gives none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from planted_failures import messy

from apiece.evaluate.label_errors import (
    CONFIDENT,
    LabelErrors,
    Suspect,
    _at_least,
    _isotonic,
    _least_share,
    label_errors,
)
from apiece.evaluate.ledger import Ledger, ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.scenes import Objects, Scenes
from apiece.evaluate.subject import Subject

CLASSES = ((1, "cell"), (2, "debris"), (3, "fibre"))
SIDE = 800


def objects(rows: list[tuple[int, int, np.ndarray, float]]) -> Objects:
    boxes = np.array([row[2] for row in rows]).reshape(-1, 4)
    area = boxes[:, 2] * boxes[:, 3]
    return Objects(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.float64),
        np.zeros(len(rows), bool),
        boxes,
        (None,) * len(rows),
        area,
        area,
    )


@dataclass
class World:
    """Objects of 3 classes, apart from each other, and a good model of them: what it gets wrong has a low score."""

    seed: int
    images: int = 80
    noise: float = 1.0
    truth: list[tuple[int, int, np.ndarray, float]] = field(default_factory=list)
    predicted: list[tuple[int, int, np.ndarray, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        for image in range(self.images):
            for cell in self.rng.permutation(64)[:16].tolist():
                corner = np.array([cell % 8, cell // 8]) * 100.0
                side = self.rng.uniform(30, 80, 2)
                box = np.concatenate([corner + self.rng.uniform(2, 98 - side), side])
                if self.rng.random() < 0.06:  # the model's own invention, not sure
                    self.predict(image, int(self.rng.integers(3)), box, self.rng.uniform(0.3, 0.62))
                    continue
                label = int(self.rng.choice(3, p=[0.6, 0.3, 0.1]))
                self.truth.append((image, label, box, 1.0))
                draw = self.rng.random()
                score = float(self.rng.beta(12, 2))
                if draw < 0.03:  # seen, with a low score
                    self.predict(image, label, box, self.rng.uniform(0.05, 0.4))
                elif draw < 0.06:  # not sure which class
                    self.predict(image, (label + 1) % 3, box, 0.6)
                    self.predict(image, label, box, 0.45)
                else:
                    self.predict(image, label, box, max(score, 0.5))

    def predict(self, image: int, label: int, box: np.ndarray, score: float) -> None:
        jitter = self.rng.normal(0, 0.02 * self.noise, 4) * np.tile(box[2:], 2)
        self.predicted.append((image, label, box + jitter, float(score)))

    def sure(self, count: int) -> list[int]:
        """Places of random true objects that a prediction with a high score fits."""
        scenes = self.scenes()
        overlaps = overlaps_of(scenes, "bbox")
        fits = (overlaps.iou > 0.7) & (scenes.predicted.scores[overlaps.across.second] > 0.85)
        fits &= scenes.truth.labels[overlaps.across.first] == scenes.predicted.labels[overlaps.across.second]
        places = np.unique(overlaps.across.first[fits])
        return sorted(self.rng.permutation(places)[:count].tolist())

    def scenes(self) -> Scenes:
        size = (SIDE, SIDE)
        return Scenes(
            tuple(range(1, self.images + 1)),
            (size,) * self.images,
            CLASSES,
            objects(self.truth),
            objects(self.predicted),
        )

    def judged(self, limit: int = 50, point: OperatingPoint | None = None) -> tuple[LabelErrors, Ledger]:
        scenes = self.scenes()
        overlaps = overlaps_of(scenes, "bbox")
        made = ledger(overlaps, select(overlaps, point or OperatingPoint(0.5)))
        names = tuple(f"{i}.png" for i in scenes.image_ids)
        return label_errors(Subject(scenes, names, (None,) * self.images), made, limit), made


def hits(suspects: Iterable[Suspect], planted: set[int]) -> float:
    """Precision at k: the share of the first k suspects that were planted, k as many as were."""
    first = list(suspects)[: len(planted)]
    return sum(s.truth in planted for s in first) / len(planted)


@pytest.mark.parametrize("seed", range(12))
def test_a_clean_truth_has_no_suspects(seed: int) -> None:
    found, _ = World(seed).judged()
    assert found.totals == {"missing": 0, "wrong_class": 0, "poor_outline": 0, "doubtful": 0}


@pytest.mark.parametrize("seed", range(3))
def test_removed_labels_are_missing(seed: int) -> None:
    world = World(seed)
    gone = world.sure(40)
    boxes = {(world.truth[i][0], tuple(world.truth[i][2])) for i in gone}
    world.truth = [row for i, row in enumerate(world.truth) if i not in gone]
    found, made = world.judged()
    right = 0
    for suspect in found.missing[:40]:
        assert suspect.truth is None
        assert suspect.prediction is not None
        assert suspect.rank_score >= CONFIDENT
        assert made.predicted_entry[suspect.prediction] == suspect.entry
        right += any(
            image == suspect.image - 1 and np.abs(np.array(box[:2]) - suspect.box[:2]).max() < 12
            for image, box in boxes
        )
    assert right / 40 >= 0.9
    assert [s.rank_score for s in found.missing] == sorted(
        (s.rank_score for s in found.missing), reverse=True
    )


@pytest.mark.parametrize("seed", range(3))
def test_swapped_classes_are_wrong(seed: int) -> None:
    world = World(seed)
    swapped = world.sure(30)
    for i in swapped:
        image, label, box, score = world.truth[i]
        world.truth[i] = (image, (label + 1) % 3, box, score)
    found, made = world.judged()
    assert hits(found.wrong_class, set(swapped)) >= 0.9
    for suspect in found.wrong_class:
        assert suspect.label is not None
        assert suspect.label in suspect.why
        assert suspect.label != suspect.predicted_label
        assert made.truth_entry[suspect.truth] == suspect.entry
    assert not found.missing


def test_a_wrong_class_is_seen_beside_a_weak_candidate_of_the_labelled_one() -> None:
    world = World(9)
    (place,) = world.sure(1)
    image, label, box, score = world.truth[place]
    world.truth[place] = (image, (label + 1) % 3, box, score)
    without = world.judged()[0].wrong_class
    world.predicted.append((image, (label + 1) % 3, box, 0.3))
    (weak,) = world.judged(point=OperatingPoint(0.25))[
        0
    ].wrong_class  # matched now, and the sure one a duplicate
    assert [s.truth for s in without] == [weak.truth] == [place]
    assert weak.rank_score < without[0].rank_score
    assert "0.30" in weak.why
    world.predicted[-1] = (image, (label + 1) % 3, box, 0.6)
    assert not world.judged()[0].wrong_class  # too strong a rival: the model is not sure itself


@pytest.mark.parametrize("seed", range(3))
def test_displaced_outlines_are_poor(seed: int) -> None:
    world = World(seed)
    moved = world.sure(30)
    for n, i in enumerate(moved):
        image, label, box, score = world.truth[i]
        shift = box[2:] * (world.rng.uniform(0.15, 0.3, 2) * world.rng.choice([-1, 1], 2))
        resized = np.concatenate([box[:2], box[2:] * 0.7])
        world.truth[i] = (image, label, resized if n % 3 == 0 else box + np.append(shift, [0, 0]), score)
    found, _ = world.judged()
    assert hits(found.poor_outline, set(moved)) >= 0.9
    assert not found.missing
    assert not found.wrong_class


@pytest.mark.parametrize("seed", range(3))
def test_invented_objects_are_doubtful(seed: int) -> None:
    world = World(seed, images=150)
    invented = set()
    taken = {(row[0], *(row[2][:2] // 100).astype(int)) for row in world.truth + world.predicted}
    while len(invented) < 20:
        image, x, y = (int(v) for v in world.rng.integers(0, [world.images, 8, 8]))
        if (image, x, y) not in taken and 0 < x < 7 and 0 < y < 7:
            taken.add((image, x, y))
            invented.add(len(world.truth))
            world.truth.append((image, 0, np.array([100.0 * x + 25, 100.0 * y + 25, 45, 45]), 1.0))
    found, made = world.judged()
    assert hits(found.doubtful, invented) >= 0.9
    for suspect in found.doubtful:
        assert suspect.prediction is None
        assert suspect.score is None
        assert 0.9 <= suspect.rank_score < 1
        assert made.truth_entry[suspect.truth] == suspect.entry


def lone(places: int, found: int) -> LabelErrors:
    """Images of one object each, of which the last are missed."""
    world = World(0, images=places)
    box = np.array([100.0, 100, 40, 40])
    world.truth = [(image, 0, box, 1.0) for image in range(places)]
    world.predicted = [(image, 0, box, 0.9) for image in range(found)]
    return world.judged()[0]


def test_a_miss_is_doubtful_only_where_surely_nearly_all_are_found() -> None:
    """All of 39 elsewhere or so: Wilson's lower end is 0.935; of 23 or so it is 0.89, whatever the share."""
    (one,) = lone(50, 49).doubtful
    assert one.image == 50
    assert "100%" in one.why
    assert one.rank_score == pytest.approx(0.937, abs=0.003)
    assert not lone(29, 28).doubtful
    assert not lone(50, 44).doubtful


def test_a_miss_with_any_prediction_there_is_not_doubtful() -> None:
    world = World(0, images=50)
    box = np.array([100.0, 100, 40, 40])
    world.truth = [(image, 0, box, 1.0) for image in range(50)]
    world.predicted = [(image, 0, box, 0.9) for image in range(49)]
    assert world.judged()[0].totals["doubtful"] == 1
    world.predicted.append((49, 1, box + np.array([20.0, 0, 0, 0]), 0.01))  # of another class, IoU 0.33
    assert world.judged()[0].totals["doubtful"] == 0


def test_what_usual_means_depends_on_the_size() -> None:
    """Small objects fit with IoU 0.6 here, large ones with 0.95: only a large one with 0.6 stands out."""
    world = World(0, images=100)
    small, large = np.array([100.0, 100, 20, 20]), np.array([300.0, 300, 200, 200])
    world.truth = [(image, 0, box, 1.0) for image in range(100) for box in (small, large)]
    world.predicted = [
        (image, 0, box + np.array([shift * box[2], 0, 0, 0]), 0.9)
        for image in range(100)
        for box, shift in ((small, 0.25), (large, 0.25 if image == 40 else 0.025))
    ]
    (one,) = world.judged()[0].poor_outline
    assert one.truth == 81


def test_objects_labelled_twice_are_doubtful() -> None:
    world = World(2)
    twice = set()
    for i in world.sure(10):
        image, label, box, score = world.truth[i]
        twice |= {i, len(world.truth)}
        world.truth.append((image, label, box + np.array([0.5, 0.5, 0, 0]), score))
    image, label, box, score = world.truth[0]
    world.truth.append((image, (label + 1) % 3, box, score))  # of another class: no second label
    found, _ = world.judged()
    assert len(found.doubtful) == 10
    assert {s.truth for s in found.doubtful} < twice
    assert all("labelled twice" in s.why for s in found.doubtful)


def test_all_kinds_at_once() -> None:
    world = World(7, images=120)
    places = world.sure(80)
    world.rng.shuffle(places)
    gone, swapped, moved = set(places[:30]), set(places[30:55]), set(places[55:])
    for i in swapped | moved:
        image, label, box, score = world.truth[i]
        shift = np.append(box[2:] * 0.2, [0, 0])
        world.truth[i] = (
            (image, (label + 1) % 3, box, score) if i in swapped else (image, label, box + shift, score)
        )
    kept = [i for i in range(len(world.truth)) if i not in gone]
    world.truth = [world.truth[i] for i in kept]
    found, _ = world.judged()
    assert hits(found.wrong_class, {kept.index(i) for i in swapped}) >= 0.9
    assert hits(found.poor_outline, {kept.index(i) for i in moved}) >= 0.9
    assert 27 <= found.totals["missing"] <= 31


def test_what_overlaps_labelled_objects_or_another_suspect_is_not_missing() -> None:
    world = World(4)
    (place,) = world.sure(1)
    image, label, box, score = world.truth.pop(place)
    assert len(world.judged()[0].missing) == 1
    world.predicted.append((image, label, box + np.array([3, 3, 0, 0]), 0.97))  # the same object again
    found = world.judged()[0].missing
    assert [s.score for s in found] == [0.97]
    world.truth.append(
        (image, label, box * [1, 1, 0.3, 1], score)
    )  # part of it is labelled: a poor label instead
    assert not world.judged()[0].missing


def test_the_limit_and_the_totals() -> None:
    world = World(5)
    gone = world.sure(30)
    world.truth = [row for i, row in enumerate(world.truth) if i not in gone]
    whole, part = world.judged()[0], world.judged(limit=7)[0]
    assert part.missing == whole.missing[:7]
    assert part.totals == whole.totals
    assert whole.totals["missing"] == len(whole.missing) > 25


def test_says_why_it_says_nothing() -> None:
    world = World(6)
    scenes = world.scenes()
    overlaps = overlaps_of(scenes, "bbox")
    made = ledger(overlaps, select(overlaps, OperatingPoint(0.0)))
    names = tuple(str(i) for i in scenes.image_ids)
    found = label_errors(Subject(scenes, names, (None,) * 80, scored=False), made)
    assert "carry no scores" in found.notes[0]
    assert "no prediction below" in found.notes[1]
    assert [found.totals[kind] for kind in ("missing", "wrong_class", "poor_outline")] == [0, 0, 0]

    poor = World(6)
    poor.truth = [row for i, row in enumerate(poor.truth) if i % 2]  # a model, or a truth, that is half wrong
    found, _ = poor.judged()
    assert not found.missing
    assert any("Not even the highest scores are surely right" in note for note in found.notes)

    one = World(6, images=1)
    assert any("one image only" in note for note in one.judged()[0].notes)


def test_messy_pictures_and_empty_ones_give_plain_json() -> None:
    for scenes in (messy(np.random.default_rng(1), 60), messy(np.random.default_rng(1), 3, most=0)):
        overlaps = overlaps_of(scenes)
        made = ledger(overlaps, select(overlaps, OperatingPoint(0.3)))
        names = tuple(str(i) for i in scenes.image_ids)
        told = json.loads(
            json.dumps(
                label_errors(Subject(scenes, names, (None,) * len(names)), made).to_json(), allow_nan=False
            )
        )
        assert set(told) == {
            "missing",
            "wrong_class",
            "poor_outline",
            "doubtful",
            "totals",
            "notes",
            "definitions",
        }
        assert not any("{" in sentence for sentence in told["definitions"].values())


def test_json_of_a_suspect() -> None:
    world = World(8)
    (place,) = world.sure(1)
    image, label, box, _ = world.truth.pop(place)
    (told,) = world.judged()[0].to_json()["missing"]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["image"] == image + 1
    assert told["name"] == f"{image + 1}.png"
    assert told["class"] == told["predicted_class"] == CLASSES[label][1]
    assert told["truth"] is None
    x1, y1, x2, y2 = told["box"]
    np.testing.assert_allclose([x1, y1, x2 - x1, y2 - y1], box, atol=8)


@pytest.mark.parametrize("count", [1, 20, 60, 400, 5000])
def test_isotonic_steps_rise_and_hold_everything(count: int) -> None:
    rng = np.random.default_rng(count)
    scores = np.round(rng.random(count), 2)
    right = rng.random(count) < scores**2
    centres, shares, counts = _isotonic(scores, right)
    assert counts.sum() == count
    assert (shares * counts).sum() == pytest.approx(right.sum())
    assert (np.diff(shares) > 0).all()
    order = np.argsort(scores, kind="stable")
    ends = np.cumsum(counts).tolist()
    for begin, end, centre, share in zip([0, *ends[:-1]], ends, centres, shares, strict=True):
        assert share == pytest.approx(right[order[begin:end]].mean())
        assert centre == pytest.approx(scores[order[begin:end]].mean())
        assert end == count or scores[order[end]] > scores[order[end - 1]]  # equal scores stay together


def test_isotonic_pools_what_falls() -> None:
    scores = np.repeat([0.1, 0.5, 0.9], 20)

    def shares(*hits: int) -> list[float]:
        return _isotonic(scores, np.concatenate([np.arange(20) < n for n in hits]))[1].tolist()

    assert shares(4, 10, 18) == [0.2, 0.5, 0.9]
    assert shares(10, 4, 18) == [0.35, 0.9]
    assert shares(10, 18, 4) == [0.5, 0.55]
    assert shares(18, 10, 4) == [32 / 60]


def test_the_least_share_rises_with_the_score() -> None:
    """A short step at the top says less than the long one below it, whose share it cannot fall short of."""
    scores = np.concatenate([np.full(1000, 0.5), np.full(20, 0.9)])
    right = np.concatenate([np.arange(1000) < 990, np.ones(20, bool)])
    low, high, below = _least_share(scores, right, np.array([0.5, 0.95, 0.1]))
    assert low == high == below == _at_least(np.array([0.99]), np.array([1000]))[0]
    assert _at_least(np.ones(1), np.array([20]))[0] < low
    scores, right = np.repeat([0.2, 0.8], 50), np.repeat([False, True], 50)
    top = float(_at_least(np.ones(1), np.array([50]))[0])
    between = _least_share(scores, right, np.array([0.2, 0.5, 0.8]))
    assert between.tolist() == pytest.approx([0, top / 2, top])


def test_the_lower_end_of_a_share() -> None:
    """Wilson's interval, one-sided 95 %: solves |p - share| = z √(p (1 - p) / n)."""
    share, count = np.array([0.95, 1.0, 0.0]), np.array([40, 25, 0])
    low = _at_least(share, count)
    z = 1.6448536269514722
    for p, s, n in zip(low[:2], share[:2], count[:2], strict=True):
        assert s - p == pytest.approx(z * np.sqrt(p * (1 - p) / n))
    assert low[2] == 0
