"""apiece.load: which model a name means."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from toy import toy_card, write_toy

from apiece.errors import ModelError, WeightsError
from apiece.predict import load as module
from apiece.predict.load import load


def bundle(folder: Path, record: str | None = None) -> None:
    """A bundled model `cells` in `folder`, with its record."""
    import hashlib
    import json

    file = write_toy(folder / "cells.onnx", card=toy_card(name="bundled"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "cells.json").write_text(json.dumps({"sha256": digest}) if record is None else record)


def test_a_bundled_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder `cells` full of pictures is the likeliest neighbour of `apiece segment cells`."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "work" / "cells").mkdir(parents=True)
    bundle(tmp_path / "weights")
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "weights")
    monkeypatch.chdir(tmp_path / "work")
    assert load("cells").card.name == "bundled"
    for folder in ("./cells", Path("cells")):
        with pytest.raises(ModelError, match=r"weights\.safetensors"):
            load(folder)


def test_an_onnx_file_is_loaded_by_path_whatever_its_case(tmp_path: Path):
    for name in ("toy.onnx", "toy.ONNX"):
        assert load(str(write_toy(tmp_path / name)), threads=1).card.name == "toy"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cels", "Did you mean 'cells'"),
        ("solov2-r5", "Did you mean 'solov2-r50'"),
        ("solov2-r50", "no weights for it"),
        ("zzz", "Known: cells, "),
        ("runs/nothere", "no model 'runs/nothere'"),
        ("nothere.onnx", "no such model file"),
        ("nothere.safetensors", "not found"),
    ],
)
def test_a_name_that_means_nothing_is_refused_with_what_could_be_meant(name: str, says: str):
    with pytest.raises(ModelError, match=says) as stop:
        load(name)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"sha256": "00"}'])
def test_a_bundled_model_without_its_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str
):
    bundle(tmp_path, record)
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsError, match="SHA-256"):
        load("cells")


def test_a_bundled_model_that_is_gone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsError, match="missing"):
        load("cells")


@pytest.mark.parametrize("package", ["torch", "timm", "safetensors"])
def test_a_run_without_the_training_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    for name in [
        n for n in sys.modules if n.startswith(("apiece.models.solov2", "apiece.predict.runtime_torch"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("apiece.models.backbones", "apiece.train.checkpoint"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    (tmp_path / "card.json").write_text(toy_card(builder="solov2_dense").to_json())
    with pytest.raises(ModelError, match=rf"needs {package}.*pip install 'apiece\[train\]'"):
        load(tmp_path)
