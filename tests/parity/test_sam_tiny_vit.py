"""MobileSAM's encoder against timm's TinyViT with random weights.

timm has TinyViT, not MobileSAM: with all three merges at stride 2, ours is timm's network. MobileSAM changes the last
merge's stride to 1, and nothing else, so timm's network with that one stride set to 1 is the oracle for it.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from timm.models.tiny_vit import TinyVit

from apiece.models.sam.tiny_vit import TinyViT
from parity.table import record

ORACLE = f"timm {timm.__version__}"
SIDE = 160  # maps of 40, 20, 10 and 5: windows of 7 are padded
RENAMED = (
    ("patch_embed.conv1.", "patch_embed.0."),
    ("patch_embed.conv2.", "patch_embed.2."),
    (".bn.", ".norm."),
    ("stages.0.blocks.", "stages.0."),
)


def oracle():
    torch.manual_seed(0)
    model = TinyVit(
        embed_dims=(16, 32, 40, 80),
        depths=(1, 2, 3, 1),
        num_heads=(1, 2, 5, 10),
        window_sizes=(7, 7, 14, 7),
        drop_path_rate=0.0,
        num_classes=0,
    ).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.normal_(std=0.3)
            if "running_var" in name:
                tensor.abs_().add_(0.5)
            elif "norm" in name or ".bn.weight" in name:
                tensor.add_(1.0)
    return model


def converted(state):
    out = {}
    for name, tensor in state.items():
        if name.startswith("head."):
            continue
        for old, new in RENAMED:
            name = name.replace(old, new)
        stage = name.split(".")[1]
        if ".downsample." in name:
            name = name.replace(f"stages.{stage}.downsample.", f"merges.{int(stage) - 1}.")
        elif name.startswith("stages.") and stage != "0":
            name = name.replace(".blocks.", ".")
        out[name] = tensor
    return out


def ours(state, strides) -> TinyViT:
    net = TinyViT(
        widths=(16, 32, 40, 80), depths=(1, 2, 3, 1), heads=(2, 5, 10), windows=(7, 14, 7), strides=strides
    )
    net.load_state_dict(converted(state), strict=True)
    return net.eval()


def compare(quantity, mine, theirs):
    record(family="sam", oracle=ORACLE, quantity=quantity, ours=mine.numpy(), theirs=theirs.numpy())


@torch.no_grad()
def test_every_stage():
    model = oracle()
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    maps = ours(model.state_dict(), (2, 2, 2)).stage_maps(images)
    x = model.patch_embed(images)
    for i, stage in enumerate(model.stages):
        x = stage(x)
        compare(f"TinyViT stage {i + 1} map", maps[i], x)


@torch.no_grad()
def test_the_last_stage_at_mobile_sam_s_stride():
    model = oracle()
    model.stages[3].downsample.conv2.conv.stride = (1, 1)
    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    mine = ours(model.state_dict(), (2, 2, 1))(images)[0]
    assert mine.shape[-2:] == (SIDE // 16, SIDE // 16)
    compare(
        "TinyViT stage 4 map, last merge at stride 1 as in MobileSAM",
        mine,
        model.stages(model.patch_embed(images)),
    )
