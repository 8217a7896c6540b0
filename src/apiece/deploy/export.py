"""`apiece export`: a trained network -> one ONNX file that carries its card, and equals its source or isn't written.

The graph takes uint8 RGB (B, H, W, 3) of the card's input size, any B, and returns the four outputs of the contract.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from apiece.core.frame import Frame
from apiece.core.image import find_images, read_image
from apiece.data.synthetic import discs
from apiece.deploy.parity import FLOAT32, INT8, Parity, Tolerance, compare
from apiece.deploy.quantize import quantize
from apiece.errors import ExportError, UsageError
from apiece.models.card import METADATA_KEY, ModelCard
from apiece.models.sam.net import SAM
from apiece.models.sam.to_onnx import answers_to_boxes, write_prompt_graphs
from apiece.models.to_onnx import to_onnx
from apiece.predict.prompt import PromptModel
from apiece.predict.runtime_onnx import OnnxRuntime
from apiece.predict.runtime_torch import TorchRuntime


def export(
    model: Path,
    out: Path,
    int8: bool = False,
    calibrate: Path | None = None,
    images: Path | None = None,
) -> Parity:
    """Write `out`, then prove that it equals `model` on pictures, an empty one among them.

    model      a run's folder, or its weights.safetensors.
    int8       quantise convolutions to int8 weights and uint8 activations; needs `calibrate`.
    calibrate  pictures (a folder) that set the activations' ranges: training pictures, never held-out ones.
    images     pictures (a folder) for the proof; synthetic scenes when None.
    raises     ExportError when scores, boxes or decoded masks differ beyond the tolerance; `out` is then not written.
    """
    if int8 and calibrate is None:
        raise UsageError("--int8 needs --calibrate, a folder of training pictures that sets the ranges")
    if out.suffix != ".onnx":
        raise UsageError(f"--out: expected a name that ends in .onnx, got {out}")
    source = TorchRuntime(model)
    card = source.card
    pictures = _inputs(card, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".part.onnx")
    try:
        to_onnx(source.net, card.input_size, temporary)
        write_card(temporary, card)
        if int8:
            assert calibrate is not None
            quantize(temporary, _batch_of(card, find_images([calibrate])[:CALIBRATION_PICTURES]))
            card = card.replace(
                notes=(*card.notes, "int8: convolutions have int8 weights and uint8 activations.")
            )
            write_card(temporary, card)
        tolerance: Tolerance = INT8 if int8 else FLOAT32
        parity = compare(source, OnnxRuntime(temporary), pictures, tolerance)
        if not parity.passed:
            raise ExportError(
                f"{out} was not written: the exported graph differs from {model} beyond the tolerance.\n"
                + parity.to_text()
            )
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return parity


def export_prompts(model: Path, out: Path) -> tuple[Path, Path]:
    """Write the two graphs of a promptable network beside `out`, for `apiece.predict.prompt.PromptModel`.

    model    a run's folder, or its weights.safetensors, of the family sam.
    out      NAME.onnx gives NAME.encoder.onnx and NAME.decoder.onnx.
    returns  both paths.
    raises   UsageError when the family takes no prompts; ExportError when answers differ from the network's beyond
             rounding; neither file is then written.
    """
    source = TorchRuntime(model)
    if not isinstance(source.net, SAM):
        raise UsageError(f"{model}: the family {source.card.family} takes no prompts; expected one of sam")
    paths = out.with_suffix(".encoder.onnx"), out.with_suffix(".decoder.onnx")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".part-") as part:
        encoder, decoder = (Path(part) / path.name for path in paths)
        write_prompt_graphs(source.net, source.card, encoder, decoder)
        worst = _prompt_difference(source.net, encoder, decoder)
        if worst > PROMPT_TOLERANCE:
            raise ExportError(
                f"{paths[0]} was not written: the answers to prompts differ from those of {model} by {worst:.1e} of "
                f"the largest logit (tolerance {PROMPT_TOLERANCE:.0e})."
            )
        encoder.replace(paths[0])
        decoder.replace(paths[1])
    return paths


PROMPT_TOLERANCE = 1e-3


def _prompt_difference(net: SAM, encoder: Path, decoder: Path) -> float:
    """Worst difference of mask logits, relative to the largest, over boxes on a synthetic scene.

    raises  ExportError when one side draws a mask where the other has none, or neither draws any.
    """
    model = PromptModel(encoder, decoder)
    scene = discs(np.random.default_rng(0), model.card.input_size, count=8)
    found = model.embed(scene.image).segment(boxes=scene.instances.boxes)
    expected = answers_to_boxes(net, scene.image, scene.instances.boxes)
    answered = found.columns["prompt"].tolist()
    if not answered or any((expected[i] > 1e-2).any() for i in set(range(len(expected))) - set(answered)):
        raise ExportError(
            f"{encoder}: {len(answered)} of {len(expected)} boxes were answered with a mask, so that equality could "
            "not be shown. Train the network first; if it is trained, the export is wrong."
        )
    own = expected[answered]
    return float(np.abs(found.columns["logits"] - own).max() / np.abs(own).max())


CALIBRATION_PICTURES = 64


def write_card(path: Path, card: ModelCard) -> None:
    """Put the card into an ONNX file's metadata, in place of the one that is there."""
    model = onnx.load(str(path))
    kept = [(p.key, p.value) for p in model.metadata_props if p.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (METADATA_KEY, card.to_json())]:
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.producer_name = "apiece"
    onnx.save(model, str(path))


def _inputs(card: ModelCard, images: Path | None) -> npt.NDArray[np.uint8]:
    """Network inputs for the proof (B, H, W, 3): an empty picture, noise, and pictures with objects."""
    rng = np.random.default_rng(0)
    height, width = card.input_size
    empty = np.zeros((1, height, width, 3), dtype=np.uint8)
    noise = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    if images is None:
        scenes = np.stack([discs(rng, card.input_size, count=n).image for n in (5, 40, 120)])
    else:
        scenes = _batch_of(card, find_images([images])[:16])
    return np.concatenate([empty, noise, scenes])


def _batch_of(card: ModelCard, paths: Sequence[Path]) -> npt.NDArray[np.uint8]:
    if not paths:
        raise UsageError("expected a folder with at least one picture to export with, found none")
    batch = []
    for path in paths:
        image = read_image(path)
        batch.append(Frame.letterbox((image.shape[0], image.shape[1]), card.input_size).apply(image))
    return np.stack(batch)
