"""Calibration: whether a score says how often such a prediction is right, and what isotonic repair would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from apiece.errors import UsageError
from apiece.evaluate.bootstrap import Interval, Resamples
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.replay import NEITHER, TRUE, verdicts
from apiece.evaluate.scenes import Float64, Int64, Key, Kind

Bool = NDArray[np.bool_]
Matching = Literal["coco", "any"]

FLOOR = 0.05
BINS = 10
SIZES = ("small", "medium", "large")
LIMITS = (32.0**2, 96.0**2)

DEFINITIONS = {
    "calibration": (
        "Predictions with score >= the stated floor, whatever the operating threshold; those in crowd regions are"
        " left out."
    ),
    "calibration.right": (
        "By the stated matching rule, within classes, at the stated IoU. coco: each prediction in order of score "
        "takes the free true object that it fits best; a second one on an object is wrong. any: a prediction is "
        "right if it fits any true object, so that duplicates are right too."
    ),
    "calibration.d_ece": (
        "Detection expected calibration error: sum over bins of equal width of scores from 0 to 1 of (n of the "
        "bin / n) x |precision of the bin - its mean score| (Küppers et al. 2020, arXiv 2004.13546, of scores "
        "alone). 0 is perfect. Of few predictions it is too large: chance alone makes gaps. Its interval "
        "takes off what chance adds to draws, so that it reaches further down than up; in simulations of 95 % it held "
        "the truth in 84 to 91 %."
    ),
    "calibration.la_ece": (
        "Localisation-aware calibration error: the same with precision x mean IoU of the right predictions for "
        "precision; the mean over classes that have predictions (Oksuz et al. 2023, arXiv 2307.00934)."
    ),
    "calibration.overconfidence": "Mean score - precision: above 0 where scores promise too much.",
    "calibration.size": "small: predicted area below 32² pixels; medium: below 96²; large: the others.",
    "calibration.repair": (
        "Scores mapped to precision by a rising curve that is learned on one half of the images (whole groups) "
        "and judged on the other half, both ways; `before` and `after` are the mean D-ECE of the halves, on "
        "images that did not teach the map. The interval is over images, with the two maps held fixed."
    ),
}


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising map from scores to precision, linear between its knots and level beyond them.

    scores     float64 (K,), where the knots are; rising.
    precision  float64 (K,), the map's value there; never falling, in 0..1.
    """

    scores: Float64
    precision: Float64

    def apply(self, scores: ArrayLike) -> Float64:
        """The repaired scores, float64, of the same shape; the order is kept, though scores may become equal."""
        repaired: Float64 = np.interp(np.asarray(scores, np.float64), self.scores, self.precision)
        return repaired


def fit_isotonic(scores: ArrayLike, true: ArrayLike) -> Isotonic:
    """The rising map of scores to precision that fits best by squared error.

    scores  finite numbers (P,).
    true    bool (P,), which predictions are right.
    raises  UsageError without predictions, or if shapes differ or a score is not finite.
    source  pool adjacent violators: Ayer et al. 1955; Zadrozny and Elkan 2002; scipy.optimize.isotonic_regression.
            Equal scores are pooled first, so that they stay equal. Linear between knots as in scikit-learn.
    """
    from scipy.optimize import isotonic_regression

    given, right = np.asarray(scores, np.float64), np.asarray(true, np.bool_)
    if given.ndim != 1 or given.shape != right.shape or not given.size or not np.isfinite(given).all():
        raise UsageError(
            f"scores of shape {given.shape} and verdicts of shape {right.shape}; expected as many finite scores as "
            "verdicts, at least one. Remedy: learn from images with predictions."
        )
    levels, place, count = np.unique(given, return_inverse=True, return_counts=True)
    share = np.bincount(place, right) / count
    fitted = isotonic_regression(share, weights=count)
    # A level stretch needs only its ends.
    starts = np.asarray(fitted.blocks, np.int64)
    ends = np.unique(np.concatenate([starts[:-1], starts[1:] - 1]))
    return Isotonic(levels[ends], np.clip(fitted.x[ends], 0.0, 1.0))


