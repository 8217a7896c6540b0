"""Matching: equal to letting each prediction choose in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_failures import columns

from apiece.evaluate.matching import match, ranks
from apiece.evaluate.overlaps import Pairs


def in_turn(pairs: Pairs, value: np.ndarray, rank: np.ndarray, truths: int) -> list[int]:
    """Serial dictatorship: in order of rank each takes the best that is free, the later among equals."""
    taken = [-1] * len(rank)
    free = set(range(truths))
    for prediction in np.argsort(rank).tolist():
        able = [
            (value[i], int(pairs.first[i]))
            for i in range(len(pairs))
            if pairs.second[i] == prediction and int(pairs.first[i]) in free
        ]
        if able:
            taken[prediction] = max(able)[1]
            free.remove(max(able)[1])
    return taken


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=150, deadline=None)
def test_equals_choosing_in_turn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truths, predictions = rng.integers(0, 9, 2).tolist()
    table = rng.random((truths, predictions)) < rng.random()
    first, second = np.nonzero(table)
    order = rng.permutation(len(first))
    pairs = Pairs(first[order], second[order], np.ones(len(first)))
    value = rng.integers(1, 4, len(pairs)) / 4 if ties else rng.random(len(pairs))
    rank = rng.permutation(predictions)
    assert match(pairs, value, rank, truths).tolist() == in_turn(pairs, value, rank, truths)


def test_a_long_chain_of_displaced_predictions() -> None:
    """Each prediction wants the object before its own, which one of better rank holds already."""
    count = 200
    own, before = np.arange(count), np.maximum(np.arange(count) - 1, 0)
    pairs = Pairs(np.concatenate([own, before]), np.concatenate([own, own]), np.ones(2 * count))
    value = np.concatenate([np.full(count, 0.6), np.full(count, 0.9)])
    rank = np.arange(count)[::-1].copy()
    taken = match(pairs, value, rank, count)
    assert taken.tolist() == in_turn(pairs, value, rank, count)
    assert taken[-1] == count - 2
    assert taken[0] == -1


def test_among_equals_the_later_object_is_taken() -> None:
    pairs = Pairs(np.array([0, 1, 2]), np.zeros(3, np.int64), np.ones(3))
    assert match(pairs, np.full(3, 0.7), np.zeros(1, np.int64), 3).tolist() == [2]


def test_without_pairs_nothing_is_taken() -> None:
    none = np.zeros(0, np.int64)
    assert match(Pairs(none, none, np.zeros(0)), np.zeros(0), np.arange(3), 2).tolist() == [-1, -1, -1]
    assert match(Pairs(none, none, np.zeros(0)), np.zeros(0), none, 0).tolist() == []


@pytest.mark.parametrize("given_scores", [None, [0.1, 0.9, 0.9, 0.9]])
def test_ranks_go_by_score_then_image_then_file_order(given_scores: list[float] | None) -> None:
    frame = np.ones((2, 2), bool)
    objects = columns([(1, 0, frame), (1, 0, frame), (0, 0, frame), (1, 0, frame)], np.ones(4), None, (2, 2))
    if given_scores is None:
        objects = replace(objects, scores=np.array([0.1, 0.9, 0.9, 0.9]))
        assert ranks(objects).tolist() == [3, 1, 0, 2]
    else:
        assert ranks(objects, np.array(given_scores)).tolist() == [3, 1, 0, 2]
        assert ranks(objects).tolist() == [1, 2, 0, 3]
