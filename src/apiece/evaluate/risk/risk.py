"""Risk: what can be promised of new pictures, under what assumption, and what can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from apiece.errors import UsageError
from apiece.evaluate.operating import OperatingPoint
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.risk.counts import counts
from apiece.evaluate.risk.exchangeability import Summaries, alike, drift_gate, summaries
from apiece.evaluate.risk.promise import Risk
from apiece.evaluate.risk.thresholds import thresholds
from apiece.evaluate.risk.units import units_of


def risk(
    overlaps: Overlaps,
    point: OperatingPoint,
    *,
    groups: Sequence[str] | None = None,
    alpha_miss: float = 0.1,
    alpha_false: float = 0.1,
    alpha_count: float = 0.2,
    level: float = 0.9,
    live: Overlaps | Summaries | None = None,
    live_groups: Sequence[str] | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
    tuned_here: bool = False,
    most: int | None = None,
) -> list[Risk]:
    """What can be promised of pictures that are drawn as these were.

    Thresholds with a bounded risk are sought on the grids of `losses`, whatever the point's threshold; counts are
    those at the point.

    groups       the group of each picture, such as its plate or day; promises are then for pictures of new groups.
    alpha_miss, alpha_false, alpha_count   largest share of missed objects, false predictions, relative count error.
    level        confidence of every promise.
    live         predictions on pictures without truth; adds the drift gate and prediction-powered counts.
    live_groups  their groups, where `live` is Overlaps.
    metadata     columns by which labelled pictures are compared, see `exchangeability.alike`.
    tuned_here   whether the point was chosen on these pictures, which makes counts look better than they are.
    most         the most objects that any picture may have, declared beforehand; adds the pooled miss rate.
    raises       UsageError for levels, groups or live pictures that cannot be meant.
    """
    if not 0 < level < 1:
        raise UsageError(f"level is {level!r}; expected a number between 0 and 1, such as 0.9.")
    units = units_of(len(overlaps.scenes.image_ids), groups)
    audited = summaries(overlaps, point, groups)
    true = np.bincount(
        overlaps.scenes.truth.images[~overlaps.scenes.truth.crowd], minlength=len(audited)
    ).astype(np.float64)

    found = thresholds(overlaps, point, units, (alpha_miss, alpha_false, alpha_count), level, most)
    within = alike(true - audited.count, metadata, groups=groups)
    doubts = [within.sentence] if within.tripped else []
    at_point = ["The operating point was chosen on these very pictures."] if tuned_here else []
    fresh = _live(overlaps, point, live, live_groups)
    of_counts = counts(true, audited, fresh, point, units, level)
    found = [replace(one, doubts=(*one.doubts, *doubts)) for one in found]
    found += [replace(one, doubts=(*at_point, *one.doubts, *doubts)) for one in of_counts]
    if fresh is None:
        return [replace(one, shift=within) for one in found]
    gate = drift_gate(audited, fresh)
    unknown = () if gate.abstains is None else (gate.sentence,)
    return [
        replace(
            one, shift=gate, withdrawn=gate.tripped and one.abstains is None, doubts=(*one.doubts, *unknown)
        )
        for one in found
    ]


def _live(
    overlaps: Overlaps,
    point: OperatingPoint,
    live: Overlaps | Summaries | None,
    groups: Sequence[str] | None,
) -> Summaries | None:
    if not isinstance(live, Overlaps):
        return live
    if live.scenes.classes != overlaps.scenes.classes:
        raise UsageError(
            "live pictures have other classes than the labelled ones; expected the same list. "
            "Remedy: use the same model and the same class list for both."
        )
    return summaries(live, point, groups)
