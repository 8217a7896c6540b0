"""Options: what each change would give, chosen on one half of the images and judged on the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError, did_you_mean
from apiece.evaluate.bootstrap import DRAWS, LEVEL, Interval, Resamples, resamples
from apiece.evaluate.ledger import Ledger, Rules, ledger
from apiece.evaluate.operating import OperatingPoint, Selection
from apiece.evaluate.options.beyond import Beyond, beyond
from apiece.evaluate.options.choosers import (
    Case,
    Chooser,
    Objective,
    affordable,
    of_calibration,
    of_masks,
    of_rules,
    of_thresholds,
)
from apiece.evaluate.options.effects import Effect, Outcome, effect, outcome
from apiece.evaluate.options.folds import FEWEST_IMAGES, halves
from apiece.evaluate.options.ranking import Ranking, ranking
from apiece.evaluate.options.replayed import Replayed, composed, replay
from apiece.evaluate.options.sentences import AFTER, sentence
from apiece.evaluate.options.setting import Setting, told, written
from apiece.evaluate.options.sweep import PER_CLASS
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.scenes import Key

Bool = NDArray[np.bool_]
MASK_OPTIONS = (("fragments", "Merging of fragments"), ("watershed", "Splitting by watershed"))


@dataclass(frozen=True, eq=False)
class Option:
    """A change, with what it does on images that did not choose it.

    name, label  for programs and for people.
    setting      what all images choose: the recommendation.
    folds        what either half chose.
    effect       changed less baseline; each image is judged under the setting that the other half chose.
    chosen_on    how many images chose the recommendation,
    judged_on    and on how many the effect was measured.
    measurable   whether the interval of the objective leaves out "no effect".
    helps        whether it is measurable and for the better.
    cancels      whether it helps the count only as more errors cancel: measurably more objects are wrong.
    rank         1 for the best by the objective.
    sentence     all this in words.
    """

    name: str
    label: str
    setting: Setting
    folds: tuple[Setting, Setting]
    effect: Effect
    chosen_on: int
    judged_on: int
    measurable: bool
    helps: bool
    cancels: bool
    rank: int
    sentence: str


@dataclass(frozen=True, eq=False)
class Options:
    """All options, best first.

    objective  by what they were chosen and ranked: "mae" of the count, "gross" error, "ap" or "cost".
    baseline   the operating point that they change.
    classes    (category id, name) of each class.
    fold_note  how they were judged, or why they could not be.
    options    those that were judged.
    left_out   (name, label, reason) of those that were not.
    beyond     what no replay can give.
    """

    objective: Objective
    baseline: OperatingPoint
    classes: tuple[tuple[Key, str], ...]
    fold_note: str
    options: tuple[Option, ...]
    left_out: tuple[tuple[str, str, str], ...]
    beyond: tuple[Beyond, ...]

    def __getitem__(self, name: str) -> Option:
        """The option of this name; raises UsageError where there is none."""
        for option in self.options:
            if option.name == name:
                return option
        reasons = {left: reason for left, _, reason in self.left_out}
        why = f"it was left out: {reasons[name]}" if name in reasons else ""
        known = [option.name for option in self.options]
        raise UsageError(f"no option {name!r}. {why or did_you_mean(name, known)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values; options best first."""
        return {
            "objective": self.objective,
            "fold_note": self.fold_note,
            "options": [self._plain(option) for option in self.options],
            "left_out": [
                {"name": name, "label": label, "reason": reason} for name, label, reason in self.left_out
            ],
            "beyond": [one.to_json() for one in self.beyond],
        }

    def _plain(self, option: Option) -> dict[str, Any]:
        return {
            "name": option.name,
            "label": option.label,
            "setting": written(option.setting, self.baseline, self.classes),
            "folds": [written(setting, self.baseline, self.classes) for setting in option.folds],
            "effect": option.effect.to_json(),
            "chosen_on": option.chosen_on,
            "judged_on": option.judged_on,
            "measurable": option.measurable,
            "helps": option.helps,
            "cancels": option.cancels,
            "rank": option.rank,
            "sentence": option.sentence,
        }


