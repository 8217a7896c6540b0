"""Causes of misses, costs, options and slices: tables whose bars share a scale, so that rows can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apiece.evaluate.kinds import ERRORS
from apiece.evaluate.report.charts import Scale
from apiece.evaluate.report.markup import (
    NONE,
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
    signed,
    table,
)
from apiece.evaluate.report.reading import Figure, figure, number, part, rows, texts, whole, words

SLICES = 300  # rows; --json has all
MEASURES = {
    "MAE": ("mean |count error|", 2),
    "mae": ("mean |count error|", 2),
    "bias": ("count bias", 2),
    "gross": ("gross error", 2),
    "AP": ("AP", 3),
    "AP50": ("AP50", 3),
    "ap": ("AP", 3),
    "cost": ("cost", 2),
}
PRECISIONS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "AP, small",
    "APm": "AP, medium",
    "APl": "AP, large",
    "AR100": "AR, 100 at most",
    "AP_uncapped": "AP, no cap",
}
BEYOND = {
    "predict_lower": "Needs candidates of lower score",
    "cap": "Needs a higher cap",
    "retrain": "Needs training",
    "resolution": "Needs more pixels",
    "relabel": "Needs labels",
}


def causes(document: Mapping[str, Any]) -> str:
    """Why true objects are missed."""
    given = part(document, "causes")
    found = rows(given.get("causes"))
    if not found:
        return _left_out(document, "causes", "Why objects are missed")
    total = whole(given.get("total"))
    shares = [Figure(number(one.get("share"))) for one in found]
    scale = Scale(0, max((share.value or 0 for share in shares), default=0) or 1)
    body = [
        [
            Cell(
                f'{safe(words(one.get("cause")))}<span class="meaning">{safe(words(one.get("definition")))}</span>',
                kind="head",
            ),
            numeric(count(number(one.get("missed"))), number(one.get("missed"))),
            numeric(percent(share.value), share.value),
            Cell(scale.bar(share), kind="chart"),
            Cell("seen in a candidate" if one.get("seen") else _likely(one), kind="text"),
        ]
        for one, share in zip(found, shares, strict=True)
        if whole(one.get("missed"))
    ]
    if not body:
        return section("causes", "Why objects are missed", "<p>No object is missed.</p>")
    heads = [Head("Cause"), Head("Missed", True), Head("Share", True), Head(""), Head("How it is known")]
    never = [safe(words(one.get("cause"))) for one in found if not whole(one.get("missed"))]
    rest = f'<p class="dim">No miss has the cause: {"; ".join(never)}.</p>' if never else ""
    rest += f"<p>{safe(words(given.get('note')))}</p>" if given.get("note") else ""
    lead = f"{total:,} objects are missed. Each has one likely cause, the first that applies."
    return section(
        "causes",
        "Why objects are missed",
        table("Likely causes of misses", heads, body, wide="causes") + rest,
        lead,
    )


def _likely(one: Mapping[str, Any]) -> str:
    share = number(one.get("share_of_found"))
    return (
        "no candidate in the file"
        if share is None
        else f"likely: it holds of {percent(share)} of found objects"
    )


def costs(document: Mapping[str, Any]) -> str:
    """What each kind costs, as what its repair would give."""
    given = part(document, "costs")
    found = [one for one in rows(given.get("kinds")) if words(one.get("kind")) in ERRORS]
    if not found:
        return _left_out(document, "costs", "What each kind costs")
    columns = [
        ("AP50", "AP50 gained", 3, True),
        ("gross", "Change of the gross error", 0, True),
        ("count", "Change of the count", 0, False),
    ]
    columns = [
        column for column in columns if any(figure(one.get(column[0])).value is not None for one in found)
    ]
    scales = {key: Scale.of(figure(one.get(key)) for one in found) for key, *_ in columns}
    area = any(figure(one.get("area")).value is not None for one in found)
    heads = [Head("Repairing what is")]
    for _, title, _, drawn in columns:
        heads += [Head(title, True), Head("")][: 1 + drawn]
    heads += [Head("True area in trouble, pixels", True)] if area else []
    body = []
    for one in found:
        cells = [Cell(safe(words(one.get("kind"))), kind="head")]
        for key, _, digits, drawn in columns:
            told = figure(one.get(key))
            cells.append(numeric(interval(told, digits, sign=True), told.value))
            if drawn:
                cells.append(Cell(scales[key].bar(told), kind="chart"))
        if area:
            pixels = figure(one.get("area"))
            cells.append(numeric(interval(pixels, 0), pixels.value))
        if any(figure(one.get(key)).value for key, *_ in columns):
            body.append(cells)
    shown = table("Gain from repairing one kind alone", heads, body) if body else "<p>Nothing fails.</p>"
    now, best = figure(given.get("AP50")), figure(given.get("all_repaired"))
    sentences = []
    if now.value is not None:
        sentences.append(f"AP50 is {interval_in_text(now)} as it is.")
    if best.value is not None:
        sentences.append(f"With every kind repaired it would be {interval_in_text(best)}.")
    notes = "".join(f"<li>{safe(note)}</li>" for note in texts(given.get("notes")))
    after = f"<p>{' '.join(sentences)}</p>" if sentences else ""
    after += f'<ul class="notes">{notes}</ul>' if notes else ""
    after += _tide(document, given) + _precision(document)
    lead = (
        "Each kind repaired by itself, the rest left as it is. Gains of different kinds do not add up. Ranges are "
        "bootstrap intervals over pictures or groups."
    )
    return section("costs", "What each kind costs", shown + after, lead)


def _precision(document: Mapping[str, Any]) -> str:
    """Average precision of masks and boxes as COCO defines it, and by boundary IoU."""
    measured = part(document, "evaluation")
    listed = [(title, part(measured, key)) for key, title in (("segm", "masks"), ("bbox", "boxes"))]
    listed.append(("boundaries", part(document, "boundary") or part(document, "quality", "boundary_AP")))
    listed = [(title, one) for title, one in listed if one]
    keys = [key for key in PRECISIONS if any(_defined(one.get(key)) is not None for _, one in listed)]
    if not keys:
        return ""
    heads = [Head("IoU of"), *(Head(PRECISIONS[key], True) for key in keys)]
    body = [
        [
            Cell(title, kind="head"),
            *(numeric(decimal(_defined(one.get(key))), _defined(one.get(key))) for key in keys),
        ]
        for title, one in listed
    ]
    return (
        f"<h3>Average precision</h3>{table('Average precision over all scores', heads, body, wide='dense')}"
    )


def _defined(given: Any) -> float | None:
    """COCO's -1 is "not defined"."""
    found = number(given)
    return None if found is None or found < 0 else found


