"""Choosers: how each option's setting is chosen from one part of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.operating import OperatingPoint, Selection, Suppression, select
from apiece.evaluate.options.calibrated import fit_classes
from apiece.evaluate.options.pool import Pool, pool_of
from apiece.evaluate.options.ranking import by_class, precision_on
from apiece.evaluate.options.replayed import unlimited
from apiece.evaluate.options.setting import Fragments, Setting, Watershed
from apiece.evaluate.options.sweep import Criterion, sweep_of
from apiece.evaluate.options.tally import Tally
from apiece.evaluate.options.waists import typical_areas
from apiece.evaluate.overlaps import Overlaps, Pairs
from apiece.evaluate.replay import verdicts
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]
Objective = Literal["mae", "gross", "ap", "cost"]
Choose = Callable[[Bool], Setting | None]

NMS_IOUS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
CAPS = (1000, 500, 300, 200, 100, 50, 20, 10, 5)
AREAS = tuple(round(2 ** (step / 2)) for step in range(2, 33))  # 2 to 65536 pixels, by steps of √2
CONVEXITIES, GAPS = (0.95, 0.9, 0.85), (0, 2, 4)
MOST_MASKS, MOST_PIXELS = 4000, 1e7  # that are merged and split to judge these options
SOLIDITIES, RATIOS = (0.8, 0.85, 0.9, 0.95), (1.5, 0.0)
JUDGED_AT = np.array([0.5, 0.75])  # IoUs by whose mean AP a setting is chosen


@dataclass(frozen=True, eq=False)
class Chooser:
    """An option before it is judged.

    name, label  of the option, for programs and for people.
    choose       the setting that the images at which it is True (images,) choose; None where they can't.
    pool         the pool from which its settings are replayed, where they change masks.
    """

    name: str
    label: str
    choose: Choose
    pool: Pool | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """What all choosers share.

    overlaps   truth and stored candidates.
    baseline   the operating point that options would change.
    selection  what counts there.
    objective  what is made least ("ap": greatest).
    miss       the cost of a missed object,
    false      and of a prediction that is wrong.
    found      IoU from which a prediction is right.
    scored     whether scores mean anything.
    """

    overlaps: Overlaps
    baseline: OperatingPoint
    selection: Selection
    objective: Objective
    miss: float
    false: float
    found: float
    scored: bool

    @property
    def criterion(self) -> Criterion:
        """By what a threshold is chosen that serves the objective."""
        chosen: dict[Objective, Criterion] = {"mae": "mae", "gross": "cost", "cost": "cost", "ap": "f1"}
        return chosen[self.objective]

    @property
    def prices(self) -> tuple[float, float]:
        """What a miss and a false alarm cost, as the objective sees it."""
        return (self.miss, self.false) if self.objective == "cost" else (1.0, 1.0)


# ---- thresholds


def of_thresholds(case: Case) -> Iterator[Chooser]:
    """Global thresholds by each criterion, and thresholds per class where there are several."""
    swept = sweep_of(case.overlaps, select(case.overlaps, unlimited(case.baseline)).kept, found=case.found)
    words: tuple[tuple[str, Criterion, str], ...] = (
        ("threshold_mae", "mae", "of least error of the count"),
        ("threshold_bias", "bias", "of no bias of the count"),
        ("threshold_f1", "f1", "of best F1"),
        ("threshold_lrp", "lrp", "of least LRP error"),
        ("threshold_cost", "cost", f"of least cost (a miss {case.miss:g}, a false alarm {case.false:g})"),
    )
    for name, criterion, by in words:

        def choose(part: Bool, criterion: Criterion = criterion) -> Setting | None:
            limit = swept.of(part).threshold(criterion, case.miss, case.false)
            return None if limit is None else Setting(replace(case.baseline, threshold=limit, thresholds={}))

        yield Chooser(name, f"Threshold {by}", choose)
    if len(case.overlaps.scenes.classes) > 1:
        for criterion, by in (("f1", "of best F1"), ("bias", "of no bias of the count")):

            def choose_each(part: Bool, criterion: Criterion = criterion) -> Setting | None:
                limit, own = swept.of(part).thresholds(criterion)
                if limit is None:
                    return None
                return Setting(replace(case.baseline, threshold=limit, thresholds=own))

            yield Chooser(f"class_thresholds_{criterion}", f"Thresholds per class {by}", choose_each)


def of_calibration(case: Case) -> Iterator[Chooser]:
    """Scores made comparable across classes, and a threshold anew."""
    overlaps = case.overlaps
    kept = select(overlaps, unlimited(case.baseline)).kept
    swept = sweep_of(overlaps, kept, found=case.found)

    def choose(part: Bool) -> Setting | None:
        calibration = fit_classes(swept.of(part))
        if calibration is None:
            return None
        point = replace(case.baseline, thresholds={})
        setting = Setting(point, calibration)
        scores = setting.scores(overlaps)
        ranked = select(overlaps, unlimited(point), scores).kept
        limit = (
            sweep_of(overlaps, ranked, scores, case.found).of(part).threshold(case.criterion, *case.prices)
        )
        return None if limit is None else replace(setting, point=replace(point, threshold=limit))

    yield Chooser("calibration", "Calibrated scores (isotonic, per class)", choose)


# ---- rules of which there are a few


def of_rules(case: Case) -> Iterator[Chooser]:
    """Suppression, smallest size, cap and border, each over a grid."""
    base, overlaps = case.baseline, case.overlaps
    across = (True, False) if len(overlaps.scenes.classes) > 1 else (True,)
    measures: tuple[Literal["iou", "smaller"], ...] = ("iou", "smaller")
    grids: list[tuple[str, str, list[OperatingPoint]]] = []
    nms = [Suppression(iou, measure, per) for iou in NMS_IOUS for measure in measures for per in across]
    grids.append(("nms", "Suppression", [replace(base, nms=rule) for rule in (None, *nms)]))
    kept = case.selection.kept
    largest = float(overlaps.predicted_areas[kept].max(initial=0))
    areas = [area for area in AREAS if area <= largest]
    grids.append(("min_area", "Smallest size", [replace(base, min_area=area) for area in (0, *areas)]))
    if case.scored:
        uncut = select(overlaps, replace(base, cap=None)).kept
        fullest = int(np.bincount(overlaps.scenes.predicted.images[uncut], minlength=1).max())
        caps = [None, *(cap for cap in CAPS if cap < fullest)]
        grids.append(("cap", "Cap", [replace(base, cap=cap) for cap in caps]))
    grids.append(("border", "Border", [replace(base, border="drop"), replace(base, border="keep")]))
    losses = PointLosses(case)
    for name, label, points in grids:
        others = [base, *(point for point in points if point != base)]
        if len(others) > 1:
            yield Chooser(name, label, _of_grid([Setting(point) for point in others], losses(others)))


class PointLosses:
    """What operating points with the baseline's thresholds cost, from the candidates above these alone."""

    def __init__(self, case: Case) -> None:
        self._case = case
        above = np.ones(len(case.overlaps.scenes.predicted), np.bool_)
        if case.objective != "ap":
            only = replace(case.baseline, nms=None, cap=None, min_area=0, border="keep")
            above = select(case.overlaps, only).kept
        self._overlaps = restricted(case.overlaps, above)
        self._judge = Judge(case, self._overlaps)

    def __call__(self, points: Sequence[OperatingPoint]) -> Losses:
        """The losses of operating points whose thresholds are the baseline's."""
        limit = unlimited if self._case.objective == "ap" else (lambda point: point)
        return self._judge([select(self._overlaps, limit(point)).kept for point in points])


