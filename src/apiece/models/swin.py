"""Swin Transformer as a backbone for any picture size (Liu et al. 2021, arXiv 2103.14030).

Names and shapes of the weights are timm's. Not timm's code, because that shifts before it pads, and shrinks windows
on small maps: on maps that windows do not divide, weights trained for detection then give other features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


class SwinSize(NamedTuple):
    """width: channels after the patch embedding, doubled at each stage; depths and heads: of each stage; window:
    side of a window in cells."""

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int


SIZES = {
    "swin_tiny_patch4_window7_224": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_small_patch4_window7_224": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    # For tests only.
    "swin_test": SwinSize(16, (2, 2, 2, 2), (1, 2, 2, 4), 4),
}


class PatchEmbed(nn.Module):
    """Patches of 4 × 4 pixels -> one vector each; (B, 3, H, W) -> (B, H / 4, W / 4, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, width)."""
        patches: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return patches


class PatchMerging(nn.Module):
    """Each 2 × 2 cells -> one with twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h / 2, w / 2, 2 C), odd sides rounded up."""
        x = F.pad(x, (0, 0, 0, int(x.shape[2]) % 2, 0, int(x.shape[1]) % 2))
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        merged: Tensor = self.reduction(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return merged


class WindowAttention(nn.Module):
    """Self-attention among the cells of one window, with a learnt bias for each relative position (section 3.2)."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        y, x = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
        index = (y[:, None] - y + window - 1) * (2 * window - 1) + (x[:, None] - x + window - 1)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """(B, windows, cells, C) -> the same; hidden (windows, cells, cells) is added to the attention's logits."""
        batch, windows, cells, channels = x.shape
        depth = channels // self.heads
        # Windows and heads share one axis, so that the bias is broadcast over the batch.
        query, key, value = (
            self.qkv(x)
            .reshape(batch, windows, cells, 3, self.heads, depth)
            .permute(3, 0, 1, 4, 2, 5)
            .reshape(3, batch, windows * self.heads, cells, depth)
            .unbind()
        )
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        bias = bias.expand(windows, -1, -1, -1) if hidden is None else bias + hidden[:, None]
        x = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.flatten(0, 1)[None].to(query.dtype)
        )
        x = x.reshape(batch, windows, self.heads, cells, depth).transpose(2, 3).flatten(3)
        mixed: Tensor = self.proj(x)
        return mixed


class MLP(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> the same."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class SwinBlock(nn.Module):
    """Attention in windows, shifted by `shift` cells, then an MLP (section 3.2, equation 3)."""

    def __init__(self, width: int, heads: int, window: int, shift: int, drop: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.drop = StochasticDepth(drop, "row")
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(B, h, w, C) -> the same; hidden (windows, cells, cells) hides what the shift put side by side."""
        x = x + self.drop(self._mix(self.norm1(x), hidden))
        mixed: Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return mixed

    def _mix(self, x: Tensor, hidden: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        side = self.window
        x = F.pad(x, (0, 0, 0, -int(width) % side, 0, -int(height) % side))
        rows, columns = int(x.shape[1]) // side, int(x.shape[2]) // side
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
        x = self.attn(x.reshape(batch, rows * columns, side * side, channels), hidden if self.shift else None)
        x = x.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
        x = x.reshape(batch, rows * side, columns * side, channels)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class Stage(nn.Module):
    """Merging, except in the first stage, then blocks, every second one shifted by half a window."""

    def __init__(self, width: int, heads: int, window: int, drops: list[float], first: bool) -> None:
        super().__init__()
        self.window = window
        self.downsample = nn.Identity() if first else PatchMerging(width // 2)
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, window, window // 2 * (i % 2), drop) for i, drop in enumerate(drops)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h / 2, w / 2, 2 C); the first stage keeps the size."""
        x = self.downsample(x)
        hidden = shift_mask(int(x.shape[1]), int(x.shape[2]), self.window, x.device)
        for block in self.blocks:
            x = block(x, hidden)
        return x


class Swin(nn.Module):
    """The four stages, without a head.

    stages  which stages' maps are returned, 0 to 3.
    drop    stochastic depth, growing linearly from 0 to this (arXiv 1603.09382).
    """

    def __init__(self, size: SwinSize, stages: tuple[int, ...], drop: float) -> None:
        super().__init__()
        self.stages = stages
        self.channels = tuple(size.width * 2**stage for stage in stages)
        self.patch_embed = PatchEmbed(size.width)
        blocks = sum(size.depths)
        drops = [drop * i / (blocks - 1) for i in range(blocks)]
        self.layers = nn.ModuleList()
        for i, (depth, heads) in enumerate(zip(size.depths, size.heads, strict=True)):
            before = sum(size.depths[:i])
            self.layers.append(
                Stage(size.width * 2**i, heads, size.window, drops[before : before + depth], first=i == 0)
            )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, h, w, C) map for each of `stages`."""
        x = self.patch_embed(images)
        maps = []
        for i, stage in enumerate(self.layers[: max(self.stages) + 1]):
            x = stage(x)
            if i in self.stages:
                maps.append(x)
        return maps


def shift_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """(windows, cells, cells): -100 between cells of a shifted window that were not neighbours, else 0."""

    def region(side: int) -> Tensor:
        padded = side + -side % window
        at = torch.arange(padded, device=device)
        return (at >= padded - window).long() + (at >= padded - window // 2).long()

    y, x = region(height), region(width)
    regions = (3 * y[:, None] + x).reshape(len(y) // window, window, len(x) // window, window)
    regions = regions.transpose(1, 2).reshape(-1, window * window)
    return (regions[:, None] != regions[:, :, None]).float() * -100.0
