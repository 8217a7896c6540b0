"""Static int8 for ONNX graphs, by onnxruntime's quantiser: convolutions only, uint8 activations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apiece.models.contract import INPUT_NAME


def quantize(path: Path, images: npt.NDArray[np.uint8]) -> None:
    """Quantise the graph at `path` in place, ranges from network inputs (B, H, W, 3).

    Weights are int8 per channel, activations uint8: on CPUs without VNNI int8 activations saturate, and with it
    they are slower. Everything but convolutions stays float32: selection and mask products need it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.rest, None)
            return None if image is None else {INPUT_NAME: image[None]}

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    prepared = path.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.root.setLevel(level)
        prepared.unlink(missing_ok=True)
