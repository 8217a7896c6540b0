"""RoIAlign over a pyramid (section 3 of arXiv 1703.06870): each region is sampled from the level of its size.

`sample_rois` is differentiable; `align` is the same for inference, by an operator of fixed output shape that exports
to ONNX RoiAlign (`translations`). Both sample as torchvision does with `aligned=False`: a region's edge at x is the
centre of the map's pixel x · scale, so that they agree with published weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor

CANONICAL_SIZE, CANONICAL_LEVEL = 224.0, 4
"""A region of 224 × 224 pixels is sampled from P4 (equation 1 of arXiv 1612.03144)."""


def levels_of(rois: Tensor, count: int, finest: int) -> Tensor:
    """Which of `count` maps, the first being P`finest`, each of rois (R, 5) is sampled from; int64 (R,).

    Equation 1 of arXiv 1612.03144 as comparisons instead of a logarithm, whose last bit differs between runtimes;
    the slack is that of torchvision.
    """
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).clamp(min=0.0).sqrt()
    level = torch.zeros_like(side, dtype=torch.int64)
    for k in range(1, count):
        bound = CANONICAL_SIZE * 2.0 ** (finest + k - CANONICAL_LEVEL - 1e-6)
        level = level + (side >= bound).to(torch.int64)
    return level


def walk(rois: Tensor, level: Tensor, finest: int) -> Tensor:
    """An order of rois (R, 5) in which each level is one stretch and neighbours in the picture follow each other.

    RoIAlign waits for memory: in this order it reads what the region before has brought into the cache, and takes
    less than half the time.
    """
    band = rois[:, 2] / torch.exp2(level + (finest + 4.0))  # rows of 16 cells
    key = level * 2**48 + rois[:, 0].to(torch.int64) * 2**32
    key = key + band.clamp(0, 2**15).to(torch.int64) * 2**16 + rois[:, 1].clamp(0, 2**16 - 1).to(torch.int64)
    return torch.argsort(key)


def sample_rois(
    pyramid: Sequence[Tensor], rois: Tensor, size: int, sampling: int = 2, finest: int = 2
) -> Tensor:
    """Features of regions -> (R, C, size, size), differentiable with respect to the pyramid.

    pyramid   maps (B, C, h, w), fine to coarse, the first at stride 2^finest, each half as fine as the one before.
    rois      (R, 5): picture in the batch, then xyxy in input pixels.
    sampling  points along each side of an output cell, averaged.
    """
    level = levels_of(rois, len(pyramid), finest)
    order = walk(rois, level, finest)
    features = _sampled(pyramid, rois[order], level[order], size, sampling, finest)
    return features[torch.argsort(order)]


def align(
    pyramid: Sequence[Tensor], rois: Tensor, size: int, sampling: int = 2, finest: int = 2
) -> tuple[Tensor, Tensor]:
    """`sample_rois` for inference -> features in an order of their own, and that order, int64 (R,).

    What is made of the features is smaller and cheaper to put back in place: `made[torch.argsort(order)]`.
    """
    level = levels_of(rois, len(pyramid), finest)
    order = walk(rois, level, finest)
    return roi_align(pyramid, rois[order], level[order], size, sampling, finest), order


def _sampled(
    pyramid: Sequence[Tensor], rois: Tensor, level: Tensor, size: int, sampling: int, finest: int
) -> Tensor:
    parts = [
        torchvision.ops.roi_align(
            maps.float(), rois[level == k], (size, size), 2.0 ** -(finest + k), sampling, aligned=False
        )
        for k, maps in enumerate(pyramid)
    ]
    return torch.cat(parts)


@torch.library.custom_op("apiece::roi_align", mutates_args=())
def roi_align(
    pyramid: Sequence[Tensor], rois: Tensor, level: Tensor, size: int, sampling: int, finest: int
) -> Tensor:
    """RoIAlign of rois (R, 5), each from the level given, int64 (R,), which must ascend."""
    return _sampled(pyramid, rois, level, size, sampling, finest)


@roi_align.register_fake
def _(
    pyramid: Sequence[Tensor], rois: Tensor, level: Tensor, size: int, sampling: int, finest: int
) -> Tensor:
    return rois.new_empty((rois.shape[0], pyramid[0].shape[1], size, size))


def with_picture(boxes: Tensor) -> Tensor:
    """(B, N, 4) -> rois (B · N, 5)."""
    batch, count = boxes.shape[:2]
    picture = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)
    return torch.cat([picture[:, None, None].expand(batch, count, 1), boxes], dim=-1).flatten(0, 1)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The operator for the ONNX exporter (`custom_translation_table`); needs onnxscript."""
    from onnxscript import opset20

    op: Any = opset20

    def translated(
        pyramid: Sequence[Any], rois: Any, level: Any, size: int, sampling: int, finest: int
    ) -> Any:
        boxes = op.Slice(rois, [1], [5], [1])
        picture = op.Cast(op.Squeeze(op.Slice(rois, [0], [1], [1]), [1]), to=7)
        parts = []
        for k, maps in enumerate(pyramid):
            mine = op.Squeeze(op.NonZero(op.Equal(level, op.Constant(value_int=k))), [0])
            parts.append(
                op.RoiAlign(
                    maps,
                    op.Gather(boxes, mine, axis=0),
                    op.Gather(picture, mine, axis=0),
                    coordinate_transformation_mode="output_half_pixel",
                    mode="avg",
                    output_height=size,
                    output_width=size,
                    sampling_ratio=sampling,
                    spatial_scale=2.0 ** -(finest + k),
                )
            )
        return op.Concat(*parts, axis=0)

    return {torch.ops.apiece.roi_align.default: translated}
