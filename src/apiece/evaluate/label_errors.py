"""Label errors: where the truth itself is likely wrong, ranked so that the first are worth a look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.evaluate.causes import NO_CANDIDATE, causes
from apiece.evaluate.ledger import (
    CONFUSED,
    DUPLICATE,
    IGNORED,
    LOOSE,
    MATCHED,
    MERGED,
    MISSED,
    NOT_COUNTED,
    SPLIT,
    SPURIOUS,
    TANGLED,
    Ledger,
)
from apiece.evaluate.scenes import Float64, Int64, Key, Objects
from apiece.evaluate.subject import Subject

Bool = NDArray[np.bool_]

FOLDS = 5
CONFIDENT = 0.8
RIVAL = 0.5
FAR_OUT = 4.0  # interquartile ranges; IoU is skewed, so more than the 3 of Tukey's far-out fence
NARROWEST = 0.02  # IoU; no interquartile range counts as less
ALWAYS = 0.9
TWICE = 0.8
ENOUGH = 20  # predictions or objects elsewhere, below which nothing is said
OF_CLASS = 100  # predictions of a class elsewhere, from which its precision is its own
SIZES = (32.0**2, 96.0**2)

DEFINITIONS = {
    "label_errors": (
        "Places where the truth is likely wrong, the likeliest first. A rank score orders a list and is not the "
        f"probability of an error. `Elsewhere` means the images of the other {FOLDS - 1} of {FOLDS} random parts. "
        "Confidence is the share of predictions of its class and of that score that are about an object of their class "
        "elsewhere (neither spurious, duplicate nor confused), at least: the lower end of the 95 % interval (Wilson, "
        "one-sided) of each step of an isotonic regression on scores, and in proportion between the steps' mean "
        f"scores; of all classes together where the class has fewer than {OF_CLASS} predictions elsewhere."
    ),
    "missing": (
        f"Spurious predictions with confidence ≥ {CONFIDENT:g}, of which less than {{near:g}} lies in labelled objects "
        "or crowd regions, once where several overlap. Rank score: the confidence."
    ),
    "wrong_class": (
        f"Predictions of another class with IoU ≥ {{found:g}} with an object, with confidence ≥ {CONFIDENT:g}, where "
        f"the best candidate of the labelled class with that IoU has less than {RIVAL:g} of their score. Rank score: "
        "confidence · (1 - score of that candidate / score), the candidate's score being 0 if there is none."
    ),
    "poor_outline": (
        f"Matched or loose predictions with confidence ≥ {CONFIDENT:g} whose IoU lies more than {FAR_OUT:g} "
        "interquartile ranges below the lower quartile of such predictions on objects of like size (up to 32², up to "
        f"96² pixels, above) elsewhere, given at least {ENOUGH}. Rank score: how many ranges. One of the two outlines "
        "is off, and it may be the prediction's."
    ),
    "doubtful": (
        "Missed objects with no candidate at any score and no likely cause, of a class and size of which elsewhere "
        f"nearly all are found: the lower end of the share's 95 % interval (Wilson, one-sided) is ≥ {ALWAYS:g}; rank "
        "score: that lower end. And missed objects that another "
        f"object of their class covers with IoU ≥ {TWICE:g} (labelled twice); rank score: that IoU."
    ),
}


@dataclass(frozen=True)
class Suspect:
    """One place where the truth is likely wrong.

    image, name      the image's id and name.
    entry            number of its entry in the ledger, to draw it by.
    truth            place of the true object; None where its label is missing.
    prediction       place of the prediction; None where there is none.
    label            the labelled class; None where the label is missing.
    predicted_label  the predicted class; None without prediction.
    score            the prediction's; None without prediction.
    box              x1, y1, x2, y2 in pixels, of the label, else of the prediction.
    rank_score       orders the list; see DEFINITIONS.
    why              a sentence.
    """

    image: Key
    name: str
    entry: int
    truth: int | None
    prediction: int | None
    label: str | None
    predicted_label: str | None
    score: float | None
    box: tuple[float, float, float, float]
    rank_score: float
    why: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; "class" is the labelled class, or the predicted one where the label is missing."""
        return {
            "image": self.image,
            "name": self.name,
            "entry": self.entry,
            "truth": self.truth,
            "prediction": self.prediction,
            "class": self.label if self.label is not None else self.predicted_label,
            "predicted_class": self.predicted_label,
            "score": self.score,
            "box": list(self.box),
            "rank_score": self.rank_score,
            "why": self.why,
        }


