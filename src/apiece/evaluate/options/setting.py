"""Settings: what an option would change, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from apiece.evaluate.operating import OperatingPoint, Suppression
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.scenes import Float64, Int64, Key


class Calibration(Protocol):
    """Maps scores to the share of such predictions that are right, class by class."""

    def apply(self, scores: Float64, labels: Int64) -> Float64:
        """float64 (P,) from scores (P,) and places of classes (P,)."""
        ...


@dataclass(frozen=True)
class Fragments:
    """Merging: objects of one class that lie apart by at most `gap` become one if their union is convex enough.

    convexity  least share of the union's convex hull that it fills.
    gap        most pixels between the two; 0 for those that touch, corners included.
    """

    convexity: float
    gap: int


@dataclass(frozen=True)
class Watershed:
    """Splitting: a mask with a waist is cut there.

    solidity  the mask fills at most this share of its convex hull.
    ratio     its area is at least this many times the typical one; 0: whatever its area.
    typical   the typical (median) area of each class, in pixels, by its place in `Scenes.classes`.
    """

    solidity: float
    ratio: float = 0.0
    typical: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """All that makes objects of stored candidates.

    point        which candidates count.
    calibration  scores by which they are chosen; their own without.
    fragments    how those that count are merged, or None.
    watershed    how those that count are split, or None.
    """

    point: OperatingPoint
    calibration: Calibration | None = None
    fragments: Fragments | None = None
    watershed: Watershed | None = None

    @property
    def changes_masks(self) -> bool:
        """Whether objects are merged or split."""
        return self.fragments is not None or self.watershed is not None

    def scores(self, overlaps: Overlaps) -> Float64:
        """float64 (P,), the scores by which candidates are chosen."""
        predicted = overlaps.scenes.predicted
        if self.calibration is None:
            return predicted.scores
        return self.calibration.apply(predicted.scores, predicted.labels)

    def ranks_as(self, other: Setting) -> bool:
        """Whether both give the same ranking of predictions, so that average precision can't differ."""
        mine, its = self.point, other.point
        same = (mine.nms, mine.cap, mine.min_area, mine.border) == (
            its.nms,
            its.cap,
            its.min_area,
            its.border,
        )
        return (
            same and self.calibration is other.calibration and not (self.changes_masks or other.changes_masks)
        )


def written(setting: Setting, baseline: OperatingPoint, classes: Sequence[tuple[Key, str]]) -> dict[str, Any]:
    """What differs from the baseline, as plain values."""
    point = setting.point
    plain: dict[str, Any] = {}
    if point.threshold != baseline.threshold:
        plain["threshold"] = point.threshold
    if dict(point.thresholds) != dict(baseline.thresholds):
        plain["thresholds"] = {classes[label][1]: limit for label, limit in sorted(point.thresholds.items())}
    if point.nms != baseline.nms:
        plain["nms"] = suppression(point.nms)
    if point.cap != baseline.cap:
        plain["cap"] = point.cap
    if point.min_area != baseline.min_area:
        plain["min_area"] = point.min_area
    if point.border != baseline.border:
        plain["border"] = point.border
    if setting.calibration is not None:
        plain["calibration"] = "isotonic, per class"
    if setting.fragments is not None:
        plain["fragments"] = {"convexity": setting.fragments.convexity, "gap": setting.fragments.gap}
    if setting.watershed is not None:
        plain["watershed"] = {"solidity": setting.watershed.solidity, "ratio": setting.watershed.ratio}
    return plain


def suppression(nms: Suppression | None) -> dict[str, Any] | None:
    """A suppression as plain values."""
    return None if nms is None else {"iou": nms.iou, "measure": nms.measure, "per_class": nms.per_class}


def told(setting: Setting, baseline: OperatingPoint, classes: Sequence[tuple[Key, str]]) -> str:
    """The setting in words, such as "threshold 0.62 instead of 0.50"; "no change" where it is the baseline."""
    point, parts = setting.point, []
    if setting.calibration is not None:
        parts.append(f"calibrated scores with threshold {_short(point.threshold)}")
    elif dict(point.thresholds) != dict(baseline.thresholds) and point.thresholds:
        limits = sorted(point.thresholds.items())
        named = ", ".join(f"{classes[label][1]} {_short(limit)}" for label, limit in limits[:5])
        more = f" and {len(limits) - 5} more" if len(limits) > 5 else ""
        parts.append(f"thresholds per class ({named}{more}; others {_short(point.threshold)})")
    elif point.threshold != baseline.threshold or dict(point.thresholds) != dict(baseline.thresholds):
        before = "those per class" if baseline.thresholds else _short(baseline.threshold)
        parts.append(f"threshold {_short(point.threshold)} instead of {before}")
    if point.nms != baseline.nms:
        parts.append(_nms(point.nms))
    if point.min_area != baseline.min_area:
        parts.append(f"objects of at least {point.min_area:g} pixels (before {baseline.min_area:g})")
    if point.cap != baseline.cap:
        parts.append("no cap" if point.cap is None else f"at most {point.cap} objects per image")
    if point.border != baseline.border:
        what = "no objects at the border" if point.border == "drop" else "objects at the border count"
        parts.append(what)
    if setting.fragments is not None:
        rule = setting.fragments
        parts.append(f"fragments merged (gap ≤ {rule.gap} pixels, convexity ≥ {rule.convexity:g})")
    if setting.watershed is not None:
        split = setting.watershed
        size = f", area ≥ {split.ratio:g} × the median" if split.ratio else ""
        parts.append(f"masks with a waist split (solidity ≤ {split.solidity:g}{size})")
    return " and ".join(parts) or "no change"


def _nms(nms: Suppression | None) -> str:
    if nms is None:
        return "no suppression"
    over = "IoU" if nms.measure == "iou" else "share of the smaller"
    within = "within classes" if nms.per_class else "across classes"
    return f"suppression above {over} {nms.iou:g} {within}"


def _short(value: float) -> str:
    """At least two digits after the point, and no more than needed."""
    text = f"{value:.8f}".rstrip("0")
    return text if len(text.split(".")[1]) >= 2 else f"{value:.2f}"
