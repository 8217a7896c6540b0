"""Promise: one thing said of new pictures, with what it rests on, or why it can't be said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apiece.evaluate.risk.exchangeability import Shift
from apiece.evaluate.risk.losses import FOUND
from apiece.evaluate.risk.units import Units

DEFINITIONS = {
    "risk": (
        "A promise about new pictures. Each holds by itself at its level, not all of them together. Its unit is the "
        "picture, or the group of pictures where groups are given, never the object. A promised threshold is one for "
        "all classes; suppression, cap, size and border act as at the operating point."
    ),
    "missed objects": (
        f"Share of a picture's true objects that no prediction of their class fits with IoU ≥ {FOUND:g}, each "
        "prediction in order of score taking the free object that it fits best; averaged over pictures (in a group, "
        "then over groups); 0 on pictures without objects; crowd regions are no objects."
    ),
    "missed objects, pooled": (
        "Share of all true objects that is missed, every object counting alike however full its picture; valid only "
        "with a bound of the number of objects of a picture that was declared beforehand."
    ),
    "false predictions": (
        f"Share of a picture's predictions that fit no true object of their class with IoU ≥ {FOUND:g}, matched as for "
        "missed objects; averaged over pictures; 0 where nothing is predicted; predictions in crowd regions of their "
        "class are left out."
    ),
    "count error": (
        "|predicted − true| / max(true, 1) of a picture, all classes together, errors above 1 counting as 1; averaged "
        "over pictures."
    ),
    "count of a picture": (
        "Range that holds the true count of a new picture, around its predicted count at the operating point."
    ),
    "total of new pictures": (
        "Range that holds the true total of many new pictures, from their predicted total and the labelled pictures' "
        "residuals (true − predicted)."
    ),
    "mean count": "Mean true count a picture of the source that labelled and live pictures were drawn from.",
    "total of live pictures": "True total of the live pictures themselves; labelled pictures are not in it.",
    "Learn-then-Test": (
        "P-values (betting, arXiv 2010.09686) of “the risk is above α” at each threshold of a fixed grid, tested from "
        "the careful end until one fails; for the count error all at once with Bonferroni's correction. The threshold "
        "that passes keeps the risk ≤ α with at least the stated confidence over the draw of labelled pictures "
        "(arXiv 2110.01052)."
    ),
    "conformal risk control": (
        "The least careful threshold with n/(n+1) · mean loss + 1/(n+1) ≤ α. The loss of a new picture is then ≤ α in "
        "expectation, over labelled and new pictures together: not with a confidence for this very threshold. Shares "
        "of false predictions can fall as the threshold falls; of them the largest up to each threshold is taken "
        "(arXiv 2208.02814)."
    ),
    "split conformal": (
        "The ⌈(n + 1) · level⌉-th smallest |true − predicted|, or the same over √(predicted + 1); with groups each "
        "group weighs alike (arXiv 1604.04173, 2306.06342)."
    ),
    "PPI++": (
        "λ · mean prediction of the live pictures + mean of true − λ · predicted over the labelled ones, λ chosen for "
        "the narrowest interval; Student's t; the larger n, the truer (arXiv 2301.09633, 2311.01453)."
    ),
    "drift gate": (
        "Predicted count, mean score, mean size and share of scores near the threshold of each picture are compared "
        "between labelled and live pictures by the Kolmogorov–Smirnov distance, p-values by permuting pictures or "
        "groups, Holm's correction. Where one differs at 5 %, all promises are withdrawn."
    ),
}


@dataclass(frozen=True)
class Risk:
    """A promise, or why there is none.

    name        what is promised, a key of DEFINITIONS.
    method      how, with what it rests on.
    target      α, the largest risk; None for intervals.
    level       confidence; of conformal risk control, which promises an expectation, None.
    n           how many units it rests on.
    unit        "picture" or "group".
    threshold   where it holds: chosen by the method, or the operating point's; None where there is none.
    interval    value, low and high, in objects; None for thresholds.
    kept        the promise in a sentence; None where it abstains.
    assumption  when it holds.
    abstains    why nothing is promised, else None.
    shift       what a comparison of pictures found; None where there was none.
    withdrawn   whether the promise is void, as live pictures differ from the labelled ones.
    doubts      sentences on why the assumption may not hold.
    detail      further figures.
    """

    name: str
    method: str
    target: float | None
    level: float | None
    n: int
    unit: str
    threshold: float | None
    interval: tuple[float, float, float] | None
    kept: str | None
    assumption: str
    abstains: str | None = None
    shift: Shift | None = None
    withdrawn: bool = False
    doubts: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def promise(self) -> str | None:
        """The promise that stands; None where it abstains or is withdrawn."""
        return None if self.withdrawn else self.kept

    @property
    def sentence(self) -> str:
        """What is to be told to people: the promise, or why there is none."""
        if self.abstains is not None:
            return f"Nothing is promised on {self.name}: {self.abstains}"
        if self.withdrawn and self.shift is not None:
            return self.shift.sentence
        return str(self.kept)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the JSON document; without threshold and interval where the promise is void."""
        interval = None if self.withdrawn else self.interval
        return {
            "name": self.name,
            "method": self.method,
            "target": self.target,
            "level": self.level,
            "n": self.n,
            "unit": self.unit,
            "threshold": None if self.withdrawn else self.threshold,
            "interval": None
            if interval is None
            else dict(zip(("value", "low", "high"), map(finite, interval), strict=True)),
            "promise": self.promise,
            "sentence": self.sentence,
            "assumption": self.assumption,
            "abstains": self.abstains,
            "shift": None if self.shift is None else self.shift.to_json(),
            "withdrawn": self.withdrawn,
            "doubts": list(self.doubts),
            "detail": dict(self.detail),
        }


def assumption(units: Units, how: str, tuned: bool = False) -> str:
    """When a promise holds; `tuned` adds that the operating point may not come from these pictures."""
    if units.word == "picture":
        drawn = f"New pictures come from the same source as these and are {how} with them"
    else:
        drawn = f"New pictures come in new groups from the same source as these groups, which are {how}"
    return (
        f"{drawn}; the model was not trained on these pictures"
        f"{', nor the operating point chosen on them' if tuned else ''}; their labels are right."
    )


def finite(value: float) -> float | None:
    """A number for JSON, None where it isn't finite."""
    return float(value) if math.isfinite(value) else None
