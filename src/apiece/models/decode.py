"""From a network's candidates to objects on the picture: written once, for every family and runtime.

Threshold first, then upsample the logits inside each object's own window, then cut at native resolution:
the cost is that of the objects' boxes, never N × H × W. NumPy and OpenCV only.

A pixel belongs to an object where its centre lies in the grid's extent and the grid, interpolated bilinearly
between cell centres, is above 0 there; between the outermost cell centres and the grid's edge the border cell's
value continues. Why not cv2.resize: it knows only integer boxes and so flips up to 0.6 % of a mask's pixels.
cv2.remap and cv2.warpAffine are exact in OpenCV 5 but round to 1/32 of a cell in 4, and are no faster.
"""

from __future__ import annotations

from collections.abc import Sequence
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
Double = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Pixels interpolated at once: two float32 bands stay in the cache, and a mask of any size needs no more memory.
BAND = 1 << 17


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
    box_masks: bool = False,
) -> Decoded:
    """The objects of picture `index` of a batch, in original pixels, in the candidates' order (by score).

    frame       how the picture lies in the network's input.
    threshold   lowest score of an object; empty slots (score 0) never count.
    boxes_from  "masks": tight boxes of the masks; "network": predicted boxes, clipped to the picture.
    box_masks   the masks are whole boxes: each object says so in the column `box_mask`.
    The result is `truncated` when every one of the K slots is over the threshold: there may be more objects.
    raises      ModelError when a label has no class, a logit is not finite, or a predicted box is turned over.
    """
    scores = candidates.scores[index]
    chosen = np.flatnonzero((scores >= threshold) & (scores > 0))
    # By contract scores descend, so that this is a prefix, and the logits need not be copied.
    kept: slice | npt.NDArray[np.intp] = chosen
    if len(chosen) == 0 or chosen[-1] == len(chosen) - 1:
        kept = slice(len(chosen))
    labels = candidates.labels[index, kept]
    strange = labels[(labels < 0) | (labels >= len(classes))]
    if len(strange):
        raise ModelError(
            f"the network gave label {int(strange[0])}, its card names {len(classes)} classes. "
            "Network and card do not belong together."
        )
    boxes = frame.boxes_to_original(candidates.boxes[index, kept])
    grids: Sequence[Float] | Float = candidates.masks[index, kept]
    extents = boxes
    if candidates.mask_frame == "image":
        grids, extents = _cropped(candidates.masks[index, kept], frame)
    _refuse_infinite(grids)
    masks = _paste(grids, extents, frame.size)
    full = masks.shapes[:, 0] > 0
    instances = Instances(
        size=frame.size,
        masks=masks if full.all() else masks[full],
        class_ids=labels[full],
        scores=scores[kept][full],
        boxes=None if boxes_from == "masks" else _clipped(boxes[full], frame.size),
        classes=classes,
        truncated=len(chosen) == candidates.capacity,
        columns={"box_mask": np.ones(int(full.sum()), dtype=np.bool_)} if box_masks else None,
    )
    return Decoded(instances, int(np.count_nonzero(~full)))


def _clipped(boxes: Double, size: tuple[int, int]) -> Float:
    turned = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(turned):
        raise ModelError(
            f"the network gave the box {boxes[turned[0]].round(1).tolist()}; expected x1 <= x2 and y1 <= y2. "
            "Its weights are damaged, or its boxes are not x1, y1, x2, y2."
        )
    height, width = size
    return np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)


def _refuse_infinite(grids: Sequence[Float] | Float) -> None:
    if not len(grids):
        return
    # A sum is finite only where every term is; it costs less than looking at each.
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(grids, np.ndarray):
            totals = grids.reshape(len(grids), -1).sum(axis=1)
        else:
            totals = np.array([grid.sum() for grid in grids])
    if not np.isfinite(totals).all():
        raise ModelError(
            f"masks: candidate {int(np.flatnonzero(~np.isfinite(totals))[0])} has a logit that is NaN or infinite; "
            "expected finite numbers. The weights are damaged, or the network overflows in this precision."
        )


