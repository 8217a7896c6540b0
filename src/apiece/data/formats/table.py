"""The formats as a table, for the command line and the docs."""

from __future__ import annotations

from typing import NamedTuple

from apiece.data.formats import FORMATS, format_of

HEAD = (
    "format",
    "holes",
    "parts",
    "overlaps",
    "classes",
    "crowd",
    "tracks",
    "scores",
    "boxes alone",
    "order",
    "most",
)


class Line(NamedTuple):
    """A format: its name, title and layout, and what it holds, in words, in the order of HEAD."""

    name: str
    title: str
    layout: str
    cells: tuple[str, ...]


def table() -> list[Line]:
    """All formats in the order of FORMATS."""
    lines = []
    for name in FORMATS:
        known = format_of(name)
        holds = known.TARGET.holds
        flags = (holds.classes, holds.crowd, holds.track_ids, holds.scores, holds.boxes_only)
        cells = (
            "yes" if holds.holes else "filled",
            "yes" if holds.parts == "kept" else "joined",
            "yes" if holds.overlaps else "no",
            *("yes" if flag else "no" for flag in flags),
            "kept" if holds.order == "kept" else "by class",
            f"{holds.most:,}" if holds.most else "any",
        )
        lines.append(Line(name, known.TITLE, known.LAYOUT, cells))
    return lines


def markdown() -> str:
    """What each format holds, and where its files lie, as two tables for docs/reference/formats.md."""
    rows = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    rows += ["| " + " | ".join((f"`{line.name}`", *line.cells)) + " |" for line in table()]
    rows += ["", "| format | | layout |", "| --- | --- | --- |"]
    rows += [f"| `{line.name}` | {line.title} | {line.layout} |" for line in table()]
    return "\n".join(rows)
