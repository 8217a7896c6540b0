"""Recipes: typed, and refusing what they do not understand."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydantic")

from apiece.errors import RecipeError
from apiece.train.recipe import read_recipe

GOOD = """
name: a
classes: [x]
train: {path: data}
augment: {size: [64, 64]}
input_size: [64, 64]
epochs: 2
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_recipe(tmp_path: Path):
    assert read_recipe(write(tmp_path, GOOD)).train.path == tmp_path / "data"


def test_overrides_reach_nested_keys_and_keep_their_type(tmp_path: Path):
    recipe = read_recipe(write(tmp_path, GOOD), ["optimiser.lr=0.5", "epochs=7", "augment.scale=[1, 2]"])
    assert (recipe.optimiser.lr, recipe.epochs, recipe.augment.scale) == (0.5, 7, (1.0, 2.0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "epoch: 3\n", "Did you mean 'epochs'"),
        (GOOD.replace("augment: {size", "augment: {sise"), "Did you mean 'size'"),
        (GOOD + "optimiser: {learning: 1}\n", "optimiser.learning"),
        (GOOD.replace("epochs: 2", "epochs: two"), "'two'"),
        (GOOD.replace("epochs: 2", "epochs: 0"), "epochs"),
        (GOOD.replace("name: a", ""), "'name' is missing"),
        (GOOD + "balance: group\n", "train.groups"),
        (GOOD + "precision: fp8\n", "precision"),
        ("[1, 2]", "expected keys and values"),
        ("a: [", "not a readable YAML"),
        ("", "expected keys and values"),
    ],
)
def test_a_wrong_recipe_is_one_clear_sentence(tmp_path: Path, text: str, says: str):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["epochs", "=3", "epochs.x=1", "epochs=["])
def test_a_wrong_override_is_refused(tmp_path: Path, override: str):
    with pytest.raises(RecipeError, match="--set|epochs"):
        read_recipe(write(tmp_path, GOOD), [override])


def test_a_missing_recipe_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe(tmp_path / "none.yaml")