def options(
    overlaps: Overlaps,
    baseline: OperatingPoint,
    *,
    objective: Objective = "mae",
    cost_miss: float = 1.0,
    cost_false: float = 1.0,
    rules: Rules | None = None,
    groups: Sequence[str] | None = None,
    draws: int | Resamples = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
    scored: bool = True,
    chosen_here: bool = False,
    causes: Mapping[str, Any] | None = None,
) -> Options:
    """What other thresholds, suppression, sizes, caps, borders, scores and masks would give.

    Every option is chosen on one half of the images and applied to the other, and the other way round. So each image
    is judged once, under a setting that it did not choose. Intervals are over images or groups, with the choices held.

    overlaps     truth and stored candidates, with scores down to a low threshold.
    baseline     the operating point that is changed.
    objective    by what options are chosen and ranked: "mae" of the count, "gross" (objects counted too many and too
                 few; chosen by misses and false alarms at IoU ≥ `found`), "ap" (chosen by that at IoU 0.5 and 0.75;
                 for a threshold, which can't change it, by F1) or "cost".
    cost_miss    the cost of a missed object, against
    cost_false   that of a false alarm.
    groups       the group of each image; groups stay whole in halves and draws.
    draws        how many, or the draws themselves, of these images and groups.
    scored       False where predictions have no scores: what needs them is left out.
    chosen_here  whether the baseline's threshold was chosen on these images, which is then said.
    causes       the causes of misses (the document's part), for `beyond`.
    raises       UsageError for an objective, cost or number of groups that cannot be meant.
    """
    if objective not in get_args(Objective):
        raise UsageError(f"objective is {objective!r}. {did_you_mean(str(objective), get_args(Objective))}")
    if not (np.isfinite([cost_miss, cost_false]).all() and min(cost_miss, cost_false) >= 0):
        raise UsageError(f"costs are {cost_miss} and {cost_false}; expected finite numbers from 0 on.")
    rule = Rules() if rules is None else rules
    scenes = overlaps.scenes
    start = Setting(baseline)
    before = replay(overlaps, start)
    entries = ledger(before.overlaps, before.selection, rule)
    further = tuple(beyond(entries, causes, scored=scored))
    images = len(scenes.image_ids)
    units = images if groups is None else len(set(groups))
    if images < FEWEST_IMAGES or units < 2:
        few = f"{images} image{'' if images == 1 else 's'}" + (
            "" if groups is None else f" in {units} group(s)"
        )
        note = (
            f"No option was judged: {few} can't be parted into images that choose and images that judge; "
            f"at least {FEWEST_IMAGES} images are needed, in at least 2 groups where there are groups."
        )
        return Options(objective, baseline, scenes.classes, note, (), (), further)
    truth = scenes.truth
    true = np.bincount(truth.images[~truth.crowd], minlength=images)
    part = halves(true, groups, seed)
    weights = resamples(images, groups, draws, seed, level) if isinstance(draws, int) else draws
    case = Case(overlaps, baseline, before.selection, objective, cost_miss, cost_false, rule.found, scored)
    left_out = list(_left_out(case))
    measured = _Measured(case, rule, before, entries)
    judged = list(_judged(measured, _choosers(case), part, weights, left_out))
    if overlaps.kind == "segm":
        chosen = affordable(overlaps, before.selection.kept, seed)
        if chosen.sum() >= FEWEST_IMAGES:
            measured, drawn = _within(measured, chosen), _drawn(weights, groups, chosen)
            judged += _judged(measured, of_masks(measured.case), part[chosen], drawn, left_out, images)
        else:
            why = f"masks are so many or large that fewer than {FEWEST_IMAGES} images could be tried."
            left_out += [(name, label, why) for name, label in MASK_OPTIONS]
    ranked = sorted(judged, key=lambda option: _order(option, objective))
    final = tuple(replace(option, rank=place) for place, option in enumerate(ranked, start=1))
    note = _note(images, units if groups is not None else None, part, weights, chosen_here)
    return Options(objective, baseline, scenes.classes, note, final, tuple(left_out), further)


def apply_option(option: Option, overlaps: Overlaps) -> tuple[Overlaps, Selection]:
    """The option's recommended setting on any images, also such as were not there when it was chosen.

    Where it merges or splits, the new masks follow the stored predictions, and what they replace doesn't count.
    """
    made = replay(overlaps, option.setting)
    return made.overlaps, made.selection


