"""`apiece train`: a recipe -> a folder with weights, card, logs and checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric

from apiece.core.classes import ClassMap
from apiece.data.augment import drawn_from
from apiece.data.check import check
from apiece.data.dataset import Dataset, open_dataset
from apiece.data.splits import groups_from_csv
from apiece.errors import DataError, RecipeError, UsageError
from apiece.models import zoo
from apiece.models.card import ModelCard
from apiece.models.network import Network
from apiece.models.pretrained import load_imagenet
from apiece.train.augmentation import augmentation
from apiece.train.balance import sampling_weights
from apiece.train.batches import Batch, Plan, batches
from apiece.train.checkpoint import load_weights, save_weights
from apiece.train.log import Log
from apiece.train.loop import Loss, Schedule, fit, leave
from apiece.train.losses import loss_of
from apiece.train.recipe import DataRecipe, Recipe, read_recipe
from apiece.train.validate import validate


def train(
    recipe: Path, overrides: list[str] | None = None, resume: bool = False, out: Path | None = None
) -> Path:
    """Train by a recipe -> the run's folder: weights.safetensors, card.json, recipe.yaml, metrics.csv,
    checkpoint.pt, tensorboard/.

    resume  go on from checkpoint.pt; the recipe must be the one that the run began with.
    out     the folder; runs/<name> below the current folder when None.
    raises  RecipeError, DataError, WeightsError, UsageError (a run is there already and `resume` is False).
    """
    parsed = read_recipe(recipe, overrides)
    run = out or Path("runs") / parsed.name
    _prepare(run, parsed, resume)
    fabric = Fabric(
        accelerator=parsed.accelerator,
        devices=parsed.devices,
        strategy=parsed.strategy,
        precision=parsed.precision,
    )
    fabric.launch(_train, parsed, run, resume)  # type: ignore[arg-type]
    return run


def _prepare(run: Path, recipe: Recipe, resume: bool) -> None:
    """Make the folder, or refuse to write over another run."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    written = run / "recipe.yaml"
    # A child process of a launcher finds the folder that its parent has just made.
    child = int(os.environ.get("LOCAL_RANK", "0")) > 0
    if resume:
        if not written.is_file():
            raise UsageError(
                f"{run}: nothing to resume there. Start without --resume, or name the run with --out."
            )
        # Read, so that a run of an earlier version, whose recipe lacks newer keys, goes on with their defaults.
        if read_recipe(written) != recipe:
            raise RecipeError(
                f"{written}: the run began with another recipe. Resume with the same one, or start a new run."
            )
    elif not child:
        if (run / "checkpoint.pt").exists():
            raise UsageError(
                f"{run}: a run is there already. Continue it with --resume, or choose another --out."
            )
        run.mkdir(parents=True, exist_ok=True)
        written.write_text(text, encoding="utf-8")


def open_data(data: DataRecipe, classes: tuple[str, ...]) -> Dataset:
    """The data set of one section of the recipe, with its groups.

    raises  RecipeError when it has a class that the recipe hasn't.
    """
    dataset = open_dataset(data.path, data.images, data.subset, format=data.format, class_name=classes[0])
    try:
        dataset = dataset.with_classes(ClassMap(classes))
    except DataError as error:
        raise RecipeError(f"{data.path}: {error}") from None
    if data.groups is not None:
        dataset = dataset.with_groups(groups_from_csv(data.groups))
    return dataset


def refuse_errors(data: DataRecipe, classes: tuple[str, ...], log: Log) -> None:
    """Look at every picture and object before the first step: an error found after an hour costs the hour.

    What is odd but may be meant is logged: warnings, and classes of the recipe without an object.
    raises  DataError with the first error, and how many more there are.
    """
    report = check(data.path, data.images, data.subset, format=data.format)
    if report.errors:
        more = (
            f" `apiece check {data.path}` lists all {len(report.errors)}." if len(report.errors) > 1 else ""
        )
        raise DataError(f"{report.errors[0]}{more}")
    if report.warnings:
        log.info(f"{data.path}: {len(report.warnings)} warnings, the first: {report.warnings[0]}")
    shown = {row["name"] for row in report.statistics["classes"]}
    absent = [name for name in classes if name not in shown]
    if len(classes) > 1 and absent:
        log.info(f"{data.path}: no object of {', '.join(map(repr, absent))} there")


