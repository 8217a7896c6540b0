"""Annotation formats, one module each: `detect`, `open_source`, and a Target that writes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from apiece.data.formats.base import Holds, Picture, Source, Target
from apiece.errors import DataError, UsageError, did_you_mean

__all__ = [
    "FORMATS",
    "Format",
    "Holds",
    "Picture",
    "Source",
    "Target",
    "detect_format",
    "format_of",
    "open_source",
]

FORMATS = (
    "coco",
    "coco-panoptic",
    "yolo",
    "labelme",
    "voc",
    "cityscapes",
    "cvat",
    "labelstudio",
    "labels",
    "mask-files",
    "imagej",
    "geojson",
    "mots",
)
MODULES = {"coco-panoptic": "panoptic"}


class Format(Protocol):
    """What the module of a format has.

    NAME    as the command line calls it.
    TITLE   for a person.
    LAYOUT  what lies where, in a line.
    TARGET  the class that writes it.
    """

    NAME: str
    TITLE: str
    LAYOUT: str
    TARGET: type[Target]

    def detect(self, path: Path) -> bool:
        """Whether a file or folder is of this format, by names and the first bytes; False when in doubt."""
        ...

    def open_source(self, path: Path, images: Path | None = None, *, strict: bool = True) -> Source:
        """The annotations; `images` is the picture folder where pictures lie elsewhere.

        strict  True: the first error is raised; False: what is wrong is in the source's `problems`.
        """
        ...


def format_of(name: str) -> Format:
    """The format of this name.

    raises  UsageError with the nearest name.
    """
    if name not in FORMATS:
        raise UsageError(f"no format {name!r}. {did_you_mean(name, FORMATS)}")
    module = MODULES.get(name, name.replace("-", "_"))
    return cast(Format, importlib.import_module(f"{__name__}.{module}"))


def detect_format(path: str | Path) -> str:
    """The name of the only format that a file or folder can be; of damaged data, of what it most likely is.

    raises  DataError if `path` isn't there or is of no known format; UsageError if it can be of several.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path}: not found; expected a file or folder of annotations. Remedy: check the path."
        )
    found = [name for name in FORMATS if format_of(name).detect(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{path}: can be read as {' or '.join(found)}. Remedy: say which by --format (convert: --from)."
        )
    nearest = _nearest(path)
    if nearest is not None:
        return nearest
    layouts = "\n".join(f"  {name:14}{format_of(name).LAYOUT}" for name in FORMATS)
    raise DataError(
        f"{path}: of no annotation format known here. Remedy: name the folder or document itself, or say the format "
        f"by --format (convert: --from) to hear what is missing.\n{layouts}"
    )


def _nearest(path: Path) -> str | None:
    """What a damaged data set most likely is, so that its reader can say what is wrong with it."""
    if path.is_dir():
        if (path / "images").is_dir() and any((path / name).is_dir() for name in ("labels", "masks")):
            return "labels"
        return "coco" if any(path.glob("*.json")) or any(path.glob("annotations/*.json")) else None
    return {".json": "coco", ".xml": "cvat"}.get(path.suffix.lower())


def open_source(
    path: str | Path, images: str | Path | None = None, format: str | None = None, *, strict: bool = True
) -> Source:
    """Open annotations of any format.

    images  the picture folder, where pictures don't lie where the format has them.
    format  of FORMATS; detected by default.
    strict  False: what is wrong is listed in the source's `problems` instead of raised.
    raises  UsageError and DataError as `detect_format`; DataError if `images` is no folder; with `strict`
            AnnotationError for the first error.
    """
    path = Path(path)
    known = format_of(detect_format(path) if format is None else format)
    if not path.exists():
        raise DataError(
            f"{path}: not found; expected a file or folder of annotations. Remedy: check the path."
        )
    if images is not None and not Path(images).is_dir():
        raise DataError(f"{images}: not found; expected the picture folder. Remedy: check the path.")
    return known.open_source(path, None if images is None else Path(images), strict=strict)
