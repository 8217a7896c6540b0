"""Exchangeability: whether new pictures look as the audited ones did; where not, promises are withdrawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apiece.errors import UsageError
from apiece.evaluate.operating import OperatingPoint, Reason, select
from apiece.evaluate.overlaps import Overlaps
from apiece.evaluate.risk.units import Units, units_of
from apiece.evaluate.scenes import Float64, Int64

LEVEL = 0.05  # how often the gate may trip where nothing has changed
DRAWS = 499
NEAR = 0.1  # scores this far from the threshold are near it
FEWEST = 5  # units of a value of a metadata column below which it is left out
COUNT = "predicted count"
SUMMARIES = {
    COUNT: "objects counted on a picture",
    "mean score": "mean score of the objects counted on a picture",
    "mean size": "mean square root of the area, in pixels, of the objects counted on a picture",
    "share near the threshold": f"share of a picture's candidates with a score within {NEAR:g} of the threshold",
}


@dataclass(frozen=True, eq=False)
class Summaries:
    """What is known of pictures without truth: one row a picture, never one an object.

    count    float64 (images,), how many objects are counted.
    columns  other summaries, float64 (images,) each; NaN where a picture has none, as an empty one has no mean score.
    groups   the group of each picture, None where they have none.
    """

    count: Float64
    columns: Mapping[str, Float64]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        sizes = {name: len(values) for name, values in self.columns.items()}
        sizes["groups"] = len(self.count) if self.groups is None else len(self.groups)
        wrong = {name: size for name, size in sizes.items() if size != len(self.count)}
        if wrong or not len(self.count):
            raise UsageError(
                f"{len(self.count)} pictures, but {wrong or 'none'}; expected one value a picture, for at least one."
            )

    def __len__(self) -> int:
        return len(self.count)


def summaries(overlaps: Overlaps, point: OperatingPoint, groups: Sequence[str] | None = None) -> Summaries:
    """The summaries of the predictions on each picture; truth has no part in them."""
    predicted, images = overlaps.scenes.predicted, len(overlaps.scenes.image_ids)
    reason = select(overlaps, point).reason
    kept = reason == Reason.KEPT
    count = np.bincount(predicted.images[kept], minlength=images).astype(np.float64)

    def mean(values: Float64, among: NDArray[np.bool_]) -> Float64:
        many = np.bincount(predicted.images[among], minlength=images)
        total = np.bincount(predicted.images[among], values[among], minlength=images)
        return np.where(many > 0, total / np.maximum(many, 1), np.nan)

    limits = np.full(len(overlaps.scenes.classes), point.threshold)
    for label, limit in point.thresholds.items():
        limits[label] = limit
    near = np.abs(predicted.scores - limits[predicted.labels]) <= NEAR
    columns = {
        "mean score": mean(predicted.scores, kept),
        "mean size": mean(np.sqrt(overlaps.predicted_areas), kept),
        "share near the threshold": mean(near.astype(np.float64), np.ones(len(predicted), np.bool_)),
    }
    return Summaries(count, columns, None if groups is None else tuple(groups))


@dataclass(frozen=True)
class Comparison:
    """One comparison of two or more parts of pictures.

    what      the summary or the column.
    distance  Kolmogorov–Smirnov distance of two parts (0 alike, 1 apart); of more than two, η², the share of the
              variance of ranks that lies between parts.
    means     mean in each part, by its name; None where nothing is known.
    p         permutation p-value.
    adjusted  p-value corrected for the number of comparisons (Holm).
    """

    what: str
    distance: float
    means: Mapping[str, float | None]
    p: float
    adjusted: float


@dataclass(frozen=True)
class Shift:
    """Whether parts of pictures come from the same distribution.

    kind      "live": audited against live pictures; "within": parts of the labelled ones.
    tripped   whether they differ.
    tests     one for each summary or column.
    level     how often `tripped` is true where nothing differs, at most.
    units     how many units each part has, by its name.
    word      what a unit is.
    sentence  what was found.
    abstains  why nothing could be tested, else None.
    """

    kind: Literal["live", "within"]
    tripped: bool
    tests: tuple[Comparison, ...]
    level: float
    units: Mapping[str, int]
    word: str
    sentence: str
    abstains: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for the JSON document."""
        return {
            "kind": self.kind,
            "tripped": self.tripped,
            "level": self.level,
            "units": dict(self.units),
            "unit": self.word,
            "sentence": self.sentence,
            "abstains": self.abstains,
            "tests": [
                {
                    "what": test.what,
                    "distance": test.distance,
                    "means": dict(test.means),
                    "p": test.p,
                    "adjusted": test.adjusted,
                }
                for test in self.tests
            ],
        }


