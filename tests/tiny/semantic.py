"""Tiny semantic baseline."""

from __future__ import annotations

import torch

from apiece.models.backbones import Backbone
from apiece.models.fpn import FPN
from apiece.models.layers import batch_norm
from apiece.models.semantic.net import Semantic, SemanticBranch


def tiny_semantic(classes: int = 1) -> Semantic:
    """Masks in the image frame at stride 4."""
    return tiny(classes)


def tiny(classes: int, *, stride: int = 4, box_grid: int | None = None) -> Semantic:
    """Both layouts; stride 2 is the dense one's."""
    backbone = Backbone("test_efficientnet", levels=(2, 3, 4, 5))
    return Semantic(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=32),
        branch=SemanticBranch(32, width=32, classes=classes, norm=batch_norm, upscale=4 // stride),
        stride=stride,
        candidates=20,
        box_grid=box_grid,
    )


BUILDERS = {"semantic": tiny_semantic}


def confident(net: Semantic) -> Semantic:
    """Spread the logits about an even prior, so that an untrained network finds objects of several classes."""
    with torch.no_grad():
        net.branch.classify.bias.zero_()
        net.branch.classify.weight.mul_(100.0)
    return net
