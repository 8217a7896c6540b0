"""Mask2Former's targets and losses: one-to-one matching, then categories and masks at sampled points (section 3.3).

A target mask stays its own crop and is read at points; the full frame of a mask exists nowhere. For the matching the
mask features are read at the points and multiplied by the queries after, which is the same as reading the queries'
masks. Only of the matched queries, one for each object, are masks made, at the features' stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from apiece.core.instances import Instances
from apiece.models.mask2former.masked_attention import Prediction
from apiece.models.mask2former.net import Mask2Former, Raw
from apiece.models.network import Network

CATEGORY, MASK, DICE = 2.0, 5.0, 5.0
"""Weights of the terms, in the matching's cost too."""
NO_OBJECT = 0.1
"""Weight of a query without object in the category term."""
OVERSAMPLE, IMPORTANT = 3, 0.75
"""Of so many times the points those are kept whose logits are nearest to 0; the rest of the points is random."""


class Targets(NamedTuple):
    """Objects of one picture, without crowds and empty masks.

    size     (height, width) of the network's input.
    classes  (N,) int64.
    corners  (N, 2) int64, x and y of each crop; shapes (N, 2) int64: its height and width.
    starts   (N,) int64: where its pixels begin in `pixels`, uint8, 0 or 1, row by row.
    """

    size: tuple[int, int]
    classes: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]


class Crops(NamedTuple):
    """`Targets` as tensors on the network's device."""

    size: tuple[int, int]
    classes: Tensor
    corners: Tensor
    shapes: Tensor
    starts: Tensor
    pixels: Tensor


