"""Frame: the only place where the geometry between a picture and a network's input lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from apiece.errors import GeometryError

Size = tuple[int, int]


@dataclass(frozen=True)
class Frame:
    """How a picture lies inside a network's input: resized by one scale, then padded with zeros.

    size        (height, width) of the original picture in pixels.
    input_size  (height, width) of the network's input in pixels.
    scale       nominal scale, input pixels per original pixel, the same on both axes.
    pad         (x, y) of the picture's top-left corner inside the input, in input pixels.

    The picture is resized to whole pixels (`content`), so the true scale of each axis, `sx` and `sy`, is
    content / size and differs from `scale` by rounding. All geometry uses `sx` and `sy`.

    Two kinds of coordinates are kept apart. *Points* are pixel indices: pixel 0's centre is 0.0, and
    x_in = (x + 0.5) · sx − 0.5 + pad. *Boxes* hold continuous edges: pixel 0 spans 0.0 to 1.0, and
    x_in = x · sx + pad. Both maps are invertible and neither clips.

    raises GeometryError if a size is not positive or the resized picture doesn't fit into the input.
    """

    size: Size
    input_size: Size
    scale: float
    pad: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name, size in (("picture", self.size), ("network input", self.input_size)):
            if len(size) != 2 or min(size) < 1:
                raise GeometryError(f"{name} size {size}: expected (height, width), both at least 1 pixel.")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise GeometryError(f"scale {self.scale}: expected a positive number of input pixels per pixel.")
        height, width = self.content
        x, y = self.pad
        if min(x, y) < 0 or y + height > self.input_size[0] or x + width > self.input_size[1]:
            raise GeometryError(
                f"a picture of {self.size} (height, width) at scale {self.scale:g} takes {height} x {width} "
                f"pixels at pad (x, y) = {self.pad} and doesn't fit into the input of {self.input_size}. "
                "Use Frame.letterbox(size, input_size), which chooses a scale that fits."
            )

    @classmethod
    def letterbox(cls, size: Size, input_size: Size) -> Frame:
        """The frame that shows the whole picture as large as it fits, at the input's top-left corner.

        size, input_size  (height, width) in pixels. Small pictures are enlarged; each side keeps ≥ 1 pixel.
        """
        if min(*size, *input_size) < 1:
            raise GeometryError(
                f"cannot frame a picture of {size} (height, width) into an input of {input_size}: "
                "expected sizes of at least 1 pixel."
            )
        scale = min(input_size[0] / size[0], input_size[1] / size[1])
        return cls(
            size=(int(size[0]), int(size[1])),
            input_size=(int(input_size[0]), int(input_size[1])),
            scale=float(scale),
        )

    @property
    def content(self) -> Size:
        """(height, width) of the resized picture inside the input, in whole input pixels, each at least 1."""
        height, width = (max(1, int(side * self.scale + 0.5)) for side in self.size)
        return height, width

    @property
    def sx(self) -> float:
        """Input pixels per original pixel along x, exactly content width / width."""
        return self.content[1] / self.size[1]

    @property
    def sy(self) -> float:
        """Input pixels per original pixel along y, exactly content height / height."""
        return self.content[0] / self.size[0]

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The picture as the network's input: resized (by area when shrinking, else linearly), padded with 0.

        image    uint8 (H, W, C), of this frame's `size`.
        returns  uint8 (h, w, C) of `input_size`, a new array.
        raises   GeometryError if the picture is of another size or type.
        """
        if image.ndim != 3 or image.dtype != np.uint8 or image.shape[:2] != self.size:
            raise GeometryError(
                f"picture is {image.dtype} {image.shape}; expected uint8 (height, width, channels) = "
                f"({self.size[0]}, {self.size[1]}, C) as this frame was made for."
            )
        height, width = self.content
        x, y = self.pad
        padded = np.zeros((*self.input_size, image.shape[2]), np.uint8)
        window = padded[y : y + height, x : x + width]
        if (height, width) == self.size:
            window[...] = image
        else:
            shrinks = height < self.size[0] or width < self.size[1]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            resized = cv2.resize(image, (width, height), interpolation=method)
            window[...] = resized.reshape(height, width, -1)  # OpenCV drops a single channel's axis
        return padded

    def to_input(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Points (…, 2) as x, y pixel indices of the picture → pixel indices of the input."""
        return (_pairs(points, 2) + 0.5) * (self.sx, self.sy) - 0.5 + self.pad

    def to_original(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Points (…, 2) as x, y pixel indices of the input → pixel indices of the picture."""
        return (_pairs(points, 2) - self.pad + 0.5) / (self.sx, self.sy) - 0.5

    def boxes_to_input(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Boxes (…, 4) as xyxy edges in the picture → edges in the input."""
        return _pairs(boxes, 4) * (self.sx, self.sy, self.sx, self.sy) + (*self.pad, *self.pad)

    def boxes_to_original(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Boxes (…, 4) as xyxy edges in the input → edges in the picture, not clipped to it."""
        return (_pairs(boxes, 4) - (*self.pad, *self.pad)) / (self.sx, self.sy, self.sx, self.sy)


def _pairs(values: npt.ArrayLike, columns: int) -> npt.NDArray[Any]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != columns:
        raise GeometryError(f"coordinates have shape {array.shape}; expected (..., {columns}).")
    return array
