"""Sentences: an option's effect in words."""

from __future__ import annotations

from typing import Literal

import numpy as np

from apiece.evaluate.bootstrap import Interval
from apiece.evaluate.options.effects import Effect

NOTHING = 1e-12  # smaller changes are rounding
SHOWN = 0.0005  # smaller changes of AP would be told as 0.000
AFTER = {"mae": "MAE", "gross": "gross", "ap": "AP", "cost": "cost"}  # the effect that an objective looks at


def sentence(
    words: str,
    change: Effect,
    objective: Literal["mae", "gross", "ap", "cost"],
    measurable: bool,
    within: str = "",
) -> str:
    """Such as "Threshold 0.62 instead of 0.50: 0.80 fewer objects wrong per image (0.50 to 1.10), AP unchanged."."""
    main: Interval = getattr(change, AFTER[objective])
    parts = []
    if measurable:
        parts.append(_changed(main, objective))
    else:
        parts.append(_not_measurable(main, objective))
    if objective == "mae" and _clear(change.gross):
        parts.append(_changed(change.gross, "gross"))
    if objective == "ap" and _clear(change.MAE):
        parts.append(_changed(change.MAE, "mae"))
    if objective != "ap" and np.isfinite(change.AP.value):
        if _clear(change.AP) and abs(change.AP.value) >= SHOWN:
            parts.append(_changed(change.AP, "ap"))
        else:
            still = abs(change.AP.value) < (SHOWN if _clear(change.AP) else NOTHING)
            parts.append("AP unchanged" if still else "no measurable effect on AP")
    return f"{words[:1].upper()}{words[1:]}: {', '.join(parts)}{within}."


def _changed(figure: Interval, objective: str) -> str:
    low, high = sorted((abs(figure.low), abs(figure.high)))
    size, less = _amount(figure.value, objective), figure.value < 0
    between = f"({_amount(low, objective)} to {_amount(high, objective)})"
    if objective == "gross":
        return f"{size} {'fewer' if less else 'more'} objects wrong per image {between}"
    if objective == "mae":
        return f"count error {size} objects per image {'lower' if less else 'higher'} {between}"
    if objective == "cost":
        return f"cost {size} per image {'lower' if less else 'higher'} {between}"
    return f"AP {size} {'lower' if less else 'higher'} {between}"


def _not_measurable(figure: Interval, objective: str) -> str:
    what = {
        "gross": "the objects wrong per image",
        "mae": "the count error per image",
        "cost": "the cost per image",
        "ap": "AP",
    }[objective]
    if not np.isfinite(figure.low):
        if abs(figure.value) < NOTHING:
            return f"no effect on {what}"
        why = "too few images or groups for an interval, or no spread among them"
        return f"the effect on {what} is {_signed(figure.value, objective)}, with {why}"
    between = f"{_signed(figure.low, objective)} to {_signed(figure.high, objective)}"
    return f"no measurable effect on {what} ({between})"


def _clear(figure: Interval) -> bool:
    return bool(figure.low > 0 or figure.high < 0)


def _amount(value: float, objective: str) -> str:
    return f"{abs(value):.3f}" if objective == "ap" or abs(value) < 0.1 else f"{abs(value):.2f}"


def _signed(value: float, objective: str) -> str:
    sign = "−" if value < 0 else "+" if value > 0 else ""
    return sign + _amount(value, objective)
