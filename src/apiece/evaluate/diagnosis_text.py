"""A diagnosis as text for a terminal or a log."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from apiece.evaluate.ledger import KINDS
from apiece.evaluate.text import drawn, table_of

MOST_OPTIONS = 6
MOST_SLICES = 8
PRINTED = (
    "intervals",
    "costs.AP50",
    "evaluation.AP",
    "boundary.AP",
    "calibration",
    "calibration.d_ece",
    "calibration.right",
    "slices.recall",
    "slices.gross",
    "options",
    "options.MAE",
    "options.gross",
    "risk",
    "label_errors",
)
RANKED = {
    "mae": "the mean error of the count",
    "gross": "the gross error of the count",
    "ap": "AP",
    "cost": "the cost",
}
SLICED = {"recall": ".3f", "precision": ".3f", "bias": "+.3g", "gross": ".3f"}
QUALITY = (
    ("iou", "mean IoU of found objects", ".3f"),
    ("boundary_iou", "their mean boundary IoU", ".3f"),
    ("area_bias_mean", "their area, relative to the true", "+.1%"),
)


def render(document: Mapping[str, Any], width: int = 100) -> str:
    """The document `apiece/diagnose/1` in lines up to `width` characters: the verdict first, definitions last."""
    parts = [
        *_cap(document),
        *(_line(sentence, width) for sentence in document["verdict"]),
        "",
        drawn(_ledger(document), width),
        _line(_scope(document), width),
        *_section("Why objects are missed", _causes(document), width),
        *_section("Options, each judged on pictures that did not choose it", _options(document), width),
        *_section("Beyond what can be replayed", _beyond(document), width),
        *_section("How sure", _risk(document), width),
        *_section("Where it differs", _slices(document), width),
        *_section("Masks and scores", _quality(document), width),
        *_section("Likely label errors", _labels(document), width),
        *_section("Not told", _reasons(document), width),
        *_section("Notes", document["notes"], width),
        *_section("Definitions; --json and --html have all", _definitions(document), width),
    ]
    return "\n".join(part.rstrip() for part in parts)


def _cap(document: Mapping[str, Any]) -> list[str]:
    """One line, never broken, where COCO's cap hid something from AP."""
    part = document.get("evaluation") or {}
    caps = part.get("caps") or {}
    if not caps or not (caps["images_cut"] or caps["images_beyond"]):
        return []
    figures = part[document["kind"]]
    if not caps["truths_beyond"] and undefined(figures["AP"]) == undefined(figures["AP_uncapped"]):
        return []  # what was hidden matters to no figure
    return [
        f"CAP REACHED: COCO's limit of {caps['coco']} detections an image and class hides "
        f"{caps['predictions_cut']:,} predictions and puts {caps['truths_beyond']:,} true objects out of reach: "
        f"AP {undefined(figures['AP'])} under it, {undefined(figures['AP_uncapped'])} without. "
        "No other figure here has that limit.",
        "",
    ]


def _definitions(document: Mapping[str, Any]) -> list[str]:
    """Those of what is printed."""
    return [
        f"{key.removeprefix('ledger.')}: {sentence}"
        for key, sentence in document["definitions"].items()
        if key.startswith("ledger.") or key in PRINTED
    ]


def _line(text: str, width: int) -> str:
    return textwrap.fill(text, width, subsequent_indent="  ")


