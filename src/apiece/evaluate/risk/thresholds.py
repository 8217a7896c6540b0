"""Thresholds that can be promised: by Learn-then-Test with a confidence, by conformal risk control in expectation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np

from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.risk.conformal_risk_control import conformal_risk_control
from apiece.evaluate.risk.learn_then_test import Choice, learn_then_test, pooled
from apiece.evaluate.risk.losses import COARSE, GRID, Losses, losses_of
from apiece.evaluate.risk.promise import Risk, assumption, finite
from apiece.evaluate.risk.units import Units, percent

LEARNED, CONTROLLED = "Learn-then-Test", "conformal risk control"


class Tried(NamedTuple):
    """A method's choice, and what it would promise."""

    name: str
    method: str
    alpha: float
    level: float | None
    losses: Losses
    what: str
    choice: Choice


@dataclass(frozen=True)
class Seen:
    """What the labelled pictures show at a threshold, for orientation: no promise.

    true, missed              true objects, and how many of them are missed.
    predicted, false, judged  predictions that count; the false ones of those judged, which lie in no crowd region.
    without_objects, without_predictions, pictures   pictures.
    """

    true: int
    missed: int
    predicted: int
    false: int
    judged: int
    without_objects: int
    without_predictions: int
    pictures: int

    @staticmethod
    def at(losses: Losses, place: int) -> Seen:
        """At a place in the grid."""
        true, found = int(losses.true.sum()), int(losses.found[:, place].sum())
        false, judged = int(losses.false[:, place].sum()), losses.false[:, place] + losses.found[:, place]
        return Seen(
            true,
            true - found,
            int(losses.predicted[:, place].sum()),
            false,
            int(judged.sum()),
            int(np.count_nonzero(losses.true == 0)),
            int(np.count_nonzero(judged == 0)),
            len(losses),
        )

    @property
    def sentence(self) -> str:
        """The shares of all objects and predictions, which a mean over pictures can hide."""
        missed = f"{percent(self.missed / self.true)} of all objects are missed" if self.true else ""
        false = f"{percent(self.false / self.judged)} of all predictions are false" if self.judged else ""
        both = " and ".join(filter(None, (missed, false)))
        return f" On these pictures {both} there." if both else ""

    def doubts(self, name: str, alpha: float) -> tuple[str, ...]:
        """A doubt where the mean over pictures is within α though the share of all objects or predictions isn't."""
        if name == "missed objects" and self.missed > alpha * self.true:
            what, none, told = (
                "objects",
                self.without_objects,
                f"{percent(self.missed / self.true)} are missed",
            )
        elif name == "false predictions" and self.false > alpha * self.judged:
            what, none, told = (
                "predictions",
                self.without_predictions,
                f"{percent(self.false / self.judged)} are false",
            )
        else:
            return ()
        empty = f"; {none} of {self.pictures} without {what} count 0, and" if none else ", but"
        return (f"The promise is on the average picture{empty} of all {what} on these pictures {told}.",)

    def to_json(self) -> dict[str, int]:
        """Plain values for the JSON document."""
        return asdict(self)


