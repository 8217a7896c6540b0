"""A class for every pixel, and connected pixels of a class as one object.

Section numbers are those of Panoptic FPN (arXiv 1901.02446). Builders at the end of the file hold every number.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Normalize
from apiece.models.fpn import FPN
from apiece.models.layers import ConvNormReLU, Norm, batch_norm, group_norm, take, top
from apiece.models.network import Network
from apiece.models.semantic.components import components
from apiece.models.tensors import CandidateTensors


class SemanticBranch(nn.Module):
    """One map from P2…P5 (section 3.1, figure 3): each level convolved and doubled until it has stride 4, then summed.

    upscale  2 gives twice P2's resolution by pixel shuffle, for objects of a few pixels; 1 is the paper's.
    """

    def __init__(self, inputs: int, width: int, classes: int, norm: Norm, upscale: int = 1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ConvNormReLU(inputs if i == 0 else width, width, norm) for i in range(max(level, 1))
            )
            for level in range(4)
        )
        self.classify = nn.Conv2d(width, (classes + 1) * upscale**2, 1)
        self.shuffle = nn.PixelShuffle(upscale) if upscale > 1 else nn.Identity()
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)
        # A prior of 90 % background, as detectors have one (arXiv 1708.02002, section 3.3).
        nn.init.constant_(self.classify.bias[: upscale**2], math.log(9.0 * classes))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """P2…P5 -> (B, classes + 1, h, w) logits; channel 0 is the background."""
        total: Tensor | None = None
        for index, (convs, maps) in enumerate(zip(self.levels, pyramid, strict=True)):
            assert isinstance(convs, nn.ModuleList)
            for conv in convs:
                maps = conv(maps)
                if index > 0:
                    maps = F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = maps if total is None else total + maps
        logits: Tensor = self.shuffle(self.classify(total))
        return logits


class Semantic(Network):
    """The whole network. `raw` serves the loss, `forward` the contract.

    stride      of the branch's logits, input pixels.
    candidates  K of the contract: the K components of the highest score.
    box_grid    None: masks in the image frame at `stride`, every outline as fine as the logits; right for a hundred
                objects. m: each mask resampled to m × m in its own box, so that K × m × m leaves the graph; right
                for hundreds of small ones.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: Backbone,
        neck: FPN,
        branch: SemanticBranch,
        stride: int,
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
        self.branch = branch
        self.stride = stride
        self.candidates = candidates
        self.box_grid = box_grid
        self.mask_frame = "image" if box_grid is None else "box"
        self.boxes_from = "masks"
        self.size_divisor = 32

    def raw(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB 0…255 -> (B, classes + 1, H / stride, W / stride) logits; channel 0 is the background."""
        logits: Tensor = self.branch(self.neck(self.backbone(self.normalize(images))))
        return logits

    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
        return self.select(self.raw(images))

    def select(self, logits: Tensor) -> CandidateTensors:
        """Logits -> the components of most certain class.

        A component's score is the mean probability of its class over its pixels. A mask's logit is the class's lead
        over the best other class; pixels of the class that belong to another component have it with the sign turned.
        """
        logits = logits.float()
        height, width = logits.shape[-2:]
        best, kind = logits.max(dim=1)
        certainty = torch.exp(best - logits.logsumexp(dim=1)).flatten(1)
        owner = components(kind).flatten(1)

        zero = torch.zeros_like(certainty)
        area = zero.scatter_add(1, owner, torch.ones_like(certainty))
        mean = zero.scatter_add(1, owner, certainty) / area.clamp(min=1.0)
        pixel = torch.arange(height * width, device=logits.device)
        first = (owner == pixel) & (kind.flatten(1) > 0)
        score, root = top(mean.clamp(max=1.0) * first.float(), self.candidates)
        found = score > 0
        label = (kind.flatten(1).gather(1, root) - 1).clamp(min=0)

        boxes = take(_boxes(owner, height, width), root) * found[..., None].float()
        if self.box_grid is None:
            masks = self._masks(logits, owner, root, label)
        else:
            # One pixel more on each side, so that the mask's outline lies inside its grid.
            limit = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
            grown = torch.cat([boxes[..., :2] - 1.0, boxes[..., 2:] + 1.0], dim=-1)
            boxes = torch.minimum(grown.clamp(min=0.0), limit) * found[..., None].float()
            masks = self._masks_in_boxes(logits, owner, root, label, boxes)
        masks = torch.where(found[..., None, None], masks, -1.0)
        return CandidateTensors(score, label, boxes * self.stride, masks)

    def _masks(self, logits: Tensor, owner: Tensor, root: Tensor, label: Tensor) -> Tensor:
        """Components `root` (B, K) of class `label` (B, K) -> (B, K, h, w) logits."""
        lead = take(_leads(logits), label)
        own = (owner[:, None] == root[..., None]).view_as(lead)
        return torch.where(own, lead, -lead.abs())

    def _masks_in_boxes(
        self, logits: Tensor, owner: Tensor, root: Tensor, label: Tensor, boxes: Tensor
    ) -> Tensor:
        """The same on an m × m grid that spans each box (B, K, 4; pixels of the logits) -> (B, K, m, m).

        Equal pixels of a 2 × 2 block touch. So of the four that a point lies between, those that have the class all
        belong to one component: if one of them is ours, the point's lead needs no correction.
        """
        assert self.box_grid is not None
        m, (batch, count), (height, width) = self.box_grid, root.shape, logits.shape[-2:]
        step = (torch.arange(m, device=boxes.device) + 0.5) / m
        x = (boxes[..., 0:1] + step * (boxes[..., 2:3] - boxes[..., 0:1]) - 0.5).clamp(0.0, width - 1.0)
        y = (boxes[..., 1:2] + step * (boxes[..., 3:4] - boxes[..., 1:2]) - 0.5).clamp(0.0, height - 1.0)
        left, upper = x.long(), y.long()
        right, lower = (left + 1).clamp(max=width - 1), (upper + 1).clamp(max=height - 1)
        way_x, way_y = (x - left.float())[:, :, None, :], (y - upper.float())[:, :, :, None]
        leads = _leads(logits).flatten(1)
        plane = label[..., None, None] * (height * width)
        lead = torch.zeros((), device=logits.device)
        own = torch.zeros((), dtype=torch.bool, device=logits.device)
        for row, share_y in ((upper, 1.0 - way_y), (lower, way_y)):
            for column, share_x in ((left, 1.0 - way_x), (right, way_x)):
                at = row[:, :, :, None] * width + column[:, :, None, :]
                corner = leads.gather(1, (plane + at).flatten(1)).view(batch, count, m, m)
                lead = lead + corner * share_y * share_x
                own = own | (owner.gather(1, at.flatten(1)).view(batch, count, m, m) == root[..., None, None])
        return torch.where(own, lead, -lead.abs())


def _leads(logits: Tensor) -> Tensor:
    """(B, C + 1, h, w) -> (B, C, h, w): by how much each class leads the best of all others; negative if it doesn't."""
    two = logits.topk(2, dim=1).values
    best, second = two[:, :1], two[:, 1:]
    others = torch.where(logits == best, second, best)
    return (logits - others)[:, 1:]


def _boxes(owner: Tensor, height: int, width: int) -> Tensor:
    """Tight boxes (B, h · w, 4), xyxy with exclusive right and bottom; meaningful where a component has its root."""
    pixel = torch.arange(height * width, device=owner.device)
    x = (pixel % width).float().expand_as(owner)
    y = torch.div(pixel, width, rounding_mode="floor").float().expand_as(owner)
    low = [v.scatter_reduce(1, owner, v, "amin") for v in (x, y)]
    high = [v.scatter_reduce(1, owner, v, "amax") + 1.0 for v in (x, y)]
    return torch.stack([*low, *high], dim=-1)


def semantic_r50(classes: int) -> Semantic:
    """Panoptic FPN's semantic branch: ResNet-50, FPN 256, branch 128 with GroupNorm; stride-4 masks, 100 objects."""
    backbone = Backbone("resnet50", levels=(2, 3, 4, 5))
    return Semantic(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=256),
        branch=SemanticBranch(256, width=128, classes=classes, norm=group_norm),
        stride=4,
        candidates=100,
        box_grid=None,
    )


