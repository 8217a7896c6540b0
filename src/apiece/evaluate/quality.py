"""Mask quality: how well found objects are outlined, and which way masks err: too large, too rough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from apiece.evaluate import boundary
from apiece.evaluate.bootstrap import FEWEST, Interval, Resamples
from apiece.evaluate.boundary import outlines
from apiece.evaluate.ledger import LOOSE, MATCHED, Ledger
from apiece.evaluate.overlaps import Pairs
from apiece.evaluate.scenes import Float64, Int64, Key, Kind

Bool = NDArray[np.bool_]

SAMPLE = 5000
SIZES = ("small", "medium", "large")
LIMITS = (32.0**2, 96.0**2)
FIGURES = ("iou", "boundary_iou", "area_bias_mean", "area_bias_median", "roughness_mean", "roughness_median")
BINS = 1000  # of values whose median is drawn

DEFINITIONS = {
    "quality": (
        "Of the pairs of a true object and the one prediction that the ledger calls matched or loose with it. "
        "Merged, split, missed and spurious objects have no pair: mask quality says nothing of them. Intervals by"
        f" bootstrap over images or groups; none where the pairs lie on fewer than {FEWEST} of them."
    ),
    "quality.iou": "Mean intersection over union of the pairs.",
    "quality.boundary_iou": boundary.DEFINITIONS["boundary.iou"] + " The mean of the measured pairs.",
    "quality.area_bias": (
        "(predicted area - true area) / true area of the pairs, mean and median: +0.08 says that masks are 8 % "
        "too large."
    ),
    "quality.roughness": (
        "Length of the predicted outline over that of the true one, each over the root of its mask's area, less "
        "1, mean and median of the measured pairs: +0.1 says that outlines are 10 % longer than the true shape "
        "needs (ragged, stepped or holed), below 0 that they are smoother. Lengths by Crofton's formula, four "
        "directions."
    ),
    "quality.size": (
        "small: true area below 32² pixels; medium: below 96²; large: the others (the file's area, as for COCO)."
    ),
}


@dataclass(frozen=True)
class QualityFigures:
    """The figures of some pairs; NaN where there is no pair, or for boxes.

    pairs      matched and loose pairs.
    measured   those whose boundary and outline were measured.
    intervals  each of FIGURES with its interval over images.
    """

    pairs: int
    measured: int
    intervals: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        return {
            "pairs": self.pairs,
            "measured": self.measured,
            **{name: interval.to_json() for name, interval in self.intervals.items()},
        }


@dataclass(frozen=True)
class MaskQuality:
    """Quality of the masks (or boxes) of found objects.

    kind         "bbox" has IoU and area bias only.
    total        all pairs.
    by_class     (category id, name, figures), by category id.
    by_size      (size, figures) by the true object's area.
    reasons      sentences: what was sampled, what is not given, and why.
    """

    kind: Kind
    total: QualityFigures
    by_class: tuple[tuple[Key, str, QualityFigures], ...]
    by_size: tuple[tuple[str, QualityFigures], ...]
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps(…, allow_nan=False)`."""
        return {
            "kind": self.kind,
            "total": self.total.to_json(),
            "by_class": [{"category_id": key, "name": name, **f.to_json()} for key, name, f in self.by_class],
            "by_size": [{"size": size, **figures.to_json()} for size, figures in self.by_size],
            "reasons": list(self.reasons),
        }


def mask_quality(ledger: Ledger, draws: Resamples, *, sample: int = SAMPLE, seed: int = 0) -> MaskQuality:
    """Quality over the pairs that are matched or loose: one true object, one prediction.

    sample  pairs whose outlines are measured; drawn at random over all images where there are more. IoU and area
            need no pixels and are of all pairs.
    """
    overlaps, scenes = ledger.overlaps, ledger.overlaps.scenes
    pairs, iou = found_pairs(ledger)
    reasons = []
    if not len(pairs):
        reasons.append("No object was found one to one, so that there is no mask quality to state.")
    outlined = np.full(len(pairs), overlaps.kind == "segm")
    if overlaps.kind == "bbox":
        reasons.append("Boxes have no outline: boundary IoU and roughness are of masks only.")
    elif len(pairs) > sample:
        outlined[:] = False
        outlined[np.random.default_rng(seed).choice(len(pairs), sample, replace=False)] = True
        reasons.append(
            f"Boundary IoU and roughness are of {sample:,} of the {len(pairs):,} pairs, drawn at random."
        )
    larger = overlaps.predicted_areas[pairs.second] / overlaps.truth_areas[pairs.first]
    boundary_iou, roughness = np.full((2, len(pairs)), np.nan)
    if outlined.any():
        measured = outlines(overlaps, pairs.where(outlined))
        boundary_iou[outlined] = measured.iou
        longer = measured.predicted_perimeter / measured.true_perimeter
        roughness[outlined] = longer / np.sqrt(larger[outlined]) - 1
    values = {"iou": iou, "boundary_iou": boundary_iou, "area_bias": larger - 1, "roughness": roughness}
    images = scenes.truth.images[pairs.first]
    size = np.searchsorted(LIMITS, scenes.truth.areas(overlaps.kind)[pairs.first], side="right")
    label = scenes.truth.labels[pairs.first]

    def figures(group: Int64, groups: int) -> list[QualityFigures]:
        return _figures(values, images, group, groups, draws)

    by_class = figures(label, len(scenes.classes))
    return MaskQuality(
        overlaps.kind,
        figures(np.zeros(len(pairs), np.int64), 1)[0],
        tuple((key, name, f) for (key, name), f in zip(scenes.classes, by_class, strict=True)),
        tuple(zip(SIZES, figures(size, len(SIZES)), strict=True)),
        tuple(reasons),
    )


