"""Where a cell lies, as sines and cosines of its row and column (arXiv 2005.12872, appendix A.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """(height · width, channels): the first half of the channels tells the row, the second the column."""
    y, x = _waves(height, channels // 2, device), _waves(width, channels // 2, device)
    rows, columns = y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _waves(count: int, channels: int, device: torch.device) -> Tensor:
    at = torch.arange(1, count + 1, device=device, dtype=torch.float32) / (count + 1e-6) * (2 * math.pi)
    even = torch.arange(channels, device=device).div(2, rounding_mode="floor").float() * 2
    angle = at[:, None] / 10000.0 ** (even / channels)
    return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