def d_ece(scores: ArrayLike, true: ArrayLike, bins: int = BINS) -> float:
    """Detection expected calibration error of scores (P,) in 0..1 with verdicts (P,); NaN of none.

    source  Küppers et al. 2020, arXiv 2004.13546, binned by score alone.
    """
    given, right = np.asarray(scores, np.float64), np.asarray(true, np.float64)
    gaps = np.bincount(_bins(given, bins), right - given, bins)
    return float(np.abs(gaps).sum() / given.size) if given.size else float("nan")


@dataclass(frozen=True)
class Bin:
    """The predictions whose score is in low..high; NaN where there is none.

    low, high  bounds; a score on a bound belongs to the bin above, 1 to the last.
    n          how many predictions.
    score      their mean score.
    precision  share that is right; with an interval where the bin is not of one class only.
    iou        mean IoU of the right ones.
    """

    low: float
    high: float
    n: int
    score: float
    precision: Interval
    iou: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        return {
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "score": _number(self.score),
            "precision": self.precision.to_json(),
            "iou": _number(self.iou),
        }


@dataclass(frozen=True)
class CalibrationFigures:
    """The figures of some predictions; NaN where there is none.

    predictions     how many.
    d_ece           detection expected calibration error.
    la_ece          localisation-aware calibration error, a mean over classes.
    overconfidence  mean score less precision.
    curve           the reliability curve, bin by bin.
    """

    predictions: int
    d_ece: Interval
    la_ece: Interval
    overconfidence: Interval
    curve: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        return {
            "predictions": self.predictions,
            "d_ece": self.d_ece.to_json(),
            "la_ece": self.la_ece.to_json(),
            "overconfidence": self.overconfidence.to_json(),
            "curve": [one.to_json() for one in self.curve],
        }


@dataclass(frozen=True, eq=False)
class Repair:
    """What isotonic repair does to D-ECE on images that did not teach it.

    before, after  the mean of both halves of the images, by their predictions: D-ECE of the scores as they are, and
                   repaired by the map that the other half taught.
    change         after less before.
    ways           of both directions: images that taught, images that were judged, D-ECE before and after.
    map            the map that all images together teach, for use on other images.
    """

    before: Interval
    after: Interval
    change: Interval
    ways: tuple[tuple[int, int, float, float], ...]
    map: Isotonic

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        names = ("taught", "judged", "before", "after")
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "change": self.change.to_json(),
            "ways": [
                dict(zip(names, (a, b, _number(c), _number(d)), strict=True)) for a, b, c, d in self.ways
            ],
            "map": {"scores": self.map.scores.tolist(), "precision": self.map.precision.tolist()},
        }


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration of the scores of predictions.

    kind      of the overlaps.
    matching  the rule by which predictions are right, see DEFINITIONS["calibration.right"].
    iou       the IoU from which they are.
    floor     lowest score of the predictions that were looked at.
    left_out  predictions below the floor.
    crowd     predictions left out because they lie in crowd regions.
    total     all of them.
    by_class  (category id, name, figures), by category id.
    by_size   (size, figures) by the predicted object's area.
    repair    what isotonic repair gives; None where `reasons` says why.
    reasons   sentences: what is not given, and why.
    """

    kind: Kind
    matching: Matching
    iou: float
    floor: float
    left_out: int
    crowd: int
    total: CalibrationFigures
    by_class: tuple[tuple[Key, str, CalibrationFigures], ...]
    by_size: tuple[tuple[str, CalibrationFigures], ...]
    repair: Repair | None
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps(…, allow_nan=False)`."""
        return {
            "kind": self.kind,
            "matching": self.matching,
            "iou": self.iou,
            "floor": self.floor,
            "left_out": self.left_out,
            "crowd": self.crowd,
            "total": self.total.to_json(),
            "by_class": [{"category_id": key, "name": name, **f.to_json()} for key, name, f in self.by_class],
            "by_size": [{"size": size, **figures.to_json()} for size, figures in self.by_size],
            "repair": None if self.repair is None else self.repair.to_json(),
            "reasons": list(self.reasons),
        }


