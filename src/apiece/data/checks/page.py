"""The report as one HTML file: no script, nothing fetched, light and dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from apiece.data.checks.charts import bars
from apiece.data.checks.drawing import draw_plain, draw_spot
from apiece.data.checks.report import Report
from apiece.data.problems import Problem
from apiece.errors import DataError

DRAWINGS = 4  # of a kind of problem
ALL_DRAWINGS = 60  # of a page, some 30 kB each
PAIRS = 24  # of duplicates that are shown
LISTED = 1000  # problems of a kind; --json has all
CLASSES = 200

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5b6675; --ground: #fafbfc; --card: #ffffff; --line: #d9dfe6;
  --error: #b3123a; --warning: #8a5a00; --note: #29609b; --bar: #4b7fb8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --dim: #9aa6b4; --ground: #12161c; --card: #1a2029;
  --line: #313b48; --error: #ff7b96; --warning: #f0b954; --note: #84b8f0; --bar: #5f97d3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 0 0 .3rem; }
.tiles, .charts, .drawings { display: grid; gap: .8rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
.drawings { grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); margin-top: .6rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem;
  margin-bottom: .8rem; min-width: 0; }
.tiles .card { margin: 0; } .tiles b { display: block; font-size: 1.5rem; } .dim, figcaption { color: var(--dim); }
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
figure { margin: 0; } figcaption { font-size: .8rem; } img { width: 100%; height: auto; border-radius: .3rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid var(--line);
  min-width: 6rem; } td.number, th.number { text-align: right; }
summary { cursor: pointer; } svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif;
  fill: var(--ink); text-anchor: middle; } svg .edge { fill: var(--dim); } .bar { fill: var(--bar); }
.mark { stroke: var(--error); stroke-width: 2; stroke-dasharray: 4 3; }
"""


def write_page(report: Report, path: str | Path) -> None:
    """Write the report as one HTML file; pictures of the worst are inside, so it can be sent on.

    raises  DataError where the file can't be written.
    """
    text = page_of(report)
    try:
        Path(path).write_text(text, encoding="utf-8", errors="replace")  # of file names that are no UTF-8
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}). Remedy: does its folder exist?"
        ) from None


def page_of(report: Report) -> str:
    """The page as text."""
    title = f"Check of {escape(report.path)}"
    body = [
        f"<h1>{title}</h1>",
        _tiles(report),
        _splits(report),
        _charts(report.statistics),
        _classes(report.statistics),
        _duplicates(report),
        _problems(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(body)}"
        '<p class="dim">Written by apiece check; no data was changed.</p></body></html>\n'
    )


def _tiles(report: Report) -> str:
    numbers = (
        ("pictures", report.images, ""),
        ("objects", report.objects, ""),
        ("errors", len(report.errors), "error" if report.errors else ""),
        ("warnings", len(report.warnings), "warning" if report.warnings else ""),
        ("notes", len(report.notes), ""),
    )
    cards = "".join(
        f'<div class="card"><b class="{kind}">{number:,}</b>{name}</div>' for name, number, kind in numbers
    )
    return f'<div class="tiles">{cards}</div>'


def _splits(report: Report) -> str:
    if len(report.splits) < 2:
        return ""
    rows = [(name, numbers["pictures"], numbers["objects"]) for name, numbers in report.splits.items()]
    return f"<h2>Splits</h2>{_table(('split', 'pictures', 'objects'), rows)}"


def _charts(statistics: Mapping[str, Any]) -> str:
    shown = (
        ("Object sizes", "object_size", "pixels, square root of the area"),
        ("Object sizes in the network's input", "object_size_in_input", "pixels of the input"),
        ("Objects in a picture", "objects_per_picture", "objects"),
    )
    cards = []
    for title, key, unit in shown:
        held = statistics.get(key)
        if held is None or held["median"] is None:
            continue
        chart = bars(title, held["edges"], held["counts"], unit, held.get("limit"))
        spread = (
            f"median {held['median']:g}; 90 % from {held['p5']:g} to {held['p95']:g}; at most {held['max']:g}"
        )
        cards.append(
            f'<div class="card"><h3>{escape(title)}</h3>{chart}<span class="dim">{spread}</span></div>'
        )
    return f'<h2>Sizes and numbers</h2><div class="charts">{"".join(cards)}</div>' if cards else ""


