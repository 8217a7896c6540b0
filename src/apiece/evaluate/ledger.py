"""The ledger of failures: every true object and every prediction gets exactly one entry, and the entries add up."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from apiece.errors import UsageError
from apiece.evaluate.matching import match, ranks
from apiece.evaluate.operating import Selection
from apiece.evaluate.overlaps import Overlaps, Pairs
from apiece.evaluate.scenes import Float64, Int64

Bool = NDArray[np.bool_]
Int8 = NDArray[np.int8]

KINDS = (
    "matched",
    "loose",
    "confused",
    "duplicate",
    "merged",
    "split",
    "tangled",
    "spurious",
    "missed",
    "ignored",
)
(MATCHED, LOOSE, CONFUSED, DUPLICATE, MERGED, SPLIT, TANGLED, SPURIOUS, MISSED, IGNORED) = range(len(KINDS))
NOT_COUNTED = -1


@dataclass(frozen=True)
class Rules:
    """The thresholds of the ledger.

    found    IoU from which a prediction's mask is right (TIDE's t_f).
    near     IoU from which a poor mask still means the object (TIDE's t_b).
    covered  share of an object that a prediction must cover, or of a prediction that must lie in an object, for the
             two to belong together.
    raises   UsageError unless 0 < near ≤ found ≤ 1 and 0 < covered ≤ 1.
    """

    found: float = 0.5
    near: float = 0.1
    covered: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.near <= self.found <= 1 and 0 < self.covered <= 1):
            raise UsageError(
                f"the ledger's rules are found {self.found}, near {self.near}, covered {self.covered}; expected "
                "0 < near ≤ found ≤ 1 and 0 < covered ≤ 1. Remedy: keep the usual 0.5, 0.1 and 0.5."
            )


@dataclass(frozen=True, eq=False)
class Ledger:
    """One entry for each true object and each prediction that counts.

    truth_kind       int8 (T,), a place in KINDS; crowd regions are IGNORED.
    predicted_kind   int8 (P,), a place in KINDS; NOT_COUNTED for predictions that don't count.
    truth_entry      int64 (T,), the number of its entry; objects of one entry share it.
    predicted_entry  int64 (P,), the same; -1 for those that don't count. A duplicate is an entry of its own.
    partner          int64 (P,), the true object that a prediction is about: that it matches, found loosely or with
                     the wrong class, counts again, or lies in; for other merged or tangled ones the joined object
                     of highest IoU; -1 for none.
    """

    overlaps: Overlaps
    selection: Selection
    rules: Rules
    truth_kind: Int8
    predicted_kind: Int8
    truth_entry: Int64
    predicted_entry: Int64
    partner: Int64
    _tables: dict[str, Int64] = field(default_factory=dict, repr=False)

    def table(self, side: str) -> Int64:
        """int64 (images, classes, kinds): how many true objects, or predictions that count, are of each kind.

        side  "truth" or "prediction".
        """
        if side not in self._tables:
            scenes = self.overlaps.scenes
            objects = scenes.truth if side == "truth" else scenes.predicted
            kind = (self.truth_kind if side == "truth" else self.predicted_kind).astype(np.int64)
            shape = len(scenes.image_ids), len(scenes.classes), len(KINDS)
            some = kind != NOT_COUNTED
            flat = (objects.images * shape[1] + objects.labels) * shape[2] + kind
            self._tables[side] = np.bincount(flat[some], minlength=int(np.prod(shape))).reshape(shape)
        return self._tables[side]

    @property
    def signed(self) -> Int64:
        """int64 (images, classes, kinds): predictions less true objects; crowd regions are no objects.

        Summed over kinds, this is the predicted less the true count, of every image and class.
        """
        true = self.table("truth").copy()
        true[:, :, IGNORED] = 0
        return self.table("prediction") - true

    @property
    def errors(self) -> Int64:
        """int64 (images, 2): how many objects are counted too many, and too few, entry by entry.

        Their difference is the net error of the count, their sum the gross error, in which nothing cancels. A wrong
        class is no error of the total.
        """
        scenes = self.overlaps.scenes
        entries = int(max(self.truth_entry.max(initial=-1), self.predicted_entry.max(initial=-1))) + 1
        real = ~scenes.truth.crowd
        counted = self.predicted_entry >= 0
        surplus = np.bincount(self.predicted_entry[counted], minlength=entries)
        surplus = surplus - np.bincount(self.truth_entry[real], minlength=entries)
        image = np.zeros(entries, np.int64)
        image[self.truth_entry] = scenes.truth.images
        image[self.predicted_entry[counted]] = scenes.predicted.images[counted]
        found = np.zeros((len(scenes.image_ids), 2), np.int64)
        np.add.at(found[:, 0], image, np.maximum(surplus, 0))
        np.add.at(found[:, 1], image, np.maximum(-surplus, 0))
        return found

    def members(self, entry: int) -> tuple[Int64, Int64]:
        """The true objects and the predictions of an entry, by their places."""
        return np.flatnonzero(self.truth_entry == entry), np.flatnonzero(self.predicted_entry == entry)


def ledger(overlaps: Overlaps, selection: Selection, rules: Rules | None = None) -> Ledger:
    """The ledger at an operating point.

    With G a true object, P a prediction that counts, and τ = `covered`, in this order:

    1. Pairs. In order of score each P takes the free G of highest IoU: first of its class with IoU ≥ `found`
       (matched), then of any class with IoU ≥ `found` (confused), then of its class with |G∩P| ≥ τ|G| and
       |G∩P| ≥ τ|P| (loose).
    2. Ignored: an unpaired P that lies to τ of itself in a crowd region of its class; it has no part in what follows.
    3. Attached. An unpaired G joins the P of its class that covers it best, if |G∩P| ≥ τ|G|; not if G lies to τ of
       itself in the object that P is paired with (it is on top of that, not merged with it). An unpaired P belongs to
       the G of its class in which most of it lies, if |G∩P| ≥ τ|P|, and joins it; but if P lies to τ of itself in
       what G is paired with, or in a P of higher score that belongs to G too, it does not join: it counts G again,
       and is a duplicate if G is paired and nothing joined P.
    4. What hangs together is one entry: one P with several G is merged, one G with several P split, several with
       several tangled. Without a pair in it, one P and the G that it shares less than `near` of itself with in all,
       or one G and such P, are no entry: these are specks, and go on to step 5.
    5. Left over: P and G of one class with IoU ≥ `near` are loose, in order of score as in step 1. A P that lies to τ
       of itself in true objects of its class that have a prediction, or that fits such an object of another class
       with IoU ≥ `found`, is a duplicate; any other is spurious, and any other G missed.

    Among equals the later G is paired, as in COCO; G joins the P of higher score; P belongs to the G of higher IoU,
    then to the earlier.

    source  kinds by overlap graph after "segmetrics" and bioRxiv 335216; thresholds as in TIDE, arXiv 2008.08115.
    """
    rule = Rules() if rules is None else rules
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    kept = selection.kept
    rank = ranks(predicted, selection.scores)
    across = overlaps.across
    counts = kept[across.second]
    crowd_pairs = across.where(counts & truth.crowd[across.first])
    across = across.where(counts & ~truth.crowd[across.first])
    of_truth = across.shared / overlaps.truth_areas[across.first]
    of_predicted = across.shared / overlaps.predicted_areas[across.second]
    iou = across.iou(overlaps.truth_areas, overlaps.predicted_areas)
    same = truth.labels[across.first] == predicted.labels[across.second]

    truth_kind = np.full(len(truth), MISSED, np.int8)
    predicted_kind = np.full(len(predicted), NOT_COUNTED, np.int8)
    predicted_kind[kept] = SPURIOUS
    truth_kind[truth.crowd] = IGNORED
    mate_of_truth = np.full(len(truth), -1, np.int64)
    mate = np.full(len(predicted), -1, np.int64)

    def pair(possible: Bool, kind: int) -> None:
        possible = possible & (mate_of_truth[across.first] < 0) & (mate[across.second] < 0)
        taken = match(across.where(possible), iou[possible], rank, len(truth))
        won = np.flatnonzero(taken >= 0)
        mate[won], mate_of_truth[taken[won]] = taken[won], won
        predicted_kind[won], truth_kind[taken[won]] = kind, kind

    both = (of_truth >= rule.covered) & (of_predicted >= rule.covered)
    pair(same & (iou >= rule.found), MATCHED)
    pair(iou >= rule.found, CONFUSED)
    pair(same & both, LOOSE)

    inside = crowd_pairs.shared >= rule.covered * overlaps.predicted_areas[crowd_pairs.second]
    inside &= truth.labels[crowd_pairs.first] == predicted.labels[crowd_pairs.second]
    ignored = np.zeros(len(predicted), np.bool_)
    ignored[crowd_pairs.second[inside]] = True
    ignored &= mate < 0
    predicted_kind[ignored] = IGNORED

    free_truth = (mate_of_truth < 0) & ~truth.crowd
    free = kept & (mate < 0) & ~ignored
    lone = free_truth[across.first] & same & (of_truth >= rule.covered) & ~ignored[across.second]
    on_top = _shared(overlaps.among_truth, across.first, mate[across.second], len(truth))
    nested = on_top >= rule.covered * overlaps.truth_areas[across.first]
    joins = _best(across.first, of_truth, -rank[across.second], lone & ~nested)
    part = free[across.second] & same & (of_predicted >= rule.covered)
    into = _best(across.second, of_predicted, iou, part)

    owner = np.full(len(predicted), -1, np.int64)
    owner[across.second[into]] = across.first[into]
    repeats = _repeats(overlaps, rule, mate, owner, rank)
    about = np.where(mate >= 0, mate, owner)
    joined = np.zeros(len(predicted), np.bool_)
    joined[across.second[joins]] = True
    again = repeats & (np.append(mate_of_truth, -1)[owner] >= 0) & ~joined
    predicted_kind[again] = DUPLICATE
    about[repeats & ~again] = -1
    into = into[~repeats[across.second[into]]]

    attached = np.union1d(joins, into)
    paired = np.flatnonzero(mate >= 0)
    left = np.concatenate([mate[paired], across.first[attached]])
    right = np.concatenate([paired, across.second[attached]])
    component, truths, predictions = _components(left, right, len(truth), len(predicted))
    several = [(truths > 1) & (predictions > 1), truths > 1, predictions > 1]
    kinds = np.select(several, [TANGLED, MERGED, SPLIT], NOT_COUNTED)
    groups = len(kinds)
    filled = np.bincount(component[across.first[attached]], across.shared[attached], groups)
    held = np.zeros(groups, np.bool_)
    held[component[mate[paired]]] = True
    whole = np.where(
        truths > 1,
        np.bincount(component[len(truth) :], overlaps.predicted_areas, groups),
        np.bincount(component[: len(truth)], overlaps.truth_areas, groups),
    )
    kinds[(kinds != TANGLED) & ~held & (filled < rule.near * whole)] = NOT_COUNTED
    kinds = kinds[component]
    grouped_truth = kinds[: len(truth)] != NOT_COUNTED
    grouped = kinds[len(truth) :] != NOT_COUNTED
    truth_kind[grouped_truth] = kinds[: len(truth)][grouped_truth]
    predicted_kind[grouped] = kinds[len(truth) :][grouped]
    fitting = np.zeros(len(across), np.bool_)
    fitting[attached] = about[across.second[attached]] < 0
    best = _best(across.second, iou, of_truth, fitting)
    about[across.second[best]] = across.first[best]

    # A lone object with a lone prediction attached is no group: it is loose or nothing, as in step 5.
    open_truth = free_truth & ~grouped_truth
    open_predicted = free & ~grouped & (predicted_kind != DUPLICATE)
    about[open_predicted] = -1
    possible = same & (iou >= rule.near) & open_truth[across.first] & open_predicted[across.second]
    taken = match(across.where(possible), iou[possible], rank, len(truth))
    won = np.flatnonzero(taken >= 0)
    about[won] = taken[won]
    predicted_kind[won], truth_kind[taken[won]] = LOOSE, LOOSE

    rest = open_predicted.copy()
    rest[won] = False
    served = truth_kind[across.first] != MISSED
    covered = same & served & rest[across.second]
    share = np.bincount(across.second[covered], of_predicted[covered], len(predicted))
    fits = _best(across.second, iou, iou, ~same & served & rest[across.second] & (iou >= rule.found))
    again = rest & (share >= rule.covered)
    again[across.second[fits]] = True
    nearest = _best(
        across.second, of_predicted, iou, (covered | (~same & (iou >= rule.found))) & again[across.second]
    )
    about[across.second[nearest]] = across.first[nearest]
    predicted_kind[again] = DUPLICATE

    return _numbered(overlaps, selection, rule, truth_kind, predicted_kind, about, component)


def _repeats(overlaps: Overlaps, rule: Rules, mate: Int64, owner: Int64, rank: Int64) -> Bool:
    """Which predictions lie in what their object is paired with, or in one of higher score of the same object.

    mate   int64 (P,), the object that a prediction is paired with, -1 for none.
    owner  int64 (P,), the object that an unpaired one belongs to, -1 for none.
    """
    pairs = overlaps.among_predicted
    inner = np.concatenate([pairs.first, pairs.second])
    outer = np.concatenate([pairs.second, pairs.first])
    shared = np.concatenate([pairs.shared, pairs.shared])
    within = (owner[inner] >= 0) & (shared >= rule.covered * overlaps.predicted_areas[inner])
    of_mate = mate[outer] == owner[inner]
    of_rival = (owner[outer] == owner[inner]) & (rank[outer] < rank[inner])
    repeats = np.zeros(len(rank), np.bool_)
    repeats[inner[within & (of_mate | of_rival)]] = True
    return repeats


def _shared(pairs: Pairs, row: Int64, column: Int64, count: int) -> Float64:
    """What objects of one list of `count` share, float64 (R,); 0 where they share nothing or `column` is -1."""
    keys = pairs.first * count + pairs.second
    order = np.argsort(keys)
    wanted = np.where(column < 0, -1, np.minimum(row, column) * count + np.maximum(row, column))
    at = np.searchsorted(keys[order], wanted)
    known = np.append(keys[order], -2)[at] == wanted
    values: Float64 = np.where(known, np.append(pairs.shared[order], 0.0)[at], 0.0)
    return values


def _best(owner: Int64, value: Float64, then: Float64 | Int64, possible: Bool) -> Int64:
    """The place of each owner's best possible pair, by value, then by `then`, then by place."""
    some = np.flatnonzero(possible)
    order = some[np.lexsort((some, -then[some], -value[some], owner[some]))]
    owners = owner[order]
    first: Int64 = order[np.flatnonzero(np.diff(owners, prepend=-1))]
    return first


def _components(left: Int64, right: Int64, truths: int, predictions: int) -> tuple[Int64, Int64, Int64]:
    """The component of each true object and then each prediction, and how many of both each component has."""
    total = truths + predictions
    edges = coo_array((np.ones(len(left), np.int8), (left, right + truths)), shape=(total, total))
    count, component = connected_components(edges, directed=False)
    return (
        component.astype(np.int64),
        np.bincount(component[:truths], minlength=count),
        np.bincount(component[truths:], minlength=count),
    )


def _numbered(
    overlaps: Overlaps,
    selection: Selection,
    rules: Rules,
    truth_kind: Int8,
    predicted_kind: Int8,
    about: Int64,
    component: Int64,
) -> Ledger:
    """The ledger with its entries numbered 0, 1, … as their first object comes, truth first."""
    truths = len(truth_kind)
    shares = np.isin(np.concatenate([truth_kind, predicted_kind]), (MERGED, SPLIT, TANGLED))
    key = np.arange(len(component), dtype=np.int64)
    # Groups go by component; pairs by their true object; everything else is alone.
    single = np.isin(predicted_kind, (MATCHED, LOOSE, CONFUSED))
    key[truths:][single] = about[single]
    first = np.full(component.max(initial=-1) + 1, len(component), np.int64)
    np.minimum.at(first, component[shares], np.flatnonzero(shares))
    key[shares] = first[component[shares]]
    counted = np.append(np.ones(truths, np.bool_), predicted_kind != NOT_COUNTED)
    entry = np.full(len(component), -1, np.int64)
    entry[counted] = np.unique(key[counted], return_inverse=True)[1]
    return Ledger(
        overlaps,
        selection,
        rules,
        truth_kind,
        predicted_kind,
        entry[:truths],
        entry[truths:],
        np.where(predicted_kind == NOT_COUNTED, -1, about),
    )
