"""An evaluation as text for a terminal or a log."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

AVERAGES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
ERRORS = ("MAE", "RMSE", "bias", "relative", "relative_per_image")
MOST_CLASSES = 30


def render(document: Mapping[str, Any], width: int = 100) -> str:
    """The document `apiece/evaluate/1` as tables, notes and definitions, in lines up to `width` characters.

    What COCO's cap hid comes first, in one line of its own that is never broken.
    """
    kinds = [kind for kind in ("segm", "bbox") if document[kind] is not None]
    parts = [
        *([cap_line(document)] if _hides(document["caps"]) else []),
        textwrap.fill(_scope(document), width),
        *(f"No {kind} figures: {reason}" for kind, reason in document["reasons"].items()),
        drawn(_averages(document, kinds), width),
        *([drawn(_classes(document, kinds), width)] if len(document["count"]["by_class"]) > 1 else []),
        drawn(_counts(document), width),
        *(textwrap.fill(f"Note: {note}", width, subsequent_indent="  ") for note in document["notes"]),
        "Definitions",
        *(
            textwrap.fill(f"{key}: {sentence}", width, initial_indent="  ", subsequent_indent="    ")
            for key, sentence in document["definitions"].items()
        ),
    ]
    return "\n".join(part.rstrip() for part in parts)


def cap_line(document: Mapping[str, Any]) -> str:
    """One line on what COCO's cap of 100 hid, with AP under it and without it."""
    caps = document["caps"]
    hidden: list[str] = []
    if caps["images_cut"]:
        hidden.append(
            f"left out {caps['predictions_cut']:,} of {document['predictions']:,} predictions in "
            f"{caps['images_cut']} of {caps['images']} images"
        )
    if caps["images_beyond"]:
        hidden.append(
            f"puts {caps['truths_beyond']:,} of {document['truth']:,} true objects in {caps['images_beyond']} of "
            f"{caps['images']} images out of reach"
        )
    averages = "; ".join(
        f"{kind} AP {_score(document[kind]['AP'])} under it, AP_uncapped {_score(document[kind]['AP_uncapped'])} "
        f"with up to {caps['uncapped']}"
        for kind in ("segm", "bbox")
        if document[kind] is not None
    )
    limit = f"COCO's limit of {caps['coco']} detections an image and class"
    return f"CAP REACHED: {limit} {' and '.join(hidden)}. {averages}."


def _hides(caps: Mapping[str, Any]) -> bool:
    return bool(caps["images_cut"] or caps["images_beyond"])


def _scope(document: Mapping[str, Any]) -> str:
    crowd = f" and {_number(document['crowd'], 'crowd region')}" if document["crowd"] else ""
    return (
        f"{_number(document['images'], 'image')}, {_number(document['truth'], 'true object')}{crowd}, "
        f"{_number(document['predictions'], 'prediction')}"
    )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _averages(document: Mapping[str, Any], kinds: list[str]) -> Table:
    names = list(kinds)
    if _hides(document["caps"]):
        names = [name for kind in kinds for name in (kind, f"{kind}_uncapped")]
    table = table_of("figure", *names)
    for figure in AVERAGES:
        table.add_row(figure, *(_score(document[name][figure]) for name in names))
    return table


def _classes(document: Mapping[str, Any], kinds: list[str]) -> Table:
    """AP and count errors of each class; the classes with most true objects where there are many."""
    counts = document["count"]["by_class"]
    order = sorted(range(len(counts)), key=lambda i: -counts[i]["true"])[:MOST_CLASSES]
    table = table_of("class", "true", "predicted", *(f"{kind} AP" for kind in kinds), "MAE", "bias")
    for i in sorted(order):
        count = counts[i]
        averages = (_score(document[kind]["by_class"][i]["AP"]) for kind in kinds)
        table.add_row(
            count["name"],
            f"{count['true']:,}",
            f"{count['predicted']:,}",
            *averages,
            f"{count['MAE']:.3f}",
            f"{count['bias']:+.3f}",
        )
    if len(counts) > len(order):
        table.caption = f"the {len(order)} of {len(counts)} classes with most true objects; JSON has all"
    return table


def _counts(document: Mapping[str, Any]) -> Table:
    count = document["count"]
    table = table_of(f"count, score ≥ {count['threshold']:g}", "")
    table.add_row("true", f"{count['true']:,}")
    table.add_row("predicted", f"{count['predicted']:,}")
    for name in ERRORS:
        value = count[name]
        if name.startswith("relative") and value < 0:
            shown = "–"
        elif name.startswith("relative"):
            shown = f"{100 * value:.1f} %"
        else:
            shown = f"{value:+.3f}" if name == "bias" else f"{value:.3f}"
        table.add_row(name, shown)
    return table


def _score(value: float) -> str:
    return "–" if value < 0 else f"{value:.3f}"


def table_of(first: str, *others: str) -> Table:
    """An empty table: the first column to the left, the others to the right."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def drawn(table: Table, width: int) -> str:
    """A table as lines of up to `width` characters."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().strip("\n").splitlines())
