"""ImageJ: exact round trips, ROIs byte by byte as ImageJ writes them, composites, hostile archives."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import roifile
from hypothesis import given, settings

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import imagej
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

SIZE = (24, 32)
SQUARE = [(2, 1), (6, 1), (6, 3), (2, 3)]


def roi(
    form=imagej.POLYGON,
    points=SQUARE,
    name="",
    *,
    bounds=None,
    subtype=0,
    options=0,
    floats=None,
    path=None,
    group=0,
    properties="",
    position=0,
    x1y1x2y2=None,
    ratio=None,
    version=227,
    z=0,
):
    """As ij.io.RoiEncoder (ImageJ 1.53) writes it, put together from its documentation and without roifile."""
    points = np.array(points)
    if bounds is None:
        left, top = points.min(axis=0)
        right, bottom = points.max(axis=0)
    else:
        left, top, right, bottom = bounds
    extra = b""
    count = 0
    if path is not None:
        extra = struct.pack(f">{len(path)}f", *path)
    elif form in (imagej.POLYGON, imagej.FREEHAND, imagej.TRACED, imagej.POINT, imagej.POLYLINE):
        count = len(points)
        extra = (points - [left, top]).astype(">i2").T.tobytes()
        if floats is not None:
            extra += np.array(floats, ">f4").T.tobytes()
    head = struct.pack(">4shBxhhhhH", b"Iout", version, form, top, left, bottom, right, count)
    head += struct.pack(">4f", *x1y1x2y2) if x1y1x2y2 is not None else bytes(16)
    head += struct.pack(">hiiihh", 0, len(path) if path is not None else 0, 0, 0, subtype, options)
    head += struct.pack(">f", ratio) if ratio is not None else bytes(4)
    head += struct.pack(">ii", position, 64 + len(extra))
    assert len(head) == 64
    names, texts = name.encode("utf-16-be"), properties.encode("utf-16-be")
    at = 64 + len(extra) + 64
    second = struct.pack(">4xiiiii4shBBifiii", 0, z, 0, at, len(names) // 2, bytes(4), 0, group, 0, 0, 0.0,
                         at + len(names) if texts else 0, len(texts) // 2, 0)  # fmt: skip
    return head + extra + second.ljust(64, b"\0") + names + texts


def archive(folder, rois, name="a.zip", picture="a.png", comment=b""):
    """As the ROI Manager saves it (More > Save): one entry an ROI, named as the list shows it."""
    if picture:
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / picture, np.zeros((*SIZE, 3), np.uint8))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = comment
        for k, one in enumerate(rois):
            entry, data = one if isinstance(one, tuple) else (f"cell-{k + 1:04d}.roi", one)
            file.writestr(entry, data)
    return path


def written(folder, scene, name="a.png", path=None, classes=CLASSES):
    target = imagej.TARGET(folder, classes)
    given = target.add(Picture(name, path, 1, scene.size), scene)
    target.finish()
    return given


def lenient(source, index=0):
    found = []
    return source.read(index, found), found


def mask_of(tmp_path, data):
    archive(tmp_path, [data])
    return imagej.open_source(tmp_path).read(0).masks.to_dense()[0]


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes(tracks=True))
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("imagej")
    name = written(folder, scene)
    assert imagej.detect(folder)
    source = imagej.open_source(folder)
    assert [p.name for p in source.pictures] == [name]
    assert source.size(0) == scene.size
    same(source.read(0), expected(scene, imagej.TARGET.holds), imagej.TARGET.holds)


@settings(max_examples=25, deadline=None)
@given(scenes(crowd=False))
def test_roifile_reads_the_same_pixels(tmp_path_factory, scene):
    """Roifile as the oracle: its rings of each ROI, filled by even and odd, are the object's pixels."""
    folder = tmp_path_factory.mktemp("imagej")
    written(folder, scene)
    path = folder / "rois" / "a.zip"
    rois = roifile.roiread(path) if len(scene) else []
    rings = [
        [np.asarray(r)[: -1 if (r[0] == r[-1]).all() else None] for r in one.coordinates(multi=True)]
        for one in rois
    ]
    masks = Masks.from_polygons([[(one[0], one[1:])] for one in rings], scene.size)
    assert masks == scene.masks
    for k, (one, i) in enumerate(zip(rois, scene.class_ids.tolist(), strict=True)):
        assert one.properties["class"] == CLASSES.names[i]
        assert one.name == f"{CLASSES.names[i]}-{k + 1:04d}"
        x0, y0, x1, y1 = scene.masks.boxes[k].tolist()
        assert (one.left, one.top, one.right, one.bottom) == (x0, y0, x1, y1)


