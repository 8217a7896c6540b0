"""Complete round trips: every published tensor is used or named as unused, every one of ours is filled."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from apiece.errors import WeightsError
from apiece.models.sam import net as nets
from apiece.models.sam.weights import from_mobile_sam, from_segment_anything, from_transformers

from . import published

VITS = {
    "sam_vit_b": {"width": 768, "depth": 12, "heads": 12, "global_layers": (2, 5, 8, 11)},
    "sam_vit_l": {"width": 1024, "depth": 24, "heads": 16, "global_layers": (5, 11, 17, 23)},
    "sam_vit_h": {"width": 1280, "depth": 32, "heads": 16, "global_layers": (7, 15, 23, 31)},
}


def meta(shapes: published.Shapes) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def ours(builder: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in getattr(nets, builder)(1).state_dict().items()}


def shapes(state) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in state.items()}


@pytest.mark.parametrize("builder", VITS)
def test_segment_anything(builder):
    state = meta(published.segment_anything(**VITS[builder]))
    mapped = from_segment_anything(state)
    assert len(mapped) == len(state)
    assert shapes(mapped) == ours(builder)


@pytest.mark.parametrize("builder", VITS)
def test_transformers(builder):
    transformers = pytest.importorskip("transformers")
    facts = VITS[builder]
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            hidden_size=facts["width"],
            num_hidden_layers=facts["depth"],
            num_attention_heads=facts["heads"],
            global_attn_indexes=list(facts["global_layers"]),
        ).to_dict()
    )
    with torch.device("meta"):
        state = transformers.SamModel(config).state_dict()
    mapped = from_transformers(state)
    # The position matrix is stored twice.
    assert len(mapped) == len(state) - 1
    assert shapes(mapped) == ours(builder)


def test_mobile_sam():
    state = meta(published.mobile_sam())
    mapped = from_mobile_sam(state)
    unused = {
        name for name in state if ".norm_head." in name or ".encoder.head." in name or "encoder.head" in name
    }
    assert len(unused) == 4
    assert len(mapped) == len(state) - len(unused)
    assert shapes(mapped) == ours("mobile_sam")


@pytest.mark.parametrize("convert", [from_segment_anything, from_transformers, from_mobile_sam])
def test_another_checkpoint_is_refused(convert):
    with pytest.raises(WeightsError, match=r"backbone\.conv1"):
        convert({"backbone.conv1.weight": torch.zeros(1)})
