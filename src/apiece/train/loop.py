"""The training loop, on lightning-fabric: one process or several, any precision, resumable at every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from apiece.core.instances import Instances
from apiece.errors import RecipeError
from apiece.models.network import Network
from apiece.train.batches import Batch
from apiece.train.checkpoint import load_state, save_state
from apiece.train.ema import AveragedWeights
from apiece.train.log import Log
from apiece.train.recipe import OptimiserRecipe


class Loss(Protocol):
    """What the loop needs of a family's loss."""

    def targets(self, instances: Instances) -> Any:
        """Targets of one picture."""

    def normalisers(self, targets: Sequence[Any]) -> Tensor:
        """Counts that the terms are divided by; they add up over processes."""

    def __call__(
        self, raw: Any, targets: Sequence[Any], normalisers: Tensor, processes: int, seed: int
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised; `normalisers` are summed over the processes."""


class TrainingStep(nn.Module):
    """Pictures and targets -> loss terms.

    A module of its own, so that data parallelism and autocast see one forward pass, and its outputs are scalars:
    fabric converts what leaves a module to float32, which for the raw maps costs a quarter of the step.
    """

    def __init__(self, net: Network, loss: Loss) -> None:
        super().__init__()
        self.net = net
        self.loss = loss

    def forward(
        self, images: Tensor, targets: Sequence[Any], normalisers: Tensor, processes: int, seed: int
    ) -> dict[str, Tensor]:
        """(B, 3, H, W) 0…255 and their targets -> terms."""
        return self.loss(self.net.raw(images), targets, normalisers, processes, seed)


class Schedule(NamedTuple):
    """Where the run stops and what happens on the way, in steps."""

    last: int
    per_epoch: int
    validate_every: int
    checkpoint_every: int


def learning_rate(step: int, last: int, recipe: OptimiserRecipe) -> float:
    """Linear warm-up, then half a cosine down to `final` · lr at the last step."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, last - recipe.warmup_steps)
    return recipe.lr * (
        recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    )


def optimiser(net: nn.Module, recipe: OptimiserRecipe) -> torch.optim.AdamW:
    """AdamW; `scale` in a group is its factor on the learning rate."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": recipe.weight_decay if decays else 0.0,
                "scale": recipe.backbone_lr if in_backbone else 1.0,
            }
            for (in_backbone, decays), parameters in groups.items()
        ],
        lr=recipe.lr,
        fused=True,
    )


def backward(
    fabric: Fabric, step: nn.Module, loss: Loss, batch: Batch, *, seed: int, channels_last: bool = False
) -> dict[str, Tensor]:
    """Add one batch's gradients to the parameters -> the loss terms, detached. `step` is the `TrainingStep` as
    fabric has set it up.

    Over several processes the gradients are those of one process with all their pictures: terms are divided by
    counts summed over the processes.
    """
    images: Tensor = fabric.to_device(batch.images)
    images = images.float()
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    normalisers = loss.normalisers(batch.targets).to(fabric.device)
    if fabric.world_size > 1:
        reduced = fabric.all_reduce(normalisers, reduce_op="sum")
        assert isinstance(reduced, Tensor)
        normalisers = reduced
    terms = step(images, batch.targets, normalisers, fabric.world_size, seed)
    fabric.backward(torch.stack(list(terms.values())).sum())
    return {name: value.detach() for name, value in terms.items()}


def leave(fabric: Fabric) -> None:
    """End a run of several processes together.

    A process that exits while its partners still talk to it, with the connection's threads alive, aborts.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        fabric.barrier()
        torch.distributed.destroy_process_group()


def fit(
    fabric: Fabric,
    net: Network,
    loss: Loss,
    open_batches: Callable[[int], Any],
    schedule: Schedule,
    recipe: OptimiserRecipe,
    *,
    run: Path,
    log: Log,
    resume: bool,
    channels_last: bool,
    frozen_norm: bool,
    seed: int,
    keep_last: bool = False,
    validate: Callable[[Network, int], float] | None = None,
    keep: Callable[[Network, int, float], None] | None = None,
) -> AveragedWeights:
    """Train from step 0, or from the checkpoint in `run`, to the last step -> the averaged weights.

    open_batches(step) yields batches from that step on. `validate(net, epoch)` gives the figure to maximise;
    `keep` is called with the averaged net whenever it is the best one yet (with `keep_last` at every validation),
    and at the end without validation.
    """
    average = AveragedWeights(net, recipe.ema)
    step, best = 0, -math.inf
    state: dict[str, Any] | None = None
    if resume:
        state = load_state(run / "checkpoint.pt")
        net.load_state_dict(state["net"])
        average.net.load_state_dict(state["average"])
        average.updates, step, best = state["updates"], state["step"], state["best"]
    if channels_last:
        net.to(memory_format=torch.channels_last)
    made = optimiser(net, recipe)
    model, optimizer = fabric.setup(TrainingStep(net, loss), made)
    average.net.to(fabric.device)
    if state is not None:
        optimizer.load_state_dict(state["optimiser"])
        log.info(f"resumed at step {step} of {schedule.last}")

    def train_mode() -> None:
        model.train()
        if frozen_norm:
            for module in net.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def checkpoint() -> None:
        if fabric.is_global_zero:
            save_state(
                run / "checkpoint.pt",
                {
                    "step": step,
                    "best": best,
                    "net": net.state_dict(),
                    "average": average.net.state_dict(),
                    "updates": average.updates,
                    "optimiser": optimizer.state_dict(),
                },
            )

    train_mode()
    stream = open_batches(step)
    started = time.perf_counter()
    log.start(step, schedule.last)
    while step < schedule.last:
        batch: Batch = next(stream)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, schedule.last, recipe) * group["scale"]
        optimizer.zero_grad(set_to_none=True)
        terms = backward(fabric, model, loss, batch, seed=seed + step, channels_last=channels_last)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise RecipeError(
                f"step {step}: the loss is {total.item()}. Lower optimiser.lr, or set precision: 32-true."
            )
        norm = fabric.clip_gradients(model, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
        optimizer.step()
        average.update(net)
        step += 1
        log.step(
            step,
            {name: float(value.detach()) for name, value in terms.items()}
            | {
                "loss": float(total.detach()),
                "gradient_norm": float(norm) if norm is not None else float("nan"),
                "lr": optimizer.param_groups[-1]["lr"],
                "seconds_per_step": (time.perf_counter() - started),
            },
        )
        started = time.perf_counter()
        end_of_epoch = step % schedule.per_epoch == 0
        epoch = step // schedule.per_epoch
        if validate and (step == schedule.last or (end_of_epoch and epoch % schedule.validate_every == 0)):
            if fabric.is_global_zero:
                figure = validate(average.net, step)
                if keep and (keep_last or figure >= best):
                    best = max(best, figure)
                    keep(average.net, step, figure)
            fabric.barrier()
            train_mode()
        if step % schedule.checkpoint_every == 0 or step == schedule.last:
            checkpoint()
    if keep and not validate and fabric.is_global_zero:
        keep(average.net, step, float("nan"))
    log.finish()
    return average
