"""An ONNX file that keeps the contract without a network: three squares, wherever the picture isn't black."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from apiece.core.classes import ClassMap
from apiece.models.card import METADATA_KEY, ModelCard

SIDE = 64
BOXES = np.array([[4, 4, 20, 20], [30, 6, 44, 24], [10, 36, 40, 60], [0, 0, 0, 0]], dtype=np.float32)
SCORES = np.array([0.9, 0.8, 0.6, 0.0], dtype=np.float32)


def toy_card(**changes: object) -> ModelCard:
    card = ModelCard(
        name="toy",
        family="solov2",
        builder="none",
        classes=ClassMap(("square", "round")),
        input_size=(SIDE, SIDE),
        mask_frame="box",
        boxes_from="masks",
        threshold=0.5,
        licence="Apache-2.0",
        origin="tests",
        data="none",
    )
    return card.replace(**changes) if changes else card


def write_toy(path: Path, card: ModelCard | None = None, scores: np.ndarray = SCORES) -> Path:
    """Squares at BOXES, the second one round by class; a black picture has none."""
    k = len(scores)
    constants = {
        "k_scores": scores[None],
        "k_labels": np.array([[0, 1, 0, 0]], dtype=np.int64),
        "k_boxes": BOXES[None],
        "k_masks": np.full((1, k, 8, 8), 5, dtype=np.float32),
        "zero": np.array([0], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "axes": np.array([1, 2, 3], dtype=np.int64),
        "threshold": np.array(0.5, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["real", "axes"], ["brightest"], keepdims=1),
        helper.make_node("Greater", ["brightest", "threshold"], ["lit4"]),
        helper.make_node("Cast", ["lit4"], ["lit_real"], to=TensorProto.FLOAT),
        helper.make_node("Squeeze", ["lit_real", "squeeze_axes"], ["lit"]),
        helper.make_node("Mul", ["k_scores", "lit"], ["scores"]),
    ]
    constants["squeeze_axes"] = np.array([2, 3], dtype=np.int64)
    for name, rank in (("labels", 2), ("boxes", 3), ("masks", 4)):
        rest = np.ones(rank - 1, dtype=np.int64)
        constants[f"rest_{name}"] = rest
        nodes += [
            helper.make_node("Concat", ["batch", f"rest_{name}"], [f"shape_{name}"], axis=0),
            helper.make_node("Expand", [f"k_{name}", f"shape_{name}"], [name]),
        ]
    kinds = {
        "scores": (TensorProto.FLOAT, ["batch", k]),
        "labels": (TensorProto.INT64, ["batch", k]),
        "boxes": (TensorProto.FLOAT, ["batch", k, 4]),
        "masks": (TensorProto.FLOAT, ["batch", k, 8, 8]),
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if card is not False:
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, (card or toy_card()).to_json()
    onnx.save(model, str(path))
    return path
