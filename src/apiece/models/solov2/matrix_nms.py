"""Matrix NMS (arXiv 2003.10152, section 3.4): all decays at once, no loop, so it lives in the graph."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def matrix_nms(
    scores: Tensor,
    labels: Tensor,
    masks: Tensor,
    kernel: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Decayed scores of candidates that are sorted by descending score.

    scores  (B, N) descending; labels (B, N); masks (B, N, h, w) of 0 and 1.
    kernel  f(iou) = exp(-sigma · iou²), or 1 - iou.
    returns (B, N): score_j · min_i f(iou_ij) / f(iou of i with the best mask above it), equation 5, where
            iou_ij counts only for i above j and of j's class.
    """
    flat = masks.flatten(2)
    intersection = flat @ flat.transpose(1, 2)
    area = flat.sum(dim=-1)
    union = area[:, :, None] + area[:, None, :] - intersection
    same = (labels[:, :, None] == labels[:, None, :]).to(flat.dtype)
    iou = torch.triu(intersection / union.clamp(min=1.0) * same, diagonal=1)
    above = iou.amax(dim=1)[:, :, None]
    if kernel == "gaussian":
        decay = torch.exp(-sigma * (iou.square() - above.square()))
    else:
        decay = (1 - iou) / (1 - above).clamp(min=1e-6)
    return scores * decay.amin(dim=1)
