"""Published checkpoints fill every weight of the full-size networks, and leave none over."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from apiece.errors import WeightsError
from apiece.models.mask2former import net as nets
from apiece.models.mask2former.weights import from_mask2former, from_transformers

SWIN = {"mask2former_swin_tiny": (2, 2, 6, 2), "mask2former_swin_small": (2, 2, 18, 2)}


def built(builder: str):
    with torch.device("meta"):
        return getattr(nets, builder)(80)


def transformers_state(backbone, labels: int = 80):
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        return transformers.Mask2FormerForUniversalSegmentation(
            transformers.Mask2FormerConfig(backbone_config=backbone, num_labels=labels)
        ).state_dict()


def assert_fills(net, mapped) -> None:
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in mapped.items()} == wanted


@pytest.mark.parametrize("builder", SWIN)
def test_transformers_swin(builder):
    transformers = pytest.importorskip("transformers")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    state = transformers_state(transformers.SwinConfig(depths=list(SWIN[builder]), out_features=stages))
    net = built(builder)
    assert_fills(net, from_transformers(state))
    # The files on the hub still have the names of 2022, and not the norm that nothing uses.
    old = {published(name): value for name, value in state.items() if "swin.layernorm" not in name}
    assert_fills(net, from_transformers(old))


def published(name: str) -> str:
    """Today's name of a tensor in transformers -> its name in the published files."""
    for pattern, old in (
        (r"encoder\.swin\.", "encoder."),
        (r"attention\.q_proj", "attention.self.query"),
        (r"attention\.k_proj", "attention.self.key"),
        (r"attention\.v_proj", "attention.self.value"),
        (r"attention\.relative_position_bias\.", "attention.self."),
        (r"attention\.o_proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
    ):
        if "pixel_level_module.encoder" in name:
            name = re.sub(pattern, old, name)
    return name


def test_transformers_resnet():
    transformers = pytest.importorskip("transformers")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    net = built("mask2former_r50")
    own = transformers_state(transformers.ResNetConfig(out_features=stages))
    assert_fills(net, from_transformers(own))
    timm = transformers_state(transformers.TimmBackboneConfig(backbone="resnet50", out_indices=[1, 2, 3, 4]))
    assert_fills(net, from_transformers(timm))


def authors_state(net, swin: bool) -> dict[str, torch.Tensor]:
    """The list of names in facebookresearch/Mask2Former's files, from its modules' definitions, with our shapes."""
    state = {}
    head = "sem_seg_head.predictor."
    encoder = "sem_seg_head.pixel_decoder.transformer.encoder.layers."
    thirds: dict[str, list[torch.Tensor]] = {}
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if third := re.fullmatch(
            r"decoder\.layers\.(\d)\.(self|cross)_attention\.(query|key|value)\.(.+)", name
        ):
            kind = "self_attn" if third[2] == "self" else "multihead_attn"
            new = f"{head}transformer_{third[2]}_attention_layers.{third[1]}.{kind}.in_proj_{third[4]}"
            thirds.setdefault(new, []).append(value)
            continue
        for pattern, theirs in (
            (r"pixel_decoder\.level", "sem_seg_head.pixel_decoder.transformer.level_embed"),
            (r"pixel_decoder\.project\.(.+)", r"sem_seg_head.pixel_decoder.input_proj.\1"),
            (
                r"pixel_decoder\.layers\.(\d)\.attention\.offsets(.+)",
                rf"{encoder}\1.self_attn.sampling_offsets\2",
            ),
            (
                r"pixel_decoder\.layers\.(\d)\.attention\.weights(.+)",
                rf"{encoder}\1.self_attn.attention_weights\2",
            ),
            (
                r"pixel_decoder\.layers\.(\d)\.attention\.(value|output)(.+)",
                rf"{encoder}\1.self_attn.\2_proj\3",
            ),
            (r"pixel_decoder\.layers\.(.+)", rf"{encoder}\1"),
            (r"pixel_decoder\.lateral\.0(.+)", r"sem_seg_head.pixel_decoder.adapter_1\1"),
            (r"pixel_decoder\.lateral\.1(.+)", r"sem_seg_head.pixel_decoder.adapter_1.norm\1"),
            (r"pixel_decoder\.smooth\.0(.+)", r"sem_seg_head.pixel_decoder.layer_1\1"),
            (r"pixel_decoder\.smooth\.1(.+)", r"sem_seg_head.pixel_decoder.layer_1.norm\1"),
            (r"pixel_decoder\.mask_features(.+)", r"sem_seg_head.pixel_decoder.mask_features\1"),
            (r"decoder\.queries", head + "query_feat.weight"),
            (r"decoder\.places", head + "query_embed.weight"),
            (r"decoder\.level", head + "level_embed.weight"),
            (r"decoder\.norm(.+)", rf"{head}decoder_norm\1"),
            (r"decoder\.category(.+)", rf"{head}class_embed\1"),
            (r"decoder\.mask\.0(.+)", rf"{head}mask_embed.layers.0\1"),
            (r"decoder\.mask\.2(.+)", rf"{head}mask_embed.layers.1\1"),
            (r"decoder\.mask\.4(.+)", rf"{head}mask_embed.layers.2\1"),
            (
                r"decoder\.layers\.(\d)\.self_attention\.output(.+)",
                rf"{head}transformer_self_attention_layers.\1.self_attn.out_proj\2",
            ),
            (
                r"decoder\.layers\.(\d)\.cross_attention\.output(.+)",
                rf"{head}transformer_cross_attention_layers.\1.multihead_attn.out_proj\2",
            ),
            (r"decoder\.layers\.(\d)\.norm1(.+)", rf"{head}transformer_cross_attention_layers.\1.norm\2"),
            (r"decoder\.layers\.(\d)\.norm2(.+)", rf"{head}transformer_self_attention_layers.\1.norm\2"),
            (r"decoder\.layers\.(\d)\.norm3(.+)", rf"{head}transformer_ffn_layers.\1.norm\2"),
            (r"decoder\.layers\.(\d)\.(linear.+)", rf"{head}transformer_ffn_layers.\1.\2"),
            (r"backbone\.norms\.(\d)(.+)", r"backbone.norm\1\2"),
            (r"backbone\.body\.layers\.1\.downsample(.+)", r"backbone.layers.0.downsample\1"),
            (r"backbone\.body\.layers\.2\.downsample(.+)", r"backbone.layers.1.downsample\1"),
            (r"backbone\.body\.layers\.3\.downsample(.+)", r"backbone.layers.2.downsample\1"),
            (r"backbone\.body\.((?:layers|patch_embed)\..+)", r"backbone.\1"),
            (r"backbone\.body\.conv1(.+)", r"backbone.stem.conv1\1"),
            (r"backbone\.body\.bn1(.+)", r"backbone.stem.conv1.norm\1"),
            (r"backbone\.body\.layer(\d)\.(\d+)\.conv(.+)", r"backbone.res<\1>.\2.conv\3"),
            (r"backbone\.body\.layer(\d)\.(\d+)\.bn(\d)(.+)", r"backbone.res<\1>.\2.conv\3.norm\4"),
            (r"backbone\.body\.layer(\d)\.(\d+)\.downsample\.0(.+)", r"backbone.res<\1>.\2.shortcut\3"),
            (r"backbone\.body\.layer(\d)\.(\d+)\.downsample\.1(.+)", r"backbone.res<\1>.\2.shortcut.norm\3"),
        ):
            if re.fullmatch(pattern, name):
                new = re.sub(pattern, theirs, name)
                state[re.sub(r"<(\d)>", lambda m: str(int(m[1]) + 1), new)] = value
                break
        else:
            raise AssertionError(f"{name} has no counterpart")
    state |= {name: torch.cat(parts) for name, parts in thirds.items()}
    state["criterion.empty_weight"] = torch.ones(81)
    if swin:
        state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    return state


@pytest.mark.parametrize("builder", ["mask2former_r50", "mask2former_swin_tiny"])
def test_the_authors_layout(builder):
    net = built(builder)
    assert_fills(net, from_mask2former(authors_state(net, "swin" in builder)))


def test_thirds_keep_their_order():
    from tiny.mask2former import tiny_mask2former

    for backbone in ("test_resnet", "swin_test"):
        net = tiny_mask2former(1, backbone)
        if backbone == "test_resnet":  # its layout is not a ResNet-50's, but its head is the paper's
            state = {k: v for k, v in net.state_dict().items() if not k.startswith("backbone.")}
        else:
            state = dict(net.state_dict())

        class Holder:
            def state_dict(self, state=state):
                return state

        mapped = from_mask2former(authors_state(Holder(), swin=backbone == "swin_test"))
        assert mapped.keys() == state.keys()
        assert all(torch.equal(mapped[name], value) for name, value in state.items())


def test_foreign_tensors_are_named():
    with pytest.raises(WeightsError, match="roi_heads"):
        from_mask2former({"roi_heads.box_head.fc1.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="detr"):
        from_transformers({"detr.backbone.weight": torch.zeros(1)})
    name = "model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.query.weight"
    with pytest.raises(WeightsError, match="query, key and value"):
        from_transformers({name: torch.zeros(4, 4)})
