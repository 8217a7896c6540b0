"""SAM's image encoder: a plain ViT with windowed attention and decomposed relative positions.

arXiv 2304.02643, appendix A "Image encoder", which follows ViTDet (arXiv 2203.16527, section 3); relative positions
of MViTv2 (arXiv 2112.01526, section 4.1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        normal: Tensor = super().forward(maps.permute(0, 2, 3, 1))
        return normal.permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """(B, 3, H, W) -> tokens (B, H / patch, W / patch, width)."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        tokens: Tensor = self.proj(images)
        return tokens.permute(0, 2, 3, 1)


class MLP(nn.Module):
    """Two layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.act = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        out: Tensor = self.lin2(self.act(self.lin1(tokens)))
        return out


class Attention(nn.Module):
    """Self-attention on a grid of tokens, with a learnt bias for every row and every column distance.

    size  (rows, columns) that the relative positions were made for; other grids interpolate them.
    """

    def __init__(self, width: int, heads: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size[0] - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size[1] - 1, width // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, width) -> the same shape."""
        batch, height, width, channels = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, height * width, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        grid = query.reshape(batch, self.heads, height, width, channels // self.heads)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, distances(self.rel_pos_h, height))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, distances(self.rel_pos_w, width))
        bias = (rows[..., :, None] + columns[..., None, :]).reshape(
            batch, self.heads, height * width, height * width
        )
        # Under autocast, the bias is of lower precision than the query may be.
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        out = out.transpose(1, 2).reshape(batch, height, width, channels)
        projected: Tensor = self.proj(out)
        return projected


def distances(table: Tensor, length: int) -> Tensor:
    """Rows of a table (2 · L − 1, C) by distance -> (length, length, C): entry (q, k) is the row of q − k."""
    needed = 2 * length - 1
    if table.shape[0] != needed:
        table = F.interpolate(table.t()[None], size=needed, mode="linear")[0].t()
    step = torch.arange(length, device=table.device)
    return table[step[:, None] - step[None, :] + length - 1]


class Block(nn.Module):
    """Attention, in windows or global, and an MLP, both pre-norm with residuals.

    window  side of the attention's windows in tokens; 0 is global attention on a grid of `size`.
    """

    def __init__(self, width: int, heads: int, hidden: int, window: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, (window, window) if window else size)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden, nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, width) -> the same shape."""
        normal = self.norm1(tokens)
        tokens = tokens + (in_windows(self.attn, normal, self.window) if self.window else self.attn(normal))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


def in_windows(layer: nn.Module, tokens: Tensor, side: int) -> Tensor:
    """Apply a layer of (B, side, side, C) to windows of (B, h, w, C), padded with zeros at right and bottom."""
    batch, height, width, channels = tokens.shape
    rows, columns = -(-height // side), -(-width // side)
    padded = F.pad(tokens, (0, 0, 0, columns * side - width, 0, rows * side - height))
    windows = padded.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    out: Tensor = layer(windows.reshape(batch * rows * columns, side, side, channels))
    out = out.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
    return out.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]


class ImageEncoder(nn.Module):
    """ViT -> one map of stride `patch`.

    image_size     (height, width) that the absolute positions are made for; other sizes interpolate them.
    global_layers  indices of the blocks whose attention is global; the others attend in windows.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        patch: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        window: int,
        global_layers: tuple[int, ...],
    ) -> None:
        super().__init__()
        size = (image_size[0] // patch, image_size[1] // patch)
        self.channels: tuple[int, ...] = (width,)
        self.patch_embed = PatchEmbed(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, *size, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, 0 if i in global_layers else window, size) for i in range(depth)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> [(B, width, H / patch, W / patch)]."""
        tokens = self.patch_embed(images)
        positions: Tensor = self.pos_embed
        if positions.shape[1:3] != tokens.shape[1:3]:
            positions = F.interpolate(
                positions.permute(0, 3, 1, 2), size=tokens.shape[1:3], mode="bicubic", align_corners=False
            ).permute(0, 2, 3, 1)
        tokens = tokens + positions
        for block in self.blocks:
            tokens = block(tokens)
        return [tokens.permute(0, 3, 1, 2)]


class Embedding(nn.Module):
    """What the decoder reads of a picture, as two conv + layer norm of the coarsest map (appendix A)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            LayerNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            LayerNorm2d(width),
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps -> [(B, width, h, w)]."""
        return [self.layers(maps[-1])]
