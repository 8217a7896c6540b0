"""Costs: what each kind of failure costs, as the gain if only that kind were repaired, with its interval.

Gains in average precision of several kinds do not sum, neither to each other nor to what AP lacks. Precision at a
true positive is a ratio over all detections above it, and AP takes the best precision at or beyond each recall: of
two false alarms above the same true positive, removing one lifts it from 1/3 to 1/2 and removing both to 1; and
where the first hides the second, removing the second alone gives nothing. A kind's gain says what comes of repairing
it first. Counts and areas are sums: theirs do add up.

How a kind is repaired (after TIDE, Bolya et al. 2020, arXiv 2008.08115, section 2.2), each object being found once:

    loose      the prediction is a true positive of its object.
    confused   the prediction gets its object's class, and is a true positive there.
    duplicate  the prediction is removed.
    spurious   the prediction is removed.
    merged     the prediction stands for a true positive of each of its objects, at its score.
    split      the best part is the true positive; the other parts are removed.
    tangled    there are as many true positives as objects; what predictions are left over are removed.
    missed     in AP, an object that no candidate finds leaves the positives; in counts, it is counted.

Predictions below the operating threshold stay in AP as they are. Only where a repaired prediction takes the object
of one, that one is left out; and if one of another class's scale ranks higher, it keeps the object and the repaired
prediction is removed. So no repair lowers AP. An object that a candidate below the threshold finds costs the count
as missed but not AP, which ranks all. A class all of whose objects leave the positives has AP 1: nothing is left to
find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.bootstrap import FEWEST, Interval, Resamples
from apiece.evaluate.drawn_precision import Ranked, drawn_precisions
from apiece.evaluate.ledger import (
    CONFUSED,
    DUPLICATE,
    KINDS,
    LOOSE,
    MERGED,
    MISSED,
    SPLIT,
    SPURIOUS,
    TANGLED,
    Ledger,
)
from apiece.evaluate.matching import ranks
from apiece.evaluate.operating import Reason
from apiece.evaluate.replay import NEITHER, TRUE, verdicts
from apiece.evaluate.scenes import Float64, Int64, Key

Bool = NDArray[np.bool_]

FAILURES = (LOOSE, CONFUSED, DUPLICATE, MERGED, SPLIT, TANGLED, SPURIOUS, MISSED)
PRECISION_DRAWS = (50, 200)  # fewest and most draws of average precision
WORK = 6_000_000  # true objects × draws, and a tenth of predictions × draws, that average precision may cost a kind
NAN = float("nan")

DEFINITIONS = {
    "costs": (
        "What would change if only this kind of failure were repaired. Gains in AP50 do not sum: each says what comes "
        "of repairing its kind first."
    ),
    "costs.AP50": (
        "Rise of average precision at the IoU `iou`, from which a mask is right, mean over classes with true objects, "
        "over all candidates that the operating point's suppression, cap, size and border leave: loose and the best "
        "part of a split object become true positives, confused get their object's class, duplicate, spurious and "
        "other parts are removed, a merged prediction counts as a true positive of each of its objects, tangled ones "
        "as many as there are objects, and missed objects that no candidate finds leave the positives (after TIDE, "
        "arXiv 2008.08115)."
    ),
    "costs.count": "Change of the predicted count: true objects less predictions of this kind. Over kinds these sum.",
    "costs.gross": "Change of the gross count error, in which nothing cancels. Over kinds these sum.",
    "costs.area": "Pixels of the true objects of this kind.",
    "costs.predicted_area": "Pixels of the predictions of this kind.",
    "costs.area_change": "Change of the predicted pixels, summed over objects: true less predicted area of this kind.",
    "costs.interval": (
        "Intervals are percentiles of bootstrap draws of whole images or groups. Those of AP use the first `ap_draws` "
        "draws, moved so that their mean is the figure: images drawn twice raise interpolated precision. None is given "
        "for what was seen in fewer than 5 images or groups."
    ),
}


@dataclass(frozen=True)
class Cost:
    """What a kind of failure costs: changes if only it were repaired.

    kind            its name.
    entries         entries of the ledger.
    objects         true objects.
    predictions     predictions.
    AP50            rise of average precision at the ledger's `found` IoU; NaN without truth or scores.
    count           change of the predicted count.
    gross           change of the gross count error; never positive.
    area            pixels of its true objects.
    predicted_area  pixels of its predictions.
    area_change     change of the predicted pixels.
    by_class        rise of AP of each class alone.
    """

    kind: str
    entries: int
    objects: int
    predictions: int
    AP50: Interval
    count: Interval
    gross: Interval
    area: Interval
    predicted_area: Interval
    area_change: Interval
    by_class: tuple[Interval, ...]


@dataclass(frozen=True)
class Costs:
    """Costs of every kind of failure.

    kinds         in the order of KINDS.
    AP50          average precision as it is, over all candidates that suppression, cap, size and border leave.
    all_repaired  average precision if every kind were repaired: below 1 by candidates below the threshold alone.
    iou           at which all of these are: the ledger's `found`.
    classes       (category id, name), as in `Cost.by_class`.
    draws         draws of counts and areas.
    ap_draws      draws of average precision.
    notes         why figures are missing.
    """

    kinds: tuple[Cost, ...]
    AP50: Interval
    all_repaired: Interval
    iou: float
    classes: tuple[tuple[Key, str], ...]
    draws: int
    ap_draws: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where nothing can be said. By class only gains that are not 0."""
        return {
            "AP50": self.AP50.to_json(),
            "all_repaired": self.all_repaired.to_json(),
            "iou": self.iou,
            "draws": self.draws,
            "ap_draws": self.ap_draws,
            "notes": list(self.notes),
            "kinds": [
                {
                    "kind": cost.kind,
                    "entries": cost.entries,
                    "objects": cost.objects,
                    "predictions": cost.predictions,
                    "AP50": cost.AP50.to_json(),
                    "count": cost.count.to_json(),
                    "gross": cost.gross.to_json(),
                    "area": cost.area.to_json(),
                    "predicted_area": cost.predicted_area.to_json(),
                    "area_change": cost.area_change.to_json(),
                    "by_class": [
                        {"category_id": key, "name": name, "AP50": gain.to_json()}
                        for (key, name), gain in zip(self.classes, cost.by_class, strict=True)
                        if gain.value > 0
                    ],
                }
                for cost in self.kinds
            ],
        }


