"""Published SOLOv2 checkpoints -> our names. Only names and shapes are read; no code of theirs is used.

The published weights and code carry a non-commercial notice; a card made from them must say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from apiece.errors import WeightsError

_SOLO = (
    (r"backbone\.(.+)", r"backbone.body.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(.+)", r"neck.lateral.\1.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(.+)", r"neck.output.\1.\2"),
    (r"mask_feat_head\.convs_all_levels\.(\d)\.conv(\d)\.conv\.(.+)", r"mask_features.levels.\1.\2.0.\3"),
    (r"mask_feat_head\.convs_all_levels\.(\d)\.conv(\d)\.gn\.(.+)", r"mask_features.levels.\1.\2.1.\3"),
    (r"mask_feat_head\.conv_pred\.0\.conv\.weight", r"mask_features.project.weight"),
    (r"mask_feat_head\.conv_pred\.0\.gn\.(.+)", r"mask_features.norm.\1"),
    (r"bbox_head\.(?:cate)_convs\.(\d)\.conv\.(.+)", r"kernel_head.category_tower.\1.0.\2"),
    (r"bbox_head\.(?:cate)_convs\.(\d)\.gn\.(.+)", r"kernel_head.category_tower.\1.1.\2"),
    (r"bbox_head\.(?:kernel)_convs\.(\d)\.conv\.(.+)", r"kernel_head.kernel_tower.\1.0.\2"),
    (r"bbox_head\.(?:kernel)_convs\.(\d)\.gn\.(.+)", r"kernel_head.kernel_tower.\1.1.\2"),
    (r"bbox_head\.solo_cate\.(.+)", r"kernel_head.category.\1"),
    (r"bbox_head\.solo_kernel\.(.+)", r"kernel_head.kernel.\1"),
)


def from_solo(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of WXinlong/SOLO's SOLOv2 (`state_dict` of a published file) -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of a SOLOv2.
    """
    mapped = {}
    for name, tensor in state.items():
        for pattern, replacement in _SOLO:
            new, hits = re.subn(f"^{pattern}$", replacement, name)
            if hits:
                mapped[new] = tensor
                break
        else:
            raise WeightsError(f"expected a SOLOv2 checkpoint of WXinlong/SOLO, found the tensor {name!r}")
    return mapped
