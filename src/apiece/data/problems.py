"""Problem: one thing that is wrong in a dataset, named so that someone can go and mend it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apiece.errors import AnnotationError, ApieceError

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do about it.

    severity  "error": strict readers refuse the data; "warning": the data is used as it stands, but probably not
              as meant; "note": nothing is wrong, but worth to know.
    file      the file, as the user named it.
    where     the object or entry inside the file, such as `annotation 41 ("cell")`; "" for the whole file.
    message   what came and what was expected.
    remedy    what to do.
    left_out  what a lenient reader leaves out because of it, such as "the object"; "" for nothing.
    code      a short, stable name of the kind of problem, such as "near-duplicate"; "" for none.
    """

    severity: Severity
    file: str
    where: str
    message: str
    remedy: str
    left_out: str = ""
    code: str = ""

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}: " if self.where else f"{self.file}: "
        return f"{place}{self.message} Remedy: {self.remedy}"


def refuse(problems: Sequence[Problem], hint: str = "") -> None:
    """Raise AnnotationError for the first error among the problems, saying how many more there are.

    hint  what to run for the whole list, such as "`apiece check labels.json` lists them".
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    message = str(errors[0])
    more = len(problems) - 1
    if more:
        message += f" {more} more problem{'s' if more > 1 else ''}" + (f": {hint}." if hint else ".")
    raise AnnotationError(message)


def problem_of(
    error: ApieceError, file: str | Path, left_out: str = "", code: str = "structure", *, where: str = ""
) -> Problem:
    """An error as a problem: of the file at its message's beginning, if there is such, else of `file`."""
    message, _, remedy = str(error).partition(" Remedy: ")
    named = message.partition(": ")[0]
    if not message.startswith(f"{file}: ") and os.path.isfile(named):  # noqa: PTH113 - never raises
        file = named
    message = message.removeprefix(f"{file}: ")
    return Problem("error", str(file), where, message, remedy or "see the message.", left_out, code)
