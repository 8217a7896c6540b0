"""Checkpoints: everything that the next step depends on, written so that a kill at any moment loses none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from apiece.errors import WeightsError


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name, then rename: a reader sees the old file or the new one, never half of one."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it (weights_only).

    raises  WeightsError when the file is missing or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no checkpoint to resume from. Start without --resume.") from None
    except Exception as error:  # torch raises many kinds on damaged files
        raise WeightsError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict) or "step" not in state:
        raise WeightsError(f"{path}: expected a checkpoint of apiece train, found something else")
    return state


def save_weights(path: Path, net: nn.Module) -> None:
    """Weights alone, as safetensors, atomically."""
    temporary = path.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, temporary)
    temporary.replace(path)


def load_weights(path: Path, net: nn.Module) -> None:
    """Fill `net`.

    raises  WeightsError naming the first tensor that is missing, left over, or of another shape.
    """
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights") from None
    except Exception as error:  # safetensors raises its own kinds on damaged files
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from None
    own = net.state_dict()
    for name, value in own.items():
        if name not in state:
            raise WeightsError(
                f"{path}: the tensor {name!r} is missing; these are weights of another network"
            )
        if state[name].shape != value.shape:
            raise WeightsError(
                f"{path}: {name!r} has shape {tuple(state[name].shape)}, the network needs {tuple(value.shape)}. "
                "Another number of classes or another builder?"
            )
    for name in state:
        if name not in own:
            raise WeightsError(f"{path}: the tensor {name!r} is not part of this network")
    net.load_state_dict(state)
