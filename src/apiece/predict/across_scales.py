"""Across scales: one list of objects from the results of several scales.

Large objects are seen whole at a coarse scale (few pixels of network input per pixel) and in pieces at a fine one;
small ones are seen apart at a fine scale and melt together, or are missed, at a coarse one. The rule:

1. Objects of one class from two scales with IoU >= 1/2 are one. It is kept as that scale has it where some tile saw
   it whole; of those the one with the higher score, of equals the finer.
2. From the coarsest scale on, an object that was seen whole is compared with its *parts*, the finer objects that the
   coarser scale doesn't have and half of whose pixels or more lie in it. Where parts that were themselves seen whole
   cover half of it and their mean score (each weighing its pixels) is higher, it was a clump: it is dropped.
   Otherwise they were fragments: they are dropped.
3. What was put together from cut views is dropped where objects that are kept cover half of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from apiece.core.instances import Instances
from apiece.predict.seams import COVERED, Sewn, overlaps


def merge_scales(results: Sequence[Sewn], scales: Sequence[float]) -> tuple[Instances, int]:
    """The objects of all scales by score, and how many fragments and clumps were dropped (rules 2 and 3).

    results  of one picture, one for each scale.
    scales   pixels of the network's input per pixel of the picture.
    """
    coarse_first = np.argsort(scales, kind="stable")
    parts = [results[i] for i in coarse_first]
    found = Instances.concatenate([part.instances for part in parts])
    level = np.repeat(np.arange(len(parts)), [len(part.instances) for part in parts])
    whole = np.concatenate([part.whole for part in parts])
    areas, scores = found.masks.areas, found.scores
    near = {
        i: {j: n for j, n in others.items() if level[i] != level[j]} for i, others in overlaps(found.masks)
    }
    copies = _copies(found, near)
    kept = np.ones(len(found), np.bool_)
    for i in sorted(copies, key=lambda n: (not whole[n], -scores[n], -level[n], n)):
        if kept[i]:
            kept[copies[i]] = False
    doubles = len(found) - int(kept.sum())

    for i in np.flatnonzero(whole & kept).tolist():  # the coarsest come first
        pieces = [
            (j, n)
            for j, n in near.get(i, {}).items()
            if kept[j]
            and level[j] > level[i]
            and n >= COVERED * areas[j]
            and not any(level[k] == level[i] for k in copies.get(j, ()))
        ]
        voters = [(j, n) for j, n in pieces if whole[j]]
        covered = sum(n for _, n in voters)
        mean = sum(float(scores[j]) * n for j, n in voters) / max(covered, 1)
        if covered >= COVERED * areas[i] and mean > scores[i]:
            kept[i] = False
        else:
            kept[[j for j, _ in pieces]] = False
    sewn_up = np.flatnonzero(~whole & kept)
    for i in sewn_up[np.argsort(scores[sewn_up], kind="stable")].tolist():
        if sum(n for j, n in near.get(i, {}).items() if kept[j]) >= COVERED * areas[i]:
            kept[i] = False
    index = np.flatnonzero(kept)
    order = index[np.argsort(-scores[index], kind="stable")]
    return found[order], len(found) - doubles - len(index)


def _copies(found: Instances, near: Mapping[int, Mapping[int, int]]) -> dict[int, list[int]]:
    """For each object those of other scales that are the same (rule 1); only where there are any."""
    areas = found.masks.areas
    copies: dict[int, list[int]] = defaultdict(list)
    for i, others in near.items():
        for j, shared in others.items():
            # 3 · |a ∩ b| >= |a| + |b| is IoU >= 1/2.
            if found.class_ids[i] == found.class_ids[j] and 3 * shared >= areas[i] + areas[j]:
                copies[i].append(j)
    return copies