def affordable(overlaps: Overlaps, kept: Bool, seed: int) -> Bool:
    """bool (images,), images at random whose candidates `kept` (P,) are few and small enough to merge and split."""
    images, count = overlaps.scenes.predicted.images[kept], len(overlaps.scenes.image_ids)
    order = np.random.default_rng(seed).permutation(count)
    masks = np.cumsum(np.bincount(images, minlength=count)[order])
    pixels = np.cumsum(np.bincount(images, overlaps.predicted_areas[kept], count)[order])
    chosen = np.zeros(count, np.bool_)
    chosen[order[(masks <= MOST_MASKS) & (pixels <= MOST_PIXELS)]] = True
    return chosen


def of_masks(case: Case) -> Iterator[Chooser]:
    """Merging of fragments, and splitting by watershed."""
    overlaps, base = case.overlaps, case.baseline
    rules = [Fragments(convexity, gap) for convexity in CONVEXITIES for gap in GAPS]
    merging = pool_of(overlaps, case.selection, rules)
    if any(merging.merges):
        settings = [Setting(base), *(Setting(base, fragments=rule) for rule in rules)]
        losses = Judge(case, merging.overlaps)(_edited(case, merging, settings))
        yield Chooser("fragments", "Merging of fragments", _of_grid(settings, losses), merging)
    splitting = pool_of(overlaps, case.selection, (), SOLIDITIES[-1])
    if splitting.found:
        yield Chooser("watershed", "Splitting by watershed", _watershed(case, splitting), splitting)


