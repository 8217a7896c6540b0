"""Every ordered pair of formats: what comes out is what `Holds` says, and the report counts what is gone."""

import itertools
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.data.convert import convert
from apiece.data.formats import FORMATS, Picture, detect_format, format_of, open_source
from apiece.data.formats.table import markdown
from apiece.data.losses import losses, round_trip
from apiece.errors import ConversionError, DataError, UsageError
from format_scenes import CLASSES, expected, random_scene, same

NAMES = ("a b.png", "sub/Größe.png", "sub/a b.png")


def scenes_of(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(8, 40, (len(NAMES), 2))
    return [random_scene(rng, tuple(map(int, size)), int(rng.integers(1, 7)), tracks=True) for size in sizes]


def written(folder, name, scenes):
    """A set in one format, and its pictures' names in it."""
    pictures = folder / "pictures"
    target_folder = folder / name
    target_folder.mkdir(parents=True)
    target = format_of(name).TARGET(target_folder, CLASSES)
    names = []
    for number, (label, scene) in enumerate(zip(NAMES, scenes, strict=True), start=1):
        path = pictures / label
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(label.encode()))
        write_image(path, rng.integers(0, 255, (*scene.size, 3), np.uint8))
        names.append(target.add(Picture(label, path, number, scene.size), scene))
    target.finish()
    return target_folder, names


def in_terms_of(objects, classes):
    """The same objects with another class map of the same names."""
    names = [objects.classes.name_of(int(i)) for i in objects.class_ids]
    ids = np.array([classes.names.index(name) for name in names], np.int64)
    tracks, columns = objects.track_ids, dict(objects.columns)
    return Instances(
        objects.size, objects.masks, ids, objects.scores, classes=classes, track_ids=tracks, columns=columns
    )


def counted_by_hand(objects, holds):
    """Losses counted on full frames by SciPy."""
    frames = objects.masks.to_dense()
    counts = dict.fromkeys(("holes", "parts", "overlaps", "hidden", "classes", "crowd", "tracks"), 0)
    smaller = [(int(frame.sum()), place) for place, frame in enumerate(frames)]
    for place, frame in enumerate(frames):
        labels, parts = ndimage.label(frame)
        holed = any(
            (ndimage.binary_fill_holes(labels == k) & (labels != k)).any() for k in range(1, parts + 1)
        )
        counts["holes"] += not holds.holes and holed
        counts["parts"] += holds.parts != "kept" and parts > 1
        above = np.zeros(objects.size, bool)
        for other, mask in enumerate(frames):
            above |= mask & (smaller[other] < smaller[place])
        if not holds.overlaps and (frame & above).any():
            counts["hidden" if not (frame & ~above).any() else "overlaps"] += 1
    counts["classes"] = 0 if holds.classes or len(objects.classes) < 2 else len(objects)
    if not holds.crowd and "iscrowd" in objects.columns:
        counts["crowd"] = int(objects.columns["iscrowd"].sum())
    counts["tracks"] = 0 if holds.track_ids or objects.track_ids is None else len(objects)
    return {kind: int(count) for kind, count in counts.items() if count}


@pytest.mark.parametrize("first", FORMATS)
def test_a_format_is_recognised_among_all_others(tmp_path, first):
    folder, _ = written(tmp_path, first, scenes_of(1))
    assert detect_format(folder) == first


@pytest.mark.parametrize(("first", "second"), [*itertools.product(FORMATS, FORMATS)])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_pair_of_formats_loses_what_the_target_cannot_hold_and_nothing_else(
    tmp_path_factory, first, second, seed
):
    tmp_path = tmp_path_factory.mktemp("pair")
    scenes = scenes_of(seed)
    folder, names = written(tmp_path, first, scenes)
    source = open_source(folder)
    assert detect_format(folder) == first
    before = {p.name: source.read(i) for i, p in enumerate(source.pictures)}
    holds = format_of(second).TARGET.holds
    for name, scene in zip(names, scenes, strict=True):
        stated = format_of(first).TARGET.holds
        same(before[name], in_terms_of(expected(scene, stated), source.classes), stated)

    out = tmp_path / "out"
    result = convert(source, first, second, out)

    target = open_source(out)
    assert result.pictures == len(target.pictures) == len(NAMES)
    after = [target.read(i) for i in range(len(NAMES))]
    wanted = [expected(one, holds, "smaller") for one in before.values()]
    by_content = lambda one: (one.size, one.masks.areas.tolist(), one.masks.pixels.tobytes())  # noqa: E731
    for found, one in zip(sorted(after, key=by_content), sorted(wanted, key=by_content), strict=True):
        same(found, one, holds)

    assert result.objects == sum(map(len, before.values()))
    assert result.written == sum(map(len, wanted))
    counts = {}
    for one in before.values():
        for kind, number in counted_by_hand(one, holds).items():
            counts[kind] = counts.get(kind, 0) + number
    assert result.counts() == counts
    assert result.left_out == []
    assert result.lossless == (counts == {})
    exact = sum(int((round_trip(one, expected(one, holds, "smaller")) == 1).sum()) for one in before.values())
    assert sum(iou == 1 for iou in result.ious) == exact
    json.dumps(result.to_json())


def test_strict_refuses_any_loss_and_writes_nothing(tmp_path):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ConversionError, match="no loss"):
        convert(open_source(folder), "coco", "labels", tmp_path / "out", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_interruption_leaves_nothing_and_the_source_as_it_was(tmp_path):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(open_source(folder), "coco", "labels", tmp_path / "out", progress=stop)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_written_over(tmp_path):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        convert(open_source(folder), "coco", "labels", tmp_path / "out")
    with pytest.raises(UsageError, match="lies in the source"):
        convert(open_source(folder), "coco", "labels", folder / "new")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_one_document_goes_to_a_file(tmp_path):
    folder, _ = written(tmp_path, "labels", scenes_of(3))
    out = tmp_path / "mine.json"
    result = convert(open_source(folder), "labels", "coco", out)
    assert result.written == result.objects
    assert out.is_file()
    assert len(open_source(out, tmp_path / "labels" / "images").pictures) == len(NAMES)


def test_unknown_formats_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="yolo"):
        format_of("yolov8")
    (tmp_path / "x.bin").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no annotation format"):
        detect_format(tmp_path / "x.bin")


def test_a_copy_counts_once_for_one_original():
    scene = random_scene(np.random.default_rng(0), (20, 20), 1)
    twice = Instances.concatenate([scene, scene])
    assert round_trip(twice, scene).tolist() == [1, 0]
    assert round_trip(scene, twice).tolist() == [1]
    assert list(losses(scene, scene, format_of("coco").TARGET.holds, "x")) == []


def test_the_docs_say_what_the_formats_hold():
    page = (Path(__file__).parents[2] / "docs/reference/formats.md").read_text()
    made = page.partition("test_convert.py -->\n")[2].partition("\n<!-- /table -->")[0]
    assert made == markdown()