def build(recipe: Recipe) -> tuple[Network, str]:
    """The network with its initial weights, and where they come from. Seeded, so that two runs start equal."""
    torch.manual_seed(recipe.seed)
    net = zoo.build(recipe.model.family, recipe.model.builder, len(recipe.classes))
    for name, size in (("input_size", recipe.input_size), ("augment.size", recipe.augment.size)):
        if any(side % net.size_divisor for side in size):
            raise RecipeError(
                f"{name}: expected multiples of {net.size_divisor} for this network, got {list(size)}"
            )
    if recipe.model.init == "none":
        return net, "random weights"
    if recipe.model.init.endswith(".safetensors"):
        load_weights(Path(recipe.model.init), net)
        return net, f"the weights in {Path(recipe.model.init).name}"
    return net, load_imagenet(net.backbone, recipe.model.init)


def _train(fabric: Fabric, recipe: Recipe, run: Path, resume: bool) -> None:
    log = Log(run, active=fabric.is_global_zero)
    if fabric.is_global_zero and not resume:
        for section in filter(None, (recipe.train, recipe.validation)):
            refuse_errors(section, recipe.classes, log)
    data = open_data(recipe.train, recipe.classes)
    held_out = open_data(recipe.validation, recipe.classes) if recipe.validation else None
    net, origin = build(recipe)
    loss: Loss = loss_of(recipe.model.family, net, recipe.max_masks)
    weights = sampling_weights(recipe.balance, data)
    augment = augmentation(recipe.augment, drawn_from(data, weights))
    plan = Plan(
        weights,
        recipe.batch,
        recipe.epoch_samples or len(data),
        recipe.seed,
    )
    schedule = Schedule(
        last=recipe.epochs * plan.steps_per_epoch,
        per_epoch=plan.steps_per_epoch,
        validate_every=recipe.validate_every,
        checkpoint_every=recipe.checkpoint_steps,
    )
    log.info(
        f"{recipe.name}: {len(data)} pictures, {len(held_out) if held_out else 0} held out, {schedule.last} steps of "
        f"{recipe.batch}, from {origin}"
    )

    def stream(step: int) -> Iterator[Batch]:
        return batches(
            data,
            plan,
            augment,
            loss.targets,
            first=step,
            last=schedule.last,
            rank=fabric.global_rank,
            world=fabric.world_size,
            workers=recipe.workers,
        )

    def card(metrics: dict[str, Any]) -> ModelCard:
        return ModelCard(
            name=recipe.name,
            family=recipe.model.family,
            builder=recipe.model.builder,
            classes=ClassMap(recipe.classes),
            input_size=recipe.input_size,
            mask_frame=net.mask_frame,
            boxes_from=net.boxes_from,
            box_masks=net.box_masks,
            threshold=metrics.get("threshold", 0.5),
            licence=recipe.licence,
            origin=f"{recipe.origin}; started from {origin}" if recipe.origin else f"started from {origin}",
            data=recipe.data,
            metrics=metrics,
            notes=recipe.notes,
        )

    measured: dict[str, Any] = {}

    def measure(average: Network, step: int) -> float:
        assert held_out is not None
        figures = validate(average, card({}), held_out, precision=recipe.precision)
        measured.clear()
        measured.update(figures)
        log.record(step, {k: v for k, v in figures.items() if isinstance(v, float)})
        log.info(
            f"step {step}: " + "  ".join(f"{k} {v:.4f}" for k, v in figures.items() if isinstance(v, float))
        )
        return float(figures["AP"])

    def keep(average: Network, step: int, figure: float) -> None:
        save_weights(run / "weights.safetensors", average)
        (run / "card.json").write_text(card({"step": step, **measured}).to_json() + "\n", encoding="utf-8")

    fit(
        fabric,
        net,
        loss,
        stream,
        schedule,
        recipe.optimiser,
        run=run,
        log=log,
        resume=resume,
        channels_last=recipe.channels_last,
        frozen_norm=recipe.frozen_norm,
        seed=recipe.seed,
        keep_last=recipe.keep == "last",
        validate=measure if held_out is not None else None,
        keep=keep,
    )
    leave(fabric)
