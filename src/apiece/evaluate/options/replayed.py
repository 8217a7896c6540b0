"""Replayed: what a setting makes of stored candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError
from apiece.evaluate.operating import OperatingPoint, Selection, select
from apiece.evaluate.options.pool import Pool, pool_of
from apiece.evaluate.options.setting import Setting
from apiece.evaluate.overlaps import Overlaps

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Replayed:
    """Candidates under a setting.

    overlaps   theirs; where objects were merged or split, these follow the stored predictions.
    selection  which count at the operating point.
    ranked     bool (P,), which would count at no threshold: the ranking that average precision judges.
    """

    overlaps: Overlaps
    selection: Selection
    ranked: Bool


def unlimited(point: OperatingPoint) -> OperatingPoint:
    """The operating point without its thresholds."""
    return replace(point, threshold=float("-inf"), thresholds={})


def replay(
    overlaps: Overlaps, setting: Setting, pool: Pool | None = None, ranked: Bool | None = None
) -> Replayed:
    """Apply a setting: choose by score, suppression, cap, size and border, then merge or split what counts.

    pool    prepared from the same overlaps and operating point, where there is one already.
    ranked  the candidates that count at no threshold, before masks change, where they are known already.
    raises  UsageError where masks would change though boxes are compared.
    """
    scores = setting.scores(overlaps)
    selection = select(overlaps, setting.point, scores)
    if ranked is None:
        ranked = select(overlaps, unlimited(setting.point), scores).kept
    if not setting.changes_masks:
        return Replayed(overlaps, selection, ranked)
    if overlaps.kind != "segm":
        raise UsageError(
            "merging and splitting were asked for where boxes are compared; expected masks. "
            "Remedy: compare masks (kind 'segm')."
        )
    made = prepared(overlaps, selection, setting) if pool is None else pool
    return Replayed(made.overlaps, made.selection(selection, setting), made.kept(ranked, setting))


def prepared(overlaps: Overlaps, selection: Selection, setting: Setting) -> Pool:
    """The pool that one setting needs."""
    rules = () if setting.fragments is None else (setting.fragments,)
    return pool_of(
        overlaps, selection, rules, None if setting.watershed is None else setting.watershed.solidity
    )


def composed(first: Replayed, second: Replayed, part: Bool) -> Replayed:
    """The first on the images where `part` (images,) is True, the second on the others; both of the same overlaps."""
    here = part[first.overlaps.scenes.predicted.images]
    a, b = first.selection, second.selection
    return Replayed(
        first.overlaps,
        Selection(np.where(here, a.scores, b.scores), np.where(here, a.reason, b.reason)),
        np.where(here, first.ranked, second.ranked),
    )
