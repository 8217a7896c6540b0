"""Feature Pyramid Network (Lin et al. 2017, arXiv 1612.03144)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Lateral 1×1, top-down nearest ×2, output 3×3, all with bias and without activation.

    inputs    channels of the backbone's maps, fine to coarse.
    channels  of every output.
    extra     how many coarser maps to add, each every second pixel of the one before (P6 of Faster R-CNN).
    """

    def __init__(self, inputs: tuple[int, ...], channels: int, extra: int = 0) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        self.extra = extra
        for conv in [*self.lateral, *self.output]:
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps, fine to coarse -> pyramid, fine to coarse."""
        laterals = [conv(m) for conv, m in zip(self.lateral, maps, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=laterals[i - 1].shape[-2:])
        pyramid = [conv(m) for conv, m in zip(self.output, laterals, strict=True)]
        for _ in range(self.extra):
            pyramid.append(pyramid[-1][:, :, ::2, ::2])
        return pyramid