def thresholds(
    overlaps: Overlaps,
    point: OperatingPoint,
    units: Units,
    alphas: tuple[float, float, float],
    level: float,
    most: int | None,
) -> list[Risk]:
    """The promises that choose a threshold.

    alphas  largest share of missed objects, of false predictions, and relative error of the count.
    level   confidence of Learn-then-Test.
    most    the most objects of any picture, declared beforehand, for the pooled miss rate; None for none.
    """
    miss, false, count = alphas
    delta = 1 - level
    losses, coarse = losses_of(overlaps, point, GRID), losses_of(overlaps, point, COARSE)
    missed, falsely = units.means(losses.miss), units.means(losses.false_share)
    words = units.words
    sure, expected = f"with {percent(level)} confidence", "on average over such choices"
    each = "picture" if units.word == "picture" else "picture, groups counting alike"
    of_miss = f"at most {percent(miss)} of objects are missed in an average {each}"
    of_false = f"at most {percent(false)} of predictions are false in an average {each}"
    of_count = (
        f"the count is off by at most {percent(count)} of the objects in an average {each}, where errors above 100 % "
        "count as 100 %"
    )
    told_miss, told_false = "share of missed objects", "share of false predictions"
    learned = [
        learn_then_test(missed, GRID, miss, delta, start="low", words=words, loss=told_miss),
        learn_then_test(falsely, GRID, false, delta, start="high", words=words, loss=told_false),
        learn_then_test(
            units.means(coarse.count_error),
            COARSE,
            count,
            delta,
            start=None,
            words=words,
            loss="error of the count",
        ),
    ]
    controlled = [
        conformal_risk_control(missed, GRID, miss, start="low", words=words, loss=told_miss),
        conformal_risk_control(
            falsely, GRID, false, start="high", envelope=True, words=words, loss=told_false
        ),
    ]
    tried = [
        Tried("missed objects", LEARNED, miss, level, losses, f"{of_miss}, {sure}", learned[0]),
        Tried("false predictions", LEARNED, false, level, losses, f"{of_false}, {sure}", learned[1]),
        Tried("count error", LEARNED, count, level, coarse, f"{of_count}, {sure}", learned[2]),
        Tried("missed objects", CONTROLLED, miss, None, losses, f"{of_miss}, {expected}", controlled[0]),
        Tried("false predictions", CONTROLLED, false, None, losses, f"{of_false}, {expected}", controlled[1]),
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
        what = f"at most {percent(miss)} of all objects are missed, {sure}"
        tried.append(Tried("missed objects, pooled", LEARNED, miss, level, losses, what, pool))
    unfit, scores = _unfit(overlaps), overlaps.scenes.predicted.scores
    made = f" New candidates are made as these were, whose lowest score is {scores.min(initial=1):.3g}."
    drawn = f"{len(units)} {words}, if new {words} are drawn as these were"
    result = []
    for one in tried:
        why, place = unfit or one.choice.abstains, one.choice.place
        promise: str | None = None
        doubts: tuple[str, ...] = ()
        detail: dict[str, float | None] = {"mean_loss": finite(one.choice.mean), "p": finite(one.choice.p)}
        silent = place is not None and not one.losses.predicted[:, place].any()
        if why is None and silent and one.name != "missed objects":
            why = f"only thresholds that leave no prediction pass, such as {one.choice.threshold:g}."
        if why is None and place is not None and one.name == "false predictions":
            seen = Seen.at(one.losses, place)
            if 2 * seen.without_predictions > seen.pictures and seen.false > one.alpha * seen.judged:
                why = (
                    f"only thresholds pass that leave most pictures ({seen.without_predictions:,} of "
                    f"{seen.pictures:,}) without a prediction, such as {one.choice.threshold:g}, and of the "
                    f"predictions that are left {percent(seen.false / seen.judged)} are false."
                )
        if why is None and place is not None:
            seen = Seen.at(one.losses, place)
            at = "At threshold" if one.method == LEARNED else "At thresholds chosen as this one,"
            promise = f"{at} {one.choice.threshold:g} {one.what}: {drawn}.{seen.sentence}"
            doubts, detail = seen.doubts(one.name, one.alpha), detail | seen.to_json()
        result.append(
            Risk(
                one.name,
                one.method,
                one.alpha,
                one.level,
                len(units),
                units.word,
                one.choice.threshold if why is None else None,
                None,
                promise,
                assumption(units, "independent" if one.method == LEARNED else "exchangeable") + made,
                why,
                doubts=doubts,
                detail=detail,
            )
        )
    return result


def _unfit(overlaps: Overlaps) -> str | None:
    """Why scores can't be compared with thresholds, if so."""
    scores = overlaps.scenes.predicted.scores
    if not scores.size:
        return "there are no predictions."
    if scores.min() < 0 or scores.max() > 1:
        return f"scores go from {scores.min():g} to {scores.max():g}; thresholds from 0 to 1 are tested."
    if scores.size > 1 and scores.min() == scores.max():
        return f"all scores are {scores[0]:g} (or there are none), so that no threshold can be chosen."
    return None
