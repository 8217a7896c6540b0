"""A training recipe: everything that decides a model, in one typed YAML file.

Unknown keys are refused with the nearest known one. Relative paths are relative to the recipe's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from apiece.data.augment.scale_crop import MOST_SIDE
from apiece.data.formats import FORMATS
from apiece.errors import RecipeError, did_you_mean
from apiece.train.augmentation import AugmentRecipe
from apiece.train.section import Section

Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]


class ModelRecipe(Section):
    """Which network. `init`: none, timm, a package name (see `load_imagenet`), or a .safetensors of this network."""

    family: str = "solov2"
    builder: str = "solov2_dense"
    init: str = "none"


class DataRecipe(Section):
    """One data set, of any format that `apiece formats` lists.

    path       a file or folder of annotations.
    images     the picture folder, where pictures lie elsewhere.
    format     as `apiece formats` calls it; detected by default.
    subset     text file, one picture's name, file name or stem a line: only these are used.
    groups     table (CSV) of picture and group, for balanced sampling and partners of the same group.
    """

    path: Path
    images: Path | None = None
    format: str | None = None
    subset: Path | None = None
    groups: Path | None = None

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in FORMATS:
            raise ValueError(f"no format {name!r}. {did_you_mean(name, FORMATS)}")
        return name


class OptimiserRecipe(Section):
    """AdamW with warm-up and cosine decay to `final` × lr; no weight decay on norms and biases."""

    lr: float = Field(1e-3, gt=0)
    backbone_lr: float = Field(1.0, ge=0, description="factor on lr for the backbone")
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(100, ge=0)
    final: float = Field(0.01, ge=0, le=1)
    clip: float = Field(10.0, gt=0, description="gradient norm")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights; 0 turns it off")


class Recipe(Section):
    """The whole recipe.

    input_size     height and width at which the trained network runs (validation and export).
    epoch_samples  samples that make an epoch; None: the size of the training set.
    balance        plain: each picture equally often; group / class: rare groups or classes more often, with
                   weight 1 / sqrt(frequency).
    frozen_norm    the backbone's batch norm keeps its statistics: right for small batches.
    max_masks      most mask samples of a batch in the loss.
    keep           which averaged weights are kept: those with the best validation AP, or the last, so that the
                   validation pictures had no part in the choice.
    workers        processes that load pictures; 0 loads in the training process.
    """

    name: str
    classes: tuple[str, ...] = Field(min_length=1)
    model: ModelRecipe = ModelRecipe()
    train: DataRecipe
    validation: DataRecipe | None = None
    augment: AugmentRecipe
    optimiser: OptimiserRecipe = OptimiserRecipe()
    input_size: tuple[Side, Side]
    epochs: int = Field(gt=0)
    epoch_samples: int | None = Field(None, gt=0)
    batch: int = Field(8, gt=0)
    balance: Literal["plain", "group", "class"] = "plain"
    seed: int = Field(0, ge=0)
    frozen_norm: bool = False
    max_masks: int | None = Field(None, gt=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = True
    devices: int = Field(1, gt=0)
    accelerator: str = "auto"
    strategy: str = "auto"
    workers: int = Field(0, ge=0)
    keep: Literal["best", "last"] = "best"
    validate_every: int = Field(1, gt=0, description="epochs")
    checkpoint_steps: int = Field(200, gt=0)
    licence: str = "unknown"
    origin: str = ""
    data: str = ""
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        if self.balance == "group" and self.train.groups is None:
            raise ValueError("balance: group needs train.groups, a table of picture and group")
        if self.batch % self.devices:
            raise ValueError(f"batch: expected a multiple of devices ({self.devices}), got {self.batch}")
        return self


def read_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe; `overrides` are `key.sub=value` with a YAML value.

    raises  RecipeError naming file, key, what was expected, what came, and the nearest known key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: expected keys and values, got {type(document).__name__}")
    for override in overrides or []:
        _override(document, override)
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_first(error)}") from None
    return _resolve(recipe, path.resolve().parent)


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set: expected key=value, got {override!r}")
    *parents, last = key.split(".")
    node = document
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override}: {parent!r} holds a value, not keys")
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: the value is not valid YAML") from None


def _first(error: ValidationError) -> str:
    """The first problem as a sentence, and how many more there are."""
    # An unknown key explains a missing one, so it comes first.
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    problem = problems[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section = _section_at(problem["loc"][:-1])
        sentence = f"unknown key {where!r}. {did_you_mean(str(problem['loc'][-1]), section.model_fields)}"
    elif problem["type"] == "missing":
        sentence = f"the key {where!r} is missing"
    elif problem["type"] == "value_error":
        said = str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
        sentence = f"{where}: {said}" if where else said
    else:
        sentence = f"{where}: {problem['msg']}, got {problem['input']!r}"
    return sentence + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")


def _section_at(place: tuple[int | str, ...]) -> type[Section]:
    """The section that lies at `place` in a recipe."""
    section: type[Section] = Recipe
    for key in place:
        kind = section.model_fields[str(key)].annotation
        section = next(
            one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Section)
        )
    return section


def _resolve(recipe: Recipe, folder: Path) -> Recipe:
    def absolute(data: DataRecipe | None) -> DataRecipe | None:
        if data is None:
            return None
        paths = {name: getattr(data, name) for name in ("path", "images", "subset", "groups")}
        return data.model_copy(update={name: folder / p for name, p in paths.items() if p is not None})

    changes: dict[str, Any] = {"train": absolute(recipe.train), "validation": absolute(recipe.validation)}
    if recipe.model.init.endswith(".safetensors"):
        changes["model"] = recipe.model.model_copy(update={"init": str(folder / recipe.model.init)})
    return recipe.model_copy(update=changes)
