"""The zoo: what `apiece models` says of a network is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")

from apiece.errors import ModelError, RecipeError
from apiece.models import zoo
from apiece.train.losses import LOSSES, loss_of
from tiny import FAMILY_OF, build

RECIPES = Path(__file__).parents[2] / "recipes"
BUILDERS = {(e.family, e.builder): e for e in zoo.ENTRIES}


@pytest.mark.parametrize("family_builder", sorted(BUILDERS))
def test_the_stated_parameters_are_the_network_s(family_builder):
    with torch.device("meta"):
        net = zoo.build(*family_builder, 1)
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    assert BUILDERS[family_builder].parameters == pytest.approx(millions, abs=0.06)
    assert net.candidates > 0
    assert net.box_masks == (BUILDERS[family_builder].method == "Faster R-CNN")


def test_every_builder_of_a_family_is_listed():
    for family in zoo.FAMILIES:
        module = importlib.import_module(f"apiece.models.{family}.net")
        written = set(re.findall(r"^def (\w+)\(classes: int\) ->", Path(module.__file__).read_text(), re.M))
        assert written == {builder for f, builder in BUILDERS if f == family}


def test_every_family_has_a_loss_and_a_tiny_network():
    assert set(LOSSES) == set(zoo.FAMILIES) == set(FAMILY_OF.values())
    for name, family in FAMILY_OF.items():
        assert callable(loss_of(family, build(name), None).targets)


def test_recipes_that_are_named_are_there_and_build():
    for entry in zoo.ENTRIES:
        if entry.weights.startswith("train: recipes/"):
            recipe = yaml.safe_load((RECIPES.parent / entry.weights.removeprefix("train: ")).read_text())
            assert (recipe["model"]["family"], recipe["model"]["builder"]) == (entry.family, entry.builder)


def test_what_is_not_there_is_refused_with_a_suggestion():
    with pytest.raises(ModelError, match="Did you mean 'yolact'"):
        zoo.build("yolac", "yolact_r50", 1)
    with pytest.raises(ModelError, match="Did you mean 'yolact_r50'"):
        zoo.build("yolact", "yolact_r5", 1)
    with pytest.raises(RecipeError, match="Did you mean 'solov2'"):
        loss_of("solov", build("solov2"), None)
