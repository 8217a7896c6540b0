"""Backbones: any timm network that yields feature maps, cut to the levels that a neck needs, and Swin."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from apiece.models.swin import SIZES, Swin


class Backbone(nn.Module):
    """Feature maps C_l of an image batch.

    name        a timm model name.
    levels      pyramid levels, level l having stride 2^l; ascending, for example (2, 3, 4, 5).
    drop_depth  stochastic depth of a Swin Transformer; the others have none.
    A Swin Transformer's maps are normalised one by one, as detectors have them.
    """

    def __init__(self, name: str, levels: tuple[int, ...], drop_depth: float = 0.0) -> None:
        super().__init__()
        self.name = name
        self.norms = nn.ModuleList()
        if name in SIZES:
            body = Swin(SIZES[name], tuple(level - 2 for level in levels), drop_depth)
            self.body: nn.Module = body
            self.channels: tuple[int, ...] = body.channels
            self.norms.extend(nn.LayerNorm(channels) for channels in body.channels)
            return
        self.body = timm.create_model(
            name, features_only=True, pretrained=False, out_indices=tuple(level - 1 for level in levels)
        )
        info: Any = self.body.feature_info
        self.channels = tuple(info.channels())
        strides = tuple(info.reduction())
        if strides != tuple(2**level for level in levels):
            raise ValueError(f"{name} has strides {strides} at its outputs, not those of levels {levels}")

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> one map per level, fine to coarse."""
        maps: list[Tensor] = self.body(images)
        if self.norms:
            maps = [norm(m).permute(0, 3, 1, 2) for norm, m in zip(self.norms, maps, strict=True)]
        return maps


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB 0…255, as torchvision and timm have them."""


class Normalize(nn.Module):
    """RGB 0…255 to what the backbone was trained on, inside the graph, so that no caller can get it wrong."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of any dtype, 0…255 -> float32, normalised."""
        return (images.float() - self.mean) / self.std
