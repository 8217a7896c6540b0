"""Making splits: by shares, in folds, or one group out at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from apiece.data.dataset import Dataset
from apiece.data.formats import Source
from apiece.data.splits.report import Deviation, Part, Split
from apiece.data.splits.tally import Int64, Tally, tally
from apiece.data.splits.units import KINDS, By, Units
from apiece.errors import UsageError

Data = Dataset | Source | Tally
Progress = Callable[[int, int], None]


def split(
    data: Data,
    fractions: Mapping[str, float],
    *,
    by: By | None = None,
    groups: Mapping[str, str] | None = None,
    stratify: Sequence[str] = KINDS,
    together: Iterable[tuple[str, str]] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Split:
    """Divide a data set into parts of about these shares of its pictures.

    data       a Dataset, a Source, or a Tally of one that was counted before.
    fractions  part → share, such as {"train": 0.8, "val": 0.2}; they add up to 1.
    by         what stays whole: "image" or "group". By default groups where `groups` is given.
    groups     picture → group (names, file names or stems); by default those of the Dataset.
    stratify   what each part gets its share of besides pictures: "class" (objects of each class), "density" (empty
               pictures, and the quarters by objects a megapixel).
    together   pairs of pictures that must not be parted, such as near-duplicates that `apiece check` finds.
    seed       another one gives another split. The same pictures, groups and seed give the same split, whatever the
               order of files and the platform.
    progress   called with pictures counted and of all.

    Files that are the same byte by byte stay together always; groups that are bound by such files stay together too,
    and a note says so. What can't be met is met as nearly as can be and noted: a group larger than a part, a class in
    one group only, fewer groups than parts.
    raises     UsageError if a value can't be meant; DataError as `tally` does, or if a picture has no group.
    """
    shares = _checked(fractions)
    counted = data if isinstance(data, Tally) else tally(data, progress)
    units = Units(counted, by, groups, together, seed)
    part, notes = units.divided(list(shares.values()), list(shares), stratify)
    how = units.how | {"fractions": dict(shares), "stratify": list(stratify), "seed": seed}
    return _made(counted, units, list(shares), list(shares.values()), part, stratify, how, notes)


def folds(
    data: Data,
    count: int,
    *,
    by: By | None = None,
    groups: Mapping[str, str] | None = None,
    stratify: Sequence[str] = KINDS,
    together: Iterable[tuple[str, str]] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Split]:
    """`count` splits into "train" and "val", so that each picture is in "val" of exactly one; otherwise as `split`.

    raises  UsageError too, if there are fewer units (pictures or groups) than folds.
    """
    if count < 2:
        raise UsageError(f"folds: {count} of them; expected 2 or more.")
    counted = data if isinstance(data, Tally) else tally(data, progress)
    units = Units(counted, by, groups, together, seed)
    if len(units.members) < count:
        raise UsageError(
            f"folds: {count} of {len(units.members)} {units.noun}; expected no more folds than {units.noun}. "
            "Remedy: fewer folds."
        )
    shares = [1 / count] * count
    names = [f"fold {k + 1}" for k in range(count)]
    part, notes = units.divided(shares, names, stratify)
    made = []
    for k in range(count):
        how = units.how | {"folds": count, "fold": k + 1, "stratify": list(stratify), "seed": seed}
        aims = [1 - 1 / count, 1 / count]
        two = np.where(part == k, 1, 0)
        made.append(_made(counted, units, ["train", "val"], aims, two, stratify, how, notes))
    return made


def leave_one_group_out(
    data: Data,
    groups: Mapping[str, str] | None = None,
    *,
    together: Iterable[tuple[str, str]] = (),
    progress: Progress | None = None,
) -> list[Split]:
    """For every group a split with that group as "val" and all others as "train", in order of group name.

    Groups that share files are left out together.
    raises  UsageError if there is only one group; otherwise as `split`.
    """
    counted = data if isinstance(data, Tally) else tally(data, progress)
    units = Units(counted, "group", groups, together, 0)
    if len(units.members) < 2:
        raise UsageError("leave one out: there is one group only; expected two or more.")
    made = []
    for unit in sorted(range(len(units.members)), key=lambda u: units.labels[u]):
        two = np.where(np.arange(len(units.members)) == unit, 1, 0)
        held = len(units.members[unit]) / len(counted.names)
        how = units.how | {"left out": units.labels[unit]}
        made.append(
            _made(counted, units, ["train", "val"], [1 - held, held], two, (), how, list(units.notes))
        )
    return made


def fractions_of(text: str) -> dict[str, float]:
    """Shares as the command line has them: "train=.8,val=.2".

    raises  UsageError if it is no such list.
    """
    found: dict[str, float] = {}
    for item in text.split(","):
        name, mark, value = item.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = float("nan")
        if not mark or not share == share or name.strip() in found:
            raise UsageError(f"--fractions {text!r}: {item!r} is no NAME=SHARE; expected train=.8,val=.2.")
        found[name.strip()] = share
    return found


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    shares = dict(fractions)
    for name, share in shares.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise UsageError(
                f"part {name!r}: expected letters, digits, - and _, as it becomes a file's name."
            )
        if not 0 < share <= 1:
            raise UsageError(
                f"part {name!r} is to have {share} of the pictures; expected more than 0, at most 1."
            )
    if len(shares) < 2 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(
            f"fractions {shares} add up to {sum(shares.values()):g}; expected two or more that add up to 1."
        )
    return shares


def _made(
    counted: Tally,
    units: Units,
    names: list[str],
    shares: list[float],
    part: Int64,
    stratify: Sequence[str],
    how: Mapping[str, Any],
    notes: list[str],
) -> Split:
    """The split that a part of each unit makes."""
    of_picture = np.zeros(len(counted.names), np.int64)
    for places, k in zip(units.members, part.tolist(), strict=True):
        of_picture[places] = k
    kinds, table = units.kinds(stratify)
    total = table.sum(axis=0)
    densities = counted.densities
    parts: list[Part] = []
    worst: Deviation | None = None
    for k, (name, aim) in enumerate(zip(names, shares, strict=True)):
        mine = np.flatnonzero(of_picture == k)
        held = table[mine].sum(axis=0)
        for kind, some, all_ in zip(kinds, held.tolist(), total.tolist(), strict=True):
            if worst is None or abs(some / all_ - aim) > abs(worst.share - worst.aim):
                worst = Deviation(name, kind, some / all_, aim, all_)
        classes = counted.counts[mine].sum(axis=0)
        quantiles = np.quantile(densities[mine], [0, 0.25, 0.5, 0.75, 1]) if mine.size else np.zeros(0)
        parts.append(
            Part(
                name,
                tuple(counted.names[i] for i in mine.tolist()),
                aim,
                int(classes.sum()),
                dict(zip(counted.classes.names, classes.tolist(), strict=True)),
                tuple(round(float(value), 6) for value in quantiles),
                tuple(sorted({units.group_of[i] for i in mine.tolist()})) if units.group_of else (),
            )
        )
    return Split(tuple(parts), how, tuple(notes), worst)
