"""Published YOLACT checkpoints of dbolya/yolact (MIT) -> our names, for ResNet and Darknet-53 backbones."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from apiece.errors import WeightsError

_NAMES = (
    (r"backbone\.((?:conv|bn)1\..+)", r"backbone.body.\1"),
    (r"backbone\._preconv\.(.+)", r"backbone.body.stem.\1"),
    (r"proto_net\.0\.(.+)", r"prototypes.tower.0.0.\1"),
    (r"proto_net\.2\.(.+)", r"prototypes.tower.1.0.\1"),
    (r"proto_net\.4\.(.+)", r"prototypes.tower.2.0.\1"),
    (r"proto_net\.8\.(.+)", r"prototypes.fine.0.\1"),
    (r"proto_net\.10\.(.+)", r"prototypes.project.\1"),
    # Their lists run from coarse to fine.
    (r"fpn\.lat_layers\.0\.(.+)", r"neck.lateral.2.\1"),
    (r"fpn\.lat_layers\.1\.(.+)", r"neck.lateral.1.\1"),
    (r"fpn\.lat_layers\.2\.(.+)", r"neck.lateral.0.\1"),
    (r"fpn\.pred_layers\.0\.(.+)", r"neck.output.2.0.\1"),
    (r"fpn\.pred_layers\.1\.(.+)", r"neck.output.1.0.\1"),
    (r"fpn\.pred_layers\.2\.(.+)", r"neck.output.0.0.\1"),
    (r"fpn\.downsample_layers\.([01])\.(.+)", r"neck.downsample.\1.\2"),
    (r"prediction_layers\.0\.upfeature\.0\.(.+)", r"head.tower.0.\1"),
    (r"prediction_layers\.0\.bbox_layer\.(.+)", r"head.box.\1"),
    (r"prediction_layers\.0\.conf_layer\.(.+)", r"head.category.\1"),
    (r"prediction_layers\.0\.mask_layer\.(.+)", r"head.coefficient.\1"),
    (r"semantic_seg_conv\.(.+)", r"semantic.\1"),
)
_STAGE = r"backbone\.layers\.(\d)\.(.+)"
_UNUSED = (
    r"backbone\.layer\d\..+",  # the same tensors as backbone.layers, in old files
    r"fpn\.downsample_layers\.(?:[2-9]|\d\d+)\..+",  # of levels that the model has not
)


def from_yolact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a published YOLACT (the file is one, bare) -> ours, complete.

    raises  WeightsError naming the first tensor that is not part of a YOLACT (YOLACT++ is another network).
    """
    darknet = any(name.startswith("backbone._preconv.") for name in state)
    stage = r"backbone.body.layers.\1.\2" if darknet else None
    mapped = {}
    for name, tensor in state.items():
        if any(re.fullmatch(pattern, name) for pattern in _UNUSED):
            continue
        found = re.fullmatch(_STAGE, name)
        if found:
            new = found.expand(stage) if stage else f"backbone.body.layer{int(found[1]) + 1}.{found[2]}"
            mapped[new] = tensor
            continue
        for pattern, replacement in _NAMES:
            found = re.fullmatch(pattern, name)
            if found:
                mapped[found.expand(replacement)] = tensor
                break
        else:
            raise WeightsError(f"expected a YOLACT checkpoint of dbolya/yolact, found the tensor {name!r}")
    return mapped
