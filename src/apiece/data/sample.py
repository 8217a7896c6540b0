"""Sample: one picture with its objects, as training and evaluation see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and its ground truth.

    image      uint8 (H, W, 3), RGB.
    instances  the objects, in this picture's pixels; `instances.size` is (H, W).
    path       where the picture came from, or a name for it; used in messages.
    image_id   the picture's number in its dataset.
    dropped    how many objects can still be seen in part but are no longer among `instances`, because
               augmentation left too little of them. 0 for a picture as read from disk.

    raises GeometryError if picture and objects differ in size.
    """

    image: npt.NDArray[np.uint8]
    instances: Instances
    path: str = ""
    image_id: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        image = self.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise GeometryError(
                f"{self.path or 'sample'}: picture is {image.dtype} {image.shape}; "
                "expected uint8 (height, width, 3), RGB. Read it with apiece.core.image.read_image."
            )
        if tuple(image.shape[:2]) != tuple(self.instances.size):
            raise GeometryError(
                f"{self.path or 'sample'}: picture is {image.shape[:2]} (height, width) but its objects "
                f"were drawn on {tuple(self.instances.size)}. Resize both together."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.image.shape[0]), int(self.image.shape[1])
