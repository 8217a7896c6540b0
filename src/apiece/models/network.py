"""What training and export need of a network, whichever family it belongs to."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from apiece.models.contract import MaskFrame
from apiece.models.tensors import CandidateTensors


class Network(nn.Module):
    """Base of every family's network.

    backbone      its parameters may have a learning rate of their own.
    classes       number of classes.
    mask_frame    where the masks of `forward` lie (see `Candidates`).
    boxes_from    "masks" when the family predicts no boxes, else "network".
    size_divisor  input height and width must be multiples of this.
    candidates    K of the contract.
    box_masks     the network predicts no outlines: every mask is its whole box.
    """

    backbone: nn.Module
    classes: int
    mask_frame: MaskFrame
    boxes_from: str
    size_divisor: int
    candidates: int
    box_masks: bool = False

    @abstractmethod
    def raw(self, images: Tensor) -> Any:
        """(B, 3, H, W) RGB 0…255 -> what the family's loss takes."""

    @abstractmethod
    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