def calibration(
    overlaps: Overlaps,
    draws: Resamples,
    *,
    matching: Matching,
    iou: float = 0.5,
    bins: int = BINS,
    floor: float = FLOOR,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Calibration:
    """How well scores say how often predictions are right.

    matching  "coco" or "any", see DEFINITIONS["calibration.right"]; figures change with it, so it must be said.
    iou       IoU from which a prediction is right.
    bins      how many bins of scores.
    floor     predictions below this score are left out, compared as float32: candidates that nobody looks at would
              outweigh the others.
    groups    the group of each image; groups are kept whole when images are parted for the repair.
    raises    UsageError where scores are not in 0..1, or all alike (label images have none), or nothing reaches the
              floor.
    source    see DEFINITIONS; isotonic regression as the strongest repair: Kuzucu et al. 2024, arXiv 2405.20459.
    """
    scenes, predicted = overlaps.scenes, overlaps.scenes.predicted
    scores = predicted.scores
    _check(scores, floor)
    kept = scores.astype(np.float32) >= np.float32(floor)
    right, neither, fit = _verdicts(overlaps, kept, matching, iou)
    used = kept & ~neither
    places = np.flatnonzero(used)
    if not places.size:
        raise UsageError(
            f"no prediction has a score of {floor} or more; expected some to calibrate. Remedy: a lower floor."
        )
    cases = _Cases(
        predicted.images[places],
        predicted.labels[places],
        _bins(scores[places], bins),
        scores[places],
        right[places],
        np.where(right, fit, 0.0)[places],
        len(scenes.classes),
        bins,
    )
    total, by_class = _figures(cases, draws)
    size = np.searchsorted(LIMITS, predicted.areas(overlaps.kind)[places], side="right")
    by_size = tuple((name, _figures(cases.where(size == i), draws)[0]) for i, name in enumerate(SIZES))
    repair, reasons = _repair(cases, draws, groups, seed)
    return Calibration(
        overlaps.kind,
        matching,
        iou,
        floor,
        int(np.count_nonzero(~kept)),
        int(np.count_nonzero(kept & neither)),
        total,
        tuple((key, name, f) for (key, name), f in zip(scenes.classes, by_class, strict=True)),
        by_size,
        repair,
        reasons,
    )


@dataclass(frozen=True, eq=False)
class _Cases:
    """N predictions: image, class, bin, score, whether right, and IoU if right (0 if not)."""

    images: Int64
    labels: Int64
    bin: Int64
    scores: Float64
    right: Bool
    iou: Float64
    classes: int
    bins: int

    def where(self, chosen: Bool) -> _Cases:
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            bin=self.bin[chosen],
            scores=self.scores[chosen],
            right=self.right[chosen],
            iou=self.iou[chosen],
        )


def _check(scores: Float64, floor: float) -> None:
    if not np.isfinite(floor):
        raise UsageError(f"score floor is {floor!r}; expected a finite number such as {FLOOR}.")
    if not scores.size:
        raise UsageError("there are no predictions; expected some to calibrate.")
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise UsageError(
            f"scores range from {scores.min()} to {scores.max()}; expected 0 to 1, to be compared with shares of right "
            "predictions. Remedy: give probabilities, such as the sigmoid of logits."
        )
    if scores.min() == scores.max():
        raise UsageError(
            f"all {scores.size} predictions have the score {scores[0]:g}; expected scores that differ. Label images "
            "and lists without scores cannot be calibrated."
        )