class Mask2FormerLoss:
    """Loss terms of a batch: `category`, `mask` and `dice`, each summed over the learnt queries and all layers.

    max_masks  most matched masks of a layer and batch that are compared; above it a random subset, in expectation the
               same. None: all.
    """

    def __init__(self, net: Network, max_masks: int | None = None) -> None:
        assert isinstance(net, Mask2Former)
        self.net = net
        self.max_masks = max_masks

    def targets(self, instances: Instances) -> Targets:
        """Targets of one picture, made in the loader's processes."""
        crowd = instances.columns.get("iscrowd", np.zeros(len(instances), dtype=bool)).astype(bool)
        masks = instances.masks[np.flatnonzero(~crowd & (instances.masks.shapes[:, 0] > 0))]
        classes = instances.class_ids[~crowd & (instances.masks.shapes[:, 0] > 0)]
        return Targets(
            (int(masks.size[0]), int(masks.size[1])),
            classes.astype(np.int64),
            masks.offsets.astype(np.int64),
            masks.shapes.astype(np.int64),
            masks.starts[:-1].astype(np.int64),
            masks.pixels.view(np.uint8),
        )

    def normalisers(self, targets: Sequence[Targets]) -> Tensor:
        """Objects of a batch; sums of its queries' weights in the category term, in a layer and at the start."""
        queries = self.net.decoder.count
        counts = [len(t.classes) for t in targets]
        weights = []
        for repeats in (1, self.net.repeats):
            matched = sum(min(repeats * count, queries) for count in counts)
            weights.append(matched + NO_OBJECT * (len(targets) * queries - matched))
        return torch.tensor([sum(counts), *weights], dtype=torch.float32)

    def __call__(
        self, raw: Raw, targets: Sequence[Targets], normalisers: Tensor, processes: int = 1, seed: int = 0
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised.

        normalisers  summed over all `processes`, so that the mean of their gradients is the gradient of one
                     process with the whole batch.
        seed         places the points, so that a step can be repeated.
        """
        with torch.autocast(raw.features.device.type, enabled=False):
            # Once for all layers: the gradient of a slice is a whole map of zeros.
            features = raw.features.float().unbind()
            device = raw.features.device
            generator = torch.Generator().manual_seed(seed)
            crops = [on_device(t, device) for t in targets]
            objects, weight, first_weight = normalisers.to(device).unbind()
            count = objects.clamp(min=1)
            terms = {name: torch.zeros((), device=device) for name in ("category", "mask", "dice")}
            # The last layer first, as the paper's code draws its points.
            order = [len(raw.predictions) - 1, *range(len(raw.predictions) - 1)]
            for i in order:
                layer = Prediction(*(value.float() for value in raw.predictions[i]))
                repeats = 1 if i else self.net.repeats
                pairs = self._match(layer, features, crops, repeats, generator)
                mask, dice = self._masks(layer, features, crops, pairs, generator)
                category = self._category(layer, crops, pairs) / (weight if i else first_weight)
                terms["category"] = terms["category"] + CATEGORY * processes * category
                terms["mask"] = terms["mask"] + MASK * processes * mask / (repeats * count)
                terms["dice"] = terms["dice"] + DICE * processes * dice / (repeats * count)
            return terms

    @torch.no_grad()
    def _match(
        self,
        layer: Prediction,
        features: Sequence[Tensor],
        crops: Sequence[Crops],
        repeats: int,
        generator: torch.Generator,
    ) -> list[tuple[Tensor, Tensor]]:
        """For each picture the queries and the objects that belong together, of least cost in all; an object gets
        `repeats` queries, as far as there are enough."""
        pairs = []
        for b, crop in enumerate(crops):
            points = torch.rand(1, self.net.points, 2, generator=generator).to(layer.embeddings.device)
            if not len(crop.classes):
                pairs.append((crop.classes, crop.classes))
                continue
            logits = layer.embeddings[b] @ read(features[b][None], points)[0]
            truth = read_crops(crop, torch.arange(len(crop.classes), device=points.device), points)
            category = -layer.categories[b].softmax(dim=-1)[:, crop.classes]
            # log(1 + exp(x)) - x · t is the cross-entropy of a logit x and a target t.
            mask = (F.softplus(logits).sum(dim=1)[:, None] - logits @ truth.T) / logits.shape[1]
            p = logits.sigmoid()
            dice = 1 - (2 * p @ truth.T + 1) / (p.sum(dim=1)[:, None] + truth.sum(dim=1) + 1)
            cost = (CATEGORY * category + MASK * mask + DICE * dice).nan_to_num(
                nan=1e9, posinf=1e9, neginf=-1e9
            )
            rows, columns = linear_sum_assignment(np.tile(cost.cpu().numpy(), repeats))
            columns %= len(crop.classes)
            pairs.append(
                (torch.from_numpy(rows).to(points.device), torch.from_numpy(columns).to(points.device))
            )
        return pairs

    def _category(
        self, layer: Prediction, crops: Sequence[Crops], pairs: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Weighted cross-entropy, summed over all queries."""
        logits = layer.categories
        truth = torch.full(logits.shape[:2], self.net.classes, device=logits.device)
        for b, (query, target) in enumerate(pairs):
            truth[b, query] = crops[b].classes[target]
        weight = torch.ones(self.net.classes + 1, device=logits.device)
        weight[-1] = NO_OBJECT
        return F.cross_entropy(logits.flatten(0, 1), truth.flatten(), weight=weight, reduction="sum")

    def _masks(
        self,
        layer: Prediction,
        features: Sequence[Tensor],
        crops: Sequence[Crops],
        pairs: Sequence[tuple[Tensor, Tensor]],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice loss at points, summed over the matched queries."""
        # Zero times everything, so that a batch without objects still reaches every parameter.
        nothing = 0.0 * (layer.embeddings.sum() + features[0].sum())
        share = 1.0
        counts = [len(query) for query, _ in pairs]
        if self.max_masks is not None and sum(counts) > self.max_masks:
            share = sum(counts) / self.max_masks
            pairs = subset(pairs, self.max_masks, generator)
            counts = [len(query) for query, _ in pairs]
        if not sum(counts):
            return nothing, nothing
        logits = torch.cat(
            [layer.embeddings[b, query] @ features[b].flatten(1) for b, (query, _) in enumerate(pairs)]
        ).reshape(-1, 1, *features[0].shape[-2:])
        with torch.no_grad():
            points = important_points(logits, self.net.points, generator)
            truth = torch.cat(
                [
                    read_crops(crops[b], target, part)
                    for b, ((_, target), part) in enumerate(
                        zip(pairs, torch.split(points, counts), strict=True)
                    )
                ]
            )
        at = read(logits, points)[:, 0]
        mask = F.binary_cross_entropy_with_logits(at, truth, reduction="none").mean(dim=1).sum()
        p = at.sigmoid()
        dice = (1 - (2 * (p * truth).sum(dim=1) + 1) / (p.sum(dim=1) + truth.sum(dim=1) + 1)).sum()
        return nothing + share * mask, nothing + share * dice


def subset(
    pairs: Sequence[tuple[Tensor, Tensor]], count: int, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """`count` of all pairs, drawn at random; the order stays."""
    total = sum(len(query) for query, _ in pairs)
    kept = torch.zeros(total, dtype=torch.bool)
    kept[torch.randperm(total, generator=generator)[:count]] = True
    parts = torch.split(kept, [len(query) for query, _ in pairs])
    return [
        (query[part.to(query.device)], target[part.to(query.device)])
        for (query, target), part in zip(pairs, parts, strict=True)
    ]


def important_points(logits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Points (N, count, 2) where the masks (N, 1, h, w) are least certain, and random ones (arXiv 1912.08193)."""
    n = logits.shape[0]
    drawn = torch.rand(n, OVERSAMPLE * count, 2, generator=generator).to(logits.device)
    important = int(IMPORTANT * count)
    nearest = read(logits, drawn)[:, 0].abs().topk(important, dim=1, largest=False, sorted=False).indices
    chosen = drawn.gather(1, nearest[..., None].expand(-1, -1, 2))
    rest = torch.rand(n, count - important, 2, generator=generator).to(logits.device)
    return torch.cat([chosen, rest], dim=1)


def read(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (N, C, h, w) at points (N, P, 2: x, y in 0…1) -> (N, C, P); bilinear, 0 outside."""
    return F.grid_sample(maps, 2.0 * points[:, :, None] - 1.0, align_corners=False)[..., 0]


def on_device(targets: Targets, device: torch.device) -> Crops:
    """Targets as tensors."""
    size, *arrays = targets
    return Crops(size, *(torch.from_numpy(np.array(array)).to(device) for array in arrays))


def read_crops(crops: Crops, objects: Tensor, points: Tensor) -> Tensor:
    """Masks of `objects` (N,) at points (N or 1, P, 2: x, y in 0…1 of the picture) -> (N, P).

    Equal to `read` of the masks' full frames: bilinear between pixel centres, 0 outside.
    """
    height, width = crops.size
    at = points * torch.tensor([width, height], device=points.device) - 0.5 - crops.corners[objects][:, None]
    first = at.floor()
    way = at - first
    x, y = first.long().unbind(dim=2)
    rows, columns = crops.shapes[objects].unbind(dim=1)
    total = torch.zeros(at.shape[:2], device=points.device)
    for down in (0, 1):
        for right in (0, 1):
            inside = (
                (x + right >= 0)
                & (x + right < columns[:, None])
                & (y + down >= 0)
                & (y + down < rows[:, None])
            )
            index = crops.starts[objects][:, None] + (y + down) * columns[:, None] + x + right
            value = crops.pixels[torch.where(inside, index, 0)] * inside
            share_x = way[..., 0] if right else 1 - way[..., 0]
            share_y = way[..., 1] if down else 1 - way[..., 1]
            total = total + value * share_x * share_y
    return total
