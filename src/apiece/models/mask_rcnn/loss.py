"""Mask R-CNN's targets and losses: of the proposals (section 3.1.2 of arXiv 1506.01497), of the regions' classes and
boxes, and of the masks (section 3 of arXiv 1703.06870).

A target mask is cut from the object's own bitmap on the mask head's grid, never from a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.models.mask_rcnn.boxes import ROI_WEIGHTS, RPN_WEIGHTS, encode
from apiece.models.mask_rcnn.matching import (
    AnchorMatch,
    Regions,
    choose_regions,
    cut_masks,
    draw,
    match_anchors,
    subset,
)
from apiece.models.mask_rcnn.net import MaskRCNN, Raw
from apiece.models.network import Network

BETA = 1 / 9
"""Smooth L1 is quadratic below this."""


class Targets(NamedTuple):
    """Targets of one picture; crowd regions and objects without a pixel are left out.

    boxes   float32 (G, 4): tight boxes of the masks, input pixels.
    labels  int64 (G,).
    masks   the objects' bitmaps.
    anchors which anchor learns which object.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: Masks
    anchors: AnchorMatch


class MaskRCNNLoss:
    """Loss terms of a batch: `objectness` and `proposal` of the proposals, `category` and `box` of the regions, and
    `mask` (cross entropy on the masks of regions that have an object), each a mean over what was sampled.

    net        whose anchors, proposals and heads are used.
    max_masks  most masks of a batch; above it a random subset. None: all, at most a quarter of the regions.
    """

    def __init__(self, net: Network, max_masks: int | None = None) -> None:
        assert isinstance(net, MaskRCNN)
        self.net = net
        self.max_masks = max_masks

    def targets(self, instances: Instances) -> Targets:
        """Targets of one picture, made in the loader's processes."""
        crowd = instances.columns.get("iscrowd", np.zeros(len(instances), dtype=bool)).astype(bool)
        chosen = np.flatnonzero(~crowd & (instances.masks.areas > 0))
        masks = instances.masks[chosen]
        anchors = torch.cat(self.net.anchors(instances.size)).numpy()
        return Targets(masks.boxes, instances.class_ids[chosen], masks, match_anchors(anchors, masks.boxes))

    def normalisers(self, targets: Sequence[Targets]) -> Tensor:
        """Anchors that a batch learns from; they add up over processes."""
        total = 0
        for t in targets:
            positives = min(len(t.anchors.positives), self.net.sampling.anchors // 2)
            negatives = t.anchors.total - len(t.anchors.positives) - len(t.anchors.ignored)
            total += positives + min(negatives, self.net.sampling.anchors - positives)
        return torch.tensor([total], dtype=torch.float32)

    def __call__(
        self, raw: Raw, targets: Sequence[Targets], normalisers: Tensor, processes: int = 1, seed: int = 0
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised.

        normalisers  summed over all `processes`. The regions' counts depend on the network's own proposals and
                     are summed here, so that the mean of the gradients is that of one process with the batch.
        seed         picks anchors, regions and masks, the same ones however the batch is spread over processes.
        """
        first = torch.distributed.get_rank() if processes > 1 and torch.distributed.is_initialized() else 0
        generators = [np.random.default_rng([seed, b * processes + first]) for b in range(len(targets))]
        anchors = normalisers.to(raw.pyramid[0].device)[0].clamp(min=1)
        objectness, proposal = self._proposals(raw, targets, generators)
        regions = self._regions(raw, targets, generators)
        masked = self._masked(regions, seed)
        counts = torch.tensor(
            [sum(len(r.boxes) for r in regions), sum(len(index) for index in masked)],
            dtype=torch.float32,
            device=anchors.device,
        )
        if processes > 1 and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        else:
            counts = counts * processes
        sampled, drawn = counts.clamp(min=1).unbind()
        category, box = self._boxes(raw, targets, regions)
        terms = {
            "objectness": objectness * processes / anchors,
            "proposal": proposal * processes / anchors,
            "category": category * processes / sampled,
            "box": box * processes / sampled,
        }
        if self.net.mask_head is not None:
            terms["mask"] = self._masks(raw, targets, regions, masked) * processes / drawn
        return terms

    def _proposals(
        self, raw: Raw, targets: Sequence[Targets], generators: Sequence[np.random.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy of the sampled anchors' objectness, smooth L1 of the positive ones' codes; sums."""
        logits, codes = torch.cat(raw.objectness, dim=1).float(), torch.cat(raw.codes, dim=1).float()
        every = torch.cat(self.net.anchors(raw.size)).to(logits.device)
        objectness, proposal = logits.sum() * 0.0, codes.sum() * 0.0
        for b, (t, rng) in enumerate(zip(targets, generators, strict=True)):
            match, negatives = t.anchors, t.anchors.negatives()
            chosen, others = draw(
                rng, len(match.positives), len(negatives), self.net.sampling.anchors, share=0.5
            )
            positive = torch.from_numpy(match.positives[chosen]).to(logits.device)
            negative = torch.from_numpy(negatives[others]).to(logits.device)
            truth = torch.from_numpy(t.boxes[match.owners[chosen]]).to(logits.device)
            objectness = objectness + F.softplus(-logits[b, positive]).sum()
            objectness = objectness + F.softplus(logits[b, negative]).sum()
            wanted = encode(truth, every[positive], RPN_WEIGHTS)
            proposal = proposal + F.smooth_l1_loss(codes[b, positive], wanted, beta=BETA, reduction="sum")
        return objectness, proposal

    @torch.no_grad()
    def _regions(
        self, raw: Raw, targets: Sequence[Targets], generators: Sequence[np.random.Generator]
    ) -> list[Regions]:
        boxes, scores = self.net.propose(raw, self.net.training_proposals)
        return [
            choose_regions(
                boxes[b][scores[b] > 0],
                torch.from_numpy(t.boxes).to(boxes.device),
                rng,
                self.net.sampling.rois,
            )
            for b, (t, rng) in enumerate(zip(targets, generators, strict=True))
        ]

    def _masked(self, regions: Sequence[Regions], seed: int) -> list[npt.NDArray[np.int64]]:
        """Which regions with an object also draw its mask, per picture."""
        counts = np.array([len(r.owners) for r in regions], dtype=np.int64)
        total = int(counts.sum())
        wanted = total if self.max_masks is None else min(total, self.max_masks)
        chosen = subset(np.random.default_rng([seed, len(regions)]), total, wanted)
        starts = np.cumsum(counts) - counts
        return [chosen[(chosen >= a) & (chosen < a + n)] - a for a, n in zip(starts, counts, strict=True)]

    def _boxes(
        self, raw: Raw, targets: Sequence[Targets], regions: Sequence[Regions]
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy of the regions' classes, smooth L1 of the box codes of those with an object; sums."""
        rois = as_rois([r.boxes for r in regions])
        if not len(rois):
            return untouched(self.net.box_head), untouched(self.net.box_head)
        logits, codes = self.net.box_head(self.net.sample(raw, rois, self.net.box_head.size))
        labels, wanted, own = [], [], []
        for t, r in zip(targets, regions, strict=True):
            label = torch.from_numpy(t.labels).to(rois.device)[r.owners]
            truth = torch.from_numpy(t.boxes).to(rois.device)[r.owners]
            labels.append(F.pad(label + 1, (0, len(r.boxes) - len(label))))
            own.append(label)
            wanted.append(encode(truth, r.boxes[: len(label)], ROI_WEIGHTS))
        truths = torch.cat(labels)
        category = F.cross_entropy(logits.float(), truths, reduction="sum")
        positive = torch.nonzero(truths > 0)[:, 0]
        found = codes.float()[positive, torch.cat(own)]
        return category, F.smooth_l1_loss(found, torch.cat(wanted), beta=BETA, reduction="sum")

    def _masks(
        self,
        raw: Raw,
        targets: Sequence[Targets],
        regions: Sequence[Regions],
        masked: Sequence[npt.NDArray[np.int64]],
    ) -> Tensor:
        """Cross entropy of the mask of the object's own class, mean over its grid; sum over regions."""
        head = self.net.mask_head
        assert head is not None
        device = raw.pyramid[0].device
        rows = [torch.from_numpy(index).to(device) for index in masked]
        rois = as_rois([r.boxes[index] for r, index in zip(regions, rows, strict=True)])
        if not len(rois):
            return untouched(head)
        owners = [r.owners[index].cpu().numpy() for r, index in zip(regions, rows, strict=True)]
        labels = np.concatenate([t.labels[o] for t, o in zip(targets, owners, strict=True)])
        logits = head(self.net.sample(raw, rois, head.size), torch.from_numpy(labels).to(device)).float()
        truth = torch.cat(
            [
                cut_masks(t.masks, o, r.boxes[index], logits.shape[-1])
                for t, o, r, index in zip(targets, owners, regions, rows, strict=True)
            ]
        )
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / truth[0].numel()


def as_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes of each picture, (N, 4) -> rois (R, 5)."""
    return torch.cat([F.pad(each, (1, 0), value=float(b)) for b, each in enumerate(boxes)])


def untouched(head: nn.Module) -> Tensor:
    """0, with a gradient of 0 for every parameter: no batch may leave one out."""
    return torch.stack([p.float().sum() for p in head.parameters()]).sum() * 0.0
