"""Dividing units of many counts into parts, so that every part has its share of every count.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, ECML PKDD, algorithm 1) with counts in place of
labels and units (pictures, or groups of pictures) in place of examples; then units are moved and exchanged while that
brings shares nearer to their aims. All in whole numbers, so that every platform comes to the same result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
ONE = 1 << 20  # aims are whole numbers of these shares
PASSES = 8
MANY = 5000  # units from which on one pass is enough, as each is a small part of all
PARTNERS = 24  # units that each unit is tried to be exchanged with in a pass


class Task(NamedTuple):
    """What is to be divided.

    counts  int64 (U, L), how much of each of L kinds each of U units has; kind 0 counts pictures, every unit has some.
    aims    int64 (P,), the share that each part is to have of every kind, in units of 1 / ONE; their sum is ONE.
    total   int64 (L,), of each kind over all units.
    weight  of kind 0 against each other kind.
    """

    counts: Int64
    aims: Int64
    total: Int64
    weight: int

    def cost(self, held: Int64) -> Int64:
        """How far parts that hold this much (..., P, L) are from their aims, int64 (..., P)."""
        off = (held * ONE - self.aims[:, None] * self.total) // (4 * self.total)
        squares = off * off
        return np.asarray(squares.sum(axis=-1) + (self.weight - 1) * squares[..., 0], np.int64)


def whole_aims(shares: list[float]) -> Int64:
    """Shares that add up to 1 as whole numbers that add up to ONE."""
    aims = np.array([round(share * ONE) for share in shares], np.int64)
    aims[int(aims.argmax())] += ONE - int(aims.sum())
    return aims


def divide(counts: Int64, aims: Int64) -> Int64:
    """The part of each unit, int64 (U,).

    counts  int64 (U, L) as in Task, in random order, which is all the randomness there is.
    aims    as in Task.
    No part stays empty where there are units enough.
    """
    total = np.maximum(counts.sum(axis=0), 1)
    task = Task(counts, aims, total, min(64, max(1, counts.shape[1] - 1)))
    part = _stratified(task)
    _fill_empty(task, part)
    if counts.shape[1] > 1 or len(np.unique(counts[:, 0])) > 1:
        _improve(task, part)
    return part


def _stratified(task: Task) -> Int64:
    """Iterative stratification: the rarest kind first, of it the largest units first, each where it is wanted most."""
    counts = task.counts
    part = np.full(len(counts), -1, np.int64)
    wanted = task.aims[:, None] * counts.sum(axis=0)
    left = (counts > 0).sum(axis=0)  # units without a part that have any of each kind
    while (part < 0).any():
        kind = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        units = np.flatnonzero((part < 0) & (counts[:, kind] > 0))
        for unit in units[np.argsort(-counts[units, kind], kind="stable")].tolist():
            wish = wanted[:, kind]
            best = np.flatnonzero(wish == wish.max())
            chosen = int(best[wanted[best, 0].argmax()])
            part[unit] = chosen
            wanted[chosen] -= ONE * counts[unit]
            left -= counts[unit] > 0
    return part


def _fill_empty(task: Task, part: Int64) -> None:
    """Give every empty part the unit that it costs least to give it."""
    parts = len(task.aims)
    for empty in range(parts):
        sizes = np.bincount(part, minlength=parts)
        givers = np.flatnonzero(sizes[part] > 1)
        if sizes[empty] or not givers.size:
            continue
        held = _held(task, part)
        cost = []
        for unit in givers.tolist():
            after = held.copy()
            after[part[unit]] -= task.counts[unit]
            after[empty] += task.counts[unit]
            cost.append(int(task.cost(after).sum()))
        part[givers[int(np.argmin(cost))]] = empty


def _held(task: Task, part: Int64) -> Int64:
    held = np.zeros((len(task.aims), task.counts.shape[1]), np.int64)
    np.add.at(held, part, task.counts)
    return held


def _improve(task: Task, part: Int64) -> None:
    """Move units and exchange pairs while that brings the shares nearer to their aims.

    Partners are units further on in the order, which is random; others in every pass.
    """
    held, sizes = _held(task, part), np.bincount(part, minlength=len(task.aims))
    units, counts = len(part), task.counts
    cost = task.cost(held)
    for turn in range(PASSES if units <= MANY else 1):
        steps = 1 + turn * PARTNERS + np.arange(PARTNERS)
        better = False
        for unit in range(units):
            own = int(part[unit])
            # What each part costs with this unit, and its own without it.
            without = int(task.cost(held - counts[unit])[own])
            change = task.cost(held + counts[unit]) - cost + without - cost[own]
            change[own] = 0
            to = int(change.argmin())
            if change[to] < 0 and sizes[own] > 1:
                _move(counts, held, sizes, part, unit, to)
                cost, better = task.cost(held), True
                continue
            others = (unit + steps) % units
            others = others[part[others] != own]
            if not others.size:
                continue
            gives = counts[others] - counts[unit]
            theirs = part[others]
            rows = np.arange(len(others))
            after = np.repeat(held[None], len(others), axis=0)
            after[:, own] += gives
            after[rows, theirs] -= gives
            change = task.cost(after).sum(axis=1) - cost.sum()
            at = int(change.argmin())
            if change[at] < 0:
                _move(counts, held, sizes, part, unit, int(theirs[at]))
                _move(counts, held, sizes, part, int(others[at]), own)
                cost, better = task.cost(held), True
        if not better:
            return


def _move(counts: Int64, held: Int64, sizes: NDArray[np.intp], part: Int64, unit: int, to: int) -> None:
    own = int(part[unit])
    held[own] -= counts[unit]
    held[to] += counts[unit]
    sizes[own] -= 1
    sizes[to] += 1
    part[unit] = to
