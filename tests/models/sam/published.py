"""The complete name lists of published checkpoints, with shapes, as functions of their configuration.

Written from segment_anything/modeling and mobile_sam/modeling; `pixel_mean` and `pixel_std` are not stored there.
"""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def prompts_and_decoder(width: int = 256, hidden: int = 2048, mask_width: int = 16) -> Shapes:
    """prompt_encoder.* and mask_decoder.*, the same in all of them."""
    p, d = "prompt_encoder", "mask_decoder"
    out: Shapes = {f"{p}.pe_layer.positional_encoding_gaussian_matrix": (2, width // 2)}
    out |= {f"{p}.point_embeddings.{i}.weight": (1, width) for i in range(4)}
    out |= {f"{p}.not_a_point_embed.weight": (1, width), f"{p}.no_mask_embed.weight": (1, width)}
    small = mask_width // 4
    out |= {
        f"{p}.mask_downscaling.0.weight": (small, 1, 2, 2),
        f"{p}.mask_downscaling.0.bias": (small,),
        **_norm(f"{p}.mask_downscaling.1", small),
        f"{p}.mask_downscaling.3.weight": (mask_width, small, 2, 2),
        f"{p}.mask_downscaling.3.bias": (mask_width,),
        **_norm(f"{p}.mask_downscaling.4", mask_width),
        f"{p}.mask_downscaling.6.weight": (width, mask_width, 1, 1),
        f"{p}.mask_downscaling.6.bias": (width,),
    }

    def attention(name: str, inner: int) -> Shapes:
        return {
            **_linear(f"{name}.q_proj", width, inner),
            **_linear(f"{name}.k_proj", width, inner),
            **_linear(f"{name}.v_proj", width, inner),
            **_linear(f"{name}.out_proj", inner, width),
        }

    for i in range(2):
        block = f"{d}.transformer.layers.{i}"
        out |= attention(f"{block}.self_attn", width)
        out |= attention(f"{block}.cross_attn_token_to_image", width // 2)
        out |= attention(f"{block}.cross_attn_image_to_token", width // 2)
        out |= _linear(f"{block}.mlp.lin1", width, hidden) | _linear(f"{block}.mlp.lin2", hidden, width)
        for n in range(1, 5):
            out |= _norm(f"{block}.norm{n}", width)
    out |= attention(f"{d}.transformer.final_attn_token_to_image", width // 2)
    out |= _norm(f"{d}.transformer.norm_final_attn", width)
    out |= {f"{d}.iou_token.weight": (1, width), f"{d}.mask_tokens.weight": (4, width)}
    out |= {
        f"{d}.output_upscaling.0.weight": (width, width // 4, 2, 2),
        f"{d}.output_upscaling.0.bias": (width // 4,),
        **_norm(f"{d}.output_upscaling.1", width // 4),
        f"{d}.output_upscaling.3.weight": (width // 4, width // 8, 2, 2),
        f"{d}.output_upscaling.3.bias": (width // 8,),
    }
    for i in range(4):
        name = f"{d}.output_hypernetworks_mlps.{i}.layers"
        out |= _linear(f"{name}.0", width, width) | _linear(f"{name}.1", width, width)
        out |= _linear(f"{name}.2", width, width // 8)
    name = f"{d}.iou_prediction_head.layers"
    out |= _linear(f"{name}.0", width, 256) | _linear(f"{name}.1", 256, 256) | _linear(f"{name}.2", 256, 4)
    return out


def _neck(inputs: int, width: int = 256) -> Shapes:
    n = "image_encoder.neck"
    return {
        f"{n}.0.weight": (width, inputs, 1, 1),
        **_norm(f"{n}.1", width),
        f"{n}.2.weight": (width, width, 3, 3),
        **_norm(f"{n}.3", width),
    }


def segment_anything(width: int, depth: int, heads: int, global_layers: tuple[int, ...]) -> Shapes:
    """sam_vit_*.pth."""
    e, head = "image_encoder", width // heads
    out: Shapes = {
        f"{e}.pos_embed": (1, 64, 64, width),
        f"{e}.patch_embed.proj.weight": (width, 3, 16, 16),
        f"{e}.patch_embed.proj.bias": (width,),
    }
    for i in range(depth):
        block, side = f"{e}.blocks.{i}", 64 if i in global_layers else 14
        out |= _norm(f"{block}.norm1", width) | _norm(f"{block}.norm2", width)
        out |= {f"{block}.attn.rel_pos_{a}": (2 * side - 1, head) for a in "hw"}
        out |= _linear(f"{block}.attn.qkv", width, 3 * width) | _linear(f"{block}.attn.proj", width, width)
        out |= _linear(f"{block}.mlp.lin1", width, 4 * width) | _linear(f"{block}.mlp.lin2", 4 * width, width)
    return out | _neck(width) | prompts_and_decoder()


def mobile_sam() -> Shapes:
    """mobile_sam.pt."""
    e = "image_encoder"
    widths, depths, heads, windows = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)

    def conv(name: str, inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> Shapes:
        return {
            f"{name}.c.weight": (outputs, inputs // groups, kernel, kernel),
            **_norm(f"{name}.bn", outputs),
            f"{name}.bn.running_mean": (outputs,),
            f"{name}.bn.running_var": (outputs,),
            f"{name}.bn.num_batches_tracked": (),
        }

    out: Shapes = conv(f"{e}.patch_embed.seq.0", 3, widths[0] // 2, 3)
    out |= conv(f"{e}.patch_embed.seq.2", widths[0] // 2, widths[0], 3)
    for stage in range(4):
        w = widths[stage]
        for i in range(depths[stage]):
            block = f"{e}.layers.{stage}.blocks.{i}"
            if stage == 0:
                out |= conv(f"{block}.conv1", w, 4 * w) | conv(f"{block}.conv2", 4 * w, 4 * w, 3, 4 * w)
                out |= conv(f"{block}.conv3", 4 * w, w)
                continue
            out |= _norm(f"{block}.attn.norm", w) | _linear(f"{block}.attn.qkv", w, 3 * w)
            out |= _linear(f"{block}.attn.proj", w, w)
            out[f"{block}.attn.attention_biases"] = (heads[stage], windows[stage] ** 2)
            out |= _norm(f"{block}.mlp.norm", w) | _linear(f"{block}.mlp.fc1", w, 4 * w)
            out |= _linear(f"{block}.mlp.fc2", 4 * w, w) | conv(f"{block}.local_conv", w, w, 3, w)
        if stage < 3:
            after = widths[stage + 1]
            out |= conv(f"{e}.layers.{stage}.downsample.conv1", w, after)
            out |= conv(f"{e}.layers.{stage}.downsample.conv2", after, after, 3, after)
            out |= conv(f"{e}.layers.{stage}.downsample.conv3", after, after)
    out |= _norm(f"{e}.norm_head", 320) | _linear(f"{e}.head", 320, 1000)
    return out | _neck(320) | prompts_and_decoder()