@dataclass(frozen=True)
class LabelErrors:
    """Likely label errors by kind, the likeliest first, at most as many as asked for.

    totals       how many there are of each kind.
    notes        why a list may be empty or must be read with care.
    definitions  a sentence for each kind, with the thresholds used.
    """

    missing: tuple[Suspect, ...]
    wrong_class: tuple[Suspect, ...]
    poor_outline: tuple[Suspect, ...]
    doubtful: tuple[Suspect, ...]
    totals: dict[str, int]
    notes: tuple[str, ...]
    definitions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the lists, their totals and definitions."""
        return {
            "missing": [suspect.to_json() for suspect in self.missing],
            "wrong_class": [suspect.to_json() for suspect in self.wrong_class],
            "poor_outline": [suspect.to_json() for suspect in self.poor_outline],
            "doubtful": [suspect.to_json() for suspect in self.doubtful],
            "totals": self.totals,
            "notes": list(self.notes),
            "definitions": self.definitions,
        }


def label_errors(subject: Subject, ledger: Ledger, limit: int = 50) -> LabelErrors:
    """Likely label errors of what the ledger is of, `limit` of each kind at most.

    source  confident disagreement as evidence of label errors: Northcutt et al. 2021, arXiv 1911.00068; here by
            object, with precision on other images in place of class probabilities.
    """
    scenes = ledger.overlaps.scenes
    folds = np.random.default_rng(0).permutation(len(scenes.image_ids)) % FOLDS
    notes = _notes(subject, ledger)
    confidence = np.zeros(len(scenes.predicted))
    if subject.scored:
        confidence = _confidence(ledger, folds)
        best = confidence.max(initial=0.0)
        if 0 < best < CONFIDENT:
            notes.append(
                f"Not even the highest scores are surely right in {CONFIDENT:.0%} on other images, but in {best:.0%} "
                "at least: too little to doubt labels by them."
            )
    sure = confidence >= CONFIDENT
    telling = _Telling(subject, ledger, limit)
    missing = telling.of(*_missing(ledger, sure, confidence))
    wrong = telling.of(*_wrong_class(ledger, sure, confidence))
    poor = telling.of(*_poor_outline(ledger, sure, folds))
    doubtful = telling.of(*_doubtful(ledger, folds))
    told = {
        key: text.format(near=ledger.rules.near, found=ledger.rules.found)
        for key, text in DEFINITIONS.items()
    }
    totals = {
        "missing": missing[1],
        "wrong_class": wrong[1],
        "poor_outline": poor[1],
        "doubtful": doubtful[1],
    }
    return LabelErrors(missing[0], wrong[0], poor[0], doubtful[0], totals, tuple(notes), told)


def _notes(subject: Subject, ledger: Ledger) -> list[str]:
    notes = []
    if not subject.scored:
        notes.append(
            "The predictions carry no scores, so that missing labels, wrong classes and poor outlines cannot be told "
            "from the model's own errors."
        )
    if len(ledger.overlaps.scenes.image_ids) < 2:
        notes.append("There is one image only: nothing can be learnt elsewhere.")
    if ledger.selection.kept.all():
        notes.append(
            "The file holds no prediction below the operating point: a doubtful object may have had a candidate. "
            "Remedy: predict with a low threshold, such as 0.05."
        )
    return notes


Found = tuple[Int64, Int64, Float64, Callable[[int], str]]
"""Places of true objects (-1 for none), of predictions (-1), rank scores, and what says why, by position."""


@dataclass(frozen=True, eq=False)
class _Telling:
    """Makes suspects of places."""

    subject: Subject
    ledger: Ledger
    limit: int

    def of(
        self,
        truth: Int64,
        predicted: Int64,
        rank: Float64,
        why: Callable[[int], str],
    ) -> tuple[tuple[Suspect, ...], int]:
        scenes = self.ledger.overlaps.scenes
        scores = np.append(scenes.predicted.scores, 0.0)[predicted]
        order = np.lexsort((-scores, -rank))[: self.limit]
        suspects = []
        for i in order.tolist():
            t, p = int(truth[i]), int(predicted[i])
            objects, place = (scenes.truth, t) if t >= 0 else (scenes.predicted, p)
            image = int(objects.images[place])
            entry = self.ledger.truth_entry[t] if t >= 0 else self.ledger.predicted_entry[p]
            x, y, w, h = objects.boxes[place].tolist()
            suspects.append(
                Suspect(
                    scenes.image_ids[image],
                    self.subject.names[image],
                    int(entry),
                    t if t >= 0 else None,
                    p if p >= 0 else None,
                    self._class(scenes.truth, t),
                    self._class(scenes.predicted, p),
                    float(scenes.predicted.scores[p]) if p >= 0 else None,
                    (x, y, x + w, y + h),
                    float(rank[i]),
                    why(i),
                )
            )
        return tuple(suspects), len(rank)

    def _class(self, objects: Objects, place: int) -> str | None:
        return self.ledger.overlaps.scenes.classes[int(objects.labels[place])][1] if place >= 0 else None


def _confidence(ledger: Ledger, folds: Int64) -> Float64:
    """float64 (P,): the least precision at each score of what counts on the other images; 0 where unknown."""
    predicted = ledger.overlaps.scenes.predicted
    kind = ledger.predicted_kind
    right = np.isin(kind, (MATCHED, LOOSE, MERGED, SPLIT, TANGLED))
    used = (kind != NOT_COUNTED) & (kind != IGNORED)
    fold, scores = folds[predicted.images], ledger.selection.scores
    confidence = np.zeros(len(predicted))
    for k in range(FOLDS):
        here, elsewhere = np.flatnonzero((fold == k) & used), np.flatnonzero((fold != k) & used)
        if len(elsewhere) < ENOUGH:
            continue
        confidence[here] = _least_share(scores[elsewhere], right[elsewhere], scores[here])
        held = np.bincount(predicted.labels[elsewhere], minlength=len(ledger.overlaps.scenes.classes))
        by_class = elsewhere[np.argsort(predicted.labels[elsewhere], kind="stable")]
        ends = np.cumsum(held)
        order = here[np.argsort(predicted.labels[here], kind="stable")]
        labels = predicted.labels[order]
        for label in np.flatnonzero(held >= OF_CLASS).tolist():
            some = by_class[ends[label] - held[label] : ends[label]]
            mine = order[np.searchsorted(labels, label) : np.searchsorted(labels, label, side="right")]
            confidence[mine] = _least_share(scores[some], right[some], scores[mine])
    return confidence


def _least_share(scores: Float64, right: Bool, at: Float64) -> Float64:
    """What the share of `right` at other scores is at least, as it rises with the score."""
    centres, shares, counts = _isotonic(scores, right)
    return np.interp(at, centres, np.maximum.accumulate(_at_least(shares, counts)))


def _isotonic(scores: Float64, right: Bool) -> tuple[Float64, Float64, Int64]:
    """Isotonic regression of `right` on scores: the mean score of each step, its share of `right`, and of how many.

    Scores are first put together by twenty or more, so that the work does not follow their number.
    source  pool adjacent violators: Barlow et al., Statistical Inference under Order Restrictions (1972).
    """
    order = np.argsort(scores, kind="stable")
    ranked, hits = scores[order], right[order]
    begins = np.unique(np.searchsorted(ranked, ranked[:: max(ENOUGH, len(ranked) // 100)]))
    if len(begins) > 1 and len(ranked) - begins[-1] < ENOUGH:
        begins = begins[:-1]
    counts = np.diff(np.append(begins, len(ranked))).tolist()
    sums = np.add.reduceat(hits.astype(np.int64), begins).tolist()
    pools: list[tuple[int, int, int]] = []  # place of the first, hits, how many
    for begin, hit, count in zip(begins.tolist(), sums, counts, strict=True):
        pool = (begin, hit, count)
        while pools and pools[-1][1] * pool[2] >= pool[1] * pools[-1][2]:
            last = pools.pop()
            pool = (last[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    first, hit_table, count_table = np.array(pools, np.int64).T
    return np.add.reduceat(ranked, first) / count_table, hit_table / count_table, count_table


def _missing(ledger: Ledger, sure: Bool, confidence: Float64) -> Found:
    overlaps, rules = ledger.overlaps, ledger.rules
    areas, across = overlaps.predicted_areas, overlaps.across
    labelled = np.bincount(across.second, across.shared, len(areas))
    some = (ledger.predicted_kind == SPURIOUS) & sure & (labelled < rules.near * areas)
    pairs = overlaps.among_predicted
    pairs = pairs.where(some[pairs.first] & some[pairs.second])
    close = pairs.shared >= rules.covered * np.minimum(areas[pairs.first], areas[pairs.second])
    first, second = pairs.first[close], pairs.second[close]
    scores = ledger.selection.scores
    some[np.where(scores[second] <= scores[first], second, first)] = False
    places = np.flatnonzero(some)
    rank = confidence[places]

    def why(i: int) -> str:
        return (
            f"A prediction with score {scores[places[i]]:.2f} on unlabelled ground; elsewhere at least {rank[i]:.0%} "
            "of such predictions are about an object."
        )

    return np.full(len(places), -1, np.int64), places, rank, why


def _wrong_class(ledger: Ledger, sure: Bool, confidence: Float64) -> Found:
    overlaps, found = ledger.overlaps, ledger.rules.found
    truth, predicted = overlaps.scenes.truth, overlaps.scenes.predicted
    across, scores, iou = overlaps.across, ledger.selection.scores, overlaps.iou
    fits = (iou >= found) & ~truth.crowd[across.first]
    same = truth.labels[across.first] == predicted.labels[across.second]
    rival = np.zeros(len(truth))
    np.maximum.at(rival, across.first[fits & same], scores[across.second[fits & same]])
    kind = ledger.predicted_kind[across.second]
    some = fits & ~same & sure[across.second] & ((kind == CONFUSED) | (kind == DUPLICATE))
    some &= ledger.partner[across.second] == across.first
    some &= rival[across.first] < RIVAL * scores[across.second]
    best = np.flatnonzero(some)
    best = best[np.lexsort((-scores[across.second[best]], across.first[best]))]
    best = best[np.flatnonzero(np.diff(across.first[best], prepend=-1))]
    true, places = across.first[best], across.second[best]
    rank = confidence[places] * (1 - rival[true] / scores[places])
    classes = overlaps.scenes.classes

    def why(i: int) -> str:
        other = (
            f"its best candidate there has {rival[true[i]]:.2f}"
            if rival[true[i]]
            else "it has no candidate there"
        )
        return (
            f"Labelled {classes[truth.labels[true[i]]][1]}, predicted {classes[predicted.labels[places[i]]][1]} with "
            f"score {scores[places[i]]:.2f} and IoU {iou[best[i]]:.2f}; of the labelled class, {other}."
        )

    return true, places, rank, why


def _poor_outline(ledger: Ledger, sure: Bool, folds: Int64) -> Found:
    overlaps = ledger.overlaps
    across, kind = overlaps.across, ledger.predicted_kind[overlaps.across.second]
    some = ((kind == MATCHED) | (kind == LOOSE)) & sure[across.second]
    some &= ledger.partner[across.second] == across.first
    pairs, iou = across.where(some), overlaps.iou[some]
    size = np.searchsorted(SIZES, overlaps.truth_areas[pairs.first])
    fold = folds[overlaps.scenes.truth.images[pairs.first]]
    rank, usual = np.zeros(len(pairs)), np.zeros(len(pairs))
    for group in range(len(SIZES) + 1):
        for k in range(FOLDS):
            here, elsewhere = (size == group) & (fold == k), iou[(size == group) & (fold != k)]
            if len(elsewhere) < ENOUGH:
                continue
            low, usual[here], high = np.quantile(elsewhere, [0.25, 0.5, 0.75])
            rank[here] = (low - iou[here]) / max(high - low, NARROWEST)
    out = np.flatnonzero(rank > FAR_OUT)

    def why(i: int) -> str:
        place = out[i]
        return (
            f"A prediction with score {ledger.selection.scores[pairs.second[place]]:.2f} fits the label with IoU "
            f"{iou[place]:.2f}; elsewhere the median of such predictions is {usual[place]:.2f}."
        )

    return pairs.first[out], pairs.second[out], rank[out], why


def _doubtful(ledger: Ledger, folds: Int64) -> Found:
    overlaps, rules = ledger.overlaps, ledger.rules
    truth, across, twins = overlaps.scenes.truth, overlaps.across, overlaps.among_truth
    missed = ledger.truth_kind == MISSED
    real = np.flatnonzero(~truth.crowd)
    size = np.searchsorted(SIZES, overlaps.truth_areas)
    sizes = len(SIZES) + 1
    cell = truth.labels * sizes + size
    shape = FOLDS, len(overlaps.scenes.classes) * sizes
    flat = folds[truth.images] * shape[1] + cell
    objects = np.bincount(flat[real], minlength=shape[0] * shape[1]).reshape(shape)
    misses = np.bincount(flat[missed], minlength=shape[0] * shape[1]).reshape(shape)
    others, lost = objects.sum(axis=0) - objects, misses.sum(axis=0) - misses
    recall = 1 - lost / np.maximum(others, 1)
    place = folds[truth.images], cell
    rank = _at_least(recall, others)[place]
    bare = causes(ledger).cause == NO_CANDIDATE
    bare[across.first[overlaps.iou >= rules.near]] = False
    rank = np.where(bare & (rank >= ALWAYS), rank, 0.0)

    overlap = twins.iou(overlaps.truth_areas, overlaps.truth_areas)
    double = (overlap >= TWICE) & (truth.labels[twins.first] == truth.labels[twins.second])
    twice = np.zeros(len(truth))
    for one in (twins.first, twins.second):
        np.maximum.at(twice, one[double], overlap[double])
    twice[~missed] = 0.0
    places = np.flatnonzero(np.maximum(rank, twice) > 0)
    value = np.maximum(rank, twice)[places]

    def why(i: int) -> str:
        if twice[places[i]] > 0:
            return f"Another object of its class has IoU {twice[places[i]]:.2f} with it: it may be labelled twice."
        share, count = recall[place][places[i]], others[place][places[i]]
        return (
            f"No prediction of any score lies here, though elsewhere {share:.0%} of the {count} objects of its class "
            "and size are found."
        )

    return places, np.full(len(places), -1, np.int64), value, why


def _at_least(share: Float64, count: Int64) -> Float64:
    """The lower end of Wilson's one-sided 95 % interval of a share of `count`; 0 for none.

    source  Wilson 1927, Journal of the American Statistical Association 22:209.
    """
    n = np.maximum(count, 1)
    z = 1.6448536269514722
    spread = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low: Float64 = (share + z**2 / (2 * n) - spread) / (1 + z**2 / n)
    return np.where(count > 0, low, 0.0)
