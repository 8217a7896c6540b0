"""Prompts and picture -> masks and how good they are (arXiv 2304.02643, appendix A "Lightweight mask decoder")."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.sam.image_encoder import MLP, LayerNorm2d
from apiece.models.sam.prompts import INSIDE, LOWER_RIGHT, MASKS, UPPER_LEFT

SINGLE, MULTI = slice(0, 1), slice(1, None)
"""The token that answers a clear prompt, and the three that answer an ambiguous one."""


class Decoded(NamedTuple):
    """kernels (B, P, 4, c), maps (B, P, c, 4h, 4w) and predicted IoU (B, P, 4); a mask is kernel · map.

    bound  None, or what logits are squeezed into, -bound … bound: squared distances make them far larger outside than
           inside, and an outline interpolated between such cells would lie too far in.
    """

    kernels: Tensor
    maps: Tensor
    iou: Tensor
    bound: float | None = None

    def masks(self, tokens: slice) -> Tensor:
        """Logits (B, P, number of tokens, 4h, 4w)."""
        height, width = self.maps.shape[-2:]
        # In float32: squared distances would not survive bfloat16.
        with torch.autocast(self.maps.device.type, enabled=False):
            logits = self.kernels[:, :, tokens].float() @ self.maps.float().flatten(3)
            if self.bound is not None:
                logits = self.bound * torch.tanh(logits / self.bound)
        return logits.reshape(*logits.shape[:3], height, width)

    def chosen(self, token: Tensor) -> Tensor:
        """Logits (B, P, 4h, 4w) of one token (B, P) for each prompt."""
        index = token[..., None, None].expand(*token.shape, 1, self.kernels.shape[-1])
        one = self._replace(kernels=self.kernels.gather(2, index))
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
    """Two-way transformer, upscaling by 4, one kernel for each mask token, and an IoU head.

    local  not in the paper: every mask starts from an ellipse about its prompt, whose height, size and place the token
           corrects (as docs/decisions/0004 has it for SOLOv2). A few dozen pictures then suffice to learn from.
    """

    def __init__(
        self, *, width: int, heads: int, hidden: int, depth: int, iou_hidden: int, local: bool = False
    ) -> None:
        super().__init__()
        self.local = local
        if local:
            self.ellipse = nn.Linear(width, 4)
            nn.init.zeros_(self.ellipse.weight)
            with torch.no_grad():
                self.ellipse.bias.copy_(torch.tensor([HEIGHT, 0.0, 0.0, 0.0]))
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
        self,
        picture: Tensor,
        finer: list[Tensor],
        position: Tensor,
        sparse: Tensor,
        dense: Tensor,
        around: Tensor,
    ) -> Decoded:
        """What P prompts mean on each of B pictures.

        picture   (B, C, h, w), the embedding.
        finer     [] or maps to add while upscaling, as in SAM 2 (arXiv 2408.00714, appendix D), because a light
                  encoder's coarse map doesn't hold outlines: (B, C / 4, 2h, 2w), (B, C / 8, 4h, 4w).
        position  (1, C, h, w).
        sparse    (B, P, T, C) tokens.
        dense     (B, P, C, h, w) or what broadcasts to it.
        around    (B, P, 4), see `places`; only read when `local`.
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
        if self.local:
            ellipse = self.ellipse(tokens[:, 1 : MASKS + 2]).float()
            kernels = torch.cat([kernels.float(), distance_kernels(ellipse, around.flatten(0, 1))], dim=2)
            squares = distance_maps(maps.shape[2], maps.shape[3], maps.device)
            maps = torch.cat([maps.float(), squares.expand(maps.shape[0], -1, -1, -1)], dim=1)
        iou = self.iou_prediction_head(tokens[:, 0])
        return Decoded(
            kernels.reshape(batch, prompts, MASKS + 1, kernels.shape[-1]),
            maps.reshape(batch, prompts, *maps.shape[1:]),
            iou.reshape(batch, prompts, MASKS + 1),
            BOUND if self.local else None,
        )


BOUND = 8.0

HEIGHT = 2.0
"""Logit in the middle of a prompt's ellipse before anything is learnt."""

LONE_POINT = 0.1
"""Half sides of the ellipse about points without a box, as a share of the picture."""


def places(points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Where prompts are: labelled points (B, P, N, 2) in input pixels of a picture of `size` -> (B, P, 4) centre x, y
    and half sides, as shares of the picture; of points outside the object nothing is taken."""
    scale = torch.tensor([1.0 / size[1], 1.0 / size[0]], device=points.device)
    share = (points.float() + 0.5) * scale
    on = (labels >= INSIDE).float()[..., None]
    count = on.sum(dim=2)
    centre = torch.where(count > 0, (share * on).sum(dim=2) / count.clamp(min=1.0), 0.5)
    corner = [(share * (labels == kind).float()[..., None]).sum(dim=2) for kind in (UPPER_LEFT, LOWER_RIGHT)]
    boxed = (labels == LOWER_RIGHT).any(dim=2)[..., None]
    half = torch.where(boxed, (corner[1] - corner[0]).clamp(min=0.01) / 2, LONE_POINT)
    middle = torch.where(boxed, (corner[0] + corner[1]) / 2, centre)
    return torch.cat([middle, half], dim=-1)


def distance_maps(rows: int, columns: int, device: torch.device) -> Tensor:
    """1, x, y, x², y² of the cells of a grid, as shares of the picture, (1, 5, rows, columns)."""
    y = ((torch.arange(rows, device=device) + 0.5) / rows)[:, None].expand(rows, columns)
    x = ((torch.arange(columns, device=device) + 0.5) / columns)[None].expand(rows, columns)
    return torch.stack([torch.ones_like(x), x, y, x * x, y * y])[None]


def distance_kernels(ellipse: Tensor, around: Tensor) -> Tensor:
    """Corrections (N, T, 4: height, log size, right, down) of ellipses about places (N, 4) -> (N, T, 5), whose product
    with `distance_maps` is height · (1 - squared distance), 0 on the ellipse while the height is `HEIGHT`."""
    height, log_size, right, down = ellipse.unbind(dim=-1)
    half_x, half_y = around[:, None, 2], around[:, None, 3]
    x, y = around[:, None, 0] + right * half_x, around[:, None, 1] + down * half_y
    sharpness = HEIGHT * torch.exp(-2.0 * log_size.clamp(-2.0, 2.0))
    of_x, of_y = sharpness / half_x.square(), sharpness / half_y.square()
    least = height - of_x * x * x - of_y * y * y
    return torch.stack([least, 2 * of_x * x, 2 * of_y * y, -of_x, -of_y], dim=-1)


def added(maps: Tensor, finer: Tensor, batch: int, prompts: int) -> Tensor:
    """(B · P, c, h, w) + (B, c, h, w) of each picture."""
    split = maps.reshape(batch, prompts, *maps.shape[1:])
    return (split + finer[:, None]).reshape(batch * prompts, *maps.shape[1:])
