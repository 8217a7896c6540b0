"""Tiny Mask2Former."""

from __future__ import annotations

import torch

from apiece.models.backbones import Backbone
from apiece.models.mask2former.masked_attention import MaskedDecoder
from apiece.models.mask2former.net import Mask2Former
from apiece.models.mask2former.pixel_decoder import PixelDecoder


def tiny_mask2former(
    classes: int = 1, backbone: str = "test_efficientnet", light: bool = False
) -> Mask2Former:
    """One encoder and three decoder layers, 32 wide, 12 queries; light: queries from the picture, as in lite0."""
    body = Backbone(backbone, levels=(2, 3, 4, 5))
    return Mask2Former(
        classes=classes,
        backbone=body,
        pixel_decoder=PixelDecoder(
            body.channels, width=32, outputs=32, layers=1, heads=4, hidden=64, points=4
        ),
        decoder=MaskedDecoder(
            classes, queries=12, width=32, outputs=32, layers=3, heads=4, hidden=64, seeded=light
        ),
        candidates=12,
        score_stride=4,
        points=1024,
        repeats=3 if light else 1,
    )


def tiny_mask2former_light(classes: int = 1) -> Mask2Former:
    """The same with lite0's additions."""
    return tiny_mask2former(classes, light=True)


BUILDERS = {"mask2former": tiny_mask2former, "mask2former_light": tiny_mask2former_light}


def confident(net: Mask2Former) -> Mask2Former:
    """Lower the bias of "no object"."""
    with torch.no_grad():
        net.decoder.category.bias[-1] -= 3.0
    return net
