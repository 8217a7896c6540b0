"""Which entries the report shows, and how they are drawn: at their place, small, and each picture read once."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_scene import entries_of, instances, scene

from apiece.core.image import write_image
from apiece.evaluate.ledger import KINDS, LOOSE, MERGED, SPURIOUS, Ledger
from apiece.evaluate.report import crops
from apiece.evaluate.report.choosing import ALL, FEW, MOST, PER_PICTURE, Entries, choose
from apiece.evaluate.report.choosing import entries_of as by_entry
from apiece.evaluate.report.crops import SIDE, Crop, Wish, draw
from apiece.evaluate.scenes import scenes_of_instances
from apiece.evaluate.subject import Subject


@pytest.fixture
def diagnosed(tmp_path: Path) -> tuple[Subject, Ledger]:
    return scene(tmp_path)


def decoded(crop: Crop) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(crop.uri.split(",", 1)[1]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def points(path: str) -> np.ndarray:
    return np.array(re.findall(r"-?\d+(?:\.\d+)?", path), np.float64).reshape(-1, 2)


def drawn(subject: Subject, ledger: Ledger, *wishes: Wish, kind: str = "segm") -> dict[str, Crop]:
    return dict(draw(subject, wishes, ledger.predicted_kind >= 0, kind).crops)


def test_entries_agree_with_the_ledger(diagnosed: tuple[Subject, Ledger]) -> None:
    _, ledger = diagnosed
    found = by_entry(ledger)
    for entry in range(found.count):
        truth, predicted = ledger.members(entry)
        kinds = {*ledger.truth_kind[truth].tolist(), *ledger.predicted_kind[predicted].tolist()}
        assert kinds == {found.kind[entry]}
        scenes = ledger.overlaps.scenes
        images = {*scenes.truth.images[truth].tolist(), *scenes.predicted.images[predicted].tolist()}
        assert images == {found.image[entry]}
    merged = np.flatnonzero(found.kind == MERGED)
    assert found.badness[merged].tolist() == pytest.approx([2 + 0.7 / 2])
    spurious = np.flatnonzero(found.kind == SPURIOUS)
    assert sorted(found.badness[spurious].tolist()) == pytest.approx([0.85, 0.9])
    across, iou = ledger.overlaps.across, ledger.overlaps.iou
    loose = int(np.flatnonzero(ledger.predicted_kind == LOOSE)[0])
    own = (across.second == loose) & (across.first == ledger.partner[loose])
    assert -found.badness[ledger.predicted_entry[loose]] == pytest.approx(iou[own][0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(KINDS) - 1), st.integers(0, 8), st.integers(0, 50)), max_size=200),
)
def test_chosen_are_the_worst_and_others(rows: list[tuple[int, int, int]]) -> None:
    kind, image, badness = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    entries = Entries(kind, image, badness.astype(np.float64))
    chosen = choose(entries)
    assert [one.kind for one in chosen] == sorted(set(kind.tolist()))
    assert sum(len(one.worst) + len(one.random) for one in chosen) <= ALL
    for one in chosen:
        shown = [*one.worst, *one.random]
        assert len(shown) == len(set(shown))
        assert set(kind[shown].tolist()) == {one.kind}
        most = FEW if KINDS[one.kind] in ("matched", "ignored") else MOST
        total = int((kind == one.kind).sum())
        assert one.entries == total
        assert len(shown) <= most
        if total <= FEW:
            assert len(shown) == total
        ranked = badness[list(one.worst)].tolist()
        assert ranked == sorted(ranked, reverse=True)
        if one.random:
            assert np.unique(image[list(one.worst)], return_counts=True)[1].max(initial=0) <= PER_PICTURE
            left = np.setdiff1d(np.flatnonzero(kind == one.kind), one.worst)
            full = [i for i in set(image.tolist()) if (image[list(one.worst)] == i).sum() == PER_PICTURE]
            open_ones = left[~np.isin(image[left], full)]
            assert badness[open_ones].max(initial=0) <= min(ranked, default=50)
            assert f"the {len(one.worst)} " in one.told
            assert f"and {len(one.random)} drawn at random" in one.told


def test_outlines_lie_where_the_objects_are(diagnosed: tuple[Subject, Ledger]) -> None:
    subject, ledger = diagnosed
    crop = drawn(subject, ledger, Wish("a", 0, truth=(6,)))["a"]
    (own,) = [one for one in crop.outlines if one.role == "subject"]
    # The object's box is 120..140 × 10..30; the window is a square of 48 inside the picture of 160 × 120.
    assert (crop.width, crop.height) == (48, 48)
    low, high = points(own.path).min(axis=0), points(own.path).max(axis=0)
    assert (high - low).tolist() == [20, 20]
    left, top = (np.array([120, 10]) - low).tolist()
    assert (left, top) == (106, 0)
    pixels = decoded(crop)
    assert pixels.shape == (48, 48, 3)
    # The picture's red is x and its green y.
    assert np.abs(pixels[24, 24].astype(int) - (106 + 24, 24, (106 + 48) // 2)).max() <= 6
    near = {one.side for one in crop.outlines if one.role == "near"}
    assert near == set()


def test_neighbours_are_thin_and_not_drawn_twice(diagnosed: tuple[Subject, Ledger]) -> None:
    subject, ledger = diagnosed
    crop = drawn(subject, ledger, Wish("a", 0, truth=(0,), predicted=(0,)))["a"]
    roles = sorted((one.side, one.role) for one in crop.outlines)
    # Near by: the second object and its prediction, and the duplicate.
    assert roles.count(("truth", "subject")) == roles.count(("prediction", "subject")) == 1
    assert roles.count(("truth", "near")) >= 1
    assert len({(one.side, one.path) for one in crop.outlines}) == len(crop.outlines)
    assert [one.role for one in crop.outlines][-1] == "subject", "on top"


def test_a_picture_smaller_than_the_window_stands_on_the_ground(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((120, 160, 3), 200, np.uint8))
    truth = [instances([(10, 5, 140, 110)], [0], None)]
    scenes = scenes_of_instances(truth, [instances([], [], [])])
    subject = Subject(scenes, ("a.png",), (tmp_path / "a.png",))
    crop = drawn(subject, entries_of(scenes), Wish("a", 0, truth=(0,)))["a"]
    assert (crop.width, crop.height) == (160, 160)
    pixels = decoded(crop)
    assert np.abs(pixels[80, 80].astype(int) - 200).max() < 8
    assert np.abs(pixels[5, 80].astype(int) - crops.GROUND).max() < 16
    # 20 pixels of ground above the picture.
    (own,) = crop.outlines
    assert points(own.path)[:, 1].min() == 25


def test_each_picture_is_read_once(
    diagnosed: tuple[Subject, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, ledger = diagnosed
    read: list[str] = []

    def counted(path: Path) -> np.ndarray:
        read.append(Path(path).name)
        return np.zeros((120, 160, 3), np.uint8)

    monkeypatch.setattr(crops, "read_image", counted)
    wishes = [Wish(f"{i}", i % 3, predicted=(i,)) for i in (0, 3, 6)]
    wishes += [Wish("whole", 0, truth=(0, 1), whole=True), Wish("third", 2, truth=(8,))]
    drawn(subject, ledger, *wishes)
    assert read == ["first.png", "third.png"]


def test_a_picture_of_another_size_is_not_drawn_on(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((60, 80, 3), np.uint8))
    truth = [instances([(10, 5, 20, 20)], [0], None)]
    scenes = scenes_of_instances(truth, [instances([], [], [])])
    subject = Subject(scenes, ("a.png",), (tmp_path / "a.png",))
    found = draw(subject, [Wish("a", 0, truth=(0,))], np.zeros(0, np.bool_), "segm")
    assert found.crops["a"].uri == ""
    assert found.crops["a"].outlines
    assert found.notes == (
        "a.png: has 60 × 80 pixels, but the ground truth says 120 × 160 (height × width), so its objects can't be "
        "drawn on it.",
    )


def test_pictures_of_much_detail_stay_small(tmp_path: Path, rng: np.random.Generator) -> None:
    write_image(tmp_path / "a.png", rng.integers(0, 256, (1000, 1000, 3), np.uint8))
    part = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    assert len(crops._uri(part, 1.0, crops.MOST_BYTES)) < 1.5 * crops.MOST_BYTES
    from apiece.core.image import read_image

    whole = read_image(tmp_path / "a.png")
    assert len(crops._uri(whole, crops.WHOLE / 1000, crops.MOST_BYTES_WHOLE)) < 1.5 * crops.MOST_BYTES_WHOLE
    assert (ALL + 16) * 1.5 * crops.MOST_BYTES + 6 * 1.5 * crops.MOST_BYTES_WHOLE < 6e6


def test_outlines_are_short_but_close(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:90, :90]
    blob = (x - 45) ** 2 + (y - 45) ** 2 < 40**2
    from apiece.core.masks import Masks

    (parts,) = Masks.from_dense(blob[None]).to_polygons()
    ring = parts[0][0]
    path = crops._ring_path(ring, crops.STAIR)
    assert len(points(path)) < len(ring) / 2
    shape = np.zeros((90, 90), np.uint8)
    cv2.fillPoly(shape, [np.round(points(path) - 0.5).astype(np.int32)], 1)
    assert (shape.astype(bool) & blob).sum() / (shape.astype(bool) | blob).sum() > 0.95
