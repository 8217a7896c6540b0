"""Figures of a network on held-out pictures, at the pictures' own resolution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from apiece.core.frame import Frame
from apiece.core.instances import Instances
from apiece.data.dataset import Dataset
from apiece.evaluate import evaluate_instances
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.models.decode import decode
from apiece.models.network import Network

LOWEST = 0.05
"""Candidates below this score do not enter AP; they would only lengthen the tail of the curve."""


def predict(
    net: Network, card: ModelCard, data: Dataset, precision: str
) -> Iterator[tuple[Instances, Instances]]:
    """(truth, prediction) of every picture, one forward pass each."""
    device = next(net.parameters()).device
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    for sample in data:
        frame = Frame.letterbox(sample.size, card.input_size)
        image = torch.from_numpy(np.ascontiguousarray(frame.apply(sample.image).transpose(2, 0, 1)))[None].to(
            device
        )
        image = image.float().contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            found = net(image)
        candidates = Candidates(
            scores=found.scores.float().cpu().numpy(),
            labels=found.labels.cpu().numpy(),
            boxes=found.boxes.float().cpu().numpy(),
            masks=found.masks.float().cpu().numpy(),
            mask_frame=card.mask_frame,
        )
        yield (
            sample.instances,
            decode(
                candidates,
                0,
                frame,
                card.classes,
                threshold=LOWEST,
                boxes_from=card.boxes_from,
                box_masks=card.box_masks,
            ).instances,
        )


def validate(net: Network, card: ModelCard, data: Dataset, precision: str = "32-true") -> dict[str, float]:
    """AP without a cap on objects (of masks; of boxes where the network predicts no outlines), AP50, and the counting
    error at the score 0.5."""
    pairs = list(predict(net, card, data, precision))
    figures = evaluate_instances([truth for truth, _ in pairs], [found for _, found in pairs], threshold=0.5)
    precision_of = figures.bbox_uncapped if card.box_masks else figures.segm_uncapped
    return {
        "AP": precision_of["AP"],
        "AP50": precision_of["AP50"],
        "count_MAE": figures.count["MAE"],
        "count_relative": figures.count["relative"],
    }
