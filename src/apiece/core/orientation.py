"""Orientation: EXIF's and TIFF's tag 274, and Pillow without its own guards."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

TAG = 274
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
INVERSE = {6: 8, 8: 6}  # all others undo themselves

# Both warnings' filters and Pillow's limit belong to the whole process: without a lock two threads could leave
# each other's settings behind.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def unguarded() -> Iterator[None]:
    """Inside this block Pillow doesn't warn (odd metadata, many pixels) and doesn't apply its own pixel limit.

    For files whose header has been checked against `ImageLimits`, or from which the header alone is read.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def orientation_of(picture: Image.Image) -> int:
    """The orientation that EXIF, or else XMP, gives: 1 to 8; 1 where there is none or it cannot be read."""
    try:
        # The base class's method: PngImageFile.getexif would decode the whole picture.
        value = Image.Image.getexif(picture).get(TAG, 1)
    except (
        Exception
    ):  # damaged metadata raises anything from struct.error to SyntaxError; the pixels are fine
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orient(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Stored rows and columns (H, W, …) as they are meant to be seen: a view, (W, H, …) for 5 to 8."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return np.rot90(pixels, -1)
        case 7:
            return np.rot90(pixels, 2).swapaxes(0, 1)
        case 8:
            return np.rot90(pixels, 1)
        case _:
            return pixels
