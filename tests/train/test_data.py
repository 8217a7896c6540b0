"""What `train` makes of data as people have it: any format, classes by name, groups by any name, what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic")

from apiece.data.convert import convert
from apiece.data.dataset import open_dataset
from apiece.data.formats import open_source
from apiece.data.synthetic import Scene, write_synthetic
from apiece.errors import RecipeError, UsageError
from apiece.train.balance import sampling_weights
from apiece.train.recipe import DataRecipe

CLASSES = ("disc", "rod")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set as COCO, YOLO and LabelMe."""
    root = tmp_path_factory.mktemp("made")
    write_synthetic(root / "coco", 4, (64, 64), 4, 1, Scene(shapes=CLASSES))
    for name in ("yolo", "labelme"):
        convert(open_source(root / "coco"), "coco", name, root / name)
    return root


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme"])
def test_classes_are_met_by_name_whatever_their_order(made: Path, name: str):
    pytest.importorskip("torch")
    from apiece.train.run import open_data

    plain = open_dataset(made / name)
    turned = open_data(DataRecipe(path=made / name, format=name), ("new", "rod", "disc"))
    assert turned.classes.names == ("new", "rod", "disc")
    assert turned.classes.ids == (1, 2, 3)  # as a card has them
    assert turned.names == plain.names
    for i in range(4):
        a, b = plain[i].instances, turned[i].instances
        assert [a.classes.name_of(c) for c in a.class_ids] == [b.classes.name_of(c) for c in b.class_ids]
        assert b.masks == a.masks


def test_a_class_that_the_recipe_lacks_is_named(made: Path):
    pytest.importorskip("torch")
    from apiece.train.run import open_data

    with pytest.raises(
        RecipeError, match=r"yolo: the class 'rod' .* \['disc', 'rood'\].*Did you mean 'rood'"
    ):
        open_data(DataRecipe(path=made / "yolo"), ("disc", "rood"))


def test_the_format_of_the_recipe_is_the_one_that_is_read(made: Path):
    pytest.importorskip("torch")
    from apiece.train.run import open_data, refuse_errors

    wrong = DataRecipe(path=made / "yolo", format="voc")
    for read in (lambda: open_data(wrong, CLASSES), lambda: refuse_errors(wrong, CLASSES, Said())):
        with pytest.raises(Exception, match="SegmentationObject"):
            read()


class Said:
    """In the place of a log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)


def test_a_class_without_an_object_is_told(made: Path):
    pytest.importorskip("torch")
    from apiece.train.run import refuse_errors

    said = Said()
    refuse_errors(DataRecipe(path=made / "yolo"), (*CLASSES, "late"), said)
    assert any("no object of 'late'" in line for line in said.lines)
    said = Said()
    refuse_errors(DataRecipe(path=made / "yolo"), CLASSES, said)
    assert not any("no object of" in line for line in said.lines)


@pytest.mark.slow
def test_training_and_validation_on_yolo(made: Path, tmp_path: Path):
    """Its class numbers begin at 0, those of a card at 1."""
    pytest.importorskip("torch")
    from apiece.train.run import train

    (tmp_path / "groups.csv").write_text("picture,group\n0001.png,a\n0002.png,a\n0003.png,b\n0004,b\n")
    (tmp_path / "r.yaml").write_text(
        f"name: t\nclasses: [disc, rod]\nmodel: {{family: yolact, builder: yolact_lite0}}\n"
        f"train: {{path: {made}/yolo, format: yolo, groups: groups.csv}}\nvalidation: {{path: {made}/yolo}}\n"
        "balance: group\naugment: {size: [64, 64], mosaic: {}, copy_paste: {}}\ninput_size: [64, 64]\nepochs: 1\n"
        "epoch_samples: 2\nbatch: 2\n"
    )
    run = train(tmp_path / "r.yaml", out=tmp_path / "run")
    assert "AP" in (run / "metrics.csv").read_text()


def test_balance_is_by_square_roots_and_bears_pictures_without_objects(made: Path, tmp_path: Path):
    data = open_dataset(made / "coco")
    assert sampling_weights("plain", data).tolist() == [0.25] * 4
    grouped = data.with_groups({"0001": "a", "0002": "b", "0003": "b", "0004": "b"})
    weights = sampling_weights("group", grouped)
    np.testing.assert_allclose(weights / weights[1], [np.sqrt(3), 1, 1, 1])
    write_synthetic(tmp_path / "empty", 3, (32, 32), 0, 1)
    np.testing.assert_allclose(sampling_weights("class", open_dataset(tmp_path / "empty")), [1 / 3] * 3)


def test_a_sheet_has_the_partners_of_training(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from apiece.data import show

    seen = []
    real = show.drawn_from
    monkeypatch.setattr(
        show, "drawn_from", lambda data, weights: seen.append((data.groups, weights)) or real(data, weights)
    )
    (tmp_path / "g.csv").write_text("0001.png,a\n0002.png,b\n0003.png,b\n0004.png,b\n")
    (tmp_path / "r.yaml").write_text(
        "name: t\nclasses: [disc, rod]\ntrain: {path: x, groups: g.csv}\nbalance: group\n"
        "augment: {size: [32, 32], copy_paste: {}}\ninput_size: [64, 64]\nepochs: 1\n"
    )
    show.show_augmented(made / "yolo", tmp_path / "s.png", tmp_path / "r.yaml", columns=1)
    groups, weights = seen[0]
    assert groups == ("a", "b", "b", "b")
    np.testing.assert_allclose(weights / weights[1], [np.sqrt(3), 1, 1, 1])
    with pytest.raises(UsageError, match="seed -1"):
        show.show_augmented(made / "yolo", tmp_path / "s.png", tmp_path / "r.yaml", -1)
