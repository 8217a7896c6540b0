"""MOTS: exact round trips, run-length codes of pycocotools, KITTI's layouts, PNG, damaged lines, a million lines."""

from __future__ import annotations

import json
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import labels, mots
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

HOLDS = mots.TARGET.holds
SIZE = (6, 9)
KITTI = ClassMap(("car", "pedestrian"), (1, 2))


def picture(folder, name, size=SIZE):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size, 3), np.uint8))
    return path


def line(frame, track, category, columns, size=SIZE):
    """A line as mots_tools writes it: its RLE is pycocotools'."""
    array = np.zeros(size, np.uint8, order="F")
    array[1:3, columns] = 1
    return f"{frame} {track} {category} {size[0]} {size[1]} {coco.encode(array)['counts'].decode()}\n"


def text(folder, *lines, name="instances_txt/0002.txt"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path


CAR, WALKER = line(0, 1001, 1, slice(0, 2)), line(0, 2003, 2, slice(4, 7))
IGNORED = line(2, 10000, 10, slice(0, 9))


def written(folder, named_scenes, classes=CLASSES, pictures=True):
    (folder / "set").mkdir(parents=True)
    target = mots.TARGET(folder / "set", classes, pictures=pictures)
    names = []
    for number, (name, scene) in enumerate(named_scenes, start=1):
        path = picture(folder / "from", name, scene.size)
        names.append(target.add(Picture(name, path, number, scene.size), scene))
    target.finish()
    return folder / "set", names, target


def names_of(objects):
    return [objects.classes.name_of(int(i)) for i in objects.class_ids]


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.booleans().flatmap(lambda tracks: scenes(tracks=tracks)), min_size=1, max_size=3),
    st.sampled_from(["{}.png", "0002/{:06}.png", "a/b/Größe {}.jpg"]),
)
def test_what_is_written_is_read_back(tmp_path_factory, several, name):
    named = [(name.format(number), scene) for number, scene in enumerate(several)]
    folder, names, _ = written(tmp_path_factory.mktemp("mots"), named)
    source = mots.open_source(folder)
    assert [one.name for one in source.pictures] == names
    for index, scene in enumerate(several):
        same(source.read(index), expected(scene, HOLDS), HOLDS)
    assert source.classes.names == CLASSES.names
    assert not source.problems
    assert mots.detect(folder)
    assert not labels.detect(folder)


@settings(max_examples=25, deadline=None)
@given(scenes(tracks=True))
def test_codes_are_pycocotools_own(tmp_path_factory, scene):
    folder, _, _ = written(tmp_path_factory.mktemp("rle"), [("0002/000003.png", scene)])
    rows = [row.split(" ") for row in (folder / "instances_txt" / "0002.txt").read_text().splitlines()]
    wanted = expected(scene, HOLDS)
    codes = [
        coco.encode(np.asfortranarray(frame))["counts"].decode()
        for frame in wanted.masks.to_dense().astype("u1")
    ]
    assert [row[5] for row in rows] == codes
    assert [row[:2] + row[3:5] for row in rows] == [
        ["3", str(track), str(scene.size[0]), str(scene.size[1])]
        for track in (wanted.track_ids if len(wanted) else [])
    ]


def test_without_tracks_numbers_run_through_the_sequence(tmp_path):
    masks = Masks.from_crops([np.ones((1, 1), bool)] * 3, [[i, 0] for i in range(3)], SIZE)
    bare = Instances(SIZE, masks, [0, 1, 1], classes=KITTI)
    tracked = Instances(SIZE, masks, [0, 1, 1], classes=KITTI, track_ids=[1001, 5, 2003])
    named = [("0002/0.png", tracked), ("0002/1.png", bare), ("0002/2.png", bare), ("0003/0.png", bare)]
    folder, _, _ = written(tmp_path, named, KITTI)
    source = mots.open_source(folder)
    assert [source.read(i).track_ids.tolist() for i in range(4)] == [
        [1001, 5, 2003],
        [1002, 2001, 2002],
        [1003, 2004, 2005],
        [1001, 2001, 2002],
    ]