def _verdicts(overlaps: Overlaps, kept: Bool, matching: Matching, iou: float) -> tuple[Bool, Bool, Float64]:
    """Of each prediction: whether it is right, whether it lies in a crowd region instead, and the IoU if right."""
    predicted, truth, across = overlaps.scenes.predicted, overlaps.scenes.truth, overlaps.across
    if matching == "coco":
        found = verdicts(overlaps, kept, ious=np.array([iou]))
        right = found.verdict[0] == TRUE
        hit = found.truth[0][across.second] == across.first
        fit = np.zeros(len(predicted))
        fit[across.second[hit]] = overlaps.iou[hit]
        return right, found.verdict[0] == NEITHER, fit
    if matching != "any":
        raise UsageError(f"matching is {matching!r}; expected 'coco' or 'any'.")
    value = overlaps.iou
    near = (value >= iou) & (truth.labels[across.first] == predicted.labels[across.second])
    crowd = truth.crowd[across.first]
    fit, in_crowd = np.zeros(len(predicted)), np.zeros(len(predicted), np.bool_)
    np.maximum.at(fit, across.second[near & ~crowd], value[near & ~crowd])
    in_crowd[across.second[near & crowd]] = True
    right = fit > 0
    return right & kept, in_crowd & ~right, fit


def _figures(cases: _Cases, draws: Resamples) -> tuple[CalibrationFigures, list[CalibrationFigures]]:
    """The figures of all cases, and of each class alone."""
    classes, bins = cases.classes, cases.bins
    cells = cases.labels * bins + cases.bin
    shape = draws.weights.shape[1], classes * bins
    places = cases.images, cells

    def table(values: Float64) -> tuple[Float64, Float64]:
        """Sums by class and bin, (1, classes, bins), and in every draw, (B, classes, bins)."""
        by_image = csr_array((values, places), shape=shape)
        drawn = np.asarray(by_image.T @ draws.weights.T, np.float64).T
        sums = np.bincount(cells, values, classes * bins).astype(np.float64)
        return sums.reshape(1, classes, bins), drawn.reshape(-1, classes, bins)

    right = cases.right.astype(np.float64)
    n, n_drawn = table(np.ones(len(right)))
    gap, gap_drawn = table(cases.scores - right)
    placed, placed_drawn = table(cases.scores - cases.iou)
    true, true_drawn = table(right)
    everything, nothing = slice(None), np.zeros(0)

    def figures(one: slice, units: int) -> CalibrationFigures:
        def interval(value: Float64, drawn: Float64) -> Interval:
            return draws.interval(float(value[0]), drawn, units)

        def distance(value: Float64, drawn: Float64) -> Interval:
            return draws.reflected(float(value[0]), drawn, units)

        count, count_drawn = n[:, one].sum(axis=1), n_drawn[:, one].sum(axis=1)
        hits, hits_drawn = true[:, one].sum(axis=1), true_drawn[:, one].sum(axis=1)
        score = _sums(cases, one, cases.scores)
        overlap = _sums(cases, one, cases.iou)
        edges = np.linspace(0, 1, bins + 1).tolist()
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, precision_drawn = hits / count, hits_drawn / count_drawn
            mean_score, mean_iou = score / count[0], overlap / hits[0]
        curve = tuple(
            Bin(
                edges[b],
                edges[b + 1],
                int(count[0, b]),
                float(mean_score[b]),
                interval(precision[:, b], precision_drawn[:, b] if one == everything else nothing),
                float(mean_iou[b]),
            )
            for b in range(bins)
        )
        return CalibrationFigures(
            int(count.sum()),
            distance(_ece(gap[:, one].sum(axis=1), count), _ece(gap_drawn[:, one].sum(axis=1), count_drawn)),
            distance(_by_class(placed[:, one], n[:, one]), _by_class(placed_drawn[:, one], n_drawn[:, one])),
            interval(_over(gap[:, one], n[:, one]), _over(gap_drawn[:, one], n_drawn[:, one])),
            curve,
        )

    unit = draws.unit[cases.images]
    seen = np.unique(cases.labels * shape[0] + unit) // shape[0]
    units_of = np.bincount(seen, minlength=classes).tolist()
    spread = len(np.unique(unit))
    return figures(everything, spread), [figures(slice(c, c + 1), units_of[c]) for c in range(classes)]