def test_one_ring_is_traced_and_boxes_stay_boxes(tmp_path):
    full = Masks.from_crops([np.ones((3, 4), bool)] * 2, [(1, 2), (8, 9)], (20, 30))
    scene = Instances(
        (20, 30), full, [0, 1], [0.5, 0.1], classes=CLASSES, columns={"box_mask": [True, False]}
    )
    written(tmp_path, scene)
    objects = imagej.open_source(tmp_path).read(0)
    assert objects.columns["box_mask"].tolist() == [True, False]
    np.testing.assert_array_equal(objects.scores, scene.scores)
    types = [int(one.roitype) for one in roifile.roiread(tmp_path / "rois" / "a.zip")]
    assert types == [imagej.RECT, imagej.TRACED]


def test_beyond_the_range_of_whole_numbers(tmp_path):
    """32,767 is the end of ImageJ's 16-bit coordinates; float32 is exact up to 2^24."""
    crop = np.ones((5, 6), bool)
    crop[2, 2] = False
    places = [(70_001, 65_530), (32_760, 40_000), (5, 5)]
    size = (66_000, 80_000)
    masks = Masks.from_crops([crop, np.ones((3, 9), bool), crop], places, size)
    scene = Instances(size, masks, [0, 1, 2], classes=CLASSES, columns={"iscrowd": [True, False, False]})
    target = imagej.TARGET(tmp_path, CLASSES)
    target.add(Picture("big.tif", None, 1, size), scene)
    target.finish()
    assert any("sub-pixel" in note for note in target.notes)
    same(imagej.open_source(tmp_path).read(0), scene, imagej.TARGET.holds)


def test_names_that_are_no_file_names(tmp_path, rng):
    classes = ClassMap(("a/b\\c:*", "😀 smile", "../up"))
    scene = random_scene(rng, (20, 30), 6, classes)
    written(tmp_path, scene, classes=classes)
    with zipfile.ZipFile(tmp_path / "rois" / "a.zip") as file:
        assert not any("/" in name or "\\" in name for name in file.namelist())
    same(imagej.open_source(tmp_path).read(0), expected(scene, imagej.TARGET.holds), imagej.TARGET.holds)


# ---- what ImageJ writes


@pytest.mark.parametrize("form", [imagej.POLYGON, imagej.FREEHAND, imagej.TRACED])
def test_outlines(tmp_path, form):
    wanted = np.zeros(SIZE, bool)
    wanted[1:3, 2:6] = True
    assert (mask_of(tmp_path, roi(form)) == wanted).all()


def test_sub_pixel_coordinates_count(tmp_path):
    floats = [(2.6, 1.0), (6.4, 1.0), (6.4, 3.0), (2.6, 3.0)]
    found = mask_of(tmp_path, roi(floats=floats, options=imagej.SUBPIXEL))
    assert found.sum(axis=1).tolist()[:4] == [0, 3, 3, 0]
    assert found[1].nonzero()[0].tolist() == [3, 4, 5]


def test_rectangles_are_boxes(tmp_path):
    archive(
        tmp_path,
        [
            roi(imagej.RECT, bounds=(3, 4, 8, 10)),
            roi(imagej.RECT, bounds=(0, 0, 1, 1), options=imagej.SUBPIXEL, x1y1x2y2=(1.25, 2.25, 3.5, 2.0)),
        ],
    )
    objects = imagej.open_source(tmp_path).read(0)
    assert objects.masks.areas.tolist() == [30, 8]
    assert objects.columns["box_mask"].tolist() == [True, True]


@pytest.mark.parametrize("bounds", [(3, 4, 20, 14), (0, 0, 32, 24), (5, 5, 6, 6), (2, 3, 9, 21)])
def test_ovals_are_the_pixels_whose_centres_lie_in_the_ellipse(tmp_path, bounds):
    left, top, right, bottom = bounds
    y, x = np.indices(SIZE) + 0.5
    away = ((x - (left + right) / 2) / ((right - left) / 2)) ** 2 + (
        (y - (top + bottom) / 2) / ((bottom - top) / 2)
    ) ** 2
    assert not (abs(away - 1) < 1e-9).any()  # nothing to argue about
    assert (mask_of(tmp_path, roi(imagej.OVAL, bounds=bounds)) == (away < 1)).all()


