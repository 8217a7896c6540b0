"""Risk: what can be promised of new pictures, under what assumption, and what can't."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from apiece.errors import UsageError
from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.risk.conformal_risk_control import conformal_risk_control
from apiece.evaluate.risk.count_intervals import CountInterval, TotalInterval, count_interval, total_interval
from apiece.evaluate.risk.exchangeability import Shift, Summaries, alike, drift_gate, summaries
from apiece.evaluate.risk.learn_then_test import Choice, learn_then_test, pooled
from apiece.evaluate.risk.losses import COARSE, FOUND, GRID, Losses, losses_of
from apiece.evaluate.risk.prediction_powered import Estimate, Powered, mean_count, total_count
from apiece.evaluate.risk.units import Units, percent, units_of
from apiece.evaluate.scenes import Float64

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
        """Plain values for the JSON document."""
        interval = self.interval
        return {
            "name": self.name,
            "method": self.method,
            "target": self.target,
            "level": self.level,
            "n": self.n,
            "unit": self.unit,
            "threshold": self.threshold,
            "interval": None
            if interval is None
            else dict(zip(("value", "low", "high"), map(_finite, interval), strict=True)),
            "promise": self.promise,
            "sentence": self.sentence,
            "assumption": self.assumption,
            "abstains": self.abstains,
            "shift": None if self.shift is None else self.shift.to_json(),
            "withdrawn": self.withdrawn,
            "doubts": list(self.doubts),
            "detail": dict(self.detail),
        }


def risk(
    overlaps: Overlaps,
    point: OperatingPoint,
    *,
    groups: Sequence[str] | None = None,
    alpha_miss: float = 0.1,
    alpha_false: float = 0.1,
    alpha_count: float = 0.2,
    level: float = 0.9,
    live: Overlaps | Summaries | None = None,
    live_groups: Sequence[str] | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
    tuned_here: bool = False,
    most: int | None = None,
) -> list[Risk]:
    """What can be promised of pictures that are drawn as these were.

    Thresholds with a bounded risk are sought on the grids of `losses`, whatever the point's threshold; counts are
    those at the point.

    groups       the group of each picture, such as its plate or day; promises are then for pictures of new groups.
    alpha_miss, alpha_false, alpha_count   largest share of missed objects, false predictions, relative count error.
    level        confidence of every promise.
    live         predictions on pictures without truth; adds the drift gate and prediction-powered counts.
    live_groups  their groups, where `live` is Overlaps.
    metadata     columns by which labelled pictures are compared, see `exchangeability.alike`.
    tuned_here   whether the point was chosen on these pictures, which makes counts look better than they are.
    most         the most objects that any picture may have, declared beforehand; adds the pooled miss rate.
    raises       UsageError for levels, groups or live pictures that cannot be meant.
    """
    if not 0 < level < 1:
        raise UsageError(f"level is {level!r}; expected a number between 0 and 1, such as 0.9.")
    units = units_of(len(overlaps.scenes.image_ids), groups)
    audited = summaries(overlaps, point, groups)
    true = np.bincount(
        overlaps.scenes.truth.images[~overlaps.scenes.truth.crowd], minlength=len(audited)
    ).astype(np.float64)

    found = _thresholds(overlaps, point, units, (alpha_miss, alpha_false, alpha_count), level, most)
    within = alike(true - audited.count, metadata, groups=groups)
    doubts = [within.sentence] if within.tripped else []
    at_point = ["The operating point was chosen on these very pictures."] if tuned_here else []
    fresh = _live(overlaps, point, live, live_groups)
    counts = _counts(true, audited, fresh, point, units, level)
    found = [replace(one, doubts=(*one.doubts, *doubts)) for one in found]
    found += [replace(one, doubts=(*at_point, *doubts)) for one in counts]
    if fresh is None:
        return [replace(one, shift=within) for one in found]
    gate = drift_gate(audited, fresh)
    unknown = () if gate.abstains is None else (gate.sentence,)
    return [
        replace(
            one, shift=gate, withdrawn=gate.tripped and one.abstains is None, doubts=(*one.doubts, *unknown)
        )
        for one in found
    ]


def _thresholds(
    overlaps: Overlaps,
    point: OperatingPoint,
    units: Units,
    alphas: tuple[float, float, float],
    level: float,
    most: int | None,
) -> list[Risk]:
    """The promises that choose a threshold."""
    miss, false, count = alphas
    delta = 1 - level
    losses, coarse = losses_of(overlaps, point, GRID), losses_of(overlaps, point, COARSE)
    missed, falsely = units.means(losses.miss), units.means(losses.false_share)
    words = units.words
    confident = f"with {percent(level)} confidence"
    drawn = f"{len(units)} {words}, if new {words} are drawn as these were"
    each = "picture" if units.word == "picture" else "picture, groups counting alike"
    of_miss = f"at most {percent(miss)} of objects are missed in an average {each}"
    of_false = f"at most {percent(false)} of predictions are false in an average {each}"
    of_count = f"the count is off by at most {percent(count)} of the objects in an average {each}"
    ltt, crc = "Learn-then-Test", "conformal risk control"
    tried: list[tuple[str, str, float, float | None, Losses, str, Choice]] = [
        (
            "missed objects",
            ltt,
            miss,
            level,
            losses,
            f"{of_miss}, {confident}",
            learn_then_test(
                missed, GRID, miss, delta, start="low", words=words, loss="share of missed objects"
            ),
        ),
        (
            "false predictions",
            ltt,
            false,
            level,
            losses,
            f"{of_false}, {confident}",
            learn_then_test(
                falsely, GRID, false, delta, start="high", words=words, loss="share of false predictions"
            ),
        ),
        (
            "count error",
            ltt,
            count,
            level,
            coarse,
            f"{of_count}, {confident}",
            learn_then_test(
                units.means(coarse.count_error),
                COARSE,
                count,
                delta,
                start=None,
                words=words,
                loss="error of the count",
            ),
        ),
        (
            "missed objects",
            crc,
            miss,
            None,
            losses,
            f"{of_miss}, in expectation",
            conformal_risk_control(
                missed, GRID, miss, start="low", words=words, loss="share of missed objects"
            ),
        ),
        (
            "false predictions",
            crc,
            false,
            None,
            losses,
            f"{of_false}, in expectation",
            conformal_risk_control(
                falsely,
                GRID,
                false,
                start="high",
                envelope=True,
                words=words,
                loss="share of false predictions",
            ),
        ),
    ]
    if most is not None:
        whole = units.sums(losses.true[:, None].astype(np.float64)) / units.sizes[:, None]
        part = whole - units.sums(losses.found.astype(np.float64)) / units.sizes[:, None]
        pool = learn_then_test(pooled(part, whole, miss, most), GRID, miss, delta, start="low", words=words)
        if pool.abstains is not None and whole.sum() > 0:
            pool = replace(
                pool,
                abstains=f"{percent(float(part[:, 0].sum() / whole.sum()))} of all objects are missed at the most "
                f"careful threshold, and {len(units)} {words} of {whole.mean():.3g} objects on average are too few "
                f"where there may be {most}.",
            )
        tried.append(
            (
                "missed objects, pooled",
                ltt,
                miss,
                level,
                losses,
                f"at most {percent(miss)} of all objects are missed, {confident}",
                pool,
            )
        )
    unfit, scores = _unfit(overlaps), overlaps.scenes.predicted.scores
    made = f" New candidates are made as these were, whose lowest score is {scores.min(initial=1):.3g}."
    result = []
    for name, method, alpha, confidence, table, what, choice in tried:
        why, place = unfit or choice.abstains, choice.place
        if (
            why is None
            and place is not None
            and name != "missed objects"
            and not table.predicted[:, place].any()
        ):
            why = f"only thresholds that leave no prediction pass, such as {choice.threshold:g}."
        promise, doubts = None, []
        if why is None:
            promise = f"At threshold {choice.threshold:g} {what}: {drawn}."
            if place is not None:
                promise += _seen(table, place)
                doubts = _hidden(name, table, place, alpha)
        result.append(
            Risk(
                name,
                method,
                alpha,
                confidence,
                len(units),
                units.word,
                choice.threshold if why is None else None,
                None,
                promise,
                _assumption(units, "independent" if method == ltt else "exchangeable") + made,
                why,
                doubts=tuple(doubts),
                detail={"mean_loss": _finite(choice.mean), "p": _finite(choice.p)}
                | (_there(table, place) if why is None and place is not None else {}),
            )
        )
    return result


def _there(losses: Losses, place: int) -> dict[str, Any]:
    """What the labelled pictures show at a threshold, for orientation: no promise."""
    true, found = int(losses.true.sum()), int(losses.found[:, place].sum())
    false = int(losses.false[:, place].sum())
    return {
        "true": true,
        "predicted": int(losses.predicted[:, place].sum()),
        "missed": true - found,
        "false": false,
        "empty_pictures": int(np.count_nonzero(losses.true == 0)),
    }


def _seen(losses: Losses, place: int) -> str:
    """What a mean over pictures can hide, as pictures without objects or predictions count 0."""
    there = _there(losses, place)
    counted = there["false"] + int(losses.found[:, place].sum())
    missed = f"{percent(there['missed'] / there['true'])} of all objects are missed" if there["true"] else ""
    false = f"{percent(there['false'] / counted)} of all predictions are false" if counted else ""
    return (
        f" On these pictures {' and '.join(filter(None, (missed, false)))} there." if missed or false else ""
    )


def _hidden(name: str, losses: Losses, place: int, alpha: float) -> list[str]:
    """A doubt where the mean over pictures is within α though the share of all objects or predictions isn't."""
    there = _there(losses, place)
    counted = there["false"] + int(losses.found[:, place].sum())
    if name == "missed objects" and there["missed"] > alpha * there["true"]:
        what, share, none = "objects", there["missed"] / there["true"], there["empty_pictures"]
    elif name == "false predictions" and there["false"] > alpha * counted:
        what, share = "predictions", there["false"] / counted
        none = int(np.count_nonzero(losses.false[:, place] + losses.found[:, place] == 0))
    else:
        return []
    return [
        f"The promise is on the average picture, of which {none} of {len(losses)} without {what} count 0: of all "
        f"{what} on these pictures {percent(share)} are {'missed' if what == 'objects' else 'false'}."
    ]


