"""What every network returns for a batch of pictures, whichever family it belongs to.

The same five names are the outputs of every exported ONNX graph, so that one decoder serves torch,
ONNX Runtime and any foreign model wrapped to this signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from apiece.errors import ModelError

MaskFrame = Literal["box", "image"]

INPUT_NAME = "images"
OUTPUT_NAMES = ("scores", "labels", "boxes", "masks")


@dataclass(frozen=True)
class Candidates:
    """At most K candidates per picture, in fixed shapes; empty slots have score 0.

    scores      (B, K) float32 in [0, 1], descending within a picture.
    labels      (B, K) int64, contiguous from 0.
    boxes       (B, K, 4) float32, xyxy in pixels of the network input.
    masks       (B, K, h, w) float32 logits; a pixel belongs to the object where the logit is > 0.
    mask_frame  "box": the h × w grid spans the candidate's box (Mask R-CNN); "image": it spans the whole
                network input (YOLACT, SOLOv2, Mask2Former, SAM). Grid cell (i, j) covers the continuous
                interval [j, j + 1) × [i, i + 1) of the grid, so its centre is at (j + 0.5, i + 0.5).
    raises      ModelError when the shapes do not agree or a value is not finite.
    """

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    masks: npt.NDArray[np.float32]
    mask_frame: MaskFrame

    def __post_init__(self) -> None:
        if self.mask_frame not in get_args(MaskFrame):
            raise ModelError(f"mask_frame: expected one of {get_args(MaskFrame)}, got {self.mask_frame!r}")
        if self.scores.ndim != 2:
            raise ModelError(f"scores: expected shape (B, K), got {self.scores.shape}")
        batch, k = self.scores.shape
        expected = {"labels": (batch, k), "boxes": (batch, k, 4)}
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ModelError(f"{name}: expected shape {shape} to go with scores {(batch, k)}, got {got}")
        if self.masks.ndim != 4 or self.masks.shape[:2] != (batch, k):
            raise ModelError(f"masks: expected shape ({batch}, {k}, h, w), got {self.masks.shape}")
        for name in ("scores", "boxes"):
            if not np.isfinite(getattr(self, name)).all():
                raise ModelError(
                    f"{name}: expected finite numbers, got NaN or infinity from the network. "
                    "Its weights are damaged, or it overflows in this precision."
                )

    def __len__(self) -> int:
        """Pictures in the batch."""
        return int(self.scores.shape[0])

    @property
    def capacity(self) -> int:
        """K, the most candidates that a picture can have."""
        return int(self.scores.shape[1])
