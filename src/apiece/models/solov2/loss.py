"""SOLOv2's targets and losses: focal loss on cells, Dice loss on masks (section 3.3 of arXiv 2003.10152).

A target mask is a list of pixel indices at the mask features' stride, never a frame: the Dice loss needs
sum(p·q), which gathers p at those pixels, and sum(q²), which is their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from apiece.core.instances import Instances
from apiece.models.network import Network
from apiece.models.solov2.net import Level, Raw, SOLOv2

CENTRE = 0.2
"""An object claims the cells that its centre region, this fraction of its box, touches (arXiv 1912.04488)."""


class Targets(NamedTuple):
    """Targets of one picture.

    classes  per level (cells,) int64: class of a positive cell, -1 elsewhere.
    samples  (S, 3) int64: level, cell in the level (row-major), object.
    pixels   object -> flat indices (int64) into the h × w mask feature map.
    """

    classes: list[npt.NDArray[np.int64]]
    samples: npt.NDArray[np.int64]
    pixels: list[npt.NDArray[np.int64]]


def assign(instances: Instances, levels: Sequence[Level], mask_stride: int) -> Targets:
    """Which cell learns which object, of a picture of the network's input size.

    An object belongs to every level whose `sizes` hold sqrt(w · h). Its centre is the mass centre of its mask;
    it claims the cells within ± CENTRE / 2 of its box around that, and never more than 3 × 3. Where two objects
    claim one cell, the later one gives the class and both stay as mask samples. Objects without a pixel at the
    stride have no sample; crowd regions have none either.
    """
    height, width = instances.size
    boxes, centres = instances.masks.boxes, instances.masks.centroids
    crowd = instances.columns.get("iscrowd", np.zeros(len(instances), dtype=bool)).astype(bool)
    pixels = [
        shrink_mask(crop, corner, mask_stride, (height // mask_stride, width // mask_stride))
        for crop, corner in instances.masks
    ]
    # Inclusive ends, as the paper's code measures sizes.
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2] - 1, 0)
    sizes = np.sqrt(sides[:, 0] * sides[:, 1])
    classes: list[npt.NDArray[np.int64]] = []
    samples: list[tuple[int, int, int]] = []
    for index, level in enumerate(levels):
        rows, columns = level.cells(height, width)
        grid = np.full((rows, columns), -1, dtype=np.int64)
        for i in np.flatnonzero((sizes >= level.sizes[0]) & (sizes <= level.sizes[1]) & ~crowd):
            if not len(pixels[i]):
                continue
            (x, y), (half_w, half_h) = centres[i], 0.5 * CENTRE * sides[i]
            column, row = int(x / width * columns), int(y / height * rows)
            top = max(int(max(0.0, y - half_h) / height * rows), row - 1, 0)
            down = min(int((y + half_h) / height * rows), row + 1, rows - 1)
            left = max(int(max(0.0, x - half_w) / width * columns), column - 1, 0)
            right = min(int((x + half_w) / width * columns), column + 1, columns - 1)
            grid[top : down + 1, left : right + 1] = instances.class_ids[i]
            for r in range(top, down + 1):
                samples.extend((index, r * columns + c, int(i)) for c in range(left, right + 1))
        classes.append(grid.ravel())
    return Targets(classes, np.array(samples, dtype=np.int64).reshape(-1, 3), pixels)


def shrink_mask(
    crop: npt.NDArray[np.bool_], corner: tuple[int, int], stride: int, size: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Flat indices of the pixels that a crop at `corner` (x, y) covers on a map of `size`, `stride` times smaller.

    A pixel is covered when at least two of the four centre pixels of its stride × stride block are: this is
    OpenCV's bilinear reduction of 0 and 1 bytes. Costs the crop's area / stride².
    """
    x, y = corner
    left, upper = x // stride, y // stride
    columns, rows = -(-(x + crop.shape[1]) // stride) - left, -(-(y + crop.shape[0]) // stride) - upper
    if columns <= 0 or rows <= 0 or not crop.size:
        return np.zeros(0, dtype=np.int64)
    padded = np.zeros((rows * stride, columns * stride), dtype=np.uint8)
    padded[y - upper * stride :, x - left * stride :][: crop.shape[0], : crop.shape[1]] = crop
    a, b = stride // 2 - 1, stride // 2
    if stride == 1:
        covered = padded > 0
    else:
        covered = (
            padded[a::stride, a::stride]
            + padded[a::stride, b::stride]
            + padded[b::stride, a::stride]
            + padded[b::stride, b::stride]
        ) >= 2
    r, c = np.nonzero(covered)
    r, c = r + upper, c + left
    inside = (r < size[0]) & (c < size[1])
    flat: npt.NDArray[np.int64] = (r[inside] * size[1] + c[inside]).astype(np.int64)
    return flat


class SOLOv2Loss:
    """Loss terms of a batch: `category` (focal, 0.25, 2) and `mask` (3 × Dice).

    net        whose levels and mask features the targets follow.
    max_masks  most mask samples of a batch; above it a random subset, in expectation the same mean. None: all.
    """

    def __init__(self, net: Network, max_masks: int | None = None) -> None:
        assert isinstance(net, SOLOv2)
        self.net = net
        self.max_masks = max_masks

    def targets(self, instances: Instances) -> Targets:
        """Targets of one picture, made in the loader's processes."""
        return assign(instances, self.net.levels, self.net.mask_stride)

    def normalisers(self, targets: Sequence[Targets]) -> Tensor:
        """Positive cells and mask samples of a batch; they add up over processes."""
        cells = sum(int((classes >= 0).sum()) for t in targets for classes in t.classes)
        return torch.tensor([cells, sum(len(t.samples) for t in targets)], dtype=torch.float32)

    def __call__(
        self, raw: Raw, targets: Sequence[Targets], normalisers: Tensor, processes: int = 1, seed: int = 0
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised.

        normalisers  summed over all `processes`, so that the mean of their gradients is the gradient of one
                     process with the whole batch.
        seed         picks the subset of mask samples, so that a step can be repeated.
        """
        positives, samples = normalisers.unbind()
        return {
            "category": self._category(raw, targets) * processes / (positives + 1),
            "mask": 3.0 * self._mask(raw, targets, seed) * processes / samples.clamp(min=1),
        }

    def _category(self, raw: Raw, targets: Sequence[Targets]) -> Tensor:
        """Focal loss, summed over all cells and classes."""
        device = raw.features.device
        total = torch.zeros((), device=device)
        for level, logits in enumerate(raw.categories):
            classes = torch.from_numpy(np.stack([t.classes[level] for t in targets])).to(device)
            flat = logits.float().flatten(2).transpose(1, 2)
            truth = torch.zeros_like(flat)
            batch, cell = torch.nonzero(classes >= 0, as_tuple=True)
            truth[batch, cell, classes[batch, cell]] = 1.0
            total = total + sigmoid_focal_loss(flat, truth, alpha=0.25, gamma=2.0, reduction="sum")
        return total

    def _mask(self, raw: Raw, targets: Sequence[Targets], seed: int) -> Tensor:
        """Dice loss over the whole map, summed over the samples (estimated from `max_masks` of them)."""
        device = raw.features.device
        samples = np.concatenate(
            [np.column_stack([np.full(len(t.samples), b), t.samples]) for b, t in enumerate(targets)]
        ).astype(np.int64)
        share = 1.0
        if self.max_masks is not None and len(samples) > self.max_masks:
            share = len(samples) / self.max_masks
            chosen = np.random.default_rng(seed).choice(len(samples), self.max_masks, replace=False)
            samples = samples[np.sort(chosen)]
        # Starts from zero times everything, so that a batch without objects still reaches every parameter.
        total = 0.0 * (torch.stack([k.float().sum() for k in raw.kernels]).sum() + raw.features.float().sum())
        height, width = (self.net.mask_stride * int(n) for n in raw.features.shape[-2:])
        cells = self.net.cells(height, width, device)
        starts = np.cumsum([0, *(int(c.shape[-2] * c.shape[-1]) for c in raw.categories)])
        kernels = torch.cat([k.flatten(2) for k in raw.kernels], dim=2).transpose(1, 2)
        for b, picture in enumerate(targets):
            mine = samples[samples[:, 0] == b]
            if not len(mine):
                continue
            where = torch.from_numpy(starts[mine[:, 1]] + mine[:, 2]).to(device)
            logits = self.net.mask_logits(
                kernels[b : b + 1, where], cells[where][None], raw.features[b : b + 1], self.net.mask_stride
            )
            pixels = [picture.pixels[i] for i in mine[:, 3]]
            total = total + dice(logits[0].flatten(1), pixels).sum()
        return total * share


def dice(logits: Tensor, pixels: Sequence[npt.NDArray[np.int64]]) -> Tensor:
    """Dice loss of each row of logits (S, h·w) against the pixels that should be on -> (S,) float32."""
    p = logits.sigmoid()
    counts = np.array([len(i) for i in pixels])
    row = np.repeat(np.arange(len(pixels)), counts)
    flat = torch.from_numpy(row * logits.shape[1] + np.concatenate(pixels)).to(logits.device)
    at = p.flatten()[flat].float()
    both = torch.zeros(len(pixels), device=logits.device).index_add(
        0, torch.from_numpy(row).to(logits.device), at
    )
    predicted = p.square().sum(dim=1, dtype=torch.float32)
    true = torch.from_numpy(counts).to(logits.device, torch.float32)
    return 1.0 - 2.0 * both / (predicted + 0.001 + true + 0.001)