def semantic_r18(classes: int) -> Semantic:
    """The same on ResNet-18, with FPN 128 and branch 64."""
    backbone = Backbone("resnet18", levels=(2, 3, 4, 5))
    return Semantic(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=128),
        branch=SemanticBranch(128, width=64, classes=classes, norm=group_norm),
        stride=4,
        candidates=100,
        box_grid=None,
    )


def semantic_lite0(classes: int) -> Semantic:
    """Trains in minutes on a CPU: EfficientNet-Lite0, FPN 96, branch 64 with BatchNorm; 100 objects."""
    backbone = Backbone("tf_efficientnet_lite0", levels=(2, 3, 4, 5))
    return Semantic(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=96),
        branch=SemanticBranch(96, width=64, classes=classes, norm=batch_norm),
        stride=4,
        candidates=100,
        box_grid=None,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


def semantic_dense(classes: int) -> Semantic:
    """The baseline of `solov2_dense`: its backbone, neck and resolution; 400 objects on a 28 × 28 grid each."""
    backbone = Backbone("tf_efficientnet_lite0", levels=(2, 3, 4, 5))
    return Semantic(
        classes=classes,
        backbone=backbone,
        neck=FPN(backbone.channels, channels=96),
        branch=SemanticBranch(96, width=64, classes=classes, norm=batch_norm, upscale=2),
        stride=2,
        candidates=400,
        box_grid=28,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