def test_ellipses_and_turned_rectangles(tmp_path):
    archive(
        tmp_path,
        [
            roi(imagej.FREEHAND, subtype=imagej.ELLIPSE, x1y1x2y2=(4.25, 4.25, 23.75, 15.75), ratio=0.5),
            roi(imagej.FREEHAND, subtype=imagej.TURNED_RECT, x1y1x2y2=(4.25, 4.25, 23.75, 15.75), ratio=6),
        ],
    )
    found = imagej.open_source(tmp_path).read(0).masks.to_dense()
    y, x = np.indices(SIZE) + 0.5
    length = np.hypot(19.5, 11.5)
    along = ((x - 14) * 19.5 + (y - 10) * 11.5) / length
    across = ((y - 10) * 19.5 - (x - 14) * 11.5) / length
    ellipse = (along / (length / 2)) ** 2 + (across / (length / 4)) ** 2 < 1
    assert (found[0] != ellipse).sum() <= 1  # a polygon that differs by 0.01 px
    assert (found[1] == ((abs(along) < length / 2) & (abs(across) < 3))).all()


def test_composites_have_holes_parts_and_curves(tmp_path):
    ring = lambda *points: [0, *points[0], *(v for p in points[1:] for v in (1, *p)), 4]  # noqa: E731
    path = (
        ring((2, 1), (10, 1), (10, 9), (2, 9))
        + ring((4, 3), (4, 6), (7, 6), (7, 3))
        + ring((20, 2), (24, 2), (24, 5), (20, 5))
    )
    found = mask_of(tmp_path, roi(imagej.RECT, bounds=(2, 1, 24, 9), path=path))
    wanted = np.zeros(SIZE, bool)
    wanted[1:9, 2:10] = wanted[2:5, 20:24] = True
    wanted[3:6, 4:7] = False
    assert (found == wanted).all()
    k = 0.5523 * 8  # a circle of four cubic curves, as java.awt.geom.Ellipse2D gives it
    circle = [
        0,
        24,
        12,
        3,
        24,
        12 + k,
        16 + k,
        20,
        16,
        20,
        3,
        16 - k,
        20,
        8,
        12 + k,
        8,
        12,
        3,
        8,
        12 - k,
        16 - k,
        4,
        16,
        4,
    ]
    circle += [3, 16 + k, 4, 24, 12 - k, 24, 12, 4]
    found = mask_of(tmp_path, roi(imagej.RECT, bounds=(8, 4, 24, 20), path=circle))
    y, x = np.indices(SIZE) + 0.5
    assert (found == ((x - 16) ** 2 + (y - 12) ** 2 < 64)).mean() > 0.99
    bent = [0, 2, 1, 2, 6, 1, 6, 3, 1, 2, 3, 4]  # its boundary: x = 2 + 8 t - 4 t², y = 1 + 2 t²
    assert mask_of(tmp_path, roi(imagej.RECT, bounds=(2, 1, 6, 3), path=bent)).sum() == 7


@pytest.mark.parametrize(
    ("entry", "more", "class_name"),
    [
        ("cell-0012.roi", {}, "cell"),
        ("big cell_3.roi", {}, "big cell"),
        ("nucleus.roi", {}, "nucleus"),
        ("folder/nucleus-1.roi", {}, "nucleus"),
        ("0005-0123.roi", {}, "object"),
        ("0001-0005-0123.roi", {"group": 7}, "group 7"),
        ("1b4e28ba-2fa1-11d2-883f-0016d3cca427.roi", {}, "object"),
        ("F01-C12.roi", {}, "object"),
        ("x-1.roi", {"properties": "class: Größe 2\nscore: 0.5\n"}, "Größe 2"),
    ],
)
def test_the_class_of_a_name(tmp_path, entry, more, class_name):
    archive(tmp_path, [(entry, roi(name="inner-5", **more))])
    assert imagej.open_source(tmp_path).classes.names == (class_name,)


def test_a_single_roi_file_goes_by_the_name_inside(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "a.roi").write_bytes(roi(name="yeast-5"))
    for path in (tmp_path, tmp_path / "a.roi"):
        assert imagej.detect(path)
        source = imagej.open_source(path)
        assert source.classes.names == ("yeast",)
        assert source.read(0).masks.areas.tolist() == [8]


