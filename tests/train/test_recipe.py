"""Recipes: typed, and refusing what they do not understand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic")

from apiece.data.augment import (
    Affine,
    Blur,
    ChannelDrop,
    ColorJitter,
    Compose,
    CopyPaste,
    Flip,
    Grey,
    Invert,
    Jpeg,
    Mosaic,
    MotionBlur,
    Noise,
    Rotate90,
    ScaleCrop,
    StainJitter,
    drawn_from,
)
from apiece.data.synthetic import discs
from apiece.errors import RecipeError
from apiece.train.augmentation import augmentation
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
        (GOOD.replace("[64, 64]}\ninput", "[64, 64], afine: {}}\ninput"), "Did you mean 'affine'"),
        (
            GOOD.replace("[64, 64]}\ninput", "[64, 64], affine: {rotate: 5}}\ninput"),
            "Did you mean 'rotation'",
        ),
        (GOOD.replace("[64, 64]}\ninput", "[64, 64], affine: {rotation: 500}}\ninput"), "0 to 180 degrees"),
        (GOOD.replace("[64, 64]}\ninput", "[64, 64], stain: {method: hed}}\ninput"), "augment.stain.method"),
        (GOOD.replace("[64, 64]}\ninput", "[64, 64], jpeg: 2}\ninput"), "augment.jpeg"),
        (GOOD.replace("[64, 64]}\ninput", "[64, 64], jpeg_quality: [5, 1]}\ninput"), "Jpeg quality"),
        (GOOD.replace("[64, 64]}\ninput", "[64, 64], fill: [0, 0, 900]}\ninput"), "ScaleCrop fill"),
        (GOOD.replace("augment: {size: [64, 64]}", "augment: {size: [0, 64]}"), "ScaleCrop size"),
        (GOOD.replace("size: [64, 64]}", "size: [64, 9999999]}"), "at most 16,384"),
        (GOOD.replace("size: [64, 64]}", "size: [64, 64], scale: [1, 1e6]}"), "ScaleCrop scale"),
        (GOOD.replace("input_size: [64, 64]", "input_size: [64, 9999999]"), "input_size.1"),
        (GOOD + "seed: -1\n", "seed"),
        (
            GOOD.replace("{path: data}", "{path: data, format: yoloo}"),
            "train.format: no format 'yoloo'. Did you",
        ),
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


def test_a_recipe_without_newer_keys_means_what_it_meant():
    """The same steps, so the same random stream: a run goes on bit-equal."""
    recipes = Path(__file__).resolve().parents[2] / "recipes"
    read = [read_recipe(path) for path in sorted(recipes.glob("*.yaml"))]
    assert len(read) > 10
    for recipe in read:
        a = recipe.augment
        steps = [ScaleCrop(a.size, a.scale, a.min_visible)]
        steps += [Flip()] * a.flip + [Rotate90()] * a.rotate90
        steps += [ColorJitter(a.color), Invert(a.invert), Grey(a.grey), Blur(a.blur), Noise(a.noise)]
        assert augmentation(a, nobody) == Compose(tuple(steps))


def nobody(sample, rng):
    raise AssertionError


ALL = """
augment:
  size: [64, 48]
  scale: [0.5, 2]
  min_visible: 0.3
  as_ignore: true
  fill: [1, 2, 3]
  mosaic: {p: 0.4, centre: [0.4, 0.6]}
  affine: {p: 0.3, rotation: 30, scale: [0.9, 1.1], aspect: [1, 1], shear: 0, translate: 0.05}
  copy_paste: {p: 0.2, scale: [0.8, 1.2], share: 0.9, most: 7, blend: 1}
  stain: {p: 0.6, strength: 0.1, shift: 0.01, method: macenko, only_histology: false}
  color: 0.5
  color_ranges: {gamma: [0.5, 2]}
  channel_drop: 0.1
  blur: 0.2
  blur_sigma: [1, 2]
  motion_blur: 0.3
  motion_length: [2, 4]
  noise: 0.4
  noise_sigma: [1, 2]
  jpeg: 0.5
  jpeg_quality: [20, 40]
