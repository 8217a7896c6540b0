"""What the predictor needs of an engine that runs a network."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from apiece.models.card import ModelCard
from apiece.models.contract import Candidates


class Runtime(Protocol):
    """A loaded network and its card."""

    card: ModelCard

    def __call__(self, images: npt.NDArray[np.uint8]) -> Candidates:
        """Network inputs uint8 (B, H, W, 3), RGB, of the card's input size -> candidates."""
