"""Multi-scale deformable attention (Zhu et al. 2020, arXiv 2010.04159, section 4.1), in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformableAttention(nn.Module):
    """Each query reads a few points about its own place on every level, and weighs them.

    width   channels; heads: how many parts of them look elsewhere; levels: feature maps; points: of each map.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.reset()

    def reset(self) -> None:
        """Points start on rays, one direction a head, 1 … `points` cells away; all weigh the same."""
        angle = torch.arange(self.heads) * (2.0 * math.pi / self.heads)
        ray = torch.stack([angle.cos(), angle.sin()], dim=1)
        ray = ray / ray.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        with torch.no_grad():
            self.offsets.bias.copy_((ray[:, None, None] * steps).expand(-1, self.levels, -1, -1).flatten())
        for constant in (self.offsets.weight, self.weights.weight, self.weights.bias):
            nn.init.zeros_(constant)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, query: Tensor, places: Tensor, value: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Queries (B, N, C) at places (N, 2: x, y in 0…1) on values (B, S, C) -> (B, N, C).

        The values are the levels' cells one after the other, each level row by row; sizes: height and width of each.
        """
        shape = (*query.shape[:2], self.heads, self.levels, self.points)
        offsets = self.offsets(query).reshape(*shape, 2).float()
        weights = self.weights(query).reshape(*shape[:3], -1).float().softmax(dim=-1).reshape(shape)
        values = self.value(value).float().reshape(*value.shape[:2], self.heads, -1)
        cells = torch.tensor([(w, h) for h, w in sizes], device=query.device, dtype=torch.float32)
        at = places[:, None, None, None] * cells[:, None] + offsets
        # Summing table rows is some ten times as fast on a processor; ONNX and accelerators know grid_sample.
        direct = query.device.type == "cpu" and not torch.compiler.is_compiling()
        mixed: Tensor = self.output((read_rows if direct else read_maps)(values, at, weights, sizes))
        return mixed


def read_maps(values: Tensor, at: Tensor, weights: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Weighted sum of bilinear samples, zeros outside.

    values (B, S, heads, C / heads); at (B, N, heads, levels, points, 2: x, y in cells), the first cell's centre being
    0.5, 0.5; weights (B, N, heads, levels, points) -> (B, N, C).
    """
    batch, count, heads = weights.shape[:3]
    # grid_sample takes heads as pictures of their own.
    maps = values.permute(0, 2, 3, 1).flatten(0, 1)
    weights = weights.permute(0, 2, 1, 3, 4).reshape(batch * heads, 1, count, -1)
    sampled = []
    for level, part in enumerate(torch.split(maps, [h * w for h, w in sizes], dim=2)):
        height, width = sizes[level]
        cells = torch.tensor([width, height], device=at.device, dtype=at.dtype)
        grid = (2.0 * at[:, :, :, level] / cells - 1.0).transpose(1, 2).flatten(0, 1)
        part = part.reshape(batch * heads, -1, height, width)
        sampled.append(F.grid_sample(part, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    read = (torch.cat(sampled, dim=3) * weights).sum(dim=3)
    return read.reshape(batch, -1, count).transpose(1, 2)


def read_rows(values: Tensor, at: Tensor, weights: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The same as `read_maps`: four rows of a table for each sample, their shares times the weight summed."""
    batch, total, heads, depth = values.shape
    count, device = weights.shape[1], values.device
    # Whole numbers below 2^24 are exact in float32, and quicker than int64.
    limits = torch.tensor([(w, h) for h, w in sizes], device=device, dtype=at.dtype)
    first = (at - 0.5).floor()
    way = at - 0.5 - first
    corners, shares = [], []
    for step in (0, 1):
        corner = first + step
        near = torch.minimum(corner.clamp(min=0), limits[:, None] - 1)
        corners.append(near)
        shares.append((way if step else 1.0 - way) * (near == corner))
    columns = limits[:, :1]
    cell = torch.stack([y[..., 1] * columns + x[..., 0] for y in corners for x in corners], dim=-1).long()
    share = torch.stack([y[..., 1] * x[..., 0] * weights for y in shares for x in shares], dim=-1)
    starts = torch.tensor([sum(h * w for h, w in sizes[:i]) for i in range(len(sizes))], device=device)
    cell = cell + starts[:, None, None] + (torch.arange(batch, device=device) * total).view(-1, 1, 1, 1, 1, 1)
    row = cell * heads + torch.arange(heads, device=device).view(-1, 1, 1, 1)
    bags = batch * count * heads
    read = F.embedding_bag(
        row.reshape(bags, -1),
        values.reshape(-1, depth),
        mode="sum",
        per_sample_weights=share.reshape(bags, -1),
    )
    return read.reshape(batch, count, -1)