def _unfit(overlaps: Overlaps) -> str | None:
    """Why scores can't be compared with thresholds, if so."""
    scores = overlaps.scenes.predicted.scores
    if not scores.size:
        return "there are no predictions."
    if scores.min() < 0 or scores.max() > 1:
        return f"scores go from {scores.min():g} to {scores.max():g}; thresholds from 0 to 1 are tested."
    if scores.size > 1 and scores.min() == scores.max():
        return f"all scores are {scores[0]:g}, so that no threshold can be chosen."
    return None


def _live(
    overlaps: Overlaps,
    point: OperatingPoint,
    live: Overlaps | Summaries | None,
    groups: Sequence[str] | None,
) -> Summaries | None:
    if not isinstance(live, Overlaps):
        return live
    if live.scenes.classes != overlaps.scenes.classes:
        raise UsageError(
            "live pictures have other classes than the labelled ones; expected the same list. "
            "Remedy: use the same model and the same class list for both."
        )
    return summaries(live, point, groups)


def _counts(
    true: Float64,
    audited: Summaries,
    live: Summaries | None,
    point: OperatingPoint,
    units: Units,
    level: float,
) -> list[Risk]:
    """The promises on counts at the operating point."""
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
        assumption: str,
        abstains: str | None,
        detail: dict[str, Any],
    ) -> None:
        kept = promise if abstains is None else None
        shown = interval if abstains is None else None
        result.append(
            Risk(
                name, method, None, level, len(units), units.word, threshold, shown, kept, assumption, abstains,
                detail=detail,
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
            _assumption(units, "exchangeable", tuned=True),
            one.abstains,
            {
                "width": _finite(one.width),
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
        _assumption(units, "exchangeable" if total.method == "blocks" else "independent", tuned=True)
        + _normal(total, units),
        total.abstains,
        {"predicted": float(new.sum()), "pictures": len(new)},
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
                _assumption(units, "independent", tuned=True)
                + " Labelled and live pictures are random draws of the same source. True in the long run, "
                "with Student's t for small n.",
                best.abstains,
                _compared(powered),
            )
    return result


def _compared(powered: Powered) -> dict[str, Any]:
    def interval(one: Estimate) -> dict[str, float | None]:
        return {"value": _finite(one.value), "low": _finite(one.low), "high": _finite(one.high)}

    return {
        "slope": _finite(powered.powered.slope),
        "correlation": _finite(powered.correlation),
        "weak": powered.weak,
        "PPI": interval(powered.plain),
        "audit_alone": interval(powered.classical),
    }


def _assumption(units: Units, how: str, tuned: bool = False) -> str:
    if units.word == "picture":
        drawn = f"New pictures come from the same source as these and are {how} with them"
    else:
        drawn = f"New pictures come in new groups from the same source as these groups, which are {how}"
    return (
        f"{drawn}; the model was not trained on these pictures"
        f"{', nor the operating point chosen on them' if tuned else ''}; their labels are right."
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


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
