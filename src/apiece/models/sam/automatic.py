"""Every object of a picture, from a grid of points (arXiv 2304.02643, appendix B "Automatic mask generation").

All inside the graph and in fixed shapes. Masks of the grid's points are made chunk by chunk, measured and dropped;
only those of the K that stay are made again, so memory is that of one chunk and of K masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from apiece.models.layers import mask_boxes, take, top
from apiece.models.nms import nms_keep
from apiece.models.sam.mask_decoder import MULTI
from apiece.models.sam.prompt_encoder import points_and_boxes
from apiece.models.sam.prompts import INSIDE, MASKS
from apiece.models.tensors import CandidateTensors

if TYPE_CHECKING:
    from apiece.models.sam.net import SAM, Raw


class Automatic(NamedTuple):
    """How the grid is laid and which of its masks count; the numbers are segment-anything's own.

    side       points per side of the grid.
    chunk      points decoded at once.
    iou        a mask counts when its predicted IoU is above this,
    stability  and its stability too: the area above +offset over the area above -offset (logits).
    offset     see `stability`.
    nms        of two masks whose boxes overlap by more than this, the better one stays.
    """

    side: int = 32
    chunk: int = 64
    iou: float = 0.88
    stability: float = 0.95
    offset: float = 1.0
    nms: float = 0.7


def grid(side: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Centres of side × side equal fields of a picture (height, width), row by row: (side², 2) x, y pixel indices."""
    step = (torch.arange(side, device=device) + 0.5) / side
    x, y = step * size[1] - 0.5, step * size[0] - 0.5
    return torch.stack([x.repeat(side), y.repeat_interleave(side)], dim=1)


def in_content(points: Tensor, images: Tensor) -> Tensor:
    """Which points (P, 2) are not beyond the last row or column that is not black, (B, P): beyond is padding."""
    lit = images.amax(dim=1) > 0
    limits = []
    for axis in (1, 2):  # over the rows: the columns' extent is x
        lines = lit.any(dim=axis)
        place = torch.arange(1, lines.shape[1] + 1, device=images.device)
        limits.append((lines * place).amax(dim=1))
    limit = torch.stack(limits, dim=1).to(points.dtype)
    return (points[None] + 0.5 < limit[:, None]).all(dim=-1)


def find(net: SAM, raw: Raw, images: Tensor) -> CandidateTensors:
    """K candidates of each picture, all of label 0; masks in the image frame at the decoder's stride."""
    settings, batch = net.automatic, raw.picture.shape[0]
    points = grid(settings.side, raw.size, raw.picture.device)
    ious, stabilities, boxes = [], [], []
    for chunk in torch.split(points, settings.chunk):
        decoded = net.prompt(raw, *_prompts(chunk.expand(batch, -1, -1)))
        masks = decoded.masks(MULTI).float()
        inside = (masks > 0).float()
        certain = (masks > settings.offset).float().sum(dim=(-2, -1))
        possible = (masks > -settings.offset).float().sum(dim=(-2, -1))
        ious.append(decoded.iou[:, :, MULTI].float().flatten(1))
        stabilities.append((certain / possible.clamp(min=1.0)).flatten(1))
        boxes.append(mask_boxes(inside.flatten(1, 2)) * net.mask_stride)
    iou, stability, box = (torch.cat(parts, dim=1) for parts in (ious, stabilities, boxes))
    there = in_content(points, images).repeat_interleave(MASKS, dim=1)
    valid = there & (iou > settings.iou) & (stability > settings.stability) & (box[..., 2] > box[..., 0])
    score = iou.clamp(0.0, 1.0) * valid.float()
    score = score * nms_keep(box, score, settings.nms).float()

    score, index = top(score, net.candidates)
    point = torch.div(index, MASKS, rounding_mode="floor")
    kept = take(points.expand(batch, -1, -1), point)
    token = index % MASKS + 1
    chunks = (torch.split(x, settings.chunk, dim=1) for x in (kept, token))
    again = [
        net.prompt(raw, *_prompts(some)).chosen(which).float() for some, which in zip(*chunks, strict=True)
    ]
    masks, box = torch.cat(again, dim=1), take(box, index)
    # A stray pixel makes a box large, so that a second mask of an object can pass; the masks themselves tell.
    score, order = top(score * distinct(masks, score, settings.nms).float(), net.candidates)
    return CandidateTensors(score, torch.zeros_like(order), take(box, order), take(masks, order))


def distinct(masks: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Which masks (B, K, h, w; logits, by descending score) overlap no better one by more than `iou`, (B, K): Fast
    NMS (arXiv 1904.02689, section 4.4) on masks."""
    inside = (masks > 0).float().flatten(2) * (scores > 0).float()[..., None]
    area = inside.sum(dim=2)
    both = inside @ inside.transpose(1, 2)
    union = area[:, :, None] + area[:, None, :] - both
    overlap = torch.triu(both / union.clamp(min=1.0), diagonal=1)
    return overlap.amax(dim=1) <= iou


def _prompts(points: Tensor) -> tuple[Tensor, Tensor]:
    """(B, P, 2) -> one prompt for each point."""
    labels = torch.full_like(points[..., :1], INSIDE, dtype=torch.int64)
    return points_and_boxes(points[:, :, None], labels, None)
