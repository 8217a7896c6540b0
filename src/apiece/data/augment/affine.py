"""Turned, stretched, sheared and moved: one matrix for the picture and for every mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.masks import Masks
from apiece.data.augment.base import Colour, Range, as_rgb, check_colour, check_fraction, check_range
from apiece.data.augment.scale_crop import BLACK, SAMPLED
from apiece.data.augment.targets import Change, everything, extent, placed, settled
from apiece.data.sample import Sample
from apiece.errors import UsageError

Matrix = npt.NDArray[np.float64]
HALF = 128  # of 255: a pixel is object from here


@dataclass(frozen=True)
class Affine:
    """A random turn, stretch, shear and shift about the picture's centre; the picture keeps its size.

    p            probability.
    rotation     largest turn either way, degrees.
    scale        range of the common factor of both axes, drawn log-uniformly; from 0.5 to 10. Smaller is for
                 `ScaleCrop`, which averages pixels where this would skip some.
    aspect       range of the ratio of the horizontal factor to the vertical one, drawn log-uniformly; 0.25 to 4.
    shear        largest slant of vertical lines either way, degrees, below 60.
    translate    largest shift either way along each axis, as a fraction of the picture's side.
    fill         colour of what lies outside the old picture.
    min_visible  an object of which less than this fraction of its due area is left in the picture is no longer a
                 target, and counts in `Sample.dropped` as long as a pixel of it can be seen.
    as_ignore    see `ScaleCrop`.
    raises       UsageError if a value can't be meant.
    """

    p: float = 0.5
    rotation: float = 15.0
    scale: Range = (0.8, 1.25)
    aspect: Range = (0.9, 1.1)
    shear: float = 5.0
    translate: float = 0.1
    fill: Colour = BLACK
    min_visible: float = 0.2
    as_ignore: bool = False

    def __post_init__(self) -> None:
        check_fraction("Affine p", self.p)
        check_fraction("Affine translate", self.translate)
        check_fraction("Affine min_visible", self.min_visible)
        check_range("Affine scale", self.scale, SAMPLED, 10)
        check_range("Affine aspect", self.aspect, 0.25, 4)
        check_colour("Affine fill", self.fill)
        if not 0 <= self.rotation <= 180:
            raise UsageError(f"Affine rotation is {self.rotation}; expected 0 to 180 degrees.")
        if not 0 <= self.shear < 60:
            raise UsageError(f"Affine shear is {self.shear}; expected 0 to less than 60 degrees.")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Change picture and masks by one matrix."""
        if rng.random() >= self.p:
            return sample
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        slant = math.tan(math.radians(rng.uniform(-self.shear, self.shear)))
        factor = math.exp(rng.uniform(*np.log(self.scale)))
        stretch = math.exp(rng.uniform(*np.log(self.aspect)) / 2)
        sides = np.array(sample.size[::-1], np.float64)
        move = rng.uniform(-self.translate, self.translate, 2) * sides
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn @ np.array([[1, slant], [0, 1]]) @ np.diag([factor * stretch, factor / stretch])
        matrix = np.column_stack([linear, sides / 2 + move - linear @ (sides / 2)])
        return warped(sample, matrix, sample.size, self.fill, self.min_visible, self.as_ignore)


