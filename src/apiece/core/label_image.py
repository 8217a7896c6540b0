"""Label images: one integer a pixel, 0 for background, one value an object."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from apiece.core.crops import Crops, Int64
from apiece.core.overlap import intersections
from apiece.core.runs import Runs, bounds, painted
from apiece.errors import GeometryError, UsageError, did_you_mean

Policy = Literal["error", "first", "last", "smaller"]


def _label_runs(array: NDArray[np.generic]) -> tuple[NDArray[np.generic], Int64, Int64, Int64]:
    """Value, row, start and length of every stretch of one non-zero value, row by row."""
    array = np.asarray(array)
    if array.ndim != 2 or array.dtype.kind not in "biu" or array.size == 0:
        raise GeometryError(
            f"label image has shape {array.shape} and dtype {array.dtype}; expected (height, width) of "
            "integers, 0 for background. Remedy: pass one channel of whole numbers."
        )
    flat = np.ascontiguousarray(array).reshape(-1)
    width = array.shape[1]
    change = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[::width] = True
    begins = np.flatnonzero(change)
    lengths = np.diff(begins, append=flat.size)
    values = flat[begins]
    full = values != 0
    begins, lengths, values = begins[full], lengths[full], values[full]
    if values.size and values.min() < 0:
        worst = begins[int(values.argmin())]
        raise GeometryError(
            f"label image holds {values.min()} at x {worst % width}, y {worst // width}; expected 0 for "
            "background and positive numbers. Remedy: set ignored pixels to 0, or give them their own label."
        )
    line = begins // width
    return values, line, begins - line * width, lengths


def label_values(array: NDArray[np.generic]) -> Int64:
    """The labels of a label image (H, W) in increasing order, without 0; int64 (N,).

    raises  GeometryError as `Masks.from_label_image`.
    """
    return np.unique(_label_runs(array)[0]).astype(np.int64)


def crops_of_labels(array: NDArray[np.generic], max_pixels: int) -> Crops:
    """One bitmap for every label in increasing order; `max_pixels` as in `Masks.from_label_image`."""
    values, line, start, length = _label_runs(array)
    order = np.argsort(values, kind="stable")
    values = values[order]
    owner = np.cumsum(np.diff(values, prepend=values[:1]) != 0, dtype=np.int64)
    runs = Runs(owner, line[order], start[order], length[order])
    count = int(owner[-1]) + 1 if owner.size else 0
    offsets, shapes = bounds(runs, count)
    needed = int((shapes[:, 0].astype(np.int64) * shapes[:, 1]).sum())
    if needed > max_pixels:
        raise GeometryError(
            f"label image of {array.shape} has {count} labels that need {needed:,} crop pixels; expected at most "
            f"{max_pixels:,}, as labels are objects, each in one place. Remedy: check that it is a label image and no "
            "photograph, or raise max_pixels."
        )
    return painted(runs, offsets, shapes)


def labels_of(
    crops: Crops,
    size: tuple[int, int],
    areas: Int64,
    overlap: Policy,
    dtype: type[np.integer] | np.dtype[np.integer] | None,
) -> NDArray[np.integer]:
    """Label image (H, W) in which object i is i + 1; see `Masks.to_label_image`."""
    count = len(areas)
    if overlap not in get_args(Policy):
        raise UsageError(f"overlap is {overlap!r}. {did_you_mean(str(overlap), get_args(Policy))}")
    kind = np.dtype(dtype if dtype is not None else np.uint16 if count < 2**16 else np.uint32)
    if kind.kind not in "iu" or count > np.iinfo(kind).max:
        raise GeometryError(f"{count} labels do not fit {kind}. Remedy: uint16 holds 65,535, uint32 more.")
    order = np.arange(count)
    if overlap == "first":
        order = order[::-1]
    elif overlap == "smaller":
        order = np.lexsort((-order, -areas))  # largest first; of equals the later first
    labels = np.zeros(size, kind)
    corners, shapes = crops.offsets.tolist(), crops.shapes.tolist()
    for i in order.tolist():
        (x, y), (height, width) = corners[i], shapes[i]
        labels[y : y + height, x : x + width][crops.crop(i)] = i + 1
    if int(np.count_nonzero(labels)) == int(areas.sum()):
        return labels
    if overlap == "error":
        shared = intersections(crops, crops, size).tocoo()
        later = shared.col > shared.row
        a, b, pixels = shared.row[later][0], shared.col[later][0], shared.data[later][0]
        raise GeometryError(
            f"masks {a} and {b} share {pixels} pixels; a label image holds one object a pixel. "
            'Remedy: choose who keeps them by overlap="first", "last" or "smaller".'
        )
    hidden = []
    for i in np.flatnonzero(areas).tolist():
        (x, y), (height, width) = corners[i], shapes[i]
        if not (labels[y : y + height, x : x + width][crops.crop(i)] == i + 1).any():
            hidden.append(i)
    if hidden:
        warnings.warn(
            f"{len(hidden)} masks (the first is {hidden[0]}) lie wholly under others and have no pixel in the "
            "label image; write COCO RLE to keep them.",
            UserWarning,
            stacklevel=3,
        )
    return labels
