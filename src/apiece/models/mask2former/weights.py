"""Published Mask2Former checkpoints -> our names. Only names and shapes are read; no code of theirs is used.

Both layouts hold the same tensors, except that each fuses query, key and value in other places. In the rules below
`{qkv}` stands for a tensor that is split into three of ours, `<q>` for a third of one of ours, `{q}` for a name, and
`{next}`, `{before}` and so on change the number that follows (`_NUMBERS`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from apiece.errors import WeightsError

Rules = Sequence[tuple[str, str]]

_SPLIT = ("query", "key", "value")

_TRANSFORMERS: Rules = (
    (r"model\.pixel_level_module\.decoder\.level_embed", r"pixel_decoder.level"),
    (r"model\.pixel_level_module\.decoder\.input_projections\.(\d)\.(.+)", r"pixel_decoder.project.\1.\2"),
    (
        r"model\.pixel_level_module\.decoder\.encoder\.layers\.(\d+)\.self_attn\.sampling_offsets\.(.+)",
        r"pixel_decoder.layers.\1.attention.offsets.\2",
    ),
    (
        r"model\.pixel_level_module\.decoder\.encoder\.layers\.(\d+)\.self_attn\.attention_weights\.(.+)",
        r"pixel_decoder.layers.\1.attention.weights.\2",
    ),
    (
        r"model\.pixel_level_module\.decoder\.encoder\.layers\.(\d+)\.self_attn\.(value|output)_proj\.(.+)",
        r"pixel_decoder.layers.\1.attention.\2.\3",
    ),
    (
        r"model\.pixel_level_module\.decoder\.encoder\.layers\.(\d+)\.self_attn_layer_norm\.(.+)",
        r"pixel_decoder.layers.\1.norm1.\2",
    ),
    (
        r"model\.pixel_level_module\.decoder\.encoder\.layers\.(\d+)\.fc([12])\.(.+)",
        r"pixel_decoder.layers.\1.linear\2.\3",
    ),
    (
        r"model\.pixel_level_module\.decoder\.encoder\.layers\.(\d+)\.final_layer_norm\.(.+)",
        r"pixel_decoder.layers.\1.norm2.\2",
    ),
    (r"model\.pixel_level_module\.decoder\.mask_projection\.(.+)", r"pixel_decoder.mask_features.\1"),
    (r"model\.pixel_level_module\.decoder\.adapter_1\.(.+)", r"pixel_decoder.lateral.\1"),
    (r"model\.pixel_level_module\.decoder\.layer_1\.(.+)", r"pixel_decoder.smooth.\1"),
    (r"model\.transformer_module\.queries_features\.weight", r"decoder.queries"),
    (r"model\.transformer_module\.queries_embedder\.weight", r"decoder.places"),
    (r"model\.transformer_module\.level_embed\.weight", r"decoder.level"),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(.+)",
        r"decoder.layers.\1.self_attention.{\2}.\3",
    ),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.self_attn\.out_proj\.(.+)",
        r"decoder.layers.\1.self_attention.output.\2",
    ),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.self_attn_layer_norm\.(.+)",
        r"decoder.layers.\1.norm2.\2",
    ),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.cross_attn\.in_proj_(.+)",
        r"decoder.layers.\1.cross_attention.{qkv}.\2",
    ),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.cross_attn\.out_proj\.(.+)",
        r"decoder.layers.\1.cross_attention.output.\2",
    ),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.cross_attn_layer_norm\.(.+)",
        r"decoder.layers.\1.norm1.\2",
    ),
    (r"model\.transformer_module\.decoder\.layers\.(\d+)\.fc([12])\.(.+)", r"decoder.layers.\1.linear\2.\3"),
    (
        r"model\.transformer_module\.decoder\.layers\.(\d+)\.final_layer_norm\.(.+)",
        r"decoder.layers.\1.norm3.\2",
    ),
    (r"model\.transformer_module\.decoder\.layernorm\.(.+)", r"decoder.norm.\1"),
    (
        r"model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.(.+)",
        r"decoder.mask.{twice}\1.\2",
    ),
    (r"class_predictor\.(.+)", r"decoder.category.\1"),
)

_AUTHORS: Rules = (
    (r"sem_seg_head\.pixel_decoder\.transformer\.level_embed", r"pixel_decoder.level"),
    (r"sem_seg_head\.pixel_decoder\.input_proj\.(\d)\.(.+)", r"pixel_decoder.project.\1.\2"),
    (
        r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.self_attn\.sampling_offsets\.(.+)",
        r"pixel_decoder.layers.\1.attention.offsets.\2",
    ),
    (
        r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.self_attn\.attention_weights\.(.+)",
        r"pixel_decoder.layers.\1.attention.weights.\2",
    ),
    (
        r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.self_attn\.(value|output)_proj\.(.+)",
        r"pixel_decoder.layers.\1.attention.\2.\3",
    ),
    (
        r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.(norm[12]|linear[12])\.(.+)",
        r"pixel_decoder.layers.\1.\2.\3",
    ),
    (r"sem_seg_head\.pixel_decoder\.mask_features\.(.+)", r"pixel_decoder.mask_features.\1"),
    (r"sem_seg_head\.pixel_decoder\.adapter_1\.weight", r"pixel_decoder.lateral.0.weight"),
    (r"sem_seg_head\.pixel_decoder\.adapter_1\.norm\.(.+)", r"pixel_decoder.lateral.1.\1"),
    (r"sem_seg_head\.pixel_decoder\.layer_1\.weight", r"pixel_decoder.smooth.0.weight"),
    (r"sem_seg_head\.pixel_decoder\.layer_1\.norm\.(.+)", r"pixel_decoder.smooth.1.\1"),
    (r"sem_seg_head\.predictor\.(?:query_feat|static_query)\.weight", r"decoder.queries"),
    (r"sem_seg_head\.predictor\.query_embed\.weight", r"decoder.places"),
    (r"sem_seg_head\.predictor\.level_embed\.weight", r"decoder.level"),
    (
        r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.self_attn\.in_proj_(.+)",
        r"decoder.layers.\1.self_attention.{qkv}.\2",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.self_attn\.out_proj\.(.+)",
        r"decoder.layers.\1.self_attention.output.\2",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.norm\.(.+)",
        r"decoder.layers.\1.norm2.\2",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.in_proj_(.+)",
        r"decoder.layers.\1.cross_attention.{qkv}.\2",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.out_proj\.(.+)",
        r"decoder.layers.\1.cross_attention.output.\2",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.norm\.(.+)",
        r"decoder.layers.\1.norm1.\2",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.(linear[12])\.(.+)",
        r"decoder.layers.\1.\2.\3",
    ),
    (r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.norm\.(.+)", r"decoder.layers.\1.norm3.\2"),
    (r"sem_seg_head\.predictor\.decoder_norm\.(.+)", r"decoder.norm.\1"),
    (r"sem_seg_head\.predictor\.mask_embed\.layers\.(\d)\.(.+)", r"decoder.mask.{twice}\1.\2"),
    (r"sem_seg_head\.predictor\.class_embed\.(.+)", r"decoder.category.\1"),
)

_BLOCK = r"layers\.(\d)\.blocks\.(\d+)\."
_OURS = r"backbone.body.layers.\1.blocks.\2."

# Inside `model.pixel_level_module.encoder.`; names of the published files (2022) and of today.
_SWIN_TRANSFORMERS: Rules = (
    (r"(?:swin\.)?embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.body.patch_embed.proj.\1"),
    (r"(?:swin\.)?embeddings\.norm\.(.+)", r"backbone.body.patch_embed.norm.\1"),
    (rf"(?:swin\.)?encoder\.{_BLOCK}layernorm_before\.(.+)", rf"{_OURS}norm1.\3"),
    (rf"(?:swin\.)?encoder\.{_BLOCK}layernorm_after\.(.+)", rf"{_OURS}norm2.\3"),
    (
        rf"(?:swin\.)?encoder\.{_BLOCK}attention\.(?:self|relative_position_bias)\.relative_position_bias_table",
        rf"{_OURS}attn.relative_position_bias_table",
    ),
    (
        rf"(?:swin\.)?encoder\.{_BLOCK}attention\.(?:self\.)?(query|key|value)\.(.+)",
        rf"{_OURS}attn.qkv.\4<\3>",
    ),
    (rf"(?:swin\.)?encoder\.{_BLOCK}attention\.([qkv])_proj\.(.+)", rf"{_OURS}attn.qkv.\4<\3>"),
    (rf"(?:swin\.)?encoder\.{_BLOCK}attention\.(?:output\.dense|o_proj)\.(.+)", rf"{_OURS}attn.proj.\3"),
    (rf"(?:swin\.)?encoder\.{_BLOCK}(?:intermediate\.dense|mlp\.fc1)\.(.+)", rf"{_OURS}mlp.fc1.\3"),
    (rf"(?:swin\.)?encoder\.{_BLOCK}(?:output\.dense|mlp\.fc2)\.(.+)", rf"{_OURS}mlp.fc2.\3"),
    (
        r"(?:swin\.)?encoder\.layers\.(\d)\.downsample\.(.+)",
        r"backbone.body.layers.{next}\1.downsample.\2",
    ),
    (r"hidden_states_norms\.stage(\d)\.(.+)", r"backbone.norms.{before}\1.\2"),
)

_SWIN_AUTHORS: Rules = (
    (r"patch_embed\.(.+)", r"backbone.body.patch_embed.\1"),
    (
        rf"{_BLOCK}((?:norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\..+|attn\.relative_position_bias_table)",
        rf"{_OURS}\3",
    ),
    (r"layers\.(\d)\.downsample\.(.+)", r"backbone.body.layers.{next}\1.downsample.\2"),
    (r"norm(\d)\.(.+)", r"backbone.norms.\1.\2"),
)

# ResNet as transformers has it, and through timm.
_RESNET_TRANSFORMERS: Rules = (
    (r"_backbone\.(.+)", r"backbone.body.\1"),
    (r"embedder\.embedder\.convolution\.weight", r"backbone.body.conv1.weight"),
    (r"embedder\.embedder\.normalization\.(.+)", r"backbone.body.bn1.\1"),
    (
        r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.convolution\.weight",
        r"backbone.body.layer{after}\1.\2.conv{after}\3.weight",
    ),
    (
        r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.normalization\.(.+)",
        r"backbone.body.layer{after}\1.\2.bn{after}\3.\4",
    ),
    (
        r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.convolution\.weight",
        r"backbone.body.layer{after}\1.\2.downsample.0.weight",
    ),
    (
        r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.normalization\.(.+)",
        r"backbone.body.layer{after}\1.\2.downsample.1.\3",
    ),
)

_RESNET_AUTHORS: Rules = (
    (r"stem\.conv1\.weight", r"backbone.body.conv1.weight"),
    (r"stem\.conv1\.norm\.(.+)", r"backbone.body.bn1.\1"),
    (r"res(\d)\.(\d+)\.conv(\d)\.weight", r"backbone.body.layer{before}\1.\2.conv\3.weight"),
    (r"res(\d)\.(\d+)\.conv(\d)\.norm\.(.+)", r"backbone.body.layer{before}\1.\2.bn\3.\4"),
    (r"res(\d)\.(\d+)\.shortcut\.weight", r"backbone.body.layer{before}\1.\2.downsample.0.weight"),
    (r"res(\d)\.(\d+)\.shortcut\.norm\.(.+)", r"backbone.body.layer{before}\1.\2.downsample.1.\3"),
)

# Not weights: the loss's constants, indices that follow from the window, and a norm that no output passes.
_UNUSED = (
    r"criterion\.empty_weight",
    r".*relative_position_index",
    r"model\.pixel_level_module\.encoder\.swin\.layernorm\.(weight|bias)",
)

_NUMBERS: dict[str, Callable[[int], int]] = {
    "next": lambda n: n + 1,
    "after": lambda n: n + 1,
    "before": lambda n: n - 1,
    "twice": lambda n: 2 * n,
}


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of transformers' Mask2FormerForUniversalSegmentation, Swin or ResNet -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of a Mask2Former.
    """
    backbone = (*_SWIN_TRANSFORMERS, *_RESNET_TRANSFORMERS)
    prefix = r"model\.pixel_level_module\.encoder\."
    rules = (*_TRANSFORMERS, *((prefix + pattern, ours) for pattern, ours in backbone))
    return _assemble(state, rules, "of transformers")


