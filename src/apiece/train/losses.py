"""Which loss belongs to which family."""

from __future__ import annotations

from apiece.errors import RecipeError, did_you_mean
from apiece.models.network import Network
from apiece.models.solov2.loss import SOLOv2Loss
from apiece.train.loop import Loss

FAMILIES = {"solov2": SOLOv2Loss}


def loss_of(family: str, net: Network, max_masks: int | None) -> Loss:
    """The family's loss for a network of it.

    raises  RecipeError when the family cannot be trained.
    """
    if family not in FAMILIES:
        raise RecipeError(f"model.family: no trainable family {family!r}. {did_you_mean(family, FAMILIES)}")
    return FAMILIES[family](net, max_masks)
