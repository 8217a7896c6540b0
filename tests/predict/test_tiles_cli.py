"""`apiece segment --tile` and `apiece count --tile`: files, figures, hints and refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from tile_oracle import oracle

from apiece import cli
from apiece.core.image import read_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.synthetic import Scene, large_scene
from apiece.predict import load as loading
from apiece.predict import write_large
from apiece.predict.large import ArrayWindows
from apiece.predict.write_large import reduced, write_labels


@pytest.fixture
def apiece(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Exit code, stdout, stderr of `apiece …` with the oracle as its model."""

    def run(*arguments: object, slots: int = 64, fails_at: int | None = None):
        monkeypatch.setattr(loading, "load", lambda name: oracle(128, slots, fails_at=fails_at))
        monkeypatch.setattr(sys, "argv", ["apiece", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code, out, err

    return run


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Instances]:
    path = tmp_path_factory.mktemp("plate") / "plate.tif"
    config = Scene(touching=0.3, radius=(3, 9))
    return path, large_scene(np.random.default_rng(1), path, (500, 430), 120, config, ids=True)


def test_segment_writes_the_tiled_objects_into_every_format(apiece, plate, tmp_path: Path, monkeypatch):
    path, truth = plate
    monkeypatch.setattr(write_large, "OVERLAY_SIDE", 250)
    monkeypatch.setattr(write_large, "LARGE", 1000)
    out = tmp_path / "o"
    code, text, err = apiece(
        "segment", path, "--tile", "--overlap", 32, "--out", out, "--as", "coco,overlay,labels,csv"
    )
    assert code == 0, err
    assert "120 objects" in text
    assert "25 tiles at scale 1" in err
    assert "HINT" not in err
    document = json.loads((out / "predictions.json").read_text())
    assert len(document["annotations"]) == 120
    labels = tifffile.imread(out / "plate.labels.tif")
    found = Masks.from_label_image(labels)
    assert (found.iou(truth.masks).max(axis=1).toarray() == 1).all()
    assert len((out / "objects.csv").read_text().splitlines()) == 121
    assert read_image(out / "plate.overlay.png").shape == (250, 215, 3)
    assert {file.name for file in out.iterdir()} == {
        "predictions.json",
        "plate.labels.tif",
        "objects.csv",
        "plate.overlay.png",
    }


def test_count_and_json_tell_how_it_was_tiled(apiece, plate):
    path, _ = plate
    code, text, _ = apiece("count", path, "--tile", "--json")
    row = json.loads(text)["images"][0]
    assert (code, row["count"], row["truncated"]) == (0, 120, False)
    tiling = row["tiling"]
    assert (tiling["scales"], tiling["fragments_dropped"], tiling["full"]) == ([1.0], 0, [])
    assert tiling["tiles"] == 25
    code, text, _ = apiece("count", path, "--json")
    assert "tiling" not in json.loads(text)["images"][0]


def test_an_interrupted_segment_goes_on(apiece, plate, tmp_path: Path, monkeypatch):
    path, _ = plate
    out = tmp_path / "o"
    with pytest.raises(RuntimeError):
        apiece("segment", path, "--tile", "--out", out, fails_at=12)
    assert list((out / ".apiece-work").rglob("*.npz"))
    code, text, _ = apiece("segment", path, "--tile", "--out", out)
    assert (code, "120 objects" in text) == (0, True)
    assert not (out / ".apiece-work").exists()


def test_a_full_tile_is_said_loudly_with_its_place(apiece, tmp_path: Path):
    crowd = np.arange(1, 401, dtype=np.uint8).reshape(20, 20).repeat(2, 0).repeat(2, 1)
    image = np.zeros((200, 200, 3), np.uint8)
    image[60:100, 60:100, 2] = crowd
    cv2.imwrite(str(tmp_path / "crowd.png"), image)
    code, _, err = apiece("count", tmp_path / "crowd.png", "--tile", slots=8)
    assert code == 0
    assert "TRUNCATED" in err
    assert "Where: x " in err
    assert "more" not in err


def test_a_picture_far_larger_than_the_input_gives_a_hint(apiece, tmp_path: Path):
    cv2.imwrite(str(tmp_path / "big.png"), np.zeros((100, 500, 3), np.uint8))
    _, _, err = apiece("count", tmp_path / "big.png")
    assert "HINT" in err
    assert "3.9 times" in err
    assert "--tile" in err
    _, _, err = apiece("count", tmp_path / "big.png", "--tile")
    assert "HINT" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--overlap", 30), "add --tile"),
        (("--scales", "1,2"), "add --tile"),
        (("--tile", "--scales", "1;2"), "with commas"),
        (("--tile", "--scale", 1, "--object-size", 4), "give one"),
        (("--tile", "--object-size", 20), "doesn't state the size"),
        (("--tile", "--microns", 0.5), "unknown which pixel width"),
        (("--tile", "--overlap", 100), "expected 2 to 64"),
    ],
)
def test_options_that_cannot_be_meant(apiece, plate, options, message: str):
    code, _, err = apiece("count", plate[0], *options)
    assert code == 2
    assert message in err


def test_one_bad_picture_among_others(apiece, plate, tmp_path: Path):
    (tmp_path / "bad.tif").write_bytes(b"II*\0")
    code, text, err = apiece("count", tmp_path / "bad.tif", plate[0], "--tile")
    assert code == 2
    assert "bad.tif" in err
    assert "120  total of 1 pictures" in text


def test_reduced_pixels_are_means_and_objects_stay(rng: np.random.Generator):
    image = rng.integers(0, 256, (95, 130, 3), dtype=np.uint8)
    masks = Masks.from_crops(
        [np.ones((20, 30), bool), np.ones((1, 1), bool)], [(10, 40), (129, 94)], (95, 130)
    )
    found = Instances((95, 130), masks, [0, 0], classes=oracle(64).card.classes)
    small, shrunk = reduced(ArrayWindows(image), found, side=50)
    assert small.shape == (32, 44, 3)
    want = image[30:33, 60:63].reshape(-1, 3).mean(axis=0)
    assert np.abs(small[10, 20] - want).max() <= 0.5
    assert (shrunk.masks.areas > 0).all()
    assert shrunk.size == (32, 44)
    same, unchanged = reduced(ArrayWindows(image), found, side=130)
    assert (same == image).all()
    assert unchanged is found


def test_labels_by_bands_equal_those_at_once(tmp_path: Path, rng: np.random.Generator):
    size = (1100, 700)
    crops = [np.ones(rng.integers(5, 300, 2), bool) for _ in range(60)]
    places = np.stack([rng.integers(0, size[1], 60), rng.integers(0, size[0], 60)], axis=1)
    masks = Masks.from_crops([*crops, np.ones((3, 3), bool)], [*places, places[0]], size)
    with pytest.warns(UserWarning, match="wholly under others") as caught:
        want = masks.to_label_image("first")
    hidden = write_labels(tmp_path / "l.tif", masks)
    with tifffile.TiffFile(tmp_path / "l.tif") as file:
        assert file.pages[0].is_tiled
        got = file.asarray()
    assert (got == want).all()
    assert got.dtype == want.dtype
    assert str(hidden) == str(caught[0].message).split()[0]
    assert [path.name for path in tmp_path.iterdir()] == ["l.tif"]
