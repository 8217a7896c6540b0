"""`apiece.load`: a model by name or path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from apiece.errors import ModelError, WeightsError, did_you_mean
from apiece.models.zoo import ENTRIES
from apiece.predict.predictor import Model
from apiece.predict.runtime import Runtime

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def load(name: str | Path, *, threads: int | None = None) -> Model:
    """A model that is ready for pictures.

    name     a bundled model ("cells"), an .onnx file written by `apiece export`, or a training run's folder or
             weights.safetensors (these two need the [train] extra).
    threads  of one run on the CPU; None for all cores.
    raises   ModelError when there is no such model, WeightsError when a bundled file is damaged.
    """
    path = Path(name)
    if path.suffix == ".onnx":
        from apiece.predict.runtime_onnx import OnnxRuntime

        return Model(OnnxRuntime(path, threads=threads))
    if path.suffix == ".safetensors" or path.is_dir():
        return Model(_torch(path))
    bundled = [entry.name for entry in ENTRIES if entry.bundled]
    if str(name) in bundled:
        from apiece.predict.runtime_onnx import OnnxRuntime

        return Model(OnnxRuntime(checked(str(name)), threads=threads))
    for entry in ENTRIES:
        if entry.name == str(name):
            raise ModelError(f"{name}: apiece has this network but no weights for it ({entry.weights}).")
    raise ModelError(
        f"no model {str(name)!r}: expected a bundled name, an .onnx file or a training run's folder. "
        f"{did_you_mean(str(name), [*bundled, *(e.name for e in ENTRIES)])}"
    )


def checked(name: str) -> Path:
    """The file of a bundled model, its SHA-256 compared with the one recorded beside it."""
    path = WEIGHTS / f"{name}.onnx"
    record = WEIGHTS / f"{name}.json"
    if not path.is_file() or not record.is_file():
        raise WeightsError(
            f"{path}: the bundled model is missing; this installation is not whole. Install apiece again."
        )
    expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise WeightsError(
            f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…: the file is damaged or was changed. "
            "Install apiece again."
        )
    return path


def _torch(path: Path) -> Runtime:
    try:
        from apiece.predict.runtime_torch import TorchRuntime
    except ImportError:
        raise ModelError(f"{path}: a training run needs torch. Run: pip install 'apiece[train]'") from None
    return TorchRuntime(path)
