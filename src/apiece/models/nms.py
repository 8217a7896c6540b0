"""Non-maximum suppression in fixed shapes, in torch and in ONNX.

torchvision's `nms` returns as many indices as there are survivors, so a graph with it has shapes that depend on
data, one picture at a time. `nms_keep` marks the survivors instead: any batch, shapes known, and it exports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("apiece::nms_keep", mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS of each picture of a batch.

    boxes          (B, N, 4) float32 xyxy.
    scores         (B, N) float32; a slot whose score is not above 0 is empty: it is not kept and suppresses nothing.
    iou_threshold  a box goes when its IoU with a better one that stays is more than this.
    returns        (B, N) bool, in the order of the input. Among equal scores the earlier slot is the better one.
    """
    keep = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for picture in range(len(boxes)):
        slots = torch.nonzero(scores[picture] > 0)[:, 0]
        kept = nms(boxes[picture, slots].float(), scores[picture, slots].float(), iou_threshold)
        keep[picture, slots[kept]] = True
    return keep


@nms_keep.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty(scores.shape, dtype=torch.bool, device=scores.device)


def nms_keep_by_label(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """`nms_keep` where boxes of different labels (B, N) never suppress each other.

    Each label's boxes are moved to a place of their own, as torchvision's `batched_nms` does it. That rounds: to
    1/128 pixel at 80 labels and 1,000 pixels. `nms_keep_by_class` does not.
    """
    span = boxes.amax(dim=(1, 2), keepdim=True) - boxes.amin(dim=(1, 2), keepdim=True).clamp(max=0.0) + 1.0
    kept: Tensor = nms_keep(boxes + labels[..., None].to(boxes.dtype) * span, scores, iou_threshold)
    return kept


@torch.library.custom_op("apiece::nms_keep_by_class", mutates_args=())
def nms_keep_by_class(
    boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, iou_threshold: float
) -> Tensor:
    """`nms_keep` where boxes of different labels (B, N), int64 in 0 … classes - 1, never suppress each other.

    Exact. The graph has B · classes · N scores, so N should be a preselection.
    """
    keep = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for picture in range(len(boxes)):
        full = scores[picture] > 0
        for label in torch.unique(labels[picture, full]):
            slots = torch.nonzero(full & (labels[picture] == label))[:, 0]
            kept = nms(boxes[picture, slots].float(), scores[picture, slots].float(), iou_threshold)
            keep[picture, slots[kept]] = True
    return keep


@nms_keep_by_class.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, iou_threshold: float) -> Tensor:
    return torch.empty(scores.shape, dtype=torch.bool, device=scores.device)


def _onnx_operators() -> Any:
    from onnxscript import opset20

    return opset20


def nms_keep_onnx(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """`nms_keep` in ONNX operators, for the exporter's translation table."""
    op = _onnx_operators()
    return _marked(boxes, scores, op.Unsqueeze(scores, op.Constant(value_ints=[1])), iou_threshold)


def nms_keep_by_class_onnx(boxes: Any, scores: Any, labels: Any, classes: int, iou_threshold: float) -> Any:
    """`nms_keep_by_class` in ONNX operators: a row of scores for each class, 0 where the label is another."""
    op = _onnx_operators()
    every = op.Constant(value_ints=list(range(classes)))
    axis = op.Constant(value_ints=[1])
    own = op.Equal(op.Unsqueeze(labels, axis), op.Unsqueeze(every, op.Constant(value_ints=[0, 2])))
    return _marked(boxes, scores, op.Mul(op.Cast(own, to=1), op.Unsqueeze(scores, axis)), iou_threshold)


def _marked(boxes: Any, scores: Any, rows: Any, iou_threshold: float) -> Any:
    """NonMaxSuppression over scores (B, C, N), its survivors marked in (B, N)."""
    op = _onnx_operators()
    count = op.Shape(scores, start=1, end=2)
    selected = op.NonMaxSuppression(
        boxes,
        rows,
        count,
        op.Constant(value_float=float(iou_threshold)),
        op.Constant(value_float=0.0),
    )
    where = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    # 0 and 1, not bool: ScatterND of bool has no kernel in onnxruntime.
    empty = op.Expand(op.Constant(value_int=0), op.Shape(scores))
    ones = op.Expand(op.Constant(value_int=1), op.Shape(where, start=0, end=1))
    return op.Cast(op.ScatterND(empty, where, ones), to=9)


def translations() -> dict[Any, Callable[..., Any]]:
    """What `torch.onnx.export` needs to know of these operators."""
    return {
        torch.ops.apiece.nms_keep.default: nms_keep_onnx,
        torch.ops.apiece.nms_keep_by_class.default: nms_keep_by_class_onnx,
    }
