"""`export`: one file that is the network, or no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apiece.core.classes import ClassMap
from apiece.deploy import export as module
from apiece.deploy.export import export, export_prompts
from apiece.errors import ExportError, UsageError
from apiece.models import zoo
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.predict.prompt import PromptModel
from apiece.predict.runtime_onnx import OnnxRuntime
from apiece.train.checkpoint import save_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained network that finds something everywhere."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(3)
    net = zoo.build("solov2", "solov2_dense", 1)
    with torch.no_grad():
        net.kernel_head.category.bias.fill_(0.5)
    save_weights(folder / "weights.safetensors", net)
    card = ModelCard(
        name="random",
        family="solov2",
        builder="solov2_dense",
        classes=ClassMap(("cell",)),
        input_size=(128, 128),
        mask_frame="box",
        boxes_from="masks",
        threshold=0.3,
        licence="CC0-1.0",
        origin="random weights",
        data="none",
        notes=("Finds nothing in particular.",),
    )
    (folder / "card.json").write_text(card.to_json())
    return folder


def test_the_file_carries_its_card_and_takes_any_batch(run: Path, tmp_path: Path):
    report = export(run, tmp_path / "m.onnx")
    assert report.passed
    assert report.objects > 0
    runtime = OnnxRuntime(tmp_path / "m.onnx")
    assert runtime.card == ModelCard.from_json((run / "card.json").read_text(), "card")
    for batch in (1, 3):
        assert len(runtime(np.zeros((batch, 128, 128, 3), dtype=np.uint8))) == batch
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"], "nothing else is left behind"


def test_a_graph_that_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken(OnnxRuntime):
        def __call__(self, images: np.ndarray) -> Candidates:
            found = super().__call__(images)
            return Candidates(found.scores * 0.8, found.labels, found.boxes, found.masks, found.mask_frame)

    monkeypatch.setattr(module, "OnnxRuntime", Broken)
    with pytest.raises(ExportError, match="was not written"):
        export(run, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_int8_without_pictures_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="--calibrate"):
        export(run, tmp_path / "m.onnx", int8=True)
    with pytest.raises(UsageError, match=r"\.onnx"):
        export(run, tmp_path / "m.pt")


def test_two_graphs_answer_prompts_like_the_network(run: Path, tmp_path: Path):
    torch.manual_seed(3)
    net = zoo.build("sam", "sam_lite0", 1)
    save_weights(tmp_path / "weights.safetensors", net)
    card = ModelCard.from_json((run / "card.json").read_text(), "card")
    card = card.replace(family="sam", builder="sam_lite0", mask_frame="image")
    (tmp_path / "card.json").write_text(card.to_json())
    encoder, decoder = export_prompts(tmp_path, tmp_path / "out" / "m.onnx")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["m.decoder.onnx", "m.encoder.onnx"]
    model = PromptModel(encoder, decoder)
    assert model.card == card
    answer = model.embed(np.zeros((60, 90, 3), dtype=np.uint8)).segment(points=[[30, 30]])
    assert answer.size == (60, 90)


def test_a_family_without_prompts_has_no_such_graphs(run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="takes no prompts"):
        export_prompts(run, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
