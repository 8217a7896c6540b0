"""Which models there are: names, sizes, licences, and where their weights come from."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apiece.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from apiece.models.network import Network


@dataclass(frozen=True)
class Entry:
    """One line of `apiece models`.

    name        as `apiece.load` (where bundled) or a recipe's `builder` takes it.
    family      folder under apiece/models.
    parameters  millions, with one class.
    weights     "bundled" when the wheel carries them, else how to get them.
    licence     of the weights; of the code where there are none.
    origin      who made them, from what.
    """

    name: str
    family: str
    builder: str
    parameters: float
    weights: str
    licence: str
    origin: str

    @property
    def bundled(self) -> bool:
        """Whether the wheel carries the weights."""
        return self.weights == "bundled"


FAMILIES = ("mask_rcnn", "yolact", "solov2", "mask2former", "sam", "semantic")

ENTRIES = (
    Entry(
        "cells",
        "solov2",
        "solov2_dense",
        4.1,
        "bundled",
        "Apache-2.0",
        "recipes/cells.yaml on BBBC038 (CC0), from ImageNet EfficientNet-Lite0",
    ),
    Entry(
        "solov2-dense",
        "solov2",
        "solov2_dense",
        4.1,
        "train: model.builder: solov2_dense",
        "Apache-2.0",
        "ours",
    ),
    Entry(
        "solov2-r18-light",
        "solov2",
        "solov2_r18_light",
        13.0,
        "train: model.builder: solov2_r18_light",
        "Apache-2.0",
        "arXiv 2003.10152, table 7",
    ),
    Entry(
        "solov2-r50",
        "solov2",
        "solov2_r50",
        46.2,
        "train: model.builder: solov2_r50; published ones convert with apiece.models.solov2.weights",
        "Apache-2.0 (published weights: non-commercial)",
        "arXiv 2003.10152, table 1",
    ),
)


def build(family: str, builder: str, classes: int) -> Network:
    """A network with random weights: the function `builder` of the family's net.py. Imports torch.

    raises  ModelError when family or builder is unknown.
    """
    if family not in FAMILIES:
        raise ModelError(f"family: no family {family!r}. {did_you_mean(family, FAMILIES)}")
    builders = {entry.builder for entry in ENTRIES if entry.family == family}
    if builder not in builders:
        raise ModelError(
            f"builder: the family {family} has no {builder!r}. {did_you_mean(builder, builders)}"
        )
    module = importlib.import_module(f"apiece.models.{family}.net")
    net: Network = getattr(module, builder)(classes)
    return net
