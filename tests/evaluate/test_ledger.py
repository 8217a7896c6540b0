"""The ledger: planted failures come out as planted, it always reconciles, and a plain oracle agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_failures import PLANTS, THRESHOLD, Entry, Planter, columns, messy

from apiece.errors import UsageError
from apiece.evaluate.ledger import KINDS, NOT_COUNTED, Ledger, Rules, ledger
from apiece.evaluate.operating import OperatingPoint, Suppression, select
from apiece.evaluate.overlaps import masks_of, overlaps_of
from apiece.evaluate.replay import TRUE, verdicts
from apiece.evaluate.scenes import Objects, Scenes

AT = OperatingPoint(THRESHOLD)


def ledger_of(scenes: Scenes, point: OperatingPoint = AT, rules: Rules | None = None) -> Ledger:
    overlaps = overlaps_of(scenes)
    return ledger(overlaps, select(overlaps, point), rules)


def entries_of(found: Ledger) -> list[Entry]:
    """Every entry, read from the columns one object at a time; fails where the objects of one disagree."""
    true: dict[int, set[int]] = {}
    predicted: dict[int, set[int]] = {}
    kinds: dict[int, set[str]] = {}
    for i, (entry, kind) in enumerate(
        zip(found.truth_entry.tolist(), found.truth_kind.tolist(), strict=True)
    ):
        true.setdefault(entry, set()).add(i)
        kinds.setdefault(entry, set()).add(KINDS[kind])
    for i, (entry, kind) in enumerate(
        zip(found.predicted_entry.tolist(), found.predicted_kind.tolist(), strict=True)
    ):
        assert (entry == -1) == (kind == NOT_COUNTED) == (not found.selection.kept[i])
        if entry >= 0:
            predicted.setdefault(entry, set()).add(i)
            kinds.setdefault(entry, set()).add(KINDS[kind])
    assert sorted(kinds) == list(range(len(kinds)))
    assert all(len(kind) == 1 for kind in kinds.values())
    return [
        (next(iter(kinds[e])), frozenset(true.get(e, ())), frozenset(predicted.get(e, ())))
        for e in range(len(kinds))
    ]


def assert_reconciles(found: Ledger) -> None:
    """Counts recounted by hand, from the raw columns, one object at a time."""
    scenes = found.overlaps.scenes
    shape = len(scenes.image_ids), len(scenes.classes)
    net = np.zeros(shape, np.int64)
    for image, label, crowd in zip(
        scenes.truth.images.tolist(), scenes.truth.labels.tolist(), scenes.truth.crowd.tolist(), strict=True
    ):
        net[image, label] -= not crowd
    for image, label, keep in zip(
        scenes.predicted.images.tolist(),
        scenes.predicted.labels.tolist(),
        found.selection.kept.tolist(),
        strict=True,
    ):
        net[image, label] += keep
    np.testing.assert_array_equal(found.signed.sum(axis=2), net)
    assert found.signed.sum() == net.sum()

    errors = np.zeros((shape[0], 2), np.int64)
    entries = entries_of(found)
    for number, (kind, true, predicted) in enumerate(entries):
        members = found.members(number)
        assert (set(members[0].tolist()), set(members[1].tolist())) == (true, predicted)
        images = {int(scenes.truth.images[i]) for i in true}
        images |= {int(scenes.predicted.images[i]) for i in predicted}
        assert len(images) == 1
        real = [i for i in true if not scenes.truth.crowd[i]]
        surplus = len(predicted) - len(real)
        errors[images.pop(), 0 if surplus > 0 else 1] += abs(surplus)
        shapes = {
            "matched": (1, 1),
            "loose": (1, 1),
            "confused": (1, 1),
            "duplicate": (0, 1),
            "spurious": (0, 1),
            "missed": (1, 0),
        }
        if kind in shapes:
            assert (len(true), len(predicted)) == shapes[kind]
        assert kind != "merged" or (len(true) > 1 and len(predicted) == 1)
        assert kind != "split" or (len(true) == 1 and len(predicted) > 1)
        assert kind != "tangled" or (len(true) > 1 and len(predicted) > 1)
        assert (kind == "ignored") == any(scenes.truth.crowd[i] for i in true) or not true
        for i in predicted:
            partner = int(found.partner[i])
            if kind in ("spurious", "ignored"):
                assert partner == -1
            elif kind == "duplicate":
                assert KINDS[found.truth_kind[partner]] not in ("missed", "ignored")
            else:
                assert partner in true
    np.testing.assert_array_equal(found.errors, errors)
    np.testing.assert_array_equal(found.errors[:, 0] - found.errors[:, 1], net.sum(axis=1))
    for side, objects, kinds in (
        ("truth", scenes.truth, found.truth_kind),
        ("prediction", scenes.predicted, found.predicted_kind),
    ):
        table = np.zeros((*shape, len(KINDS)), np.int64)
        for image, label, kind in zip(objects.images, objects.labels, kinds, strict=True):
            if kind != NOT_COUNTED:
                table[image, label, kind] += 1
        np.testing.assert_array_equal(found.table(side), table)


@pytest.mark.parametrize("tight", [False, True], ids=["apart", "touching"])
@pytest.mark.parametrize("name", PLANTS)
def test_recovers_each_kind_alone(name: str, tight: bool, rng: np.random.Generator) -> None:
    planter = Planter(rng, grid=2, tight=tight)
    for _ in range(30):
        planter.picture([PLANTS[name]] * int(rng.integers(1, 5)))
    found = ledger_of(planter.scenes())
    assert set(entries_of(found)) == set(planter.entries)
    assert_reconciles(found)


@pytest.mark.parametrize("tight", [False, True], ids=["apart", "touching"])
@pytest.mark.parametrize("seed", range(3))
def test_recovers_kinds_mixed(seed: int, tight: bool) -> None:
    rng = np.random.default_rng(seed)
    planter = Planter(rng, tight=tight)
    plants = list(PLANTS.values())
    for _ in range(100):
        planter.picture([plants[i] for i in rng.integers(0, len(plants), int(rng.integers(0, 10)))])
    found = ledger_of(planter.scenes())
    assert set(entries_of(found)) == set(planter.entries)
    assert_reconciles(found)


def test_two_errors_that_cancel_are_told_by_the_gross_error(rng: np.random.Generator) -> None:
    planter = Planter(rng)
    planter.picture([PLANTS["missed"], PLANTS["spurious"]])
    found = ledger_of(planter.scenes())
    assert found.signed.sum() == 0
    assert found.errors.tolist() == [[1, 1]]


@pytest.mark.parametrize("sides", ["neither", "truth", "predicted"])
def test_empty_sides(sides: str) -> None:
    size = (12, 12)
    frame = np.zeros(size, bool)
    frame[2:8, 2:8] = True
    some = columns([(1, 0, frame)], np.ones(1), None, size)
    none = columns([], np.ones(0), None, size)
    scenes = Scenes(
        (1, 2),
        (size, size),
        ((1, "cell"),),
        some if sides == "truth" else none,
        some if sides == "predicted" else none,
    )
    found = ledger_of(scenes)
    assert_reconciles(found)
    expected = {"neither": [], "truth": ["missed"], "predicted": ["spurious"]}[sides]
    assert [kind for kind, _, _ in entries_of(found)] == expected


def scene_of(truth: list[str], predicted: list[tuple[str, float]], crowd: tuple[int, ...] = ()) -> Scenes:
    """One picture of one row: "..##" is an object; of one class."""
    size = (1, max(len(text) for text in truth))

    def frames(texts: list[str]) -> list[tuple[int, int, np.ndarray]]:
        return [(0, 0, np.array([[c == "#" for c in text]])) for text in texts]

    marks = np.isin(np.arange(len(truth)), crowd)
    return Scenes(
        (1,),
        (size,),
        ((1, "cell"),),
        columns(frames(truth), np.ones(len(truth)), marks, size),
        columns(frames([p[0] for p in predicted]), np.array([p[1] for p in predicted]), None, size),
    )


def kinds_of(found: Ledger) -> tuple[list[str], list[str]]:
    return [KINDS[k] for k in found.truth_kind], [KINDS[k] for k in found.predicted_kind]


def test_fragments_that_coincide_are_one_loose_and_one_duplicate() -> None:
    found = ledger_of(scene_of(["##########"], [("####......", 0.9), ("####......", 0.8)]))
    assert kinds_of(found) == (["loose"], ["loose", "duplicate"])
    assert found.partner.tolist() == [0, 0]


def test_a_wide_prediction_over_two_specks_is_no_merge() -> None:
    wide = "#" * 60
    specks = ["#" + "." * 59, "." * 59 + "#"]
    found = ledger_of(scene_of(specks, [(wide, 0.9)]))
    assert kinds_of(found) == (["missed", "missed"], ["spurious"])


def test_a_merged_prediction_is_about_the_object_that_it_fits_best() -> None:
    truth = ["####......", "....##....", "......###.", ".........#"]
    found = ledger_of(scene_of(truth, [("##########", 0.9)]))
    assert kinds_of(found) == (["merged"] * 4, ["merged"])
    assert found.partner.tolist() == [0]


def row(begin: int, end: int, width: int = 20) -> str:
    return "." * begin + "#" * (end - begin) + "." * (width - end)


def test_a_prediction_within_another_is_about_the_small_objects_that_it_covers() -> None:
    both = [(row(0, 20), 0.9), (row(0, 9), 0.8)]
    found = ledger_of(scene_of([row(0, 20), row(0, 4), row(4, 8)], both))
    assert kinds_of(found) == (["matched", "merged", "merged"], ["matched", "merged"])
    assert found.partner.tolist() == [0, 1]
    found = ledger_of(scene_of([row(0, 20), row(0, 3)], both))
    assert kinds_of(found) == (["matched", "loose"], ["matched", "loose"])
    assert found.partner.tolist() == [0, 1]
    found = ledger_of(
        scene_of([row(0, 20), row(0, 4)], [(row(0, 20), 0.9), (row(0, 20), 0.8)]), rules=Rules(near=0.3)
    )
    assert kinds_of(found) == (["matched", "missed"], ["matched", "duplicate"])


def test_specks_in_a_tangle_stay_in_it() -> None:
    predicted = [(row(0, 300, 300), 0.9), (row(0, 3, 300), 0.8)]
    found = ledger_of(scene_of([row(0, 10, 300), row(100, 103, 300)], predicted))
    assert kinds_of(found) == (["tangled", "tangled"], ["tangled", "tangled"])


def test_what_lies_in_a_crowd_region_takes_no_part_in_groups() -> None:
    truth = ["##..........", "..##........", "....########"]
    found = ledger_of(scene_of(truth, [("############", 0.9)], crowd=(2,)))
    assert kinds_of(found) == (["missed", "missed", "ignored"], ["ignored"])
    assert found.signed.sum() == 1 - 2


@pytest.mark.parametrize(
    "values", [(0.5, 0.6, 0.5), (0.5, 0.0, 0.5), (1.1, 0.1, 0.5), (0.5, 0.1, 0.0), (0.5, 0.1, 1.5)]
)
def test_refuses_rules_that_cannot_be_meant(values: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="Remedy"):
        Rules(*values)


# The oracle: the five steps of ledger()'s docstring, one picture at a time, on dense masks, with loops.


def oracle(found: Ledger, rules: Rules) -> tuple[set[Entry], dict[int, int]]:
    """The entries, and the partner of each prediction that counts."""
    scenes = found.overlaps.scenes
    entries: set[Entry] = set()
    partners: dict[int, int] = {}
    for image in range(len(scenes.image_ids)):
        true = np.flatnonzero(scenes.truth.images == image)
        predicted = np.flatnonzero((scenes.predicted.images == image) & found.selection.kept)
        picture = Picture(scenes, true, predicted, found.selection.scores, rules)
        picture.judge()
        entries |= set(picture.entries())
        partners |= picture.about
    return entries, partners


class Picture:
    def __init__(
        self, scenes: Scenes, true: np.ndarray, predicted: np.ndarray, scores: np.ndarray, rules: Rules
    ) -> None:
        self.rules = rules
        self.G = true.tolist()
        self.P = sorted(predicted.tolist(), key=lambda p: (-scores[p], p))  # in order of score
        self.of_G = dict(zip(self.G, masks_of(scenes.truth, true).to_dense().astype(bool), strict=False))
        self.of_P = dict(
            zip(
                predicted.tolist(),
                masks_of(scenes.predicted, predicted).to_dense().astype(bool),
                strict=False,
            )
        )
        self.crowd = {g for g in self.G if scenes.truth.crowd[g]}
        self.same = {
            (g, p): scenes.truth.labels[g] == scenes.predicted.labels[p] for g in self.G for p in self.P
        }
        self.shared = {(g, p): int((self.of_G[g] & self.of_P[p]).sum()) for g in self.G for p in self.P}
        self.size_G = {g: int(m.sum()) for g, m in self.of_G.items()}
        self.size_P = {p: int(m.sum()) for p, m in self.of_P.items()}
        self.mate: dict[int, int] = {}  # of predictions
        self.kind_G = dict.fromkeys(self.G, "")
        self.kind_P = dict.fromkeys(self.P, "")
        self.about: dict[int, int] = dict.fromkeys(self.P, -1)
        self.groups: list[Entry] = []

    def iou(self, g: int, p: int) -> float:
        both = self.shared[g, p]
        return both / (self.size_G[g] + self.size_P[p] - both) if both else 0.0

    def covers(self, g: int, p: int) -> bool:
        """|G∩P| ≥ τ|G|."""
        return self.shared[g, p] > 0 and self.shared[g, p] >= self.rules.covered * self.size_G[g]

    def lies(self, p: int, g: int) -> bool:
        """|G∩P| ≥ τ|P|."""
        return self.shared[g, p] > 0 and self.shared[g, p] >= self.rules.covered * self.size_P[p]

    def judge(self) -> None:
        found, near, tau = self.rules.found, self.rules.near, self.rules.covered
        real = [g for g in self.G if g not in self.crowd]
        for g in self.crowd:
            self.kind_G[g] = "ignored"
        # 1
        for kind, fits in (
            ("matched", lambda g, p: self.same[g, p] and self.iou(g, p) >= found),
            ("confused", lambda g, p: self.iou(g, p) >= found),
            ("loose", lambda g, p: self.same[g, p] and self.covers(g, p) and self.lies(p, g)),
        ):
            self.pair(kind, fits, real, self.P)
        # 2
        for p in self.P:
            if p not in self.mate and any(self.same[g, p] and self.lies(p, g) for g in self.crowd):
                self.kind_P[p] = "ignored"
        # 3
        playing = [p for p in self.P if self.kind_P[p] != "ignored"]
        paired = set(self.mate.values())
        edges: set[tuple[int, int]] = set()
        for g in real:
            if g in paired:
                continue
            able = []
            for p in playing:
                if not (self.same[g, p] and self.covers(g, p)):
                    continue
                if p in self.mate:
                    on = (self.of_G[g] & self.of_G[self.mate[p]]).sum()
                    if on >= tau * self.size_G[g]:
                        continue
                able.append(p)
            if able:
                edges.add((g, max(able, key=lambda p: (self.shared[g, p], -self.P.index(p)))))
        joined = {p for _, p in edges}
        owner = {}
        for p in playing:
            if p not in self.mate:
                able = [g for g in real if self.same[g, p] and self.lies(p, g)]
                if able:
                    owner[p] = max(able, key=lambda g: (self.shared[g, p], self.iou(g, p), -g))
        inside = {}
        for p, g in owner.items():
            again = False
            for q in playing:
                if self.mate.get(q) == g or (owner.get(q) == g and self.P.index(q) < self.P.index(p)):
                    both = (self.of_P[p] & self.of_P[q]).sum()
                    again |= bool(both > 0 and both >= tau * self.size_P[p])
            if not again:
                edges.add((g, p))
                inside[p] = g
            elif g in paired and p not in joined:
                self.kind_P[p], self.about[p] = "duplicate", g
        # 4
        linked = edges | {(g, p) for p, g in self.mate.items()}
        for gs, ps in parts(linked):
            if len(gs) == 1 and len(ps) == 1:
                continue
            kind = "tangled" if len(gs) > 1 and len(ps) > 1 else "merged" if len(gs) > 1 else "split"
            if kind != "tangled" and not any(p in self.mate for p in ps):
                whole = self.size_P[next(iter(ps))] if kind == "merged" else self.size_G[next(iter(gs))]
                if sum(self.shared[g, p] for g in gs for p in ps) < near * whole:
                    continue
            self.groups.append((kind, frozenset(gs), frozenset(ps)))
            for g in gs:
                self.kind_G[g] = kind
            for p in ps:
                self.kind_P[p] = kind
                joins = [g for g, q in edges if q == p]
                self.about[p] = self.mate.get(p, inside.get(p, -1))
                if self.about[p] < 0:
                    self.about[p] = max(
                        joins, key=lambda g: (self.iou(g, p), self.shared[g, p] / self.size_G[g], -g)
                    )
        # 5
        open_G = [g for g in real if not self.kind_G[g]]
        open_P = [p for p in self.P if not self.kind_P[p]]
        self.pair("loose", lambda g, p: self.same[g, p] and self.iou(g, p) >= near, open_G, open_P)
        for p in open_P:
            if self.kind_P[p]:
                continue
            served = [g for g in real if self.kind_G[g]]
            own = [g for g in served if self.same[g, p] and self.shared[g, p]]
            others = [g for g in served if not self.same[g, p] and self.iou(g, p) >= found]
            self.kind_P[p] = "spurious"
            if others or (own and sum(self.shared[g, p] / self.size_P[p] for g in own) >= tau):
                self.kind_P[p] = "duplicate"
                self.about[p] = max(own + others, key=lambda g: (self.shared[g, p], self.iou(g, p), -g))
        for g in real:
            self.kind_G[g] = self.kind_G[g] or "missed"

    def pair(self, kind, fits, true, predicted) -> None:  # type: ignore[no-untyped-def]
        for p in predicted:
            if p in self.mate or self.kind_P[p]:
                continue
            able = [g for g in true if not self.kind_G[g] and g not in self.mate.values() and fits(g, p)]
            if able:
                g = max(able, key=lambda g: (self.iou(g, p), g))
                self.mate[p] = self.about[p] = g
                self.kind_G[g] = self.kind_P[p] = kind

    def entries(self) -> list[Entry]:
        made = list(self.groups)
        grouped = {p for _, _, ps in made for p in ps}
        made += [
            (self.kind_P[p], frozenset([g]), frozenset([p])) for p, g in self.mate.items() if p not in grouped
        ]
        made += [
            (k, frozenset([g]), frozenset()) for g, k in self.kind_G.items() if k in ("missed", "ignored")
        ]
        lone = ("spurious", "duplicate", "ignored")
        made += [(k, frozenset(), frozenset([p])) for p, k in self.kind_P.items() if k in lone]
        return made


def parts(edges: set[tuple[int, int]]) -> list[tuple[set[int], set[int]]]:
    """Connected parts of a graph between true objects and predictions."""
    made: list[tuple[set[int], set[int]]] = []
    for g, p in edges:
        mine = ({g}, {p})
        for other in [part for part in made if g in part[0] or p in part[1]]:
            mine[0].update(other[0])
            mine[1].update(other[1])
            made.remove(other)
        made.append(mine)
    return made


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_oracle_on_messy_pictures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = [Rules(), Rules(0.6, 0.2, 0.7), Rules(0.3, 0.05, 0.35), Rules(0.75, 0.1, 0.5)][seed % 4]
    found = ledger_of(messy(rng, images=60), OperatingPoint(float(rng.choice([0.0, 0.3]))), rules)
    entries, partners = oracle(found, rules)
    assert set(entries_of(found)) == entries
    counted = np.flatnonzero(found.selection.kept).tolist()
    assert {p: int(found.partner[p]) for p in counted} == partners
    assert_reconciles(found)


def test_messy_pictures_hold_every_kind() -> None:
    found = ledger_of(messy(np.random.default_rng(0), images=300), OperatingPoint(0.3))
    assert {kind for kind, _, _ in entries_of(found)} == set(KINDS)


# Boxes with random corners: no two overlaps are equal, so that nothing depends on the order of the lists.


def boxes(seed: int, images: int = 4) -> Scenes:
    rng = np.random.default_rng(seed)

    def objects(count: int, near: np.ndarray | None = None, at: np.ndarray | None = None) -> Objects:
        made = np.hstack([rng.uniform(0, 60, (count, 2)), rng.uniform(4, 40, (count, 2))])
        on = rng.integers(0, images, count)
        if near is not None and at is not None and len(near):
            which = rng.integers(0, len(near), count)
            follow = rng.random(count) < 0.7
            made = np.where(follow[:, None], near[which] + rng.normal(0, 3, (count, 4)), made)
            made[:, 2:] = made[:, 2:].clip(1)
            on = np.where(follow, at[which], on)
        area = made[:, 2] * made[:, 3]
        return Objects(
            on,
            rng.integers(0, 2, count),
            rng.random(count),
            np.zeros(count, bool),
            made,
            (None,) * count,
            area,
            area,
        )

    truth = objects(int(rng.integers(0, 20)))
    truth = replace(truth, crowd=rng.random(len(truth)) < 0.1)
    predicted = objects(int(rng.integers(0, 30)), truth.boxes, truth.images)
    size = (100, 100)
    return Scenes(tuple(range(images)), (size,) * images, ((1, "a"), (2, "b")), truth, predicted)


def boxes_ledger(scenes: Scenes) -> Ledger:
    overlaps = overlaps_of(scenes, "bbox")
    return ledger(overlaps, select(overlaps, OperatingPoint(0.2)))


def reordered(objects: Objects, order: np.ndarray, images: np.ndarray) -> Objects:
    return replace(
        objects,
        images=images[objects.images[order]],
        labels=objects.labels[order],
        scores=objects.scores[order],
        crowd=objects.crowd[order],
        boxes=objects.boxes[order],
        segm_areas=objects.segm_areas[order],
        bbox_areas=objects.bbox_areas[order],
    )


def renumbered(entries: list[Entry], truth: np.ndarray, predicted: np.ndarray) -> set[Entry]:
    return {
        (k, frozenset(int(truth[i]) for i in g), frozenset(int(predicted[i]) for i in p))
        for k, g, p in entries
    }


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_order_of_images_and_objects_does_not_matter(seed: int) -> None:
    scenes = boxes(seed)
    rng = np.random.default_rng(seed)
    images = rng.permutation(len(scenes.image_ids))
    true, predicted = rng.permutation(len(scenes.truth)), rng.permutation(len(scenes.predicted))
    shuffled = replace(
        scenes,
        truth=reordered(scenes.truth, true, images),
        predicted=reordered(scenes.predicted, predicted, images),
    )
    first, second = boxes_ledger(scenes), boxes_ledger(shuffled)
    assert renumbered(entries_of(second), true, predicted) == set(entries_of(first))
    np.testing.assert_array_equal(second.signed[images], first.signed)
    np.testing.assert_array_equal(second.errors[images], first.errors)


@given(st.integers(0, 10_000), st.sampled_from(["left-right", "up-down", "moved"]))
@settings(max_examples=40, deadline=None)
def test_flipping_and_moving_pictures_changes_nothing(seed: int, how: str) -> None:
    scenes = boxes(seed)

    def changed(objects: Objects) -> Objects:
        made = objects.boxes.copy()
        if how == "moved":
            made[:, :2] += 128.0
        else:
            axis = int(how == "up-down")
            made[:, axis] = 100 - made[:, axis] - made[:, axis + 2]
        return replace(objects, boxes=made)

    other = replace(scenes, truth=changed(scenes.truth), predicted=changed(scenes.predicted))
    assert entries_of(boxes_ledger(other)) == entries_of(boxes_ledger(scenes))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_far_prediction_adds_one_spurious_entry(seed: int) -> None:
    scenes = boxes(seed)
    old = scenes.predicted
    far = replace(
        old,
        images=np.append(old.images, 0),
        labels=np.append(old.labels, 0),
        scores=np.append(old.scores, 0.7),
        crowd=np.append(old.crowd, False),
        boxes=np.vstack([old.boxes, [500, 500, 5, 5]]),
        masks=(*old.masks, None),
        segm_areas=np.append(old.segm_areas, 25),
        bbox_areas=np.append(old.bbox_areas, 25),
    )
    before, after = boxes_ledger(scenes), boxes_ledger(replace(scenes, predicted=far))
    added = ("spurious", frozenset(), frozenset([len(old)]))
    assert set(entries_of(after)) == {*entries_of(before), added}
    assert after.signed.sum() == before.signed.sum() + 1


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_some_images_alone_give_the_entries_that_they_give_together(seed: int) -> None:
    scenes = boxes(seed)
    some = np.flatnonzero(np.random.default_rng(seed).random(len(scenes.image_ids)) < 0.6)
    whole = boxes_ledger(scenes)
    overlaps = whole.overlaps.only(some)
    part = ledger(overlaps, select(overlaps, OperatingPoint(0.2)))
    true = np.flatnonzero(np.isin(scenes.truth.images, some))
    predicted = np.flatnonzero(np.isin(scenes.predicted.images, some))
    inside = {
        entry
        for entry in entries_of(whole)
        if (entry[1] | entry[2]) and (entry[1] <= set(true.tolist()) and entry[2] <= set(predicted.tolist()))
    }
    assert renumbered(entries_of(part), true, predicted) == inside
    np.testing.assert_array_equal(part.signed, whole.signed[some])


def test_matched_is_a_true_positive_of_coco_where_neighbours_do_not_overlap(rng: np.random.Generator) -> None:
    planter = Planter(rng)
    plants = [
        PLANTS[n] for n in ("matched", "loose", "shifted", "confused", "duplicate", "spurious", "missed")
    ]
    for _ in range(60):
        planter.picture([plants[i] for i in rng.integers(0, len(plants), 9)])
    found = ledger_of(planter.scenes())
    kept = found.selection.kept
    coco = verdicts(found.overlaps, kept, ious=np.array([0.5]))
    np.testing.assert_array_equal(
        found.predicted_kind == KINDS.index("matched"), (coco.verdict[0] == TRUE) & kept
    )
    matched = found.predicted_kind == KINDS.index("matched")
    np.testing.assert_array_equal(found.partner[matched], coco.truth[0][matched])


@pytest.mark.parametrize("seed", range(4))
def test_reconciles_after_suppression_and_cap(seed: int) -> None:
    scenes = messy(np.random.default_rng(seed), images=40)
    point = OperatingPoint(0.2, {0: 0.4}, Suppression(0.4), cap=4, min_area=3, border="drop")
    assert_reconciles(ledger_of(scenes, point))
