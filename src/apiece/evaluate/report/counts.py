"""The verdict, the count, and the ledger that adds up to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiece.evaluate.ledger import KINDS
from apiece.evaluate.report.charts import Scale, waterfall
from apiece.evaluate.report.markup import (
    Cell,
    Head,
    absent,
    count,
    decimal,
    interval,
    name,
    numeric,
    percent,
    safe,
    section,
    signed,
    table,
)
from apiece.evaluate.report.reading import Figure, figure, number, part, rows, texts, whole, words

PER_PICTURE = (
    ("MAE", "mean, signs dropped (MAE)"),
    ("RMSE", "root mean square (RMSE)"),
    ("bias", "mean (bias)"),
)
CLASSES = 300  # rows of a table; --json has all


def verdict(document: Mapping[str, Any]) -> str:
    """Three sentences."""
    told = texts(document.get("verdict"))
    if not told:
        return ""
    items = "".join(f"<li>{safe(sentence)}</li>" for sentence in told)
    return section("verdict", "Verdict", f'<ol class="verdict">{items}</ol>')


def counted(document: Mapping[str, Any]) -> str:
    """True, predicted, net, too many, too few, gross."""
    given = part(document, "count")
    if not given:
        reason = words(part(document, "reasons").get("count"))
        return section("count", "Count", absent(reason)) if reason else ""
    true, predicted = whole(given.get("true")), whole(given.get("predicted"))
    more, fewer = whole(given.get("too_many")), whole(given.get("too_few"))
    net = predicted - true
    share = percent(abs(net) / true) if true else "no true objects"
    gross = percent((more + fewer) / true) if true else ""
    tiles = [
        ("true objects", f"{true:,}", "in the ground truth", "truth"),
        ("predicted", f"{predicted:,}", "counted at the operating point", "predicted"),
        ("net error", signed(net), share if net else "as many as there are", ""),
        ("too many", f"{more:,}", "counted again or without an object", "more"),
        ("too few", f"{fewer:,}", "missed, or one for several", "less"),
        ("gross error", f"{more + fewer:,}", f"nothing cancels{'; ' + gross if gross else ''}", ""),
    ]
    cards = "".join(
        f'<div class="tile {tone}"><dt>{title}</dt><dd><b>{value}</b><span>{note}</span></dd></div>'
        for title, value, note, tone in tiles
    )
    errors = "".join(
        f"<div><dt>{label}</dt><dd>{signed(value, 2) if key == 'bias' else decimal(value, 2)}</dd></div>"
        for key, label in PER_PICTURE
        if (value := number(given.get(key))) is not None
    )
    beside = (
        f'<div class="card"><h3>Errors of a picture’s count</h3><dl>{errors}</dl></div>' if errors else ""
    )
    chart = f'<div class="card wide-chart">{waterfall(true, more, fewer, predicted)}</div>'
    return section(
        "count",
        "Count",
        f'<dl class="tiles">{cards}</dl><div class="beside">{chart}{beside}</div>',
    )


def ledger_table(document: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """Every kind with its objects, its share of the net error, and what it costs."""
    given = part(document, "ledger")
    if not given:
        return ""
    costs = {words(one.get("kind")): one for one in rows(part(document, "costs").get("kinds"))}
    contributions = {kind: Figure(number(part(given, kind).get("signed"))) for kind in KINDS}
    scale = Scale.of(contributions.values())
    heads = [
        Head("Kind"),
        Head("True objects", True),
        Head("Predictions", True),
        Head("To the count", True),
        Head(""),
    ]
    if costs:
        heads += [Head("AP50 if repaired", True), Head("Count if repaired", True)]
    body, attributes = [], []
    sums = [0, 0, 0]
    for kind in KINDS:
        one = part(given, kind)
        truth, predictions, contribution = (
            whole(one.get("truth")),
            whole(one.get("prediction")),
            whole(one.get("signed")),
        )
        sums = [a + b for a, b in zip(sums, (truth, predictions, contribution), strict=True)]
        none = not truth and not predictions
        tone = "more" if contribution > 0 else "less"
        cells = [
            Cell(_kind(kind, meanings.get(kind, ""), none), kind, "head"),
            numeric(count(truth), truth),
            numeric(count(predictions), predictions),
            numeric(signed(contribution), contribution),
            Cell(scale.bar(contributions[kind], tone) if contribution else "", kind="chart"),
        ]
        if costs:
            cost = costs.get(kind, {})
            gain, change = figure(cost.get("AP50")), figure(cost.get("count"))
            cells += [
                numeric(interval(gain, 3, sign=True), gain.value),
                numeric(interval(change, 0, sign=True), change.value),
            ]
        body.append(cells)
        attributes.append('class="none"' if none else "")
    total = part(document, "count")
    net = whole(total.get("predicted")) - whole(total.get("true"))
    foot = [
        Cell("All", kind="head"),
        numeric(count(sums[0]), None),
        numeric(count(sums[1]), None),
        numeric(f"<b>{signed(sums[2])}</b>", None),
        Cell(""),
    ] + [Cell("")] * (2 if costs else 0)
    adds = (
        f"The contributions add up to {signed(sums[2])}, which is predicted less true: the ledger reconciles."
        if sums[2] == net
        else f"The contributions add up to {signed(sums[2])}, but predicted less true is {signed(net)}: "
        "this document does not reconcile."
    )
    crowd = whole(part(given, "ignored").get("truth"))
    if crowd:
        adds += (
            f" True objects of kind ignored ({crowd:,}) are crowd regions, which are no objects of the count."
        )
    lead = (
        "Every true object and every prediction has exactly one entry. What a kind adds to the count is its "
        "predictions less its true objects."
    )
    shown = table("The ledger of failures", heads, body, foot=foot, row_attributes=attributes, wide="ledger")
    return section("ledger", "Ledger", f"{shown}<p>{adds}</p>{_by_class(document)}", lead)


def _kind(kind: str, meaning: str, none: bool) -> str:
    title = f'<a href="#kind-{kind}">{kind}</a>' if not none else f"<span>{kind}</span>"
    only = (
        ""
        if none
        else f'<button type="button" class="only scripted" data-only="{kind}" aria-pressed="false" '
        f'aria-label="Show only pictures of {kind}">filter</button>'
    )
    return f'<span class="kind-name">{title}{only}</span><span class="meaning">{safe(meaning)}</span>'


def _by_class(document: Mapping[str, Any]) -> str:
    classes = rows(document.get("by_class"))
    if len(classes) < 2:
        return ""
    kinds = [kind for kind in KINDS if any(_sides(one, kind) != (0, 0) for one in classes)]
    known = [one for one in classes if whole(one.get("true")) or whole(one.get("predicted"))]
    heads = [Head("Class"), Head("True", True), Head("Predicted", True), Head("Net", True)]
    heads += [Head(kind, True) for kind in kinds]
    body = []
    for one in sorted(known, key=lambda one: -whole(one.get("true")))[:CLASSES]:
        title, true, predicted = words(one.get("name")), whole(one.get("true")), whole(one.get("predicted"))
        cells = [
            Cell(name(title), title, "head"),
            numeric(count(true), true),
            numeric(count(predicted), predicted),
            numeric(signed(predicted - true), predicted - true),
        ]
        for kind in kinds:
            truth, prediction = _sides(one, kind)
            shown = truth if truth == prediction else f"{truth:,} / {prediction:,}"
            cells.append(
                numeric(
                    str(shown) if truth or prediction else '<span class="zero">0</span>', truth + prediction
                )
            )
        body.append(cells)
    left = len(known) - len(body)
    empty = len(classes) - len(known)
    notes = ["A kind's two numbers are true objects / predictions; one number stands for both."]
    if left:
        notes.append(f"{left:,} more classes are in the JSON document.")
    if empty:
        notes.append(f"{empty:,} classes have neither true objects nor predictions.")
    return (
        f"<h3>By class</h3>{table('The ledger by class', heads, body, sortable=True, wide='dense')}"
        f'<p class="dim">{" ".join(notes)}</p>'
    )


def _sides(one: Mapping[str, Any], kind: str) -> tuple[int, int]:
    """True objects and predictions of a kind, whichever form the ledger of a class or picture has."""
    entry = part(one, "ledger").get(kind)
    if isinstance(entry, Mapping):
        return whole(entry.get("truth")), whole(entry.get("prediction"))
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return whole(entry[0]), whole(entry[1])
    return 0, 0


def pictures_table(document: Mapping[str, Any], most: int = 100) -> str:
    """The pictures whose counts are furthest off, entry by entry."""
    given = rows(document.get("images"))

    def gross(one: Mapping[str, Any]) -> int:
        return whole(one.get("too_many")) + whole(one.get("too_few"))

    worst = sorted((one for one in given if gross(one)), key=lambda one: -gross(one))
    if not given:
        return ""
    if not worst:
        return "<p>No picture has an error of the count.</p>"
    heads = [
        Head("Picture"),
        Head("True", True),
        Head("Predicted", True),
        Head("Net", True),
        Head("Too many", True),
        Head("Too few", True),
        Head("Gross", True),
        Head("What fails"),
    ]
    body, attributes = [], []
    for one in worst[:most]:
        title, true, predicted = words(one.get("name")), whole(one.get("true")), whole(one.get("predicted"))
        fails = sorted(
            ((max(_sides(one, kind)), kind) for kind in KINDS if kind not in ("matched", "ignored")),
            key=lambda pair: -pair[0],
        )
        told = ", ".join(f"{size:,} {kind}" for size, kind in fails if size)
        body.append(
            [
                Cell(name(title), title, "head"),
                numeric(count(true), true),
                numeric(count(predicted), predicted),
                numeric(signed(predicted - true), predicted - true),
                numeric(count(whole(one.get("too_many"))), whole(one.get("too_many"))),
                numeric(count(whole(one.get("too_few"))), whole(one.get("too_few"))),
                numeric(count(gross(one)), gross(one)),
                Cell(told, kind="text"),
            ]
        )
        attributes.append(f'data-name="{safe(title.lower())}"')
    more = f"; the first {most} of {len(worst):,} are listed" if len(worst) > most else ""
    note = f'<p class="dim">{len(worst):,} of {len(given):,} pictures have an error of the count{more}.</p>'
    return (
        table("Pictures by gross error of the count", heads, body, sortable=True, row_attributes=attributes)
        + note
    )
