"""A network as an ONNX graph with the contract's signature."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from apiece.models import nms, roi_align
from apiece.models.contract import INPUT_NAME, OUTPUT_NAMES
from apiece.models.network import Network
from apiece.models.tensors import CandidateTensors

OPSET = 20


class Graph(nn.Module):
    """The network with the graph's input: uint8 (B, H, W, 3)."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> CandidateTensors:
        """Interleaved bytes -> candidates."""
        found: CandidateTensors = self.net(images.permute(0, 3, 1, 2).float())
        return found


def to_onnx(net: Network, input_size: tuple[int, int], path: Path) -> None:
    """Write the graph for inputs of this (height, width), any batch; without card and without proof."""
    height, width = input_size
    example = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    graph = Graph(net.eval())
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                custom_translation_table=nms.translations() | roi_align.translations(),
                optimize=True,
                verbose=False,
            )
        finally:
            logging.root.setLevel(level)
    assert program is not None
    program.save(str(path))
