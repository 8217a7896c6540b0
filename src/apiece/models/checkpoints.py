"""Other people's checkpoint files: read without running code from them, and turned into a network of ours."""

from __future__ import annotations

import collections
import importlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from apiece.errors import WeightsError
from apiece.models import zoo
from apiece.models.network import Network
from apiece.models.published import Published


def download(address: str, path: Path) -> None:
    """Fetch one file with torch.hub; a broken transfer leaves nothing at `path`."""
    torch.hub.download_url_to_file(address, str(path), progress=True)


def read_state(path: Path, key: str = "") -> dict[str, Tensor]:
    """The state dict in a checkpoint: safetensors, a file of torch (weights_only), or a pickle of NumPy arrays.

    key     the entry of the file that holds it; "" when the file is the state dict.
    raises  WeightsError when it is none of these, or names anything beside tensors, arrays and plain values.
    """
    if path.suffix == ".safetensors":
        return _tensors(_read(path, load_file), path)
    document = _read(path, _arrays_only if path.suffix == ".pkl" else _weights_only)
    if key:
        if not isinstance(document, Mapping) or key not in document:
            raise WeightsError(f"{path}: expected a checkpoint with the entry {key!r}, found none.")
        document = document[key]
    return _tensors(document, path)


def network_of(entry: Published, path: Path) -> Network:
    """The published network with its weights, ready for inference.

    raises  WeightsError when the file holds another network.
    """
    module, function = entry.converter.split(":")
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    convert = getattr(importlib.import_module(module), function)
    net = zoo.build(entry.family, entry.builder, len(entry.classes))
    state = convert(read_state(path, entry.key))
    own = net.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own or state[name].shape != own[name].shape:
            shapes = [tuple(s[name].shape) if name in s else "nothing" for s in (own, state)]
            raise WeightsError(
                f"{path}: these are not the weights of {entry.name}: {name!r} should be {shapes[0]}, the file has "
                f"{shapes[1]}."
            )
    net.load_state_dict(state)
    return net.eval()


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except Exception as error:  # readers raise many kinds on damaged or hostile files
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{path}: not a checkpoint that can be read without running code from it ({type(error).__name__}: "
            f"{reason}). Delete it and fetch it again."
        ) from None


def _weights_only(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


class _ArraysOnly(pickle.Unpickler):
    """What torch's weights_only is for its own files, for a plain pickle of NumPy arrays (detectron2's .pkl)."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("collections", "OrderedDict"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Refuses everything but the makers of arrays and dictionaries."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in weights")
        if name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # NumPy 1 and 2 call its module by different names
        return collections.OrderedDict if module == "collections" else getattr(np, name)


def _arrays_only(path: Path) -> Any:
    with path.open("rb") as file:
        return _ArraysOnly(file).load()


def _tensors(state: Any, path: Path) -> dict[str, Tensor]:
    """Checked, with arrays as tensors."""
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path}: expected names and tensors, found {type(state).__name__}.")
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(np.array(value))
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path}: {name!r} is {type(value).__name__}, expected a tensor.")
        tensors[str(name)] = value
    return tensors
