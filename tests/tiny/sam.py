"""Tiny SAM in the light layout: a convolutional encoder with finer maps."""

from __future__ import annotations

import torch

from apiece.models.backbones import Backbone
from apiece.models.sam.automatic import Automatic
from apiece.models.sam.mask_decoder import MaskDecoder
from apiece.models.sam.net import SAM, FusedEmbedding
from apiece.models.sam.prompt_encoder import PromptEncoder


def tiny_sam(classes: int = 1, local: bool = False) -> SAM:
    backbone = Backbone("test_efficientnet", levels=(1, 2, 3, 4))
    return SAM(
        classes=classes,
        backbone=backbone,
        neck=FusedEmbedding(backbone.channels, width=32),
        prompt_encoder=PromptEncoder(32, mask_width=8),
        mask_decoder=MaskDecoder(width=32, heads=2, hidden=64, depth=1, iou_hidden=64, local=local),
        mask_stride=2,
        size_divisor=16,
        frozen=False,
        automatic=Automatic(side=6, chunk=16, iou=0.1, stability=0.1, offset=0.5, nms=0.5),
        candidates=20,
    )


def tiny_sam_local(classes: int = 1) -> SAM:
    """Masks start from ellipses about their prompts, as in `sam_lite0`."""
    return tiny_sam(classes, local=True)


BUILDERS = {"sam": tiny_sam, "sam_local": tiny_sam_local}


def confident(net: SAM) -> SAM:
    """Raise the predicted IoU, and the logits above the stability score's offset."""
    with torch.no_grad():
        net.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(0.5)
        for mlp in net.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(100.0)
            mlp.layers[-1].bias.mul_(100.0)
    return net
