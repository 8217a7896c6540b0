"""Predictions: what a tool wrote, as COCO results of the truth's pictures, and a collector that makes them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apiece.errors import AnnotationError
from apiece.evaluate.read.pictures import Pictures
from apiece.evaluate.scenes import Key, Size

Entry = dict[str, Any]
ClassRef = str | int  # a class by its name, or by its number from 0 where a file names none


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted objects, not yet joined with the truth's classes.

    path       as the user named it.
    entries    COCO results; `image_id` is the truth's, `category_id` as `classes` has it.
    classes    what each category id means; None where category ids are the truth's own.
    told       places of the truth's pictures that the predictions speak of.
    all_told   whether pictures without predictions are told, too; a list of results can't.
    strangers  pictures that the truth doesn't have, with the number of objects on each.
    by_id      whether numbers in `classes` are ids of the truth's classes, not places among them.
    truncated  places of pictures whose predictions a cap of the model cut.
    notes      what a reader of the figures must know.
    """

    path: str
    entries: Sequence[Any]
    classes: Mapping[Key, ClassRef] | None
    told: frozenset[int]
    all_told: bool
    strangers: Mapping[str, int] = field(default_factory=dict)
    by_id: bool = False
    truncated: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A picture that predictions speak of; `place` is None where the truth doesn't have it."""

    name: str
    place: int | None


class Collector:
    """Collects predicted objects, picture by picture, and checks each.

    path      as the user named it.
    pictures  the truth's.
    all_told  see Predictions.
    """

    def __init__(self, path: Path, pictures: Pictures, *, all_told: bool) -> None:
        self.path, self.pictures, self._all_told = path, pictures, all_told
        self.notes: list[str] = []
        self._entries: list[Entry] = []
        self._classes: dict[ClassRef, int] = {}
        self._named: dict[int, str] = {}
        self._strangers: dict[str, int] = {}
        self._without_outline = 0

    def page(self, name: Key, where: str, size: Size | None = None, *, by_id: bool = False) -> Page:
        """The truth's picture of this name, or of this id.

        size    (height, width) for which the predictions were made, where they say so.
        raises  AnnotationError if the truth's picture has another size, or another name means it, too.
        """
        place = self.pictures.by_id(name) if by_id else self.pictures.by_name(str(name))
        if place is None:
            self._strangers.setdefault(str(name), 0)
            return Page(str(name), None)
        first = self._named.setdefault(place, str(name))
        if first != str(name):
            raise AnnotationError(
                f"{where}: {name!r} is the picture {self.pictures.names[place]!r} of {self.pictures.source}, as "
                f"{first!r} is; expected the predictions of a picture once. Remedy: remove one of them."
            )
        check_size(where, size, self.pictures, place)
        return Page(str(name), place)

    def class_named(self, ref: ClassRef) -> None:
        """Note a class that the predictions know, whether or not it occurs."""
        self._classes.setdefault(ref, len(self._classes))

    def add(
        self,
        page: Page,
        where: str,
        class_ref: ClassRef,
        *,
        score: object = None,
        box: Sequence[float] | None = None,
        segmentation: Any = None,
    ) -> None:
        """Add an object.

        where         what messages call it.
        score         a number; None where the tool writes none.
        box           x, y, width, height in pixels.
        segmentation  as in COCO: an RLE or polygons; [] for an outline that has no area.
        """
        self.class_named(class_ref)
        if page.place is None:
            self._strangers[page.name] += 1
            return
        if box is None and segmentation is None:
            raise AnnotationError(
                f"{where}: has neither a box nor an outline; expected one of them or both. Remedy: export the "
                "predictions again."
            )
        entry: Entry = {
            "id": where.removeprefix(str(self.path)).lstrip("/: "),
            "image_id": self.pictures.keys[page.place],
            "category_id": self._classes[class_ref],
        }
        if score is not None:
            entry["score"] = number(score, where, "score")
        if box is not None:
            entry["bbox"] = [float(side) for side in box]
        if segmentation is not None:
            if isinstance(segmentation, list) and not segmentation:
                height, width = self.pictures.size(page.place)
                segmentation = {"size": [height, width], "counts": [height * width]}
                self._without_outline += 1
            entry["segmentation"] = segmentation
        self._entries.append(entry)

    def predictions(self) -> Predictions:
        """All that was added."""
        if self._without_outline:
            self.notes.append(
                f"{self._without_outline} of {len(self._entries)} predictions have an outline without an area: their "
                "masks are empty."
            )
        return Predictions(
            str(self.path),
            self._entries,
            {number: ref for ref, number in self._classes.items()},
            frozenset(self._named),
            self._all_told,
            dict(self._strangers),
            notes=tuple(self.notes),
        )


# ---- checks that readers share


def check_size(where: str, size: Size | None, pictures: Pictures, place: int) -> None:
    """See that predictions were made in the pixels of the truth's picture.

    raises  AnnotationError with both sizes.
    """
    stated = pictures.sizes[place]
    if size is not None and stated is not None and tuple(size) != tuple(stated):
        raise AnnotationError(
            f"{where}: predictions are for a picture of {size[0]} x {size[1]} (height x width), but "
            f"{pictures.names[place]!r} of {pictures.source} has {stated[0]} x {stated[1]}; expected the same. "
            "Remedy: write predictions in the pixels of the original picture."
        )


def number(value: object, where: str, what: str) -> float:
    """A finite number, also where it is written as text.

    raises  AnnotationError naming the object.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            made = float(value)
        except OverflowError:
            made = math.inf
        if math.isfinite(made):
            return made
    raise AnnotationError(
        f"{where}: has {what} {_short(value)}; expected a finite number. Remedy: export the predictions again."
    )


def numbers(values: object, count: int, where: str, what: str) -> list[float]:
    """`count` finite numbers.

    raises  AnnotationError naming the object.
    """
    if not isinstance(values, list | tuple) or len(values) != count:
        raise AnnotationError(
            f"{where}: has {what} {_short(values)}; expected {count} numbers. Remedy: export the predictions again."
        )
    return [number(value, where, what) for value in values]


def corners(values: Sequence[float], where: str) -> list[float]:
    """x, y, width, height of a box given by its corners x1, y1, x2, y2.

    raises  AnnotationError if they come in another order.
    """
    x1, y1, x2, y2 = values
    if x2 < x1 or y2 < y1:
        raise AnnotationError(
            f"{where}: has a box from {x1:g}, {y1:g} to {x2:g}, {y2:g}; expected x1 <= x2 and y1 <= y2. "
            "Remedy: export the predictions again."
        )
    return [x1, y1, x2 - x1, y2 - y1]


def class_of(value: object, where: str) -> ClassRef:
    """A class by its name or its number.

    raises  AnnotationError for anything else.
    """
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and value.is_integer() and 0 <= value < 2**53:
        return int(value)
    raise AnnotationError(
        f"{where}: has the class {_short(value)}; expected a name, or a number from 0. "
        "Remedy: export the predictions again."
    )


def mapping(value: object, where: str, what: str) -> Mapping[str, Any]:
    """An object of JSON.

    raises  AnnotationError for anything else.
    """
    if not isinstance(value, Mapping):
        raise AnnotationError(
            f"{where}: is {_short(value)}; expected {what}. Remedy: export the predictions again."
        )
    return value


def listed(value: object, where: str, what: str) -> list[Any]:
    """A list of JSON.

    raises  AnnotationError for anything else.
    """
    if not isinstance(value, list):
        raise AnnotationError(
            f"{where}: {what} is {_short(value)}; expected a list. Remedy: export the predictions again."
        )
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
