"""Counts that can be promised, at the operating point: of a picture, and of many together."""

from __future__ import annotations

from typing import Any

import numpy as np

from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.risk.count_intervals import CountInterval, TotalInterval, count_interval, total_interval
from apiece.evaluate.risk.exchangeability import Summaries
from apiece.evaluate.risk.prediction_powered import Estimate, Powered, mean_count, total_count
from apiece.evaluate.risk.promise import Risk, assumption, finite
from apiece.evaluate.risk.units import Units, percent
from apiece.evaluate.scenes import Float64

ENOUGH = 50  # units from which sums are taken to be close to normal


def counts(
    true: Float64,
    audited: Summaries,
    live: Summaries | None,
    point: OperatingPoint,
    units: Units,
    level: float,
) -> list[Risk]:
    """The promises on counts at the operating point; those of a mean and of PPI's total only with live pictures.

    true     float64 (images,), true objects of each labelled picture.
    audited  summaries of the labelled pictures, `live` of those without truth.
    """
    predicted, groups = audited.count, audited.groups
    words = units.words
    drawn = f"{len(units)} {words}, if new {words} are drawn as these were"
    threshold = None if point.thresholds else float(point.threshold)
    result = []

    def add(
        name: str,
        method: str,
        interval: tuple[float, float, float] | None,
        promise: str,
        holds: str,
        abstains: str | None,
        detail: dict[str, Any],
        doubts: tuple[str, ...] = (),
    ) -> None:
        kept = promise if abstains is None else None
        shown = interval if abstains is None else None
        result.append(
            Risk(
                name, method, None, level, len(units), units.word, threshold, shown, kept, holds, abstains,
                doubts=doubts, detail=detail,
            )
        )  # fmt: skip

    for scaled in (False, True):
        one = count_interval(true, predicted, level, scaled=scaled, groups=groups)
        examples = np.unique(np.quantile(predicted, [0, 0.25, 0.5, 0.75, 1], method="nearest"))
        middle = float(np.quantile(predicted, 0.5, method="nearest"))
        add(
            "count of a picture",
            f"split conformal, {'scaled' if scaled else 'absolute'} residuals",
            None if one.abstains else (middle, *_ends(one, middle)),
            f"{_within(one, middle)} for at least {percent(level)} of new pictures: {drawn}.",
            assumption(units, "exchangeable", tuned=True),
            one.abstains,
            {
                "width": finite(one.width),
                "scaled": scaled,
                "examples": []
                if one.abstains
                else [
                    {"predicted": at, "low": _ends(one, at)[0], "high": _ends(one, at)[1]}
                    for at in examples.tolist()
                ],
            },
        )
    new = predicted if live is None else live.count
    # Without live pictures: as many new ones, predicted as these are.
    total = total_interval(
        true,
        predicted,
        float(new.sum()),
        len(new),
        level,
        groups=groups,
        new_groups=groups if live is None else live.groups if groups is not None else None,
    )
    who = f"{len(new)} new pictures" if live is None else f"the {len(new)} live pictures"
    add(
        "total of new pictures",
        "exact, blocks of pictures" if total.method == "blocks" else "prediction of a sum, normal",
        (total.value, total.low, total.high),
        f"Where {new.sum():g} objects are predicted on {who}, the true total is {total.low:g} to {total.high:g} with "
        f"{percent(level)} confidence: {drawn}.",
        assumption(units, "exchangeable" if total.method == "blocks" else "independent", tuned=True)
        + _normal(total, units),
        total.abstains,
        {"predicted": float(new.sum()), "pictures": len(new)},
        () if total.method == "blocks" else _few(units),
    )
    if live is not None:
        chosen = live.groups if groups is not None else None
        mean = mean_count(true, predicted, live.count, level, groups=groups, unlabelled_groups=chosen)
        sum_ = total_count(true, predicted, live.count, level, groups=groups, unlabelled_groups=chosen)
        for name, powered, what in (
            ("mean count", mean, "The mean true count of the pictures' source is"),
            ("total of live pictures", sum_, f"The true total of the {len(live)} live pictures is"),
        ):
            best = powered.powered
            add(
                name,
                "PPI++",
                (best.value, best.low, best.high),
                f"{what} {_short(best.low)} to {_short(best.high)} with {percent(level)} confidence: "
                f"{len(units)} labelled {words} and {len(live)} live pictures, drawn alike.",
                assumption(units, "independent", tuned=True)
                + " Labelled and live pictures are random draws of the same source. True in the long run, "
                "with Student's t for small n.",
                best.abstains,
                _compared(powered),
                _few(units),
            )
    return result


def _compared(powered: Powered) -> dict[str, Any]:
    def interval(one: Estimate) -> dict[str, float | None]:
        return {"value": finite(one.value), "low": finite(one.low), "high": finite(one.high)}

    return {
        "slope": finite(powered.powered.slope),
        "correlation": finite(powered.correlation),
        "weak": powered.weak,
        "PPI": interval(powered.plain),
        "audit_alone": interval(powered.classical),
    }


def _few(units: Units) -> tuple[str, ...]:
    """A doubt in intervals that rest on sums of few units being close to normal."""
    if len(units) >= ENOUGH:
        return ()
    return (
        f"It rests on sums of {len(units)} {units.words} being close to normal. Where counts are very unequal such an "
        "interval is too narrow: in simulations of 90 % it held the truth in 80 to 86 % with 12 pictures, in 86 to "
        "91 % with 40.",
    )


def _normal(total: TotalInterval, units: Units) -> str:
    if total.method == "blocks":
        return ""
    return f" The sum of residuals is close to normal, which {len(units)} {units.words} can't show."


def _within(one: CountInterval, middle: float) -> str:
    if one.abstains is not None:
        return ""
    if not one.scaled:
        return f"The true count is within ±{one.width:g} of the predicted one"
    low, high = _ends(one, middle)
    return (
        f"The true count is within ±{one.width:.2f} · √(predicted + 1) of the predicted one, {low:g} to {high:g} where "
        f"{middle:g} are predicted,"
    )


def _ends(one: CountInterval, at: float) -> tuple[float, float]:
    low, high = one.around(at)
    return float(low), float(high)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