def found_pairs(ledger: Ledger) -> tuple[Pairs, Float64]:
    """The pairs that are matched or loose, by prediction, and their IoU, float64 (R,)."""
    across, partner = ledger.overlaps.across, ledger.partner
    single = np.isin(ledger.predicted_kind, (MATCHED, LOOSE))
    chosen = single[across.second] & (partner[across.second] == across.first)
    places = np.flatnonzero(chosen)
    places = places[np.argsort(across.second[places], kind="stable")]
    pairs = Pairs(across.first[places], across.second[places], across.shared[places])
    return pairs, pairs.iou(ledger.overlaps.truth_areas, ledger.overlaps.predicted_areas)


def _figures(
    values: Mapping[str, Float64], images: Int64, group: Int64, groups: int, draws: Resamples
) -> list[QualityFigures]:
    """The figures of each group of pairs."""
    found: list[dict[str, Interval]] = [{} for _ in range(groups)]
    count = np.bincount(group, minlength=groups)
    measured = np.bincount(group[~np.isnan(values["roughness"])], minlength=groups)
    for name, value in values.items():
        known = ~np.isnan(value)
        means = _means(value[known], images[known], group[known], groups, draws)
        medians: list[Interval] | None = None
        if name in ("area_bias", "roughness"):
            medians = _medians(value[known], images[known], group[known], groups, draws)
        for g in range(groups):
            if medians is None:
                found[g][name] = means[g]
            else:
                found[g] |= {f"{name}_mean": means[g], f"{name}_median": medians[g]}
    return [QualityFigures(int(count[g]), int(measured[g]), found[g]) for g in range(groups)]


def _means(value: Float64, images: Int64, group: Int64, groups: int, draws: Resamples) -> list[Interval]:
    shape = draws.weights.shape[1], groups
    unit = draws.unit[images]
    sums = csr_array((value, (images, group)), shape=shape)
    counts = csr_array((np.ones(len(value)), (images, group)), shape=shape)
    spread = [len(np.unique(unit[group == g])) for g in range(groups)]
    total: Float64 = counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = sums.sum(axis=0) / total
        drawn = (sums.T @ draws.weights.T) / (counts.T @ draws.weights.T)
    return [draws.interval(float(mean[g]), drawn[g], spread[g]) for g in range(groups)]


def _medians(value: Float64, images: Int64, group: Int64, groups: int, draws: Resamples) -> list[Interval]:
    order, unit = np.lexsort((value, group)), draws.unit[images]
    ends = np.searchsorted(group[order], np.arange(groups + 1))
    found = []
    for g in range(groups):
        some = order[ends[g] : ends[g + 1]]
        spread = len(np.unique(unit[some]))
        middle = float(np.median(value[some])) if some.size else float("nan")
        drawn = np.full(len(draws.weights), np.nan)
        if spread >= FEWEST and draws.enough:
            drawn = _drawn_medians(value[some], draws.weights, images[some])
        found.append(draws.interval(middle, drawn, spread))
    return found


def _drawn_medians(rising: Float64, weights: Float64, images: Int64) -> Float64:
    """The median in every draw (B,) of values that rise; NaN in a draw without any.

    Exact up to BINS values; of more, each stands for its neighbours in one of BINS bins that hold as many.
    """
    bins = min(len(rising), BINS)
    which = np.arange(len(rising)) * bins // len(rising)
    counts = csr_array((np.ones(len(rising)), (which, images)), shape=(bins, weights.shape[1]))
    below = np.cumsum(np.asarray(counts @ weights.T), axis=0)
    half = below[-1] / 2
    lower = np.minimum((below < half).sum(axis=0), bins - 1)
    upper = np.minimum((below <= half).sum(axis=0), bins - 1)
    begins = np.searchsorted(which, np.arange(bins + 1))
    middle = rising[(begins[:-1] + begins[1:]) // 2]
    return np.where(half > 0, (middle[lower] + middle[upper]) / 2, np.nan)
