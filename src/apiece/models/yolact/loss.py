"""YOLACT's targets and losses: SSD's on anchors with hard negatives, cross-entropy on assembled masks, and the
semantic loss that only trains (sections 3.1, 3.2 and 4 of arXiv 1904.02689)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from apiece.core.instances import Instances
from apiece.models.network import Network
from apiece.models.yolact.anchors import encode_boxes
from apiece.models.yolact.matching import (
    Bool,
    Float,
    Int,
    Window,
    crop_window,
    match,
    shrink,
    touched_window,
)
from apiece.models.yolact.net import YOLACT, Raw

BOX_WEIGHT, MASK_WEIGHT = 1.5, 6.125
NEGATIVES = 3
"""Background anchors in the class loss for every positive one."""


class Targets(NamedTuple):
    """Targets of one picture.

    state      (A,) int64: -1 neutral, 0 background, else 1 + class.
    positives  (P,) int64: anchors with an object, ascending.
    objects    (P,) int64: which one.
    codes      (P, 4) float32: box code.
    windows    object -> the cells of the prototypes in which its mask is learnt: its box and one more around it.
    masks      object -> bool (height, width of the window).
    areas      (N,) float32: area of each object's box in prototype cells; its mask loss is divided by it.
    semantic   flat indices (int64) into (classes, h, w), where an object of the class is.
    """

    state: Int
    positives: Int
    objects: Int
    codes: Float
    windows: list[Window]
    masks: list[Bool]
    areas: Float
    semantic: Int


class YOLACTLoss:
    """Loss terms of a batch: `box` (smooth L1), `category` (softmax, three hard negatives for each positive),
    `mask` (binary cross-entropy in the object's box) and `semantic`.

    net        whose anchors the targets follow.
    max_masks  most positive anchors of a batch whose masks are learnt; above it a random subset, in expectation
               the same mean. None: all. The paper's code takes 100 of each picture.
    """

    def __init__(self, net: Network, max_masks: int | None = None) -> None:
        assert isinstance(net, YOLACT)
        self.net = net
        self.max_masks = max_masks

    def targets(self, instances: Instances) -> Targets:
        """Targets of one picture of the network's input size; made in the loader's processes.

        An object without a pixel or with a box of no area is none. Crowd regions only spare their surroundings
        the background class.
        """
        height, width = instances.size
        levels = self.net.anchors
        rows, columns = levels.cells(height, width)[0]
        fine = (2 * rows, 2 * columns)
        anchors = levels.boxes(height, width)
        edges = np.array([width, height, width, height], dtype=np.float32)
        boxes: Float = (instances.boxes / edges).astype(np.float32)
        real = (instances.masks.areas > 0) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        crowd = instances.columns.get("iscrowd", np.zeros(len(instances), dtype=bool)).astype(bool)
        kept = np.flatnonzero(real & ~crowd)
        matches = match(anchors.numpy(), boxes[kept], instances.class_ids[kept], crowds=boxes[real & crowd])
        positives = np.flatnonzero(matches.state > 0)
        objects = matches.objects[positives]
        codes = encode_boxes(torch.from_numpy(boxes[kept[objects]]), anchors[positives])

        windows, masks, semantic = [], [], [np.zeros(0, dtype=np.int64)]
        for i in kept.tolist():
            crop, corner = instances.masks.crop(i), tuple(instances.masks.offsets[i].tolist())
            window = crop_window(boxes[i], fine)
            windows.append(window)
            masks.append(shrink(crop, corner, instances.size, fine, window))
            coarse = touched_window(crop, corner, instances.size, (rows, columns))
            y, x = np.nonzero(shrink(crop, corner, instances.size, (rows, columns), coarse))
            label = int(instances.class_ids[i])
            semantic.append((label * rows + coarse.y + y) * columns + coarse.x + x)
        sides = (boxes[kept, 2:] - boxes[kept, :2]) * np.array(fine[::-1], dtype=np.float32)
        return Targets(
            matches.state,
            positives,
            objects,
            codes.numpy(),
            windows,
            masks,
            # At least a cell: else an object of one pixel would weigh more than the rest of the batch.
            np.maximum(sides, 1).prod(axis=1),
            np.unique(np.concatenate(semantic)),
        )

    def normalisers(self, targets: Sequence[Targets]) -> Tensor:
        """Positive anchors (one for a picture without) and pictures of a batch; they add up over processes."""
        positives = sum(max(len(t.positives), 1) for t in targets)
        return torch.tensor([positives, len(targets)], dtype=torch.float32)

    def __call__(
        self, raw: Raw, targets: Sequence[Targets], normalisers: Tensor, processes: int = 1, seed: int = 0
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised.

        normalisers  summed over all `processes`, so that the mean of their gradients is the gradient of one
                     process with the whole batch.
        seed         picks the subset of masks, so that a step can be repeated.
        """
        positives, pictures = normalisers.unbind()
        with torch.autocast(raw.boxes.device.type, enabled=False):
            return {
                "box": BOX_WEIGHT * self._box(raw, targets) * processes / positives,
                "category": self._category(raw, targets) * processes / positives,
                "mask": MASK_WEIGHT * self._mask(raw, targets, seed) * processes / positives,
                "semantic": self._semantic(raw, targets) * processes / pictures,
            }

    def _box(self, raw: Raw, targets: Sequence[Targets]) -> Tensor:
        """Smooth L1 of the box code, summed over positives."""
        found = _positive_rows(raw.boxes, targets)
        codes = torch.from_numpy(np.concatenate([t.codes for t in targets])).to(found.device)
        # Zero times everything, so that a batch without objects still reaches every parameter.
        return F.smooth_l1_loss(found, codes, reduction="sum") + 0.0 * raw.boxes.float().sum()

    def _category(self, raw: Raw, targets: Sequence[Targets]) -> Tensor:
        """Cross-entropy, summed over positives and each picture's hardest background anchors."""
        total = torch.zeros((), device=raw.categories.device)
        for b, picture in enumerate(targets):
            logits = raw.categories[b]
            state = torch.from_numpy(picture.state).to(logits.device)
            chosen = hard_negatives(logits, state, max(len(picture.positives), 1) * NEGATIVES)
            rows = torch.cat([torch.from_numpy(picture.positives).to(logits.device), chosen])
            total = total + F.cross_entropy(logits[rows].float(), state[rows], reduction="sum")
        return total

    def _mask(self, raw: Raw, targets: Sequence[Targets], seed: int) -> Tensor:
        """Cross-entropy of each positive's mask in its object's window over the box's area, summed."""
        total = 0.0 * (raw.coefficients.float().sum() + raw.prototypes.float().sum())
        rows = np.concatenate(
            [np.stack([np.full(len(t.objects), b), t.objects], axis=1) for b, t in enumerate(targets)]
        )
        share = 1.0
        chosen = np.arange(len(rows))
        if self.max_masks is not None and len(rows) > self.max_masks:
            share = len(rows) / self.max_masks
            chosen = np.random.default_rng(seed).choice(len(rows), self.max_masks, replace=False)
        coefficients = _positive_rows(raw.coefficients, targets)
        # Objects one after another, each with all its anchors: one product in its own window.
        order = chosen[np.lexsort((rows[chosen, 1], rows[chosen, 0]))]
        if not len(order):
            return total
        coefficients = coefficients[torch.from_numpy(order).to(coefficients.device)]
        starts = np.flatnonzero(np.any(np.diff(rows[order], axis=0, prepend=-1), axis=1))
        counts = np.diff(starts, append=len(order)).tolist()
        objects = [(targets[b], targets[b].windows[i], b, i) for b, i in rows[order[starts]].tolist()]
        flat = np.concatenate([picture.masks[i].ravel() for picture, _, _, i in objects])
        masks = torch.from_numpy(flat).to(coefficients.device, torch.float32)
        truths = torch.split(masks, [window.width * window.height for _, window, _, _ in objects])
        for (picture, (x, y, width, height), b, i), mine, truth in zip(
            objects, torch.split(coefficients, counts), truths, strict=True
        ):
            maps = raw.prototypes[b, :, y : y + height, x : x + width]
            logits = mine @ maps.float().flatten(1)
            loss = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="sum")
            total = total + loss / float(picture.areas[i])
        return total * share

    def _semantic(self, raw: Raw, targets: Sequence[Targets]) -> Tensor:
        """Binary cross-entropy over classes and cells, a mean over cells, summed over classes and pictures.

        Written as sum(softplus) minus the logits where an object is, so that no target map is made.
        """
        logits = raw.semantic.float()
        step = logits[0].numel()
        inside = np.concatenate([t.semantic + b * step for b, t in enumerate(targets)])
        on = logits.flatten()[torch.from_numpy(inside).to(logits.device)]
        return (F.softplus(logits).sum() - on.sum()) / logits[0, 0].numel()


def hard_negatives(logits: Tensor, state: Tensor, most: int) -> Tensor:
    """The background anchors with the lowest background probability, at most so many: indices into (A, 1 + C)
    logits whose state (A,) is 0 (OHEM as in SSD, arXiv 1512.02325, section 2.2)."""
    with torch.no_grad():
        detached = logits.detach().float()
        hardness = detached.logsumexp(dim=-1) - detached[:, 0]
        hardness = hardness.masked_fill(state != 0, -torch.inf)
        value, index = torch.topk(hardness, min(most, len(hardness)))
        return index[value > -torch.inf]


def _positive_rows(values: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Rows of (B, A, V) at the pictures' positives, picture by picture, in float32."""
    batch = np.repeat(np.arange(len(targets)), [len(t.positives) for t in targets])
    anchor = np.concatenate([t.positives for t in targets])
    return values[
        torch.from_numpy(batch).to(values.device), torch.from_numpy(anchor).to(values.device)
    ].float()