def _tide(document: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    tide = part(given, "tide") or part(document, "tide")
    gains = part(tide, "gains")
    known = {key: number(value) for key, value in gains.items() if number(value) is not None}
    if not known:
        return ""
    scale = Scale.of(Figure(value) for value in known.values())
    counts = part(tide, "counts")
    body = [
        [
            Cell(safe(words(key)), kind="head"),
            numeric(signed(value, 3), value),
            Cell(scale.bar(Figure(value)), kind="chart"),
            numeric(count(number(counts.get(key))), number(counts.get(key))),
        ]
        for key, value in known.items()
    ]
    heads = [Head("TIDE’s error"), Head("AP50 gained", True), Head(""), Head("Found", True)]
    return folded(
        "The same by TIDE’s six errors, over all candidates",
        table("TIDE’s errors, as hotcoco computes them", heads, body),
    )


def options(document: Mapping[str, Any]) -> str:
    """What each option would change, ranked."""
    given = part(document, "options")
    found = rows(given.get("options"))
    beyond = rows(given.get("beyond"))
    if not found and not beyond:
        return _left_out(document, "options", "What each option would change")
    found = sorted(found, key=lambda one: _or(number(one.get("rank")), float("inf")))
    objective = words(given.get("objective"))
    present = [key for key in MEASURES if any(key in part(one, "effect") for one in found)]
    if objective != "cost":
        present = [key for key in present if key != "cost"]
    present.sort(key=lambda key: key.lower() != objective.lower())
    parts = []
    if found:
        parts.append(_options_table(found, present))
    note = words(given.get("fold_note"))
    if note:
        parts.append(f'<p class="dim">{safe(note)}</p>')
    if found:
        parts.append(_kinds_by_option(found))
    left_out = "".join(
        f"<li><b>{safe(words(one.get('label')) or words(one.get('name')))}.</b> {safe(words(one.get('reason')))}</li>"
        for one in rows(given.get("left_out"))
    )
    if left_out:
        parts.append(folded("Options that were not judged, and why", f'<ul class="notes">{left_out}</ul>'))
    if beyond:
        parts.append("<h3>Beyond what can be replayed</h3>")
        items = "".join(
            f"<li><b>{safe(BEYOND.get(words(one.get('what')), words(one.get('what'))))}.</b> "
            f"{safe(words(one.get('evidence')))}</li>"
            for one in beyond
        )
        parts.append(f'<ul class="notes">{items}</ul>')
    by = MEASURES.get(objective, (objective, 0))[0]
    lead = (
        "Each option was replayed on the stored candidates, and judged on pictures that did not choose it. "
        f"Effects are changes against today{f'; ranked by {by}' if by else ''}. An interval that holds 0 says "
        "that the option may change nothing."
    )
    return section("options", "What each option would change", "".join(parts), lead)


def _effect_flag(one: Mapping[str, Any]) -> str:
    if "measurable" not in one:
        return ""
    tone, told = ("warn", "not measurable") if not one.get("measurable") else ("", "harms")
    if one.get("helps"):
        tone, told = ("warn", "errors cancel") if one.get("cancels") else ("good", "helps")
    return f'<span class="flag {tone}">{told}</span>'


def _or(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _options_table(found: Sequence[Mapping[str, Any]], present: Sequence[str]) -> str:
    first = present[0] if present else ""
    scale = Scale.of(figure(part(one, "effect").get(first)) for one in found)
    heads = [Head("Rank", True), Head("Option")]
    for i, key in enumerate(present):
        heads.append(Head(MEASURES[key][0], True))
        if not i:
            heads.append(Head(""))
    body = []
    for place, one in enumerate(found):
        rank = number(one.get("rank"))
        label = words(one.get("label")) or words(one.get("name"))
        cells = [
            numeric(NONE if rank is None else f"{rank:g}", place if rank is None else rank),
            Cell(
                f'{safe(label)} {_effect_flag(one)}<span class="meaning">{safe(words(one.get("sentence")))}</span>',
                label,
                "head",
            ),
        ]
        for i, key in enumerate(present):
            told = figure(part(one, "effect").get(key))
            _, digits = MEASURES[key]
            cells.append(numeric(interval(told, digits, sign=True), told.value))
            if not i:
                tone = "" if not one.get("measurable", True) else "less" if one.get("helps") else "more"
                cells.append(Cell(scale.dot(told, tone), kind="chart"))
        body.append(cells)
    return table("Options, best first", heads, body, sortable=True, wide="options")


def _kinds_by_option(found: Sequence[Mapping[str, Any]]) -> str:
    def of(one: Mapping[str, Any]) -> Mapping[str, Any]:
        return part(one, "effect", "kinds") or part(one, "kinds")

    kinds = [kind for kind in ("matched", *ERRORS) if any(figure(of(one).get(kind)).value for one in found)]
    if not kinds:
        return ""
    heads = [Head("Option"), *(Head(kind, True) for kind in kinds)]
    body = [
        [
            Cell(safe(words(one.get("label")) or words(one.get("name"))), kind="head"),
            *(
                numeric(interval(told, 0 if abs(told.value or 0) >= 10 else 1, sign=True), told.value)
                for told in (figure(of(one).get(kind)) for kind in kinds)
            ),
        ]
        for one in found
    ]
    return folded(
        "How each option changes the ledger", table("Change of entries by kind", heads, body, sortable=True)
    )


def slices(document: Mapping[str, Any]) -> str:
    """Where figures differ: by class, size, density, border and the pictures' own columns."""
    given = document.get("slices")
    found = rows(given.get("slices")) if isinstance(given, Mapping) else rows(given)
    if not found:
        return _left_out(document, "slices", "Where it differs")
    columns = [
        ("recall", "Recall", 100, 1, False),
        ("precision", "Precision", 100, 1, False),
        ("bias", "Count bias a picture", 1, 2, True),
        ("gross", "Gross error a true object", 1, 2, False),
    ]
    columns = [c for c in columns if any(figure(one.get(c[0])).value is not None for one in found)]
    heads = [
        Head("Slice"),
        Head("Flags"),
        Head("Pictures", True),
        Head("True", True),
        Head("Predicted", True),
    ]
    heads += [Head(title + (", %" if factor == 100 else ""), True) for _, title, factor, *_ in columns]
    heads += [Head("Most frequent failures")]
    body = []
    everything = next((one for one in found if one.get("by") == "all"), {})
    # What differs comes first; the order is otherwise the document's.
    found.sort(key=lambda one: (one.get("by") != "all", not one.get("differs")))
    for one in found[:SLICES]:
        title, by = words(one.get("name")), words(one.get("by"))
        flags = _flag_words(one, everything)
        cells = [
            Cell(f'<span class="by">{safe(by)}</span> {name(title)}', f"{by} {title}", "head"),
            Cell(_flags(flags), len(flags) + 10 * bool(one.get("differs"))),
            *(
                numeric(count(number(one.get(key))), number(one.get(key)))
                for key in ("images", "true", "predicted")
            ),
        ]
        for key, _, factor, digits, sign in columns:
            told = figure(one.get(key))
            cells.append(numeric(interval(told, digits, sign, factor), told.value))
        cells.append(Cell(_failures(one), kind="text"))
        body.append(cells)
    parts = [table("Slices", heads, body, sortable=True, wide="dense")]
    if len(found) > SLICES:
        parts.append(f'<p class="dim">{len(found) - SLICES:,} more are in the JSON document.</p>')
    extra = given.get("notes") if isinstance(given, Mapping) else None
    parts += [f'<p class="dim">{safe(note)}</p>' for note in texts(extra)]
    lead = (
        "Recall is of true objects, precision of predictions; ranges are bootstrap intervals over pictures or groups. "
        "Flags: figures that differ from all pictures, after correction for how many were compared; “few” where there "
        "are too few pictures for an interval."
    )
    return section("slices", "Where it differs", "".join(parts), lead)


def _failures(one: Mapping[str, Any]) -> str:
    kinds = part(one, "kinds")
    shares = [(figure(kinds.get(kind)).value or 0, kind) for kind in ERRORS]
    worst = sorted((pair for pair in shares if pair[0] > 0), reverse=True)[:3]
    return ", ".join(f"{kind} {percent(share, 0 if share >= 0.1 else 1)}" for share, kind in worst)


def _flag_words(one: Mapping[str, Any], everything: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What differs from all pictures, and which way; and whether there are too few to tell."""
    found = []
    for key in texts(one.get("differs")):
        here, there = figure(one.get(key)).value, figure(everything.get(key)).value
        if here is None or there is None:
            found.append((f"{key} differs", ""))
        else:
            good = (here > there) == (key in ("recall", "precision"))
            good = abs(here) < abs(there) if key == "bias" else good
            found.append((f"{'higher' if here > there else 'lower'} {key}", "good" if good else ""))
    if one.get("few"):
        found.append(("few", "warn"))
    return found


def _flags(flags: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<span class="flag {tone}">{safe(flag)}</span>' for flag, tone in flags)


def _left_out(document: Mapping[str, Any], key: str, title: str) -> str:
    """The reason why a part isn't there; nothing where none is given."""
    reason = words(part(document, "reasons").get(key))
    return section(key, title, absent(reason)) if reason else ""
