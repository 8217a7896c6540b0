"""Hypothesis strategies for masks: holes, several parts, overlaps, empty ones, ones at the border."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks


@st.composite
def sizes(draw: st.DrawFn, most: int = 14) -> tuple[int, int]:
    """(height, width) of a small picture, often one pixel high or wide."""
    side = st.integers(1, most)
    return draw(side), draw(side)


@st.composite
def dense(
    draw: st.DrawFn, size: tuple[int, int] | None = None, most: int = 5, count: int | None = None
) -> np.ndarray:
    """bool (N, H, W), each frame of a kind of its own: empty, full, noise, blob, ring, corners, stripe."""
    height, width = size or draw(sizes())
    number = draw(st.integers(0, most)) if count is None else count
    frames = np.zeros((number, height, width), bool)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y, x = np.mgrid[:height, :width]
    for frame in frames:
        kind = draw(
            st.sampled_from(["empty", "full", "sparse", "noise", "blob", "ring", "corners", "stripe"])
        )
        centre = rng.uniform(-2, height + 2), rng.uniform(-2, width + 2)
        radius = rng.uniform(0, max(height, width))
        distance = np.hypot(y - centre[0], x - centre[1])
        if kind == "full":
            frame[:] = True
        elif kind == "sparse":
            frame[:] = rng.random((height, width)) < 0.15
        elif kind == "noise":
            frame[:] = rng.random((height, width)) < 0.6
        elif kind == "blob":
            frame[:] = distance <= radius
        elif kind == "ring":
            frame[:] = (distance <= radius) & (distance >= radius / 2)
        elif kind == "corners":
            frame[:: max(1, height - 1), :: max(1, width - 1)] = True
        elif kind == "stripe":
            frame[:, rng.integers(width)] = True
    return frames


@st.composite
def masks(
    draw: st.DrawFn, size: tuple[int, int] | None = None, most: int = 5, count: int | None = None
) -> Masks:
    """Random Masks on a small picture; give `size` or `count` to fix them."""
    return Masks.from_dense(draw(dense(size=size, most=most, count=count)))


@st.composite
def instances(draw: st.DrawFn, size: tuple[int, int] | None = None, most: int = 5) -> Instances:
    """Random Instances of three classes (ids 3, 7, 90) with scores and, at times, track ids and columns."""
    made = draw(masks(size=size, most=most))
    count = len(made)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Instances(
        made.size,
        made,
        rng.integers(0, 3, count),
        rng.integers(0, 5, count) / 4,  # ties are common
        classes=ClassMap(("cell", "debris", "fibre"), (3, 7, 90)),
        track_ids=rng.permutation(count) if draw(st.booleans()) else None,
        truncated=draw(st.booleans()),
        columns={"iscrowd": rng.random(count) < 0.3} if draw(st.booleans()) else {},
    )


def polygons(far: float = 50.0) -> st.SearchStrategy[list[list[float]]]:
    """COCO polygon parts: whole, half, tenth and arbitrary coordinates, inside and outside, crossing, flat."""
    coordinate = st.one_of(
        st.integers(-4, 20).map(float),
        st.integers(-40, 200).map(lambda v: v / 10),
        st.integers(-8, 40).map(lambda v: v / 2),
        st.floats(-far, far, allow_nan=False),
    )
    points = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8)
    flat = points.map(lambda pairs: [value for pair in pairs for value in pair])
    return st.lists(flat, min_size=1, max_size=3)
