"""Conversion: one annotation format into another, with a report of what that loses; sources are never changed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from apiece.core.label_image import Policy
from apiece.data.formats import Source, Target, format_of
from apiece.data.losses import Conversion, counterparts, flattened, losses, retold
from apiece.data.problems import Problem, problem_of
from apiece.errors import ConversionError, DataError, UsageError, did_you_mean

Progress = Callable[[int, int], None]
DOCUMENTS = frozenset({".json", ".xml", ".geojson", ".txt", ".csv", ".zip", ".yaml", ".yml"})


class LossError(ConversionError):
    """A conversion that `strict` refused; `conversion` says what would be lost."""

    def __init__(self, message: str, conversion: Conversion) -> None:
        super().__init__(message)
        self.conversion = conversion


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
    raises    UsageError where `out` is taken, or is called as a document that the format isn't; LossError under
              `strict`; DataError where nothing can be read.
    """
    out = Path(out)
    target_format = format_of(to)
    document = target_format.TARGET.document
    alone = document is not None and out.suffix.lower() == Path(document).suffix
    if not alone and out.suffix.lower() in DOCUMENTS:
        other = f" or a file {Path(document).suffix}" if document else ""
        raise UsageError(
            f"{out}: {to} is written as a folder{other}, not as a file {out.suffix}. Remedy: choose another name."
        )
    if overlap not in get_args(Policy) or overlap == "error":
        raise UsageError(f"overlap is {overlap!r}. {did_you_mean(overlap, ('smaller', 'first', 'last'))}")
    _refuse_taken(out, source.path)
    work = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    result = Conversion(name, to, str(out))
    _tell(source.problems, result)
    made = [folder for folder in out.parents if not folder.exists()]  # the innermost first
    try:
        try:
            work.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{out}: cannot be made ({error.strerror}).") from None
        target = target_format.TARGET(work, source.classes)
        target.lent = alone or not pictures  # reading back needs them, as some formats state no sizes
        names = _write(source, target, result, overlap, progress)
        result.notes += target.notes
        _compare(source, target, names, result, progress)
        if target.lent:
            target.return_pictures()
        if strict and not result.lossless:
            result.refused = True
            raise LossError(
                f"{source.path}: not converted, as --strict allows no loss.\n{result.to_text()}", result
            )
        if alone and document is not None:
            (work / document).replace(out)
        else:
            if out.is_dir():
                out.rmdir()
            work.replace(out)
    except DataError as error:
        if str(work) in str(error):  # a name that nobody chose, and that will be gone
            raise type(error)(str(error).replace(str(work), str(out))) from None
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not out.exists():
            _remove_empty(made)
    return result


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # never made, or in use by someone else
            return


def _refuse_taken(out: Path, source: Path) -> None:
    # A link, wherever it leads, would be replaced.
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(
            f"{out}: exists already; expected a new name. Remedy: choose another, nothing is written over."
        )
    inside = os.path.realpath(source)
    if source.is_dir() and os.path.commonpath([inside, os.path.realpath(out)]) == inside:
        raise UsageError(
            f"{out}: lies in the source {source}, which is never changed. Remedy: choose another place."
        )


def _tell(problems: Iterable[Problem], result: Conversion) -> None:
    """What isn't read is left out; what is read in another way than it stands is a note."""
    for problem in problems:
        if problem.left_out:
            result.left_out.append(problem)
        elif problem.code != "no-picture":  # of which the writer says that it isn't copied
            result.notes.append(str(problem))


def _unreadable(error: DataError, file: Path, picture: str) -> Problem:
    problem = problem_of(error, file, "the picture")
    return replace(problem, where=picture, message=problem.message.removeprefix(f"{picture}: "))


def _write(
    source: Source, target: Target, result: Conversion, overlap: Policy, progress: Progress | None
) -> dict[int, str]:
    """Write every picture that can be read; the name of each in the target.

    raises  DataError where something is there and no picture of it can be read.
    """
    names: dict[int, str] = {}
    total = 2 * len(source.pictures)
    for index, picture in enumerate(source.pictures):
        found: list[Problem] = []
        try:
            objects = source.read(index, found)
        except DataError as error:
            result.left_out.append(_unreadable(error, source.file_of(index), picture.name))
            continue
        _tell(found, result)
        flat = objects if target.holds.overlaps else flattened(objects, overlap)
        result.losses += losses(objects, flat, target.holds, picture.name)
        result.objects += len(objects)
        names[index] = target.add(picture, flat)
        result.pictures += 1
        if progress is not None:
            progress(index + 1, total)
    if not names and result.left_out:
        raise DataError(f"{source.path}: none of its pictures can be read. The last: {result.left_out[-1]}")
    target.finish()
    return names


def _compare(
    source: Source, target: Target, names: dict[int, str], result: Conversion, progress: Progress | None
) -> None:
    """Read what was written, and measure what came through."""
    work, out = str(target.folder), result.out
    try:
        written = format_of(result.target).open_source(target.folder, strict=False)
    except DataError:
        if not names:
            raise DataError(
                f"{source.path}: has no picture, and {result.target} is nothing without one. Remedy: add pictures."
            ) from None
        raise
    places = {picture.name: index for index, picture in enumerate(written.pictures)}
    for done, (index, name) in enumerate(names.items(), start=1):
        before, picture = source.read(index, []), source.pictures[index]
        found: list[Problem] = []
        try:
            if name not in places:
                why = "" if picture.path else ", as its file wasn't found"
                raise DataError(
                    f"is passed over by readers of {result.target}{why}. Remedy: keep the source."
                )
            after = written.read(places[name], found)
        except DataError as error:
            problem = _unreadable(error, target.folder, name)
            found.append(replace(problem, where=picture.name))
            result.ious += [0.0] * len(before)
        else:
            ious, pairs = counterparts(before, after)
            result.written += len(after)
            result.ious += ious.tolist()
            result.losses += retold(before, after, pairs, target.holds, picture.name)
        result.left_out += [
            replace(problem, file=problem.file.replace(work, out), message=problem.message.replace(work, out))
            for problem in found
            if problem.left_out
        ]
        if progress is not None:
            progress(len(source.pictures) + done, 2 * len(source.pictures))
