"""The transformer decoder: queries that attend to the cells of their own masks (section 3.2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.models.layers import resize, take, top
from apiece.models.mask2former.pixel_decoder import Pixels, centres
from apiece.models.mask2former.positions import sine_positions

UNIT = 64.0
"""Input pixels in which distances are counted, so that their squares stay small."""


class Prediction(NamedTuple):
    """What the queries say after a layer: categories (B, Q, classes + 1) logits, the last one "no object";
    embeddings (B, Q, E), whose dot product with the mask features is the mask's logit."""

    categories: Tensor
    embeddings: Tensor


class Attention(nn.Module):
    """Multi-head attention with separate projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, Q, C), (B, N, C), (B, N, C) -> (B, Q, C); allowed (B, Q, N) bool says who may look where."""
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        mask = None if allowed is None else allowed[:, None]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed: Tensor = self.output(read.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, MLP, in the paper's order; each added and normalised after."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross_attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm3 = nn.LayerNorm(width)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(
        self, x: Tensor, places: Tensor, memory: Tensor, positions: Tensor, allowed: Tensor
    ) -> Tensor:
        """Queries (B, Q, C) with places (B, Q, C), memory (B, N, C) with positions (N, C), allowed (B, Q, N)."""
        x = self.norm1(x + self.cross_attention(x + places, memory + positions, memory, allowed))
        x = self.norm2(x + self.self_attention(x + places, x + places, x))
        refined: Tensor = self.norm3(x + self.linear2(F.relu(self.linear1(x))))
        return refined


class MaskedDecoder(nn.Module):
    """Learnt queries, refined by layers that read the scales in turn, stride 32 first.

    queries  how many objects can be told at most.
    seeded   not in the paper: queries start from the cells, of all scales, that look most like objects (arXiv
             2206.02777, section 3.3), instead of learnt vectors, and their masks from a disc about the cell. A few
             dozen pictures then suffice. Needs mask features with distances (`append_distances`).
    hidden   of the layers' MLP; outputs: channels of the mask features.
    """

    def __init__(
        self,
        classes: int,
        queries: int,
        width: int,
        outputs: int,
        layers: int,
        heads: int,
        hidden: int,
        seeded: bool = False,
    ) -> None:
        super().__init__()
        self.count = queries
        if seeded:
            self.seed = nn.Linear(width, width)
            self.seed_norm = nn.LayerNorm(width)
            self.disc = nn.Linear(width, 4)
            nn.init.zeros_(self.disc.weight)
            with torch.no_grad():
                self.disc.bias.copy_(torch.tensor([2.0, 0.0, 0.0, 0.0]))
        else:
            self.queries = nn.Parameter(torch.randn(queries, width))
            self.places = nn.Parameter(torch.randn(queries, width))
        self.seeded = seeded
        self.level = nn.Parameter(torch.randn(3, width))
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.category = nn.Linear(width, classes + 1)
        self.mask = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
        )

    def forward(self, pixels: Pixels, every: bool) -> list[Prediction]:
        """Predictions of the last layer, or with `every` of the learnt queries and of all layers."""
        scales, features = pixels
        memory = [m.flatten(2).transpose(1, 2) + self.level[i] for i, m in enumerate(scales)]
        sizes = [(int(m.shape[2]), int(m.shape[3])) for m in scales]
        positions = [sine_positions(h, w, memory[0].shape[2], features.device) for h, w in sizes]
        # A reduced mask is the product with reduced features: once for each scale, not for each query and layer.
        x, places, cells = self._start(memory, positions, sizes)
        reduced = [resize(features, size).detach().flatten(2) for size in sizes]
        predictions = []
        for i, layer in enumerate(self.layers):
            scale = i % 3
            normal = self.norm(x)
            embeddings = self._embeddings(normal, cells)
            if every:
                predictions.append(Prediction(self.category(normal), embeddings))
            allowed = attention_mask(embeddings, reduced[scale])
            x = layer(x, places, memory[scale], positions[scale], allowed)
        normal = self.norm(x)
        predictions.append(Prediction(self.category(normal), self._embeddings(normal, cells)))
        return predictions

    def _start(
        self, memory: list[Tensor], positions: list[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """First state and places of the queries, (B, Q, C) each, and the cells that they are (B, Q, 3: centre x, y,
        stride; in `UNIT`s) where they are seeded."""
        batch = memory[0].shape[0]
        if not self.seeded:
            return self.queries[None].expand(batch, -1, -1), self.places[None].expand(batch, -1, -1), None
        vectors = self.seed_norm(self.seed(torch.cat(memory, dim=1)))
        objects = self.category(self.norm(vectors))[..., :-1].amax(dim=2)
        index = top(objects, self.count)[1]
        cells = []
        for (height, width), stride in zip(sizes, (32, 16, 8), strict=True):
            extent = torch.tensor([width, height], device=objects.device) * (stride / UNIT)
            centre = centres(height, width, objects.device) * extent
            cells.append(torch.cat([centre, torch.full_like(centre[:, :1], stride / UNIT)], dim=1))
        first, places, own = (
            take(rows, index)
            for rows in (vectors, *(torch.cat(x)[None].expand(batch, -1, -1) for x in (positions, cells)))
        )
        return first, places, own

    def _embeddings(self, normal: Tensor, cells: Tensor | None) -> Tensor:
        """Normalised states (B, Q, C) -> embeddings (B, Q, E), or (B, Q, E + 4) in float32 for seeded queries.

        The last four turn `append_distances` into a - (distance / extent)², a disc whose centre, extent and height a
        are learnt and start at the cell, three strides and 2.
        """
        embeddings: Tensor = self.mask(normal)
        if cells is None:
            return embeddings
        x, y, stride = cells.unbind(dim=2)
        height, width, right, down = self.disc(normal).float().unbind(dim=2)
        sharpness = torch.exp(-width.clamp(-4.0, 4.0)) / (3.0 * stride).square()
        x, y = x + right * stride, y + down * stride
        disc = [height - sharpness * (x * x + y * y), 2 * sharpness * x, 2 * sharpness * y, -sharpness]
        return torch.cat([embeddings.float(), torch.stack(disc, dim=2)], dim=2)


def append_distances(features: Tensor) -> Tensor:
    """Mask features (B, E, h, w) at stride 4 -> (B, E + 4, h, w) float32 with 1, x, y and x² + y², in `UNIT`s."""
    batch, _, height, width = features.shape
    y = (torch.arange(height, device=features.device) + 0.5) * (4 / UNIT)
    x = (torch.arange(width, device=features.device) + 0.5) * (4 / UNIT)
    y, x = y[:, None].expand(-1, width), x[None].expand(height, -1)
    distances = torch.stack([torch.ones_like(x), x, y, x * x + y * y])
    return torch.cat([features.float(), distances[None].expand(batch, -1, -1, -1)], dim=1)


def attention_mask(embeddings: Tensor, reduced: Tensor) -> Tensor:
    """Embeddings (B, Q, E), features (B, E, N) -> (B, Q, N) bool: inside the query's mask; where that is empty, all."""
    with torch.autocast(embeddings.device.type, enabled=False):
        inside = embeddings.detach().float() @ reduced.float() >= 0
    return inside | ~inside.any(dim=2, keepdim=True)