def test_a_thousand_objects_without_tracks_have_different_ids(tmp_path):
    array = np.arange(1, 1102).reshape(-1, 3)
    scene = Instances(array.shape, Masks.from_label_image(array), np.arange(1101) % 2, classes=KITTI)
    folder, _, _ = written(tmp_path, [(f"s/{n}.png", scene) for n in range(2)], KITTI)
    source = mots.open_source(folder)
    tracks = np.concatenate([source.read(i).track_ids for i in range(2)])
    assert len(np.unique(tracks)) == len(tracks) == 2202


def test_names_of_pictures_become_sequences_and_frames(tmp_path):
    scene = random_scene(np.random.default_rng(0), SIZE, 2)
    names = ["0002/000007.png", "0002/x.png", "0002/7.png", "../../evil/a.png", "b.png"]
    folder, given_names, target = written(tmp_path / "a" / "b", [(name, scene) for name in names])
    assert given_names == [
        "0002/000007.png",
        "0002/000008.png",
        "0002/000009.png",
        "evil/000001.png",
        "0001/000001.png",
    ]
    assert "4 pictures are named by sequence and frame" in target.notes[0]
    assert sorted(p.name for p in mots.open_source(folder).pictures) == sorted(given_names)


# ---- layouts as the challenges have them


@pytest.mark.parametrize("place", ["images/0002", "0002", "training/image_02/0002", "train/images/0002"])
def test_text_with_pictures(tmp_path, place):  # KITTI MOTS' training/image_02, MOTSChallenge's train/images
    text(tmp_path, CAR, IGNORED, WALKER)
    for frame in range(3):
        picture(tmp_path, f"{place}/{frame:06}.png")
    source = mots.open_source(tmp_path)
    assert [p.name for p in source.pictures] == [f"0002/{frame:06}.png" for frame in range(3)]
    found = source.read(0)
    assert names_of(found) == ["car", "pedestrian"]
    assert found.track_ids.tolist() == [1001, 2003]
    assert found.masks.areas.tolist() == [4, 6]
    assert found.columns["iscrowd"].tolist() == [False, False]
    assert len(source.read(1)) == 0
    assert names_of(source.read(2)) == ["ignore"]
    assert source.read(2).columns["iscrowd"].tolist() == [True]
    assert mots.detect(tmp_path)
    assert mots.detect(tmp_path / "instances_txt")
    assert mots.detect(tmp_path / "instances_txt" / "0002.txt")
    for inner in (tmp_path / "instances_txt", tmp_path / "instances_txt" / "0002.txt"):
        assert len(mots.open_source(inner).pictures) == 3