@dataclass(frozen=True, eq=False)
class Entries:
    """The E entries of a ledger.

    kind     int8 (E,), a place in KINDS.
    image    int64 (E,), place of its image.
    surplus  int64 (E,), predictions less true objects; a crowd region is no object.
    """

    kind: NDArray[np.int8]
    image: Int64
    surplus: Int64


def entries_of(ledger: Ledger) -> Entries:
    """The entries, in their order."""
    truth, predicted = ledger.overlaps.scenes.truth, ledger.overlaps.scenes.predicted
    counted = np.flatnonzero(ledger.predicted_entry >= 0)
    of_truth, of_predicted = ledger.truth_entry, ledger.predicted_entry[counted]
    total = int(max(of_truth.max(initial=-1), of_predicted.max(initial=-1))) + 1
    kind, image = np.zeros(total, np.int8), np.zeros(total, np.int64)
    kind[of_truth], image[of_truth] = ledger.truth_kind, truth.images
    kind[of_predicted], image[of_predicted] = ledger.predicted_kind[counted], predicted.images[counted]
    surplus = np.bincount(of_predicted, minlength=total) - np.bincount(
        of_truth[~truth.crowd], minlength=total
    )
    return Entries(kind, image, surplus.astype(np.int64))


def costs(ledger: Ledger, draws: Resamples, scored: bool = True) -> Costs:
    """The cost of every kind of failure.

    draws   draws of the images of the ledger.
    scored  whether predictions have scores; without, there is no average precision.
    """
    overlaps = ledger.overlaps
    scenes = overlaps.scenes
    shape = len(scenes.image_ids), len(KINDS)
    entries = entries_of(ledger)
    notes = []
    if not scored:
        notes.append("Predictions have no scores, so that no AP can be given: it ranks them.")
    elif scenes.truth.crowd.all():
        notes.append("There is no true object, so that no AP can be given.")
    if not draws.enough:
        notes.append(f"{draws.units} images or groups are too few for intervals; expected at least {FEWEST}.")

    def by_image(kind: NDArray[np.int8], image: Int64, weight: NDArray[Any] | None = None) -> Float64:
        some = kind >= 0
        flat = image[some] * shape[1] + kind[some]
        weight = None if weight is None else weight[some]
        return np.bincount(flat, weight, int(np.prod(shape))).reshape(shape).astype(np.float64)

    truth, predicted = scenes.truth, scenes.predicted
    true = by_image(ledger.truth_kind, truth.images)
    found = by_image(ledger.predicted_kind, predicted.images)
    gross = by_image(entries.kind, entries.image, np.abs(entries.surplus))
    area = by_image(ledger.truth_kind, truth.images, overlaps.truth_areas)
    predicted_area = by_image(ledger.predicted_kind, predicted.images, overlaps.predicted_areas)
    tables = (true - found, -gross, area, predicted_area, area - predicted_area)
    stacked = np.stack(tables, axis=1)[:, :, list(FAILURES)]
    values, drawn = stacked.sum(axis=0), draws.sums(stacked)
    number = np.bincount(entries.kind, minlength=shape[1])

    ap_draws, base, gains, all_gains = _precision(ledger, draws, scored)
    unit = draws.unit
    of_kind = _units(entries.kind.astype(np.int64), unit[entries.image], shape[1])
    of_class = _units(truth.labels[~truth.crowd], unit[truth.images[~truth.crowd]], len(scenes.classes))
    made = []
    for i, kind in enumerate(FAILURES):
        seen = int(of_kind[kind])

        def interval(row: int, i: int = i, seen: int = seen) -> Interval:
            return draws.interval(float(values[row, i]) + 0.0, drawn[:, row, i], seen)  # no -0

        made.append(
            Cost(
                kind=KINDS[kind],
                entries=int(number[kind]),
                objects=int(true[:, kind].sum()),
                predictions=int(found[:, kind].sum()),
                AP50=_moved(draws, _mean(gains[i]), seen),
                count=interval(0),
                gross=interval(1),
                area=interval(2),
                predicted_area=interval(3),
                area_change=interval(4),
                by_class=tuple(
                    _moved(draws, row, min(seen, some))
                    for row, some in zip(gains[i], of_class.tolist(), strict=True)
                ),
            )
        )
    return Costs(
        tuple(made),
        _moved(draws, _mean(base)),
        _moved(draws, _mean(base + all_gains)),
        ledger.rules.found,
        scenes.classes,
        len(draws.weights),
        ap_draws,
        tuple(notes),
    )


