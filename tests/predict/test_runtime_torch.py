"""TorchRuntime: a training run's folder as a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from toy import toy_card

from apiece.errors import ModelError, UsageError, WeightsError
from apiece.models import zoo
from apiece.predict.load import load
from apiece.predict.runtime_torch import TorchRuntime
from apiece.train.checkpoint import save_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A run's folder with random weights, and their network."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    net = zoo.build("solov2", "solov2_dense", 2).eval()
    card = toy_card(builder="solov2_dense", mask_frame=net.mask_frame)
    save_weights(folder / "weights.safetensors", net)
    (folder / "card.json").write_text(card.to_json(), encoding="utf-8")
    return folder, net


@pytest.fixture
def run(trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_a_folder_and_its_weights_file_give_what_the_network_gives(trained):
    folder, net = trained
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = net(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    for path in (folder, folder / "weights.safetensors"):
        runtime = TorchRuntime(path)
        assert runtime.card.classes.names == ("square", "round")
        found = runtime(images)
        for name in ("scores", "labels", "boxes", "masks"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name).numpy())
    assert load(folder).card == runtime.card


@pytest.mark.parametrize("gone", ["weights.safetensors", "card.json"])
def test_a_run_that_is_not_whole_names_the_missing_file(run: Path, gone: str):
    (run / gone).unlink()
    with pytest.raises(ModelError, match=gone):
        load(run)


def test_weights_of_another_network_are_refused(run: Path):
    card = TorchRuntime(run).card
    (run / "card.json").write_text(card.replace(builder="solov2_dens").to_json())
    with pytest.raises(ModelError, match="Did you mean 'solov2_dense'"):
        load(run)
    from apiece.core.classes import ClassMap

    (run / "card.json").write_text(card.replace(classes=ClassMap(("only",))).to_json())
    with pytest.raises(WeightsError, match="number of classes"):
        load(run)


def test_a_damaged_file_is_refused(run: Path):
    data = (run / "weights.safetensors").read_bytes()
    (run / "weights.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        load(run)


def test_threads_are_not_swallowed(run: Path):
    with pytest.raises(UsageError, match="threads"):
        load(run, threads=1)
