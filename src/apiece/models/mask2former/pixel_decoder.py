"""The pixel decoder: deformable attention over three scales, then one step up to the mask features (section 3.2.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from apiece.models.layers import group_norm, resize
from apiece.models.mask2former.deformable_attention import DeformableAttention
from apiece.models.mask2former.positions import sine_positions


class Pixels(NamedTuple):
    """scales: (B, C, h, w) at strides 32, 16 and 8; features (B, E, h, w) at stride 4."""

    scales: list[Tensor]
    features: Tensor


class EncoderLayer(nn.Module):
    """Deformable self-attention, then an MLP, each added and normalised after."""

    def __init__(self, width: int, heads: int, hidden: int, points: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads, levels=3, points=points)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, positions: Tensor, places: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """(B, S, C) with positions (S, C) at places (S, 2) -> (B, S, C)."""
        x = self.norm1(x + self.attention(x + positions, places, x, sizes))
        refined: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
        return refined


class PixelDecoder(nn.Module):
    """Backbone maps C2…C5 -> three scales and mask features.

    width   channels of the scales; outputs: of the mask features.
    hidden  of the encoder layers' MLP; points: that deformable attention reads on each scale.
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        width: int,
        outputs: int,
        layers: int,
        heads: int,
        hidden: int,
        points: int,
    ) -> None:
        super().__init__()
        finest, *deep = inputs
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), group_norm(width)) for c in reversed(deep)
        )
        self.level = nn.Parameter(torch.randn(len(deep), width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, points) for _ in range(layers))
        self.lateral = nn.Sequential(nn.Conv2d(finest, width, 1, bias=False), group_norm(width))
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), group_norm(width), nn.ReLU(inplace=True)
        )
        self.mask_features = nn.Conv2d(width, outputs, 1)
        for conv in (self.lateral[0], self.smooth[0], self.mask_features):
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_uniform_(conv.weight, a=1)
        for sequence in self.project:
            assert isinstance(sequence, nn.Sequential)
            conv = sequence[0]
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)
        assert self.mask_features.bias is not None
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, maps: list[Tensor]) -> Pixels:
        """C2…C5 (B, C, h, w) -> scales and features."""
        finest, *deep = maps
        projected = [layer(m) for layer, m in zip(self.project, reversed(deep), strict=True)]
        sizes = [(int(m.shape[2]), int(m.shape[3])) for m in projected]
        x = torch.cat([m.flatten(2).transpose(1, 2) for m in projected], dim=1)
        width, device = x.shape[2], x.device
        positions = torch.cat(
            [sine_positions(h, w, width, device) + self.level[i] for i, (h, w) in enumerate(sizes)]
        )
        places = torch.cat([centres(h, w, device) for h, w in sizes])
        # What a layer keeps for its gradient is half of a training step's memory, so it is computed twice instead.
        again = self.training and torch.is_grad_enabled() and len(self.layers) > 1
        for layer in self.layers:
            if again:
                x = checkpoint(layer, x, positions, places, sizes, use_reentrant=False)
            else:
                x = layer(x, positions, places, sizes)
        scales = [
            part.transpose(1, 2).reshape(-1, width, h, w)
            for part, (h, w) in zip(torch.split(x, [h * w for h, w in sizes], dim=1), sizes, strict=True)
        ]
        lateral = self.lateral(finest)
        fine = self.smooth(lateral + resize(scales[-1], lateral.shape[-2:]))
        return Pixels(scales, self.mask_features(fine))


def centres(height: int, width: int, device: torch.device) -> Tensor:
    """Centres of a map's cells, row by row, as x, y in 0…1; (height · width, 2)."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)
