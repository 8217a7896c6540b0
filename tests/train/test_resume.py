"""A run that is killed and resumed ends with the very weights of a run that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from apiece.data.synthetic import discs
from apiece.errors import RecipeError, UsageError
from apiece.train.run import train

pytestmark = pytest.mark.slow
STEPS = 8


def write_recipe(folder: Path, **changes: object) -> Path:
    rng = np.random.default_rng(5)
    for kind in ("images", "labels"):
        (folder / "data" / kind).mkdir(parents=True)
    for i in range(4):
        sample = discs(rng, (64, 80), count=5)
        cv2.imwrite(str(folder / f"data/images/{i}.png"), sample.image[..., ::-1])
        cv2.imwrite(
            str(folder / f"data/labels/{i}.png"),
            sample.instances.masks.to_label_image("first").astype(np.uint16),
        )
    recipe = {
        "name": "tiny",
        "classes": ["disc"],
        "model": {"family": "solov2", "builder": "solov2_dense"},
        "train": {"path": "data"},
        "augment": {"size": [64, 64], "scale": [0.8, 1.2], "color": 0.5, "noise": 0.5},
        "optimiser": {"warmup_steps": 2},
        "input_size": [64, 64],
        "epochs": STEPS // 2,
        "batch": 2,
        "precision": "bf16-mixed",
        "checkpoint_steps": 1,
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(recipe: Path, out: Path, *options: str) -> subprocess.Popen:
    code = (
        "import sys; from pathlib import Path; from apiece.train.run import train; "
        "train(Path(sys.argv[1]), [], '--resume' in sys.argv, Path(sys.argv[2]))"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, str(recipe), str(out), *options], env=environment)


def steps_done(run: Path) -> int:
    try:
        return int(torch.load(run / "checkpoint.pt", weights_only=True)["step"])
    except (FileNotFoundError, RuntimeError, EOFError):
        return 0


def test_killed_and_resumed_is_bit_equal(tmp_path: Path):
    recipe = write_recipe(tmp_path)
    assert start(recipe, tmp_path / "whole").wait() == 0

    killed = start(recipe, tmp_path / "killed")
    deadline = time.monotonic() + 120
    while steps_done(tmp_path / "killed") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = steps_done(tmp_path / "killed")
    assert 2 <= done < STEPS, "the run was not killed on its way"

    assert start(recipe, tmp_path / "killed", "--resume").wait() == 0
    whole = (tmp_path / "whole" / "weights.safetensors").read_bytes()
    assert (tmp_path / "killed" / "weights.safetensors").read_bytes() == whole
    a = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)
    b = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert a["step"] == b["step"] == STEPS
    for name, value in a["net"].items():
        assert torch.equal(value, b["net"][name]), name


def test_a_run_is_never_written_over_and_never_resumed_with_another_recipe(tmp_path: Path):
    recipe = write_recipe(tmp_path, epochs=1)
    run = train(recipe, out=tmp_path / "run")
    weights = (run / "weights.safetensors").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        train(recipe, out=run)
    with pytest.raises(RecipeError, match="another recipe"):
        train(recipe, ["optimiser.lr=0.5"], resume=True, out=run)
    assert (run / "weights.safetensors").read_bytes() == weights
    with pytest.raises(UsageError, match="nothing to resume"):
        train(recipe, resume=True, out=tmp_path / "elsewhere")
