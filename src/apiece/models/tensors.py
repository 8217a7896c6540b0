"""The contract's four outputs as torch tensors (see `apiece.models.contract.Candidates`)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CandidateTensors(NamedTuple):
    """scores (B, K), labels (B, K), boxes (B, K, 4) xyxy input pixels, masks (B, K, h, w) logits."""

    scores: Tensor
    labels: Tensor
    boxes: Tensor
    masks: Tensor
