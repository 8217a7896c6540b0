"""Large pictures from end to end: counts and masks equal the untiled truth; resuming, full tiles, scales."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_oracle import Fault, oracle

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.core.windows import open_windows
from apiece.data.synthetic import Scene, large_scene, scene
from apiece.errors import GeometryError, ImageError, ModelError, UsageError
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.predict.across_scales import merge_scales
from apiece.predict.large import ArrayWindows
from apiece.predict.load import load
from apiece.predict.predictor import Model
from apiece.predict.scale import choose_scale, default_overlap, margin_of, tile_size
from apiece.predict.seams import Sewn

MIXED = Scene(touching=0.3, overlap=0.3, cluster=6, radius=(3, 14), min_visible=0.3)


def as_set(found: Instances) -> list[tuple]:
    """Every object as a value, sorted; equal lists are the same objects, none lost or doubled."""
    masks = found.masks
    return sorted(
        (*masks.offsets[i].tolist(), *masks.shapes[i].tolist(), masks.crop(i).tobytes())
        for i in range(len(found))
    )


def painted(masks: Masks) -> np.ndarray:
    """The picture whose colours are the masks' numbers; later ones hide earlier ones."""
    numbers = masks.to_label_image("last", np.uint32)
    return np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=2).astype(np.uint8)


def mixed(seed: int = 1, size: tuple[int, int] = (500, 420), count: int = 150):
    return scene(np.random.default_rng(seed), size, count, MIXED, ids=True)


# ---- an oracle's tiles


def test_six_hundred_objects_are_found_exactly_whatever_the_layout():
    truth = scene(np.random.default_rng(4), (2000, 2000), 600, MIXED, ids=True)
    model = oracle(384)
    for offset in ((0, 0), (100, 230)):
        done: list[tuple[int, int]] = []
        result = model.segment_large(
            truth.image, overlap=48, offset=offset, progress=lambda *p, done=done: done.append(p)
        )
        assert as_set(result.instances) == as_set(truth.instances)
        assert (result.fragments, result.full, result.instances.truncated) == (0, (), False)
        assert done[-1] == (len(done), len(done))
        assert result.tiles == len(done)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(48, 130),
    st.integers(10, 24),
    st.tuples(st.integers(0, 120), st.integers(0, 120)),
    st.booleans(),
)
def test_any_layout_gives_the_untiled_truth(seed, side, overlap, offset, parts):
    config = Scene(("disc", "rod", "star"), touching=0.3, overlap=0.3 if parts else 0, radius=(2, 45))
    sample = scene(np.random.default_rng(seed), (260, 330), 40, config, ids=True)
    truth = split(sample.instances) if parts else sample.instances
    result = oracle(side, 128, parts=parts).segment_large(sample.image, overlap=overlap, offset=offset)
    assert as_set(result.instances) == as_set(truth)
    # Parts that a tile told apart may be dropped as pieces of what the next tile saw whole.
    assert parts or result.fragments == 0


def split(found: Instances) -> Instances:
    """Every connected part as an object of its own."""
    crops, places = [], []
    for crop, place in found.masks:
        count, labels = cv2.connectedComponents(crop.view(np.uint8), connectivity=4)
        crops += [labels == i for i in range(1, count)]
        places += [place] * (count - 1)
    masks = Masks.from_crops(crops, places, found.size)
    return Instances(found.size, masks, np.zeros(len(masks), int), classes=found.classes)


def test_rings_and_bars_larger_than_any_tile():
    frames = np.zeros((4, 400, 500), np.uint8)
    cv2.circle(frames[0], (200, 200), 150, 1, 9)
    cv2.circle(frames[1], (200, 200), 60, 1, -1)  # inside the ring
    cv2.rectangle(frames[2], (10, 380), (490, 390), 1, -1)
    cv2.line(frames[3], (400, 5), (470, 370), 1, 12)
    truth = Masks.from_dense(frames)
    for parts in (False, True):
        for offset in ((0, 0), (17, 40), (60, 60)):
            result = oracle(96, parts=parts).segment_large(painted(truth), overlap=24, offset=offset)
            assert (
                result.instances.masks[np.argsort(result.instances.masks.areas)]
                == truth[np.argsort(truth.areas)]
            )


