"""Classes: which class of the truth each predicted class is, by name, or by number where there are no names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from apiece.errors import AnnotationError, UsageError, did_you_mean
from apiece.evaluate.read.pictures import shown
from apiece.evaluate.read.predictions import ClassRef
from apiece.evaluate.scenes import Key

Class = tuple[Key, str]
Numbering = Literal["id", "own", "order"]


@dataclass(frozen=True)
class Joined:
    """Where predicted classes belong.

    key_of  the truth's category id of each predicted class; None: its predictions are left out, as the user says.
    notes   what was taken for granted.
    """

    key_of: Mapping[ClassRef, Key | None]
    notes: tuple[str, ...]


def join_classes(
    true: Sequence[Class],
    predicted: Mapping[ClassRef, int],
    rename: Mapping[str, str],
    *,
    names: tuple[str, str],
    unused: frozenset[Key] = frozenset(),
    numbering: Numbering = "order",
) -> Joined:
    """Join classes by name: exactly, else without regard to case, blanks and underscores, else by `rename`.

    true         the truth's classes by increasing id.
    predicted    each predicted class with the number of its predictions; classes without any need no counterpart.
    rename       a predicted class, by name or number → the truth's name of it; "" leaves its predictions out.
    names        what messages call truth and predictions.
    unused       classes of the truth that no object has and that may be no classes at all, as the super-category 0
                 in exports of Roboflow.
    numbering    what classes that are numbers mean: the truth's ids ("id"); its own class numbers from 0, as in YOLO
                 labels ("own"); or the order of its classes.
    raises       AnnotationError naming classes without a counterpart, with the classes of both sides; UsageError if
                 `rename` names a class that isn't there.
    """
    told = {str(ref): ref for ref in predicted}
    key_of: dict[ClassRef, Key | None] = {}
    for name, other in rename.items():
        if name not in told and other in told and _by_name(name, true) is not None:
            name, other = other, name  # given the other way round
        ref = _meant(name, told, names[1])
        key_of[ref] = None if other == "" else _renamed(other, true, names[0])
    given = set(key_of)
    notes: list[str] = []
    numbered = [ref for ref in predicted if isinstance(ref, int) and ref not in given]
    for ref in predicted:
        if isinstance(ref, str) and ref not in given:
            found = _by_name(ref, true)
            if found is not None:
                key_of[ref] = found
    if len(true) == len(predicted) == 1 and not key_of:
        (only,) = predicted
        if isinstance(only, str):
            notes.append(
                f"The only predicted class, {only!r}, is taken for the only true class, {true[0][1]!r}."
            )
        key_of[only] = true[0][0]
        return Joined(key_of, tuple(notes))
    if numbered:
        by_number = _numbered(numbered, true, predicted, names, unused, numbering)
        for number, key in by_number.items():
            key_of[number] = key
        if numbering != "id":
            name_of = dict(true)
            pairs = ", ".join(f"{ref} = {name_of[key]!r}" for ref, key in sorted(by_number.items())[:12])
            order = (
                "by the truth's own numbers" if numbering == "own" else "in the order of the truth's classes"
            )
            notes.append(
                f"{names[1]} numbers its classes and names none; they are read {order}: {pairs}"
                f"{', …' if len(by_number) > 12 else ''}."
            )
    missing = [ref for ref, count in predicted.items() if count and ref not in key_of]
    if missing:
        count = sum(predicted[ref] for ref in missing)
        near = did_you_mean(str(missing[0]), [name for _, name in true])[:300]
        raise AnnotationError(
            f"{names[1]}: categories {shown([str(ref) for ref in missing])} with {count} predictions are none of "
            f"{names[0]}; true classes: {shown([name for _, name in true], 12)}; predicted classes: "
            f"{shown([str(ref) for ref in predicted], 12)}. {near} Remedy: say which class it is "
            f"(--rename {str(missing[0])!r}=NAME), leave such predictions out (--rename {str(missing[0])!r}=), or "
            "compare without classes (--one-class)."
        )
    return Joined(key_of, tuple(notes))


def _meant(name: str, told: Mapping[str, ClassRef], where: str) -> ClassRef:
    """The predicted class that a name of `rename` means."""
    if name in told:
        return told[name]
    near = [ref for text, ref in told.items() if _folded(text) == _folded(name)]
    if len(near) == 1:
        return near[0]
    known = f"{did_you_mean(name, told)[:300]}" if told else "It names no class."
    raise UsageError(f"rename: {where} has no class {name!r}. {known} Remedy: correct the name.")


def _renamed(name: str, true: Sequence[Class], where: str) -> Key:
    found = _by_name(name, true)
    if found is None:
        raise UsageError(
            f"rename: {where} has no class {name!r}. {did_you_mean(name, [one for _, one in true])[:300]} "
            "Remedy: give the predicted class first, then the true one."
        )
    return found


def _by_name(name: str, true: Sequence[Class]) -> Key | None:
    """The id of the true class of this name, or of the only one that differs in case, blanks or underscores."""
    exact = [key for key, one in true if one == name]
    if len(exact) == 1:
        return exact[0]
    near = [key for key, one in true if _folded(one) == _folded(name)]
    if len(near) > 1:
        both = shown([one for key, one in true if key in near])
        raise AnnotationError(
            f"predicted class {name!r} can be {both}; expected true classes that differ by more than case. "
            "Remedy: rename one of them."
        )
    return near[0] if near else None


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _numbered(
    numbers: Sequence[int],
    true: Sequence[Class],
    predicted: Mapping[ClassRef, int],
    names: tuple[str, str],
    unused: frozenset[Key],
    numbering: Numbering,
) -> dict[int, Key]:
    """Classes that are numbers alone: the truth's own numbers, or places in its classes by increasing id."""
    if numbering == "order":
        known: dict[Key, Key] = dict(enumerate(key for key, _ in true))
    else:
        known = {key: key for key, _ in true}
    strange = [number for number in numbers if number not in known and predicted[number]]
    doubtful = [name for key, name in true if key in unused]
    if strange or (doubtful and numbering == "order"):
        why = (
            f"class {strange[0]} has predictions, but {names[0]} has {len(true)} classes"
            if strange
            else f"{doubtful[0]!r} has no true object and may be a heading that the model doesn't count"
        )
        if numbering == "id":
            raise AnnotationError(
                f"{names[1]}: category {strange[0]} with {predicted[strange[0]]} predictions is none of {names[0]} "
                f"({', '.join(str(key) for key, _ in true[:12])}{', …' if len(true) > 12 else ''}); expected its ids. "
                f"Remedy: say which class it is (--rename {strange[0]}=NAME)."
            )
        raise AnnotationError(
            f"{names[1]}: numbers its classes from 0 and names none, and they can't be told from the order of the "
            f"truth's classes ({shown([name for _, name in true], 12)}): {why}. Remedy: put the model's class names "
            f"beside them (classes.txt or data.yaml), or say each (--rename {numbers[0]}=NAME)."
        )
    return {number: known[number] for number in numbers if number in known}