def drift_gate(
    audited: Summaries, live: Summaries, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Shift:
    """Whether live pictures come from the same distribution as the audited ones, by their predictions.

    Each summary that both have is compared by the Kolmogorov–Smirnov distance, with a p-value from permutations of
    pictures, or of whole groups; Holm's correction over the summaries. Pictures without a value come before all
    others. A gate that stays shut doesn't prove that nothing changed: it sees predictions, not errors.

    level   how often it may trip where nothing has changed.
    source  Rabanser et al. 2019 (1810.11953); permutation p-values: Phipson and Smyth 2010; Holm 1979.
    """
    if (audited.groups is None) != (live.groups is None):
        some, other = ("audited", "live") if live.groups is None else ("live", "audited")
        reason = f"{some} pictures come in groups, {other} ones without; pictures can't be permuted."
        return Shift(
            "live",
            False,
            (),
            level,
            {},
            "group",
            f"Whether pictures have changed is not known: {reason}",
            reason,
        )
    groups = None if audited.groups is None or live.groups is None else [*audited.groups, *live.groups]
    units = units_of(len(audited) + len(live), groups)
    is_live = np.zeros(len(units), np.bool_)
    is_live[units.of[len(audited) :]] = True
    if is_live[units.of[: len(audited)]].any():
        shared = sorted(set(audited.groups or ()) & set(live.groups or ()))
        raise UsageError(
            f"group {shared[0]!r} has audited and live pictures; expected groups of one part. "
            "Remedy: name groups by day or session, so that new pictures are new groups."
        )
    parts = {"audited": int((~is_live).sum()), "live": int(is_live.sum())}
    names = [COUNT, *(name for name in audited.columns if name in live.columns)]
    smallest = _smallest(parts["audited"], parts["live"], draws) * len(names)
    if smallest > level:
        reason = (
            f"{parts['audited']} audited and {parts['live']} live {units.words} are too few for a test at level "
            f"{level:g}."
        )
        return Shift(
            "live",
            False,
            (),
            level,
            parts,
            units.word,
            f"Whether pictures have changed is not known: {reason}",
            reason,
        )
    values = [np.concatenate([audited.count, live.count])]
    values += [np.concatenate([audited.columns[name], live.columns[name]]) for name in names[1:]]
    labels = _permuted(is_live.astype(np.int64), units, draws, seed).astype(np.bool_)
    found = []
    for name, column in zip(names, values, strict=True):
        distances = _distances(column, labels)
        means = {
            "audited": _mean(column[: len(audited)]),
            "live": _mean(column[len(audited) :]),
        }
        found.append((name, float(distances[0]), means, _p(distances)))
    tests = _corrected(found)
    tripped = [test for test in tests if test.adjusted <= level]
    if not tripped:
        sentence = (
            f"Nothing shows that live pictures differ from the audited ones ({parts['live']} and {parts['audited']} "
            f"{units.words}, smallest corrected p {min(test.adjusted for test in tests):.2g})."
        )
    else:
        worst = max(tripped, key=lambda test: test.distance)
        sentence = (
            f"The promises are withdrawn: live pictures are not like the audited ones in {worst.what} (mean "
            f"{_told(worst.means['live'])} instead of {_told(worst.means['audited'])}, distance {worst.distance:.2f}, "
            f"corrected p {worst.adjusted:.2g}; {parts['live']} and {parts['audited']} {units.words}). Label a random "
            "sample of the new pictures and diagnose again."
        )
    return Shift("live", bool(tripped), tests, level, parts, units.word, sentence)


def alike(
    residual: Float64,
    columns: Mapping[str, Sequence[str]] | None = None,
    *,
    groups: Sequence[str] | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Shift:
    """Whether the residuals of labelled pictures are alike in both halves of the file and in all values of columns.

    Halves in file order are compared by the Kolmogorov–Smirnov distance; values of a column by the share of the
    ranks' variance between them (Kruskal and Wallis 1952, by permutation). With groups whole groups are permuted and
    halves are of groups; a column that differs within a group is left out, as are values of fewer than 5 units.

    residual  float64 (images,), true less predicted count.
    columns   metadata: a text a picture, "" where unknown.
    """
    units, order = units_of(len(residual), groups), "file order"
    half = (np.arange(len(units)) >= len(units) / 2).astype(np.int64)
    codes: list[tuple[str, Int64, list[str]]] = [(order, half, ["first half", "second half"])]
    for name, values in (columns or {}).items():
        coded = _code(values, units)
        if coded is not None:
            codes.append((name, *coded))
    parts = {"all": len(units)}
    if _smallest(int((half == 0).sum()), int(half.sum()), draws) * len(codes) > level:
        reason = f"{len(units)} {units.words} are too few for a test at level {level:g}."
        sentence = f"Whether errors of the count are alike in all pictures is not known: {reason}"
        return Shift("within", False, (), level, parts, units.word, sentence, reason)
    found = []
    for name, code, words in codes:
        labels = _permuted(code, units, draws, seed)
        known = labels[0] >= 0
        if name == order:
            statistic = _distances(residual, labels.astype(np.bool_))
        else:
            statistic = _between(residual, labels, len(words))
        means = {word: _mean(residual[known & (labels[0] == k)]) for k, word in enumerate(words)}
        found.append((name, float(statistic[0]), means, _p(statistic)))
    tests = _corrected(found)
    tripped = [test for test in tests if test.adjusted <= level]
    said = []
    for test in tripped:
        (low, a), (high, b) = (
            min(test.means.items(), key=lambda pair: pair[1] or 0.0),
            max(test.means.items(), key=lambda pair: pair[1] or 0.0),
        )
        said.append(
            f"by {test.what}: on average {_told(b)} more objects than predicted in {high!r}, {_told(a)} in {low!r} "
            f"(corrected p {test.adjusted:.2g})"
        )
    if said:
        sentence = (
            f"Errors of the count differ {'; '.join(said)}. The promises hold for pictures mixed as these are, "
            "not for a part of them, and are doubtful where the mix or the time changes."
        )
    else:
        sentence = "Nothing shows that errors of the count differ between parts of the labelled pictures."
    return Shift("within", bool(tripped), tests, level, parts, units.word, sentence)


def _code(values: Sequence[str], units: Units) -> tuple[Int64, list[str]] | None:
    """The value of each unit as a number, -1 for unknown or rare ones; None where there is nothing to compare."""
    names, code = np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)
    first = np.zeros(len(units), np.int64)
    first[units.of] = code
    if (first[units.of] != code).any():
        return None
    many = np.bincount(first, minlength=len(names))
    kept = np.flatnonzero((many >= FEWEST) & (names != ""))
    if len(kept) < 2:
        return None
    number = np.full(len(names), -1, np.int64)
    number[kept] = np.arange(len(kept))
    return number[first], [str(name) for name in names[kept]]


def _permuted(code: Int64, units: Units, draws: int, seed: int) -> Int64:
    """int64 (draws + 1, images): the code of every picture as it is, and then with units' codes permuted."""
    table = np.tile(code, (draws + 1, 1))
    table[1:] = np.random.default_rng(seed).permuted(table[1:], axis=1)
    permuted: Int64 = table if units.word == "picture" else table[:, units.of]
    return permuted


def _distances(values: Float64, labels: NDArray[np.bool_]) -> Float64:
    """Kolmogorov–Smirnov distances of True from False pictures, float64 (B,), for labels (B, images)."""
    filled = np.where(np.isnan(values), -np.inf, values)
    order = np.argsort(filled, kind="stable")
    ranked = filled[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    distances = np.empty(len(labels))
    for at in range(0, len(labels), 50):  # so that memory stays small
        part = labels[at : at + 50][:, order]
        below = np.cumsum(part, axis=1, dtype=np.int32)[:, ends]
        true = below[:, -1:]
        gap = below / true - (ends + 1 - below) / (len(values) - true)
        distances[at : at + 50] = np.abs(gap).max(axis=1)
    return distances


def _between(values: Float64, codes: Int64, parts: int) -> Float64:
    """The share of the variance of ranks that lies between parts, float64 (B,), for codes (B, images); -1 is out."""
    known = codes >= 0
    _, place, many = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(many) - (many - 1) / 2)[place]
    count = known.sum(axis=1)
    total = known @ rank
    overall = total / count
    squares = known @ rank**2 - count * overall**2
    between = np.zeros(len(codes))
    for k in range(parts):
        member = codes == k
        size = member.sum(axis=1)
        between += size * ((member @ rank) / np.maximum(size, 1) - overall) ** 2
    share: Float64 = np.divide(between, squares, out=np.zeros_like(between), where=squares > 1e-9)
    return share


def _p(statistic: Float64) -> float:
    """The share of permutations, the one at hand among them, that are as extreme."""
    return float(np.mean(statistic >= statistic[0] - 1e-12))


def _smallest(first: int, second: int, draws: int) -> float:
    """The smallest p-value that can come out: permutations are few where units are."""
    ways = math.lgamma(first + second + 1) - math.lgamma(first + 1) - math.lgamma(second + 1)
    return max(math.exp(-ways), 1 / (draws + 1))


def _corrected(found: list[tuple[str, float, dict[str, float | None], float]]) -> tuple[Comparison, ...]:
    """The tests with Holm's adjusted p-values."""
    p = np.array([row[3] for row in found])
    order = np.argsort(p, kind="stable")
    steps = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    adjusted = np.empty(len(p))
    adjusted[order] = steps
    return tuple(Comparison(*row, float(holm)) for row, holm in zip(found, adjusted, strict=True))


def _mean(values: Float64) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _told(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
