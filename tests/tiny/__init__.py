"""Networks of a few thousand weights, at least one for each family, for tests that must be quick."""

from __future__ import annotations

import importlib

# Name of the tiny network -> family, which is also the module here that builds it. A module is imported only when
# one of its networks is wanted.
FAMILY_OF = {
    "faster_rcnn": "mask_rcnn",
    "mask2former": "mask2former",
    "mask2former_light": "mask2former",
    "mask_rcnn": "mask_rcnn",
    "mask_rcnn_v2": "mask_rcnn",
    "sam": "sam",
    "sam_local": "sam",
    "semantic": "semantic",
    "solov2": "solov2",
    "solov2_dense": "solov2",
    "yolact": "yolact",
}


def build(name: str, classes: int = 1):
    """A tiny network with random weights."""
    return importlib.import_module(f"tiny.{FAMILY_OF[name]}").BUILDERS[name](classes)


def confident(name: str, net):
    """Raise the score biases, so that an untrained network has candidates to compare."""
    return importlib.import_module(f"tiny.{FAMILY_OF[name]}").confident(net)
