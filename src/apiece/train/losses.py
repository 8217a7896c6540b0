"""Which loss belongs to which family."""

from __future__ import annotations

import importlib

from apiece.errors import RecipeError, did_you_mean
from apiece.models.network import Network
from apiece.train.loop import Loss

LOSSES = {
    "mask_rcnn": "MaskRCNNLoss",
    "yolact": "YOLACTLoss",
    "solov2": "SOLOv2Loss",
    "mask2former": "Mask2FormerLoss",
    "sam": "SAMLoss",
    "semantic": "SemanticLoss",
}


def loss_of(family: str, net: Network, max_masks: int | None) -> Loss:
    """The family's loss for a network of it.

    raises  RecipeError when the family cannot be trained.
    """
    if family not in LOSSES:
        raise RecipeError(f"model.family: no trainable family {family!r}. {did_you_mean(family, LOSSES)}")
    module = importlib.import_module(f"apiece.models.{family}.loss")
    loss: Loss = getattr(module, LOSSES[family])(net, max_masks)
    return loss