def _sums(cases: _Cases, one: slice, values: Float64) -> Float64:
    """Sums by bin, (bins,), of the classes `one`."""
    cells = np.bincount(cases.labels * cases.bins + cases.bin, values, cases.classes * cases.bins)
    sums: Float64 = cells.reshape(cases.classes, cases.bins)[one].sum(axis=0)
    return sums


def _ece(gaps: Float64, counts: Float64) -> Float64:
    """Calibration error (…,) from the summed gaps and the counts of bins (…, bins)."""
    with np.errstate(invalid="ignore"):
        error: Float64 = np.abs(gaps).sum(axis=-1) / counts.sum(axis=-1)
    return error


def _by_class(gaps: Float64, counts: Float64) -> Float64:
    """The mean (B,) of the calibration errors of the classes that have predictions, from (B, classes, bins)."""
    error = _ece(gaps, counts)
    known = ~np.isnan(error)
    with np.errstate(invalid="ignore"):
        mean: Float64 = np.where(known, error, 0).sum(axis=1) / known.sum(axis=1)
    return mean


def _over(gaps: Float64, counts: Float64) -> Float64:
    """Mean score less precision (B,), from (B, classes, bins)."""
    with np.errstate(invalid="ignore"):
        over: Float64 = gaps.sum(axis=(1, 2)) / counts.sum(axis=(1, 2))
    return over


def _repair(
    cases: _Cases, draws: Resamples, groups: Sequence[str] | None, seed: int
) -> tuple[Repair | None, tuple[str, ...]]:
    """Isotonic repair, each half of the images repaired by the map of the other half."""
    images = draws.weights.shape[1]
    unit = np.arange(images) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = int(unit.max()) + 1
    half = np.zeros(units, np.bool_)
    half[np.random.default_rng(seed).permutation(units)[: units // 2]] = True
    side = half[unit]
    on_side = side[cases.images]
    if units < 2 or on_side.all() or not on_side.any():
        return None, (
            "Isotonic repair is not tried: it needs images or groups with predictions in both halves of the data.",
        )
    repaired, ways = np.empty(len(on_side)), []
    for taught in (True, False):
        teach, judge = on_side == taught, on_side != taught
        repaired[judge] = fit_isotonic(cases.scores[teach], cases.right[teach]).apply(cases.scores[judge])
        ways.append(
            (
                int(np.count_nonzero(side == taught)),
                int(np.count_nonzero(side != taught)),
                d_ece(cases.scores[judge], cases.right[judge], cases.bins),
                d_ece(repaired[judge], cases.right[judge], cases.bins),
            )
        )
    # Halves apart: what the maps get wrong is opposite in the two, and would cancel if they were put together.
    weights, half_cell = draws.weights.T, on_side * cases.bins
    count = np.bincount(cases.images, minlength=images)
    values, drawn = [], []
    for scores in (cases.scores, repaired):
        cells = half_cell + _bins(scores, cases.bins)
        gaps = csr_array((scores - cases.right, (cases.images, cells)), shape=(images, 2 * cases.bins))
        values.append(float(np.abs(gaps.sum(axis=0)).sum() / len(scores)))
        with np.errstate(invalid="ignore"):
            drawn.append(np.abs(np.asarray(gaps.T @ weights)).sum(axis=0) / (count @ weights))
    spread = len(np.unique(unit[cases.images]))
    return Repair(
        draws.reflected(values[0], drawn[0], spread),
        draws.reflected(values[1], drawn[1], spread),
        draws.interval(values[1] - values[0], drawn[1] - drawn[0], spread),
        tuple(ways),
        fit_isotonic(cases.scores, cases.right),
    ), ()


def _bins(scores: Float64, bins: int) -> Int64:
    """The bin of each score in 0..1; 1 is in the last."""
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
