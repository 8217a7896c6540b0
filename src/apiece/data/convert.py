"""Conversion: one annotation format into another, with a report of what that loses; sources are never changed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from apiece.core.label_image import Policy
from apiece.data.formats import Source, Target, format_of
from apiece.data.losses import Conversion, flattened, losses, round_trip
from apiece.data.problems import Problem
from apiece.errors import ConversionError, DataError, UsageError, did_you_mean

Progress = Callable[[int, int], None]


def convert(
    source: Source,
    name: str,
    to: str,
    out: str | Path,
    *,
    overlap: Policy = "smaller",
    strict: bool = False,
    pictures: bool = True,
    progress: Progress | None = None,
) -> Conversion:
    """Write a source in another format and read it again, object by object.

    name      the source's format, for the report.
    to        the target's format, of apiece.data.formats.FORMATS.
    out       a folder that doesn't exist yet, or is empty; for formats that are one document also a file name with
              the document's suffix, then pictures are not copied. It appears when it is whole: an interruption
              leaves nothing.
    overlap   who keeps a pixel of several objects where the format holds no overlaps: "smaller", "first" or "last".
    strict    refuse where anything is lost; nothing is written then.
    pictures  whether pictures are copied along.
    progress  called with steps done and of all; each picture is two steps, written and read again.
    raises    UsageError where `out` is taken; ConversionError under `strict`; DataError where nothing can be read.
    """
    out = Path(out)
    target_format = format_of(to)
    document = target_format.TARGET.document
    alone = document is not None and out.suffix == Path(document).suffix
    if overlap not in get_args(Policy) or overlap == "error":
        raise UsageError(f"overlap is {overlap!r}. {did_you_mean(overlap, ('smaller', 'first', 'last'))}")
    _refuse_taken(out, source.path)
    work = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    result = Conversion(name, to, str(out))
    result.left_out += [problem for problem in source.problems if problem.left_out]
    try:
        try:
            work.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{out}: cannot be made ({error.strerror}).") from None
        target = target_format.TARGET(work, source.classes)
        target.lent = alone or not pictures  # reading back needs them, as some formats state no sizes
        names = _write(source, target, result, overlap, progress)
        result.notes += target.notes
        _compare(source, target_format.open_source(work), names, result, progress)
        if target.lent:
            target.return_pictures()
        if strict and not result.lossless:
            raise ConversionError(
                f"{source.path}: not converted, as --strict allows no loss.\n{result.to_text()}"
            )
        if alone and document is not None:
            (work / document).replace(out)
        else:
            if out.is_dir():
                out.rmdir()
            work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return result


def _refuse_taken(out: Path, source: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out}: exists already; expected a new name. Remedy: choose another, nothing is written over."
        )
    inside = os.path.realpath(source)
    if source.is_dir() and os.path.commonpath([inside, os.path.realpath(out)]) == inside:
        raise UsageError(
            f"{out}: lies in the source {source}, which is never changed. Remedy: choose another place."
        )


def _write(
    source: Source, target: Target, result: Conversion, overlap: Policy, progress: Progress | None
) -> dict[int, str]:
    """Write every picture that can be read; the name of each in the target."""
    names: dict[int, str] = {}
    total = 2 * len(source.pictures)
    for index, picture in enumerate(source.pictures):
        found: list[Problem] = []
        try:
            objects = source.read(index, found)
        except DataError as error:
            message, _, remedy = str(error).partition(" Remedy: ")
            result.left_out.append(
                Problem("error", str(source.path), picture.name, message, remedy, "the picture")
            )
            continue
        result.left_out += [problem for problem in found if problem.left_out]
        flat = objects if target.holds.overlaps else flattened(objects, overlap)
        result.losses += losses(objects, flat, target.holds, picture.name)
        result.objects += len(objects)
        names[index] = target.add(picture, flat)
        result.pictures += 1
        if progress is not None:
            progress(index + 1, total)
    target.finish()
    return names


def _compare(
    source: Source, written: Source, names: dict[int, str], result: Conversion, progress: Progress | None
) -> None:
    """Measure what came through."""
    places = {picture.name: index for index, picture in enumerate(written.pictures)}
    for done, (index, name) in enumerate(names.items(), start=1):
        before = source.read(index, [])
        try:
            if name not in places:
                raise DataError(f"{name}: the format has no place for this picture. Remedy: keep the source.")
            after = written.read(places[name])
            result.written += len(after)
            result.ious += round_trip(before, after).tolist()
        except DataError as error:
            message, _, remedy = str(error).partition(" Remedy: ")
            picture = source.pictures[index].name
            result.left_out.append(Problem("error", result.out, picture, message, remedy, "the picture"))
            result.ious += [0.0] * len(before)
        if progress is not None:
            progress(len(source.pictures) + done, 2 * len(source.pictures))
