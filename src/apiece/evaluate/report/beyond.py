"""What figures rest on: the operating point in words, promises with their assumptions, notes, definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiece.evaluate.report.markup import absent, folded, name, safe, section, short
from apiece.evaluate.report.reading import number, part, rows, texts, words

GROUPS = {
    "ledger": "Kinds of the ledger",
    "count": "Count",
    "evaluation": "Average precision",
    "boundary": "Boundary IoU",
    "causes": "Causes of misses",
    "costs": "Costs",
    "tide": "TIDE’s errors",
    "slices": "Slices",
    "quality": "Outlines",
    "calibration": "Calibration",
    "counting": "Counting",
    "options": "Options",
    "risk": "Promises",
    "label_errors": "Label errors",
}


def point_in_words(point: Mapping[str, Any], threshold: Any) -> str:
    """Which candidates count, a phrase."""
    limit = number(point.get("threshold"))
    limit = number(threshold) if limit is None else limit
    told = [] if limit is None else [f"score ≥ {limit:g}"]
    own = part(point, "thresholds")
    if own:
        told.append(f"{len(own)} class{'' if len(own) == 1 else 'es'} with thresholds of their own")
    nms = part(point, "nms")
    if nms:
        told.append(f"suppression above {words(nms.get('measure')) or 'iou'} {number(nms.get('iou')) or 0:g}")
    if number(point.get("cap")) is not None:
        told.append(f"at most {number(point.get('cap')):,.0f} a picture")
    if number(point.get("min_area")):
        told.append(f"at least {number(point.get('min_area')):g} pixels")
    if point.get("border") == "drop":
        told.append("none at the border")
    chosen = words(point.get("chosen_by"))
    return ", ".join(told) + (f" ({chosen})" if chosen else "")


def risk(document: Mapping[str, Any]) -> str:
    """Promises: what is guaranteed, on what assumption, and where nothing can be promised."""
    given = document.get("risk")
    found = rows(given.get("promises") if isinstance(given, Mapping) else given)
    if not found:
        reason = words(part(document, "reasons").get("risk"))
        return section("risk", "What can be promised", absent(reason)) if reason else ""
    # What is found of all pictures stands with every promise; it is told once.
    compared = {words(part(one, "shift").get("sentence")) for one in found}
    common = compared.pop() if len(compared) == 1 else ""
    cards = "".join(_promise(one, common) for one in found)
    lead = (
        "A promise holds at its level if its assumption does. It is void where pictures differ from these in kind, "
        "and it is not given where there are too few."
    )
    told = f"<p>{safe(common)}</p>" if common else ""
    return section("risk", "What can be promised", f'{told}<div class="promises">{cards}</div>', lead)


def _promise(one: Mapping[str, Any], common: str) -> str:
    abstains = words(one.get("abstains"))
    facts = [("method", safe(words(one.get("method"))))]
    for key in ("target", "level"):
        value = number(one.get(key))
        facts.append((key, f"{100 * value:g} %" if value is not None else safe(words(one.get(key)))))
    n = number(one.get("n"))
    unit = words(one.get("unit"))
    plural = f" {safe(unit)}{'' if n == 1 else 's'}" if unit else ""
    facts.append(("rests on", f"{n:,.0f}{plural}" if n is not None else ""))
    limit = number(one.get("threshold"))
    facts.append(("threshold", f"{limit:.4g}" if limit is not None else ""))
    ends = part(one, "interval")
    if ends:
        value, low, high = (number(ends.get(key)) for key in ("value", "low", "high"))
        told = short(value) if value is not None else ""
        if low is not None and high is not None:
            told += f" ({short(low)} to {short(high)})" if told else f"{short(low)} to {short(high)}"
        facts.append(("interval", told))
    told = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts if value)
    shift = part(one, "shift")
    moved = bool(one.get("withdrawn")) or bool(shift.get("withdrawn"))
    parts = [f"<h3>{safe(words(one.get('name')))}</h3>"]
    if moved:
        parts.append('<span class="flag">withdrawn: the pictures have changed</span>')
    if abstains:
        parts.append(
            f'<span class="flag warn">no promise</span><p>{safe(abstains[:1].upper() + abstains[1:])}</p>'
        )
    elif one.get("promise") and not moved:
        parts.append(f"<p>{safe(words(one.get('promise')))}</p>")
    if one.get("assumption"):
        parts.append(f'<p class="dim">Assumes: {safe(words(one.get("assumption")))}</p>')
    if shift.get("sentence") and shift.get("sentence") != common:
        parts.append(f'<p class="dim">{safe(words(shift.get("sentence")))}</p>')
    parts += [f'<p class="dim">Doubt: {safe(doubt)}</p>' for doubt in texts(one.get("doubts"))]
    void = " void" if abstains or moved else ""
    return f'<article class="card{void}">{"".join(parts)}<dl>{told}</dl></article>'


def notes(document: Mapping[str, Any]) -> str:
    """What a reader of the figures must know of the data, and what is not told."""
    given = texts(document.get("notes"))
    reasons = part(document, "reasons")
    items = "".join(f"<li>{safe(note)}</li>" for note in given)
    told = f'<ul class="notes">{items}</ul>' if items else ""
    if reasons:
        missing = "".join(
            f"<dt>{name(words(key))}</dt><dd>{safe(words(why))}</dd>" for key, why in reasons.items()
        )
        told += f'<h3>Not told, and why</h3><dl class="glossary">{missing}</dl>'
    return section("notes", "Notes", told) if told else ""


def definitions(document: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """A sentence for every figure and every kind."""
    given = {str(key): words(sentence) for key, sentence in part(document, "definitions").items()}
    groups: dict[str, dict[str, str]] = {}
    if not any(key.startswith("ledger.") for key in given):
        groups["ledger"] = dict(meanings)
    for key, sentence in given.items():
        group, dot, rest = key.partition(".")
        groups.setdefault(group if dot or group in GROUPS else "", {})[rest if dot else key] = sentence
    folds = "".join(
        folded(
            f"{GROUPS.get(group, group) or 'Other figures'} ({len(listed)})",
            '<dl class="glossary">'
            + "".join(f"<dt>{safe(key)}</dt><dd>{safe(sentence)}</dd>" for key, sentence in listed.items())
            + "</dl>",
        )
        for group, listed in groups.items()
    )
    return section("definitions", "Definitions", folds, "Every figure on this page, with its thresholds.")