def from_mask2former(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of facebookresearch/Mask2Former (`model` of a published file), Swin or ResNet -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of a Mask2Former.
    """
    backbone = (*_SWIN_AUTHORS, *_RESNET_AUTHORS)
    rules = (*_AUTHORS, *((r"backbone\." + pattern, ours) for pattern, ours in backbone))
    return _assemble(state, rules, "of facebookresearch/Mask2Former")


def _assemble(state: Mapping[str, Tensor], rules: Rules, source: str) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if any(re.fullmatch(pattern, name) for pattern in _UNUSED):
            continue
        new = _renamed(name, rules)
        if new is None:
            raise WeightsError(f"expected a Mask2Former checkpoint {source}, found the tensor {name!r}")
        third = re.fullmatch(r"(.+)<(q|k|v|query|key|value)>", new)
        if third:
            parts.setdefault(third[1], {})[third[2][0]] = tensor
        elif "{qkv}" in new:
            for which, chunk in zip(_SPLIT, tensor.chunk(3), strict=True):
                ours[new.replace("{qkv}", which)] = chunk
        else:
            for which in _SPLIT:
                new = new.replace(f"{{{which[0]}}}", which)
            ours[new] = tensor
    for name, thirds in parts.items():
        if set(thirds) != set("qkv"):
            raise WeightsError(f"expected query, key and value {source} for {name!r}, found {sorted(thirds)}")
        ours[name] = torch.cat([thirds[which] for which in "qkv"])
    # FrozenBatchNorm counts no batches; ours wants the number, and never reads it.
    for name in [n for n in ours if n.endswith("running_var")]:
        ours.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return ours


def _renamed(name: str, rules: Rules) -> str | None:
    for pattern, replacement in rules:
        new, hits = re.subn(f"^{pattern}$", replacement, name)
        if hits:
            return re.sub(
                r"\{(next|after|before|twice)\}(\d+)", lambda m: str(_NUMBERS[m[1]](int(m[2]))), new
            )
    return None
