"""SAM as two ONNX graphs, so that one embedding serves many prompts: `apiece.predict.prompt` runs them without torch.

encoder  images uint8 (B, H, W, 3) -> embedding (B, C, h, w), and finer_0, finer_1 where the network has finer maps.
decoder  one picture's embedding (and finer maps), with P prompts:
         points (P, N, 2) float32    x, y pixel indices of the input; box corners are points too.
         point_labels (P, N) int64   -1 nothing, 0 outside, 1 inside, 2 upper left, 3 lower right corner.
         previous (P, m, n) float32  mask logits of an earlier answer, read only where has_previous (P,) bool.
         multimask (P,) bool         three masks, best first, instead of one.
         -> the contract's scores, labels, boxes and masks with P in the batch's place and K = 3 (scores of unused
         slots are 0), and iou (P, 3) float32: predicted IoU as the network has it, not cut to 0…1.
`apiece.models.to_onnx` writes the automatic mode as one graph, like any other family's network.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from apiece.models.card import METADATA_KEY, ModelCard
from apiece.models.contract import INPUT_NAME, OUTPUT_NAMES
from apiece.models.layers import mask_boxes, top
from apiece.models.sam.mask_decoder import MULTI, SINGLE
from apiece.models.sam.net import SAM, Raw
from apiece.models.sam.prompt_encoder import points_and_boxes
from apiece.models.sam.prompts import DECODER, ENCODER, MASKS, PART_KEY, PROMPT_INPUTS
from apiece.models.to_onnx import OPSET


class EncoderGraph(nn.Module):
    """The embedding of pictures."""

    def __init__(self, net: SAM) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the module."""
        raw = self.net.raw(images.permute(0, 3, 1, 2).float())
        return (raw.picture, *raw.finer)


class DecoderGraph(nn.Module):
    """Answers to prompts on one picture of `size` (height, width)."""

    def __init__(self, net: SAM, size: tuple[int, int]) -> None:
        super().__init__()
        self.net = net
        self.size = size

    def forward(
        self,
        maps: list[Tensor],
        points: Tensor,
        labels: Tensor,
        previous: Tensor,
        has_previous: Tensor,
        multimask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """See the module."""
        raw = Raw(maps[0], maps[1:], self.size)
        answer = self.net.prompt(raw, points[None], labels[None], previous[None], has_previous[None])
        every = answer.iou[0].float()
        _, best = top(every[:, MULTI], MASKS)
        slot = torch.arange(MASKS, device=best.device)
        token = torch.where(multimask[:, None], best + 1, slot)
        iou = every.gather(1, token)
        used = multimask[:, None] | (slot == 0)
        score = iou.clamp(0.0, 1.0) * used.float()
        kernels = answer.kernels[0].gather(1, token[..., None].expand(-1, -1, answer.kernels.shape[-1]))
        masks = answer._replace(kernels=kernels[None]).masks(slice(None))[0].float()
        boxes = mask_boxes((masks > 0).float()) * self.net.mask_stride
        return score, torch.zeros_like(token), boxes, masks, iou


def write_prompt_graphs(net: SAM, card: ModelCard, encoder: Path, decoder: Path) -> None:
    """Write both graphs for inputs of the card's size, each with the card and which part it is."""
    net = net.eval()
    height, width = card.input_size
    images = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    graph = EncoderGraph(net)
    with torch.no_grad():
        maps = [m[:1].contiguous() for m in graph(images)]
    names = ["embedding", *(f"finer_{i}" for i in range(len(maps) - 1))]
    batch = torch.export.Dim("batch", min=1)
    _write(graph, (images,), {"images": {0: batch}}, [INPUT_NAME], names, encoder, card, ENCODER)

    rows, columns = height // net.mask_stride, width // net.mask_stride
    example = (
        maps,
        torch.zeros((2, 3, 2)),
        torch.ones((2, 3), dtype=torch.int64),
        torch.zeros((2, rows, columns)),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, dtype=torch.bool),
    )
    prompts, points = torch.export.Dim("prompts", min=1), torch.export.Dim("points", min=1)
    dynamic = {
        "maps": [None] * len(maps),
        "points": {0: prompts, 1: points},
        "labels": {0: prompts, 1: points},
        "previous": {0: prompts},
        "has_previous": {0: prompts},
        "multimask": {0: prompts},
    }
    outputs = [*OUTPUT_NAMES, "iou"]
    _write(
        DecoderGraph(net, (height, width)),
        example,
        dynamic,
        [*names, *PROMPT_INPUTS],
        outputs,
        decoder,
        card,
        DECODER,
    )


@torch.inference_mode()
def answers_to_boxes(
    net: SAM, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The network's own answers, for comparison: a picture of the input's size (H, W, 3) and boxes (P, 4) -> mask
    logits (P, m, n)."""
    raw = net.raw(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    prompts = points_and_boxes(None, None, torch.from_numpy(boxes.copy())[None])
    logits: npt.NDArray[np.float32] = net.prompt(raw, *prompts).masks(SINGLE)[0, :, 0].numpy()
    return logits


def _write(
    graph: nn.Module,
    example: tuple[Any, ...],
    dynamic: dict[str, Any],
    inputs: list[str],
    outputs: list[str],
    path: Path,
    card: ModelCard,
    part: str,
) -> None:
    level = logging.root.level
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.root.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                graph.eval(),
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=dynamic,
                optimize=True,
                verbose=False,
            )
        finally:
            logging.root.setLevel(level)
    assert program is not None
    program.save(str(path))
    model = onnx.load(str(path))
    for key, value in ((METADATA_KEY, card.to_json()), (PART_KEY, part)):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.producer_name = "apiece"
    onnx.save(model, str(path))
