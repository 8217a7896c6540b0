"""Tiny SOLOv2, in both layouts."""

from __future__ import annotations

import torch

from apiece.models.backbones import Backbone
from apiece.models.fpn import FPN
from apiece.models.layers import batch_norm, group_norm
from apiece.models.solov2.net import KernelHead, Level, MaskFeatures, SOLOv2


def tiny_solov2(classes: int = 1) -> SOLOv2:
    """The paper's layout: fixed grids, coordinates, GroupNorm, masks in the image frame at stride 4."""
    backbone = Backbone("test_efficientnet", levels=(2, 3, 4, 5))
    return SOLOv2(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=32, extra=1),
        levels=(
            Level(source=0, stride=8, grid=16, sizes=(1, 32)),
            Level(source=1, stride=8, grid=12, sizes=(16, 64)),
            Level(source=2, stride=16, grid=8, sizes=(32, 2048)),
        ),
        kernel_head=KernelHead(
            32, width=32, depth=2, classes=classes, kernel=32, norm=group_norm, coordinates=True
        ),
        mask_features=MaskFeatures(32, width=32, outputs=32, norm=group_norm, coordinates=True),
        mask_stride=4,
        local=False,
        score_threshold=0.05,
        final_threshold=0.05,
        preselect=40,
        nms_candidates=40,
        candidates=20,
        box_grid=None,
    )


def tiny_solov2_dense(classes: int = 1) -> SOLOv2:
    """The dense layout: cells of the maps themselves, local masks at stride 2, resampled in their boxes."""
    backbone = Backbone("test_efficientnet", levels=(2, 3, 4, 5))
    return SOLOv2(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=32),
        levels=(
            Level(source=1, stride=8, grid=None, sizes=(1, 48), extent=12),
            Level(source=2, stride=16, grid=None, sizes=(32, 2048), extent=32),
        ),
        kernel_head=KernelHead(
            32, width=32, depth=2, classes=classes, kernel=16 + 2, norm=batch_norm, coordinates=False
        ),
        mask_features=MaskFeatures(32, width=32, outputs=16, norm=batch_norm, coordinates=False, upscale=2),
        mask_stride=2,
        local=True,
        score_threshold=0.05,
        final_threshold=0.05,
        preselect=40,
        nms_candidates=40,
        candidates=20,
        box_grid=20,
    )


BUILDERS = {"solov2": tiny_solov2, "solov2_dense": tiny_solov2_dense}


def confident(net: SOLOv2) -> SOLOv2:
    """Raise the category bias."""
    with torch.no_grad():
        net.kernel_head.category.bias.fill_(-0.5)
    return net