def test_ignored_regions_are_written_as_they_were(tmp_path):
    text(tmp_path, IGNORED)
    picture(tmp_path, "0002/000002.png")
    source = mots.open_source(tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    target = mots.TARGET(again, source.classes)
    target.add(source.pictures[0], source.read(0))
    target.finish()
    assert (again / "instances_txt" / "0002.txt").read_text() == IGNORED
    assert mots.open_source(again).read(0).columns["iscrowd"].tolist() == [True]


def test_png(tmp_path):
    array = np.zeros(SIZE, np.uint16)
    array[0], array[1], array[2] = 2001, 10000, 1003
    path = tmp_path / "instances" / "0002" / "000004.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
    source = mots.open_source(tmp_path)
    assert (source.pictures[0].path, source.size(0)) == (None, SIZE)
    found = source.read(0)
    assert names_of(found) == ["car", "pedestrian", "ignore"]
    assert found.track_ids.tolist() == [1003, 2001, 10000]
    assert found.masks.offsets[:, 1].tolist() == [2, 0, 1]
    assert mots.detect(tmp_path)
    assert mots.detect(tmp_path / "instances")
    picture(tmp_path, "images/0002/000004.jpg")
    picture(tmp_path, "images/0002/000005.jpg")
    source = mots.open_source(tmp_path)
    assert [len(source.read(i)) for i in range(2)] == [3, 0]
    assert not source.problems

    array[3], array[4] = 7, 5001
    path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
    with pytest.raises(AnnotationError, match=r"000004\.png: object 7: is of class 0, which has no name"):
        mots.open_source(tmp_path).read(0)
    problems = []
    assert len(mots.open_source(tmp_path).read(0, problems)) == 3
    assert [problem.where for problem in problems] == ["object 7", "object 5001"]
    path.write_bytes(cv2.imencode(".png", array[:5])[1].tobytes())
    with pytest.raises(AnnotationError, match=r"labels are 5 x 9 .*000004\.jpg is 6 x 9"):
        mots.open_source(tmp_path).read(0, [])


def test_pictures_elsewhere_and_none_at_all(tmp_path):
    text(tmp_path, CAR)
    alone = mots.open_source(tmp_path)
    assert (alone.pictures[0].path, alone.size(0)) == (None, SIZE)
    assert "1 frame without a picture" in alone.problems[0].message
    path = picture(tmp_path / "photographs", "000000.jpg")
    assert mots.open_source(tmp_path, tmp_path / "photographs").pictures[0].path == path


def test_neighbours_are_not_claimed(tmp_path, rng):
    text(tmp_path / "yolo", "0 0.1 0.2 0.3 0.4 0.5 0.6\n", name="a.txt")
    text(tmp_path / "mot", "1,1,10,20,30,40,1,-1,-1,-1\n", name="gt.txt")
    text(tmp_path / "prose", "1 2 3 4 of these and those\n", name="readme.txt")
    picture(tmp_path / "eight" / "instances" / "0001", "000001.png")
    for name in ("yolo", "mot", "prose", "eight", "absent", "yolo/a.txt"):
        assert not mots.detect(tmp_path / name), name


# ---- damaged


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("0 1001 1 6 9\n", "has 5 fields; expected six"),
        ("0 1001 1 6 9 abc def\n", "has 7 fields"),
        ("x 1001 1 6 9 abc\n", "begins with 'x 1001 1 6 9'; expected five whole numbers"),
        ("0 -4 1 6 9 abc\n", "begins with .*expected five whole numbers"),
        ("0 1e9 1 6 9 abc\n", "begins with .*expected five whole numbers"),
        (f"{'9' * 30} 1 1 6 9 abc\n", "begins with .*expected five whole numbers"),
        ("0 1001 1 0 9 abc\n", "is of a picture of 0 x 9"),
        ("0 1001 1 999999999 999999999 abc\n", "is of a picture of 999999999 x 999999999"),
        (
            line(0, 1002, 1, slice(0, 2), (9, 6)),
            "is of a picture of 9 x 6, an earlier line of frame 0 of 6 x 9",
        ),
        ("\x00\xff\n", "has 1 fields"),
    ],
)
def test_lines_that_cannot_be_parsed(tmp_path, bad, message):
    text(tmp_path, CAR, bad, WALKER)
    with pytest.raises(AnnotationError, match=rf"0002\.txt: line 2: {message}.*Remedy: "):
        mots.open_source(tmp_path)
    source = mots.open_source(tmp_path, strict=False)
    assert [(p.where, p.left_out) for p in source.problems if p.left_out] == [("line 2", "the object")]
    assert source.read(0).track_ids.tolist() == [1001, 2003]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("0 1002 1 6 9 abc\n", "RLE"),
        ("0 1002 1 6 9 é\n", "RLE holds the byte"),
        (CAR.replace("0 1001", "0 1002")[:-3] + "\n", "RLE"),
        (line(0, 7001, 7, slice(0, 2)), r"is of class 7, which has no name; expected one of \(1, 2\)"),
    ],
)
def test_objects_that_cannot_be_read(tmp_path, bad, message):
    text(tmp_path, CAR, bad, WALKER)
    source = mots.open_source(tmp_path)
    with pytest.raises(AnnotationError, match=rf"0002\.txt: line 2: {message}.*Remedy: "):
        source.read(0)
    found = []
    assert source.read(0, found).track_ids.tolist() == [1001, 2003]
    assert [(p.where, p.left_out) for p in found] == [("line 2", "the object")]


