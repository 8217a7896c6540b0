"""Matching: each prediction in order of score takes the true object that it fits best and that is still free."""

from __future__ import annotations

import numpy as np

from apiece.evaluate.overlaps import Pairs
from apiece.evaluate.scenes import Float64, Int64, Objects


def ranks(objects: Objects, scores: Float64 | None = None) -> Int64:
    """The place of each object in the order of falling score; equal scores go by image, then by file order.

    scores  others than the objects' own.
    source  cocodataset/cocoapi, cocoeval.py, whose sorts are stable.
    """
    given = objects.scores if scores is None else scores
    order = np.lexsort((objects.images, -given))
    rank = np.empty(len(objects), np.int64)
    rank[order] = np.arange(len(objects))
    return rank


def match(pairs: Pairs, value: Float64, rank: Int64, truths: int) -> Int64:
    """The true object that each prediction takes, int64 (P,), -1 for none.

    pairs    those that may be matched, truth first.
    value    float64 (R,), how well a pair fits; among equals the later true object is taken, as COCO does.
    rank     int64 (P,), the predictions' order, 0 first; distinct.
    truths   how many true objects there are.

    That each prediction in turn takes the best free object is the one stable matching of predictions, who prefer
    by value, with objects, who all prefer by rank. So deferred acceptance (Gale and Shapley 1962) finds the same,
    for all pictures at once: every prediction proposes to its best object, each object keeps the first in rank,
    the others propose to their next.
    """
    predictions = len(rank)
    order = np.lexsort((-pairs.first, -value, pairs.second))
    truth, suitor = pairs.first[order], pairs.second[order]
    at = np.searchsorted(suitor, np.arange(predictions))
    end = np.searchsorted(suitor, np.arange(predictions), side="right")
    holder = np.full(truths, -1, np.int64)
    best = np.full(truths, predictions, np.int64)  # rank of each object's holder
    active = np.flatnonzero(at < end)
    while active.size:
        wanted = truth[at[active]]
        before = best[wanted]
        np.minimum.at(best, wanted, rank[active])
        won = best[wanted] == rank[active]
        displaced = holder[wanted[won]]
        displaced = displaced[before[won] < predictions]
        holder[wanted[won]] = active[won]
        rejected = np.concatenate([active[~won], displaced])
        at[rejected] += 1
        active = rejected[at[rejected] < end[rejected]]
    taken = np.full(predictions, -1, np.int64)
    held = np.flatnonzero(holder >= 0)
    taken[holder[held]] = held
    return taken