def warped(
    sample: Sample,
    matrix: Matrix,
    size: tuple[int, int],
    fill: Colour = BLACK,
    min_visible: float = 0.0,
    as_ignore: bool = False,
) -> Sample:
    """The sample moved by a matrix, on a picture of `size`.

    matrix  float64 (2, 3): continuous x, y of a point -> its new x, y, where pixel (x, y) spans x to x + 1. Picture
            and masks are sampled at new pixels' centres, bilinearly; a new pixel is object from one half. An
            object whose centre stays in the picture keeps at least the best-covered pixel.
    raises  UsageError if the matrix can't be inverted.
    """
    determinant = abs(float(np.linalg.det(matrix[:, :2])))
    if not determinant > 1e-9:
        raise UsageError(
            f"the matrix {matrix.tolist()} flattens the picture; expected one that can be inverted."
        )
    image = as_rgb(
        cv2.warpAffine(
            sample.image,
            _of_indices(matrix, 0, 0, 0, 0),
            size[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=fill,
        )
    )
    objects = everything(sample)
    masks = _warped(objects.masks, matrix, size)
    boxes = _bounds(objects.boxes, matrix)
    edges = np.array(size[::-1] * 2)
    inside = ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= edges[:2])).all(axis=1)
    clipped = np.clip(boxes, 0, edges).astype(np.float32)
    boxed = objects.masks.areas == 0
    remains = np.where(boxed, extent(clipped), masks.areas)
    change = Change(
        placed(objects, masks, clipped),
        left=remains,
        due=np.where(boxed, extent(boxes), objects.masks.areas * determinant),
        seen=inside | (remains > 0),
    )
    return settled(sample, image, change, len(sample.instances), min_visible, as_ignore)


def _warped(masks: Masks, matrix: Matrix, size: tuple[int, int]) -> Masks:
    """Every mask sampled in the window on which its bitmap falls."""
    boxes = _bounds(masks.boxes, matrix)
    # A pixel of room, so that rounding of the matrix can't cut off a row.
    low = np.maximum(np.floor(boxes[:, :2]) - 1, 0).astype(np.int64)
    high = np.minimum(np.ceil(boxes[:, 2:]) + 1, size[::-1]).astype(np.int64)
    crops: list[npt.NDArray[np.bool_]] = []
    for i, (crop, (x, y)) in enumerate(masks):
        width, height = (high[i] - low[i]).tolist()
        if crop.size == 0 or width <= 0 or height <= 0:
            crops.append(np.zeros((0, 0), np.bool_))
            continue
        left, top = low[i].tolist()
        covered = cv2.warpAffine(
            crop.view(np.uint8) * np.uint8(255),
            _of_indices(matrix, x, y, left, top),
            (width, height),
            flags=cv2.INTER_LINEAR,
        )
        drawn = covered >= HALF
        if not drawn.any():
            drawn = _nearest(crop, matrix, (x, y), (left, top), drawn.shape)
        crops.append(drawn)
    return Masks.from_crops(crops, low, size)


def _nearest(
    crop: npt.NDArray[np.bool_],
    matrix: Matrix,
    old: tuple[int, int],
    new: tuple[int, int],
    shape: tuple[int, ...],
) -> npt.NDArray[np.bool_]:
    """The one new pixel in which the object's pixel nearest to its centre lies, if it lies in the window."""
    points = np.argwhere(crop)[:, ::-1] + 0.5
    middle = points[np.square(points - points.mean(axis=0)).sum(axis=1).argmin()] + old
    column, row = np.floor(matrix[:, :2] @ middle + matrix[:, 2] - new).astype(int).tolist()
    drawn = np.zeros(shape, np.bool_)
    if 0 <= column < shape[1] and 0 <= row < shape[0]:
        drawn[row, column] = True
    return drawn


def _of_indices(matrix: Matrix, old_x: int, old_y: int, new_x: int, new_y: int) -> Matrix:
    """The matrix from pixel indices of a window at (old_x, old_y) to those of one at (new_x, new_y)."""
    old, new = np.array([old_x + 0.5, old_y + 0.5]), np.array([new_x + 0.5, new_y + 0.5])
    return np.column_stack([matrix[:, :2], matrix[:, :2] @ old + matrix[:, 2] - new])


def _bounds(boxes: npt.NDArray[np.floating], matrix: Matrix) -> npt.NDArray[np.float64]:
    """Upright boxes (N, 4) around the moved ones."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ matrix[:, :2].T + matrix[:, 2]
    bounds: npt.NDArray[np.float64] = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return bounds
