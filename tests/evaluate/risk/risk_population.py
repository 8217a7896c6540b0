"""Populations of pictures whose truth is known, and repeated draws from them: how often each promise is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.overlaps import Overlaps, overlaps_of
from apiece.evaluate.risk import (
    Losses,
    Summaries,
    conformal_risk_control,
    count_interval,
    drift_gate,
    learn_then_test,
    losses_of,
    mean_count,
    summaries,
    total_count,
    total_interval,
)
from apiece.evaluate.risk.losses import COARSE, GRID
from apiece.evaluate.scenes import Objects, Scenes

POINT = OperatingPoint(0.4)
SIDE, CELL = 14, 60
ALPHA, ALPHA_COUNT, LEVEL = 0.1, 0.2, 0.9


Change = Literal["none", "shifted", "hidden"]


def pictures(images: int, seed: int, change: Change = "none") -> Overlaps:
    """Pictures of boxes in a lattice, as a detector might find them.

    Counts vary more than Poisson's, every picture has its own difficulty, which all its objects share, and its own
    number of false predictions, of which there are more where there are more objects. "shifted": twice as dense,
    smaller objects of lower scores, of which more are missed. "hidden": a quarter of the objects is of a sort that
    leaves no trace in the predictions, which are distributed as before.
    """
    shifted = change == "shifted"
    r = np.random.default_rng(seed)
    density = 16.0 if shifted else 8.0
    visible = np.minimum(r.poisson(density * r.gamma(3, 1 / 3, images)), 100)
    unseen = r.poisson(visible / 3) if change == "hidden" else np.zeros(images, np.int64)
    true = visible + unseen
    ease = r.normal(0, 0.9, images) - (1.2 if shifted else 0.0)
    rate = (0.5 + 0.12 * visible) * (2.5 if shifted else 1.0)
    false = np.minimum(r.poisson(rate * r.gamma(1.5, 1 / 1.5, images)), 90)
    cells = r.random((images, SIDE * SIDE)).argsort(axis=1)

    def placed(count: np.ndarray, skip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = np.repeat(np.arange(images), count)
        nth = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count)
        cell = cells[image, nth + skip[image]]
        size = r.uniform(18, 30 if shifted else 40, (len(image), 2))
        corner = np.stack([cell % SIDE, cell // SIDE], 1) * CELL + r.uniform(1, 15, (len(image), 2))
        return image, np.hstack([corner, size])

    def columns(image: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> Objects:
        areas, n = boxes[:, 2] * boxes[:, 3], len(image)
        return Objects(
            image, np.zeros(n, np.int64), scores, np.zeros(n, np.bool_), boxes, (None,) * n, areas, areas
        )

    image, boxes = placed(true, np.zeros(images, np.int64))
    at_false, false_boxes = placed(false, true)
    nth = np.arange(len(image)) - np.repeat(np.cumsum(true) - true, true)
    seen = (r.random(len(image)) < 0.985) & (nth < visible[image])
    at_found, loose = image[seen], boxes[seen] + r.normal(0, 0.8, (int(seen.sum()), 4))
    scores = 1 / (1 + np.exp(-(1.8 + ease[at_found] + r.normal(0, 0.9, len(at_found)))))
    false_scores = 1 / (
        1 + np.exp(-((-0.4 if shifted else -1.4) + 0.5 * ease[at_false] + r.normal(0, 0.9, len(at_false))))
    )
    scenes = Scenes(
        tuple(range(images)),
        ((SIDE * CELL, SIDE * CELL),) * images,
        ((1, "cell"),),
        columns(image, boxes, np.ones(len(image))),
        columns(
            np.append(at_found, at_false),
            np.vstack([loose, false_boxes]),
            np.append(scores, false_scores),
        ),
    )
    return overlaps_of(scenes, "bbox")


@dataclass(frozen=True, eq=False)
class Pool:
    """All pictures of a population, from which draws are made with replacement: its means are the truth."""

    overlaps: Overlaps
    losses: Losses
    miss: np.ndarray
    false: np.ndarray
    count: np.ndarray
    true: np.ndarray
    summaries: Summaries

    @property
    def predicted(self) -> np.ndarray:
        return self.summaries.count

    def seen(self, places: np.ndarray) -> Summaries:
        return Summaries(
            self.predicted[places],
            {name: column[places] for name, column in self.summaries.columns.items()},
        )


def pool(images: int, seed: int, change: Change = "none") -> Pool:
    overlaps = pictures(images, seed, change)
    losses, coarse = losses_of(overlaps, POINT, GRID), losses_of(overlaps, POINT, COARSE)
    return Pool(
        overlaps,
        losses,
        losses.miss,
        losses.false_share,
        coarse.count_error,
        losses.true.astype(np.float64),
        summaries(overlaps, POINT),
    )


def repeat(
    calibration: Pool,
    new: Pool,
    repetitions: int,
    *,
    n: int = 150,
    live: int = 600,
    few: int = 5,
    many: int = 40,
    gate: int = 200,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Draw labelled pictures from one population and new ones from another, again and again.

    For every method: `kept`, float64 (repetitions,), 1 where the promise was kept (or the share of pictures, or for
    conformal risk control the expected loss); NaN where it abstained; `width` of intervals; `target` for `kept`.
    """
    r = np.random.default_rng(seed)
    kept: dict[str, list[float]] = {}
    width: dict[str, list[float]] = {}
    mean = float(new.true.mean())
    risks = {"miss": new.miss.mean(axis=0), "false": new.false.mean(axis=0), "count": new.count.mean(axis=0)}
    envelope = np.maximum.accumulate(new.false[:, ::-1], axis=1)[:, ::-1].mean(axis=0)

    def note(name: str, value: float, wide: float | None = None) -> None:
        kept.setdefault(name, []).append(float(value))
        if wide is not None:
            width.setdefault(name, []).append(wide)

    for repetition in range(repetitions):
        audit = r.integers(0, len(calibration.true), n)
        others = r.integers(0, len(new.true), live)
        true, predicted = calibration.true[audit], calibration.predicted[audit]

        chosen = {
            "miss": learn_then_test(calibration.miss[audit], GRID, ALPHA, 1 - LEVEL, start="low"),
            "miss, Hoeffding–Bentkus": learn_then_test(
                calibration.miss[audit], GRID, ALPHA, 1 - LEVEL, start="low", test="hoeffding-bentkus"
            ),
            "false": learn_then_test(calibration.false[audit], GRID, ALPHA, 1 - LEVEL, start="high"),
            "count": learn_then_test(calibration.count[audit], COARSE, ALPHA_COUNT, 1 - LEVEL, start=None),
        }
        for name, choice in chosen.items():
            alpha = ALPHA_COUNT if name == "count" else ALPHA
            true_risk = np.nan if choice.place is None else risks[name.partition(",")[0]][choice.place]
            fine = np.nan if choice.place is None else float(true_risk <= alpha)
            note(f"Learn-then-Test, {name}", fine, true_risk)
        control = conformal_risk_control(calibration.miss[audit], GRID, ALPHA)
        note("conformal risk control, miss", 0.0 if control.place is None else risks["miss"][control.place])
        control = conformal_risk_control(calibration.false[audit], GRID, ALPHA, start="high", envelope=True)
        note("conformal risk control, false", 0.0 if control.place is None else envelope[control.place])

        for scaled in (False, True):
            interval = count_interval(true, predicted, LEVEL, scaled=scaled)
            low, high = interval.around(new.predicted)
            note(
                f"count of a picture, {'scaled' if scaled else 'absolute'}",
                float(((low <= new.true) & (new.true <= high)).mean()),
                float((high - low).mean()),
            )
        for name, m in (("blocks", few), ("normal", many)):
            some = others[:m]
            total = total_interval(true, predicted, float(new.predicted[some].sum()), m, LEVEL)
            assert total.method == name
            truth = new.true[some].sum()
            note(f"total of pictures, {name}", total.low <= truth <= total.high, total.high - total.low)

        powered = mean_count(true, predicted, new.predicted[others], LEVEL)
        for one in (powered.plain, powered.powered, powered.classical):
            note(f"mean, {one.method}", one.low <= mean <= one.high, one.high - one.low)
        totals = total_count(true, predicted, new.predicted[others], LEVEL)
        truth = new.true[others].sum()
        for one in (totals.plain, totals.powered):
            note(f"total, {one.method}", one.low <= truth <= one.high, one.high - one.low)

        shift = drift_gate(calibration.seen(audit), new.seen(others[:gate]), draws=199, seed=repetition)
        note("gate", shift.tripped)
    return {
        name: {"kept": np.array(values), "width": np.nanmean(width[name]) if name in width else None}
        for name, values in kept.items()
    }


def error(kept: np.ndarray) -> float:
    """Standard error of the mean over repetitions."""
    known = kept[~np.isnan(kept)]
    return float(known.std() / np.sqrt(len(known)))
