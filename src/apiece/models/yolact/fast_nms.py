"""Fast NMS (section 4 of arXiv 1904.02689): all boxes judged at once, in fixed shapes."""

from __future__ import annotations

import torch
from torch import Tensor


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """xyxy boxes (…, N, 4) and (…, M, 4) -> IoU (…, N, M); 0 where both are empty."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    side = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    both = side[..., 0] * side[..., 1]
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    union = area_a + area_b - both
    return torch.where(union > 0, both / torch.where(union > 0, union, 1.0), 0.0)


def fast_nms(boxes: Tensor, threshold: float) -> Tensor:
    """Which boxes (…, N, 4), by descending score, stay -> bool (…, N).

    A box goes when its IoU with any box before it is over the threshold, even with one that goes itself: this
    is what makes it one matrix operation, at the cost of removing slightly more than NMS.
    """
    count = boxes.shape[-2]
    overlap = pairwise_iou(boxes, boxes)
    before = torch.ones(count, count, device=boxes.device, dtype=overlap.dtype).triu(diagonal=1)
    return (overlap * before).amax(dim=-2) <= threshold
