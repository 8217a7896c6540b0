"""GeoJSON: exact round trips, QuPath's documents, packed and damaged ones, a million features."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings

from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import geojson
from apiece.data.formats.base import Picture
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

SQUARE = [[2, 1], [6, 1], [6, 3], [2, 3], [2, 1]]
HOLE = [[3, 1], [4, 1], [4, 2], [3, 2], [3, 1]]


def feature(coordinates=None, form="Polygon", name="Tumor", plane=None, **more):
    """As QuPath 0.5 exports annotations (File > Export objects as GeoJSON)."""
    geometry = {"type": form, "coordinates": [SQUARE] if coordinates is None else coordinates}
    if plane:
        geometry["plane"] = plane
    properties = {"objectType": "annotation", "name": "my annotation", **more}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "id": "f1a2b3c4-0000-4000-8000-000000000000",
        "geometry": geometry,
        "properties": properties,
    }


def document(folder, features, name="a.geojson", size=(8, 12), picture="a.png"):
    if picture:
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / picture, np.zeros((*size, 3), np.uint8))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def written(folder, scene, name="a.png", path=None):
    target = geojson.TARGET(folder, CLASSES)
    given = target.add(Picture(name, path, 1, scene.size), scene)
    target.finish()
    return given


def lenient(source, index=0):
    found = []
    return source.read(index, found), found


# ---- exactness


@settings(max_examples=40, deadline=None)
@given(scenes(tracks=True))
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("geojson")
    name = written(folder, scene)
    assert geojson.detect(folder)
    source = geojson.open_source(folder)
    assert [p.name for p in source.pictures] == [name]
    assert source.size(0) == scene.size
    same(source.read(0), expected(scene, geojson.TARGET.holds), geojson.TARGET.holds)


def test_scores_and_boxes_come_back(tmp_path, rng):
    scene = random_scene(rng, (20, 30), 4)
    full = Masks.from_crops([np.ones((3, 4), bool)] * 2, [(1, 2), (8, 9)], (20, 30))
    boxes = Instances((20, 30), full, [0, 1], classes=CLASSES, columns={"box_mask": [True, False]})
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", boxes)
    assert geojson.open_source(tmp_path / "a").read(0).columns["box_mask"].tolist() == [True, False]
    scored = Instances(scene.size, scene.masks, scene.class_ids, [0.25, 0.1, 1, 0.7], classes=CLASSES)
    (tmp_path / "b").mkdir()
    written(tmp_path / "b", scored)
    np.testing.assert_array_equal(geojson.open_source(tmp_path / "b").read(0).scores, scored.scores)


def test_outlines_are_valid_simple_features(tmp_path, rng):
    """Shapely refuses rings that touch themselves; QuPath builds on JTS, which does too."""
    shapely = pytest.importorskip("shapely.geometry")
    for count in range(1, 30):
        scene = random_scene(rng, (20, 20), 3)
        for one in json.loads(geojson.feature_collection(scene, f"{count}.png"))["features"]:
            made = shapely.shape(one["geometry"])
            assert made.is_valid
    areas = [
        shapely.shape(one["geometry"]).area
        for one in json.loads(geojson.feature_collection(scene, "a"))["features"]
    ]
    assert areas == scene.masks.areas.tolist()


def test_rings_turn_as_the_standard_wants(tmp_path):
    """RFC 7946, 3.1.6: outer rings counterclockwise by the numbers, holes clockwise."""
    crop = np.ones((3, 3), bool)
    crop[1, 1] = False
    scene = Instances((5, 5), Masks.from_crops([crop], [(1, 1)], (5, 5)), [0], classes=CLASSES)
    (one,) = json.loads(geojson.feature_collection(scene, "a.png"))["features"]

    def signed_area(ring):
        (x, y) = np.array(ring).T
        assert ring[0] == ring[-1]
        return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2

    assert [signed_area(ring) for ring in one["geometry"]["coordinates"]] == [9, -1]


def test_pictures_are_copied_and_names_kept_apart(tmp_path, rng):
    write_image(tmp_path / "p.png", rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    target = geojson.TARGET(out, CLASSES)
    scene = random_scene(rng, (20, 30), 3)
    names = [target.add(Picture(f"{k}/p.png", tmp_path / "p.png", k, (20, 30)), scene) for k in (1, 2)]
    target.finish()
    assert names == ["p.png", "p-2.png"]
    source = geojson.open_source(out)
    assert sorted(p.name for p in source.pictures) == sorted(names)
    assert all(p.path is not None for p in source.pictures)


# ---- QuPath's documents


def test_qupath_annotations(tmp_path):
    parts = [[SQUARE, HOLE], [[[8, 5], [9, 5], [9, 6], [8, 6], [8, 5]]]]
    document(
        tmp_path,
        [
            feature(parts, "MultiPolygon", measurements={"Area": 7.0, "Detection probability": 0.75}),
            feature(name=None, objectType="cell"),
            feature(name="Größe: Positive", plane={"c": -1, "z": 0, "t": 0}, isLocked=True),
        ],
    )
    source = geojson.open_source(tmp_path)
    assert source.classes.names == ("Größe: Positive", "Tumor", "object")
    objects = source.read(0)
    assert objects.masks.areas.tolist() == [8, 8, 8]
    assert not objects.masks.to_dense()[0][1, 3]
    np.testing.assert_allclose(objects.scores, [0.75, 1, 1])
    assert [source.classes.names[i] for i in objects.class_ids] == ["Tumor", "object", "Größe: Positive"]


def test_old_forms(tmp_path):
    """QuPath 0.2: a bare list of features, with measurements as a list, colorRGB and no objectType."""
    old = feature(measurements=[{"name": "score", "value": 0.5}])
    old["properties"]["classification"] = {"name": "Stroma", "colorRGB": -6895466}
    for k, content in enumerate((f" \n{json.dumps([old])}\n ", json.dumps(old), "[ ]")):
        path = document(tmp_path / str(k), [])
        path.write_text(content)
        objects = geojson.open_source(path).read(0)
        assert objects.scores.tolist() == ([0.5] if k < 2 else [])
        assert geojson.detect(path) or k == 2


@pytest.mark.parametrize("name", ["a.geojson", "geojson/a.geojson", "a.geojson.gz", "geojson/a.png.geojson"])
def test_where_documents_lie(tmp_path, name):
    path = document(tmp_path, [feature()], name)
    for given_ in (tmp_path, path):
        assert geojson.detect(given_)
        source = geojson.open_source(given_)
        assert [p.name for p in source.pictures] == ["a.png"]
        assert source.read(0).masks.areas.tolist() == [8]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "a.png").rename(moved / "a.png")
    with pytest.raises(AnnotationError, match="Remedy: name the picture folder"):
        geojson.open_source(tmp_path).size(0)
    assert geojson.open_source(tmp_path, moved).read(0).masks.areas.tolist() == [8]


def test_points_lines_and_other_planes_are_said(tmp_path):
    document(
        tmp_path,
        [
            feature([1, 2], "Point"),
            feature([[1, 2], [3, 4]], "LineString"),
            feature(plane={"c": 0, "z": 3, "t": 0}),
            feature(),
            feature([[[0, 0], [50, 0], [50, 8], [0, 0]]]),
            feature([[[0.6, 0.6], [0.9, 0.6], [0.9, 0.9], [0.6, 0.6]]]),
        ],
    )
    objects, found = lenient(geojson.open_source(tmp_path))
    assert objects.masks.areas.tolist()[::2] == [8, 0]
    assert [p.severity for p in found] == ["warning"] * 5
    assert [p.left_out for p in found] == ["the shape"] * 3 + ["", ""]
    for problem, words in zip(
        found, ("a point", "a line", "plane z = 3", "reaches beyond", "no pixel's centre"), strict=True
    ):
        assert words in str(problem)
    assert geojson.open_source(tmp_path).read(0) == objects  # warnings alone are let pass


# ---- what is damaged


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (7, "is a number; expected a feature"),
        ({"type": "Feature"}, "has a geometry that is missing"),
        (feature("x"), "polygon that is a text|no coordinates"),
        (feature([]), "no ring"),
        (feature([[]]), "not a list of pairs"),
        (feature([[[1, 2], [3, 4]]]), "has 2 points"),
        (feature([[[1, 2], [3, 4], [5]]]), "not a list of pairs"),
        (feature([[[1, 2], [3, 4], ["x", 1]]]), "not a list of pairs"),
        (feature([[[1, 2], [3, 1e300], [1, 1]]]), "not a finite number"),
        (feature([], "GeometryCollection"), "is of the type 'GeometryCollection'"),
        (feature([[[90, 90], [99, 90], [99, 99]]]), "lies outside its picture"),
        (feature(name=None, classification={"name": [3]}), "classification without a name"),
    ],
)
def test_a_damaged_feature_is_named_and_the_rest_read(tmp_path, entry, words):
    document(tmp_path, [feature(), entry, feature()])
    source = geojson.open_source(tmp_path)
    with pytest.raises(AnnotationError, match=words) as stop:
        source.read(0)
    assert "features[1]" in str(stop.value)
    assert str(tmp_path / "a.geojson") in str(stop.value)
    assert "Remedy: " in str(stop.value)
    objects, found = lenient(source)
    assert len(objects) == 2
    assert [p.left_out for p in found] == ["the object"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "breaks off|JSON"),
        (b'{"type": "FeatureCollection", "features": [', "breaks off|not valid"),
        (b'{"type": "Topology", "features": []}', "its type is 'Topology'"),
        (b'{"type": "FeatureCollection", "features": {}}', "expected a FeatureCollection"),
        (b"{}", "its type is nothing"),
        (b"[{},", "breaks off|not valid"),
        (b"\xff\xfe\xff", "not text|JSON"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_damaged_document_is_refused_or_listed(tmp_path, content, words):
    document(tmp_path, [feature()])
    bad = document(tmp_path, [], "b.geojson", picture="b.png")
    bad.write_bytes(content)
    with pytest.raises(AnnotationError, match=words) as stop:
        geojson.open_source(tmp_path)
    assert str(stop.value).startswith(f"{bad}: ")
    source = geojson.open_source(tmp_path, strict=False)
    assert [p.name for p in source.pictures] == ["a.png"]
    assert [p.left_out for p in source.problems] == ["the picture"]


def test_every_cut_of_a_document_is_refused(tmp_path):
    path = document(tmp_path, [feature(), feature()])
    whole = path.read_bytes()
    for keep in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:keep])
        with pytest.raises(AnnotationError):
            geojson.open_source(path)
    path.write_bytes(gzip.compress(whole)[:-9])
    packed = path.rename(tmp_path / "a.geojson.gz")
    with pytest.raises(AnnotationError, match=r"a\.geojson\.gz: can't be unpacked"):
        geojson.open_source(packed)


def test_a_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "MOST_UNPACKED", 10_000)
    path = document(tmp_path, [feature()], "a.geojson.gz")
    path.write_bytes(gzip.compress(b" " * 20_000_000))
    with pytest.raises(AnnotationError, match="unpacks to more than 10,000 bytes"):
        geojson.open_source(path)


def test_two_documents_of_a_picture(tmp_path):
    document(tmp_path, [feature()])
    document(tmp_path, [feature()], "a.png.geojson")
    with pytest.raises(AnnotationError, match=r"is of the picture a\.png, as a\.\S+ is"):
        geojson.open_source(tmp_path)
    source = geojson.open_source(tmp_path, strict=False)
    assert len(source.pictures) == len(source.problems) == 1


def test_nothing_outside_is_named(tmp_path):
    path = document(tmp_path, [], picture=None)
    for name in ("../secret.png", "/etc/passwd", "a\\b.png", "a\0.png"):
        path.write_text(
            json.dumps(
                {
                    "type": "FeatureCollection",
                    "picture": {"name": name, "height": 3, "width": -1},
                    "features": [],
                }
            )
        )
        (picture,) = geojson.open_source(path).pictures
        assert picture.name == "a"
        assert picture.size is None


def test_others_are_not_claimed(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.png"}')
    (tmp_path / "b.geojson").write_text('{"type": "Topology"}')
    assert not geojson.detect(tmp_path / "a.json")
    assert not geojson.detect(tmp_path)
    assert not geojson.detect(tmp_path / "nowhere")
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no GeoJSON"):
        geojson.open_source(tmp_path / "c")


def test_many_objects_are_made_in_batches(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("apiece.data.formats.outlines.BATCH", 4)
    for count in (0, 3, 4, 5, 13):
        scene = random_scene(rng, (20, 30), count)
        (tmp_path / str(count)).mkdir()
        written(tmp_path / str(count), scene)
        found = geojson.open_source(tmp_path / str(count)).read(0)
        same(found, expected(scene, geojson.TARGET.holds), geojson.TARGET.holds)


def test_opening_costs_little_however_many_features(tmp_path):
    path = document(tmp_path, [])
    one = json.dumps(feature() | {"properties": {"classification": {"name": "Tumor"}, "note": "x" * 3000}})
    path.write_text('{"type": "FeatureCollection", "features": [' + ",".join([one] * 12_000) + "]}")
    assert path.stat().st_size > 2**25
    tracemalloc.start()
    source = geojson.open_source(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.classes.names == ("Tumor",)
    assert peak < 64 * 2**20
