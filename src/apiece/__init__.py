"""apiece: every object its own mask, and a true account of how far to trust the count.

    model = apiece.load("cells")
    found = model("plate.png")
    len(found), found.masks.areas

Names are imported when they are first used, so that `import apiece` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apiece import errors
    from apiece.core.classes import ClassMap
    from apiece.core.draw import overlay
    from apiece.core.frame import Frame
    from apiece.core.image import ImageLimits, read_image
    from apiece.core.instances import Instances
    from apiece.core.masks import Masks
    from apiece.data.coco import read_coco, read_predictions
    from apiece.data.dataset import Dataset, open_dataset
    from apiece.data.sample import Sample
    from apiece.errors import ApieceError
    from apiece.evaluate import (
        Diagnosis,
        Evaluation,
        diagnose_files,
        diagnose_instances,
        evaluate_files,
        evaluate_instances,
    )
    from apiece.models.card import ModelCard
    from apiece.models.contract import Candidates
    from apiece.models.decode import decode
    from apiece.predict.load import load, load_prompt
    from apiece.predict.predictor import Model, Result

__version__ = "0.1.0"

_HOMES = {
    "ApieceError": "apiece.errors",
    "Candidates": "apiece.models.contract",
    "ClassMap": "apiece.core.classes",
    "Dataset": "apiece.data.dataset",
    "Diagnosis": "apiece.evaluate",
    "Evaluation": "apiece.evaluate",
    "Frame": "apiece.core.frame",
    "ImageLimits": "apiece.core.image",
    "Instances": "apiece.core.instances",
    "Masks": "apiece.core.masks",
    "Model": "apiece.predict.predictor",
    "ModelCard": "apiece.models.card",
    "Result": "apiece.predict.predictor",
    "Sample": "apiece.data.sample",
    "decode": "apiece.models.decode",
    "diagnose_files": "apiece.evaluate",
    "diagnose_instances": "apiece.evaluate",
    "evaluate_files": "apiece.evaluate",
    "evaluate_instances": "apiece.evaluate",
    "load": "apiece.predict.load",
    "load_prompt": "apiece.predict.load",
    "open_dataset": "apiece.data.dataset",
    "overlay": "apiece.core.draw",
    "read_coco": "apiece.data.coco",
    "read_image": "apiece.core.image",
    "read_predictions": "apiece.data.coco",
}

__all__ = [
    "ApieceError",
    "Candidates",
    "ClassMap",
    "Dataset",
    "Diagnosis",
    "Evaluation",
    "Frame",
    "ImageLimits",
    "Instances",
    "Masks",
    "Model",
    "ModelCard",
    "Result",
    "Sample",
    "__version__",
    "decode",
    "diagnose_files",
    "diagnose_instances",
    "errors",
    "evaluate_files",
    "evaluate_instances",
    "load",
    "load_prompt",
    "open_dataset",
    "overlay",
    "read_coco",
    "read_image",
    "read_predictions",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("apiece.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'apiece' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
