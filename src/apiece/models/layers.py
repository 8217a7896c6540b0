"""Small layers that several families share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """GroupNorm of 32 groups, as the papers' heads use it."""
    return nn.GroupNorm(32, channels)


def batch_norm(channels: int) -> nn.Module:
    """BatchNorm: folds into the convolution on export, so it is free at inference and safe for int8."""
    return nn.BatchNorm2d(channels)


class ConvNormReLU(nn.Sequential):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            norm(outputs),
            nn.ReLU(inplace=True),
        )


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres, no anti-aliasing; a map that has the size already is returned as it is."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def append_coordinates(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C + 2, H, W) with x, then y, from -1 to 1, ends included (CoordConv, arXiv 1807.03247)."""
    batch, _, height, width = maps.shape
    x = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
    y = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
    x = x.view(1, 1, 1, width).expand(batch, 1, height, width)
    y = y.view(1, 1, height, 1).expand(batch, 1, height, width)
    return torch.cat([maps, x, y], dim=1)


def top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of the last dimension and their indices, descending; fewer when there are fewer."""
    values, index = torch.topk(values, min(k, values.shape[-1]), dim=-1)
    return values, index


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows of (B, N, …) at index (B, K) -> (B, K, …)."""
    trailing = values.shape[2:]
    expanded = index.reshape(*index.shape, *(1 for _ in trailing)).expand(*index.shape, *trailing)
    return torch.gather(values, 1, expanded)


def mask_boxes(inside: Tensor) -> Tensor:
    """Tight xyxy boxes, exclusive right and bottom, of (B, N, h, w) masks of 0 and 1; an empty one is 0, 0, 0, 0."""
    height, width = inside.shape[-2:]
    columns, rows = inside.amax(dim=-2), inside.amax(dim=-1)
    x = torch.arange(width, device=inside.device, dtype=inside.dtype)
    y = torch.arange(height, device=inside.device, dtype=inside.dtype)
    filled = columns.amax(dim=-1)
    left = torch.where(columns > 0, x, width).amin(dim=-1) * filled
    upper = torch.where(rows > 0, y, height).amin(dim=-1) * filled
    right, lower = (columns * (x + 1)).amax(dim=-1), (rows * (y + 1)).amax(dim=-1)
    return torch.stack([left, upper, right, lower], dim=-1)
