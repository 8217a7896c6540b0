"""onnxruntime: runs an exported graph; torch isn't needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from apiece.errors import ModelError, UsageError, did_you_mean
from apiece.models.card import METADATA_KEY, ModelCard
from apiece.models.contract import INPUT_NAME, OUTPUT_NAMES, Candidates

MAX_BYTES = 2 * 2**30  # no ONNX file can be larger
TYPES = ("tensor(float)", "tensor(int64)", "tensor(float)", "tensor(float)")


class OnnxRuntime:
    """A graph written by `apiece export`.

    path       the .onnx file.
    threads    within one run; None leaves it to onnxruntime (all cores).
    providers  onnxruntime execution providers, best first; the CPU by default.
    raises     ModelError: missing, not an ONNX model, not one of ours, or without the contract's inputs and outputs.
               UsageError: less than one thread, or a provider that this onnxruntime does not have.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads: expected at least 1, got {threads}")
        available = onnxruntime.get_available_providers()
        for provider in providers:
            if provider not in available:
                raise UsageError(f"providers: no {provider!r} here. {did_you_mean(provider, available)}")
        self.path = path = Path(path)
        if not path.is_file():
            raise ModelError(f"{path}: no such model file.")
        size = path.stat().st_size
        if size == 0 or size > MAX_BYTES:
            raise ModelError(f"{path}: {size:,} bytes; expected an ONNX model of at most {MAX_BYTES:,}.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Spinning threads burn cores that decode the next picture.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime raises a class per failure, without a common one
            raise ModelError(
                f"{path}: not an ONNX model that onnxruntime can run ({' '.join(str(error).split())[:160]}). "
                "Export it again with `apiece export`."
            ) from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"{path}: an ONNX model, but without apiece's card in its metadata, so its classes and input are "
                "unknown. Use a file written by `apiece export`."
            )
        self.card = ModelCard.from_json(metadata[METADATA_KEY], str(path))
        inputs = [(i.name, i.type, list(i.shape)[1:]) for i in self.session.get_inputs()]
        outputs = [(o.name, o.type) for o in self.session.get_outputs()]
        expected = (INPUT_NAME, "tensor(uint8)", [*self.card.input_size, 3])
        wanted = list(zip(OUTPUT_NAMES, TYPES, strict=True))
        if inputs != [expected] or outputs != wanted:
            raise ModelError(
                f"{path}: expected the input {expected} and the outputs {wanted}, found {inputs} and {outputs}. "
                "Export it again with this version."
            )

    def __call__(self, images: npt.NDArray[np.uint8]) -> Candidates:
        """See `Runtime`.

        raises  ModelError when the graph fails on these images, or its outputs break the contract.
        """
        try:
            scores, labels, boxes, masks = self.session.run(list(OUTPUT_NAMES), {INPUT_NAME: images})
        except Exception as error:  # as above
            raise ModelError(
                f"{self.path}: the network failed on images of shape {images.shape} "
                f"({' '.join(str(error).split())[:160]})."
            ) from None
        return Candidates(scores, labels, boxes, masks, self.card.mask_frame)
