"""Markup: text made safe for the page, and numbers as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from apiece.evaluate.report.reading import Figure

NONE = "–"
LONG = 14  # rows beyond which a table scrolls by itself
# What would hide or reorder text: controls, and marks that turn the direction of writing.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")


def safe(text: str) -> str:
    """Text from a file, for an element or a quoted attribute: escaped, and every control and surrogate shown as �."""
    return escape(CONTROLS.sub("\ufffd", text), quote=True)


def name(text: str) -> str:
    """A name from a file, cut off from the direction of the text around it."""
    return f"<bdi>{safe(text)}</bdi>"


def embedded(document: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can close that, or open a comment."""
    text = json.dumps(_plain(document), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(given: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(given, dict):
        return {str(key): _plain(value) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [_plain(value) for value in given]
    if isinstance(given, float) and given - given != 0:
        return None
    return given


def count(given: float | None) -> str:
    """A number of objects."""
    return NONE if given is None else f"{given:,.0f}".replace("-", "−")


def signed(given: float | None, digits: int = 0) -> str:
    """A number with its sign; no sign for what rounds to 0."""
    if given is None:
        return NONE
    told = f"{given:+,.{digits}f}"
    return told[1:] if not float(told.replace(",", "")) else told.replace("-", "−")


def decimal(given: float | None, digits: int = 3) -> str:
    """A number of so many digits after the point."""
    if given is None:
        return NONE
    told = f"{given:,.{digits}f}"
    return told.replace("-", "−") if float(told.replace(",", "")) else told.replace("-", "")


def percent(given: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return NONE if given is None else f"{decimal(100 * given, digits)}\u00a0%"


def short(given: float | None) -> str:
    """A number of about three digits, whatever its size."""
    if given is None:
        return NONE
    size = abs(given)
    return decimal(given, 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 or not size else 3)


def interval(given: Figure, digits: int = 3, sign: bool = False, scale: float = 1) -> str:
    """A figure and its interval; the latter small, left out where it isn't known."""
    told = _told(given.value, digits, sign, scale)
    if given.value is None or not given.has_interval:
        return f'<span class="value">{told}</span>'
    low, high = _told(given.low, digits, sign, scale), _told(given.high, digits, sign, scale)
    return f'<span class="value">{told}</span> <span class="range">{low} to {high}</span>'


def interval_in_text(given: Figure, digits: int = 3, sign: bool = False) -> str:
    """The same as plain text, for a sentence."""
    told = _told(given.value, digits, sign, 1)
    if given.value is None or not given.has_interval:
        return told
    return f"{told} ({_told(given.low, digits, sign, 1)} to {_told(given.high, digits, sign, 1)})"


def _told(given: float | None, digits: int, sign: bool, scale: float) -> str:
    scaled = None if given is None else given * scale
    return signed(scaled, digits) if sign else decimal(scaled, digits)


class Cell(NamedTuple):
    """A cell: its markup, what it sorts by (None: its text), and whether it is a number or names its row."""

    html: str
    sort: float | str | None = None
    kind: str = ""  # "number", "head" or ""


def numeric(html: str, sort: float | None) -> Cell:
    """A cell of a number."""
    return Cell(html, sort, "number")


class Head(NamedTuple):
    """A column's head: its text, whether it holds numbers, and what explains it."""

    text: str
    number: bool = False
    html: str = ""  # below the text, such as an axis


def table(
    caption: str,
    heads: Sequence[Head],
    body: Iterable[Sequence[Cell]],
    *,
    sortable: bool = False,
    foot: Sequence[Cell] = (),
    row_attributes: Sequence[str] = (),
    wide: str = "",
) -> str:
    """A table in a box that scrolls by itself, so that the page doesn't.

    caption  for everyone; a table needs a name.
    """
    columns = []
    for head in heads:
        label = safe(head.text)
        if sortable and head.text:
            label = f'<button type="button" class="sort">{label}<span class="arrow" aria-hidden="true"></span></button>'
        sort = ' aria-sort="none"' if sortable and head.text else ""
        kind = ' class="number"' if head.number else ""
        columns.append(f'<th scope="col"{kind}{sort}>{label}{head.html}</th>')
    lines = []
    for place, cells in enumerate(body):
        attributes = f" {row_attributes[place]}" if row_attributes else ""
        lines.append(f"<tr{attributes}>{''.join(_cell(cell) for cell in cells)}</tr>")
    footer = f"<tfoot><tr>{''.join(_cell(cell) for cell in foot)}</tr></tfoot>" if foot else ""
    sorts = " data-sortable" if sortable else ""
    kind = f' class="{wide}"' if wide else ""
    long = " long" if len(lines) > LONG else ""
    return (
        f'<div class="scroll{long}" role="region" aria-label="{safe(caption)}" tabindex="0"><table{sorts}{kind}>'
        f"<caption>{safe(caption)}</caption><thead><tr>{''.join(columns)}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody>{footer}</table></div>"
    )


def _cell(cell: Cell) -> str:
    sort = "" if cell.sort is None else f' data-sort="{safe(str(cell.sort))}"'
    if cell.kind == "head":
        return f'<th scope="row"{sort}>{cell.html}</th>'
    kind = f' class="{cell.kind}"' if cell.kind else ""
    return f"<td{kind}{sort}>{cell.html}</td>"


def section(key: str, title: str, body: str, lead: str = "") -> str:
    """A part of the page, which the contents list links to.

    body  markup.
    lead  plain text.
    """
    intro = f'<p class="lead">{safe(lead)}</p>' if lead else ""
    head = f'<h2 id="{key}-title">{safe(title)}</h2>'
    return f'<section id="{key}" aria-labelledby="{key}-title">{head}{intro}{body}</section>'


def absent(reason: str) -> str:
    """Why a part isn't there."""
    return f'<p class="absent">Not known: {safe(reason)}</p>'


def folded(summary: str, body: str) -> str:
    """What most readers pass over."""
    return f"<details><summary>{safe(summary)}</summary>{body}</details>"
