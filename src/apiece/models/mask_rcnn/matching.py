"""Which anchor or region learns which object, and which of them a step learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import roi_align

from apiece.core.masks import Masks
from apiece.models.mask_rcnn.boxes import iou

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]

AT_ONCE = 32
"""Objects compared with all anchors at once, so that memory does not grow with the objects."""


class AnchorMatch(NamedTuple):
    """Anchors of one picture that are not plain background.

    positives  int64 (P,): anchors that learn an object, ascending.
    owners     int64 (P,): which object.
    ignored    int64 (I,): anchors that overlap an object, but not enough to learn it.
    total      number of anchors.
    """

    positives: Int
    owners: Int
    ignored: Int
    total: int

    def negatives(self) -> Int:
        """All the others, ascending."""
        plain = np.ones(self.total, dtype=bool)
        plain[self.positives] = plain[self.ignored] = False
        return np.flatnonzero(plain).astype(np.int64)


def match_anchors(anchors: Float, boxes: Float, high: float = 0.7, low: float = 0.3) -> AnchorMatch:
    """Section 3.1.2 of arXiv 1506.01497: an anchor learns the object that it overlaps most, if by an IoU of `high`
    or if no anchor overlaps some object more; from `low` on it is ignored."""
    best = np.zeros(len(anchors), dtype=np.float32)
    owner = np.zeros(len(anchors), dtype=np.int64)
    chosen = np.zeros(len(anchors), dtype=bool)
    for first in range(0, len(boxes), AT_ONCE):
        overlap = iou(torch.from_numpy(boxes[first : first + AT_ONCE]), torch.from_numpy(anchors)).numpy()
        most = overlap.max(axis=0)
        better = most > best
        best[better], owner[better] = most[better], overlap.argmax(axis=0)[better] + first
        top = overlap.max(axis=1, keepdims=True)
        chosen |= ((overlap == top) & (top > 0)).any(axis=0)
    chosen |= best >= high
    positives = np.flatnonzero(chosen).astype(np.int64)
    ignored = np.flatnonzero(~chosen & (best >= low)).astype(np.int64)
    return AnchorMatch(positives, owner[positives], ignored, len(anchors))


def draw(
    rng: np.random.Generator, positives: int, negatives: int, count: int, share: float
) -> tuple[Int, Int]:
    """Which of so many positives and negatives to learn from: `count` in all, at most `share` of them positive."""
    wanted = min(positives, int(count * share))
    return subset(rng, positives, wanted), subset(rng, negatives, min(negatives, count - wanted))


def subset(rng: np.random.Generator, count: int, wanted: int) -> Int:
    """`wanted` of the numbers below `count`, ascending."""
    if wanted >= count:
        return np.arange(count, dtype=np.int64)
    return np.sort(rng.choice(count, wanted, replace=False)).astype(np.int64)


class Regions(NamedTuple):
    """Regions of one picture that a step learns from, those with an object first.

    boxes   (S, 4) xyxy input pixels.
    owners  int64 (P,): the object of each of the first P.
    """

    boxes: Tensor
    owners: Tensor


def choose_regions(
    proposals: Tensor, truth: Tensor, rng: np.random.Generator, count: int, share: float = 0.25
) -> Regions:
    """Sample from proposals (N, 4) and the objects' own boxes (G, 4): a region has the object that it overlaps
    most, if by an IoU of one half (section 3.1)."""
    boxes = torch.cat([proposals, truth])
    if not len(truth):
        _, background = draw(rng, 0, len(boxes), count, share)
        return Regions(
            boxes[torch.from_numpy(background).to(boxes.device)],
            torch.zeros(0, dtype=torch.int64, device=boxes.device),
        )
    overlap, owner = iou(truth, boxes).max(dim=0)
    positives, negatives = (torch.nonzero(mask)[:, 0] for mask in (overlap >= 0.5, overlap < 0.5))
    chosen, others = (
        torch.from_numpy(index).to(boxes.device)
        for index in draw(rng, len(positives), len(negatives), count, share)
    )
    positives = positives[chosen]
    return Regions(boxes[torch.cat([positives, negatives[others]])], owner[positives])


def cut_masks(masks: Masks, owners: Sequence[int] | Int, boxes: Tensor, size: int) -> Tensor:
    """What the mask head should draw in boxes (P, 4): their owners' masks on a size × size grid, 0 … 1, (P, …).

    RoIAlign of the object's own bitmap. It equals RoIAlign of the whole frame, because one pixel of background
    around the bitmap is all that a sample near it can see; at the picture's edge, where there is none, the edge
    pixel goes on, as it does for the whole frame.
    """
    owners = np.asarray(owners, dtype=np.int64)
    out = boxes.new_zeros((len(boxes), size, size))
    height, width = masks.size
    for i in np.unique(owners):
        crop = masks.crop(int(i))
        if not crop.size:
            continue
        x, y = masks.offsets[i].tolist()
        left, top = int(x > 0), int(y > 0)
        right, bottom = int(x + crop.shape[1] < width), int(y + crop.shape[0] < height)
        bitmap = np.pad(crop, ((top, bottom), (left, right))).astype(np.float32)
        mine = torch.from_numpy(np.flatnonzero(owners == i)).to(boxes.device)
        corner = boxes.new_tensor([x - left, y - top, x - left, y - top])
        rois = torch.cat([torch.zeros_like(boxes[mine, :1]), boxes[mine] - corner], dim=1)
        maps = torch.from_numpy(bitmap).to(boxes.device)[None, None]
        out[mine] = roi_align(maps, rois, (size, size), 1.0)[:, 0]
    return out
