"""`apiece.load`: a model by name or path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from apiece.errors import ModelError, UsageError, WeightsError, did_you_mean
from apiece.models.published import PUBLISHED, find
from apiece.models.zoo import ENTRIES
from apiece.predict.predictor import Model
from apiece.predict.runtime import Runtime

if TYPE_CHECKING:
    from apiece.predict.prompt import PromptModel

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def load(name: str | Path, *, threads: int | None = None) -> Model:
    """A model that is ready for pictures.

    name     a bundled model ("cells"), a published one ("mask-rcnn-r50-coco"), an .onnx file written by
             `apiece export`, or a training run's folder or weights.safetensors (these two need the [train] extra).
             A bundled or published name means that model even where a folder of that name is at hand; "./cells"
             means the folder. A published model is fetched and converted when it is first asked for, which needs
             the [train] extra and a network once (see `apiece.predict.fetch`).
    threads  of one run on the CPU; None for all cores. For ONNX only.
    raises   ModelError when there is no such model, WeightsError when a bundled file is damaged, or published weights
             can't be fetched or are not what they should be.
    """
    path = Path(name)
    bundled = [entry.name for entry in ENTRIES if entry.bundled]
    if isinstance(name, str) and name in bundled:
        return _onnx(checked(name), threads)
    if isinstance(name, str) and (published := find(name)):
        from apiece.predict.fetch import fetched

        path = fetched(published)
    if path.suffix.lower() == ".onnx":
        return _onnx(path, threads)
    if path.suffix.lower() == ".safetensors" or path.is_dir():
        if threads is not None:
            raise UsageError(f"threads: {path} runs in torch; set them with torch.set_num_threads.")
        return Model(_torch(path))
    for entry in ENTRIES:
        if entry.name == str(name):
            raise ModelError(f"{name}: apiece has this network but no weights for it ({entry.weights}).")
    raise ModelError(
        f"no model {str(name)!r}: expected a bundled or published name, an .onnx file or a training run's folder. "
        f"{did_you_mean(str(name), {entry.name for entry in (*ENTRIES, *PUBLISHED)})}"
    )


def load_prompt(name: str, *, threads: int | None = None) -> PromptModel:
    """A published model that answers points, boxes and masks ("sam-vit-b", "mobile-sam").

    Fetched and converted like `load`'s. For two graphs of your own use `apiece.predict.prompt.PromptModel`.
    threads  of one run on the CPU; None for all cores.
    raises   ModelError when the name means no promptable model, WeightsError as `load`.
    """
    published = find(name)
    if published is None:
        known = [entry.name for entry in PUBLISHED if entry.family == "sam"]
        raise ModelError(f"no promptable model {name!r}. {did_you_mean(name, known)}")
    from apiece.predict.fetch import fetched_prompt
    from apiece.predict.prompt import PromptModel

    return PromptModel(*fetched_prompt(published), threads=threads)


def checked(name: str) -> Path:
    """The file of a bundled model, its SHA-256 compared with the one recorded beside it."""
    path = WEIGHTS / f"{name}.onnx"
    record = WEIGHTS / f"{name}.json"
    if not path.is_file() or not record.is_file():
        raise WeightsError(
            f"{path}: the bundled model is missing; this installation is not whole. Install apiece again."
        )
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{record}: holds no SHA-256 to compare with. Install apiece again.") from None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise WeightsError(
            f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…: the file is damaged or was changed. "
            "Install apiece again."
        )
    return path


def _onnx(path: Path, threads: int | None) -> Model:
    # Imported late: onnxruntime takes a tenth of a second, and `apiece.load` may yet fail on the name alone.
    from apiece.predict.runtime_onnx import OnnxRuntime

    return Model(OnnxRuntime(path, threads=threads))


def _torch(path: Path) -> Runtime:
    try:
        from apiece.predict.runtime_torch import TorchRuntime

        return TorchRuntime(path)
    except ImportError as error:
        missing = error.name or "torch"
        raise ModelError(
            f"{path}: a training run needs {missing}. Run: pip install 'apiece[train]'"
        ) from None
