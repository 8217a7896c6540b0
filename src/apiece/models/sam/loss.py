"""SAM's targets and losses: prompts simulated from objects (arXiv 2304.02643, section 3 and appendix A "Training").

Each step asks points and noisy boxes, then asks again with the answer as a previous mask and a point from where it was
wrong (the paper repeats this eleven times). Points on no object teach the IoU head to answer 0, which the automatic
mode lives on: SAM's own data never needed that, a fine-tuned small set does.

A target mask is a list of cells of the low-resolution mask grid, never a frame: focal and Dice loss are sums over all
cells as if nothing were there, corrected at those cells.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.models.network import Network
from apiece.models.sam.mask_decoder import MULTI, SINGLE, Decoded
from apiece.models.sam.net import SAM, Raw
from apiece.models.sam.prompts import INSIDE, LOWER_RIGHT, NOTHING, OUTSIDE, UPPER_LEFT

MOST = 16
"""Points on objects, boxes and points on none, each, that one picture gives to a step."""

WITHIN = 4
"""Random points within each object; the others are those of the automatic mode's grid."""

NOISE, MOST_NOISE = 0.1, 20.0
"""Of a box's corners: deviation as a share of its sides, and at most so many input pixels."""

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]


class Targets(NamedTuple):
    """Targets of one picture, at the network's input size.

    boxes      (n, 4) float32 xyxy edges, input pixels.
    cells      object -> flat indices (int64) into the mask grid; at least one.
    inside     (p, 2) float32 x, y pixel indices of points on objects, and `owners` (p,) int64 which object.
    outside    (q, 2) float32 points on no object.
    seed       of the picture's own draws, from its objects, so that it doesn't matter where in a batch it is.
    """

    boxes: Float
    cells: list[Int]
    inside: Float
    owners: Int
    outside: Float
    seed: int


