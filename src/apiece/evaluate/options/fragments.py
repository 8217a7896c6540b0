"""Fragments: parts of one object that were predicted apart, and the unions that would make it whole."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.evaluate.options.convexity import convexity
from apiece.evaluate.options.setting import Fragments
from apiece.evaluate.overlaps import Overlaps, by_image, masks_of

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]
Crop = tuple[Bool, int, int]  # bitmap, x and y of its top-left pixel

MOSTLY = 0.5  # candidates that share more of the smaller one are the same object twice, not parts of one


@dataclass(frozen=True)
class Union:
    """Candidates that become one object.

    rule   number of the rule that asks for it, in the order in which rules were given.
    parts  the candidates' places.
    mask   their pixels together, one mask.
    """

    rule: int
    parts: tuple[int, ...]
    mask: Masks


def unions(overlaps: Overlaps, kept: Bool, rules: Sequence[Fragments]) -> list[Union]:
    """What each rule merges of the candidates `kept` (P,); masks that no rule merges are left alone.

    In every picture the two objects of one class whose union is most convex become one, as long as that union is
    convex enough and they lie near enough, and again with the result. What lies mostly on top of another is not merged.
    """
    predicted = overlaps.scenes.predicted
    farthest = max((rule.gap for rule in rules), default=0)
    doubled = _doubled(overlaps)
    made: list[Union] = []
    for members in by_image(predicted, len(overlaps.scenes.image_ids)):
        some = members[kept[members]]
        first, second = _near(predicted.boxes[some], predicted.labels[some], farthest)
        near = [
            (int(some[i]), int(some[j]))
            for i, j in zip(first.tolist(), second.tolist(), strict=True)
            if (int(some[i]), int(some[j])) not in doubled
        ]
        if not near:
            continue
        used = np.unique(np.array(near))
        masks = masks_of(predicted, used)
        crops = {int(p): (masks.crop(i), *masks.offsets[i].tolist()) for i, p in enumerate(used.tolist())}
        pairs = {}
        for a, b in near:
            apart = gap(crops[a], crops[b], farthest)
            if apart is not None:
                pairs[a, b] = apart, convexity(_union(crops[a], crops[b])[0])
        for number, rule in enumerate(rules):
            for parts, (bitmap, x, y) in _merged(pairs, crops, doubled, rule):
                made.append(Union(number, parts, Masks.from_crops([bitmap], [(x, y)], masks.size)))
    return made


def gap(a: Crop, b: Crop, most: int) -> int | None:
    """Pixels between two masks, counted along the longer side of the step; None where more than `most`."""
    (first, ax, ay), (second, bx, by) = a, b
    x0, x1 = max(ax, bx - most - 1), min(ax + first.shape[1], bx + second.shape[1] + most + 1)
    y0, y1 = max(ay, by - most - 1), min(ay + first.shape[0], by + second.shape[0] + most + 1)
    if x0 >= x1 or y0 >= y1:
        return None
    reach = most + 1
    window = np.ones((y1 - y0 + 2 * reach, x1 - x0 + 2 * reach), np.uint8)
    part = first[y0 - ay : y1 - ay, x0 - ax : x1 - ax]
    if not part.any():
        return None
    window[reach:-reach, reach:-reach] = ~part
    far = cv2.distanceTransform(window, cv2.DIST_C, 3)
    left, top = x0 - reach, y0 - reach
    u0, u1 = max(left, bx), min(left + window.shape[1], bx + second.shape[1])
    v0, v1 = max(top, by), min(top + window.shape[0], by + second.shape[0])
    if u0 >= u1 or v0 >= v1:
        return None
    inside = far[v0 - top : v1 - top, u0 - left : u1 - left][second[v0 - by : v1 - by, u0 - bx : u1 - bx]]
    if not inside.size:
        return None
    between = max(round(float(inside.min())) - 1, 0)
    return between if between <= most else None


def _merged(
    pairs: dict[tuple[int, int], tuple[int, float]],
    crops: dict[int, Crop],
    doubled: set[tuple[int, int]],
    rule: Fragments,
) -> list[tuple[tuple[int, ...], Crop]]:
    """The groups of two and more that one rule leaves in one picture, with their pixels."""
    gaps: dict[int, dict[int, int]] = {}
    heap: list[tuple[float, int, int]] = []
    for (a, b), (apart, value) in pairs.items():
        if apart <= rule.gap:
            gaps.setdefault(a, {})[b] = apart
            gaps.setdefault(b, {})[a] = apart
            if value >= rule.convexity:
                heap.append((-value, a, b))
    heapq.heapify(heap)
    nodes = dict(crops)
    parts: dict[int, tuple[int, ...]] = {p: (p,) for p in crops}
    following = max(crops, default=0) + 1
    while heap:
        _, a, b = heapq.heappop(heap)
        if a not in nodes or b not in nodes:
            continue
        node, following = following, following + 1
        nodes[node] = _union(nodes.pop(a), nodes.pop(b))
        parts[node] = tuple(sorted((*parts.pop(a), *parts.pop(b))))
        near = {**gaps.pop(a), **gaps.pop(b)}
        gaps[node] = {}
        for other in near:
            if other not in nodes or other == node:
                continue
            gaps[node][other] = gaps[other][node] = near[other]
            twice = any((min(p, q), max(p, q)) in doubled for p in parts[node] for q in parts[other])
            value = 0.0 if twice else convexity(_union(nodes[node], nodes[other])[0])
            if value >= rule.convexity:
                heapq.heappush(heap, (-value, min(node, other), max(node, other)))
    return [(group, nodes[node]) for node, group in parts.items() if len(group) > 1]


def _near(boxes: NDArray[np.float64], labels: Int64, most: int) -> tuple[Int64, Int64]:
    """Pairs of one class whose boxes lie apart by at most `most` pixels, each pair once."""
    if len(boxes) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low, high = boxes[:, :2] - most - 1, boxes[:, :2] + boxes[:, 2:]
    meets = (low[:, None] <= high[None]).all(axis=2)
    meets &= meets.T & (labels[:, None] == labels[None])
    first, second = np.nonzero(np.triu(meets, 1))
    return first, second


def _doubled(overlaps: Overlaps) -> set[tuple[int, int]]:
    """Pairs of candidates that lie mostly on top of each other."""
    pairs, areas = overlaps.among_predicted, overlaps.predicted_areas
    much = pairs.shared > MOSTLY * np.minimum(areas[pairs.first], areas[pairs.second])
    return set(zip(pairs.first[much].tolist(), pairs.second[much].tolist(), strict=True))


def _union(a: Crop, b: Crop) -> Crop:
    (first, ax, ay), (second, bx, by) = a, b
    x0, y0 = min(ax, bx), min(ay, by)
    x1, y1 = max(ax + first.shape[1], bx + second.shape[1]), max(ay + first.shape[0], by + second.shape[0])
    canvas = np.zeros((y1 - y0, x1 - x0), np.bool_)
    canvas[ay - y0 : ay - y0 + first.shape[0], ax - x0 : ax - x0 + first.shape[1]] |= first
    canvas[by - y0 : by - y0 + second.shape[0], bx - x0 : bx - x0 + second.shape[1]] |= second
    return canvas, x0, y0
