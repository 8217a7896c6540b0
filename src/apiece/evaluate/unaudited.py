"""Unaudited: which live pictures are not among the labelled ones, so that none has a part in both."""

from __future__ import annotations

import numpy as np

from apiece.evaluate.overlaps import by_image
from apiece.evaluate.scenes import Int64
from apiece.evaluate.subject import Subject


def unaudited(live: Subject, labelled: Subject) -> Int64:
    """Places of the live pictures that are not labelled ones, int64 (N,).

    A live picture is a labelled one if it has its name and the very same predictions: names repeat from one day to
    the next, predictions seldom. An interval from both would take its pictures for independent, and be too narrow.
    """
    known = set(_marks(labelled))
    return np.array([place for place, mark in enumerate(_marks(live)) if mark not in known], np.int64)


def _marks(subject: Subject) -> list[tuple[str, bytes]]:
    """The name of each picture, and its predictions by class, score and box."""
    predicted = subject.scenes.predicted
    columns = np.column_stack([predicted.labels, predicted.scores, predicted.boxes.round(2)]) + 0.0  # no -0
    order = np.lexsort(columns.T)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return [
        (name, columns[places[np.argsort(rank[places])]].tobytes())
        for name, places in zip(subject.names, by_image(predicted, len(subject.names)), strict=True)
    ]
