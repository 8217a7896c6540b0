"""Scenes with everything that annotation formats lose, and what is left of them by `Holds` alone: the oracle."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats.base import Holds

CLASSES = ClassMap(("cell", "Größe 2", "c d"))


@st.composite
def scenes(draw, most=6, classes=CLASSES, crowd=True, tracks=False):
    """Instances on a small picture: holes, several parts, corners that touch, overlaps, single pixels, N = 0."""
    size = (draw(st.integers(1, 24)), draw(st.integers(1, 24)))
    count = draw(st.integers(0, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random_scene(rng, size, count, classes, crowd, tracks)


def random_scene(rng, size, count, classes=CLASSES, crowd=True, tracks=False):
    """`count` objects, every one with a pixel at least."""
    crops, corners = [], []
    for _ in range(count):
        h, w = (int(rng.integers(1, min(side, 9) + 1)) for side in size)
        crop = rng.random((h, w)) < rng.choice([0.5, 0.8, 1.0])
        crop[rng.integers(h), rng.integers(w)] = True
        crops.append(crop)
        corners.append((rng.integers(size[1] - w + 1), rng.integers(size[0] - h + 1)))
    masks = Masks.from_crops(crops, np.array(corners, np.int64).reshape(-1, 2), size)
    return Instances(
        size,
        masks,
        rng.integers(len(classes), size=count),
        classes=classes,
        track_ids=rng.permutation(count) + 1 if tracks and count else None,
        columns={"iscrowd": rng.random(count) < 0.2} if crowd else None,
    )


def expected(objects: Instances, holds: Holds, overlap: str = "first") -> Instances:
    """What a format that holds this much gives back, where pixels of several go to the "first" or "smaller"."""
    masks, keep = objects.masks, np.ones(len(objects), bool)
    if not holds.boxes_only:
        keep &= masks.areas > 0
    if not holds.holes and len(masks):
        frames = masks.to_dense()
        for frame in frames:
            labels, parts = ndimage.label(frame)
            for part in range(1, parts + 1):
                frame |= ndimage.binary_fill_holes(labels == part)
        masks = Masks.from_dense(frames)
    if holds.order == "class":  # the order of writing decides who keeps a pixel, so it is changed afterwards
        order = np.argsort(objects.class_ids, kind="stable")
    else:
        order = np.arange(len(objects))
    if not holds.overlaps:
        free = np.ones(objects.size, bool)
        frames = masks.to_dense()
        areas = masks.areas if overlap == "smaller" else np.zeros(len(masks))
        for place in np.argsort(areas, kind="stable"):
            frames[place] &= free
            free &= ~frames[place]
        masks = Masks.from_dense(frames) if len(frames) else masks
        keep &= masks.areas > 0
    order = order[keep[order]]
    crowd = objects.columns.get("iscrowd") if holds.crowd else None
    return Instances(
        objects.size,
        masks[order],
        objects.class_ids[order] if holds.classes else np.zeros(len(order), np.int64),
        objects.scores[order] if holds.scores else None,
        classes=objects.classes if holds.classes else ClassMap(("object",)),
        track_ids=objects.track_ids[order] if holds.track_ids and objects.track_ids is not None else None,
        columns=None if crowd is None else {"iscrowd": crowd[order]},
    )


def same(found: Instances, wanted: Instances, holds: Holds) -> None:
    """Assert that two values agree in all that the format holds, class by name."""
    assert found.masks == wanted.masks
    names = lambda one: [one.classes.name_of(int(i)) for i in one.class_ids]  # noqa: E731
    if holds.classes:
        assert names(found) == names(wanted)
    if holds.crowd:
        none = np.zeros(len(wanted), bool)
        assert found.columns.get("iscrowd", none).tolist() == wanted.columns.get("iscrowd", none).tolist()
    if holds.track_ids and wanted.track_ids is not None:
        assert found.track_ids is not None
        assert found.track_ids.tolist() == wanted.track_ids.tolist()
    if holds.scores:
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
