"""Leaks of a split that was made elsewhere, or before groups and copies were known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from apiece.data.splits.report import Split
from apiece.data.splits.tally import Tally


def leaks(
    split: Split,
    counted: Tally,
    groups: Mapping[str, str] | None = None,
    together: Iterable[tuple[str, str]] = (),
) -> list[str]:
    """What lies in two parts of a split and should not: groups, files that are the same, pairs named as too alike.

    split    such as `Split.from_files` reads; its pictures are found by name, file name or stem.
    groups   as in `split`; by default those of the data set.
    returns  a sentence for each leak; an empty list is what one hopes for.
    raises   DataError if the split names a picture that isn't there, or a picture has no group.
    """
    part_of: dict[int, str] = {}
    found: list[str] = []
    for part in split.parts:
        for place, name in zip(counted.find(part.pictures), part.pictures, strict=True):
            other = part_of.setdefault(place, part.name)
            if other != part.name:
                found.append(f"{name!r} is in {other} and in {part.name}.")
    group_of = counted.grouped(groups) if groups is not None else counted.groups
    if group_of is not None:
        members: dict[str, list[int]] = {}
        for place in sorted(part_of):
            members.setdefault(group_of[place], []).append(place)
        for group, places in members.items():
            parts = _parts(places, part_of)
            if len(parts) > 1:
                found.append(f"group {group!r} is in {' and in '.join(parts)}.")
    sets = [(places, "are the same file") for places in counted.copies()]
    sets += [(counted.find(pair), "are to stay together") for pair in together]
    for places, why in sets:
        parts = _parts(places, part_of)
        if len(parts) > 1:
            names = " and ".join(repr(counted.names[i]) for i in places[:2])
            found.append(f"{names} {why}, but are in {' and in '.join(parts)}.")
    return found


def _parts(places: Sequence[int], part_of: Mapping[int, str]) -> list[str]:
    return list(dict.fromkeys(part_of[i] for i in places if i in part_of))