def test_an_id_that_comes_twice_in_a_frame_is_said(tmp_path):
    text(tmp_path, CAR, WALKER.replace("2003", "1001"))
    found = []
    assert len(mots.open_source(tmp_path).read(0, found)) == 2
    assert (found[0].where, found[0].severity) == ("line 2", "warning")


def test_pictures_of_another_size(tmp_path):
    text(tmp_path, CAR)
    picture(tmp_path, "0002/000000.png", (9, 6))
    with pytest.raises(AnnotationError, match=r"labels are 6 x 9 .* is 9 x 6"):
        mots.open_source(tmp_path).read(0, [])


def test_lists_of_classes(tmp_path):
    text(tmp_path, CAR, WALKER)
    (tmp_path / "classes.txt").write_text("2 Größe  2\n\n1 c d\n", encoding="utf-8")
    source = mots.open_source(tmp_path)
    assert source.classes.names == ("Größe  2", "c d")
    assert names_of(source.read(0)) == ["c d", "Größe  2"]
    for broken in ("1 a\n1 b\n", "1\n", "a 1\n", "1 a\n2 a\n"):
        (tmp_path / "classes.txt").write_text(broken)
        with pytest.raises(AnnotationError, match=r"classes\.txt: "):
            mots.open_source(tmp_path)


def test_what_is_no_sequence(tmp_path):
    with pytest.raises(DataError, match="holds no sequence"):
        mots.open_source(tmp_path)
    with pytest.raises(DataError, match="holds no sequence"):
        mots.open_source(tmp_path / "absent")
    with pytest.raises(AnnotationError, match="line 1"):
        mots.open_source(picture(tmp_path, "a.png"))


def test_many_lines_are_indexed_and_not_held(tmp_path):
    """100,000 lines; a million take ten times as long and as much."""
    row = line(0, 1001, 1, slice(0, 2)).removeprefix("0 ")
    text(tmp_path, *(f"{number // 100} {row}" for number in range(100_000)))
    tracemalloc.start()
    begin = time.perf_counter()
    source = mots.open_source(tmp_path)
    taken, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source.pictures) == 1000
    assert len(source.read(999, [])) == 100
    assert peak < 20e6
    assert taken < 10


# ---- real data


@pytest.mark.needs_shared
def test_real_masks_with_tracks(shared, tmp_path):
    """Scalabel's sample of MOTS: its own run-length codes, through a text of ours and back."""
    frames = json.loads((shared / "fixtures" / "mots" / "seg_track_sample.json").read_text())
    frames = frames["frames"] if isinstance(frames, dict) else frames
    lines, masks = [], {}
    for number, frame in enumerate(frames):
        for entry in frame.get("labels") or []:
            rle = entry["rle"]
            height, width = rle["size"]
            masks[number, int(entry["id"])] = rle
            lines.append(f"{number} {entry['id']} 1 {height} {width} {rle['counts']}\n")
    assert masks
    text(tmp_path, *lines)
    source = mots.open_source(tmp_path)
    seen = 0
    for index in range(len(source.pictures)):
        found = source.read(index)
        frame = int(source.pictures[index].name.split("/")[1].removesuffix(".png"))
        for track, area, code in zip(
            found.track_ids.tolist(), found.masks.areas, found.masks.to_coco(), strict=True
        ):
            rle = masks[frame, track]
            assert code == rle
            assert area == coco.area(rle)
            seen += 1
    assert seen == len(masks)
