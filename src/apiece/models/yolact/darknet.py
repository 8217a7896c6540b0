"""Darknet-53 (Redmon and Farhadi 2018, arXiv 1804.02767, table 1), in the layout of YOLACT's checkpoints.

timm's network of this name has leaky ReLUs of another slope (0.01 instead of 0.1) and other tensor names.
"""

from __future__ import annotations

from torch import Tensor, nn

from apiece.models.backbones import Backbone

DEPTHS = (1, 2, 8, 8, 4)


class ConvNormLeaky(nn.Sequential):
    """Convolution without bias, batch norm, leaky ReLU of slope 0.1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.1, inplace=True),
        )


class Residual(nn.Module):
    """1 × 1 to half the channels, 3 × 3 back, added to the input; no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormLeaky(channels, channels // 2, 1)
        self.conv2 = ConvNormLeaky(channels // 2, channels, 3)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same."""
        out: Tensor = self.conv2(self.conv1(maps)) + maps
        return out


class Body(nn.Module):
    """The stem, then stages that each halve the map and double the channels; stage i has stride 2^(i + 1)."""

    def __init__(self, width: int, depths: tuple[int, ...], levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        self.stem = ConvNormLeaky(3, width, 3)
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(depths[: max(levels)]):
            channels = width * 2 ** (stage + 1)
            self.layers.append(
                nn.Sequential(
                    ConvNormLeaky(channels // 2, channels, 3, stride=2),
                    *(Residual(channels) for _ in range(depth)),
                )
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one map per level, fine to coarse."""
        maps = self.stem(images)
        found = []
        for level, layer in enumerate(self.layers, start=1):
            maps = layer(maps)
            if level in self.levels:
                found.append(maps)
        return found


class Darknet53(Backbone):
    """Darknet-53 as a backbone; `width` and `depths` are smaller only in tests."""

    def __init__(self, levels: tuple[int, ...], width: int = 32, depths: tuple[int, ...] = DEPTHS) -> None:
        nn.Module.__init__(self)
        # Not timm's name: its weights are of another network.
        self.name = "yolact_darknet53"
        self.body = Body(width, depths, levels)
        self.channels = tuple(width * 2**level for level in levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in 0…1 -> one map per level, fine to coarse."""
        maps: list[Tensor] = self.body(images)
        return maps