def shaky(lost: float) -> Fault:
    """Near the edges of the input objects are eroded, cut off before the edge, gnawed at, or lost."""

    def fault(number: int, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        side = mask.shape[0]
        score = 0.4 + 0.5 * rng.random()
        if min(x, y, side - x - w, side - y - h) > 8:
            return mask, score
        mask = mask.copy()
        if rng.random() < 0.5:
            mask = cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
        cut = int(rng.integers(0, 5))
        mask[:cut] = mask[side - cut :] = mask[:, :cut] = mask[:, side - cut :] = False
        mask ^= (rng.random(mask.shape) < 0.04) & mask
        return mask, 0.1 if rng.random() < lost else score

    return fault


def test_counts_are_right_where_networks_fail_at_the_edges_of_their_input():
    config = Scene(touching=0.4, cluster=4, radius=(5, 12))
    for seed in range(2):
        sample = scene(np.random.default_rng(seed), (700, 700), 260, config, ids=True)
        # The oracle can't tell the picture's border from a seam, so nothing lies there.
        image = np.pad(sample.image, ((10, 10), (10, 10), (0, 0)))
        truth = sample.instances.masks.shift(10, 10, (720, 720))
        for offset in ((0, 0), (31, 77)):
            result = oracle(160, fault=shaky(0.3)).segment_large(image, overlap=48, offset=offset)
            assert len(result.instances) == 260
            # and each is where it is
            assert (result.instances.masks.iou(truth).max(axis=1).toarray() > 0.6).all()


def test_large_objects_survive_shaky_edges():
    frames = np.zeros((3, 400, 500), np.uint8)
    cv2.circle(frames[0], (200, 200), 150, 1, 20)
    cv2.ellipse(frames[1], (200, 200), (100, 60), 30, 0, 360, 1, -1)
    cv2.rectangle(frames[2], (10, 370), (490, 395), 1, -1)
    truth = Masks.from_dense(frames)
    for offset in ((0, 0), (17, 40), (60, 60)):
        result = oracle(128, fault=shaky(0.0)).segment_large(painted(truth), overlap=48, offset=offset)
        assert len(result.instances) == 3
        assert (result.instances.masks.iou(truth).max(axis=1).toarray() > 0.9).all()


def test_what_fits_one_tile_is_segmented_as_ever():
    truth = mixed(size=(100, 90), count=12)
    model = oracle(100, 200)
    whole = model(truth.image)
    result = model.segment_large(truth.image)
    assert result.instances == whole.sorted_by_score()
    assert (result.tiles, result.scales) == (1, (1.0,))
    assert model.runtime.calls == 2


def test_a_thin_picture_is_tiled_along_one_side_only():
    truth = mixed(3, size=(60, 700), count=60)
    result = oracle(96, 64).segment_large(truth.image, overlap=32)
    assert as_set(result.instances) == as_set(truth.instances)
    assert result.tiles == 11


# ---- full tiles


def test_a_full_tile_is_divided_until_all_objects_are_found():
    truth = mixed(7, size=(300, 300), count=70)
    result = oracle(200, 18).segment_large(truth.image, overlap=40)
    assert as_set(result.instances) == as_set(truth.instances)
    assert not result.instances.truncated
    assert result.full == ()
    assert result.tiles > 4


def test_a_full_tile_is_divided_also_where_the_picture_fits_one():
    truth = mixed(7, size=(200, 200), count=50)
    result = oracle(200, 20).segment_large(truth.image, overlap=40)
    assert as_set(result.instances) == as_set(truth.instances)


def test_where_even_the_smallest_part_is_full_the_place_is_named():
    image = np.zeros((300, 300, 3), np.uint8)
    crowd = np.arange(1, 401, dtype=np.uint32).reshape(20, 20).repeat(2, 0).repeat(2, 1)
    image[200:240, 100:140, 0], image[200:240, 100:140, 1] = crowd & 255, crowd >> 8
    image[20:30, 20:30] = (7, 7, 7)
    result = oracle(150, 20).segment_large(image, overlap=30)
    assert result.instances.truncated
    (place,) = result.full
    assert place.x <= 100
    assert place.right >= 140
    assert place.y <= 200
    assert place.bottom >= 240
    assert place.width * place.height < 150 * 150
    assert [20, 20, 30, 30] in result.instances.boxes.astype(int).tolist()


# ---- interrupted


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Instances]:
    path = tmp_path_factory.mktemp("large") / "plate.tif"
    return path, large_scene(np.random.default_rng(11), path, (700, 620), 200, MIXED, ids=True)