@pytest.mark.parametrize("name", ["a.zip", "a_rois.zip", "rois/a.zip", "a_RoiSet.zip", "RoiSets/a-rois.zip"])
def test_where_archives_lie(tmp_path, name):
    path = archive(tmp_path, [roi()], name)
    for given_ in (tmp_path, path):
        source = imagej.open_source(given_)
        assert [p.name for p in source.pictures] == ["a.png"]
        assert source.read(0).masks.areas.tolist() == [8]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "a.png").rename(moved / "a.png")
    with pytest.raises(AnnotationError, match="Remedy: name the picture folder"):
        imagej.open_source(tmp_path).size(0)
    assert imagej.open_source(tmp_path, moved).read(0).masks.areas.tolist() == [8]


def test_the_name_that_imagej_proposes_goes_with_the_only_picture(tmp_path):
    archive(tmp_path, [roi()], "RoiSet.zip")
    source = imagej.open_source(tmp_path)
    assert [(p.name, p.path) for p in source.pictures] == [("a.png", tmp_path / "a.png")]
    assert "read as of a.png" in source.problems[0].message
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert imagej.open_source(tmp_path).pictures[0].path is None


def test_what_has_no_area_or_lies_on_a_slice_is_said(tmp_path):
    archive(
        tmp_path,
        [
            roi(imagej.POINT),
            roi(imagej.LINE, bounds=(1, 1, 3, 3), x1y1x2y2=(1, 1, 3, 3)),
            roi(imagej.POLYLINE),
            roi(imagej.RECT, bounds=(1, 1, 3, 3), subtype=imagej.TEXT, version=200),
            roi(position=3),
            roi(z=2),
            roi(options=imagej.SPLINE),
        ],
    )
    source = imagej.open_source(tmp_path)
    objects, found = lenient(source)
    assert objects.masks.areas.tolist() == [8, 8, 8]
    words = ("a point", "a line", "a line", "a text", "position 3 of a stack", "slice 2 of a stack", "spline")
    for problem, word in zip(found, words, strict=True):
        assert word in str(problem)
        assert 'ROI "cell-000' in str(problem)
    assert [p.left_out for p in found] == ["the shape"] * 4 + [""] * 3
    assert source.read(0) == objects


# ---- what is damaged


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no whole ROI"),
        (b"Iout", "no whole ROI"),
        (b"nope" + bytes(100), "no whole ROI"),
        (roi()[:70], "no whole ROI"),
        (roi(points=[(1, 1), (3, 3)]), "has 2 points"),
        (roi(points=[(100, 100), (120, 100), (110, 120)]), "lies outside its picture"),
        (roi(imagej.RECT, bounds=(5, 5, 5, 9)), "expected an area"),
        (roi(imagej.OVAL, bounds=(9, 5, 5, 9)), "expected an area"),
        (roi(imagej.RECT, bounds=(1, 1, 3, 3), path=[7.0, 1, 2]), "composite that is damaged at number 0"),
        (roi(imagej.RECT, bounds=(1, 1, 3, 3), path=[0.0, 1]), "composite that is damaged"),
        (roi(imagej.RECT, bounds=(1, 1, 3, 3), path=[1.0, 1, 2]), "doesn't begin with a point"),
        (roi(imagej.RECT, bounds=(1, 1, 3, 3), path=[0.0, 1, 2, 4]), "without an area"),
        (
            roi(imagej.RECT, bounds=(1, 1, 3, 3), path=[0, 1, 2, 1, 3, float("nan"), 1, 4, 4, 4]),
            "not a finite number",
        ),
        (roi(floats=[(1, 1), (np.inf, 2), (3, 3), (1, 2)], options=imagej.SUBPIXEL), "not a finite number"),
        (roi(imagej.FREEHAND, subtype=imagej.ELLIPSE, x1y1x2y2=(4, 4, 4, 4), ratio=0.5), "expected positive"),
        (roi(99, bounds=(1, 1, 3, 3)), "isn't known"),
    ],
)
def test_a_damaged_roi_is_named_and_the_rest_read(tmp_path, data, words):
    archive(tmp_path, [roi(), data, roi()])
    source = imagej.open_source(tmp_path)
    with pytest.raises(AnnotationError, match=words) as stop:
        source.read(0)
    assert 'a.zip: ROI "cell-0002"' in str(stop.value)
    objects, found = lenient(source)
    assert len(objects) == 2
    assert [p.left_out for p in found] == ["the object"]


