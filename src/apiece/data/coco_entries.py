"""What one entry of a COCO file may hold: JSON that is whole, ids that are integers, outlines that are shapes."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apiece.core.coco_polygons import FAR
from apiece.data.json_text import parse_json, unreadable
from apiece.data.problems import Severity

Entry = dict[str, Any]
NUMBERS = frozenset({int, float})
HUGE = 1e300  # whole numbers may be longer than any float


class Finding(NamedTuple):
    """Something wrong with an entry: its message, the remedy, and what can't be used because of it."""

    severity: Severity
    message: str
    remedy: str
    left_out: str = ""


def load_json(path: Path) -> Any:
    """The document in a JSON file, by orjson where that is installed.

    NaN and Infinity, which Python's own json writes though JSON has no such numbers, are read as floats, so that
    the entry that holds them can be named.
    raises  AnnotationError if the file can't be read, is not JSON, or breaks off.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        return importlib.import_module("orjson").loads(data)
    except (ImportError, ValueError):  # not installed; or not JSON, or JSON with NaN: json tells which
        return parse_json(path, data)


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", type(None): "missing", bool: "a truth value"}
    return names.get(type(value), "a number")


def whole(value: Any) -> int | None:
    """An id: a whole number, or one written as text or as 3.0; None for anything else."""
    if isinstance(value, str):
        readable = len(value) < 24 and value.strip().removeprefix("-").isdecimal()
    else:
        readable = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if readable and abs(int(value)) < 2**63 else None


def finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) in NUMBERS and -HUGE < value < HUGE


def usable_box(box: Any) -> bool:
    """Whether a value is a COCO box: finite x, y, width and height, sides not negative."""
    if type(box) is not list or len(box) != 4 or not set(map(type, box)) <= NUMBERS:
        return False
    x, y, width, height = box
    inside: bool = -HUGE < x < HUGE and -HUGE < y < HUGE and 0 <= width < HUGE and 0 <= height < HUGE
    return inside


def check_outline(entry: Entry, height: int, width: int) -> tuple[Finding, ...]:
    """What is wrong with an entry's `segmentation` and `bbox` on a picture of this size.

    The entry is mended in place where it can be: an empty segmentation is removed, a flat list of coordinates
    becomes a list with one polygon, polygons that are none are taken out, a box that is none is removed where
    there is an outline. An entry of which nothing can be used has a finding that leaves out "the object".
    """
    findings: list[Finding] = []
    outline = entry.get("segmentation")
    if outline is None or outline == []:
        entry.pop("segmentation", None)
        if "bbox" not in entry:
            return (_error("has neither a segmentation nor a bbox; expected one."),)
        if not usable_box(entry["bbox"]):
            return (
                _error(f"has the bbox {_short(entry['bbox'])}; expected x, y, width and height, all finite."),
            )
        return ()
    if isinstance(outline, dict):
        fault = _rle_fault(outline, height, width)
        if fault:
            return (_error(fault),)
    elif isinstance(outline, list):
        findings += _check_polygons(entry, outline, height, width)
    else:
        return (
            _error(f"has a segmentation that is {kind(outline)}; expected an RLE or a list of polygons."),
        )
    if "bbox" in entry and not usable_box(entry["bbox"]):
        remedy = "nothing: the outline's own box is taken."
        findings.append(Finding("warning", f"has the bbox {_short(entry['bbox'])}, which is no box.", remedy))
        del entry["bbox"]
    return tuple(findings)


def mend_crowd(entry: Entry) -> Finding | None:
    """Make an entry's `iscrowd` 0 or 1; what is wrong if it isn't."""
    crowd = entry.get("iscrowd", 0)
    if type(crowd) is int and crowd in (0, 1):
        entry["iscrowd"] = crowd
        return None
    entry["iscrowd"] = int(bool(crowd))
    if crowd in (0, 1, None):
        return None
    text = f"has iscrowd {crowd!r}; expected 0 or 1. It is read as {entry['iscrowd']}."
    return Finding("warning", text, "write 0 or 1.")


def mend_area(entry: Entry) -> tuple[Finding, ...]:
    """Remove an `area` that is none; what is wrong with area and box, of an entry whose outline is checked."""
    findings: tuple[Finding, ...] = ()
    if "area" in entry and not (finite(entry["area"]) and entry["area"] >= 0):
        text = f"has area {entry['area']!r}; expected a number of pixels. The mask's own is taken."
        findings = (Finding("warning", text, "nothing."),)
        del entry["area"]
    box = entry.get("bbox")
    if entry.get("area") == 0 or (box is not None and (box[2] == 0 or box[3] == 0)):
        sides = "" if box is None else f" (its bbox is {box[2]:g} wide and {box[3]:g} high)"
        text = f"covers no area{sides}; expected a shape. It is kept, and counted, with what pixels it has."
        findings += (Finding("warning", text, "delete the object, or redraw it."),)
    return findings


def _rle_fault(outline: Mapping[str, Any], height: int, width: int) -> str | None:
    size, counts = outline.get("size"), outline.get("counts")
    if not isinstance(size, list) or size != [height, width]:
        return (
            f"has an RLE of size {_short(size)}; expected [{height}, {width}] (height, width), as its image."
        )
    if isinstance(counts, str) or (isinstance(counts, list) and set(map(type, counts)) <= {int}):
        return None
    return f"has RLE counts that are {kind(counts)}; expected a text, or a list of whole numbers."


def _check_polygons(entry: Entry, outline: list[Any], height: int, width: int) -> list[Finding]:
    findings: list[Finding] = []
    if set(map(type, outline)) <= NUMBERS:
        text = "holds one flat list of coordinates; expected a list of polygons. It is read as one polygon."
        findings.append(Finding("warning", text, "write [[x, y, x, y, ...]]."))
        outline = entry["segmentation"] = [outline]
    parts, low, high = outline, math.inf, -math.inf
    for part in outline:
        lowest, highest = _range(part)
        low, high = min(low, lowest), max(high, highest)
    if not -FAR <= low <= high <= FAR:  # one part at least is none
        faults = [_polygon_fault(part) for part in outline]
        parts = [part for part, fault in zip(outline, faults, strict=True) if not fault]
        fault = next(fault for fault in faults if fault)
        if not parts:
            return [*findings, _error(fault)]
        findings.append(Finding("error", fault, "redraw or delete that polygon.", "the polygon"))
        entry["segmentation"] = parts
        low, high = min(map(min, parts)), max(map(max, parts))
    # Most outlines lie inside; only of the others x and y are told apart.
    if low < -1 or high > min(height, width) + 1:
        left, right = min(min(p[0::2]) for p in parts), max(max(p[0::2]) for p in parts)
        top, bottom = min(min(p[1::2]) for p in parts), max(max(p[1::2]) for p in parts)
        span = (
            f"(x {left:g} to {right:g}, y {top:g} to {bottom:g}; the image has {height} x {width} pixels, "
            "height x width)"
        )
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            return [*findings, _error(f"lies outside its image {span}; expected an outline inside it.")]
        if left < -1 or top < -1 or right > width + 1 or bottom > height + 1:
            text = f"reaches beyond its image {span}."
            findings.append(Finding("warning", text, "nothing: what lies outside is cut off."))
    return findings


def _range(part: Any) -> tuple[float, float]:
    """The least and the greatest coordinate of a polygon; -inf and inf for what is none."""
    if type(part) is list and len(part) >= 6 and len(part) % 2 == 0 and set(map(type, part)) <= NUMBERS:
        low, high = min(part), max(part)
        # A NaN, which min and max may pass over, shows in the sum; whole numbers may be longer than any float.
        if -FAR <= low <= high <= FAR and not math.isnan(sum(part)):
            return low, high
    return -math.inf, math.inf


def _polygon_fault(part: Any) -> str | None:
    if not isinstance(part, list) or not set(map(type, part)) <= NUMBERS:
        return f"has a polygon that is {_short(part)}; expected a flat list of numbers x, y, x, y, ..."
    if len(part) < 6:
        return f"has a polygon of {len(part)} numbers; expected x, y of at least three points."
    if len(part) % 2:
        return f"has a polygon of {len(part)} numbers; expected an even number, x and y of each point."
    bounded = min(part) >= -FAR and max(part) <= FAR
    if not bounded or math.isnan(sum(part)):  # a NaN, which min and max may pass over, shows in the sum
        bad = next(v for v in part if not -FAR <= v <= FAR)
        return f"has a polygon with the coordinate {_short(bad)}; expected finite numbers within ±{FAR:g}."
    return None


def _error(message: str) -> Finding:
    return Finding("error", message, "redraw or delete the object.", "the object")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