def _classes(statistics: Mapping[str, Any]) -> str:
    classes = statistics.get("classes", [])
    rows = [(one["name"], one["objects"], one["pictures"]) for one in classes[:CLASSES]]
    more = f'<p class="dim">and {len(classes) - CLASSES} more</p>' if len(classes) > CLASSES else ""
    return f"<h2>Classes</h2>{_table(('class', 'objects', 'pictures'), rows)}{more}" if rows else ""


def _duplicates(report: Report) -> str:
    cards = []
    # Those across splits first, as they make figures too good.
    for double in sorted(report.duplicates, key=lambda one: one.splits[0] == one.splits[1])[:PAIRS]:
        pair = "".join(
            f'<img alt="" src="{uri}">'
            for spot in double.spots
            if (uri := draw_plain(report.sources[spot.source], spot)) is not None
        )
        what = "equal files" if double.exact else f"correlation {double.correlation:.3f}"
        what += f", {double.turn}" if double.turn else ""
        splits = f"; {' and '.join(double.splits)}" if double.splits[0] != double.splits[1] else ""
        names = f"{escape(double.picture)} and {escape(double.other)}"
        cards.append(
            f'<figure class="card"><div class="pair">{pair}</div><figcaption>{names}: {escape(what + splits)}'
            "</figcaption></figure>"
        )
    count = len(report.duplicates)
    more = f" The first {PAIRS} are shown." if count > PAIRS else ""
    head = f"<h2>Pictures that occur twice</h2><p>{count:,} pairs.{more}</p>"
    return f'{head}<div class="charts">{"".join(cards)}</div>' if cards else ""


def _problems(report: Report) -> str:
    left = ALL_DRAWINGS
    cards = []
    for places in report.groups():
        first = report.problems[places[0]]
        figures = []
        if not first.code.startswith(("duplicate", "near-duplicate")):
            figures = _figures(report, places, min(DRAWINGS, left))
            left -= len(figures)
        rows = "".join(_row(report.problems[i]) for i in places[:LISTED])
        more = (
            f'<p class="dim">and {len(places) - LISTED:,} more; --json lists all.</p>'
            if len(places) > LISTED
            else ""
        )
        kind = escape(first.code or "structure")
        cards.append(
            f'<section class="card"><h3><span class="{first.severity}">{first.severity}</span> {kind}: '
            f"{len(places):,}</h3><p>{escape(str(first))}</p>"
            f'<div class="drawings">{"".join(figures)}</div>'
            f"<details><summary>all {len(places):,}</summary>"
            '<div class="table"><table><thead><tr><th>file</th><th>where</th><th>what</th><th>remedy</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>{more}</details></section>"
        )
    return f"<h2>Problems</h2>{''.join(cards)}" if cards else "<h2>Problems</h2><p>None.</p>"


def _figures(report: Report, places: list[int], most: int) -> list[str]:
    figures: list[str] = []
    seen: set[tuple[int, int]] = set()
    for i in places:
        spot = report.spots[i]
        if len(figures) >= most:
            break
        if spot is None or spot[:2] in seen:
            continue
        seen.add(spot[:2])  # one a picture, so that different ones are seen
        source = report.sources[spot.source]
        uri = draw_spot(source, spot)
        if uri is not None:
            problem = report.problems[i]
            name = source.pictures[spot.picture].name + (f": {problem.where}" if problem.where else "")
            figures.append(
                f'<figure><img alt="" src="{uri}"><figcaption>{escape(name)}</figcaption></figure>'
            )
    return figures


def _row(problem: Problem) -> str:
    left = f" {problem.left_out} is left out." if problem.left_out else ""
    cells = (problem.file, problem.where, problem.message + left, problem.remedy)
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _table(heads: tuple[str, ...], rows: list[tuple[str, int, int]]) -> str:
    head = "".join(f"<th{' class=number' if i else ''}>{escape(one)}</th>" for i, one in enumerate(heads))
    body = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{a:,}</td><td class="number">{b:,}</td></tr>'
        for name, a, b in rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