def _cropped(logits: Float, frame: Frame) -> tuple[list[Float], Double]:
    """Grids (N, h, w) that span the network's input -> the part of each that matters, and its extent (N, 4) in
    original pixels."""
    rows, columns = logits.shape[1:]
    step_y, step_x = frame.input_size[0] / rows, frame.input_size[1] / columns
    grids, extents = [], []
    for grid in logits:
        # "Not <= 0" instead of "> 0", so that NaN is inside and gets refused.
        x, y, w, h = cv2.boundingRect((~(grid <= 0)).view(np.uint8))
        # One cell more on each side: the outline lies between the last cell that is on and the first that is off.
        x1, y1, x2, y2 = max(x - 1, 0), max(y - 1, 0), min(x + w + 1, columns), min(y + h + 1, rows)
        if w == 0:
            x1 = y1 = x2 = y2 = 0
        grids.append(grid[y1:y2, x1:x2])
        extents.append((x1 * step_x, y1 * step_y, x2 * step_x, y2 * step_y))
    return grids, frame.boxes_to_original(np.array(extents, dtype=np.float64).reshape(-1, 4))


def _paste(grids: Sequence[Float] | Float, extents: Double, size: tuple[int, int]) -> Masks:
    """Grids (h, w), each spanning its extent (N, 4: xyxy edges, original pixels) -> masks on the picture."""
    limits = np.array(size[::-1], dtype=np.float64)
    # Pixel p has its centre at p + 0.5; the first inside is ceil(edge - 0.5), and so is the first beyond.
    first = np.clip(np.ceil(extents[:, :2] - 0.5), 0, limits).astype(np.int64)
    count = np.clip(np.ceil(extents[:, 2:] - 0.5), first, limits).astype(np.int64) - first
    cells = np.array([grid.shape for grid in grids], dtype=np.int64).reshape(-1, 2)
    count[(cells == 0).any(axis=1) | (count == 0).any(axis=1)] = 0
    x = _Steps(first[:, 0], count[:, 0], extents[:, 0], extents[:, 2], cells[:, 1])
    y = _Steps(first[:, 1], count[:, 1], extents[:, 1], extents[:, 3], cells[:, 0])
    crops = []
    for i, (width, height) in enumerate(count.tolist()):
        inside = np.empty((height, width), dtype=np.bool_)
        crops.append(inside)
        if not inside.size:
            continue
        # Along x on the grid's few rows first: it is the cheap side.
        begin, end = x.starts[i], x.starts[i + 1]
        stretched = _between(np.asarray(grids[i], np.float32), x.lower[begin:end], x.way[begin:end], axis=1)
        begin, end = y.starts[i], y.starts[i + 1]
        rows = max(BAND // width, 1)
        for a in range(begin, end, rows):
            b = min(a + rows, end)
            values = _between(stretched, y.lower[a:b], y.way[a:b, None], axis=0)
            np.greater(values, 0, out=inside[a - begin : b - begin])
    return Masks.from_crops(crops, first, size)


class _Steps:
    """Where the pixel centres of N windows fall on their grids, along one axis, all windows in one array.

    first, count   int64 (N,): each window's first pixel, and how many it has.
    edge1, edge2   float64 (N,): where the grid begins and ends, in pixels.
    cells          int64 (N,): cells of the grid.

    starts  N + 1 ints, window i's part of the arrays; lower: the cell centre at or before the pixel, at most the
    last but one; way: how far on to the next, 0 to 1.
    """

    def __init__(self, first: Int, count: Int, edge1: Double, edge2: Double, cells: Int) -> None:
        ends = np.cumsum(count)
        starts = ends - count
        self.starts = [0, *ends.tolist()]
        pixel = np.arange(self.starts[-1]) - np.repeat(starts - first, count)
        with np.errstate(divide="ignore", invalid="ignore"):  # an extent without width has no pixel
            scale = cells / (edge2 - edge1)
        at = (pixel + 0.5 - np.repeat(edge1, count)) * np.repeat(scale, count) - 0.5
        at = np.clip(at, 0, np.repeat(cells - 1, count))
        self.lower = np.minimum(at.astype(np.intp), np.repeat(np.maximum(cells - 2, 0), count))
        self.way = (at - self.lower).astype(np.float32)


def _between(values: Float, lower: npt.NDArray[np.intp], way: Float, axis: int) -> Float:
    """Linear interpolation of a (h, w) array along one axis, `way` from line `lower` to the next."""
    near = values.take(lower, axis)
    if values.shape[axis] == 1:
        return near
    out = values.take(lower + 1, axis)
    out -= near
    out *= way
    out += near
    return out
