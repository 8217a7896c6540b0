"""Tiny Mask R-CNN, in the papers' layout and torchvision's "v2", and Faster R-CNN."""

from __future__ import annotations

import torch

from apiece.models.backbones import Backbone
from apiece.models.fpn import FPN
from apiece.models.layers import batch_norm
from apiece.models.mask_rcnn.heads import BoxHead, MaskHead, NormalisedFPN, RPNHead
from apiece.models.mask_rcnn.net import MaskRCNN, Proposals, Sampling


def tiny(
    classes: int, *, v2: bool = False, masks: bool = True, backbone: str = "test_efficientnet"
) -> MaskRCNN:
    body = Backbone(backbone, levels=(2, 3, 4, 5))
    norm = batch_norm if v2 else None
    neck = NormalisedFPN(body.channels, 32, 1, batch_norm) if v2 else FPN(body.channels, 32, extra=1)
    return MaskRCNN(
        classes=classes,
        backbone=body,
        neck=neck,
        anchor_sides=(16.0, 32.0, 64.0, 128.0, 256.0),
        rpn_head=RPNHead(32, anchors=3, depth=2 if v2 else 1),
        box_head=BoxHead(
            32, size=7, classes=classes, hidden=(64,) if v2 else (64, 64), convs=2 if v2 else 0, norm=norm
        ),
        mask_head=MaskHead(32, width=32, size=14, classes=classes, convs=2, norm=norm) if masks else None,
        training_proposals=Proposals(before=100, after=100),
        proposals=Proposals(before=50, after=50),
        sampling=Sampling(anchors=128, rois=32),
        preselect=100,
        candidates=20,
    )


BUILDERS = {
    "mask_rcnn": lambda classes: tiny(classes),
    "mask_rcnn_v2": lambda classes: tiny(classes, v2=True),
    "faster_rcnn": lambda classes: tiny(classes, masks=False),
}


def confident(net: MaskRCNN) -> MaskRCNN:
    """Spread class logits and box codes, so that an untrained network has detections of several classes."""
    with torch.no_grad():
        for layer in (net.rpn_head.objectness, net.box_head.category, net.box_head.code):
            layer.weight.mul_(30.0)
        net.box_head.category.bias[1:] += 1.0
    return net
