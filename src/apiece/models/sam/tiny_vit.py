"""TinyViT (arXiv 2207.10666) as MobileSAM uses it (arXiv 2306.14289): four stages, the last at the third's stride.

Convolutional blocks first, then windowed attention with a learnt bias for each pair of distances.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.sam.image_encoder import in_windows


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)


class Stem(nn.Sequential):
    """(B, 3, H, W) -> (B, width, H / 4, W / 4)."""

    def __init__(self, width: int) -> None:
        super().__init__(ConvNorm(3, width // 2, 3, 2), nn.GELU(), ConvNorm(width // 2, width, 3, 2))


class MBConv(nn.Module):
    """Inverted bottleneck: widen, depthwise 3 × 3, narrow, add, activate."""

    def __init__(self, width: int, expand: int) -> None:
        super().__init__()
        hidden = width * expand
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)
        nn.init.zeros_(self.conv3.norm.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, width, h, w) -> the same shape."""
        inner = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(maps)))))
        return F.gelu(inner + maps)


class Merge(nn.Module):
    """Changes width, and halves the map where stride is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(maps)))))
        return out


class WindowAttention(nn.Module):
    """Self-attention in a window of side² tokens; its bias depends on |dy| and |dx|."""

    index: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        # Row-major over (|dy|, |dx|): the order in which the published code meets the distances.
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))
        y, x = (v.flatten() for v in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
        index = (y[:, None] - y).abs() * side + (x[:, None] - x).abs()
        self.register_buffer("index", index, persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """(B, side, side, width) -> the same shape."""
        batch, rows, columns, width = windows.shape
        tokens = self.norm(windows.reshape(batch, rows * columns, width))
        # Published layout: query, key and value lie side by side within each head.
        qkv = self.qkv(tokens).reshape(batch, rows * columns, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        bias = self.attention_biases[:, self.index].to(query.dtype)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(batch, rows, columns, width))
        return projected


class NormMLP(nn.Module):
    """Layer norm and two layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(tokens))))
        return out


class TinyViTBlock(nn.Module):
    """Windowed attention, depthwise 3 × 3, MLP."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.attn = WindowAttention(width, heads, side)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = NormMLP(width, 4 * width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, width, h, w) -> the same shape."""
        tokens: Tensor = maps.permute(0, 2, 3, 1)
        tokens = tokens + in_windows(self.attn, tokens, self.side)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tokens = tokens + self.mlp(tokens)
        return tokens.permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """(B, 3, H, W) -> one map of stride 4 · strides[0] · strides[1] · strides[2].

    widths, depths  of the four stages; the first is convolutional.
    heads, windows  of the last three.
    strides         of the three merges between the stages: (2, 2, 1) in MobileSAM, (2, 2, 2) in TinyViT.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        heads: tuple[int, int, int],
        windows: tuple[int, int, int],
        strides: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.channels: tuple[int, ...] = (widths[-1],)
        self.patch_embed = Stem(widths[0])
        self.stages = nn.ModuleList([nn.Sequential(*(MBConv(widths[0], 4) for _ in range(depths[0])))])
        self.merges = nn.ModuleList()
        for i in range(3):
            self.merges.append(Merge(widths[i], widths[i + 1], strides[i]))
            self.stages.append(
                nn.Sequential(
                    *(TinyViTBlock(widths[i + 1], heads[i], windows[i]) for _ in range(depths[i + 1]))
                )
            )

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> the four stages' maps."""
        maps = [self.stages[0](self.patch_embed(images))]
        for merge, stage in zip(self.merges, self.stages[1:], strict=True):
            maps.append(stage(merge(maps[-1])))
        return maps

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> [the last stage's map]."""
        return self.stage_maps(images)[-1:]
