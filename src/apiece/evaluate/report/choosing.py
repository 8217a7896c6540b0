"""Choosing: which entries of the ledger are shown, some of the worst and some at random, so that both are seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apiece.evaluate.ledger import (
    CONFUSED,
    DUPLICATE,
    IGNORED,
    KINDS,
    LOOSE,
    MATCHED,
    MERGED,
    MISSED,
    SPLIT,
    SPURIOUS,
    TANGLED,
    Ledger,
)
from apiece.evaluate.scenes import Float64, Int64

MOST = 10  # pictures of a kind
ALL = 90  # pictures of entries, all kinds together
FEW = 5  # of a kind that is no error
RANDOM = 3  # one in so many is drawn at random
PER_PICTURE = 2  # of the worst, so that one picture doesn't fill the page
SEED = 0

WORST = {
    MATCHED: "of lowest IoU",
    LOOSE: "of lowest IoU",
    CONFUSED: "of highest score",
    DUPLICATE: "of highest score",
    MERGED: "of most true objects, then highest score",
    SPLIT: "of most predictions, then largest",
    TANGLED: "of most true objects and predictions",
    SPURIOUS: "of highest score",
    MISSED: "largest",
    IGNORED: "of highest score",
}


@dataclass(frozen=True)
class Chosen:
    """Entries of one kind that are shown.

    kind     a place in KINDS.
    worst    their numbers, worst first.
    random   others, drawn at random.
    entries  how many the kind has.
    told     which are shown, a sentence.
    """

    kind: int
    worst: tuple[int, ...]
    random: tuple[int, ...]
    entries: int
    told: str


@dataclass(frozen=True, eq=False)
class Entries:
    """The ledger by entries, E of them.

    kind     int64 (E,), a place in KINDS.
    image    int64 (E,).
    badness  float64 (E,), higher is worse among entries of a kind.
    """

    kind: Int64
    image: Int64
    badness: Float64

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.kind)


def entries_of(ledger: Ledger) -> Entries:
    """Kind, image and badness of every entry."""
    scenes = ledger.overlaps.scenes
    counted = np.flatnonzero(ledger.predicted_entry >= 0)
    of_truth, of_predicted = ledger.truth_entry, ledger.predicted_entry[counted]
    total = 1 + int(max(of_truth.max(initial=-1), of_predicted.max(initial=-1)))
    kind, image = np.zeros(total, np.int64), np.zeros(total, np.int64)
    kind[of_truth], image[of_truth] = ledger.truth_kind, scenes.truth.images
    kind[of_predicted], image[of_predicted] = ledger.predicted_kind[counted], scenes.predicted.images[counted]
    truths = np.bincount(of_truth, minlength=total).astype(np.float64)
    predictions = np.bincount(of_predicted, minlength=total).astype(np.float64)
    score, area = np.zeros(total), np.zeros(total)
    np.maximum.at(score, of_predicted, ledger.selection.scores[counted])
    np.maximum.at(area, of_truth, ledger.overlaps.truth_areas)
    iou = np.zeros(total)
    across = ledger.overlaps.across
    own = (ledger.predicted_entry[across.second] >= 0) & (ledger.partner[across.second] == across.first)
    iou[ledger.predicted_entry[across.second[own]]] = ledger.overlaps.iou[own]
    least = area / (1 + area)  # in 0..1, so that it decides only among equals
    badness = np.select(
        [
            np.isin(kind, (MATCHED, LOOSE)),
            np.isin(kind, (CONFUSED, DUPLICATE, SPURIOUS, IGNORED)),
            kind == MERGED,
            kind == SPLIT,
            kind == TANGLED,
        ],
        [-iou, score, truths + np.clip(score, 0, 1) / 2, predictions + least / 2, truths + predictions],
        area,
    )
    return Entries(kind, image, badness)


def choose(entries: Entries) -> list[Chosen]:
    """What is shown of each kind that occurs, in the order of KINDS.

    Of each kind at most MOST, fewer where many kinds share the page; two thirds of them the worst, with at most
    PER_PICTURE of one picture, and one third at random, by a fixed seed.
    """
    present = [kind for kind in range(len(KINDS)) if (entries.kind == kind).any()]
    errors = [kind for kind in present if kind not in (MATCHED, IGNORED)]
    room = (ALL - FEW * (len(present) - len(errors))) // max(1, len(errors))
    random = np.random.default_rng(SEED)
    return [_chosen(entries, kind, min(MOST, room) if kind in errors else FEW, random) for kind in present]


def _chosen(entries: Entries, kind: int, most: int, random: np.random.Generator) -> Chosen:
    places = np.flatnonzero(entries.kind == kind)
    if len(places) <= most:
        ranked = places[np.argsort(-entries.badness[places], kind="stable")]
        told = (
            f"All {len(places)} are shown, those {WORST[kind]} first." if len(places) > 1 else "It is shown."
        )
        return Chosen(kind, tuple(ranked.tolist()), (), len(places), told)
    at_random = max(1, most // RANDOM)
    worst = _worst(entries, places, most - at_random)
    left = np.setdiff1d(places, worst)
    drawn = np.sort(random.choice(left, min(at_random, len(left)), replace=False))
    told = (
        f"Shown of {len(places):,}: the {len(worst)} {WORST[kind]}, at most {PER_PICTURE} of a picture, "
        f"and {len(drawn)} drawn at random."
    )
    return Chosen(kind, tuple(worst.tolist()), tuple(drawn.tolist()), len(places), told)


def _worst(entries: Entries, places: Int64, wanted: int) -> Int64:
    """The worst entries, at most PER_PICTURE of a picture; fewer than wanted only where pictures are few."""
    ranked = places[np.argsort(-entries.badness[places], kind="stable")]
    by_image = np.argsort(entries.image[ranked], kind="stable")
    sorted_images = entries.image[ranked][by_image]
    earlier = np.empty(len(ranked), np.int64)
    earlier[by_image] = np.arange(len(ranked)) - np.searchsorted(sorted_images, sorted_images)
    return ranked[earlier < PER_PICTURE][:wanted]
