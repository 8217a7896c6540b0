"""The zoo says what is true."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from apiece.errors import ModelError
from apiece.models import zoo
from apiece.predict.load import WEIGHTS, load


@pytest.mark.parametrize("entry", zoo.ENTRIES, ids=lambda e: e.name)
def test_parameters_are_counted_and_bundled_weights_are_there(entry: zoo.Entry):
    net = zoo.build(entry.family, entry.builder, 1)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(entry.parameters, abs=0.06)
    assert entry.bundled == (WEIGHTS / f"{entry.name}.onnx").is_file()


def test_unknown_builders_are_refused_with_a_suggestion():
    with pytest.raises(ModelError, match="Did you mean 'solov2_dense'"):
        zoo.build("solov2", "solov2_dens", 1)
    with pytest.raises(ModelError, match="no family"):
        zoo.build("yolo", "x", 1)


def test_the_bundled_model_finds_the_coins_and_says_what_it_is():
    from apiece.cli import shipped_picture

    model = load("cells")
    assert len(model(shipped_picture("coins"))) == 24
    assert model.card.licence == "Apache-2.0"
    assert model.card.metrics["held_out"]["images"] == 133
    assert (WEIGHTS / "cells.onnx").stat().st_size <= 20_000_000


def test_a_damaged_bundled_file_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch):
    from apiece.errors import WeightsError
    from apiece.predict import load as module

    for suffix in ("onnx", "json"):
        data = bytearray((WEIGHTS / f"cells.{suffix}").read_bytes())
        if suffix == "onnx":
            data[len(data) // 2] ^= 1
        (tmp_path / f"cells.{suffix}").write_bytes(bytes(data))
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsError, match="SHA-256"):
        load("cells")
