"""Mask R-CNN: regions are proposed, classified and refined, and each detection's mask is drawn in its own box.

Section numbers are those of arXiv 1703.06870 unless another paper is named. Without a mask head it is Faster R-CNN
with a pyramid (arXiv 1612.03144), whose masks are whole boxes. Builders at the end of the file hold every number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Normalize
from apiece.models.fpn import FPN
from apiece.models.layers import batch_norm, take, top
from apiece.models.mask_rcnn import boxes as codec
from apiece.models.mask_rcnn.anchors import anchors, grid
from apiece.models.mask_rcnn.heads import BoxHead, MaskHead, NormalisedFPN, RPNHead
from apiece.models.network import Network
from apiece.models.nms import nms_keep, nms_keep_by_class
from apiece.models.roi_align import align, sample_rois, with_picture
from apiece.models.tensors import CandidateTensors

FINEST = 2
"""The finest map is P2, at stride 4."""


class Raw(NamedTuple):
    """What the loss needs: maps P2, P3, …; per map objectness logits (B, anchors) and box codes (B, anchors, 4)."""

    pyramid: list[Tensor]
    objectness: list[Tensor]
    codes: list[Tensor]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = self.pyramid[0].shape[-2:]
        return int(height) << FINEST, int(width) << FINEST


class Proposals(NamedTuple):
    """How many regions are proposed: the best `before` of each level enter NMS, the best `after` of all leave it."""

    before: int
    after: int


class Sampling(NamedTuple):
    """What a picture's losses are estimated from.

    anchors  so many, at most half of them on objects (section 3.1.3 of arXiv 1506.01497).
    rois     so many regions, at most a quarter of them on objects (section 3.1).
    """

    anchors: int
    rois: int


class MaskRCNN(Network):
    """The whole network. `raw` serves the loss, `forward` the contract.

    anchor_sides     side of the square anchor of each map of the pyramid, input pixels.
    anchor_ratios    height / width; the area stays.
    mask_head        None: Faster R-CNN.
    training_proposals, proposals   in training and otherwise.
    sampling         what the losses are estimated from.
    rpn_nms          proposals of one level that overlap a better one by more than this IoU go.
    score_threshold  a (region, class) enters as a detection above it.
    nms              detections of one class that overlap a better one by more than this IoU go.
    preselect        most (region, class) pairs that enter NMS, best first.
    candidates       K of the contract.
    """

    backbone: Backbone

    def __init__(
        self,
        *,
        classes: int,
        backbone: Backbone,
        neck: FPN,
        anchor_sides: tuple[float, ...],
        rpn_head: RPNHead,
        box_head: BoxHead,
        mask_head: MaskHead | None,
        training_proposals: Proposals,
        proposals: Proposals,
        sampling: Sampling,
        anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        rpn_nms: float = 0.7,
        score_threshold: float = 0.05,
        nms: float = 0.5,
        preselect: int = 2000,
        candidates: int = 100,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.normalize = Normalize(mean, std)
        self.backbone = backbone
        self.neck = neck
        self.anchor_sides = anchor_sides
        self.anchor_ratios = anchor_ratios
        self.rpn_head = rpn_head
        self.box_head = box_head
        self.mask_head = mask_head
        self.training_proposals = training_proposals
        self.proposals = proposals
        self.sampling = sampling
        self.rpn_nms = rpn_nms
        self.score_threshold = score_threshold
        self.nms = nms
        self.preselect = preselect
        self.candidates = candidates
        self.mask_frame = "box"
        self.boxes_from = "network"
        self.size_divisor = 32
        self.box_masks = mask_head is None

    def raw(self, images: Tensor) -> Raw:
        """(B, 3, H, W) RGB 0…255 -> pyramid and proposal head's outputs."""
        pyramid = self.neck(self.backbone(self.normalize(images)))
        outputs = [self.rpn_head(maps) for maps in pyramid]
        return Raw(pyramid, [logits for logits, _ in outputs], [codes for _, codes in outputs])

    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
        return self.detect(self.raw(images))

    def anchors(self, size: tuple[int, int]) -> list[Tensor]:
        """Anchors of each map for an input of this (height, width), (rows · columns · ratios, 4)."""
        cells = grid(*size, FINEST, len(self.anchor_sides))
        made = anchors(size, cells, self.anchor_sides, self.anchor_ratios)
        return [torch.from_numpy(level) for level in made]

    def propose(self, raw: Raw, count: Proposals) -> tuple[Tensor, Tensor]:
        """Proposal head's outputs -> boxes (B, N, 4), objectness (B, N) descending, 0 in empty slots.

        No gradient flows through a proposal. N is at most `count.after`.
        """
        boxes, scores = [], []
        for logits, codes, reference in zip(raw.objectness, raw.codes, self.anchors(raw.size), strict=True):
            logit, index = top(logits.detach().float(), count.before)
            code = take(codes.detach().float(), index)
            box = codec.decode(code, reference.to(logit.device)[index], codec.RPN_WEIGHTS)
            box = codec.clip(box, raw.size)
            score = logit.sigmoid() * codec.at_least(box, 1e-3)
            boxes.append(box)
            scores.append(score * nms_keep(box, score, self.rpn_nms))
        score, index = top(torch.cat(scores, dim=1), count.after)
        return take(torch.cat(boxes, dim=1), index), score

    def roi_maps(self, raw: Raw) -> list[Tensor]:
        """The maps that regions are sampled from: P2 … P5."""
        return raw.pyramid[: len(self.backbone.channels)]

    def sample(self, raw: Raw, rois: Tensor, size: int) -> Tensor:
        """Features of rois (R, 5) on a grid -> (R, C, size, size), with gradients to the pyramid."""
        return sample_rois(self.roi_maps(raw), rois, size, finest=FINEST)

    def _align(self, raw: Raw, rois: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """`sample` for inference, in an order of its own."""
        return align([level.float() for level in self.roi_maps(raw)], rois, size, finest=FINEST)

    def detect(self, raw: Raw) -> CandidateTensors:
        """Outputs of `raw` -> candidates: proposals, classes and boxes, NMS by class, masks."""
        proposals, objectness = self.propose(raw, self.proposals)
        batch, count = objectness.shape
        features, order = self._align(raw, with_picture(proposals), self.box_head.size)
        place = torch.argsort(order)
        logits, codes = (made[place] for made in self.box_head(features))
        probability = logits.float().softmax(dim=-1)[:, 1:].reshape(batch, count, self.classes)
        over = (probability > self.score_threshold) & (objectness > 0)[..., None]
        score, index = top((probability * over).flatten(1), self.preselect)
        label = index % self.classes
        proposal = take(proposals, torch.div(index, self.classes, rounding_mode="floor"))
        code = take(codes.float().reshape(batch, count * self.classes, 4), index)
        box = codec.clip(codec.decode(code, proposal, codec.ROI_WEIGHTS), raw.size)
        score = score * codec.at_least(box, 1e-2)
        score = score * nms_keep_by_class(box, score, label, self.classes, self.nms)

        score, order = top(score, self.candidates)
        label, box = take(label, order), take(box, order) * (score > 0)[..., None]
        missing = self.candidates - score.shape[1]
        if missing > 0:
            score, label = F.pad(score, (0, missing)), F.pad(label, (0, missing))
            box = F.pad(box, (0, 0, 0, missing))
        return CandidateTensors(score, label, box, self.masks(raw, box, label, score))

    def masks(self, raw: Raw, boxes: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
        """Mask logits of detections (B, K) in their boxes (B, K, 4) -> (B, K, m, m); 0 in empty slots.

        Only filled slots are computed. The first slot of each picture is too, so that there is always one.
        """
        if self.mask_head is None:
            return boxes.new_ones((*scores.shape, 2, 2)) * 10.0
        filled = torch.cat([torch.ones_like(scores[:, :1], dtype=torch.bool), scores[:, 1:] > 0], dim=1)
        rows = torch.nonzero(filled.flatten())[:, 0]
        torch._check(rows.shape[0] >= 1)  # so that the exporter knows
        rois = with_picture(boxes)[rows]
        features, order = self._align(raw, rois, self.mask_head.size)
        rows = rows[order]
        drawn = self.mask_head(features, labels.flatten()[rows]).float()
        side = 2 * self.mask_head.size
        empty = drawn.new_zeros((boxes.shape[0] * boxes.shape[1], side, side))
        every: Tensor = empty.index_put((rows,), drawn).reshape(*scores.shape, side, side)
        return every


PAPER_ANCHORS = (32.0, 64.0, 128.0, 256.0, 512.0)


def paper(classes: int, backbone: str, *, masks: bool) -> MaskRCNN:
    """The papers' network: FPN 256, one convolution in the proposal head, two layers of 1,024 for boxes, masks of
    28 × 28 by four convolutions; 2,000 proposals in training, 1,000 after, 100 objects."""
    body = Backbone(backbone, levels=(2, 3, 4, 5))
    return MaskRCNN(
        classes=classes,
        backbone=body,
        neck=FPN(body.channels, channels=256, extra=1),
        anchor_sides=PAPER_ANCHORS,
        rpn_head=RPNHead(256, anchors=3),
        box_head=BoxHead(256, size=7, classes=classes),
        mask_head=MaskHead(256, width=256, size=14, classes=classes) if masks else None,
        training_proposals=Proposals(before=2000, after=2000),
        proposals=Proposals(before=1000, after=1000),
        sampling=Sampling(anchors=256, rois=512),
    )


def version2(classes: int, backbone: str, *, masks: bool) -> MaskRCNN:
    """torchvision's "v2" of the papers' network (arXiv 2111.11429): norm in neck and heads, two convolutions in the
    proposal head, four before one layer of 1,024 for boxes."""
    body = Backbone(backbone, levels=(2, 3, 4, 5))
    return MaskRCNN(
        classes=classes,
        backbone=body,
        neck=NormalisedFPN(body.channels, channels=256, extra=1, norm=batch_norm),
        anchor_sides=PAPER_ANCHORS,
        rpn_head=RPNHead(256, anchors=3, depth=2),
        box_head=BoxHead(256, size=7, classes=classes, hidden=(1024,), convs=4, norm=batch_norm),
        mask_head=MaskHead(256, width=256, size=14, classes=classes, norm=batch_norm) if masks else None,
        training_proposals=Proposals(before=2000, after=2000),
        proposals=Proposals(before=1000, after=1000),
        sampling=Sampling(anchors=256, rois=512),
    )


def light(classes: int, *, masks: bool) -> MaskRCNN:
    """EfficientNet-Lite0, FPN 96, boxes by two layers of 256 from 300 proposals, masks by two convolutions."""
    body = Backbone("tf_efficientnet_lite0", levels=(2, 3, 4, 5))
    return MaskRCNN(
        classes=classes,
        backbone=body,
        neck=FPN(body.channels, channels=96, extra=1),
        anchor_sides=PAPER_ANCHORS,
        rpn_head=RPNHead(96, anchors=3),
        box_head=BoxHead(96, size=7, classes=classes, hidden=(256, 256)),
        mask_head=MaskHead(96, width=96, size=14, classes=classes, convs=2) if masks else None,
        training_proposals=Proposals(before=500, after=500),
        proposals=Proposals(before=300, after=300),
        sampling=Sampling(anchors=256, rois=128),
        preselect=500,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


def mask_rcnn_r50(classes: int) -> MaskRCNN:
    """Mask R-CNN on ResNet-50."""
    return paper(classes, "resnet50", masks=True)


def mask_rcnn_r101(classes: int) -> MaskRCNN:
    """Mask R-CNN on ResNet-101."""
    return paper(classes, "resnet101", masks=True)


def mask_rcnn_r50_v2(classes: int) -> MaskRCNN:
    """Mask R-CNN "v2" on ResNet-50."""
    return version2(classes, "resnet50", masks=True)


def mask_rcnn_lite0(classes: int) -> MaskRCNN:
    """Mask R-CNN that trains in minutes on a processor."""
    return light(classes, masks=True)


def faster_rcnn_r50(classes: int) -> MaskRCNN:
    """Faster R-CNN on ResNet-50: boxes only."""
    return paper(classes, "resnet50", masks=False)


def faster_rcnn_r50_v2(classes: int) -> MaskRCNN:
    """Faster R-CNN "v2" on ResNet-50: boxes only."""
    return version2(classes, "resnet50", masks=False)


def faster_rcnn_lite0(classes: int) -> MaskRCNN:
    """Faster R-CNN that trains in minutes on a processor: boxes only."""
    return light(classes, masks=False)
