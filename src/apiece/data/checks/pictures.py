"""Picture files: whether they can be read, which way up they are stored, and whether they show anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from apiece.core import png
from apiece.core.image import image_size, read_image
from apiece.core.orientation import orientation_of, unguarded
from apiece.data.checks.view import Finding

ASPECT = 5  # longer side over the shorter, from which a square input leaves little of the picture
DEPTHS = {"1": 1, "I": 32, "F": 32}  # bits a sample of Pillow's modes, where not 8 or in the mode's name

RGB = npt.NDArray[np.uint8]


class PictureFile(NamedTuple):
    """What was learned of a picture file.

    size         (height, width), upright.
    digest       of its bytes; equal files have equal digests.
    orientation  EXIF's, 1 to 8; 1 is upright.
    depth        bits a sample; 0 where Pillow can't tell.
    image        the picture, upright; None where only the header was read.
    """

    size: tuple[int, int]
    digest: bytes
    orientation: int
    depth: int
    image: RGB | None

    @property
    def kind(self) -> str:
        """Such as "8 bits, colour"; "" where the picture wasn't decoded, or shows nothing."""
        if self.image is None or is_blank(self.image):
            return ""
        depth = f"{self.depth} bits" if self.depth else "unknown depth"
        return f"{depth}, {'grey' if is_grey(self.image) else 'colour'}"


def read_picture(path: Path, decode: bool = True) -> PictureFile:
    """Read a picture file; every byte is decoded, which is the only way to find one that breaks off.

    raises  ImageError as `read_image` and `image_size` do.
    """
    size = image_size(path)
    image = read_image(path) if decode else None
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    orientation, depth = _header(path)
    return PictureFile(size, digest.digest(), orientation, depth, image)


def picture_findings(picture: PictureFile) -> Iterator[Finding]:
    """What is odd about a picture that can be read."""
    height, width = picture.size
    if picture.orientation != 1:
        text = (
            f"is stored turned (EXIF orientation {picture.orientation}); here it is set upright, but tools that "
            "ignore the tag show its labels turned."
        )
        yield Finding("warning", "exif-orientation", (), text, "save it upright and without the tag.")
    if max(height, width) > ASPECT * min(height, width):
        text = (
            f"is {height} x {width} (height x width), {max(height, width) / min(height, width):.1f} times as long as "
            "wide; in a square input little of it is left."
        )
        yield Finding("warning", "aspect", (), text, "cut it into tiles.")
    if picture.image is not None and is_blank(picture.image):
        pixel = picture.image[0, 0].tolist()
        colour = {(0, 0, 0): "black", (255, 255, 255): "white"}.get(tuple(pixel), f"of the colour {pixel}")
        text = f"is all {colour}, so it shows nothing."
        yield Finding("warning", "blank", (), text, "remove it, or export it again.")


def is_blank(image: RGB) -> bool:
    """Whether all pixels are equal."""
    return bool((image == image[0, 0]).all())


def is_grey(image: RGB) -> bool:
    """Whether red, green and blue are equal everywhere."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())


def _header(path: Path) -> tuple[int, int]:
    """(orientation, bits a sample) as Pillow reads them; (1, 0) of a picture that only our own readers take."""
    try:
        with unguarded(), path.open("rb") as file, Image.open(file) as picture:
            depth = DEPTHS.get(picture.mode, 16 if "16" in picture.mode else 8)
            if picture.format == "PNG" and (picture.mode == "I" or png.is_sixteen_bit_colour(file)):
                depth = 16  # Pillow shows colour as 8 bits
            return orientation_of(picture), depth
    except Exception:  # each decoder has its own set of errors; the picture has been read by then
        return 1, 0
