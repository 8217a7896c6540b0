"""Gates: conditions such as "count_bias>0.05" under which a diagnosis fails, for CI."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apiece.errors import UsageError, did_you_mean
from apiece.evaluate.kinds import OF_PREDICTIONS
from apiece.evaluate.ledger import KINDS

RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*([A-Za-z]\w*)\s*(>=|<=|>|<)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(%?)\s*")

FIGURES: Mapping[str, str] = {
    "count_bias": "(predicted - true) / true, over all pictures; negative where too few are counted",
    "count_error": "|predicted - true| / true, over all pictures",
    "count_gross": "objects counted too many plus objects counted too few, per true object; nothing cancels",
    "MAE": "mean |predicted - true| a picture",
    "RMSE": "root of the mean squared difference a picture",
    "AP": "average precision of masks (boxes where these are compared) over IoU 0.50:0.95, under COCO's cap of 100",
    "AP50": "the same at IoU 0.50",
    "AP_uncapped": "average precision without that cap",
    "boundary_AP": "average precision by the smaller of mask IoU and boundary IoU",
    "mean_IoU": "mean IoU of objects that are matched or loose",
    "area_bias": "mean (predicted - true area) / true area of those objects",
    "D_ECE": "detection expected calibration error of all predictions with a score of at least 0.05",
    **{
        f"{kind}_rate": (
            f"{kind} predictions per prediction counted"
            if kind in OF_PREDICTIONS
            else f"{kind} true objects per true object"
        )
        for kind in KINDS
        if kind != "ignored"
    },
}


@dataclass(frozen=True)
class Condition:
    """A figure, a relation and a number; where it holds, the diagnosis fails."""

    name: str
    relation: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name}{self.relation}{self.limit:g}"


def parse_condition(text: str) -> Condition:
    """A condition from text; "%" after the number divides it by 100.

    raises  UsageError for anything else, and for unknown figures, with the nearest known one.
    """
    found = CONDITION.fullmatch(text)
    try:
        limit = float(found[3]) if found else float("nan")
    except ValueError:
        found = None
    if found is None:
        raise UsageError(
            f"--fail-if {text!r}: expected a figure, one of > >= < <=, and a number, such as 'count_bias>0.05'."
        )
    if found[1] not in FIGURES:
        raise UsageError(
            f"--fail-if {text!r}: no figure is called {found[1]!r}. {did_you_mean(found[1], FIGURES)}"
        )
    return Condition(found[1], found[2], limit / 100 if found[4] else limit)


def figures_of(document: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that conditions may name, from a document `apiece/diagnose/1`; None where not known."""
    count, entries = document["count"], document["ledger"]
    true, predicted = count["true"], count["predicted"]
    averages = (document.get("evaluation") or {}).get(document["kind"]) or {}
    quality = (document.get("quality") or {}).get("total") or {}
    boundary = document.get("boundary") or {}
    found: dict[str, float | None] = {
        "count_bias": _over(predicted - true, true),
        "count_error": _over(abs(predicted - true), true),
        "count_gross": _over(count["gross"], true),
        "MAE": count["MAE"],
        "RMSE": count["RMSE"],
        "AP": _known(averages.get("AP")),
        "AP50": _known(averages.get("AP50")),
        "AP_uncapped": _known(averages.get("AP_uncapped")),
        "boundary_AP": _known(boundary.get("AP")),
        "mean_IoU": _value(quality.get("iou")),
        "area_bias": _value(quality.get("area_bias_mean")),
        "D_ECE": _value(((document.get("calibration") or {}).get("total") or {}).get("d_ece")),
    }
    for kind in KINDS:
        if kind == "ignored":
            continue
        side, total = ("prediction", predicted) if kind in OF_PREDICTIONS else ("truth", true)
        found[f"{kind}_rate"] = _over(entries[kind][side], total)
    return found


def broken(conditions: Iterable[Condition], figures: Mapping[str, float | None]) -> list[str]:
    """A sentence for every condition that holds.

    raises  UsageError where the figure isn't known: a gate that can't be judged must not pass.
    """
    sentences: list[str] = []
    for condition in conditions:
        value = figures[condition.name]
        if value is None:
            raise UsageError(
                f"--fail-if {condition}: {condition.name} is not known for this data. "
                "Remedy: see the reasons in the report, or gate on another figure."
            )
        if RELATIONS[condition.relation](value, condition.limit):
            sentences.append(
                f"{condition.name} is {value:.4g}, and fails if {condition.relation} {condition.limit:g} "
                f"({FIGURES[condition.name]})"
            )
    return sentences


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _known(value: float | None) -> float | None:
    """COCO's -1 is "not defined"."""
    return None if value is None or value < 0 else value


def _value(figure: Mapping[str, float | None] | None) -> float | None:
    return None if figure is None else figure["value"]
