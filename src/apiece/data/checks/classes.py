"""Class lists that are odd: unused, near-equal or joined names, a background, ids with gaps or shifted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from apiece.core.classes import ClassMap
from apiece.data.checks.view import Finding
from apiece.data.problems import Problem

BACKGROUND = frozenset({"background", "bg"})
JOINED = re.compile(r"\w\s*[,;|]\s*\w|\w\s+/\s+\w")  # but not tv/monitor
UNKNOWN = re.compile(r"has (?:category|the class) '?(-?\d+)'?, which (?:is not in categories|has no name)")


def class_list(
    classes: ClassMap, counts: Mapping[str, int], problems: Sequence[Problem] = ()
) -> Iterator[Finding]:
    """What is odd about a class list.

    counts    objects of each class by name, in all the data looked at.
    problems  of the readers, which tell ids that the list doesn't have.
    """
    shift = shifted(classes, counts, problems)
    if shift is not None:
        yield shift
    named = set()
    for name in classes.names:
        if plain(name) in BACKGROUND:
            named.add(name)
            text = f"class {name!r} is the background, which is no object; {_objects(counts.get(name, 0))}."
            remedy = "remove it from the classes (with its objects); pixels without an object are background."
            yield Finding("warning", "background-class", (), text, remedy)
        elif JOINED.search(name):
            text = f"class {name!r} is named as several; {_objects(counts.get(name, 0))}."
            yield Finding("warning", "joined-name", (), text, "make it several classes, or give it one name.")
    yield from near_equal(classes, counts)
    unused = [name for name in classes.names if not counts.get(name) and name not in named]
    if unused and shift is None and any(counts.values()):
        shown = ", ".join(map(repr, unused[:8])) + (f" and {len(unused) - 8} more" if len(unused) > 8 else "")
        what = "classes has" if len(unused) == 1 else "classes have"
        text = f"{len(unused)} of {len(classes)} {what} no object: {shown}."
        yield Finding(
            "warning", "unused-class", (), text, "remove them from the list, or label their objects."
        )
    if len(classes) > 1 and max(classes.ids) - min(classes.ids) + 1 > len(classes):
        missing = max(classes.ids) - min(classes.ids) + 1 - len(classes)
        text = (
            f"{len(classes)} classes have ids from {min(classes.ids)} to {max(classes.ids)}, of which {missing} are "
            "not used; here that is no problem, but tools that take ids as indices go wrong (91 versus 80)."
        )
        yield Finding(
            "note", "id-gaps", (), text, "number the classes without gaps, if others are to read it."
        )


def shifted(classes: ClassMap, counts: Mapping[str, int], problems: Sequence[Problem]) -> Finding | None:
    """Ids that are all one too high or too low: an id just outside the list, and its other end without objects."""
    unknown = {int(match[1]) for problem in problems if (match := UNKNOWN.search(problem.message))}
    if not len(classes):
        return None
    for outside, place, far, cure in (
        (max(classes.ids) + 1, 0, "high", "subtract 1 from"),
        (min(classes.ids) - 1, -1, "low", "add 1 to"),
    ):
        name = classes.names[place]
        if unknown == {outside} and not counts.get(name):
            message = (
                f"category ids look shifted: objects have the id {outside}, one too {far} for the list, and none "
                f"is {name!r} ({classes.ids[place]})."
            )
            remedy = f"{cure} category_id throughout, and look at a few."
            return Finding("error", "shifted-classes", (), message, remedy)
    return None


def near_equal(classes: ClassMap, counts: Mapping[str, int]) -> Iterator[Finding]:
    """Names that differ by case, space, punctuation or plural alone."""
    first: dict[str, str] = {}
    for name in classes.names:
        twin = first.setdefault(plain(name), name)
        if twin != name:
            text = (
                f"classes {twin!r} ({_objects(counts.get(twin, 0))}) and {name!r} "
                f"({_objects(counts.get(name, 0))}) seem to be one."
            )
            yield Finding("warning", "near-equal-names", (), text, "merge the two classes.")


def plain(name: str) -> str:
    """A class name without case, space, punctuation and plural: "Traffic-Lights " is trafficlight."""
    bare = "".join(ch for ch in name.casefold() if ch.isalnum())
    if len(bare) > 3 and bare.endswith("s") and not bare.endswith("ss"):
        bare = bare[:-1]
    return bare or name


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"
