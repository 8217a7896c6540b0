"""Boxes and the codes that the network predicts for them (appendix C of arXiv 1311.2524).

Boxes are (…, 4) xyxy in input pixels, codes (…, 4): shift of the centre in sides of the reference box, logarithm of
the ratio of sides, each times a weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
ROI_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
LONGEST = math.log(1000.0 / 16)
"""A side grows by this logarithm at most, so that no code overflows."""


def encode(boxes: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Codes that turn `references` into `boxes`, both (…, 4) with sides above 0."""
    sides, own = boxes[..., 2:] - boxes[..., :2], references[..., 2:] - references[..., :2]
    centre, middle = boxes[..., :2] + 0.5 * sides, references[..., :2] + 0.5 * own
    scale = boxes.new_tensor(weights)
    shift = scale[:2] * (centre - middle) / own
    return torch.cat([shift, scale[2:] * torch.log(sides / own)], dim=-1)


def decode(codes: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """The boxes that codes (…, 4) make of references (…, 4)."""
    own = references[..., 2:] - references[..., :2]
    middle = references[..., :2] + 0.5 * own
    shift = torch.cat([codes[..., 0:1] / weights[0], codes[..., 1:2] / weights[1]], dim=-1)
    growth = torch.cat([codes[..., 2:3] / weights[2], codes[..., 3:4] / weights[3]], dim=-1)
    centre = shift * own + middle
    half = 0.5 * torch.exp(growth.clamp(max=LONGEST)) * own
    return torch.cat([centre - half, centre + half], dim=-1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut at the edges of an input of `size` (height, width)."""
    x, y = boxes[..., 0::2].clamp(0, size[1]), boxes[..., 1::2].clamp(0, size[0])
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def at_least(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides have this length, bool (…)."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (A, B); 0 for a box without area."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(dim=-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(dim=-1), (b[:, 2:] - b[:, :2]).prod(dim=-1)
    union = area_a[:, None] + area_b - both
    return torch.where(union > 0, both / union, 0.0)
