"""Two processes with half of a batch each make the gradients of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lightning_fabric import Fabric
from torch import nn

from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.train.batches import Plan, batches
from apiece.train.loop import TrainingStep, backward, leave
from apiece.train.losses import loss_of
from tiny.solov2 import tiny_solov2

pytestmark = pytest.mark.slow


def unchanged(sample: Sample, rng: np.random.Generator) -> Sample:
    return sample


def gradients(fabric: Fabric, path: Path) -> None:
    """One step's gradients of a network with GroupNorm heads and a frozen backbone norm, written by rank 0."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = tiny_solov2(1)
    rng = np.random.default_rng(1)
    # Unequal numbers of objects, so that dividing by each process's own count would show.
    samples = [discs(rng, (96, 96), count=n) for n in (1, 9, 2, 14)]
    plan = Plan(np.full(4, 0.25), batch=4, epoch_samples=4, seed=0)
    loss = loss_of("solov2", net, None)
    model = fabric.setup_module(TrainingStep(net, loss))
    model.train()
    for module in net.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    stream = batches(
        samples,
        plan,
        unchanged,
        loss.targets,
        first=0,
        last=1,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    backward(fabric, model, loss, next(stream), seed=0)
    if fabric.is_global_zero:
        torch.save({name: p.grad for name, p in net.named_parameters() if p.grad is not None}, path)
    leave(fabric)


def test_two_processes_equal_one_with_the_double_batch(tmp_path: Path):
    for devices, name in ((1, "one"), (2, "two")):
        fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp_spawn" if devices > 1 else "auto")
        fabric.launch(gradients, tmp_path / name)
    one = torch.load(tmp_path / "one", weights_only=True)
    two = torch.load(tmp_path / "two", weights_only=True)
    assert one.keys() == two.keys()
    assert max(float(g.abs().max()) for g in one.values()) > 1e-3
    for key, gradient in one.items():
        torch.testing.assert_close(
            two[key], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-7
        )