def _units(which: Int64, unit: Int64, count: int) -> Int64:
    """In how many units each of `count` things was seen."""
    units = int(unit.max(initial=0)) + 1
    return np.bincount(np.unique(which * units + unit) // units, minlength=count).astype(np.int64)


def _mean(table: Float64) -> Float64:
    """The mean over classes (C, 1 + B) that are known; NaN where none is."""
    known = ~np.isnan(table)
    count = known.sum(axis=0)
    mean: Float64 = np.where(known, table, 0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _moved(draws: Resamples, row: Float64, seen: int | None = None) -> Interval:
    """The interval of a figure in 0..1, row[0], from draws of it, row[1:], moved to have it as their mean.

    Interpolated precision takes maxima, which chance raises, and the more so the fewer different images there are:
    without the move the interval of a mean over 80 classes may leave out the figure itself.
    """
    value, drawn = float(row[0]), row[1:]
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not known.size:
        return Interval(value, NAN, NAN)
    _, low, high = draws.interval(value, known + (value - known.mean()), seen)
    return Interval(value, float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1)))


def _precision(ledger: Ledger, draws: Resamples, scored: bool) -> tuple[int, Float64, Float64, Float64]:
    """How many draws; then by class, first as it is and then in each draw: AP (C, 1 + B), the gain in it of each
    kind (kinds, C, 1 + B), and that of all kinds at once (C, 1 + B).
    """
    overlaps, selection = ledger.overlaps, ledger.selection
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    classes = len(overlaps.scenes.classes)
    if not scored:
        none = np.full((classes, 1), np.nan)
        return 0, none, np.full((len(FAILURES), *none.shape), np.nan), none
    fewest, most = PRECISION_DRAWS
    count = min(len(draws.weights), max(fewest, min(most, WORK // (len(truth) + len(predicted) // 10 + 1))))
    weights = np.vstack([np.ones(draws.weights.shape[1]), draws.weights[:count]])
    present = (selection.reason == Reason.KEPT) | (selection.reason == Reason.BELOW)
    judged = verdicts(overlaps, present, selection.scores, ious=np.array([ledger.rules.found]))
    verdict, taken = judged.verdict[0], judged.truth[0]
    rank = ranks(predicted, selection.scores)
    holder = np.full(len(truth), -1, np.int64)
    holder[taken[taken >= 0]] = np.flatnonzero(taken >= 0)
    stands, object_of = standing(ledger, holder, rank)
    unfound = (ledger.truth_kind == MISSED) & (holder < 0)

    def positives(which: Bool) -> Float64:
        return weights @ scenes_table(which)

    def scenes_table(which: Bool) -> Float64:
        return truth.where(which).per_image(weights.shape[1], classes).astype(np.float64)

    whole = positives(~truth.crowd).T
    less = whole - positives(unfound).T
    everything = Ranked(predicted.labels, rank, predicted.images, verdict == TRUE)

    base = drawn_precisions(everything.where(verdict != NEITHER), whole, weights)

    def repaired(kinds: Sequence[int]) -> Float64:
        replaced = np.isin(ledger.predicted_kind, kinds)
        chosen = replaced[stands]
        p, g = stands[chosen], object_of[chosen]
        rival = np.where(holder[g] >= 0, holder[g], p)
        rival = np.where(replaced[rival], p, rival)  # what is itself replaced gives its object up
        wins = rank[rival] >= rank[p]
        p, g, rival = p[wins], g[wins], rival[wins]
        out = replaced | (verdict == NEITHER)
        out[rival] = True
        left = less if MISSED in kinds else whole
        changed = np.zeros(classes, np.bool_)  # other classes are as they were
        changed[predicted.labels[replaced]] = changed[truth.labels[g]] = True
        changed |= (left != whole).any(axis=1)
        out |= ~changed[predicted.labels]
        now = everything.where(~out).with_true(truth.labels[g], rank[p], predicted.images[p])
        precision = np.where(changed[:, None], drawn_precisions(now, left, weights), base)
        return np.where((whole > 0) & (left == 0), 1.0, precision)

    gains = np.stack([repaired((kind,)) - base for kind in FAILURES])
    return count, base, gains, repaired(FAILURES) - base


def standing(ledger: Ledger, holder: Int64, rank: Int64) -> tuple[Int64, Int64]:
    """Which true positives the failed predictions stand for once repaired: (predictions, true objects), each (S,).

    holder  int64 (T,), the prediction that takes each object in AP, -1 for none.
    rank    int64 (P,), the order of predictions.

    Loose and confused: the object it is about. In a group each object goes to the best part of those that are about
    it (that which AP counts, then by IoU, then by score); objects left over go one each to predictions left over, by
    score, and what is then left to the group's prediction of highest score.
    """
    overlaps = ledger.overlaps
    grouped = (MERGED, SPLIT, TANGLED)
    kind, partner = ledger.predicted_kind, ledger.partner
    single = np.flatnonzero(np.isin(kind, (LOOSE, CONFUSED)))
    members = np.flatnonzero(np.isin(kind, grouped))
    objects = np.flatnonzero(np.isin(ledger.truth_kind, grouped))
    if not members.size:
        return single, partner[single]

    fit = np.zeros(len(kind))
    across = overlaps.across
    own = partner[across.second] == across.first
    fit[across.second[own]] = overlaps.iou[own]
    about = members[partner[members] >= 0]
    holds = holder[partner[about]] == about
    order = about[np.lexsort((rank[about], -fit[about], ~holds, partner[about]))]
    best = order[np.flatnonzero(np.diff(partner[order], prepend=-1))]

    objects = objects[~np.isin(objects, partner[best])]
    objects, of_object, place = _places(objects, ledger.truth_entry[objects], objects)
    idle = members[~np.isin(members, best)]
    idle, of_idle, idle_place = _places(idle, ledger.predicted_entry[idle], rank[idle])
    key, idle_key = of_object * (len(rank) + 1) + place, of_idle * (len(rank) + 1) + idle_place
    at = np.searchsorted(idle_key, key)
    at[at == len(idle_key)] = 0
    taken = idle_key[at] == key if idle.size else np.zeros(len(key), np.bool_)
    first = members[np.lexsort((rank[members], ledger.predicted_entry[members]))]
    leaders = first[np.flatnonzero(np.diff(ledger.predicted_entry[first], prepend=-1))]
    leader = leaders[np.searchsorted(ledger.predicted_entry[leaders], of_object)]
    rest = leader.copy()
    rest[taken] = idle[at[taken]]
    return (
        np.concatenate([single, best, rest]),
        np.concatenate([partner[single], partner[best], objects]),
    )


def _places(members: Int64, entry: Int64, by: Int64) -> tuple[Int64, Int64, Int64]:
    """The members sorted by entry and then `by`, their entries, and their places 0, 1, … within these."""
    order = np.lexsort((by, entry))
    entry = entry[order]
    return members[order], entry, np.arange(len(entry)) - np.searchsorted(entry, entry)
