"""Every ordered pair of formats: what comes out is what `Holds` says, and the report counts what is gone."""

import itertools
import json
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.data.check import check
from apiece.data.convert import convert
from apiece.data.formats import FORMATS, Picture, detect_format, format_of, open_source
from apiece.data.formats.base import unlike
from apiece.data.formats.coco_pictures import TargetNames
from apiece.data.formats.table import markdown
from apiece.data.losses import counterparts, losses, retold, round_trip
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
    exact = 0
    for one in before.values():
        frames = [
            Counter(frame.tobytes() for frame in side.masks.to_dense())
            for side in (one, expected(one, holds, "smaller"))
        ]
        exact += (frames[0] & frames[1]).total()
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


def test_an_error_of_writing_names_the_place_that_was_asked_for(tmp_path, monkeypatch):
    folder, _ = written(tmp_path, "coco", scenes_of(3))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    for name in FORMATS:
        with pytest.raises(DataError, match="No space left") as raised:
            convert(open_source(folder), "coco", name, tmp_path / "out")
        assert str(raised.value).startswith(str(tmp_path / "out"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "pictures"]


def test_links_are_not_written_over_and_failures_leave_no_folders(tmp_path):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    source = open_source(folder)
    (tmp_path / "elsewhere").mkdir()
    for name, leads in (("dead", "nowhere"), ("alive", "elsewhere")):
        (tmp_path / name).symlink_to(leads)
        with pytest.raises(UsageError, match="exists already"):
            convert(source, "coco", "labels", tmp_path / name)
        assert (tmp_path / name).is_symlink()
    with pytest.raises(ConversionError):
        convert(source, "coco", "labels", tmp_path / "a" / "b" / "out", strict=True)
    assert not (tmp_path / "a").exists()
    convert(source, "coco", "labels", tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / "out" / "labels").is_dir()


@pytest.mark.parametrize("name", FORMATS)
def test_without_pictures_none_and_no_empty_folder_is_left(tmp_path, name):
    folder, _ = written(tmp_path, "coco", scenes_of(3))  # with pictures in a folder and in one below
    source = open_source(folder)
    whole = convert(source, "coco", name, tmp_path / "whole")
    bare = convert(source, "coco", name, tmp_path / "bare", pictures=False)
    assert (bare.ious, bare.counts()) == (whole.ious, whole.counts())
    left = [path.relative_to(tmp_path / "bare") for path in (tmp_path / "bare").rglob("*")]
    everything = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")]
    assert set(left) < set(everything)
    pictures = {path.read_bytes() for path in (folder / "images").rglob("*.png")}
    assert not any((tmp_path / "bare" / one).read_bytes() in pictures for one in left if one.suffix == ".png")
    assert all(any((tmp_path / "bare" / one).iterdir()) for one in left if (tmp_path / "bare" / one).is_dir())


def test_a_folder_is_not_called_as_a_document(tmp_path):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    source = open_source(folder)
    for to, name in (("voc", "x.json"), ("cvat", "x.json"), ("coco-panoptic", "x.json"), ("coco", "x.txt")):
        with pytest.raises(UsageError, match="is written as a folder"):
            convert(source, "coco", to, tmp_path / name)
    convert(source, "coco", "coco", tmp_path / "x.JSON")
    assert (tmp_path / "x.JSON").is_file()
    convert(source, "coco", "labels", tmp_path / "v1.2")
    assert (tmp_path / "v1.2").is_dir()


@pytest.mark.parametrize("to", FORMATS)
def test_a_picture_that_is_gone_and_a_hidden_one_stop_nothing(tmp_path, to):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    document = json.loads((folder / "annotations.json").read_text())
    gone, hidden, _ = (image["file_name"] for image in document["images"])
    (folder / "images" / gone).unlink()
    (folder / "images" / hidden).rename(folder / "images" / ".hidden.png")
    document["images"][1]["file_name"] = ".hidden.png"
    (folder / "annotations.json").write_text(json.dumps(document))
    source = open_source(folder, strict=False)
    out = tmp_path / "out"
    result = convert(source, "coco", to, out)
    told = [(problem.where, problem.left_out) for problem in result.left_out]
    assert told == ([(gone, "the picture")] if to == "yolo" else [])  # which states no sizes
    assert ".part" not in result.to_text()
    found = open_source(out, strict=False)
    assert len(found.pictures) == len(NAMES) - len(told)
    assert sum(len(found.read(i)) for i in range(len(found.pictures))) == result.written
    assert not result.lossless or result.written == result.objects


def test_what_the_target_reads_otherwise_is_said(tmp_path):
    """LabelMe has a name of its own for what is no object."""
    scene = random_scene(np.random.default_rng(1), (20, 20), 3)
    classes = ClassMap(("_background_", *CLASSES.names[1:]))
    scene = Instances(scene.size, scene.masks, np.zeros(len(scene), np.int64), classes=classes)
    folder = tmp_path / "coco"
    folder.mkdir()
    target = format_of("coco").TARGET(folder, classes)
    target.add(Picture("a.png", None, 1, scene.size), scene)
    target.finish()
    result = convert(open_source(folder), "coco", "labelme", tmp_path / "out")
    assert {problem.left_out for problem in result.left_out} == {"the shape"}
    assert {problem.file for problem in result.left_out} == {str(tmp_path / "out" / "a.json")}
    assert not result.lossless


def test_classes_tracks_and_marks_that_come_back_otherwise_are_losses():
    holds = format_of("coco").TARGET.holds
    before = random_scene(np.random.default_rng(4), (30, 30), 4, tracks=True)
    crowd = np.zeros(len(before), bool)
    before = Instances(
        before.size,
        before.masks,
        np.arange(len(before)) % len(CLASSES),
        classes=CLASSES,
        track_ids=np.arange(len(before)),
        columns={"iscrowd": crowd},
    )

    def rows(**changed):
        kept = {
            "class_ids": before.class_ids,
            "track_ids": before.track_ids,
            "columns": before.columns,
        } | changed
        after = Instances(before.size, before.masks, kept.pop("class_ids"), classes=CLASSES, **kept)
        _, places = counterparts(before, after)
        return [row.kind for row in retold(before, after, places, holds, "x")]

    assert rows() == []
    assert set(rows(class_ids=np.zeros(len(before), np.int64))) == {"retold"}
    assert len(rows(track_ids=None)) == len(before)
    assert rows(columns={"iscrowd": crowd | (np.arange(len(before)) == 1)}) == ["retold"]
    assert rows(scores=np.r_[0.5, np.ones(len(before) - 1)]) == ["retold"]


def test_nothing_readable_is_an_error_and_cut_outlines_are_noted(tmp_path):
    (tmp_path / "set").mkdir()
    shape = {"label": "a", "points": [[-9, 2], [5, 2], [5, 9]], "shape_type": "polygon"}
    entry = {"shapes": [shape], "imagePath": "x.png", "imageHeight": 20, "imageWidth": 20}
    (tmp_path / "set" / "x.json").write_text(json.dumps(entry))
    result = convert(open_source(tmp_path / "set"), "labelme", "coco", tmp_path / "out")
    assert any("reaches beyond its picture" in note for note in result.notes)
    del entry["imageHeight"], entry["imageWidth"]
    (tmp_path / "set" / "x.json").write_text(json.dumps(entry))
    with pytest.raises(DataError, match="none of its pictures can be read"):
        convert(open_source(tmp_path / "set", strict=False), "labelme", "coco", tmp_path / "two")
    assert not (tmp_path / "two").exists()
    (tmp_path / "set" / "000001.txt").write_text("nothing of a kind\n")
    with pytest.raises(DataError, match="none of its pictures can be read"):
        convert(open_source(tmp_path / "set", None, "mots", strict=False), "mots", "coco", tmp_path / "two")


def test_a_set_without_pictures_is_written_where_a_format_can_say_so(tmp_path):
    (tmp_path / "set.json").write_text('{"images": [], "annotations": [], "categories": []}')
    source = open_source(tmp_path / "set.json")
    for name in FORMATS:
        out = tmp_path / name
        if name in ("coco", "coco-panoptic", "cvat"):
            assert convert(source, "coco", name, out).lossless
            assert open_source(out).pictures == ()
        else:
            with pytest.raises(DataError, match=r"set\.json: has no picture"):
                convert(source, "coco", name, out)
            assert not out.exists()


def test_thousands_of_pictures_of_one_name_take_no_time(tmp_path):
    """As where each has a folder of its own; trying x-2, x-3, … anew for each took minutes."""
    target, names = format_of("voc").TARGET(tmp_path, CLASSES), TargetNames([])
    pictures = [Picture(f"/{i}/Image.png", None, i, (2, 2)) for i in range(20_000)]
    began = time.perf_counter()
    assert len({str(target.flat_name(picture)).lower() for picture in pictures}) == len(pictures)
    assert len({names.take(picture)[0].lower() for picture in pictures}) == len(pictures)
    assert time.perf_counter() - began < 10


def test_names_that_are_numbered_already_stay_apart():
    taken = {}
    tried = ["x", "x-2", "X", "x", "x-2", "x-3"]
    made = [unlike(one, taken, lambda n, one=one: f"{one}-{n}", str.lower)[0] for one in tried]
    assert made == ["x", "x-2", "X-3", "x-4", "x-2-2", "x-3-2"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_names_the_file_of_its_objects(tmp_path, name):
    folder, _ = written(tmp_path, name, scenes_of(3))
    source = open_source(folder)
    files = [source.file_of(i) for i in range(len(NAMES))]
    assert all(file.exists() and file != folder for file in files)
    assert len(set(files)) == (1 if source.shared else len(NAMES)) or name == "mots"


def test_a_picture_folder_that_is_not_there_is_refused(tmp_path):
    folder, _ = written(tmp_path, "coco", scenes_of(3))
    with pytest.raises(DataError, match="expected the picture folder"):
        open_source(folder, tmp_path / "nowhere", strict=False)


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


def test_a_damaged_file_is_named_itself(tmp_path):
    folder, names = written(tmp_path, "coco-panoptic", scenes_of(3))
    png = sorted((folder / "panoptic").rglob("*.png"))[0]
    png.write_bytes(png.read_bytes()[:40])
    result = convert(open_source(folder), "coco-panoptic", "coco", tmp_path / "out")
    assert [(problem.file, problem.where in names) for problem in result.left_out] == [(str(png), True)]
    assert str(png) not in result.left_out[0].message
    assert [problem.file for problem in check(folder).errors] == [str(png)]
