"""Calibration, counting and mask quality as plots, each with its numbers in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apiece.evaluate.report.charts import POINTS, Plot, Scale
from apiece.evaluate.report.markup import (
    Cell,
    Head,
    absent,
    count,
    decimal,
    folded,
    interval,
    interval_in_text,
    name,
    numeric,
    percent,
    safe,
    section,
    table,
)
from apiece.evaluate.report.reading import figure, number, numbers, part, rows, texts, whole, words

QUALITY = (
    ("iou", "IoU", 1, False, True),
    ("boundary_iou", "Boundary IoU", 1, False, False),
    ("area_bias_mean", "Area bias, %", 100, True, True),
    ("area_bias_median", "its median", 100, True, False),
    ("roughness_mean", "Roughness, %", 100, True, False),
    ("roughness_median", "its median", 100, True, False),
)
ROWS = 200  # of a table; --json has all
COUNT_ERRORS = (
    ("MAE", "MAE", 2, False),
    ("RMSE", "RMSE", 2, False),
    ("bias", "Bias", 2, True),
    ("gross", "Gross", 2, False),
    ("relative_bias", "Total, a true object", 3, True),
    ("R2", "R²", 3, False),
)


def calibration(document: Mapping[str, Any]) -> str:
    """Whether a score says how often such a prediction is right."""
    given = part(document, "calibration")
    total = part(given, "total")
    curve = [one for one in rows(total.get("curve")) if figure(one.get("precision")).value is not None]
    if not curve:
        reason = words(part(document, "reasons").get("calibration")) or " ".join(texts(given.get("reasons")))
        return (
            section("calibration", "Do scores say how often they are right?", absent(reason))
            if reason
            else ""
        )
    repair = part(given, "repair")
    cards = [_reliability(curve, repair), _scores(curve)]
    parts = [f'<div class="plots">{"".join(cards)}</div>', _calibration_table(given, total)]
    before, after = figure(repair.get("before")), figure(repair.get("after"))
    if before.value is not None and after.value is not None:
        parts.append(
            f"<p>Isotonic repair, learned on other pictures than it is judged on, takes D-ECE from "
            f"{interval_in_text(before)} to {interval_in_text(after)}, a change of "
            f"{interval_in_text(figure(repair.get('change')), sign=True)}.</p>"
        )
    parts += [f'<p class="dim">{safe(reason)}</p>' for reason in texts(given.get("reasons"))]
    told = []
    if number(given.get("iou")) is not None:
        told.append(f"A prediction is right at IoU ≥ {number(given.get('iou')):g}")
        rule = {
            "coco": "COCO’s matching: a second one on an object is wrong",
            "any": "whether or not another found it",
        }
        told[-1] += f" ({rule.get(words(given.get('matching')), words(given.get('matching')))})."
    if number(given.get("floor")) is not None:
        told.append(f"Predictions of score ≥ {number(given.get('floor')):g} are looked at.")
    return section("calibration", "Do scores say how often they are right?", "".join(parts), " ".join(told))


def _reliability(curve: Sequence[Mapping[str, Any]], repair: Mapping[str, Any]) -> str:
    points = [(number(one.get("score")) or 0.0, figure(one.get("precision"))) for one in curve]
    told = "; ".join(f"score {score:.2f}: {percent(right.value, 0)}" for score, right in points)
    plot = Plot(
        "reliability",
        "Reliability: share of right predictions against score",
        f"Share of predictions that are right, by mean score of a bin: {told}.",
        (0.0, 1.0),
        (0.0, 1.0),
        "score",
        "share that is right",
    )
    drawn = [
        plot.column(
            number(one.get("low")) or 0.0, number(one.get("high")) or 0.0, right.value or 0.0, "bar soft"
        )
        for one, (_, right) in zip(curve, points, strict=True)
    ]
    whiskers = [
        plot.whisker(score, right.low, right.high)
        for score, right in points
        if right.low is not None and right.high is not None
    ]
    fitted = part(repair, "map")
    knots = [
        (x, y)
        for x, y in zip(numbers(fitted.get("scores")), numbers(fitted.get("precision")), strict=False)
        if x is not None and y is not None
    ]
    svg = plot.svg(
        *drawn,
        plot.line([(0, 0), (1, 1)], "ideal"),
        plot.line(knots, "second"),
        *whiskers,
        plot.dots([(score, right.value or 0.0) for score, right in points], 4, "point solid"),
    )
    heads = [
        Head("Score"),
        Head("Predictions", True),
        Head("Mean score", True),
        Head("Right, %", True),
        Head("Mean IoU", True),
    ]
    body = [
        [
            Cell(
                f"{decimal(number(one.get('low')), 2)} to {decimal(number(one.get('high')), 2)}", kind="head"
            ),
            numeric(count(number(one.get("n"))), number(one.get("n"))),
            numeric(decimal(number(one.get("score"))), number(one.get("score"))),
            numeric(interval(right, 1, scale=100), right.value),
            numeric(decimal(number(one.get("iou"))), number(one.get("iou"))),
        ]
        for one, (_, right) in zip(curve, points, strict=True)
    ]
    curve_told = " Orange, dashed: the rising curve that isotonic repair would use." if knots else ""
    return (
        f'<div class="card"><h3>Reliability</h3>{svg}<p class="dim">Below the dashed diagonal scores promise too much, '
        f"above it too little.{curve_told}</p>"
        f"{folded('Numbers', table('Reliability by bins of scores', heads, body))}</div>"
    )


def _scores(curve: Sequence[Mapping[str, Any]]) -> str:
    sizes = [number(one.get("n")) or 0.0 for one in curve]
    told = "; ".join(
        f"{decimal(number(one.get('low')), 2)} to {decimal(number(one.get('high')), 2)}: {count(size)}"
        for one, size in zip(curve, sizes, strict=True)
    )
    plot = Plot(
        "scores",
        "How many predictions have each score",
        f"Predictions by score: {told}.",
        (0.0, 1.0),
        (0.0, max(*sizes, 1.0) * 1.05),
        "score",
        "predictions",
    )
    drawn = [
        plot.column(number(one.get("low")) or 0.0, number(one.get("high")) or 0.0, size)
        for one, size in zip(curve, sizes, strict=True)
    ]
    return (
        f'<div class="card"><h3>Scores</h3>{plot.svg(*drawn)}<p class="dim">Where there are few predictions, '
        "reliability is known poorly.</p></div>"
    )


def _calibration_table(given: Mapping[str, Any], total: Mapping[str, Any]) -> str:
    listed = [("all", total)]
    listed += [(f"size: {words(one.get('size'))}", one) for one in rows(given.get("by_size"))]
    classes = sorted(rows(given.get("by_class")), key=lambda one: -whole(one.get("predictions")))
    if len(classes) > 1:
        listed += [
            (f"class: {words(one.get('name'))}", one) for one in classes if whole(one.get("predictions"))
        ]
    columns = (
        ("d_ece", "D-ECE", False),
        ("la_ece", "LaECE", False),
        ("overconfidence", "Overconfidence", True),
    )
    heads = [Head("Predictions of"), Head("Number", True), *(Head(title, True) for _, title, _ in columns)]
    body = [
        [
            Cell(name(title), title, "head"),
            numeric(count(number(one.get("predictions"))), number(one.get("predictions"))),
            *(
                numeric(interval(figure(one.get(key)), 3, sign), figure(one.get(key)).value)
                for key, _, sign in columns
            ),
        ]
        for title, one in listed[:ROWS]
    ]
    return table("Calibration error", heads, body, sortable=len(body) > 1)


def counting(document: Mapping[str, Any]) -> str:
    """Predicted against true counts, and the error against how full a picture is."""
    images = rows(document.get("images"))
    pairs = [(whole(one.get("true")), whole(one.get("predicted"))) for one in images]
    if not pairs:
        return ""
    given = part(document, "counting")
    bins = rows(given.get("density"))
    parts = [f'<div class="plots">{_scatter(pairs)}{_density(pairs, bins)}</div>', _count_errors(given)]
    parts += [f'<p class="dim">{safe(reason)}</p>' for reason in texts(given.get("reasons"))]
    return section("counting", "Counts of pictures", "".join(parts))


def _count_errors(given: Mapping[str, Any]) -> str:
    listed = [(label, figure(given.get(key)), digits, sign) for key, label, digits, sign in COUNT_ERRORS]
    games = given.get("GAME")
    if isinstance(games, list | tuple):
        listed += [(f"GAME({level})", figure(one), 2, False) for level, one in enumerate(games)]
    listed = [one for one in listed if one[1].value is not None]
    if not listed:
        return ""
    heads = [Head("Error"), *(Head(label, True) for label, *_ in listed)]
    cells = [Cell("a picture", kind="head")]
    cells += [numeric(interval(told, digits, sign), told.value) for _, told, digits, sign in listed]
    shown = table("Errors of the count", heads, [cells], wide="dense")
    classes = [one for one in rows(given.get("by_class")) if whole(one.get("images"))]
    if len(classes) < 2:
        return shown
    heads = [Head("Class"), Head("Pictures", True), Head("True", True), Head("Predicted", True)]
    heads += [Head("Mean error, signs dropped", True), Head("Mean error", True)]
    body = []
    for one in sorted(classes, key=lambda one: -whole(one.get("true")))[:ROWS]:
        title, mae, bias = words(one.get("name")), figure(one.get("MAE")), figure(one.get("bias"))
        cells = [Cell(name(title), title, "head")]
        cells += [
            numeric(count(number(one.get(key))), number(one.get(key)))
            for key in ("images", "true", "predicted")
        ]
        cells += [numeric(interval(mae, 2), mae.value), numeric(interval(bias, 2, sign=True), bias.value)]
        body.append(cells)
    return shown + folded("By class", table("Errors of the count by class", heads, body, sortable=True))


def _sampled(pairs: Sequence[tuple[float, float]]) -> tuple[Sequence[tuple[float, float]], str]:
    if len(pairs) <= POINTS:
        return pairs, ""
    drawn = np.random.default_rng(0).choice(len(pairs), POINTS, replace=False)
    return [
        pairs[i] for i in sorted(drawn.tolist())
    ], f" Drawn are {POINTS:,} of {len(pairs):,} pictures at random."


def _scatter(pairs: Sequence[tuple[int, int]]) -> str:
    most = max(1, *(max(pair) for pair in pairs))
    exact = sum(a == b for a, b in pairs)
    over = sum(b > a for a, b in pairs)
    under = len(pairs) - exact - over
    told = f"{len(pairs):,} pictures: {exact:,} counted exactly, {over:,} too high, {under:,} too low."
    plot = Plot(
        "scatter",
        "Predicted against true count of each picture",
        told,
        (0, most * 1.04),
        (0, most * 1.04),
        "true objects",
        "predicted",
    )
    shown, note = _sampled(pairs)
    drawing = plot.svg(plot.line([(0, 0), (most, most)], "ideal"), plot.dots(shown))
    return (
        f'<div class="card"><h3>Predicted against true</h3>{drawing}<p class="dim">A point a picture; on the dashed '
        f"line counts agree. {told}{note}</p></div>"
    )


def _density(pairs: Sequence[tuple[int, int]], bins: Sequence[Mapping[str, Any]]) -> str:
    true = np.array([a for a, _ in pairs], np.float64)
    error = np.array([b - a for a, b in pairs], np.float64)
    low, high = min(-1.0, float(error.min())), max(1.0, float(error.max()))
    room = 0.06 * (high - low)
    groups = [
        (_range(one), whole(one.get("images")), middle, bias)
        for one in bins
        if (middle := number(one.get("true"))) is not None
        and (bias := figure(one.get("bias"))).value is not None
    ]
    told = "; ".join(
        f"{label} objects ({size:,} pictures): {interval_in_text(bias, 1, sign=True)}"
        for label, size, _, bias in groups
    )
    plot = Plot(
        "density",
        "Error of the count against how full a picture is",
        f"Mean error by true count: {told}." if told else "A point a picture.",
        (0, max(1.0, float(true.max())) * 1.04),
        (low - room, high + room),
        "true objects",
        "predicted − true",
    )
    shown, note = _sampled(list(zip(true.tolist(), error.tolist(), strict=True)))
    trend = [(middle, bias.value or 0.0) for _, _, middle, bias in groups]
    whiskers = [
        plot.whisker(middle, bias.low, bias.high)
        for _, _, middle, bias in groups
        if bias.low is not None and bias.high is not None
    ]
    drawing = plot.svg(
        plot.line([(0, 0), (plot.x[1], 0)], "ideal"),
        plot.dots(shown),
        plot.line(trend, "second"),
        *whiskers,
        plot.dots(trend, 4, "second-point"),
    )
    heads = [Head("True objects"), Head("Pictures", True), Head("Mean error", True)]
    body = [
        [
            Cell(label, kind="head"),
            numeric(count(size), size),
            numeric(interval(bias, 2, sign=True), bias.value),
        ]
        for label, size, _, bias in groups
    ]
    means = "; orange: the mean error of pictures that hold about as many objects" if groups else ""
    folds = folded("Numbers", table("Mean error by true count", heads, body)) if groups else ""
    return (
        f'<div class="card"><h3>Error against density</h3>{drawing}<p class="dim">A point a picture{means}.{note}</p>'
        f"{folds}</div>"
    )


def _range(one: Mapping[str, Any]) -> str:
    low, high = whole(one.get("low")), whole(one.get("high"))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def quality(document: Mapping[str, Any]) -> str:
    """How well found objects are outlined, and which way outlines err."""
    given = part(document, "quality")
    total = part(given, "total")
    title = "How good the outlines are"
    if not whole(total.get("pairs")):
        reason = words(part(document, "reasons").get("quality")) or " ".join(texts(given.get("reasons")))
        return section("quality", title, absent(reason)) if reason else ""
    listed = [("all", total)]
    listed += [(f"size: {words(one.get('size'))}", one) for one in rows(given.get("by_size"))]
    classes = sorted(rows(given.get("by_class")), key=lambda one: -whole(one.get("pairs")))
    if len(classes) > 1:
        listed += [(f"class: {words(one.get('name'))}", one) for one in classes]
    listed = [(label, one) for label, one in listed if whole(one.get("pairs"))][:ROWS]
    columns = [
        column for column in QUALITY if any(figure(one.get(column[0])).value is not None for _, one in listed)
    ]
    scales = {key: Scale.of(figure(one.get(key)) for _, one in listed) for key, *_ in columns}
    heads = [Head("Objects"), Head("Pairs", True)]
    for _, label, _, _, drawn in columns:
        heads += [Head(label, True), Head("")][: 1 + drawn]
    body = []
    for label, one in listed:
        cells = [
            Cell(name(label), label, "head"),
            numeric(count(number(one.get("pairs"))), number(one.get("pairs"))),
        ]
        for key, _, factor, sign, drawn in columns:
            told = figure(one.get(key))
            cells.append(numeric(interval(told, 1 if factor == 100 else 3, sign, factor), told.value))
            if drawn:
                cells.append(Cell(scales[key].dot(told), kind="chart"))
        body.append(cells)
    parts = [table("Quality of outlines", heads, body, sortable=len(body) > 1)]
    parts += [f'<p class="dim">{safe(reason)}</p>' for reason in texts(given.get("reasons"))]
    lead = (
        "Of objects found one to one (matched or loose). Area bias above 0: outlines are too large. Roughness above 0: "
        "they are longer than the true ones for their area."
    )
    return section("quality", title, "".join(parts), lead)
