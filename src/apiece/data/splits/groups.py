"""Groups of pictures (plate, orchard row, camera, hour), from a table, from file names or from folders."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from apiece.errors import DataError, UsageError

MOST_BYTES = 1 << 28
HEADS = frozenset({"picture", "image", "file", "filename", "file_name", "name", "stem", "path", "id"})


def groups_from_csv(path: str | Path) -> dict[str, str]:
    """A table with a picture's name or stem and its group on each line; a head line such as `picture,group` is skipped.

    Separated by commas, or by semicolons or tabs where the first line has no comma.
    raises  DataError naming the line that isn't such, or that gives a picture another group than an earlier one.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path}: has more than {MOST_BYTES:,} bytes; expected a table of picture and group."
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a readable table ({error}). Remedy: lines of `picture,group`."
        ) from None
    first = text.partition("\n")[0]
    separator = next((mark for mark in ",;\t" if mark in first), ",")
    groups: dict[str, str] = {}
    try:
        for number, row in enumerate(
            csv.reader(text.splitlines(), delimiter=separator, strict=True), start=1
        ):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (number == 1 and cells[0].lower() in HEADS):
                continue
            if len(cells) < 2 or not cells[0] or not cells[1]:
                raise DataError(
                    f"{path}: line {number} is {row!r}; expected a picture and its group. Remedy: `a.png,plate 1`."
                )
            name = PurePosixPath(cells[0].replace("\\", "/")).as_posix()
            if groups.setdefault(name, cells[1]) != cells[1]:
                raise DataError(
                    f"{path}: line {number} puts {name!r} in group {cells[1]!r}, an earlier line in "
                    f"{groups[name]!r}; expected one. Remedy: remove one of them."
                )
    except csv.Error as error:
        raise DataError(
            f"{path}: not a readable table ({error}). Remedy: lines of `picture,group`."
        ) from None
    if not groups:
        raise DataError(f"{path}: holds no picture; expected lines of `picture,group`.")
    return groups


def groups_from_pattern(names: Iterable[str], pattern: str) -> dict[str, str]:
    """The part of each name that a regular expression's group "group", else its first group, finds.

    pattern  such as `plate(\\d+)` or `^(?P<group>.*)_t\\d+`, searched in the name with its folders.
    raises   UsageError if it is none or has no group; DataError naming names that it doesn't fit.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--pattern {pattern!r} is no regular expression ({error}).") from None
    if not compiled.groups:
        raise UsageError(
            f"--pattern {pattern!r} has no group; expected one in parentheses around what tells groups apart, such as "
            "`plate(\\d+)`."
        )
    wanted: str | int = "group" if "group" in compiled.groupindex else 1
    groups: dict[str, str] = {}
    unfit: list[str] = []
    for name in names:
        match = compiled.search(name)
        found = match[wanted] if match else None
        if found:
            groups[name] = found
        else:
            unfit.append(name)
    if unfit:
        raise DataError(
            f"--pattern {pattern!r} finds no group in {len(unfit)} names, first {unfit[0]!r}; expected one in each. "
            "Remedy: widen the pattern."
        )
    return groups


def groups_from_folder(names: Iterable[str], part: int = 0) -> dict[str, str]:
    """The folder of each name: `part` 0 is the first, -1 the one that the picture lies in.

    raises  DataError naming the first picture that has no such folder.
    """
    groups = {}
    for name in names:
        folders = PurePosixPath(name).parts[:-1]
        if not -len(folders) <= part < len(folders):
            raise DataError(
                f"{name!r} has {len(folders)} folders in its name; expected folder number {part} (from 0; -1 is the "
                "last). Remedy: give groups as a table or a pattern."
            )
        groups[name] = folders[part]
    return groups
