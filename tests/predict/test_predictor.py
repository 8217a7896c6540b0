"""Model.predict: order, isolation of failures, bounded reading ahead; with a runtime that needs no file."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from apiece.core.classes import ClassMap
from apiece.errors import GeometryError, ImageError, ModelError, UsageError
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.predict import predictor
from apiece.predict.predictor import Model

SIDE = 32
POISON = 13


class Squares:
    """One object: the left half of every picture that isn't black; fails where the first pixel is POISON."""

    def __init__(self, boxes=((0, 0, 16, 32), (0, 0, 0, 0)), scores=(0.9, 0.0)) -> None:
        self.card = ModelCard(
            name="squares",
            family="none",
            builder="none",
            classes=ClassMap(("square",)),
            input_size=(SIDE, SIDE),
            mask_frame="box",
            boxes_from="masks",
            threshold=0.5,
            licence="Apache-2.0",
            origin="tests",
            data="none",
        )
        self.boxes, self.scores = np.array(boxes, np.float32), np.array(scores, np.float32)
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> Candidates:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        self.batches.append(len(images))
        if (images[:, 0, 0, 0] == POISON).any():
            raise ModelError("the network cannot do this one")
        lit = (images.max(axis=(1, 2, 3)) > 0).astype(np.float32)
        b, k = len(images), len(self.scores)
        return Candidates(
            self.scores[None] * lit[:, None],
            np.zeros((b, k), np.int64),
            np.broadcast_to(self.boxes, (b, k, 4)),
            np.ones((b, k, 4, 4), np.float32),
            "box",
        )


def picture(path: Path, value: int = 200, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_results_come_in_order_and_do_not_depend_on_the_batch(tmp_path: Path, batch: int):
    sizes = [(32, 32), (64, 32), (20, 50), (1, 1), (200, 300)]
    paths = [picture(tmp_path / f"{i}.png", 10 * i, size) for i, size in enumerate(sizes)]
    runtime = Squares()
    found = list(Model(runtime).predict(paths, batch=batch))
    assert [r.path for r in found] == paths
    # The left half of a picture of one pixel ends at the pixel's centre: a candidate without a pixel.
    assert [(len(r.instances), r.empty) for r in found] == [(0, 0), (1, 0), (1, 0), (0, 1), (1, 0)]
    assert [r.instances.size for r in found] == sizes
    assert max(runtime.batches) == min(batch, len(paths))
    alone = Model(Squares())
    for result in found:
        assert result.instances == alone(result.path)
        assert result.image is None
        assert result.seconds > 0
    # 200 × 300 fills the input's width: its left half is 150 pixels wide, its height is cut at the picture's end.
    assert found[4].instances.boxes.tolist() == [[0, 0, 150, 200]]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_bad_file_and_a_failing_picture_are_named_and_stop_nothing(tmp_path: Path, batch: int):
    paths = [
        picture(tmp_path / "a.png"),
        tmp_path / "missing.png",
        picture(tmp_path / "poison.png", POISON),
        picture(tmp_path / "b.png"),
        tmp_path / "text.png",
        picture(tmp_path / "c.png"),
    ]
    paths[4].write_text("hello")
    found = list(Model(Squares()).predict(paths, batch=batch))
    assert [r.path.name for r in found if r.error is None] == ["a.png", "b.png", "c.png"]
    for result in found:
        assert (result.instances is None) == (result.error is not None)
        if result.error is not None:
            assert str(result.path) in result.error
            assert "\n" not in result.error
    assert "the network cannot do this one" in found[2].error


def test_even_what_nobody_foresaw_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [picture(tmp_path / f"{name}.png") for name in "abcd"]
    real = predictor.read_image

    def read(path):
        if path.name == "b.png":
            raise ValueError("a codec's own\nexception")
        if path.name == "c.png":
            raise MemoryError
        return real(path)

    monkeypatch.setattr(predictor, "read_image", read)
    found = list(Model(Squares()).predict(paths))
    assert [r.error is None for r in found] == [True, False, False, True]
    assert found[1].error == f"{paths[1]}: failed with ValueError (a codec's own exception)."
    assert "not enough memory" in found[2].error


@pytest.mark.parametrize("batch", [1, 3])
def test_pictures_are_read_in_the_background_but_never_far_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
):
    """The source never ends, so a predictor that reads it whole never returns."""
    path = picture(tmp_path / "a.png")
    read, threads = [], set()
    real = predictor.read_image

    def counted(p):
        read.append(p)
        threads.add(threading.current_thread())
        return real(p)

    monkeypatch.setattr(predictor, "read_image", counted)
    results = Model(Squares()).predict((path for _ in itertools.count()), batch=batch)
    for taken in range(1, 20):
        next(results)
        assert len(read) <= taken + 2 * batch
    results.close()
    assert threading.main_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_options_that_cannot_be_meant_are_refused_before_anything_is_read(tmp_path: Path):
    model = Model(Squares())
    for options in ({"threshold": 0.0}, {"threshold": 1.5}, {"threshold": float("nan")}, {"batch": 0}):
        with pytest.raises(UsageError, match=next(iter(options))):
            model.predict(["missing.png"], **options)
    with pytest.raises(UsageError, match="threshold"):
        model("missing.png", threshold=-1)


def test_one_path_is_one_picture_not_its_letters(tmp_path: Path):
    path = picture(tmp_path / "a.png")
    assert [r.path for r in Model(Squares()).predict(str(path))] == [path]


def test_images_are_kept_on_request(tmp_path: Path):
    path = picture(tmp_path / "a.png", 77, (20, 30))
    (result,) = Model(Squares()).predict([path], keep_images=True)
    assert result.image.shape == (20, 30, 3)
    assert (result.image == 77).all()


def test_candidates_without_a_pixel_are_counted(tmp_path: Path):
    runtime = Squares(boxes=((0, 0, 16, 32), (5.6, 5.6, 5.7, 5.7)), scores=(0.9, 0.8))
    (result,) = Model(runtime).predict([picture(tmp_path / "a.png")])
    assert (len(result.instances), result.empty, result.instances.truncated) == (1, 1, True)


def test_a_threshold_overrides_the_cards(tmp_path: Path):
    model = Model(Squares())
    path = picture(tmp_path / "a.png")
    assert len(model(path)) == 1
    assert len(model(path, threshold=0.95)) == 0


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_an_array_that_is_no_rgb_picture_is_refused_with_the_remedy(array):
    with pytest.raises(GeometryError, match="read_image"):
        Model(Squares())(array)


def test_several_pictures_in_one_call_are_sent_to_predict(tmp_path: Path):
    with pytest.raises(UsageError, match=r"model\.predict"):
        Model(Squares())([picture(tmp_path / "a.png")])


def test_a_single_bad_picture_raises(tmp_path: Path):
    with pytest.raises(ImageError, match=r"missing\.png"):
        Model(Squares())(tmp_path / "missing.png")
