"""Published Faster and Mask R-CNN weights of torchvision -> our names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from apiece.errors import WeightsError

COCO_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Rows of torchvision's 91 outputs that have a category in COCO; row 0 is the background."""

EPSILON = 1e-5
"""What our batch norms add to the variance."""

_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
# Files of before torchvision 0.13 have shorter names for the convolutions of neck and heads.
_NAMES = (
    (r"backbone\.body\.(.+)", r"backbone.body.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.bias", r"neck.lateral.\1.bias"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.bias", r"neck.output.\1.bias"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.weight", r"neck.lateral.\1{in_neck}.weight"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.weight", r"neck.output.\1{in_neck}.weight"),
    (rf"backbone\.fpn\.inner_blocks\.(\d)\.1\.{_NORM}", r"neck.lateral.\1.1.\2"),
    (rf"backbone\.fpn\.layer_blocks\.(\d)\.1\.{_NORM}", r"neck.output.\1.1.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn_head.tower.0.0.\1"),
    (r"rpn\.head\.conv\.(\d)\.0\.(weight|bias)", r"rpn_head.tower.\1.0.\2"),
    (r"rpn\.head\.cls_logits\.(.+)", r"rpn_head.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.+)", r"rpn_head.code.\1"),
    (r"roi_heads\.box_head\.fc6\.(.+)", r"box_head.layers.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(.+)", r"box_head.layers.1.\1"),
    (r"roi_heads\.box_head\.(\d)\.([01])\.(.+)", r"box_head.convs.\1.\2.\3"),
    (r"roi_heads\.box_head\.5\.(.+)", r"box_head.layers.0.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"box_head.category.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"box_head.code.\1"),
    (r"roi_heads\.mask_head\.(\d)\.([01])\.(.+)", r"mask_head.convs.\1.\2.\3"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.+)", r"mask_head.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.+)", r"mask_head.logits.\1"),
)
_OLD_MASK_CONV = re.compile(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)")
_NORM_WEIGHT = re.compile(r"(.+\.(?:bn\d|downsample\.1))\.running_var")


def from_torchvision_coco(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a file that torchvision published for COCO -> ours, for the 80 classes in the order of their ids.

    The files without counters of batch norm were trained with frozen statistics to whose variance nothing was
    added, so it is taken off here.
    """
    frozen = not any(name.endswith("num_batches_tracked") for name in state)
    return from_torchvision(state, categories=COCO_IDS, epsilon=0.0 if frozen else EPSILON)


def from_torchvision(
    state: Mapping[str, Tensor], *, categories: Sequence[int] | None = None, epsilon: float = EPSILON
) -> dict[str, Tensor]:
    """State dict of torchvision's FasterRCNN or MaskRCNN on a ResNet with FPN, v1 or v2 -> ours, complete.

    categories  which of their outputs become our classes, in this order; None: all but the background, output 0.
    epsilon     what their backbone's batch norms add to the variance; ours add 1e-5, the rest goes into the
                variance itself.
    Not used: the background's box code and mask, which nothing reads.
    raises      WeightsError naming the first tensor that is not part of such a network.
    """
    normalised = "backbone.fpn.inner_blocks.0.1.weight" in state
    mapped: dict[str, Tensor] = {}
    for name, tensor in state.items():
        mapped[_renamed(name, normalised)] = tensor
    for name in list(mapped):
        match = _NORM_WEIGHT.fullmatch(name)
        if match and name.startswith("backbone."):
            mapped[name] = mapped[name] + (epsilon - EPSILON)
            mapped.setdefault(f"{match[1]}.num_batches_tracked", torch.zeros((), dtype=torch.int64))
    total = len(_of(mapped, "box_head.category.bias"))
    rows = torch.tensor(list(range(1, total)) if categories is None else list(categories))
    if len(rows) and int(rows.max()) >= total:
        raise WeightsError(f"expected outputs for category {int(rows.max())}, the file has {total}")
    with_background = torch.cat([torch.zeros(1, dtype=torch.int64), rows])
    for kind in ("weight", "bias"):
        name = f"box_head.category.{kind}"
        mapped[name] = _of(mapped, name)[with_background]
        name = f"box_head.code.{kind}"
        codes = _of(mapped, name)
        mapped[name] = codes.reshape(total, 4, *codes.shape[1:])[rows].flatten(0, 1)
        name = f"mask_head.logits.{kind}"
        if name in mapped:
            mapped[name] = mapped[name][rows]
    return mapped


def _renamed(name: str, normalised: bool) -> str:
    old = _OLD_MASK_CONV.fullmatch(name)
    if old:
        return f"mask_head.convs.{int(old[1]) - 1}.0.{old[2]}"
    for pattern, replacement in _NAMES:
        new, hits = re.subn(f"^{pattern}$", replacement.replace("{in_neck}", ".0" * normalised), name)
        if hits:
            return new
    raise WeightsError(f"expected Faster or Mask R-CNN weights of torchvision, found the tensor {name!r}")


def _of(mapped: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in mapped:
        raise WeightsError(f"expected Faster or Mask R-CNN weights of torchvision, found none for {name!r}")
    return mapped[name]
