"""OnnxRuntime: what a good file gives, and one clear sentence for every file that isn't one of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from toy import BOXES, SCORES, SIDE, toy_card, write_toy

from apiece.errors import ModelError, UsageError
from apiece.predict import runtime_onnx
from apiece.predict.runtime_onnx import OnnxRuntime


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "toy.onnx")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_candidates_and_card_come_out_as_they_went_in(toy: Path, batch: int):
    runtime = OnnxRuntime(toy, threads=1)
    assert runtime.card == toy_card()
    images = np.zeros((batch, SIDE, SIDE, 3), np.uint8)
    images[-1] = 9
    found = runtime(images)
    assert len(found) == batch
    assert found.mask_frame == "box"
    np.testing.assert_allclose(found.scores[-1], SCORES)
    np.testing.assert_allclose(found.boxes[-1], BOXES)
    assert found.labels[-1].tolist() == [0, 1, 0, 0]
    assert (found.scores[:-1] == 0).all()


def renamed_output(path: Path) -> None:
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["score" if name == "scores" else name for name in node.output]
    model.graph.output[0].name = "score"
    onnx.save(model, path)


def labels_as_int32(path: Path) -> None:
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["long" if name == "labels" else name for name in node.output]
    cast = onnx.helper.make_node("Cast", ["long"], ["labels"], to=onnx.TensorProto.INT32)
    model.graph.node.append(cast)
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    onnx.save(model, path)


def other_card(text: str):
    def change(path: Path) -> None:
        model = onnx.load(path)
        model.metadata_props[0].value = text
        onnx.save(model, path)

    return change


DAMAGE = {
    "missing": (lambda p: p.unlink(), "no such model file"),
    "folder": (lambda p: (p.unlink(), p.mkdir()), "no such model file"),
    "empty": (lambda p: p.write_bytes(b""), "0 bytes"),
    "text": (lambda p: p.write_text("hello"), "not an ONNX model"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:300]), "not an ONNX model"),
    "picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "not an ONNX model"),
    "foreign": (lambda p: write_toy(p, card=False), "without apiece's card"),
    "other input size": (lambda p: write_toy(p, card=toy_card(input_size=(32, 32))), "expected the input"),
    "renamed output": (renamed_output, "expected the input"),
    "other type": (labels_as_int32, "expected the input"),
    "card is no JSON": (other_card("{"), "not JSON"),
    "card of another schema": (other_card('{"schema": "apiece/card/99"}'), "apiece/card/1"),
    "card is incomplete": (other_card('{"schema": "apiece/card/1", "name": "x"}'), "incomplete"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_not_ours_is_refused_in_one_sentence(toy: Path, kind: str, capfd):
    damage, says = DAMAGE[kind]
    damage(toy)
    with pytest.raises(ModelError, match=says) as stop:
        OnnxRuntime(toy)
    assert str(toy) in str(stop.value)
    assert "\n" not in str(stop.value)
    assert capfd.readouterr() == ("", ""), "onnxruntime's own log must not reach the user"


def test_a_file_over_the_limit_is_not_opened(toy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime_onnx, "MAX_BYTES", toy.stat().st_size - 1)
    with pytest.raises(ModelError, match="at most"):
        OnnxRuntime(toy)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_cannot_be_meant_are_a_usage_error_not_a_bad_file(toy: Path, threads: int):
    with pytest.raises(UsageError, match="threads"):
        OnnxRuntime(toy, threads=threads)


def test_an_unknown_provider_is_refused_with_the_nearest(toy: Path):
    with pytest.raises(UsageError, match="Did you mean 'CPUExecutionProvider'"):
        OnnxRuntime(toy, providers=("CpuExecutionProvider",))


def test_a_failing_run_names_the_model(toy: Path):
    with pytest.raises(ModelError, match=r"toy\.onnx.*\(1, 8, 8, 3\)"):
        OnnxRuntime(toy)(np.zeros((1, 8, 8, 3), np.uint8))


def test_outputs_that_break_the_contract_are_refused(tmp_path: Path):
    path = write_toy(tmp_path / "nan.onnx", scores=np.array([0.9, np.nan, 0.1, 0], np.float32))
    with pytest.raises(ModelError, match="finite"):
        OnnxRuntime(path)(np.ones((1, SIDE, SIDE, 3), np.uint8))
