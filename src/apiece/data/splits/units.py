"""Units: what is never parted when a data set is divided, pictures or groups of them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apiece.data.splits.divide import divide, whole_aims
from apiece.data.splits.tally import Int64, Tally
from apiece.errors import UsageError, did_you_mean

KINDS = ("class", "density")
NOTED = 0.02  # shares of pictures this far from their aim are noted, if more than one picture makes it
SHOWN = 6  # notes of one kind before the rest is only counted

By = Literal["image", "group"]


class Units:
    """What is never parted: pictures, or groups of them, in an order that only names and seed decide.

    members  the pictures of each unit.
    labels   the group or picture that each unit is called by; several groups that are bound have several names.
    group_of the group of each picture, or None.
    """

    def __init__(
        self,
        counted: Tally,
        by: By | None,
        groups: Mapping[str, str] | None,
        together: Iterable[tuple[str, str]],
        seed: int,
    ) -> None:
        by = by or ("image" if groups is None else "group")
        if by not in ("image", "group"):
            raise UsageError(f"by is {by!r}. {did_you_mean(str(by), ('image', 'group'))}")
        given = counted.grouped(groups) if groups is not None and by == "group" else counted.groups
        if by == "group" and given is None:
            raise UsageError(
                "by group: pictures have no groups. Remedy: give a table (--groups) or a pattern (--pattern)."
            )
        if by == "image" and groups is not None:
            raise UsageError("by image: groups are given too. Remedy: leave one of them out.")
        self.counted, self.notes = counted, list[str]()
        self.group_of = given if by == "group" else None
        self.noun = "groups" if by == "group" else "pictures"
        names = counted.names
        first: dict[str, int] = {}
        root = list(range(len(names)))
        if self.group_of is not None:
            root = [first.setdefault(group, i) for i, group in enumerate(self.group_of)]
        copies = counted.copies()
        absent = sum(path is None for path in counted.paths)
        if absent:
            self.notes.append(
                f"{absent} of {len(names)} picture files weren't found, so copies of them aren't known."
            )
        pairs = [tuple(counted.find(pair)) for pair in together]
        self._bind(root, copies, "are the same file")
        self._bind(root, [list(pair) for pair in pairs], "are to stay together")
        members: dict[int, list[int]] = {}
        for i in range(len(names)):
            members.setdefault(root_of(root, i), []).append(i)

        def order(places: list[int]) -> bytes:
            name = unicodedata.normalize("NFC", names[places[0]])
            return hashlib.blake2b(
                f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=16
            ).digest()

        self.members = sorted(members.values(), key=order)
        self.labels = [
            " + ".join(sorted({self.group_of[i] for i in places})) if self.group_of else names[places[0]]
            for places in self.members
        ]
        self.how: dict[str, Any] = {
            "by": by,
            "pictures": len(names),
            "units": len(self.members),
            "copies": sum(len(places) - 1 for places in copies),
            "kept together": len(pairs),
            "names": hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest(),
        }

    def _bind(self, root: list[int], sets: list[list[int]], why: str) -> None:
        """Make one unit of all pictures of each set; note sets and bound groups."""
        names = self.counted.names
        said = 0
        for places in sets:
            groups = sorted({self.group_of[i] for i in places}) if self.group_of else []
            for i in places[1:]:
                root[root_of(root, i)] = root_of(root, places[0])
            if len(groups) > 1:
                said += 1
                if said <= SHOWN:
                    pair = next(
                        i for i in places if self.group_of and self.group_of[i] != self.group_of[places[0]]
                    )
                    self.notes.append(
                        f"groups {groups[0]!r} and {groups[1]!r} are kept together: {names[places[0]]!r} and "
                        f"{names[pair]!r} {why}."
                    )
        if said > SHOWN:
            self.notes.append(f"{said - SHOWN} more sets of pictures bind groups.")
        if sets and why == "are the same file":
            more = sum(len(places) - 1 for places in sets)
            self.notes.append(
                f"{more} picture{'s are copies of others' if more > 1 else ' is a copy of another'}, byte by byte; "
                f"kept together. First: {names[sets[0][0]]!r} and {names[sets[0][1]]!r}."
            )

    def kinds(self, stratify: Sequence[str]) -> tuple[list[str], Int64]:
        """What is balanced: names, and how much of each every picture has, int64 (N, L); first the pictures."""
        for kind in stratify:
            if kind not in KINDS:
                raise UsageError(f"stratify by {kind!r}. {did_you_mean(kind, KINDS)}")
        counted = self.counted
        names = ["pictures"]
        columns = [np.ones((len(counted.names), 1), np.int64)]
        if "class" in stratify:
            names += [f"objects of class {name!r}" for name in counted.classes.names]
            columns.append(counted.counts)
        if "density" in stratify:
            names += ["empty pictures", *(f"pictures of density quarter {k}" for k in (1, 2, 3, 4))]
            columns.append(np.eye(5, dtype=np.int64)[counted.strata()])
        table = np.hstack(columns)
        used = table.sum(axis=0) > 0
        return [name for name, is_used in zip(names, used, strict=True) if is_used], table[:, used]

    def divided(
        self, shares: list[float], names: list[str], stratify: Sequence[str]
    ) -> tuple[Int64, list[str]]:
        """The part of each unit, and notes."""
        kinds, table = self.kinds(stratify)
        counts = np.array([table[places].sum(axis=0) for places in self.members], np.int64)
        part = divide(counts, whole_aims(shares))
        held = np.zeros((len(shares), len(kinds)), np.int64)
        np.add.at(held, part, counts)
        return part, self.notes + self._unmet(held, counts, kinds, shares, names, part)

    def _unmet(
        self, held: Int64, counts: Int64, kinds: list[str], shares: list[float], names: list[str], part: Int64
    ) -> list[str]:
        notes = []
        pictures = int(held[:, 0].sum())
        if len(self.members) < len(shares):
            notes.append(f"there are {len(self.members)} {self.noun} for {len(shares)} parts.")
        for k, (name, share) in enumerate(zip(names, shares, strict=True)):
            if not held[k, 0]:
                notes.append(f"{name} is empty.")
                continue
            got = held[k, 0] / pictures
            if abs(got - share) > max(NOTED, 1 / pictures):
                notes.append(
                    f"{name} has {got:.1%} of the pictures where {share:.1%} were asked for: "
                    + self._why(part == k, counts[:, 0])
                )
        missing = []
        for j, kind in enumerate(kinds[1:], start=1):
            without = [name for k, name in enumerate(names) if not held[k, j] and held[k, 0]]
            if not kind.startswith("objects of") or not without:
                continue
            holders = np.flatnonzero(counts[:, j])
            if len(holders) == 1:
                where = f"all are in {self._called(int(holders[0]))}"
            else:
                where = f"{len(holders)} {self.noun} have any"
            missing.append(f"{', '.join(without)}: no {kind}; {where}.")
        if len(missing) > SHOWN:
            missing[SHOWN:] = [f"{len(missing) - SHOWN} more classes are missing in a part."]
        return notes + missing

    def _why(self, mine: NDArray[np.bool_], sizes: Int64) -> str:
        largest = int(np.where(mine, sizes, 0).argmax())
        if sizes[largest] == 1:
            return "its objects come in whole pictures."
        return f"{self._called(largest)} has {sizes[largest] / sizes.sum():.1%} and is not parted."

    def _called(self, unit: int) -> str:
        places = self.members[unit]
        if self.group_of is not None:
            return f"group {self.labels[unit]!r}"
        if len(places) > 1:
            return f"the set of {len(places)} pictures bound to {self.labels[unit]!r}"
        return f"picture {self.labels[unit]!r}"


def root_of(root: list[int], i: int) -> int:
    """The first of the set that `i` is in; `root` is shortened on the way (union-find)."""
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i
