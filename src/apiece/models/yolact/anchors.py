"""Anchors (the paper's "priors") and the SSD box code (arXiv 1512.02325, section 2.2).

All boxes here are relative to the picture: 0 is its left or upper edge, 1 its right or lower one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class AnchorLayout(NamedTuple):
    """Which anchors every cell has.

    levels  pyramid levels, level l having ceil(size / 2^l) cells.
    scales  per level, sides of a square anchor in input pixels.
    ratios  width / height of the anchors of each scale.
    square  the height is set to the width, so that every anchor is square: a bug of the published models,
            whose weights need it.
    """

    levels: tuple[int, ...]
    scales: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    square: bool

    @property
    def per_cell(self) -> int:
        """Anchors of one cell, the same on every level."""
        return len(self.scales[0]) * len(self.ratios)

    def cells(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of every level for an input of this size in pixels."""
        return [(-(-height // 2**level), -(-width // 2**level)) for level in self.levels]

    def boxes(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """Anchors (A, 4) as centre x, centre y, width, height; order: level, row, column, scale, ratio."""
        found = []
        for scales, (rows, columns) in zip(self.scales, self.cells(height, width), strict=True):
            sides = []
            for scale in scales:
                for ratio in self.ratios:
                    w = scale * math.sqrt(ratio)
                    h = w if self.square else scale / math.sqrt(ratio)
                    sides.append((w / width, h / height))
            count = len(sides)
            x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) / columns
            y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) / rows
            centre = torch.stack([x[None, :].expand(rows, columns), y[:, None].expand(rows, columns)], dim=-1)
            size = torch.tensor(sides, device=device, dtype=torch.float32)
            found.append(
                torch.cat(
                    [
                        centre[:, :, None].expand(rows, columns, count, 2),
                        size.expand(rows, columns, count, 2),
                    ],
                    dim=-1,
                ).reshape(rows * columns * count, 4)
            )
        return torch.cat(found)


def decode_boxes(code: Tensor, anchors: Tensor) -> Tensor:
    """Code (…, A, 4) about anchors (A, 4: centre and size) -> x1, y1, x2, y2, not clipped."""
    centre = anchors[:, :2] + code[..., :2] * CENTRE_VARIANCE * anchors[:, 2:]
    size = anchors[:, 2:] * torch.exp(code[..., 2:] * SIZE_VARIANCE)
    corner = centre - size / 2
    return torch.cat([corner, corner + size], dim=-1)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """x1, y1, x2, y2 (N, 4) and their anchors (N, 4: centre and size) -> code (N, 4); inverse of decoding."""
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - anchors[:, :2]) / (CENTRE_VARIANCE * anchors[:, 2:])
    size = torch.log((boxes[:, 2:] - boxes[:, :2]) / anchors[:, 2:]) / SIZE_VARIANCE
    return torch.cat([centre, size], dim=-1)
