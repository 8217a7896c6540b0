"""What raster formats share: pixels that go to the first object, PNG files, lists of class names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.image import image_size
from apiece.core.masks import Masks
from apiece.data.formats.base import FileSource, Size
from apiece.errors import AnnotationError, DataError

# How folders are called that hold a part of a data set.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
MOST_LIST = 2**22  # bytes of a list of class names


@dataclass(frozen=True, eq=False)
class RasterSource(FileSource):
    """Annotations that are pictures themselves, one for each photograph."""

    def size(self, index: int) -> Size:
        """See Source; of the label image, where there is no photograph."""
        return image_size(self.files[index]) if self.pictures[index].path is None else super().size(index)


def owners(masks: Masks) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Which object has each pixel, and which objects have one; of objects that overlap, the first has it.

    returns  int32 (H, W), the object's place from 1, 0 for none; bool (N,).
    """
    canvas = np.zeros(masks.size, np.int32)
    corners, shapes = masks.offsets.tolist(), masks.shapes.tolist()
    for i in reversed(range(len(masks))):
        (x, y), (height, width) = corners[i], shapes[i]
        canvas[y : y + height, x : x + width][masks.crop(i)] = i + 1
    counts = np.bincount(canvas.reshape(-1), minlength=len(masks) + 1)
    return canvas, counts[1:] > 0


def write_png(path: Path, values: npt.NDArray[Any]) -> None:
    """Write uint8 or uint16 (H, W) as a grey PNG of as many bits; its folder is made.

    raises  DataError if it can't be written.
    """
    import cv2

    _, data = cv2.imencode(".png", values, (cv2.IMWRITE_PNG_COMPRESSION, 3))
    write_bytes(path, data.tobytes())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; its folder is made.

    raises  DataError if it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).") from None


def read_text(path: Path) -> str:
    """A short text file in UTF-8.

    raises  AnnotationError if it can't be read, is too long, or no text.
    """
    try:
        if path.stat().st_size > MOST_LIST:
            raise AnnotationError(
                f"{path}: has {path.stat().st_size:,} bytes; expected at most {MOST_LIST:,}. Remedy: is it the "
                "right file?"
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: is not text in UTF-8 (byte {error.start}). Remedy: save it again as UTF-8."
        ) from None


def read_lines(path: Path) -> list[str]:
    """The lines of a short text without spaces at their ends; empty ones at the end are left out.

    raises  AnnotationError as `read_text`.
    """
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    return lines if lines != [""] else []


def one_line(classes: ClassMap, notes: list[str]) -> tuple[str, ...]:
    """The classes' names as lines of a text can hold them; what is changed is noted.

    raises  AnnotationError if two names would become the same.
    """
    names = tuple(
        " ".join(name.split()) if name != name.strip() or _breaks(name) else name for name in classes.names
    )
    for before, after in zip(classes.names, names, strict=True):
        if before != after:
            notes.append(f"The class {before!r} is called {after!r}, as a line can't hold its name.")
    ClassMap(names)
    return names


def _breaks(name: str) -> bool:
    return any(character in name for character in "\n\r\0")


def listed(names: Iterable[str]) -> str:
    """Up to three names, for messages."""
    every = list(names)
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")
