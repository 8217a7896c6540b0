"""OME-TIFF: label images that know how wide a pixel is, and that width of any TIFF file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy.typing as npt

from apiece.core.pixel_width import tiff_microns
from apiece.core.tiff import open_plane
from apiece.data.formats.raster import write_bytes
from apiece.errors import DataError


def microns_of_file(path: Path) -> float | None:
    """Width of a pixel in µm as a TIFF file states it (OME-XML, ImageJ, resolution tags), from its header.

    None for other files, for files that don't state it, and for those that can't be read.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with path.open("rb") as file:
            plane = open_plane(file, str(path), 0)
            return tiff_microns(plane.stack, plane.size)
    except (OSError, DataError):
        return None


def write_tiff(path: Path, labels: npt.NDArray[Any], microns: float | None) -> None:
    """Write a label image (H, W) as TIFF, with deflate; with `microns` as OME-TIFF with PhysicalSizeX and Y in µm.

    raises  DataError if it can't be written.
    """
    import tifffile

    details: dict[str, Any] = {"metadata": None}
    if microns is not None:
        sizes = {f"PhysicalSize{axis}": microns for axis in "XY"}
        units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
        details = {"ome": True, "metadata": {"axes": "YX", **sizes, **units}}
    file = io.BytesIO()
    tifffile.imwrite(file, labels, photometric="minisblack", compression="zlib", **details)
    write_bytes(path, file.getvalue())
