"""Mask2Former's network: queries · mask features = masks, one for each object, without suppression.

Section numbers are those of arXiv 2112.01527. Builders at the end of the file hold every number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Normalize
from apiece.models.layers import mask_boxes, resize, take, top
from apiece.models.mask2former.masked_attention import MaskedDecoder, Prediction, append_distances
from apiece.models.mask2former.pixel_decoder import PixelDecoder, Pixels
from apiece.models.network import Network
from apiece.models.tensors import CandidateTensors


class Raw(NamedTuple):
    """What the loss needs: predictions of the learnt queries and of every layer; mask features (B, E, h, w)."""

    predictions: list[Prediction]
    features: Tensor


class Mask2Former(Network):
    """The whole network. `raw` serves the loss, `forward` the contract.

    candidates    K of the contract: the best (query, class) pairs by category score.
    score_stride  resolution at which a mask's mean probability is taken, in input pixels: 4 is the masks' own, 1 what
                  the paper's code does, at 16 times the cost.
    points        where a mask is compared in training (section 3.3).
    repeats       queries that each object gets in training before the first layer; 1 is the paper.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: Backbone,
        pixel_decoder: PixelDecoder,
        decoder: MaskedDecoder,
        candidates: int,
        score_stride: int,
        points: int,
        repeats: int = 1,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.normalize = Normalize(mean, std)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        self.candidates = candidates
        self.score_stride = score_stride
        self.points = points
        self.repeats = repeats
        self.mask_frame = "image"
        self.boxes_from = "masks"
        self.size_divisor = 32

    def raw(self, images: Tensor) -> Raw:
        """(B, 3, H, W) RGB 0…255 -> predictions of all layers."""
        pixels = self._pixels(images)
        return Raw(self.decoder(pixels, every=True), pixels.features)

    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
        pixels = self._pixels(images)
        return self.select(self.decoder(pixels, every=False)[-1], pixels.features)

    def _pixels(self, images: Tensor) -> Pixels:
        pixels: Pixels = self.pixel_decoder(self.backbone(self.normalize(images)))
        if self.decoder.seeded:
            return Pixels(pixels.scales, append_distances(pixels.features))
        return pixels

    def select(self, last: Prediction, features: Tensor) -> CandidateTensors:
        """Score = category score × mean probability over the mask's pixels (section 4, "Instance segmentation")."""
        scores = last.categories.float().softmax(dim=-1)[..., :-1].flatten(1)
        score, pair = top(scores, self.candidates)
        embeddings = take(last.embeddings.float(), torch.div(pair, self.classes, rounding_mode="floor"))
        height, width = (int(n) for n in features.shape[-2:])
        logits = (embeddings @ features.float().flatten(2)).reshape(-1, self.candidates, height, width)
        score, order = top(score * self._mask_score(logits), self.candidates)
        label, logits = take(pair % self.classes, order), take(logits, order)
        return CandidateTensors(score, label, mask_boxes((logits > 0).float()) * 4.0, logits)

    def _mask_score(self, logits: Tensor) -> Tensor:
        """(B, K, h, w) at stride 4 -> (B, K): mean probability of the pixels inside; 0 where there are none."""
        height, width = (4 * int(n) // self.score_stride for n in logits.shape[-2:])
        logits = resize(logits, (height, width)).flatten(2)
        inside = (logits > 0).float()
        return (logits.sigmoid() * inside).sum(dim=2) / inside.sum(dim=2).clamp(min=1.0)


def mask2former_r50(classes: int) -> Mask2Former:
    """Mask2Former of table 1 with ResNet-50: 100 queries, 6 encoder and 9 decoder layers."""
    return _paper(classes, Backbone("resnet50", levels=(2, 3, 4, 5)))


def mask2former_swin_tiny(classes: int) -> Mask2Former:
    """Mask2Former of table 1 with Swin-T."""
    return _paper(classes, Backbone("swin_tiny_patch4_window7_224", levels=(2, 3, 4, 5), drop_depth=0.3))


def mask2former_swin_small(classes: int) -> Mask2Former:
    """Mask2Former of table 1 with Swin-S."""
    return _paper(classes, Backbone("swin_small_patch4_window7_224", levels=(2, 3, 4, 5), drop_depth=0.3))


def _paper(classes: int, backbone: Backbone) -> Mask2Former:
    """The numbers that the paper's instance models share (section 4.1)."""
    return Mask2Former(
        classes=classes,
        backbone=backbone,
        pixel_decoder=PixelDecoder(
            backbone.channels, width=256, outputs=256, layers=6, heads=8, hidden=1024, points=4
        ),
        decoder=MaskedDecoder(classes, queries=100, width=256, outputs=256, layers=9, heads=8, hidden=2048),
        candidates=100,
        score_stride=4,
        points=12544,
    )


def mask2former_lite0(classes: int) -> Mask2Former:
    """A light one for few pictures and no accelerator: EfficientNet-Lite0, width 128, 50 queries, 1 encoder and 3
    decoder layers."""
    backbone = Backbone("tf_efficientnet_lite0", levels=(2, 3, 4, 5))
    return Mask2Former(
        classes=classes,
        backbone=backbone,
        pixel_decoder=PixelDecoder(
            backbone.channels, width=128, outputs=128, layers=1, heads=4, hidden=256, points=4
        ),
        decoder=MaskedDecoder(
            classes, seeded=True, queries=50, width=128, outputs=128, layers=3, heads=4, hidden=512
        ),
        candidates=50,
        score_stride=4,
        points=4096,
        repeats=6,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