def measure(
    setting: Setting,
    overlaps: Overlaps,
    baseline: OperatingPoint,
    *,
    cost_miss: float = 1.0,
    cost_false: float = 1.0,
    rules: Rules | None = None,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Effect:
    """The effect of a setting on images that had no part in choosing it; arguments as of `options`."""
    rule = Rules() if rules is None else rules
    before, after = replay(overlaps, Setting(baseline)), replay(overlaps, setting)
    outcomes = [
        outcome(
            ledger(made.overlaps, made.selection, rule),
            ranking(made.overlaps, made.ranked, made.selection.scores),
            cost_miss,
            cost_false,
        )
        for made in (before, after)
    ]
    weights = resamples(len(overlaps.scenes.image_ids), groups, draws, seed, level)
    return effect(outcomes[1], outcomes[0], weights)


def _choosers(case: Case) -> Iterator[Chooser]:
    scores = np.unique(case.overlaps.scenes.predicted.scores)
    if case.scored and len(scores) > 1:
        yield from of_thresholds(case)
    yield from of_rules(case)
    if case.scored and len(scores) > 1:
        yield from of_calibration(case)


def _judged(
    measured: _Measured,
    choosers: Iterable[Chooser],
    part: Bool,
    weights: Resamples,
    left_out: list[tuple[str, str, str]],
    of: int | None = None,
) -> Iterator[Option]:
    """Each option chosen and judged; those that can't be join `left_out`.

    of  how many images there are, where these are some of them.
    """
    start = Setting(measured.case.baseline)
    for chooser in choosers:
        everything, first, second = (
            chooser.choose(images) for images in (np.ones(len(part), np.bool_), part, ~part)
        )
        if everything is None or first is None or second is None:
            why = "a half of the images has no prediction to choose by."
        elif everything == start:
            why = "no other setting is better on these images."
        else:
            # What the second part chose is judged on the first.
            change = effect(measured(chooser, second, first, part), measured.baseline, weights)
            yield _option(measured.case, chooser, everything, (first, second), change, of)
            continue
        left_out.append((chooser.name, chooser.label, why))


def _left_out(case: Case) -> Iterator[tuple[str, str, str]]:
    scores = np.unique(case.overlaps.scenes.predicted.scores)
    if not case.scored or len(scores) < 2:
        why = "predictions have no scores." if not case.scored else "all predictions have the same score."
        yield "threshold", "Thresholds", why
        yield "calibration", "Calibrated scores", why
    if not case.scored:
        yield "cap", "Cap", "predictions have no scores, so that none comes first."
    if case.overlaps.kind != "segm":
        for name, label in MASK_OPTIONS:
            yield name, label, "boxes are compared; this needs masks."


class _Measured:
    """Outcomes of replays; those that are the baseline's are not computed again."""

    def __init__(self, case: Case, rules: Rules, before: Replayed, entries: Ledger) -> None:
        self.case, self.rules, self.before = case, rules, before
        self._start = Setting(case.baseline)
        self._ranking = self._ranked(before)
        self.baseline = outcome(entries, self._ranking, case.miss, case.false)

    def __call__(self, chooser: Chooser, here: Setting, elsewhere: Setting, part: Bool) -> Outcome:
        """The outcome of one setting on the images `part` (images,) and of another on the others."""
        overlaps = self.case.overlaps

        def replayed(setting: Setting) -> Replayed:
            before = self.before
            same = setting.ranks_as(self._start) or setting.changes_masks
            ranked = before.ranked if same else None
            if chooser.pool is None:
                return replay(overlaps, setting, ranked=ranked)
            pool = chooser.pool
            return Replayed(
                pool.overlaps, pool.selection(before.selection, setting), pool.kept(before.ranked, setting)
            )

        made = composed(replayed(here), replayed(elsewhere), part)
        same = here.ranks_as(self._start) and elsewhere.ranks_as(self._start)
        rank = self._ranking if same else self._ranked(made)
        entries = ledger(made.overlaps, made.selection, self.rules)
        return outcome(entries, rank, self.case.miss, self.case.false)

    def _ranked(self, made: Replayed) -> Ranking | None:
        if not self.case.scored:
            return None
        return ranking(made.overlaps, made.ranked, made.selection.scores)


def _within(measured: _Measured, chosen: Bool) -> _Measured:
    """The same case on some images alone."""
    if chosen.all():
        return measured
    case = replace(measured.case, overlaps=measured.case.overlaps.only(np.flatnonzero(chosen)))
    before = replay(case.overlaps, Setting(case.baseline))
    case = replace(case, selection=before.selection)
    return _Measured(case, measured.rules, before, ledger(case.overlaps, before.selection, measured.rules))


def _drawn(weights: Resamples, groups: Sequence[str] | None, chosen: Bool) -> Resamples:
    """The draws of some images alone."""
    units = int(chosen.sum()) if groups is None else len(set(np.asarray(groups)[chosen].tolist()))
    return replace(weights, weights=weights.weights[:, chosen], units=units)


def _option(
    case: Case,
    chooser: Chooser,
    setting: Setting,
    folds: tuple[Setting, Setting],
    change: Effect,
    of: int | None,
) -> Option:
    images = len(case.overlaps.scenes.image_ids)
    main = objective_of(change, case.objective)
    measurable = bool(main.low > 0 or main.high < 0)
    helps = measurable and (main.value > 0) == (case.objective == "ap")
    cancels = helps and case.objective == "mae" and bool(change.gross.low > 0)
    words = told(setting, case.baseline, case.overlaps.scenes.classes)
    within = f"; tried on {images:,} of {of:,} images" if of is not None and images < of else ""
    said = sentence(words, change, case.objective, measurable, within)
    if cancels:
        said = f"{said[:-1]}; counts come nearer only as more errors cancel."
    verdicts = measurable, helps, cancels
    return Option(chooser.name, chooser.label, setting, folds, change, images, images, *verdicts, 0, said)


def objective_of(change: Effect, objective: Objective) -> Interval:
    """The figure by which options are ranked."""
    found: Interval = getattr(change, AFTER[objective])
    return found


def _order(option: Option, objective: Objective) -> tuple[int, float, str]:
    """Those that help, those that help as errors cancel, those without measurable effect, those that harm.

    Of each the larger gain first.
    """
    change = objective_of(option.effect, objective).value
    gain = change if objective == "ap" else -change
    group = int(option.cancels) if option.helps else 3 if option.measurable else 2
    return group, -gain if np.isfinite(gain) else 0.0, option.name


def _note(images: int, groups: int | None, part: Bool, weights: Resamples, chosen_here: bool) -> str:
    unit = "images" if groups is None else "groups of images"
    first = int(part.sum())
    text = (
        f"Each option was chosen on one half of the {images:,} images ({first:,} and {images - first:,}, parted by "
        f"number of objects{', groups whole' if groups is not None else ''}) and judged on the other, so that no "
        "image judges a setting that it chose. The recommended setting is chosen on all images. Intervals are "
        f"{100 * weights.level:g} % bootstrap intervals over {unit} with both choices held fixed; for average "
        "precision to first order. Options are many: the best of them looks a little better than it is."
    )
    if not weights.enough:
        text += (
            f" There are too few {unit} ({weights.units}) for intervals, so no effect is called measurable."
        )
    if chosen_here:
        text += " The present threshold was chosen on these same images, so that the comparison favours it a little."
    return text


def definitions() -> dict[str, str]:
    """A sentence for every figure of the options."""
    return {
        "options": (
            "Each option is replayed from stored predictions, without predicting again. An effect is the figure with "
            "the option less the figure at the present operating point; it is measured on images that did not choose "
            "the setting (two halves, each judged under what the other chose)."
        ),
        "options.MAE": "Change of the mean over images of |predicted less true| number of objects.",
        "options.bias": "Change of the mean over images of predicted less true number of objects.",
        "options.net": "Change of the size of the bias, |bias| after less |bias| before.",
        "options.gross": (
            "Change of the objects counted too many and too few, an image, entry by entry of the ledger, so that "
            "nothing cancels."
        ),
        "options.cost": "The same with each object too few, and each too many, at its declared cost.",
        "options.AP": (
            "Change of average precision (COCO's, no cap) of all stored predictions that suppression, size, cap and "
            "border leave; a threshold has no part in it. So is AP50, at IoU 0.50 alone."
        ),
        "options.kinds": "Change of the number of entries of each of the ledger's kinds, an image.",
        "options.measurable": "Whether the interval of the objective leaves out 0.",
        "options.class_thresholds": (
            f"A class has a threshold of its own where the choosing images hold at least {PER_CLASS} of its objects; "
            "the others have that of all classes together. So have maps of scores."
        ),
        "options.border": (
            "Predictions that touch the picture's border are dropped; true objects there still count, and are missed. "
            "It pays where predictions at the border are mostly wrong."
        ),
    }
