"""Prompts and picture -> masks and how good they are (arXiv 2304.02643, appendix A "Lightweight mask decoder")."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.sam.image_encoder import MLP, LayerNorm2d
from apiece.models.sam.prompts import MASKS

SINGLE, MULTI = slice(0, 1), slice(1, None)
"""The token that answers a clear prompt, and the three that answer an ambiguous one."""


class Decoded(NamedTuple):
    """kernels (B, P, 4, c), maps (B, P, c, 4h, 4w) and predicted IoU (B, P, 4); a mask is kernel · map."""

    kernels: Tensor
    maps: Tensor
    iou: Tensor

    def masks(self, tokens: slice) -> Tensor:
        """Logits (B, P, number of tokens, 4h, 4w)."""
        height, width = self.maps.shape[-2:]
        logits = self.kernels[:, :, tokens] @ self.maps.flatten(3)
        return logits.reshape(*logits.shape[:3], height, width)

    def chosen(self, token: Tensor) -> Tensor:
        """Logits (B, P, 4h, 4w) of one token (B, P) for each prompt."""
        index = token[..., None, None].expand(*token.shape, 1, self.kernels.shape[-1])
        one = Decoded(self.kernels.gather(2, index), self.maps, self.iou)
        return one.masks(slice(0, 1))[:, :, 0]


class Attention(nn.Module):
    """Multi-head attention whose inner width is `width / reduce`."""

    def __init__(self, width: int, heads: int, reduce: int = 1) -> None:
        super().__init__()
        self.heads = heads
        inner = width // reduce
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, Q, width), (B, K, width), (B, K, width) -> (B, Q, width)."""
        q, k, v = (self._split(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        # By hand: with some ten tokens on one side, fused attention has nothing to save and a slow gradient on CPUs.
        weight = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
        out = (weight.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        projected: Tensor = self.out_proj(out)
        return projected

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Tokens to each other, tokens to picture, MLP, picture to tokens."""

    def __init__(self, width: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, reduce=2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, hidden, nn.ReLU())
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, reduce=2)

    def forward(
        self, tokens: Tensor, image: Tensor, prompt: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens (B, T, C) and image (B, hw, C), with what is added to them before each attention: prompt (B, T, C)
        and position (1, hw, C) -> both renewed."""
        if self.first:  # the tokens are the prompt itself
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            query = tokens + prompt
            tokens = self.norm1(tokens + self.self_attn(query, query, tokens))
        key = image + position
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + prompt, key, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(key, tokens + prompt, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Blocks, and a last look of the tokens at the picture."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, hidden, i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, reduce=2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, prompt: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """prompt (B, T, C), image (B, hw, C), position (1, hw, C) -> tokens (B, T, C), image (B, hw, C)."""
        tokens = prompt
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, position)
        seen = self.final_attn_token_to_image(tokens + prompt, image + position, image)
        return self.norm_final_attn(tokens + seen), image


class HeadMLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        for i, layer in enumerate(self.layers):
            x = layer(x) if i == 0 else layer(F.relu(x))
        return x


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling by 4, one kernel for each mask token, and an IoU head."""

    def __init__(self, *, width: int, heads: int, hidden: int, depth: int, iou_hidden: int) -> None:
        super().__init__()
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASKS + 1, width)
        self.transformer = TwoWayTransformer(width, heads, hidden, depth)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            HeadMLP(width, width, width // 8, 3) for _ in range(MASKS + 1)
        )
        self.iou_prediction_head = HeadMLP(width, iou_hidden, MASKS + 1, 3)

    def forward(
        self, picture: Tensor, finer: list[Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> Decoded:
        """What P prompts mean on each of B pictures.

        picture   (B, C, h, w), the embedding.
        finer     [] or maps to add while upscaling, as in SAM 2 (arXiv 2408.00714, appendix D), because a light
                  encoder's coarse map doesn't hold outlines: (B, C / 4, 2h, 2w), (B, C / 8, 4h, 4w).
        position  (1, C, h, w).
        sparse    (B, P, T, C) tokens.
        dense     (B, P, C, h, w) or what broadcasts to it.
        """
        batch, prompts, _, channels = sparse.shape
        height, width = picture.shape[-2:]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).to(sparse.dtype)
        tokens = torch.cat([own.expand(batch, prompts, -1, -1), sparse], dim=2).flatten(0, 1)
        image = picture[:, None] + dense
        image = image.expand(batch, prompts, channels, height, width).reshape(
            batch * prompts, channels, height * width
        )
        tokens, image = self.transformer(tokens, image.transpose(1, 2), position.flatten(2).transpose(1, 2))
        first, norm, act, second, last = self.output_upscaling
        maps = first(image.transpose(1, 2).reshape(batch * prompts, channels, height, width))
        if finer:
            maps = added(maps, finer[0], batch, prompts)
        maps = second(act(norm(maps)))
        if finer:
            maps = added(maps, finer[1], batch, prompts)
        maps = last(maps)
        kernels = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        iou = self.iou_prediction_head(tokens[:, 0])
        return Decoded(
            kernels.reshape(batch, prompts, MASKS + 1, kernels.shape[-1]),
            maps.reshape(batch, prompts, *maps.shape[1:]),
            iou.reshape(batch, prompts, MASKS + 1),
        )


def added(maps: Tensor, finer: Tensor, batch: int, prompts: int) -> Tensor:
    """(B · P, c, h, w) + (B, c, h, w) of each picture."""
    split = maps.reshape(batch, prompts, *maps.shape[1:])
    return (split + finer[:, None]).reshape(batch * prompts, *maps.shape[1:])
