"""YOLACT's network: prototypes for the whole picture, coefficients for each anchor; their product is a mask.

Section numbers are those of arXiv 1904.02689. Builders at the end of the file hold every number.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.backbones import Backbone, Normalize
from apiece.models.layers import ConvNormReLU, Norm, batch_norm, resize, take, top
from apiece.models.network import Network
from apiece.models.tensors import CandidateTensors
from apiece.models.yolact.anchors import AnchorLayout, decode_boxes
from apiece.models.yolact.darknet import Darknet53
from apiece.models.yolact.fast_nms import fast_nms

IMAGENET_MEAN = (123.68, 116.78, 103.94)
IMAGENET_STD = (58.40, 57.12, 57.38)

FOREGROUND = 0.1
"""Probability of an object, over all classes, with which an untrained anchor starts."""


class Raw(NamedTuple):
    """What the loss needs, over A anchors in the order of `AnchorLayout.boxes`.

    boxes         (B, A, 4) box code.
    categories    (B, A, 1 + classes) logits, background first.
    coefficients  (B, A, P) in [-1, 1].
    prototypes    (B, P, h, w), not negative, at twice the finest level's resolution.
    semantic      (B, classes, h / 2, w / 2) logits.
    """

    boxes: Tensor
    categories: Tensor
    coefficients: Tensor
    prototypes: Tensor
    semantic: Tensor


def conv_relu(inputs: int, outputs: int, norm: Norm | None) -> nn.Sequential:
    """3 × 3 convolution and ReLU; with bias as in the paper, or with a norm between."""
    if norm is not None:
        return ConvNormReLU(inputs, outputs, norm)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


class Pyramid(nn.Module):
    """YOLACT's FPN (section 3.3): bilinear top-down path, ReLU after the 3 × 3, coarser levels by strided
    convolutions of those, without ReLU.

    inputs  channels of the backbone's maps, fine to coarse.
    extra   how many coarser maps to add.
    norm    between each 3 × 3 and its ReLU; None is the paper.
    """

    def __init__(self, inputs: tuple[int, ...], channels: int, extra: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.output = nn.ModuleList(conv_relu(channels, channels, norm) for _ in inputs)
        self.downsample = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(extra)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps, fine to coarse -> pyramid, fine to coarse."""
        laterals = [conv(m) for conv, m in zip(self.lateral, maps, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            height, width = laterals[i - 1].shape[-2:]
            laterals[i - 1] = laterals[i - 1] + resize(laterals[i], (height, width))
        pyramid = [conv(m) for conv, m in zip(self.output, laterals, strict=True)]
        for conv in self.downsample:
            pyramid.append(conv(pyramid[-1]))
        return pyramid


class PrototypeNet(nn.Module):
    """Prototypes of the whole picture from the finest level (section 3.1, figure 3)."""

    def __init__(
        self, inputs: int, width: int, depth: int, prototypes: int, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            *(conv_relu(inputs if i == 0 else width, width, norm) for i in range(depth))
        )
        self.fine = conv_relu(width, width, norm)
        self.project = nn.Conv2d(width, prototypes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, prototypes, 2h, 2w), not negative."""
        maps = self.tower(maps)
        maps = F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.relu(self.project(self.fine(maps)))


class PredictionHead(nn.Module):
    """Classes, boxes and mask coefficients of every anchor, shared by all levels (section 3.1, figure 4)."""

    def __init__(
        self, inputs: int, width: int, classes: int, per_cell: int, prototypes: int, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.classes, self.prototypes = classes, prototypes
        self.tower = conv_relu(inputs, width, norm)
        self.box = nn.Conv2d(width, per_cell * 4, 3, padding=1)
        self.category = nn.Conv2d(width, per_cell * (1 + classes), 3, padding=1)
        self.coefficient = nn.Conv2d(width, per_cell * prototypes, 3, padding=1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, inputs, h, w) -> box code (B, N, 4), logits (B, N, 1 + classes), coefficients (B, N, P), with
        N = h · w · anchors of a cell."""
        maps = self.tower(maps)
        return (
            by_anchor(self.box(maps), 4),
            by_anchor(self.category(maps), 1 + self.classes),
            # In float32: bfloat16's tanh is 1 from 3.2 on, where it has no gradient any more.
            torch.tanh(by_anchor(self.coefficient(maps), self.prototypes).float()),
        )


def by_anchor(maps: Tensor, values: int) -> Tensor:
    """(B, anchors · values, h, w) -> (B, h · w · anchors, values): row, column, anchor."""
    batch, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(batch, height * width * (channels // values), values)


class YOLACT(Network):
    """The whole network. `raw` serves the loss, `forward` the contract.

    Masks are in the image frame at the prototypes' resolution, whose grid spans the input exactly. That is the
    paper's rule to the pixel, and cheaper than sampling 32 prototypes on a 56 × 56 grid in each of 100 boxes.

    score_threshold  an anchor takes part when its best class is over it; then all of its classes do.
    nms_threshold    IoU over which Fast NMS removes the lower box.
    preselect        most boxes of a class that enter Fast NMS.
    cross_class      one Fast NMS over all classes instead, each anchor with its best class.
    candidates       K of the contract.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: Backbone,
        neck: Pyramid,
        anchors: AnchorLayout,
        head: PredictionHead,
        prototypes: PrototypeNet,
        score_threshold: float,
        nms_threshold: float,
        preselect: int,
        candidates: int,
        cross_class: bool = False,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.normalize = Normalize(mean, std)
        self.backbone = backbone
        self.neck = neck
        self.anchors = anchors
        self.head = head
        self.prototypes = prototypes
        self.semantic = nn.Conv2d(neck.channels, classes, 1)
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.preselect = preselect
        self.candidates = candidates
        self.cross_class = cross_class
        self.mask_frame = "image"
        self.boxes_from = "network"
        self.size_divisor = 1
        for part in (neck, head, prototypes, self.semantic):
            for conv in part.modules():
                if isinstance(conv, nn.Conv2d):
                    nn.init.xavier_uniform_(conv.weight)
                    if conv.bias is not None:
                        nn.init.zeros_(conv.bias)
        assert head.category.bias is not None
        with torch.no_grad():
            head.category.bias[:: 1 + classes] = math.log((1 - FOREGROUND) / FOREGROUND * classes)

    def raw(self, images: Tensor) -> Raw:
        """(B, 3, H, W) RGB 0…255 -> head outputs."""
        return self.heads(self.neck(self.backbone(self.normalize(images))))

    def heads(self, pyramid: list[Tensor]) -> Raw:
        """Pyramid, fine to coarse -> head outputs."""
        boxes, categories, coefficients = zip(*(self.head(maps) for maps in pyramid), strict=True)
        return Raw(
            torch.cat(boxes, dim=1),
            torch.cat(categories, dim=1),
            torch.cat(coefficients, dim=1),
            self.prototypes(pyramid[0]),
            self.semantic(pyramid[0]),
        )

    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
        height, width = images.shape[-2:]
        score, label, boxes, coefficients, prototypes = self.detect(self.raw(images), (height, width))
        masks = assemble(coefficients, prototypes, boxes)
        limits = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
        return CandidateTensors(score, label, boxes.clamp(0.0, 1.0) * limits, masks)

    def detect(self, raw: Raw, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Scores (B, K), labels (B, K), relative boxes (B, K, 4; not clipped), coefficients (B, K, P) of what
        Fast NMS leaves, by score, and the prototypes; all in float32. Slots without a candidate have score 0."""
        probability = raw.categories.float().softmax(dim=-1)[..., 1:]
        best, kind = probability.max(dim=-1)
        if self.cross_class:
            scores = torch.where(best > self.score_threshold, best, -1.0)[:, None]
        else:
            present = best[..., None] > self.score_threshold
            scores = torch.where(present, probability, -1.0).transpose(1, 2)
        groups = scores.shape[1]
        score, index = top(scores, self.preselect)
        anchors = self.anchors.boxes(*size, device=raw.boxes.device)
        boxes = take(decode_boxes(raw.boxes.float(), anchors), index.flatten(1))
        stays = fast_nms(boxes.reshape(-1, groups, score.shape[-1], 4), self.nms_threshold)
        score = (score.clamp(min=0.0) * stays.float()).flatten(1)
        label = torch.arange(groups, device=score.device).repeat_interleave(index.shape[-1])
        anchor = index.flatten(1)

        score, order = top(score, self.candidates)
        anchor, boxes = take(anchor, order), take(boxes, order)
        label = take(kind, anchor) if self.cross_class else label[order]
        return score, label, boxes, take(raw.coefficients, anchor).float(), raw.prototypes.float()


def assemble(coefficients: Tensor, prototypes: Tensor, boxes: Tensor) -> Tensor:
    """Mask logits (B, K, h, w) from coefficients (B, K, P), prototypes (B, P, h, w) and relative boxes (B, K, 4).

    Positive only where a cell's index lies in the box grown by one cell on each side (section 3.2, "cropping
    masks"). The logits are linear in the probability, 4 · (p - 1/2), with p = 0 outside: so interpolating them and
    cutting at 0 gives the masks of the paper's code, which interpolates p and cuts at 1/2.
    """
    height, width = prototypes.shape[-2:]
    logits = (coefficients @ prototypes.flatten(2)).reshape(*coefficients.shape[:2], height, width)
    x = torch.arange(width, device=boxes.device, dtype=boxes.dtype)
    y = torch.arange(height, device=boxes.device, dtype=boxes.dtype)
    within_x = (x >= boxes[..., 0:1] * width - 1) & (x < boxes[..., 2:3] * width + 1)
    within_y = (y >= boxes[..., 1:2] * height - 1) & (y < boxes[..., 3:4] * height + 1)
    within = within_y[..., :, None] & within_x[..., None, :]
    return 4.0 * (logits.sigmoid() * within.to(logits.dtype) - 0.5)


PAPER_ANCHORS = AnchorLayout(
    levels=(3, 4, 5, 6, 7),
    scales=((24,), (48,), (96,), (192,), (384,)),
    ratios=(1.0, 0.5, 2.0),
    square=True,
)


def _paper(classes: int, backbone: Backbone, mean: tuple[float, ...], std: tuple[float, ...]) -> YOLACT:
    return YOLACT(
        classes=classes,
        backbone=backbone,
        neck=Pyramid(backbone.channels, channels=256, extra=2),
        anchors=PAPER_ANCHORS,
        head=PredictionHead(256, width=256, classes=classes, per_cell=3, prototypes=32),
        prototypes=PrototypeNet(256, width=256, depth=3, prototypes=32),
        score_threshold=0.05,
        nms_threshold=0.5,
        preselect=200,
        candidates=100,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def yolact_r50(classes: int) -> YOLACT:
    """YOLACT-550 of table 1 on ResNet-50: five levels of 256 channels, three square anchors a cell, 32 prototypes
    at stride 4, 100 objects. Input 550 × 550."""
    return _paper(classes, Backbone("resnet50", levels=(3, 4, 5)), IMAGENET_MEAN, IMAGENET_STD)


def yolact_r101(classes: int) -> YOLACT:
    """YOLACT-550 of table 1 on ResNet-101, the paper's base model. Input 550 × 550."""
    return _paper(classes, Backbone("resnet101", levels=(3, 4, 5)), IMAGENET_MEAN, IMAGENET_STD)


def yolact_darknet53(classes: int) -> YOLACT:
    """YOLACT-550 of table 1 on Darknet-53, whose input is 0…1 without normalisation. Input 550 × 550."""
    return _paper(classes, Darknet53(levels=(3, 4, 5)), (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


def yolact_lite0(classes: int) -> YOLACT:
    """For training on a CPU in minutes: EfficientNet-Lite0, 96 channels with batch norm, anchors of true ratios,
    32 prototypes at stride 4, 100 objects. Input 384 to 512 pixels."""
    backbone = Backbone("tf_efficientnet_lite0", levels=(3, 4, 5))
    return YOLACT(
        classes=classes,
        backbone=backbone,
        neck=Pyramid(backbone.channels, channels=96, extra=2, norm=batch_norm),
        anchors=PAPER_ANCHORS._replace(square=False),
        head=PredictionHead(96, width=96, classes=classes, per_cell=3, prototypes=32),
        prototypes=PrototypeNet(96, width=96, depth=2, prototypes=32, norm=batch_norm),
        score_threshold=0.05,
        nms_threshold=0.5,
        preselect=200,
        candidates=100,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
