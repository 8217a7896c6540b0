"""SOLOv2's network: each grid cell predicts a class and a kernel; kernel · mask features = mask.

Section numbers are those of arXiv 2003.10152. Builders at the end of the file hold every number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Normalize
from apiece.models.fpn import FPN
from apiece.models.layers import (
    ConvNormReLU,
    Norm,
    append_coordinates,
    batch_norm,
    group_norm,
    mask_boxes,
    resize,
    take,
    top,
)
from apiece.models.network import Network
from apiece.models.solov2.matrix_nms import matrix_nms
from apiece.models.tensors import CandidateTensors


class Level(NamedTuple):
    """One scale of the instance head (section 3.1, table 1 of arXiv 1912.04488).

    source  index of the pyramid map that it reads.
    stride  the map is resized to this stride before its coordinates are made.
    grid    cells per side; None takes the map's own cells, which makes the head fully convolutional.
    sizes   sqrt(w · h) in input pixels of the objects that it learns, both ends included.
    extent  radius in input pixels of the prior around a cell; only read when the net is `local`.
    """

    source: int
    stride: int
    grid: int | None
    sizes: tuple[float, float]
    extent: float = 0.0

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the grid for an input of this size."""
        return (self.grid, self.grid) if self.grid else (height // self.stride, width // self.stride)


class Raw(NamedTuple):
    """What the loss needs: per level (B, C, rows, columns) logits and (B, E, rows, columns) kernels, fine to
    coarse; mask features (B, E, h, w)."""

    categories: list[Tensor]
    kernels: list[Tensor]
    features: Tensor


class KernelHead(nn.Module):
    """Two towers, shared by all levels: categories, and kernels from features with coordinates (section 3.2)."""

    def __init__(
        self, inputs: int, width: int, depth: int, classes: int, kernel: int, norm: Norm, coordinates: bool
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        extra = 2 if coordinates else 0
        self.kernel_tower = nn.Sequential(
            *(ConvNormReLU(inputs + extra if i == 0 else width, width, norm) for i in range(depth))
        )
        self.category_tower = nn.Sequential(
            *(ConvNormReLU(inputs if i == 0 else width, width, norm) for i in range(depth))
        )
        self.category = nn.Conv2d(width, classes, 3, padding=1)
        self.kernel = nn.Conv2d(width, kernel, 3, padding=1)
        for conv in (self.category, self.kernel):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        # Focal loss starts from a prior of 1 % foreground (arXiv 1708.02002, section 3.3).
        assert self.category.bias is not None
        nn.init.constant_(self.category.bias, -4.595)

    def forward(self, features: Tensor, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(B, inputs, h, w) -> (B, classes, *cells) logits, (B, kernel, *cells)."""
        located = append_coordinates(features) if self.coordinates else features
        located = resize(located, cells)
        plain = located[:, : features.shape[1]]
        return self.category(self.category_tower(plain)), self.kernel(self.kernel_tower(located))


class MaskFeatures(nn.Module):
    """One high-resolution map from P2…P5 (section 3.2, "mask feature branch").

    upscale  2 gives twice P2's resolution by pixel shuffle, for objects of a few pixels; 1 is the paper's.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, norm: Norm, coordinates: bool, upscale: int = 1
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.levels = nn.ModuleList()
        for level in range(4):
            extra = 2 if coordinates and level == 3 else 0
            self.levels.append(
                nn.ModuleList(
                    ConvNormReLU(inputs + extra if i == 0 else width, width, norm)
                    for i in range(max(level, 1))
                )
            )
        self.project = nn.Conv2d(width, outputs * upscale**2, 1, bias=False)
        self.shuffle = nn.PixelShuffle(upscale) if upscale > 1 else nn.Identity()
        self.norm = norm(outputs)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """P2…P5 -> (B, outputs, h, w), not negative."""
        total: Tensor | None = None
        for index, (convs, maps) in enumerate(zip(self.levels, pyramid, strict=False)):
            x = append_coordinates(maps) if self.coordinates and index == 3 else maps
            assert isinstance(convs, nn.ModuleList)
            for conv in convs:
                x = conv(x)
                if index > 0:
                    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = x if total is None else total + x
        assert total is not None
        return F.relu(self.norm(self.shuffle(self.project(total))))


class SOLOv2(Network):
    """The whole network. `raw` serves the loss, `forward` the contract.

    local            adds to every mask logit a learnt offset and -(distance to the cell / extent)²: our prior
                     for scenes of hundreds of like objects, which coordinates alone do not tell apart
                     (docs/decisions/0004). Needs two more kernel channels. False is the paper.
    mask_stride      of the mask features, input pixels.
    score_threshold  a (cell, class) enters as a candidate above it (0.1 in the paper's code).
    final_threshold  a candidate stays when its score after matrix NMS is at least this.
    preselect        most (cell, class) pairs whose masks are computed, best category score first.
    nms_candidates   most masks that enter matrix NMS.
    candidates       K of the contract.
    box_grid         None: masks in the image frame at `mask_stride`; m: each mask resampled to m × m in its own
                     box inside the graph, so that K × m × m leaves it.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: Backbone,
        neck: FPN,
        levels: tuple[Level, ...],
        kernel_head: KernelHead,
        mask_features: MaskFeatures,
        mask_stride: int,
        local: bool,
        score_threshold: float,
        final_threshold: float,
        preselect: int,
        nms_candidates: int,
        candidates: int,
        box_grid: int | None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.normalize = Normalize(mean, std)
        self.backbone = backbone
        self.neck = neck
        self.levels = levels
        self.kernel_head = kernel_head
        self.mask_features = mask_features
        self.mask_stride = mask_stride
        self.local = local
        self.score_threshold = score_threshold
        self.final_threshold = final_threshold
        self.preselect = preselect
        self.nms_candidates = nms_candidates
        self.candidates = candidates
        self.box_grid = box_grid
        self.mask_frame = "image" if box_grid is None else "box"
        self.boxes_from = "masks"
        self.size_divisor = 32
        if local:
            # A cell starts as a disc of 1.4 extents around it: bias 2 and log-width 0.
            assert kernel_head.kernel.bias is not None
            with torch.no_grad():
                kernel_head.kernel.bias[-2] = 2.0

    def raw(self, images: Tensor) -> Raw:
        """(B, 3, H, W) RGB 0…255 -> head outputs."""
        return self.heads(self.neck(self.backbone(self.normalize(images))))

    def heads(self, pyramid: list[Tensor]) -> Raw:
        """Pyramid P2…, fine to coarse, P2 at stride 4 -> head outputs."""
        height, width = (4 * int(n) for n in pyramid[0].shape[-2:])
        categories, kernels = [], []
        for level in self.levels:
            maps = resize(pyramid[level.source], (height // level.stride, width // level.stride))
            category, kernel = self.kernel_head(maps, level.cells(height, width))
            categories.append(category)
            kernels.append(kernel)
        return Raw(categories, kernels, self.mask_features(pyramid))

    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
        return self.select(self.raw(images))

    def mask_logits(self, kernels: Tensor, cells: Tensor, features: Tensor, stride: float) -> Tensor:
        """Kernels (B, N, E) with their cells (B, N, 3: centre x, y, extent; input pixels) on features
        (B, E, h, w) of this stride -> logits (B, N, h, w)."""
        height, width = features.shape[-2:]
        weight = kernels[..., : features.shape[1]]
        logits = (weight @ features.flatten(2)).reshape(*weight.shape[:2], height, width)
        if not self.local:
            return logits
        x = (torch.arange(width, device=features.device) + 0.5) * stride
        y = (torch.arange(height, device=features.device) + 0.5) * stride
        sharpness = self._sharpness(kernels, cells)
        dx2 = sharpness[..., None] * (x - cells[..., 0:1]).square()
        dy2 = sharpness[..., None] * (y - cells[..., 1:2]).square()
        offset = kernels[..., -2, None].float() - dx2
        return logits + (offset[..., None, :] - dy2[..., :, None]).to(logits.dtype)

    @staticmethod
    def _sharpness(kernels: Tensor, cells: Tensor) -> Tensor:
        return torch.exp(kernels[..., -1].float().clamp(-4, 4)) / cells[..., 2].square()

    def cells(self, height: int, width: int, device: torch.device) -> Tensor:
        """Centre x, centre y, extent and stride of every cell over the levels, row-major (cells, 4), input pixels."""
        rows = []
        for level in self.levels:
            h, w = level.cells(height, width)
            y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) * (height / h)
            x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) * (width / w)
            facts = torch.tensor([level.extent, float(level.stride)], device=device)
            rows.append(
                torch.cat(
                    [
                        torch.stack([x.repeat(h), y.repeat_interleave(w)], dim=1),
                        facts.expand(h * w, 2),
                    ],
                    dim=1,
                )
            )
        return torch.cat(rows)

    def select(self, raw: Raw) -> CandidateTensors:
        """Head outputs -> candidates: points NMS, masks, maskness, matrix NMS (sections 3.3 and 3.4)."""
        features = raw.features.float()
        batch = features.shape[0]
        height, width = (self.mask_stride * int(n) for n in features.shape[-2:])
        scores = torch.cat(
            [points_nms(c.float().sigmoid()).flatten(2).transpose(1, 2) for c in raw.categories], 1
        )
        kernels = torch.cat([k.float().flatten(2).transpose(1, 2) for k in raw.kernels], 1)
        cells = self.cells(height, width, features.device).expand(batch, -1, -1)

        score, index = top(scores.flatten(1), self.preselect)
        cell_index = torch.div(index, self.classes, rounding_mode="floor")
        label = index % self.classes
        kernel, cell = take(kernels, cell_index), take(cells, cell_index)

        # Selection happens at stride 4 whatever the mask features' own stride: averaging the features commutes
        # with the dot product, so this costs (4 / mask_stride)² less and ranks the same masks.
        shrink = 4 // self.mask_stride
        coarse = F.avg_pool2d(features, shrink) if shrink > 1 else features
        logits = self.mask_logits(kernel, cell, coarse, 4.0)
        inside = (logits > 0).float()
        area = inside.sum(dim=(-2, -1))
        maskness = (logits.sigmoid() * inside).sum(dim=(-2, -1)) / area.clamp(min=1.0)
        valid = (score > self.score_threshold) & (area > self._least_area(cell))
        score = score * maskness * valid.float()

        score, order = top(score, self.nms_candidates)
        label, kernel, cell, inside, logits = (take(v, order) for v in (label, kernel, cell, inside, logits))
        score = matrix_nms(score, label, inside)
        score = score * (score >= self.final_threshold).float()

        score, order = top(score, self.candidates)
        label, kernel, cell, inside, logits = (take(v, order) for v in (label, kernel, cell, inside, logits))
        boxes = mask_boxes(inside) * 4.0
        if self.box_grid is None:
            masks = logits if shrink == 1 else self.mask_logits(kernel, cell, features, self.mask_stride)
        else:
            # One coarse pixel more on each side, so that the mask's outline lies inside its grid.
            empty = (boxes[..., 2:] <= boxes[..., :2]).any(dim=-1, keepdim=True)
            boxes = torch.cat([boxes[..., :2] - 4.0, boxes[..., 2:] + 4.0], dim=-1)
            limit = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
            boxes = torch.where(empty, torch.zeros_like(boxes), torch.minimum(boxes.clamp(min=0.0), limit))
            masks = self.masks_in_boxes(kernel, cell, features, boxes)
        return CandidateTensors(score, label, boxes, masks)

    def _least_area(self, cell: Tensor) -> Tensor:
        """A mask must have more pixels at stride 4 than its level's stride, as the paper's code has it; where
        objects may be smaller than that (mask features finer than stride 4), one pixel is enough."""
        return cell[..., 3] if self.mask_stride == 4 else torch.zeros_like(cell[..., 3])

    def masks_in_boxes(self, kernels: Tensor, cells: Tensor, features: Tensor, boxes: Tensor) -> Tensor:
        """Mask logits on an m × m grid that spans each box (B, N, 4) -> (B, N, m, m).

        The features are sampled first and multiplied by the kernel after: bilinear sampling commutes with the
        dot product, so the full-size logits are never formed.
        """
        assert self.box_grid is not None
        m, (batch, count) = self.box_grid, boxes.shape[:2]
        step = (torch.arange(m, device=boxes.device) + 0.5) / m
        x = boxes[..., 0:1] + step * (boxes[..., 2:3] - boxes[..., 0:1])
        y = boxes[..., 1:2] + step * (boxes[..., 3:4] - boxes[..., 1:2])
        height, width = (self.mask_stride * int(n) for n in features.shape[-2:])
        grid = torch.stack(
            [
                (2.0 * x / width - 1.0)[:, :, None, :].expand(batch, count, m, m),
                (2.0 * y / height - 1.0)[:, :, :, None].expand(batch, count, m, m),
            ],
            dim=-1,
        ).reshape(batch, count, m * m, 2)
        sampled = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
        weight = kernels[..., : features.shape[1]]
        logits = (weight[:, :, None, :] @ sampled.permute(0, 2, 1, 3)).reshape(batch, count, m, m)
        if self.local:
            sharpness = self._sharpness(kernels, cells)[..., None]
            dx2 = sharpness * (x - cells[..., 0:1]).square()
            dy2 = sharpness * (y - cells[..., 1:2]).square()
            logits = logits + kernels[..., -2, None, None] - dx2[..., None, :] - dy2[..., :, None]
        return logits


def points_nms(scores: Tensor) -> Tensor:
    """Keep a score where it is the largest of itself, the cell above, to the left and above-left; zero elsewhere.

    (B, C, rows, columns) -> the same. From the paper's code; the paper calls it no name.
    """
    largest = F.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (largest == scores).float()


PAPER_LEVELS = (
    Level(source=0, stride=8, grid=40, sizes=(1, 96)),
    Level(source=1, stride=8, grid=36, sizes=(48, 192)),
    Level(source=2, stride=16, grid=24, sizes=(96, 384)),
    Level(source=3, stride=32, grid=16, sizes=(192, 768)),
    Level(source=4, stride=32, grid=12, sizes=(384, 2048)),
)


def solov2_r50(classes: int) -> SOLOv2:
    """SOLOv2 of table 1: ResNet-50, FPN 256, towers 4 × 512, kernels of 256; stride-4 masks, 100 objects."""
    backbone = Backbone("resnet50", levels=(2, 3, 4, 5))
    return SOLOv2(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=256, extra=1),
        levels=PAPER_LEVELS,
        kernel_head=KernelHead(
            256, width=512, depth=4, classes=classes, kernel=256, norm=group_norm, coordinates=True
        ),
        mask_features=MaskFeatures(256, width=128, outputs=256, norm=group_norm, coordinates=True),
        mask_stride=4,
        local=False,
        score_threshold=0.1,
        final_threshold=0.05,
        preselect=1000,
        nms_candidates=500,
        candidates=100,
        box_grid=None,
    )


def solov2_r18_light(classes: int) -> SOLOv2:
    """The paper's light head (table 7) on ResNet-18: FPN 128, towers 2 × 128; the same grids and 100 objects."""
    backbone = Backbone("resnet18", levels=(2, 3, 4, 5))
    return SOLOv2(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=128, extra=1),
        levels=PAPER_LEVELS,
        kernel_head=KernelHead(
            128, width=128, depth=2, classes=classes, kernel=128, norm=group_norm, coordinates=True
        ),
        mask_features=MaskFeatures(128, width=64, outputs=128, norm=group_norm, coordinates=True),
        mask_stride=4,
        local=False,
        score_threshold=0.1,
        final_threshold=0.05,
        preselect=500,
        nms_candidates=500,
        candidates=100,
        box_grid=None,
    )


def solov2_dense(classes: int) -> SOLOv2:
    """For hundreds of small, touching objects (cells, fruit): EfficientNet-Lite0, cells of 8, 16 and 32 pixels,
    stride-2 mask features, local masks, 400 objects on a 28 × 28 grid each."""
    backbone = Backbone("tf_efficientnet_lite0", levels=(2, 3, 4, 5))
    return SOLOv2(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=96),
        levels=(
            Level(source=1, stride=8, grid=None, sizes=(1, 56), extent=12),
            Level(source=2, stride=16, grid=None, sizes=(40, 128), extent=32),
            Level(source=3, stride=32, grid=None, sizes=(96, 2048), extent=96),
        ),
        kernel_head=KernelHead(
            96, width=96, depth=2, classes=classes, kernel=48 + 2, norm=batch_norm, coordinates=False
        ),
        mask_features=MaskFeatures(96, width=64, outputs=48, norm=batch_norm, coordinates=False, upscale=2),
        mask_stride=2,
        local=True,
        score_threshold=0.05,
        final_threshold=0.05,
        preselect=400,
        nms_candidates=400,
        candidates=400,
        box_grid=28,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
