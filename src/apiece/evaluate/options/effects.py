"""Effects: what changes when a setting takes the baseline's place, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from apiece.evaluate.bootstrap import Interval, Resamples
from apiece.evaluate.ledger import KINDS, NOT_COUNTED, Ledger
from apiece.evaluate.options.ranking import Ranking
from apiece.evaluate.scenes import Float64

UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a replay gives.

    error    float64 (images,), predicted less true objects.
    wrong    float64 (images,), objects counted too many and too few, entry by entry (`Ledger.errors`).
    cost     float64 (images,), the same, each side at its price.
    entries  float64 (images, kinds), the ledger's entries.
    ranking  its average precision; None where predictions have no scores.
    """

    error: Float64
    wrong: Float64
    cost: Float64
    entries: Float64
    ranking: Ranking | None


def outcome(entries: Ledger, ranked: Ranking | None, miss: float, false: float) -> Outcome:
    """The outcome that a ledger tells; `miss` and `false` are the prices of an object too few and too many."""
    many, few = entries.errors.T.astype(np.float64)
    return Outcome(many - few, many + few, false * many + miss * few, entries_by_image(entries), ranked)


def entries_by_image(made: Ledger) -> Float64:
    """float64 (images, kinds): how many entries of each kind there are; an entry counts once, whatever it holds."""
    scenes = made.overlaps.scenes
    counted = made.predicted_kind != NOT_COUNTED
    total = int(max(made.truth_entry.max(initial=-1), made.predicted_entry.max(initial=-1))) + 1
    kind, image = np.zeros(total, np.int64), np.zeros(total, np.int64)
    kind[made.truth_entry], image[made.truth_entry] = made.truth_kind, scenes.truth.images
    own = made.predicted_entry[counted]
    kind[own], image[own] = made.predicted_kind[counted], scenes.predicted.images[counted]
    shape = len(scenes.image_ids), len(KINDS)
    flat = np.bincount(image * shape[1] + kind, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float64)


@dataclass(frozen=True)
class Effect:
    """Changed less baseline, with intervals over images.

    MAE    of the count: mean over images of |predicted less true|.
    bias   mean over images of predicted less true.
    gross  objects counted too many and too few, an image.
    cost   the same at their prices.
    net    of the size of the bias: |bias| after less |bias| before.
    AP, AP50  of all candidates; unknown without scores.
    kinds  entries of each of the ledger's kinds, an image.
    """

    MAE: Interval
    bias: Interval
    gross: Interval
    cost: Interval
    net: Interval
    AP: Interval
    AP50: Interval
    kinds: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        names = ("MAE", "bias", "gross", "cost", "net", "AP", "AP50")
        plain: dict[str, Any] = {name: getattr(self, name).to_json() for name in names}
        return {**plain, "kinds": {kind: change.to_json() for kind, change in self.kinds.items()}}


def effect(changed: Outcome, baseline: Outcome, draws: Resamples) -> Effect:
    """The effect of a change; in every draw both are judged by the same images.

    Intervals of AP take each draw's change to first order (see `Ranking.influence`).
    """
    columns = np.column_stack(
        [
            np.abs(changed.error) - np.abs(baseline.error),
            changed.error - baseline.error,
            changed.wrong - baseline.wrong,
            changed.cost - baseline.cost,
            changed.entries - baseline.entries,
        ]
    )
    images = draws.weights.sum(axis=1)
    images[images == 0] = np.nan  # a draw without an image says nothing
    drawn = draws.sums(columns) / images[:, None]
    figures = [
        draws.interval(float(value), drawn[:, i]) for i, value in enumerate(columns.mean(axis=0).tolist())
    ]
    bias = draws.sums(np.column_stack([changed.error, baseline.error])) / images[:, None]
    net = abs(float(changed.error.mean())) - abs(float(baseline.error.mean()))
    after, before = changed.ranking, baseline.ranking
    AP = AP50 = UNKNOWN
    if after is not None and before is not None and after is before:
        AP = AP50 = Interval(0.0, 0.0, 0.0)
    elif after is not None and before is not None:
        moved = (draws.weights - 1) @ (after.influence - before.influence)
        changes = after.AP - before.AP, after.AP50 - before.AP50
        AP, AP50 = (draws.interval(by, by + moved[:, i]) for i, by in enumerate(changes))
    return Effect(
        figures[0],
        figures[1],
        figures[2],
        figures[3],
        draws.interval(net, np.abs(bias[:, 0]) - np.abs(bias[:, 1])),
        AP,
        AP50,
        dict(zip(KINDS, figures[4:], strict=True)),
    )
