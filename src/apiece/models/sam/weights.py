"""Published SAM checkpoints -> our names. Only names and shapes are read.

The published weights of Segment Anything and MobileSAM are Apache-2.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from apiece.errors import WeightsError

Rules = tuple[tuple[str, str | None], ...]
"""Pattern of a whole name, and what becomes of it; None: the tensor isn't used."""

_PROMPTS: Rules = (
    (r"prompt_encoder\.(.+)", r"prompt_encoder.\1"),
    (r"mask_decoder\.(.+)", r"mask_decoder.\1"),
)

_SEGMENT_ANYTHING: Rules = (
    (r"image_encoder\.neck\.(\d\..+)", r"neck.layers.\1"),
    (r"image_encoder\.((?:pos_embed|patch_embed\.|blocks\.).*)", r"backbone.\1"),
    *_PROMPTS,
)

_TINY = r"backbone.stages."
_MOBILE_SAM: Rules = (
    (r"image_encoder\.neck\.(\d\..+)", r"neck.layers.\1"),
    # The classifier of ImageNet, and indices that are computed.
    (r"image_encoder\.(?:norm_head|head)\..+", None),
    (r"image_encoder\..+\.attention_bias_idxs", None),
    (r"image_encoder\.patch_embed\.seq\.(\d)\.(.+)", r"backbone.patch_embed.\1.\2"),
    (r"image_encoder\.layers\.(\d)\.blocks\.(\d+\..+)", _TINY + r"\1.\2"),
    (r"image_encoder\.layers\.(\d)\.downsample\.(.+)", r"backbone.merges.\1.\2"),
    *_PROMPTS,
)

_TRANSFORMERS: Rules = (
    (r"vision_encoder\.pos_embed", r"backbone.pos_embed"),
    (r"vision_encoder\.patch_embed\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
    (r"vision_encoder\.layers\.(\d+)\.layer_norm(\d)\.(.+)", r"backbone.blocks.\1.norm\2.\3"),
    (r"vision_encoder\.layers\.(\d+)\.((?:attn|mlp)\..+)", r"backbone.blocks.\1.\2"),
    (r"vision_encoder\.neck\.conv1\.weight", r"neck.layers.0.weight"),
    (r"vision_encoder\.neck\.layer_norm1\.(.+)", r"neck.layers.1.\1"),
    (r"vision_encoder\.neck\.conv2\.weight", r"neck.layers.2.weight"),
    (r"vision_encoder\.neck\.layer_norm2\.(.+)", r"neck.layers.3.\1"),
    # One matrix, stored under two names.
    (
        r"shared_image_embedding\.positional_embedding",
        r"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"prompt_encoder\.shared_embedding\.positional_embedding", None),
    (r"prompt_encoder\.point_embed\.(\d)\.weight", r"prompt_encoder.point_embeddings.\1.weight"),
    (r"prompt_encoder\.((?:not_a_point|no_mask)_embed\.weight)", r"prompt_encoder.\1"),
    (r"prompt_encoder\.mask_embed\.conv1\.(.+)", r"prompt_encoder.mask_downscaling.0.\1"),
    (r"prompt_encoder\.mask_embed\.layer_norm1\.(.+)", r"prompt_encoder.mask_downscaling.1.\1"),
    (r"prompt_encoder\.mask_embed\.conv2\.(.+)", r"prompt_encoder.mask_downscaling.3.\1"),
    (r"prompt_encoder\.mask_embed\.layer_norm2\.(.+)", r"prompt_encoder.mask_downscaling.4.\1"),
    (r"prompt_encoder\.mask_embed\.conv3\.(.+)", r"prompt_encoder.mask_downscaling.6.\1"),
    (r"mask_decoder\.(iou_token\.weight|mask_tokens\.weight)", r"mask_decoder.\1"),
    (r"mask_decoder\.upscale_conv1\.(.+)", r"mask_decoder.output_upscaling.0.\1"),
    (r"mask_decoder\.upscale_layer_norm\.(.+)", r"mask_decoder.output_upscaling.1.\1"),
    (r"mask_decoder\.upscale_conv2\.(.+)", r"mask_decoder.output_upscaling.3.\1"),
    (
        r"mask_decoder\.transformer\.layer_norm_final_attn\.(.+)",
        r"mask_decoder.transformer.norm_final_attn.\1",
    ),
    (
        r"mask_decoder\.transformer\.layers\.(\d)\.layer_norm(\d)\.(.+)",
        r"mask_decoder.transformer.layers.\1.norm\2.\3",
    ),
    (
        r"mask_decoder\.transformer\.((?:final_attn_token_to_image|layers\.\d\.\w*attn\w*|layers\.\d\.mlp)\..+)",
        r"mask_decoder.transformer.\1",
    ),
    (
        r"mask_decoder\.(output_hypernetworks_mlps\.\d|iou_prediction_head)\.proj_in\.(.+)",
        r"mask_decoder.\1.layers.0.\2",
    ),
    (
        r"mask_decoder\.(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.0\.(.+)",
        r"mask_decoder.\1.layers.1.\2",
    ),
    (
        r"mask_decoder\.(output_hypernetworks_mlps\.\d|iou_prediction_head)\.proj_out\.(.+)",
        r"mask_decoder.\1.layers.2.\2",
    ),
)


def from_segment_anything(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published file sam_vit_{b,l,h}_*.pth of facebookresearch/segment-anything -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of it.
    """
    return _renamed(state, _SEGMENT_ANYTHING, "a checkpoint of facebookresearch/segment-anything")


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of transformers' SamModel (`facebook/sam-vit-*`) -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of it.
    """
    return _renamed(state, _TRANSFORMERS, "the state dict of transformers' SamModel")


def from_mobile_sam(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published file mobile_sam.pt -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of it.
    """
    mapped = _renamed(state, _MOBILE_SAM, "MobileSAM's checkpoint")
    # Each convolution and its batch norm: c and bn there.
    return {
        re.sub(r"\.bn\.", ".norm.", re.sub(r"\.c\.", ".conv.", name))
        if name.startswith("backbone.")
        else name: tensor
        for name, tensor in mapped.items()
    }


def _renamed(state: Mapping[str, Tensor], rules: Rules, expected: str) -> dict[str, Tensor]:
    mapped = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, name)
            if match:
                if replacement is not None:
                    mapped[match.expand(replacement)] = tensor
                break
        else:
            raise WeightsError(f"expected {expected}, found the tensor {name!r}")
    return mapped
