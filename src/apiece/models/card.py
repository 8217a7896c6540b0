"""What a model is, in words and numbers: travels inside the ONNX file and beside the checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from apiece.core.classes import ClassMap
from apiece.errors import ModelError, did_you_mean
from apiece.models.contract import MaskFrame

SCHEMA = "apiece/card/1"
METADATA_KEY = "apiece"


@dataclass(frozen=True)
class ModelCard:
    """The facts that a model cannot be used without, and those that its user must know.

    name         of this model, as `apiece.load` takes it.
    family       the folder under apiece/models that built it.
    builder      the function in that family's net.py.
    classes      names and category ids.
    input_size   (height, width) of the network input, pixels. Pictures are scaled to fit and padded at the
                 right and bottom (`Frame.letterbox`); the graph takes uint8 RGB and normalises inside.
    mask_frame   see `Candidates`.
    boxes_from   "masks": an object's box is the tight box of its mask; "network": the predicted box.
    threshold    score from which a candidate counts as an object by default.
    licence      of the weights, SPDX.
    origin       where the weights come from.
    data         what they were trained on, with licence.
    metrics      measured figures, each key naming its definition.
    notes        known failures and limits, one sentence each.
    box_masks    the model predicts no outlines: every mask is its whole box, and says so.
    object_size  typical (median) diameter of the training objects at the network's input, in its pixels: that of a
                 disc of their area. None where it was not measured.
    microns      width of an input pixel in µm at which it was trained; None where unknown or mixed.
    """

    name: str
    family: str
    builder: str
    classes: ClassMap
    input_size: tuple[int, int]
    mask_frame: MaskFrame
    boxes_from: str
    threshold: float
    licence: str
    origin: str
    data: str
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    box_masks: bool = False
    object_size: float | None = None
    microns: float | None = None

    def __post_init__(self) -> None:
        if self.boxes_from not in ("masks", "network"):
            raise ModelError(
                f"card {self.name!r}: boxes_from must be 'masks' or 'network', got {self.boxes_from!r}"
            )
        if not 0.0 < self.threshold < 1.0:
            raise ModelError(f"card {self.name!r}: threshold must be between 0 and 1, got {self.threshold}")
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ModelError(f"card {self.name!r}: input_size must be (height, width), got {self.input_size}")
        for name in ("object_size", "microns"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ModelError(f"card {self.name!r}: {name} must be a number above 0 or null, got {value}")

    def to_json(self) -> str:
        """The card as one JSON document."""
        document = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        document["classes"] = self.classes.to_coco()
        return json.dumps({"schema": SCHEMA, **document}, indent=2)

    @staticmethod
    def from_json(text: str, where: str) -> ModelCard:
        """Read a card; `where` names the file in the errors.

        raises  ModelError when it is not a card, or has keys that this version does not know.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ModelError(f"{where}: the model card is not JSON ({error})") from None
        if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
            raise ModelError(
                f"{where}: expected a model card with schema {SCHEMA!r}. Export the model again."
            )
        names = {f.name for f in dataclasses.fields(ModelCard)}
        for key in document:
            if key not in names:
                raise ModelError(
                    f"{where}: the model card has an unknown key {key!r}. {did_you_mean(key, names)}"
                )
        try:
            document["classes"] = ClassMap.from_coco(document["classes"])
            document["input_size"] = tuple(int(v) for v in document["input_size"])
            document["notes"] = tuple(document.get("notes", ()))
            return ModelCard(**document)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{where}: the model card is incomplete ({error}). Export the model again."
            ) from None

    def replace(self, **changes: Any) -> ModelCard:
        """A copy with some facts changed."""
        return dataclasses.replace(self, **changes)
