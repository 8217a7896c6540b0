"""What one entry of a COCO file may hold: JSON that is whole, ids that are integers, outlines that are shapes."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apiece.core.coco_polygons import FAR
from apiece.data.problems import Severity
from apiece.errors import AnnotationError

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
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file. Remedy: check the path.") from None
    except IsADirectoryError:
        raise AnnotationError(
            f"{path}: is a folder; expected a JSON file. Remedy: name a file in it."
        ) from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        return importlib.import_module("orjson").loads(data)
    except (ImportError, ValueError):  # not installed; or not JSON, or JSON with NaN: json tells which
        pass
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: is not text ({error.reason} at byte {error.start}); expected JSON in UTF-8. "
            "Remedy: name the annotation file, not a picture or an archive."
        ) from None
    except json.JSONDecodeError as error:
        ends = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        what = "breaks off" if ends else "is not valid JSON"
        raise AnnotationError(
            f"{path}: {what} at line {error.lineno}, column {error.colno} ({error.msg}); expected one whole JSON "
            "document. Remedy: copy or export the file again."
        ) from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{path}: is not JSON that can be read ({error}). Remedy: export the file again."
        ) from None


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
    return isinstance(box, list) and len(box) == 4 and all(map(finite, box)) and box[2] >= 0 and box[3] >= 0


def check_outline(entry: dict[str, Any], height: int, width: int) -> tuple[Finding, ...]:
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


def _rle_fault(outline: Mapping[str, Any], height: int, width: int) -> str | None:
    size, counts = outline.get("size"), outline.get("counts")
    if not isinstance(size, list) or size != [height, width]:
        return (
            f"has an RLE of size {_short(size)}; expected [{height}, {width}] (height, width), as its image."
        )
    if isinstance(counts, str) or (isinstance(counts, list) and set(map(type, counts)) <= {int}):
        return None
    return f"has RLE counts that are {kind(counts)}; expected a text, or a list of whole numbers."


def _check_polygons(entry: dict[str, Any], outline: list[Any], height: int, width: int) -> list[Finding]:
    findings: list[Finding] = []
    if set(map(type, outline)) <= NUMBERS:
        text = "holds one flat list of coordinates; expected a list of polygons. It is read as one polygon."
        findings.append(Finding("warning", text, "write [[x, y, x, y, ...]]."))
        outline = entry["segmentation"] = [outline]
    faults = [_polygon_fault(part) for part in outline]
    parts = [part for part, fault in zip(outline, faults, strict=True) if not fault]
    if len(parts) < len(outline):
        fault = next(fault for fault in faults if fault)
        if not parts:
            return [*findings, _error(fault)]
        findings.append(Finding("error", fault, "redraw or delete that polygon.", "the polygon"))
        entry["segmentation"] = parts
    # Most outlines lie inside; only of the others x and y are told apart.
    low, high = min(map(min, parts)), max(map(max, parts))
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