def make_targets(instances: Instances, side: int, stride: int) -> Targets:
    """Of a picture of the network's input size; `side` of the automatic mode's grid, `stride` of the mask grid.

    Where objects overlap, the smallest has the grid's point. Crowd regions are no objects, and points on them are
    not asked.
    """
    height, width = instances.size
    crowd = instances.columns.get("iscrowd", np.zeros(len(instances), dtype=bool)).astype(bool)
    there = np.flatnonzero(~crowd & (instances.masks.areas > 0))
    masks = instances.masks[there]
    rows, columns = height // stride, width // stride
    cells = [
        ((np.nonzero(crop)[0] + y) * columns + np.nonzero(crop)[1] + x).astype(np.int64)
        for crop, (x, y) in masks.resize((rows, columns))
    ]
    seed = zlib.crc32(masks.boxes.tobytes()) ^ zlib.crc32(masks.areas.tobytes())
    rng = np.random.default_rng(seed)
    inside, owners = [np.zeros((0, 2))], [np.zeros(0, dtype=np.int64)]
    for i, (crop, (x, y)) in enumerate(masks):
        flat = rng.choice(np.flatnonzero(crop), WITHIN)
        inside.append(np.stack([flat % crop.shape[1] + x, flat // crop.shape[1] + y], axis=1))
        owners.append(np.full(WITHIN, i, dtype=np.int64))
    points = grid_points(side, (height, width))
    owner = owners_of(points, masks)
    on_crowd = owners_of(points, instances.masks[np.flatnonzero(crowd)]) >= 0
    inside.append(points[owner >= 0])
    owners.append(owner[owner >= 0])
    return Targets(
        masks.boxes,
        cells,
        np.concatenate(inside).astype(np.float32),
        np.concatenate(owners),
        points[(owner < 0) & ~on_crowd].astype(np.float32),
        seed,
    )


def grid_points(side: int, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """`automatic.grid` in NumPy."""
    step = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(step * size[1] - 0.5, step * size[0] - 0.5)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def owners_of(points: npt.NDArray[np.float64], masks: Masks) -> Int:
    """The smallest mask that each point (P, 2) lies on, or -1, (P,)."""
    pixel = np.floor(points + 0.5).astype(np.int64)
    owner = np.full(len(points), -1, dtype=np.int64)
    for i in np.argsort(-masks.areas, kind="stable"):
        crop, corner = masks.crop(int(i)), masks.offsets[i]
        x, y = (pixel - corner).T
        near = np.flatnonzero((x >= 0) & (y >= 0) & (x < crop.shape[1]) & (y < crop.shape[0]))
        owner[near[crop[y[near], x[near]]]] = i
    return owner


class SAMLoss:
    """Focal loss 20 : Dice loss 1 : squared error of the predicted IoU 1.

    max_masks  most prompts of a batch whose masks are in the first round of the loss, half of them points and half
               boxes, and half as many points on no object; above it a random subset, in expectation the same mean.
               None: all.
    """

    def __init__(self, net: Network, max_masks: int | None = None) -> None:
        assert isinstance(net, SAM)
        self.net = net
        self.max_masks = max_masks

    def targets(self, instances: Instances) -> Targets:
        """Targets of one picture, made in the loader's processes."""
        return make_targets(instances, self.net.automatic.side, self.net.mask_stride)

    def normalisers(self, targets: Sequence[Targets]) -> Tensor:
        """Points on objects, boxes and points on none of a batch; they add up over processes."""
        counts = [[min(n, MOST) for n in (len(t.inside), len(t.boxes), len(t.outside))] for t in targets]
        return torch.tensor(counts, dtype=torch.float32).reshape(-1, 3).sum(dim=0)

    def __call__(
        self, raw: Raw, targets: Sequence[Targets], normalisers: Tensor, processes: int = 1, seed: int = 0
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised.

        normalisers  summed over all `processes`, so that the mean of their gradients is the gradient of one
                     process with the whole batch.
        seed         picks prompts and their noise, so that a step can be repeated.
        """
        draws = [_Draw(t, seed) for t in targets]
        share = self._thin(draws, seed)
        weight = share.to(normalisers.device) * processes / normalisers.clamp(min=1)
        # Starts from zero times everything, so that a batch without objects still reaches every parameter.
        trained = [p.float().sum() for p in self.net.parameters() if p.requires_grad]
        zero = 0.0 * torch.stack(trained).sum()
        terms = {"focal": zero, "dice": zero, "iou": zero, "background": zero}
        for b, draw in enumerate(draws):
            if not len(draw.points) + len(draw.boxes) + len(draw.outside):
                continue
            one = Raw(raw.picture[b : b + 1], [m[b : b + 1] for m in raw.finer], raw.size)
            for name, value in self._picture(one, draw, weight).items():
                terms[name] = terms[name] + value
        return terms

    def _thin(self, draws: Sequence[_Draw], seed: int) -> Tensor:
        """Drop prompts beyond `max_masks` -> by how much the rest of each kind counts for more (3,)."""
        share = torch.ones(3)
        if self.max_masks is None:
            return share
        budget = max(1, self.max_masks // 2)
        rng = np.random.default_rng(seed)
        for kind, field in enumerate(("points", "boxes", "outside")):
            owner = np.repeat(np.arange(len(draws)), [len(getattr(d, field)) for d in draws])
            if len(owner) <= budget:
                continue
            share[kind] = len(owner) / budget
            kept = np.zeros(len(owner), dtype=bool)
            kept[rng.choice(len(owner), budget, replace=False)] = True
            for i, draw in enumerate(draws):
                setattr(draw, field, getattr(draw, field)[kept[owner == i]])
        return share

    def _picture(self, raw: Raw, draw: _Draw, weight: Tensor) -> dict[str, Tensor]:
        """Sums over one picture's prompts, weighted (3,): points, boxes, points on none."""
        device, t = raw.picture.device, draw.targets
        p, n = len(draw.points), len(draw.boxes)
        objects = np.concatenate([t.owners[draw.points], draw.boxes])
        cells = [t.cells[i] for i in objects]
        points = t.inside[draw.points]
        boxes = draw.noisy(t.boxes[draw.boxes], raw.size).reshape(n, 2, 2)
        outside = t.outside[draw.outside]

        # First round: every prompt is two points.
        single = np.concatenate([points, outside])
        rows = np.concatenate([np.stack([single, np.zeros_like(single)], axis=1), boxes])
        labels = np.array([[INSIDE, NOTHING]] * len(single) + [[UPPER_LEFT, LOWER_RIGHT]] * n).reshape(-1, 2)
        answer = self._prompt(raw, _tensor(rows, device)[None], _tensor(labels, device)[None])
        iou = answer.iou[0].float()
        masks = answer._replace(kernels=answer.kernels[:, :p], maps=answer.maps[:, :p]).masks(MULTI)
        asked = _Answer(masks[0].flatten(0, 1).float(), [c for c in cells[:p] for _ in range(3)])
        focal, dice = asked.focal.reshape(p, 3), asked.dice.reshape(p, 3)
        # Only the best of the three answers to a point learns the mask: they may mean different things.
        best = (20.0 * focal + dice).detach().argmin(dim=1, keepdim=True)
        start = len(single)
        boxed = answer._replace(kernels=answer.kernels[:, start:], maps=answer.maps[:, start:]).masks(SINGLE)
        clear = _Answer(boxed[0, :, 0].float(), cells[p:])
        out = {
            "focal": focal.gather(1, best).sum() * weight[0] + clear.focal.sum() * weight[1],
            "dice": dice.gather(1, best).sum() * weight[0] + clear.dice.sum() * weight[1],
            "iou": (iou[:p, MULTI] - asked.iou.reshape(p, 3)).square().mean(dim=1).sum() * weight[0]
            + (iou[start:, 0] - clear.iou).square().sum() * weight[1],
            "background": iou[p:start, MULTI].square().mean(dim=1).sum() * weight[2],
        }
        if not len(objects):
            return out

        # Second round: with the answer and a point from where it was wrong.
        previous = (
            torch.cat([masks[0][torch.arange(p, device=device), best[:, 0]], boxed[0, :, 0]]).detach().float()
        )
        wrong, kind = draw.corrections(previous, cells, self.net.mask_stride)
        rows = np.concatenate(
            [
                np.stack([points, wrong[:p], np.zeros_like(points)], axis=1),
                np.concatenate([wrong[p:, None], boxes], axis=1),
            ]
        )
        labels = np.empty((p + n, 3), dtype=np.int64)
        labels[:p] = INSIDE, NOTHING, NOTHING
        labels[:p, 1] = kind[:p]
        labels[p:] = NOTHING, UPPER_LEFT, LOWER_RIGHT
        labels[p:, 0] = kind[p:]
        answer = self._prompt(
            raw,
            _tensor(rows, device)[None],
            _tensor(labels, device)[None],
            previous[None],
            torch.ones((1, p + n), dtype=torch.bool, device=device),
        )
        again = _Answer(answer.masks(SINGLE)[0, :, 0].float(), cells)
        of = torch.cat([weight[0].expand(p), weight[1].expand(n)])
        out["focal"] = out["focal"] + (again.focal * of).sum()
        out["dice"] = out["dice"] + (again.dice * of).sum()
        out["iou"] = out["iou"] + ((answer.iou[0, :, 0].float() - again.iou).square() * of).sum()
        out["focal"] = 20.0 * out["focal"]
        return out

    def _prompt(self, *prompts: Any) -> Decoded:
        """`SAM.prompt`. Where only the decoder is trained, it is nearly all that a step keeps in memory, so it is
        computed twice instead."""
        if self.net.frozen:
            again: Decoded = checkpoint(self.net.prompt, *prompts, use_reentrant=False)
            return again
        return self.net.prompt(*prompts)


class _Draw:
    """One picture's prompts of a step: indices of its points, objects (as boxes) and points on none."""

    def __init__(self, targets: Targets, seed: int) -> None:
        self.targets = targets
        self.rng = np.random.default_rng([seed, targets.seed])
        self.points = self._some(len(targets.inside))
        self.boxes = self._some(len(targets.boxes))
        self.outside = self._some(len(targets.outside))

    def _some(self, count: int) -> Int:
        if count <= MOST:
            return np.arange(count)
        return np.sort(self.rng.choice(count, MOST, replace=False))

    def noisy(self, boxes: Float, size: tuple[int, int]) -> Float:
        """Boxes (n, 4) as a person draws them."""
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        noise = np.clip(self.rng.normal(0.0, NOISE, boxes.shape) * sides, -MOST_NOISE, MOST_NOISE)
        return np.clip(boxes + noise, 0, np.tile(size[::-1], 2)).astype(np.float32)

    def corrections(self, logits: Tensor, cells: Sequence[Int], stride: int) -> tuple[Float, Int]:
        """A random wrong cell of each answer (S, h, w) as a point (S, 2), and whether it is INSIDE or OUTSIDE; any
        cell of the object where nothing is wrong."""
        answers = (logits > 0).cpu().numpy().reshape(len(cells), -1)
        found = []
        for answer, own in zip(answers, cells, strict=True):
            missed = own[~answer[own]]
            answer[own] = False
            wrong = np.concatenate([missed, np.flatnonzero(answer)])
            missing = len(missed)
            if not len(wrong):
                wrong, missing = own, len(own)
            at = int(self.rng.integers(len(wrong)))
            found.append((int(wrong[at]), INSIDE if at < missing else OUTSIDE))
        cell, kind = np.array(found, dtype=np.int64).reshape(-1, 2).T
        width = logits.shape[-1]
        points = (np.stack([cell % width, cell // width], axis=1) + 0.5) * stride - 0.5
        return points.astype(np.float32), kind


class _Answer:
    """Mask logits (S, h, w) against the cells that should be on: focal loss (mean over the grid), Dice loss and true
    IoU of each, (S,)."""

    def __init__(self, logits: Tensor, cells: Sequence[Int]) -> None:
        x = logits.flatten(1)
        counts = np.array([len(c) for c in cells], dtype=np.int64)
        row = torch.from_numpy(np.repeat(np.arange(len(cells)), counts)).to(x.device)
        column = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *cells])).to(x.device)
        on = x[row, column]

        def summed(values: Tensor) -> Tensor:
            return torch.zeros(len(cells), device=x.device).index_add(0, row, values)

        p = x.sigmoid()
        size = torch.from_numpy(counts).to(x.device, torch.float32)
        absent = 0.75 * p.square() * F.softplus(x)
        q = on.sigmoid()
        present = 0.25 * (1 - q).square() * F.softplus(-on) - 0.75 * q.square() * F.softplus(on)
        self.focal = (absent.sum(dim=1) + summed(present)) / x.shape[1]
        self.dice = 1 - (2 * summed(q) + 1) / (p.sum(dim=1) + size + 1)
        with torch.no_grad():
            both = summed((on > 0).float())
            self.iou = both / ((x > 0).float().sum(dim=1) + size - both).clamp(min=1)


def _tensor(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