def test_any_damage_raises_nothing_but_annotation_errors(tmp_path, rng):
    whole = roi(floats=SQUARE, options=imagej.SUBPIXEL, name="x", properties="class: y\n")
    outcomes = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(4, len(whole), 3):
            damaged[at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del damaged[rng.integers(10, len(whole)) :]
        archive(tmp_path, [bytes(damaged)])
        objects, found = lenient(imagej.open_source(tmp_path, strict=False))
        outcomes += bool(found)
        assert len(objects) <= 1
    assert outcomes > 20


def test_entries_that_are_no_rois_or_cannot_be_unpacked(tmp_path):
    path = archive(tmp_path, [roi(), ("notes.txt", b"hello"), ("__MACOSX/._cell.roi", b"x"), roi()])
    data = bytearray(path.read_bytes())
    at = data.rindex(b"cell-0004.roi", 0, data.rindex(b"cell-0004.roi"))
    data[at + 14] ^= 0xFF  # into the packed bytes
    path.write_bytes(data)
    source = imagej.open_source(tmp_path)
    with pytest.raises(AnnotationError, match=r"a\.zip: \"notes\.txt\": is no ROI"):
        source.read(0)
    objects, found = lenient(source)
    assert len(objects) == 1
    assert [str(p).split(": ")[1] for p in found] == ['"notes.txt"', '"cell-0004.roi"']


def test_bombs_are_stopped_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej, "MOST_BYTES", 10_000)
    archive(tmp_path, [roi(), bytes(20_000)])
    with pytest.raises(AnnotationError, match=r"unpacks to 20,000 bytes; expected at most 10,000"):
        imagej.open_source(tmp_path).read(0)
    monkeypatch.setattr(imagej, "MOST_TOTAL", 15_000)
    with pytest.raises(AnnotationError, match=r"in 2 files; expected at most 15,000"):
        imagej.open_source(tmp_path)
    monkeypatch.setattr(imagej, "MOST_ENTRIES", 3)
    archive(tmp_path, [roi()] * 4)
    with pytest.raises(AnnotationError, match="in 4 files"):
        imagej.open_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all"])
def test_a_damaged_archive_is_refused_or_listed(tmp_path, content):
    archive(tmp_path, [roi()])
    bad = archive(tmp_path, [roi()], "b.zip", "b.png")
    bad.write_bytes(content)
    with pytest.raises(AnnotationError, match="is no whole ZIP archive") as stop:
        imagej.open_source(tmp_path)
    assert str(stop.value).startswith(f"{bad}: ")
    source = imagej.open_source(tmp_path, strict=False)
    assert [p.name for p in source.pictures] == ["a.png"]
    assert [p.left_out for p in source.problems] == ["the picture"]


def test_two_archives_of_a_picture(tmp_path):
    archive(tmp_path, [roi()])
    archive(tmp_path, [roi()], "a_rois.zip")
    with pytest.raises(AnnotationError, match=r"is of the picture a\.png"):
        imagej.open_source(tmp_path)
    assert len(imagej.open_source(tmp_path, strict=False).pictures) == 1


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "C:\\x.png", "a\0b", 7])
def test_a_comment_names_nothing_outside(tmp_path, name):
    comment = json.dumps({"picture": name, "height": 4, "width": 5}).encode()
    archive(tmp_path, [roi()], picture=None, comment=comment)
    (picture,) = imagej.open_source(tmp_path).pictures
    assert (picture.name, picture.path) == ("a", None)


def test_others_are_not_claimed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("labels.json", "{}")
    (tmp_path / "b.roi").write_bytes(b"something else")
    (tmp_path / "empty.zip").write_bytes(b"PK\5\6" + bytes(18))
    for path in (
        tmp_path,
        tmp_path / "a.zip",
        tmp_path / "b.roi",
        tmp_path / "empty.zip",
        tmp_path / "nowhere",
    ):
        assert not imagej.detect(path)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no ROIs"):
        imagej.open_source(tmp_path / "c")


def test_nothing_is_unpacked_to_disk(tmp_path):
    archive(tmp_path, [("../../evil.roi", roi()), ("/abs/evil.roi", roi())])
    before = sorted(tmp_path.rglob("*"))
    assert len(imagej.open_source(tmp_path).read(0)) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_the_archive_of_a_scene_is_the_same_each_time(rng):
    scene = random_scene(rng, (20, 30), 5)
    first = imagej.roi_archive(scene, "a.png")
    assert first == imagej.roi_archive(scene, "a.png")
    assert zipfile.ZipFile(io.BytesIO(first)).testzip() is None
