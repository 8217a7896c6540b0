"""SAM: a picture's embedding once, then any number of prompts on it.

Section numbers are those of arXiv 2304.02643. Builders at the end of the file hold every number. SAM knows no classes:
every object has label 0, whatever number of classes a builder is given.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from apiece.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Normalize
from apiece.models.layers import ConvNormReLU, batch_norm, resize
from apiece.models.network import Network
from apiece.models.sam.automatic import Automatic, find
from apiece.models.sam.image_encoder import Embedding, ImageEncoder, LayerNorm2d
from apiece.models.sam.mask_decoder import Decoded, MaskDecoder, places
from apiece.models.sam.prompt_encoder import PromptEncoder
from apiece.models.sam.prompts import MASKS
from apiece.models.sam.tiny_vit import TinyViT
from apiece.models.tensors import CandidateTensors


class Raw(NamedTuple):
    """A picture as the decoder reads it: picture (B, C, h, w); finer maps, see `MaskDecoder`; size (height, width) of
    the network's input."""

    picture: Tensor
    finer: list[Tensor]
    size: tuple[int, int]


class FusedEmbedding(nn.Module):
    """Embedding and finer maps from a convolutional backbone's C2…C5, top down with lateral connections.

    width  of the embedding, at stride 16; the finer maps have width / 4 at stride 8 and width / 8 at stride 4.
    """

    def __init__(self, inputs: tuple[int, ...], width: int) -> None:
        super().__init__()
        widths = (width // 4, width // 2, width)
        self.top = nn.Conv2d(inputs[3], width, 1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(inputs[:3], widths, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in widths[:2])
        self.mix = nn.ModuleList(ConvNormReLU(w, w, batch_norm) for w in widths)
        self.embedding = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), LayerNorm2d(width))
        self.finer = nn.ModuleList(
            nn.Conv2d(w, o, 1) for w, o in ((width // 2, width // 4), (width // 4, width // 8))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """C2…C5 -> [embedding, finer at stride 8, finer at stride 4]."""
        size = (maps[2].shape[-2], maps[2].shape[-1])
        x16 = self.mix[2](self.lateral[2](maps[2]) + resize(self.top(maps[3]), size))
        x8 = self._finer(x16, maps, 1)
        x4 = self._finer(x8, maps, 0)
        return [self.embedding(x16), self.finer[0](x8), self.finer[1](x4)]

    def _finer(self, coarse: Tensor, maps: list[Tensor], level: int) -> Tensor:
        size = (maps[level].shape[-2], maps[level].shape[-1])
        out: Tensor = self.mix[level](
            self.lateral[level](maps[level]) + resize(self.down[level](coarse), size)
        )
        return out


class SAM(Network):
    """The whole network. `raw` embeds, `prompt` answers prompts, `forward` asks a grid of points.

    neck         backbone maps -> [embedding, finer maps].
    mask_stride  of the masks, input pixels: a quarter of the embedding's.
    frozen       backbone and neck are not trained, as in fine-tuning from the published weights.
    automatic    how `forward` finds objects.
    candidates   K of the contract.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: Backbone | ImageEncoder | TinyViT,
        neck: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        mask_stride: int,
        size_divisor: int,
        frozen: bool,
        automatic: Automatic,
        candidates: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if candidates > MASKS * automatic.side**2:
            raise ValueError(f"{candidates} candidates from {MASKS} masks of {automatic.side**2} points")
        self.classes = classes
        self.normalize = Normalize(mean, std)
        self.backbone = backbone
        self.neck = neck
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.mask_stride = mask_stride
        self.automatic = automatic
        self.candidates = candidates
        self.mask_frame = "image"
        self.boxes_from = "masks"
        self.size_divisor = size_divisor
        self.frozen = frozen
        if frozen:
            backbone.requires_grad_(False)
            neck.requires_grad_(False)

    def train(self, mode: bool = True) -> SAM:
        """As usual, but what is frozen keeps its batch statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            self.neck.eval()
        return self

    def raw(self, images: Tensor) -> Raw:
        """(B, 3, H, W) RGB 0…255 -> embedding."""
        picture, *finer = self.neck(self.backbone(self.normalize(images)))
        return Raw(picture, finer, (images.shape[-2], images.shape[-1]))

    def prompt(
        self,
        raw: Raw,
        points: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        masked: Tensor | None = None,
    ) -> Decoded:
        """Answers to P prompts on each picture, computed once for all four mask tokens.

        points, labels  (B, P, N, 2), (B, P, N), see `points_and_boxes`.
        masks, masked   previous logits (B, P, H / stride, W / stride), and which prompts have one (B, P) bool.
        """
        sparse = self.prompt_encoder.points(points, labels, raw.size)
        if masks is None:
            dense = self.prompt_encoder.no_mask()
        else:
            assert masked is not None
            dense = self.prompt_encoder.masks(masks, masked)
        position = self.prompt_encoder.pe_layer.grid(raw.picture.shape[-2], raw.picture.shape[-1])
        around = places(points, labels, raw.size)
        answer: Decoded = self.mask_decoder(raw.picture, raw.finer, position, sparse, dense, around)
        return answer

    def forward(self, images: Tensor) -> CandidateTensors:
        """(B, 3, H, W) RGB 0…255 -> K candidates per picture."""
        return find(self, self.raw(images), images)


def _published(classes: int, backbone: ImageEncoder | TinyViT) -> SAM:
    """What the published models share: a 256-wide decoder for 1024 × 1024 pixels, 1024 grid points, 100 objects."""
    return SAM(
        classes=classes,
        backbone=backbone,
        neck=Embedding(backbone.channels[-1], 256),
        prompt_encoder=PromptEncoder(256, mask_width=16),
        mask_decoder=MaskDecoder(width=256, heads=8, hidden=2048, depth=2, iou_hidden=256),
        mask_stride=4,
        size_divisor=16,
        frozen=True,
        automatic=Automatic(side=32, chunk=64, iou=0.88, stability=0.95, offset=1.0, nms=0.7),
        candidates=100,
    )


def sam_vit_b(classes: int) -> SAM:
    """SAM ViT-B: 12 blocks of 768, global attention in every third."""
    return _published(
        classes,
        ImageEncoder(
            image_size=(1024, 1024),
            patch=16,
            width=768,
            depth=12,
            heads=12,
            hidden=3072,
            window=14,
            global_layers=(2, 5, 8, 11),
        ),
    )


def sam_vit_l(classes: int) -> SAM:
    """SAM ViT-L: 24 blocks of 1024, global attention in every sixth."""
    return _published(
        classes,
        ImageEncoder(
            image_size=(1024, 1024),
            patch=16,
            width=1024,
            depth=24,
            heads=16,
            hidden=4096,
            window=14,
            global_layers=(5, 11, 17, 23),
        ),
    )


def sam_vit_h(classes: int) -> SAM:
    """SAM ViT-H: 32 blocks of 1280, global attention in every eighth."""
    return _published(
        classes,
        ImageEncoder(
            image_size=(1024, 1024),
            patch=16,
            width=1280,
            depth=32,
            heads=16,
            hidden=5120,
            window=14,
            global_layers=(7, 15, 23, 31),
        ),
    )


def mobile_sam(classes: int) -> SAM:
    """MobileSAM: TinyViT-5M in place of the ViT, everything else as in SAM."""
    return _published(
        classes,
        TinyViT(
            widths=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            heads=(4, 5, 10),
            windows=(7, 14, 7),
            strides=(2, 2, 1),
        ),
    )


def sam_lite0(classes: int) -> SAM:
    """Ours, to be trained on a small set: EfficientNet-Lite0 with finer maps, a 128-wide decoder of two blocks,
    256 grid points, 100 objects; for inputs of about 512 × 512."""
    backbone = Backbone("tf_efficientnet_lite0", levels=(2, 3, 4, 5))
    return SAM(
        classes=classes,
        backbone=backbone,
        neck=FusedEmbedding(backbone.channels, width=128),
        prompt_encoder=PromptEncoder(128, mask_width=16),
        mask_decoder=MaskDecoder(width=128, heads=4, hidden=256, depth=2, iou_hidden=128, local=True),
        mask_stride=4,
        size_divisor=32,
        frozen=False,
        # After a short training the predicted IoU is low but ranks well: the score's threshold is what decides.
        automatic=Automatic(side=16, chunk=64, iou=0.1, stability=0.5, offset=1.0, nms=0.7),
        candidates=100,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
