"""Predictions in an annotation format: whatever `apiece.data.formats` reads, at the sizes of the truth's pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apiece.data.formats import Source, format_of, open_source
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError
from apiece.evaluate.read.predictions import ClassRef, Predictions, check_size
from apiece.evaluate.read.truth import Entry, Truth, boxes_note, entries_of
from apiece.evaluate.scenes import Key


def read(path: Path, truth: Truth, format: str, images: Path | None = None) -> Predictions:
    """Annotations of a format; scores where it holds them.

    images  the picture folder; by default the one that the truth's pictures lie in.
    raises  DataError or AnnotationError as `open_source` and `Source.read` do, and for objects that were drawn on
            a picture of another size than the truth's.
    """
    folder = images if images is not None else _folder(truth)
    source = open_source(
        path, folder if format in ("imagej", "labelme", "geojson", "voc") else images, format
    )
    places = [truth.pictures.by_name(picture.name) for picture in source.pictures]
    source = replace(
        source,
        pictures=tuple(
            _sized(picture, place, truth) for picture, place in zip(source.pictures, places, strict=True)
        ),
    )
    scored = format_of(format).TARGET.holds.scores
    numbers = {number: i for i, number in enumerate(source.classes.ids)}
    entries: list[Entry] = []
    strangers: dict[str, int] = {}
    named: dict[int, str] = {}
    boxed = 0
    for index, (picture, place) in enumerate(zip(source.pictures, places, strict=True)):
        if place is None:
            strangers[picture.name] = _count(source, index)
            continue
        where = str(source.file_of(index))
        first = named.setdefault(place, picture.name)
        if first != picture.name:
            raise AnnotationError(
                f"{where}: {picture.name!r} is the picture {truth.pictures.names[place]!r} of {truth.path}, as "
                f"{first!r} is; expected the predictions of a picture once. Remedy: remove one of them."
            )
        objects = source.read(index)
        check_size(f"{where}: {picture.name}", objects.size, truth.pictures, place)
        drawn = objects.columns.get("box_mask")
        boxed += 0 if drawn is None else int(drawn.sum())
        key: Key = truth.pictures.keys[place]
        for i, entry in enumerate(entries_of(objects, key, numbers, area=False, score=scored)):
            entries.append({"id": f"{picture.name}: object {i}", **entry})
    if boxed and boxed == len(entries):
        for entry in entries:
            entry.pop("segmentation", None)
    classes: dict[Key, ClassRef] = {
        numbers[i]: name for i, name in zip(source.classes.ids, source.classes.names, strict=True)
    }
    return Predictions(
        str(path),
        entries,
        classes,
        frozenset(named),
        True,
        strangers,
        notes=(
            *(f"The predictions were read with a warning: {problem}" for problem in source.problems[:3]),
            *boxes_note("predicted", boxed, len(entries)),
        ),
    )


def _folder(truth: Truth) -> Path | None:
    """The folder of the truth's pictures, if all lie in one."""
    parents = {path.parent for path in truth.pictures.paths if path is not None}
    return parents.pop() if len(parents) == 1 else None


def _sized(picture: Picture, place: int | None, truth: Truth) -> Picture:
    """The picture with the truth's size where nothing else tells it."""
    if place is None or picture.path is not None or picture.size is not None:
        return picture
    return replace(picture, size=truth.pictures.sizes[place], path=truth.pictures.paths[place])


def _count(source: Source, index: int) -> int:
    """How many objects a picture has that the truth lacks; 0 where its size isn't known."""
    try:
        return len(source.read(index))
    except AnnotationError:
        return 0