def _section(title: str, lines: list[str], width: int) -> list[str]:
    if not lines:
        return []
    return [
        "",
        title,
        *(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    ") for line in lines),
    ]


def _scope(document: Mapping[str, Any]) -> str:
    point = document["operating_point"]
    more = [
        f"{len(point['thresholds'])} classes have their own" if point["thresholds"] else "",
        f"suppression above {point['nms']['measure']} {point['nms']['iou']:g}" if point["nms"] else "",
        f"at most {point['cap']} objects a picture" if point["cap"] else "",
    ]
    count = document["count"]
    return (
        f"Score ≥ {document['threshold']:g} counts ({'; '.join([point['chosen_by'], *filter(None, more)])}). "
        f"MAE {count['MAE']:.3g}, RMSE {count['RMSE']:.3g}, bias {count['bias']:+.3g} a picture."
    )


def _ledger(document: Mapping[str, Any]) -> Table:
    gains = {one["kind"]: one["AP50"] for one in (document.get("costs") or {}).get("kinds") or []}
    table = table_of("entry", "true objects", "predictions", "predicted - true", "AP50 if repaired")
    for kind in KINDS:
        entry = document["ledger"][kind]
        table.add_row(
            kind,
            f"{entry['truth']:,}",
            f"{entry['prediction']:,}",
            f"{entry['signed']:+,}" if entry["signed"] else "0",
            interval(gains.get(kind), "+.3f"),
        )
    count = document["count"]
    table.add_section()
    table.add_row(
        "counted",
        f"{count['true']:,}",
        f"{count['predicted']:,}",
        f"{count['net']:+,}" if count["net"] else "0",
        "",
    )
    return table


def interval(figure: Mapping[str, Any] | None, form: str) -> str:
    """A figure with its interval, such as "+0.031 (+0.010 to +0.052)"."""
    if figure is None or figure.get("value") is None:
        return "–"
    value = format(figure["value"], form)
    if figure.get("low") is None or figure.get("high") is None:
        return value
    return f"{value} ({format(figure['low'], form)} to {format(figure['high'], form)})"


def _causes(document: Mapping[str, Any]) -> list[str]:
    part = document.get("causes") or {}
    causes = sorted(part.get("causes") or [], key=lambda one: -one["missed"])
    lines = [
        f"{one['cause']}: {one['missed']:,} ({100 * one['share']:.0f} %)" for one in causes if one["missed"]
    ]
    return [*lines, part["note"]] if part.get("note") else lines


def _options(document: Mapping[str, Any]) -> list[str]:
    part = document.get("options") or {}
    options = part.get("options") or []
    helping = [f"{one['rank']}. {one['sentence']}" for one in options if one["helps"]][:MOST_OPTIONS]
    others = [one for one in options if not one["helps"]]
    # Errors that cancel less leave the mean error of the count as it was.
    fewer = [one for one in others if not one["measurable"] and (one["effect"]["gross"]["high"] or 0) < 0]
    helping += [
        f"Fewer errors, but no measurable gain in what is ranked by: {one['sentence']}" for one in fewer
    ]
    rest = [one["label"] for one in others if one not in fewer]
    if rest:
        helping.append(f"No measurable gain in {RANKED[part['objective']]} from: {'; '.join(rest)}.")
    if options or not part:
        return helping
    left_out = [f"{one['label']}: {one['reason']}" for one in part["left_out"]]
    return left_out or [part["fold_note"]]


def _beyond(document: Mapping[str, Any]) -> list[str]:
    return [
        f"{one['what']}: {one['evidence']}" for one in (document.get("options") or {}).get("beyond") or []
    ]


def _risk(document: Mapping[str, Any]) -> list[str]:
    """Each promise, or why there is none; what was withdrawn for one reason, and each doubt, once for all."""
    promises = document.get("risk") or []
    # Two methods may abstain in the same words.
    lines = list(dict.fromkeys(one["sentence"] for one in promises if not one["withdrawn"]))
    void: dict[str, list[str]] = {}
    doubts: dict[str, list[str]] = {}
    for one in promises:
        if one["withdrawn"]:
            void.setdefault(one["sentence"], []).append(f"{one['name']} ({one['method']})")
        elif one["abstains"] is None:
            for doubt in one["doubts"]:
                doubts.setdefault(doubt, []).append(f"{one['name']} ({one['method']})")
    lines += [f"{sentence} Void: {', '.join(names)}." for sentence, names in void.items()]
    lines += [f"Doubt of {', '.join(names)}: {doubt}" for doubt, names in doubts.items()]
    if any(one["promise"] for one in promises):
        lines.append(
            "All this supposes that the model was not trained on these pictures and that their labels are right. Each "
            "promise holds by itself at its level, not all of them together."
        )
    return lines


def _reasons(document: Mapping[str, Any]) -> list[str]:
    """What is not told, all that share a reason together."""
    keys: dict[str, list[str]] = {}
    for key, reason in document["reasons"].items():
        keys.setdefault(reason, []).append(key.replace("_", " "))
    return [f"{', '.join(names)}: {reason}" for reason, names in keys.items()]


def _slices(document: Mapping[str, Any]) -> list[str]:
    """Slices whose figures differ from all pictures', beyond chance."""
    slices = document.get("slices") or []
    overall = next((one for one in slices if one["by"] == "all"), None)
    lines: list[str] = []
    for one in slices:
        if overall is None or not one["differs"]:
            continue
        told = [
            f"{figure} {interval(one[figure], SLICED[figure])}, of all {one_of(overall[figure], SLICED[figure])}"
            for figure in one["differs"]
        ]
        lines.append(f"{one['by']} {one['name']} ({one['images']:,} pictures): {'; '.join(told)}")
    more = [f"and {len(lines) - MOST_SLICES} more, see --json or --html"] if len(lines) > MOST_SLICES else []
    return lines[:MOST_SLICES] + more


def _quality(document: Mapping[str, Any]) -> list[str]:
    kind = document["kind"]
    averages = (document.get("evaluation") or {}).get(kind) or {}
    boundary = document.get("boundary") or {}
    quality = (document.get("quality") or {}).get("total") or {}
    calibration = document.get("calibration") or {}
    lines: list[str] = []
    if averages:
        named = ("AP", "AP50", "AP75", "AP_uncapped")
        lines.append(", ".join(f"{name} {undefined(averages[name])}" for name in named))
        if boundary.get("AP") is not None:
            lines[0] += f", boundary AP {boundary['AP']:.3f}"
    for key, name, form in QUALITY:
        if quality.get(key) is not None and quality[key].get("value") is not None:
            lines.append(f"{name} {interval(quality[key], form)}")
    if calibration:
        repair = calibration.get("repair")
        line = (
            f"D-ECE {interval(calibration['total']['d_ece'], '.3f')} of all predictions from score "
            f"{calibration['floor']:g} on, duplicates being wrong"
        )
        if repair:
            line += f"; {interval(repair['after'], '.3f')} after isotonic repair, on pictures that did not teach it"
        lines.append(line)
    return lines


def one_of(figure: Mapping[str, Any] | None, form: str) -> str:
    """A figure without its interval."""
    return "–" if figure is None or figure.get("value") is None else format(figure["value"], form)


def undefined(value: float) -> str:
    """An average precision; COCO's -1 is undefined."""
    return "–" if value < 0 else f"{value:.3f}"


def _labels(document: Mapping[str, Any]) -> list[str]:
    found = document.get("label_errors") or {}
    names = (
        ("missing", "objects likely without a label"),
        ("wrong_class", "labels likely of the wrong class"),
        ("poor_outline", "outlines that differ more than usual (the label's or the prediction's is off)"),
        ("doubtful", "labels that no prediction confirms, or that stand twice"),
    )
    lines = [
        f"{found['totals'][key]:,} {what}, first {found[key][0]['name']} ({found[key][0]['class']})"
        for key, what in names
        if found.get(key)
    ]
    return [*lines, "--html shows them as pictures."] if lines else []
