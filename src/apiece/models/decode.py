"""From a network's candidates to objects on the picture: written once, for every family and runtime.

Threshold first, then upsample the logits inside each object's own window, then cut at native resolution:
the cost is that of the objects' boxes, never N × H × W. NumPy and OpenCV only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.frame import Frame
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import ModelError
from apiece.models.contract import Candidates

Float = npt.NDArray[np.float32]
NOTHING = np.zeros((0, 0), dtype=bool)


class Decoded(NamedTuple):
    """instances: objects with at least one pixel; empty: candidates over the threshold whose mask had none."""

    instances: Instances
    empty: int


def decode(
    candidates: Candidates,
    index: int,
    frame: Frame,
    classes: ClassMap,
    *,
    threshold: float,
    boxes_from: str = "masks",
) -> Decoded:
    """The objects of picture `index` of a batch, in original pixels, by descending score.

    frame       how the picture lies in the network's input.
    threshold   lowest score of an object; empty slots (score 0) never count.
    boxes_from  "masks": tight boxes of the masks; "network": predicted boxes, clipped to the picture.
    The result is `truncated` when every one of the K slots is over the threshold: there may be more objects.
    raises      ModelError when a label has no class.
    """
    scores = candidates.scores[index]
    chosen = np.flatnonzero((scores >= threshold) & (scores > 0))
    labels = candidates.labels[index, chosen]
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise ModelError(
            f"the network gave label {int(labels.max())}, its card names {len(classes)} classes. "
            "Network and card do not belong together."
        )
    boxes = candidates.boxes[index, chosen]
    # One view after the other: picking them all at once would copy every logit map.
    logits = (candidates.masks[index, slot] for slot in chosen)
    if candidates.mask_frame == "box":
        masks = _paste(logits, frame.boxes_to_original(boxes), frame.size)
    else:
        masks = _from_image_frame(logits, (candidates.masks.shape[2], candidates.masks.shape[3]), frame)
    full = masks.areas > 0
    instances = Instances(
        size=frame.size,
        masks=masks[full],
        class_ids=labels[full],
        scores=scores[chosen][full],
        boxes=None if boxes_from == "masks" else _clipped(frame.boxes_to_original(boxes[full]), frame.size),
        classes=classes,
        truncated=len(chosen) == candidates.capacity,
    )
    return Decoded(instances, int(np.count_nonzero(~full)))


def _clipped(boxes: npt.NDArray[np.float64], size: tuple[int, int]) -> Float:
    height, width = size
    return np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)


def _paste(grids: Iterable[Float], boxes: npt.NDArray[np.float64], size: tuple[int, int]) -> Masks:
    """Grids (h, w), each spanning its box (N, 4: xyxy edges, original pixels) -> masks on the picture."""
    height, width = size
    crops, corners = [], []
    for grid, (x1, y1, x2, y2) in zip(grids, boxes.tolist(), strict=True):
        # The pixels whose centres lie in the box.
        left, upper = max(int(np.ceil(x1 - 0.5)), 0), max(int(np.ceil(y1 - 0.5)), 0)
        right, lower = min(int(np.ceil(x2 - 0.5)), width), min(int(np.ceil(y2 - 0.5)), height)
        visible = right > left and lower > upper and grid.size > 0
        crops.append(_cut(grid, (x1, y1, x2, y2), (left, upper, right, lower)) if visible else NOTHING)
        corners.append((left, upper))
    return Masks.from_crops(crops, np.array(corners, dtype=np.int64).reshape(-1, 2), size)


def _cut(
    grid: Float, box: tuple[float, float, float, float], window: tuple[int, int, int, int]
) -> npt.NDArray[np.bool_]:
    """Sample a grid that spans `box` bilinearly at the pixel centres of an integer window, and cut at 0.

    Outside the outermost cell centres the border's value continues. Exact in float32, whereas cv2.resize knows
    only integer boxes.
    """
    left, upper, right, lower = window
    x, fx = _steps(left, right, box[0], box[2], grid.shape[1])
    y, fy = _steps(upper, lower, box[1], box[3], grid.shape[0])
    # Along x on the grid's few rows first: it is the cheap side.
    columns = grid[:, x]
    columns += (grid[:, x + 1] - columns) * fx if grid.shape[1] > 1 else 0
    rows = columns[y]
    if grid.shape[0] > 1:
        rows += (columns[y + 1] - rows) * fy[:, None]
    inside: npt.NDArray[np.bool_] = rows > 0
    return inside


def _steps(
    first: int, last: int, edge1: float, edge2: float, cells: int
) -> tuple[npt.NDArray[np.intp], Float]:
    """Lower cell and fraction of the way to the next, for the centres of pixels first … last - 1."""
    at = (np.arange(first, last) + (0.5 - edge1)) * (cells / (edge2 - edge1)) - 0.5
    np.clip(at, 0, cells - 1, out=at)
    lower = np.minimum(at.astype(np.intp), max(cells - 2, 0))
    return lower, (at - lower).astype(np.float32)


def _from_image_frame(logits: Iterable[Float], grid_size: tuple[int, int], frame: Frame) -> Masks:
    """Grids of `grid_size` (h, w) that span the network's input -> masks on the picture."""
    rows, columns = grid_size
    step_y, step_x = frame.input_size[0] / rows, frame.input_size[1] / columns
    grids, boxes = [], []
    for grid in logits:
        x, y, w, h = cv2.boundingRect((grid > 0).view(np.uint8))
        # One cell more on each side: the outline lies between the last cell that is on and the first that is off.
        x1, y1, x2, y2 = max(x - 1, 0), max(y - 1, 0), min(x + w + 1, columns), min(y + h + 1, rows)
        if w == 0:
            x1 = y1 = x2 = y2 = 0
        grids.append(grid[y1:y2, x1:x2])
        boxes.append((x1 * step_x, y1 * step_y, x2 * step_x, y2 * step_y))
    return _paste(
        grids, frame.boxes_to_original(np.array(boxes, dtype=np.float64).reshape(-1, 4)), frame.size
    )