def test_a_run_that_broke_off_goes_on_and_gives_the_same(plate, tmp_path: Path):
    path, truth = plate
    fresh = oracle(128).segment_large(path, overlap=32)
    assert as_set(fresh.instances) == as_set(truth)
    rows = len(range(0, 700 - 128, 96)) + 1
    store = tmp_path / "work"
    with pytest.raises(RuntimeError, match="went down"):
        oracle(128, fails_at=fresh.tiles // 2).segment_large(path, overlap=32, store=store)
    kept = sorted(store.rglob("*.npz"))
    assert 1 <= len(kept) < rows
    assert not list(store.rglob("*.part"))
    model = oracle(128)
    again = model.segment_large(path, overlap=32, store=store)
    assert again.instances == fresh.instances
    assert (again.tiles, again.fragments, again.empty) == (fresh.tiles, fresh.fragments, fresh.empty)
    assert model.runtime.calls == fresh.tiles - len(kept) * (fresh.tiles // rows)
    assert not store.exists()


def test_only_the_same_picture_model_and_settings_go_on(plate, tmp_path: Path):
    path, _ = plate
    store = tmp_path / "work"

    def broken(file: Path = path, **how):
        with pytest.raises(RuntimeError):
            oracle(128, fails_at=20).segment_large(file, store=store, **{"overlap": 32, **how})
        return {folder.name for folder in store.iterdir()}

    first = broken()
    assert broken() == first
    other = tmp_path / "other.tif"
    other.write_bytes(path.read_bytes())
    seen = [first, broken(other), broken(overlap=33), broken(threshold=0.5), broken(offset=(1, 0))]
    assert [len(names) for names in seen] == [1, 2, 3, 4, 5]


def test_a_damaged_row_is_computed_again(plate, tmp_path: Path):
    path, truth = plate
    store = tmp_path / "work"
    with pytest.raises(RuntimeError):
        oracle(128, fails_at=30).segment_large(path, overlap=32, store=store)
    rows = sorted(store.rglob("*.npz"))
    assert len(rows) >= 3
    rows[0].write_bytes(rows[0].read_bytes()[:-200])
    rows[1].write_bytes(b"")
    with np.load(rows[2]) as file:
        arrays = dict(file)
    arrays["shapes"] = arrays["shapes"] + 1
    np.savez_compressed(rows[2], **arrays)
    result = oracle(128).segment_large(path, overlap=32, store=store)
    assert as_set(result.instances) == as_set(truth)


CHILD = """
import sys, time
from tile_oracle import Oracle
from apiece.predict.predictor import Model
class Slow(Oracle):
    def __call__(self, images):
        time.sleep(0.05)
        return super().__call__(images)
Model(Slow(128)).segment_large(sys.argv[1], overlap=32, store=__import__("pathlib").Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(plate, tmp_path: Path):
    path, truth = plate
    store = tmp_path / "work"
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root.parent / 'src'}"}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(store)], env=environment)
    until = time.monotonic() + 60
    while len(list(store.rglob("*.npz"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    kept = len(list(store.rglob("*.npz")))
    assert 3 <= kept < 7
    model = oracle(128)
    result = model.segment_large(path, overlap=32, store=store)
    assert result.instances == oracle(128).segment_large(path, overlap=32).instances
    assert as_set(result.instances) == as_set(truth)
    assert model.runtime.calls == result.tiles - kept * 7


# ---- windows and refusals


def test_files_arrays_and_windows_give_the_same(plate):
    path, _ = plate
    image = tifffile.imread(path)
    with open_windows(path) as windows:
        results = [
            oracle(128).segment_large(p, overlap=32) for p in (path, image, windows, ArrayWindows(image))
        ]
        windows.read(0, 0, 1, 1)  # the caller's windows stay open
    for result in results[1:]:
        assert result.instances == results[0].instances


def test_what_cannot_be_meant_is_refused(tmp_path: Path):
    model, image = oracle(64), np.zeros((200, 200, 3), np.uint8)
    for options, message in (
        ({"scale": 1.0, "object_size": 5.0}, "give one"),
        ({"object_size": 5.0}, "doesn't state the size"),
        ({"microns": 0.5}, "unknown"),
        ({"scale": -1.0}, "above 0"),
        ({"scale": 1000.0}, "more than 64"),
        ({"scale": 60.0}, "at least 8 x 8"),
        ({"overlap": 40}, "expected 2 to 32"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 1.0)}, "different"),
        ({"scales": (0.0,)}, "above 0"),
        ({"threshold": 0.0}, "threshold"),
    ):
        with pytest.raises(UsageError, match=message):
            model.segment_large(image, **options)
    with pytest.raises(ImageError, match="no such file"):
        model.segment_large(tmp_path / "none.tif")
    with pytest.raises(GeometryError, match="uint8"):
        model.segment_large(np.zeros((5, 5)))  # type: ignore[arg-type]


# ---- the scale


def card(**facts) -> ModelCard:
    return oracle(512).card.replace(**facts)


def test_the_scale_follows_what_is_known():
    plain, known = card(), card(object_size=30.0, microns=0.5)
    assert choose_scale(plain).value == 1
    assert choose_scale(plain, file_microns=0.25).value == 1
    assert "doesn't say" in choose_scale(plain, file_microns=0.25).why
    assert choose_scale(known, file_microns=0.25).value == 0.5
    assert choose_scale(known, microns=1.0, file_microns=0.25).value == 2
    assert choose_scale(known, object_size=15, file_microns=0.25).value == 2
    assert choose_scale(known, scale=0.75, file_microns=0.25).value == 0.75


def test_the_card_states_the_size_of_objects_or_not():
    known = card(object_size=30.0, microns=0.5)
    assert ModelCard.from_json(known.to_json(), "here") == known
    document = json.loads(known.to_json())
    del document["object_size"], document["microns"]
    assert ModelCard.from_json(json.dumps(document), "here").object_size is None
    for wrong in (0.0, -1.0, float("inf")):
        with pytest.raises(ModelError, match="object_size must be a number above 0"):
            card(object_size=wrong)
    assert load("cells").card.object_size is not None


def test_the_default_overlap_holds_an_object_of_the_expected_size():
    assert tile_size(card(), 0.5) == (1024, 1024)
    assert default_overlap(card(), 1.0) == 64
    assert default_overlap(card(), 0.5) == 128
    assert default_overlap(card(object_size=40.0), 1.0) == 116
    assert default_overlap(card(object_size=400.0), 1.0) == 256  # half a tile
    for scale in (0.1, 0.7, 1.0, 3.0):
        shared = default_overlap(card(object_size=40.0), scale)
        assert shared - 2 * margin_of(scale, shared) >= 100 / scale


class Discs:
    """Finds bright discs whose diameter in the input is of 20 to 60 pixels; of larger ones it sees grid cells."""

    def __init__(self) -> None:
        self.card = card(object_size=40.0).replace(input_size=(256, 256), mask_frame="image")

    def __call__(self, images: np.ndarray) -> Candidates:
        slots = 64
        count, labels, statistics, _ = cv2.connectedComponentsWithStats(
            (images[0, ..., 0] > 127).astype(np.uint8)
        )
        masks = np.full((1, slots, 256, 256), -1, np.float32)
        scores = np.zeros((1, slots), np.float32)
        slot = 0
        for i in range(1, count):
            w, h = statistics[i, 2:4]
            if max(w, h) < 20:
                continue
            pieces = [labels == i]
            if max(w, h) > 60:
                pieces = [
                    (labels == i)
                    & (np.indices((256, 256)) // 50 == np.array([r, c])[:, None, None]).all(axis=0)
                    for r in range(6)
                    for c in range(6)
                ]
            for piece in pieces:
                if piece.sum() > 50:
                    masks[0, slot][piece] = 1
                    scores[0, slot] = 0.9 if max(w, h) <= 60 else 0.6
                    slot += 1
        order = np.argsort(-scores[0], kind="stable")
        boxes = np.tile(np.float32([0, 0, 256, 256]), (1, slots, 1))
        return Candidates(scores[:, order], np.zeros((1, slots), np.int64), boxes, masks[:, order], "image")


def test_several_scales_find_objects_of_very_different_sizes():
    image = np.zeros((1024, 1024, 3), np.uint8)
    discs = [
        (256, 256, 110),
        (760, 700, 95),
        (300, 800, 60),
        (620, 200, 50),
        *((80 + 90 * i, 470, 14) for i in range(10)),
    ]
    for x, y, r in discs:
        cv2.circle(image, (x, y), r, (200, 200, 200), -1)
    model = Model(Discs())
    result = model.segment_large(image, scales=(0.25, 0.5, 1.0))
    assert result.scales == (0.25, 0.5, 1.0)
    got = sorted(result.instances.boxes.astype(int).tolist())
    want = sorted([x - r, y - r, x + r + 1, y + r + 1] for x, y, r in discs)
    assert len(got) == len(want)
    assert np.abs(np.array(got) - np.array(want)).max() <= 4
    assert result.fragments > 0
    # One scale alone doesn't do.
    for factor in (0.25, 0.5, 1.0):
        assert len(model.segment_large(image, scale=factor).instances) != len(discs)


def sewn(*objects: tuple, size=(100, 100)) -> Sewn:
    """Boxes x1, y1, x2, y2, score, whole."""
    crops = [np.ones((b[3] - b[1], b[2] - b[0]), bool) for b in objects]
    masks = Masks.from_crops(crops, [b[:2] for b in objects], size)
    found = Instances(
        size, masks, np.zeros(len(objects), int), [b[4] for b in objects], classes=ClassMap(("thing",))
    )
    return Sewn(found, np.array([b[5] for b in objects], bool), 0)


def test_a_whole_object_at_a_coarse_scale_suppresses_its_fragments():
    coarse = sewn((10, 10, 50, 50, 0.6, True))
    fine = sewn((10, 10, 28, 30, 0.5, True), (32, 10, 50, 50, 0.9, False), (60, 60, 70, 70, 0.4, True))
    found, dropped = merge_scales([fine, coarse], [1.0, 0.5])
    assert found.boxes.astype(int).tolist() == [[10, 10, 50, 50], [60, 60, 70, 70]]
    assert dropped == 2


def test_a_clump_at_a_coarse_scale_gives_way_to_surer_parts():
    coarse = sewn((10, 10, 50, 50, 0.5, True))
    fine = sewn((10, 10, 28, 50, 0.8, True), (32, 10, 50, 50, 0.7, True))
    found, dropped = merge_scales([coarse, fine], [0.5, 1.0])
    assert found.boxes.astype(int).tolist() == [[10, 10, 28, 50], [32, 10, 50, 50]]
    assert dropped == 1


def test_one_object_at_two_scales_is_one_and_small_ones_on_it_stay_where_both_saw_them():
    coarse = sewn((10, 10, 50, 50, 0.9, True), (20, 20, 30, 30, 0.5, True))
    fine = sewn((10, 11, 51, 50, 0.8, False), (20, 20, 30, 31, 0.7, True))
    found, dropped = merge_scales([coarse, fine], [0.5, 1.0])
    assert found.boxes.astype(int).tolist() == [[10, 10, 50, 50], [20, 20, 30, 31]]
    assert dropped == 0
