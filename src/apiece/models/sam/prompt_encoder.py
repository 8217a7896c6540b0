"""Points, boxes and a previous mask as tokens and a map (arXiv 2304.02643, appendix A "Prompt encoder")."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from apiece.models.sam.image_encoder import LayerNorm2d
from apiece.models.sam.prompts import LOWER_RIGHT, NOTHING, UPPER_LEFT


class RandomFrequencies(nn.Module):
    """Positions as sines and cosines at fixed random frequencies (arXiv 2006.10739)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, places: Tensor) -> Tensor:
        """x, y from 0 to 1 (…, 2) -> (…, 2 · features), float32."""
        x, y = (2.0 * places.float() - 1.0).unbind(-1)
        # Not a matrix product: autocast would round it to 8 bits before the sine.
        fx, fy = self.positional_encoding_gaussian_matrix.float().unbind(0)
        angles = 2.0 * math.pi * (x[..., None] * fx + y[..., None] * fy)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, rows: int, columns: int) -> Tensor:
        """Encoded cell centres of a grid -> (1, 2 · features, rows, columns)."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        places = torch.stack([x[None, :].expand(rows, columns), y[:, None].expand(rows, columns)], dim=-1)
        encoded: Tensor = self(places)
        return encoded.permute(2, 0, 1)[None]


class PromptEncoder(nn.Module):
    """Sparse prompts (points and box corners) to tokens, dense ones (a mask) to a map.

    width       of the decoder.
    mask_width  channels between the mask's convolutions.
    """

    def __init__(self, width: int, mask_width: int) -> None:
        super().__init__()
        self.pe_layer = RandomFrequencies(width // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_width // 4, 2, stride=2),
            LayerNorm2d(mask_width // 4),
            nn.GELU(),
            nn.Conv2d(mask_width // 4, mask_width, 2, stride=2),
            LayerNorm2d(mask_width),
            nn.GELU(),
            nn.Conv2d(mask_width, width, 1),
        )

    def points(self, points: Tensor, labels: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Points (…, 2) as x, y pixel indices of the input, with labels (…) -> tokens (…, width).

        labels  NOTHING, OUTSIDE, INSIDE, UPPER_LEFT or LOWER_RIGHT.
        """
        scale = torch.tensor([1.0 / image_size[1], 1.0 / image_size[0]], device=points.device)
        encoded = self.pe_layer((points.float() + 0.5) * scale)
        kinds = torch.cat([self._kind(i) for i in range(4)])
        token = encoded + kinds[labels.clamp(min=0)].to(encoded.dtype)
        nothing: Tensor = self.not_a_point_embed.weight[0].to(encoded.dtype)
        return torch.where((labels >= 0)[..., None], token, nothing)

    def _kind(self, index: int) -> Tensor:
        embedding = self.point_embeddings[index]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    def masks(self, masks: Tensor, given: Tensor) -> Tensor:
        """Previous logits (B, P, 4h, 4w), read only where `given` (B, P) -> maps (B, P, width, h, w)."""
        batch, prompts = masks.shape[:2]
        maps: Tensor = self.mask_downscaling(masks.flatten(0, 1)[:, None])
        maps = maps.reshape(batch, prompts, *maps.shape[1:])
        return torch.where(given[..., None, None, None], maps, self.no_mask().to(maps.dtype))

    def no_mask(self) -> Tensor:
        """What stands for a mask where there is none, (1, 1, width, 1, 1)."""
        weight: Tensor = self.no_mask_embed.weight
        return weight.reshape(1, 1, -1, 1, 1)


def points_and_boxes(
    points: Tensor | None, labels: Tensor | None, boxes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Prompts as one row of labelled points each.

    points, labels  (B, P, N, 2) x, y pixel indices of the input, and (B, P, N).
    boxes           (B, P, 4) xyxy edges in input pixels. Without a box, a NOTHING point closes the row, as in the
                    published models.
    returns         points (B, P, M, 2), labels (B, P, M) int64.
    """
    rows, kinds = [], []
    if points is not None:
        assert labels is not None
        rows.append(points)
        kinds.append(labels)
    if boxes is not None:
        rows.append(boxes.reshape(*boxes.shape[:2], 2, 2))
        corner = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=boxes.device)
        kinds.append(corner.expand(*boxes.shape[:2], 2))
    elif points is not None:
        rows.append(torch.zeros_like(points[..., :1, :]))
        kinds.append(torch.full_like(points[..., :1, 0], NOTHING, dtype=torch.int64))
    return torch.cat(rows, dim=2), torch.cat([k.long() for k in kinds], dim=2)
