"""torch: runs a trained network as it is, for comparison with its export. Needs the [train] extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from apiece.errors import ModelError
from apiece.models import zoo
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.train.checkpoint import load_weights


class TorchRuntime:
    """The folder of a training run, or its weights.safetensors with card.json beside it.

    raises  ModelError when weights or card are missing or don't belong together.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu") -> None:
        path = Path(path)
        weights = path / "weights.safetensors" if path.is_dir() else path
        card = weights.with_name("card.json")
        for needed in (weights, card):
            if not needed.is_file():
                raise ModelError(
                    f"{needed}: not found; expected a training run with weights.safetensors and card.json."
                )
        self.card = ModelCard.from_json(card.read_text(encoding="utf-8"), str(card))
        self.net = zoo.build(self.card.family, self.card.builder, len(self.card.classes)).eval()
        load_weights(weights, self.net)
        self.path = weights
        self.device = torch.device(device)
        self.net.to(self.device)

    def __call__(self, images: npt.NDArray[np.uint8]) -> Candidates:
        """See `Runtime`."""
        with torch.inference_mode():
            found = self.net(torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float())
        return Candidates(
            found.scores.cpu().numpy(),
            found.labels.cpu().numpy(),
            found.boxes.cpu().numpy(),
            found.masks.cpu().numpy(),
            self.card.mask_frame,
        )
