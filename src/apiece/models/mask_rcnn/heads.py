"""The parts of the network behind the backbone: neck with norm, proposals, boxes, masks.

Each exists in the layout of the papers (plain convolutions, two fully connected layers) and in torchvision's "v2"
(arXiv 2111.11429: normalised convolutions everywhere, two in the proposal head, four before the box layer).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.fpn import FPN
from apiece.models.layers import Norm


def conv(inputs: int, outputs: int, norm: Norm | None) -> nn.Sequential:
    """3 × 3 convolution, norm (then without bias) or none, ReLU; initialised for ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm is None)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, *([norm(outputs)] if norm else []), nn.ReLU(inplace=True))


def initialise(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    """Normal weights about 0, no bias."""
    nn.init.normal_(layer.weight, std=std)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class NormalisedFPN(FPN):
    """FPN whose convolutions are followed by a norm instead of having a bias."""

    def __init__(self, inputs: tuple[int, ...], channels: int, extra: int, norm: Norm) -> None:
        super().__init__(inputs, channels, extra)
        for convs in (self.lateral, self.output):
            for i, plain in enumerate(convs):
                assert isinstance(plain, nn.Conv2d)
                plain.register_parameter("bias", None)
                convs[i] = nn.Sequential(plain, norm(channels))


class RPNHead(nn.Module):
    """Objectness and box code of every anchor, shared by all levels (section 3.1 of arXiv 1506.01497).

    anchors  per cell.
    depth    3 × 3 convolutions before the two outputs.
    """

    def __init__(self, channels: int, anchors: int, depth: int = 1) -> None:
        super().__init__()
        self.tower = nn.Sequential(*(conv(channels, channels, None) for _ in range(depth)))
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.code = nn.Conv2d(channels, anchors * 4, 1)
        for block in self.tower:
            assert isinstance(block, nn.Sequential)
            assert isinstance(block[0], nn.Conv2d)
            initialise(block[0], 0.01)
        initialise(self.objectness, 0.01)
        initialise(self.code, 0.01)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) -> logits (B, h · w · A), codes (B, h · w · A, 4), in the order of `anchors`."""
        features = self.tower(maps)
        objectness, code = self.objectness(features), self.code(features)
        batch, count, height, width = objectness.shape
        logits = objectness.permute(0, 2, 3, 1).reshape(batch, -1)
        codes = code.reshape(batch, count, 4, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
        return logits, codes


class BoxHead(nn.Module):
    """Class logits and one box code a class of each region (section 3.1 of arXiv 1612.03144).

    size     cells of a region's grid, along each side.
    convs    3 × 3 convolutions before the fully connected layers, with `norm`.
    hidden   widths of the fully connected layers.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int,
        hidden: tuple[int, ...] = (1024, 1024),
        convs: int = 0,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.classes = classes
        self.convs = nn.Sequential(*(conv(channels, channels, norm) for _ in range(convs)))
        widths = (channels * size**2, *hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, hidden, strict=False))
        self.category = nn.Linear(widths[-1], classes + 1)
        self.code = nn.Linear(widths[-1], classes * 4)
        initialise(self.category, 0.01)
        initialise(self.code, 0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, size, size) -> logits (R, 1 + classes), the background first; codes (R, classes, 4)."""
        x = self.convs(features).flatten(1)
        for layer in self.layers:
            x = layer(x).relu()
        return self.category(x), self.code(x).reshape(-1, self.classes, 4)


class MaskHead(nn.Module):
    """Mask logits of each region for one class (section 3, "mask representation", of arXiv 1703.06870).

    size    cells of a region's grid, along each side; the mask has twice as many.
    convs   3 × 3 convolutions of this width, with `norm`.
    """

    def __init__(
        self, inputs: int, width: int, size: int, classes: int, convs: int = 4, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.size = size
        self.convs = nn.Sequential(*(conv(inputs if i == 0 else width, width, norm) for i in range(convs)))
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.logits = nn.Conv2d(width, classes, 1)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        assert self.upsample.bias is not None
        nn.init.zeros_(self.upsample.bias)
        initialise(self.logits, 0.01)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(R, C, size, size) and labels (R,) -> logits (R, 2 · size, 2 · size) of each region's own class.

        The last layer is 1 × 1, so that the one channel wanted costs a dot product instead of all classes. Doubling
        the resolution makes four pixels of each cell, so the two are done cell by cell and then put in place.
        """
        x = self.convs(features)
        cells, width = x.shape[-1], self.upsample.out_channels
        assert self.upsample.bias is not None
        assert self.logits.bias is not None
        four = self.upsample.weight.permute(2, 3, 1, 0).reshape(4 * width, -1, 1, 1)
        x = F.conv2d(x, four, self.upsample.bias.repeat(4)).relu().reshape(-1, 4, width, cells * cells)
        weight, bias = self.logits.weight[:, :, 0, 0][labels], self.logits.bias[labels]
        maps = torch.matmul(weight[:, None, None].to(x.dtype), x)[:, :, 0] + bias[:, None, None].to(x.dtype)
        maps = maps.reshape(-1, 2, 2, cells, cells).permute(0, 3, 1, 4, 2)
        return maps.reshape(-1, 2 * cells, 2 * cells)
