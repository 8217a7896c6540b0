"""The baseline's targets and losses: cross-entropy of every pixel, and Dice of every class in a picture.

The logits are interpolated to half their stride first, as the decoder interpolates them later: so they learn where
an outline runs between two of their pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from apiece.core.instances import Instances
from apiece.models.layers import resize
from apiece.models.network import Network
from apiece.models.semantic.net import Semantic

IGNORED = -1
"""Label of pixels that belong to crowd regions alone: they teach nothing."""

Labels = npt.NDArray[np.int16]


def label_map(instances: Instances, size: tuple[int, int]) -> Labels:
    """Class + 1 of every pixel of a map of `size`, 0 for background, `IGNORED` for crowd regions.

    Objects are reduced by area, and one too thin for that keeps its best-covered pixel, so none gets lost (see
    `Masks.resize`). Where objects overlap, the smaller one wins, of equals the later. Costs the objects' own areas.
    """
    labels = np.zeros(size, dtype=np.int16)
    crowd = instances.columns.get("iscrowd", np.zeros(len(instances), dtype=bool)).astype(bool)
    masks = instances.masks.resize(size)
    # Largest first, so that later ones paint over it; crowd regions before all.
    for i in np.lexsort((-masks.areas, ~crowd)):
        bits, (x, y) = masks.crop(i), masks.offsets[i]
        window = labels[y : y + bits.shape[0], x : x + bits.shape[1]]
        window[bits] = IGNORED if crowd[i] else instances.class_ids[i] + 1
    return labels


class SemanticLoss:
    """Loss terms of a batch: `pixel` (cross-entropy, mean over pixels) and `class` (Dice, mean over pairs of a picture
    and a class that occurs in it).

    net        whose stride the targets follow.
    max_masks  has no bearing here: the cost does not depend on the number of objects.
    """

    def __init__(self, net: Network, max_masks: int | None = None) -> None:
        assert isinstance(net, Semantic)
        self.stride = net.stride // 2

    def targets(self, instances: Instances) -> Labels:
        """Label map of one picture at half the logits' stride, made in the loader's processes."""
        height, width = instances.size
        return label_map(instances, (height // self.stride, width // self.stride))

    def normalisers(self, targets: Sequence[Labels]) -> Tensor:
        """Pixels that teach, and pairs of a picture and a class in it; they add up over processes."""
        pixels = sum(int((t != IGNORED).sum()) for t in targets)
        return torch.tensor([pixels, sum(len(_present(t)) for t in targets)], dtype=torch.float32)

    def __call__(
        self, raw: Tensor, targets: Sequence[Labels], normalisers: Tensor, processes: int = 1, seed: int = 0
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised.

        normalisers  summed over all `processes`, so that the mean of their gradients is the gradient of one
                     process with the whole batch.
        """
        labels = torch.from_numpy(np.stack(targets)).to(raw.device).long()
        logits = resize(raw.float(), (labels.shape[1], labels.shape[2]))
        pixels, pairs = normalisers.unbind()
        pixel = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        # Starts from zero times everything, so that a batch without objects still reaches every parameter.
        dice = 0.0 * raw.float().sum()
        norm = logits.logsumexp(dim=1)
        for b, target in enumerate(targets):
            taught = labels[b] != IGNORED
            for kind in _present(target):
                p = torch.exp(logits[b, kind] - norm[b]) * taught
                q = labels[b] == kind
                dice = dice + 1.0 - 2.0 * (p * q).sum() / (p.square().sum() + q.sum() + 0.001)
        return {
            "pixel": pixel * processes / pixels.clamp(min=1),
            "class": dice * processes / pairs.clamp(min=1),
        }


def _present(labels: Labels) -> list[int]:
    """Labels of the classes that occur."""
    values = np.unique(labels)
    return [int(v) for v in values if v > 0]
