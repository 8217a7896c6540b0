"""Tiny YOLACT."""

from __future__ import annotations

import torch

from apiece.models.backbones import Backbone
from apiece.models.yolact.anchors import AnchorLayout
from apiece.models.yolact.net import YOLACT, PredictionHead, PrototypeNet, Pyramid


def tiny_yolact(classes: int = 1) -> YOLACT:
    """Four levels, one of them added; three anchors a cell; 16 prototypes at stride 4."""
    backbone = Backbone("test_efficientnet", levels=(3, 4, 5))
    return YOLACT(
        classes=classes,
        backbone=backbone,
        neck=Pyramid(backbone.channels, channels=32, extra=1),
        anchors=AnchorLayout(
            levels=(3, 4, 5, 6), scales=((16,), (32,), (64,), (128,)), ratios=(1.0, 0.5, 2.0), square=False
        ),
        head=PredictionHead(32, width=32, classes=classes, per_cell=3, prototypes=16),
        prototypes=PrototypeNet(32, width=32, depth=2, prototypes=16),
        score_threshold=0.05,
        nms_threshold=0.5,
        preselect=50,
        candidates=30,
    )


BUILDERS = {"yolact": tiny_yolact}


def confident(net: YOLACT) -> YOLACT:
    """Lower the background's bias."""
    with torch.no_grad():
        net.head.category.bias[:: 1 + net.classes] = 0.0
    return net
