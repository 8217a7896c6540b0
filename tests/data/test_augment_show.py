"""The sheet of augmented pictures: a row for each change, true counts, and the same for the same seed."""

from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from apiece.core.image import read_image, write_image
from apiece.data.augment import Affine, Blur, Compose, Flip, Grey, Invert, Rotate90, ScaleCrop, drawn_from
from apiece.data.augment.every import every_change
from apiece.data.show import GAP, LINE, TILE, _described, _told, augmented_sheet, show_augmented
from apiece.data.synthetic import discs
from apiece.errors import DataError, RecipeError, UsageError

SAMPLES = [discs(np.random.default_rng(i), (48, 64), 6) for i in range(3)]
RECIPE = """
name: a
classes: [object]
train: {path: data, groups: groups.csv}
augment: {size: [64, 64], affine: {}, copy_paste: {}, jpeg: 0.5}
input_size: [64, 64]
epochs: 2
"""


def rows_of(sheet: np.ndarray, tile: int) -> int:
    assert sheet.shape[0] % (LINE + tile + LINE + GAP) == 0
    return sheet.shape[0] // (LINE + tile + LINE + GAP)


def test_a_row_for_each_change_that_is_on_and_one_for_all():
    change = Compose((ScaleCrop((64, 64), (1, 2)), Flip(), Flip(0, 0), Affine(0.1), Grey(0.0)))
    sheet = augmented_sheet(SAMPLES, change, 3, columns=2)
    assert rows_of(sheet, 64) == 4  # the two that are off have none
    assert sheet.shape[1] == GAP + 3 * (TILE + GAP)
    np.testing.assert_array_equal(sheet, augmented_sheet(SAMPLES, change, 3, columns=2))
    assert (sheet != augmented_sheet(SAMPLES, change, 4, columns=2)).any()
    assert rows_of(augmented_sheet(SAMPLES, change, 3, rows=1, columns=2), 64) == 2


def test_a_change_alone_happens_always():
    """The negative is at the right of its picture in every column, though its probability is small."""
    dark = [type(s)(s.image // 2, s.instances) for s in SAMPLES]
    sheet = augmented_sheet(dark, Invert(0.01), columns=3)
    tiles = [sheet[LINE : LINE + 48, GAP + i * (TILE + GAP) :][:, :64] for i in range(4)]
    assert tiles[0].mean() < 128
    assert all(tile.mean() > 128 for tile in tiles[1:])


def test_captions_tell_what_became_of_the_objects():
    before = SAMPLES[0]
    assert _told(before, before) == "6 -> 6 objects, unchanged"
    zoom = ScaleCrop((48, 64), (3, 3), 0.95)(before, np.random.default_rng(0))
    told = _told(before, zoom)
    assert told.startswith(f"6 -> {len(zoom.instances)} object")
    assert (f"{zoom.dropped} dropped" in told) == (zoom.dropped > 0)
    assert _described(Affine(0.25, 7)).startswith("Affine   p 0.25, rotation 7, scale 0.8 to 1.25")
    assert _described(Rotate90()) == "Rotate90   "
    assert _described(lambda sample, rng: sample) == "function"


def test_every_change_is_shown_and_none_forgotten():
    import apiece.data.augment as augment

    kinds = {type(step) for step in every_change((64, 64), drawn_from(SAMPLES)).steps}
    ours = {getattr(augment, name) for name in augment.__all__}
    changes = {kind for kind in ours if isinstance(kind, type) and "__call__" in vars(kind)}
    assert changes - kinds == {Compose, augment.Drawn, ScaleCrop}  # Mosaic is ScaleCrop, too


def folder(tmp_path: Path) -> Path:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for i, sample in enumerate(SAMPLES):
        write_image(tmp_path / f"data/images/{i}.png", sample.image)
        labels = sample.instances.masks.to_label_image().astype(np.uint16)
        cv2.imwrite(str(tmp_path / f"data/labels/{i}.png"), labels)
    return tmp_path / "data"


def test_pictures_that_cannot_be_read_are_passed_over(tmp_path):
    data = folder(tmp_path)
    (data / "images/1.png").write_bytes(b"no picture")
    out = show_augmented(data, tmp_path / "sheet.png", columns=1)
    assert read_image(out).shape[1] == GAP + 2 * (TILE + GAP)
    for i in (0, 2):
        (data / f"images/{i}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"\.png"):
        show_augmented(data, tmp_path / "sheet.png")


def test_a_recipe_is_shown_as_it_is_trained(tmp_path):
    pytest.importorskip("pydantic")
    data = folder(tmp_path)
    (tmp_path / "groups.csv").write_text("image,group\n0,a\n1,a\n2,b\n")
    (tmp_path / "r.yaml").write_text(RECIPE)
    out = show_augmented(data, tmp_path / "sheet.png", tmp_path / "r.yaml", 2, columns=2)
    assert read_image(out).shape[0] > 6 * 64  # crop, flip, turn, affine, paste, JPEG, all
    (tmp_path / "groups.csv").write_text("image,group\nelsewhere,a\n")  # of another dataset: no groups then
    show_augmented(data, tmp_path / "sheet.png", tmp_path / "r.yaml", 2, columns=1)
    (tmp_path / "r.yaml").write_text(RECIPE.replace("affine", "afine"))
    with pytest.raises(RecipeError, match="affine"):
        show_augmented(data, tmp_path / "sheet.png", tmp_path / "r.yaml")


def test_without_the_training_extra_a_recipe_is_refused_in_a_sentence(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("apiece.train"):
            raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")
        return real(name, *args, **kwargs)

    data = folder(tmp_path)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="needs pydantic.*pip install"):
        show_augmented(data, tmp_path / "sheet.png", tmp_path / "r.yaml")


def test_nothing_to_show_is_refused():
    with pytest.raises(UsageError, match="0 pictures"):
        augmented_sheet([], Blur(1.0))
    with pytest.raises(UsageError, match="0 columns"):
        augmented_sheet(SAMPLES, Blur(1.0), columns=0)


def test_it_needs_no_torch():
    code = "import sys, apiece.data.show; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.needs_shared
def test_a_sheet_of_real_pictures(shared, tmp_path):
    out = show_augmented(shared / "balloon/train.json", tmp_path / "sheet.png", columns=1)
    assert len(np.unique(read_image(out))) > 200
