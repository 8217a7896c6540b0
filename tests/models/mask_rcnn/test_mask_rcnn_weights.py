"""torchvision's names, complete: every tensor of theirs is used, every one of ours is filled, shapes agree."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")

from torchvision.ops import FrozenBatchNorm2d

from apiece.errors import WeightsError
from apiece.models.mask_rcnn import net as builders
from apiece.models.mask_rcnn.weights import COCO_IDS, from_torchvision, from_torchvision_coco

PAIRS = {
    "mask_rcnn_r50": "maskrcnn_resnet50_fpn",
    "mask_rcnn_r50_v2": "maskrcnn_resnet50_fpn_v2",
    "faster_rcnn_r50": "fasterrcnn_resnet50_fpn",
    "faster_rcnn_r50_v2": "fasterrcnn_resnet50_fpn_v2",
}


def published(name: str, *, frozen: bool = False):
    with torch.device("meta"):
        net = getattr(detection, name)(weights=None, weights_backbone=None)
    state = dict(net.state_dict())
    if frozen:
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    return net, state


def old_names(state: dict) -> dict:
    """As the files of 2019 have them."""
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
        name = re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name)
        renamed[name] = tensor
    return renamed


def check(mapped: dict, builder: str, classes: int) -> None:
    with torch.device("meta"):
        net = getattr(builders, builder)(classes)
    expected = {name: tuple(t.shape) for name, t in net.state_dict().items()}
    assert {name: tuple(t.shape) for name, t in mapped.items()} == expected


@pytest.mark.parametrize("builder", PAIRS)
@pytest.mark.parametrize("coco", [True, False])
def test_complete(builder, coco):
    _, state = published(PAIRS[builder])
    converted = from_torchvision_coco(state) if coco else from_torchvision(state)
    check(converted, builder, 80 if coco else 90)
    # One of ours for each of theirs: none is dropped on the way.
    assert len(converted) == len(state)


@pytest.mark.parametrize("builder", ["mask_rcnn_r50", "faster_rcnn_r50"])
def test_old_names_are_the_ones_that_torchvision_takes(builder):
    net, state = published(PAIRS[builder])
    old = old_names(state)
    assert set(old) != set(state)
    net.load_state_dict(dict(old), strict=True, assign=True)
    check(from_torchvision_coco(old), builder, 80)


def test_frozen_norms_have_no_epsilon():
    """What FrozenBatchNorm2d(eps=0) makes of a map is what our batch norm makes of it."""
    _, state = published("fasterrcnn_resnet50_fpn", frozen=True)
    state = {name: torch.rand(tensor.shape) + 0.01 for name, tensor in state.items()}
    state = {k: v * 1e-3 if k.endswith("running_var") else v for k, v in state.items()}
    mapped = from_torchvision_coco(state)
    check(mapped, "faster_rcnn_r50", 80)
    theirs = FrozenBatchNorm2d(64, eps=0.0)
    ours = torch.nn.BatchNorm2d(64).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(theirs, name).copy_(state[f"backbone.body.bn1.{name}"])
        getattr(ours, name).data.copy_(mapped[f"backbone.body.bn1.{name}"])
    maps = torch.randn(1, 64, 5, 5)
    torch.testing.assert_close(ours(maps), theirs(maps), rtol=1e-5, atol=1e-5)


def test_which_output_is_which_class():
    _, state = published("maskrcnn_resnet50_fpn")
    rows = torch.arange(91.0)
    state["roi_heads.box_predictor.cls_score.bias"] = rows
    state["roi_heads.box_predictor.bbox_pred.bias"] = (rows[:, None] + torch.arange(4) / 10).flatten()
    state["roi_heads.mask_predictor.mask_fcn_logits.bias"] = rows
    mapped = from_torchvision_coco(state)
    ids = torch.tensor(COCO_IDS).float()
    assert len(ids) == 80
    assert mapped["box_head.category.bias"].tolist() == [0.0, *ids.tolist()]
    assert torch.equal(mapped["mask_head.logits.bias"], ids)
    codes = mapped["box_head.code.bias"].reshape(80, 4)
    torch.testing.assert_close(codes, ids[:, None] + torch.arange(4) / 10)
    assert from_torchvision(state)["mask_head.logits.bias"].tolist() == list(range(1, 91))


def test_another_network_is_refused():
    _, state = published("maskrcnn_resnet50_fpn")
    with pytest.raises(WeightsError, match=r"head\.conv9"):
        from_torchvision(state | {"head.conv9.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"box_head\.category\.bias"):
        from_torchvision({k: v for k, v in state.items() if "cls_score" not in k})
    with pytest.raises(WeightsError, match="category 91"):
        from_torchvision(state, categories=[1, 91])