"""


def test_every_key_reaches_its_change(tmp_path: Path):
    recipe = read_recipe(write(tmp_path, GOOD.replace("augment: {size: [64, 64]}", ALL))).augment
    assert augmentation(recipe, nobody) == Compose(
        (
            Mosaic((64, 48), nobody, 0.4, (0.5, 2), (0.4, 0.6), 0.3, (1, 2, 3), True),
            Flip(),
            Rotate90(),
            Affine(0.3, 30, (0.9, 1.1), (1, 1), 0, 0.05, (1, 2, 3), 0.3, True),
            CopyPaste(nobody, 0.2, (0.8, 1.2), 0.9, 7, 0.3, 1, Flip(), True),
            StainJitter(0.6, 0.1, 0.01, "macenko", False),
            ColorJitter(0.5, gamma=(0.5, 2)),
            Invert(0),
            Grey(0),
            ChannelDrop(0.1),
            Blur(0.2, (1, 2)),
            MotionBlur(0.3, (2, 4)),
            Noise(0.4, (1, 2)),
            Jpeg(0.5, (20, 40)),
        )
    )
    samples = [discs(np.random.default_rng(i), (50, 70), 9) for i in range(3)]
    change = augmentation(recipe, drawn_from(samples))
    for seed in range(10):
        a, b = (change(samples[0], np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(a.image, b.image)
        assert a.instances == b.instances
        assert a.size == (64, 48) or a.size == (48, 64)


def test_a_section_left_empty_has_the_defaults_of_its_change(tmp_path: Path):
    sections = "augment: {size: [64, 64], affine: {}, mosaic: {}, copy_paste: {}, stain: {}}"
    recipe = read_recipe(write(tmp_path, GOOD.replace("augment: {size: [64, 64]}", sections))).augment
    steps = augmentation(recipe, nobody).steps
    assert Affine() in steps
    assert StainJitter() in steps
    assert CopyPaste(nobody) in steps
    assert Mosaic((64, 64), nobody) in steps


def test_recipes_and_augmentation_need_no_torch():
    modules = "apiece.train.recipe, apiece.train.augmentation, apiece.train.balance, apiece.data.augment"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_meets_the_same_partners(tmp_path: Path, workers: int):
    """Steps 2 and 3 of a run that began at 2 have the pixels and objects of one that began at 0."""
    torch = pytest.importorskip("torch")
    from apiece.train.batches import Plan, batches

    recipe = read_recipe(write(tmp_path, GOOD.replace("augment: {size: [64, 64]}", ALL))).augment
    recipe = recipe.model_copy(update={"size": (64, 64)})
    samples = [discs(np.random.default_rng(i), (50, 70), 9) for i in range(5)]
    weights = np.array([0.1, 0.2, 0.3, 0.2, 0.2])
    plan, change = Plan(weights, 3, 12, 7), augmentation(recipe, drawn_from(samples, weights))

    def targets(objects):
        return objects.masks.boxes.tolist(), objects.class_ids.tolist()

    whole = list(batches(samples, plan, change, targets, first=0, last=4))
    resumed = list(batches(samples, plan, change, targets, first=2, last=4, workers=workers))
    for a, b in zip(whole[2:], resumed, strict=True):
        assert torch.equal(a.images, b.images)
        assert a.targets == b.targets
    assert not torch.equal(whole[0].images, whole[1].images)


def test_a_run_that_began_before_newer_keys_can_be_resumed(tmp_path: Path):
    pytest.importorskip("torch")
    import yaml

    from apiece.train.run import _prepare

    recipe = read_recipe(write(tmp_path, GOOD))
    document = recipe.model_dump(mode="json")
    document["augment"] = {"size": [64, 64], "scale": [1.0, 1.0], "min_visible": 0.2, "flip": True}
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(yaml.safe_dump(document))
    _prepare(run, recipe, resume=True)
    document["augment"]["flip"] = False
    (run / "recipe.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(RecipeError, match="another recipe"):
        _prepare(run, recipe, resume=True)