def _watershed(case: Case, pool: Pool) -> Choose:
    """Chooses solidity and ratio; the typical areas come from the choosing images, too."""
    judge = Judge(case, pool.overlaps)

    def choose(part: Bool) -> Setting | None:
        typical = typical_areas(case.overlaps, case.selection.kept, part)
        rules = [Watershed(solidity, ratio, typical) for solidity in SOLIDITIES for ratio in RATIOS]
        settings = [Setting(case.baseline), *(Setting(case.baseline, watershed=rule) for rule in rules)]
        return _of_grid(settings, judge(_edited(case, pool, settings)))(part)

    return choose


def _edited(case: Case, pool: Pool, settings: Sequence[Setting]) -> list[Bool]:
    chosen = case.selection.kept
    if case.objective == "ap":
        chosen = select(case.overlaps, unlimited(case.baseline)).kept
    return [pool.kept(chosen, setting) for setting in settings]


# ---- judged


@dataclass(frozen=True, eq=False)
class Losses:
    """What S settings cost.

    of       from a part of the images (images,), float64 (S,), lower is better.
    changed  int64 (S,), how many candidates the setting treats unlike the first.
    """

    of: Callable[[Bool], Float64]
    changed: Int64


class Judge:
    """What sets of candidates cost by the objective, on any part of the images."""

    def __init__(self, case: Case, overlaps: Overlaps) -> None:
        self._case, self._overlaps = case, overlaps
        self._tally = Tally(overlaps, found=case.found)

    def __call__(self, sets: Sequence[Bool]) -> Losses:
        """The losses of sets of candidates, bool (P,) each."""
        changed = np.array([np.count_nonzero(kept != sets[0]) for kept in sets])
        if self._case.objective == "ap":
            found = [verdicts(self._overlaps, kept, ious=JUDGED_AT).verdict for kept in sets]

            order = by_class(self._overlaps)

            def of_ranking(part: Bool) -> Float64:
                return -np.array([precision_on(self._overlaps, one, part, order) for one in found])

            return Losses(of_ranking, changed)
        by_image = np.array([self._by_image(kept) for kept in sets])

        def of(part: Bool) -> Float64:
            total: Float64 = by_image[:, part].sum(axis=1)
            return total

        return Losses(of, changed)

    def _by_image(self, kept: Bool) -> Float64:
        if self._case.objective == "mae":
            off: Float64 = np.abs(self._tally.counted(kept) - self._tally.true).astype(np.float64)
            return off
        missed, wrong = self._tally.verdicts(kept)
        miss, false = self._case.prices
        cost: Float64 = miss * missed + false * wrong
        return cost


def _of_grid(settings: Sequence[Setting], losses: Losses) -> Choose:
    """The setting of least loss; among equals that which changes fewest candidates."""

    def choose(part: Bool) -> Setting | None:
        loss = losses.of(part)
        return settings[int(np.lexsort((losses.changed, np.round(loss, 9)))[0])]

    return choose


def restricted(overlaps: Overlaps, chosen: Bool) -> Overlaps:
    """The overlaps of the predictions at which `chosen` (P,) is True, and of all true objects."""
    place = np.cumsum(chosen) - 1
    across, among = overlaps.across, overlaps.among_predicted
    across = across.where(chosen[across.second])
    among = among.where(chosen[among.first] & chosen[among.second])
    return replace(
        overlaps,
        scenes=replace(overlaps.scenes, predicted=overlaps.scenes.predicted.where(chosen)),
        predicted_areas=overlaps.predicted_areas[chosen],
        across=Pairs(across.first, place[across.second], across.shared),
        among_predicted=Pairs(place[among.first], place[among.second], among.shared),
    )
