"""Pixel width: how many micrometres the metadata of a microscope's picture give a pixel."""

from __future__ import annotations

import math
import re
from typing import Any

from apiece.core.tiff import Stack

LONGEST_XML = 1 << 24
# Resolutions in dots an inch that programs write when nothing was measured.
UNMEASURED = (72, 96, 100, 150, 200, 300, 600)
MICRONS = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "å": 1e-4,
    "in": 25400.0,
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "um": 1.0,
    "nanometer": 1e-3,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "inch": 25400.0,
}


def microns_of(value: Any, unit: Any) -> float | None:
    """A length in µm; None where the unit is none of length or the value no positive number."""
    factor = MICRONS.get(str(unit).strip().replace("\u03bc", "\u00b5").replace("\\u00B5", "\u00b5").lower())
    try:
        microns = float(value) * (factor or 0.0)
    except (TypeError, ValueError):
        return None
    return microns if math.isfinite(microns) and microns > 0 else None


def tiff_microns(stack: Stack, size: tuple[int, int]) -> float | None:
    """Width of a pixel in µm by OME-XML, ImageJ's or Aperio's metadata, or the resolution tags; else None.

    Resolutions that programs write by default, such as 72 or 300 dots an inch, say nothing.
    """
    file = stack.series.parent
    try:
        if file.is_ome and file.ome_metadata:
            return _ome(str(file.ome_metadata), size)
        page = file.pages[0] if file.is_imagej else stack.key
        per_unit = _resolution(page)
        if file.is_imagej:
            unit = (file.imagej_metadata or {}).get("unit")
            return microns_of(1 / per_unit, unit) if per_unit and unit else None
        aperio = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", str(page.description)[:100_000])
        if aperio:
            return microns_of(aperio[1], "µm")
        kind = page.tags.valueof(296, default=2)
        if not per_unit or kind not in (2, 3):
            return None
        dots = per_unit * (2.54 if kind == 3 else 1.0)
        if any(abs(dots - one) < 0.5 for one in UNMEASURED):
            return None
        return 25400.0 / dots
    except Exception:  # metadata of a stranger, through tifffile's parsers: the pixels are fine
        return None


def _resolution(page: Any) -> float | None:
    """Pixels a unit, from TIFF's tag 282."""
    value = page.tags.valueof(282, default=None)
    if not isinstance(value, tuple) or len(value) != 2 or not value[1] or value[0] <= 0:
        return None
    return float(value[0]) / float(value[1])


def _ome(text: str, size: tuple[int, int]) -> float | None:
    """PhysicalSizeX of the first image of this size."""
    from defusedxml import ElementTree

    if len(text) > LONGEST_XML:
        return None
    for pixels in ElementTree.fromstring(text).iter():
        if pixels.tag.rsplit("}", 1)[-1] == "Pixels" and pixels.get("SizeX") == str(size[1]):
            return microns_of(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm"))
    return None
