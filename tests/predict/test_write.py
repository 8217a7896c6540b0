"""Writer: every format tells the same objects, files are whole or absent, and inputs stay as they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.coco import read_coco, read_predictions
from apiece.data.formats import geojson, imagej
from apiece.errors import DataError, ImageError, UsageError
from apiece.predict.predictor import Result
from apiece.predict.write import FORMATS, Writer, counts

CLASSES = ClassMap(("square", "round"), (4, 9))
SIZE = (40, 60)


def found(count: int = 3, size: tuple[int, int] = SIZE, overlap: bool = False) -> Instances:
    """Squares side by side (or half over each other), by increasing score."""
    step = 4 if overlap else 9
    crops = [np.ones((8, 8), bool)] * count
    masks = Masks.from_crops(crops, [(i * step, 3) for i in range(count)], size)
    return Instances(
        size, masks, [i % 2 for i in range(count)], np.linspace(0.5, 0.9, count), classes=CLASSES
    )


def result(path: Path, instances: Instances | None = None) -> Result:
    instances = found() if instances is None else instances
    return Result(path, np.full((*instances.size, 3), 90, np.uint8), instances, None)


def test_all_formats_tell_the_same_objects(tmp_path: Path):
    writer = Writer(tmp_path / "out", FORMATS, CLASSES)
    several = [
        result(Path("in/a.png")),
        result(Path("in/none.png"), found(0)),
        result(Path("b.tif"), found(5)),
    ]
    for one in several:
        writer.add(one)
    writer.finish()
    assert {p.name for p in writer.written} == {p.name for p in (tmp_path / "out").iterdir()}
    assert len(writer.written) == 3 * 4 + 2
    predictions = read_predictions(tmp_path / "out" / "predictions.json")
    rows = list(csv.DictReader((tmp_path / "out" / "objects.csv").open()))
    for number, one in enumerate(several, start=1):
        expected = one.instances.sorted_by_score()
        read = predictions.instances(number)
        assert read.masks == expected.masks
        assert read.class_ids.tolist() == expected.class_ids.tolist()
        assert read.classes == CLASSES
        np.testing.assert_array_equal(read.scores, expected.scores)
        labels = tifffile.imread(tmp_path / "out" / f"{one.path.stem}.labels.tif")
        assert labels.dtype == np.uint16
        assert Masks.from_label_image(labels) == expected.masks
        for known, ending in ((geojson, "geojson"), (imagej, "rois.zip")):
            source = known.open_source(tmp_path / "out" / f"{one.path.stem}.{ending}")
            assert source.pictures[0].name == one.path.name
            again = source.read(0)
            assert again.masks == expected.masks
            np.testing.assert_array_equal(again.scores, expected.scores)
            assert [again.classes.names[i] for i in again.class_ids] == [
                CLASSES.names[i] for i in expected.class_ids
            ]
        own = [row for row in rows if row["file"] == str(one.path)]
        assert [int(r["object"]) for r in own] == list(range(1, len(expected) + 1))
        assert [int(r["area_px"]) for r in own] == expected.masks.areas.tolist()
        assert [CLASSES.names.index(r["class"]) for r in own] == expected.class_ids.tolist()
        if own:
            centres = np.array([[float(r["x"]), float(r["y"])] for r in own])
            np.testing.assert_allclose(centres, expected.masks.centroids, atol=0.005)
            boxes = np.array([[float(r[k]) for k in ("x1", "y1", "x2", "y2")] for r in own])
            np.testing.assert_allclose(boxes, expected.boxes, atol=0.05)
        overlay = cv2.imread(str(tmp_path / "out" / f"{one.path.stem}.overlay.png"))
        assert overlay.shape[:2] == SIZE
        assert (overlay != 90).any() == bool(len(expected))
    document = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert document["schema"] == "apiece/segment/1"
    assert [i["file_name"] for i in document["images"]] == ["in/a.png", "in/none.png", "b.tif"]
    assert [a["id"] for a in document["annotations"]] == list(range(1, 9))
    assert document["categories"] == [{"id": 4, "name": "square"}, {"id": 9, "name": "round"}]


def test_where_objects_overlap_the_better_score_has_the_pixel_and_it_is_said(tmp_path: Path):
    writer = Writer(tmp_path, ["labels"], CLASSES)
    writer.add(result(Path("a.png"), found(3, overlap=True)))
    labels = tifffile.imread(tmp_path / "a.labels.tif")
    best_first = found(3, overlap=True).sorted_by_score().masks
    assert [(labels == i + 1).sum() for i in range(3)] == [64, 32, 32]
    assert (labels[best_first.to_dense()[0]] == 1).all()
    assert any("64 pixels belong to several objects" in note for note in writer.notes)


def test_an_object_that_a_label_image_cannot_show_is_named(tmp_path: Path):
    square = np.ones((8, 8), bool)
    hidden = Instances(
        SIZE,
        Masks.from_crops([square, square[:4, :4]], [(5, 5), (6, 6)], SIZE),
        [0, 1],
        [0.9, 0.5],
        classes=CLASSES,
    )
    writer = Writer(tmp_path, ["labels"], CLASSES)
    writer.add(result(Path("a.png"), hidden))
    assert tifffile.imread(tmp_path / "a.labels.tif").max() == 1
    assert len(writer.notes) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "x", "y"]), st.sampled_from(["a", "A", "a-2", "a-2-2", "b"])),
        unique=True,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_no_two_pictures_share_a_file_even_where_case_does_not_count(tmp_path_factory, places):
    folder = tmp_path_factory.mktemp("o")
    writer = Writer(folder, ["labels"], CLASSES)
    own = [writer.add(result(Path(place) / f"{stem}.png")) for place, stem in places]
    names = [path.name.lower() for files in own for path in files]
    assert len(names) == len(places)
    assert len(set(names)) == len(names)
    assert len(list(folder.iterdir())) == len(places)
    # Whoever was renamed is told.
    renamed = [p for (_, stem), (p,) in zip(places, own, strict=True) if p.name != f"{stem}.labels.tif"]
    assert len(writer.notes) == len(renamed)


def test_no_input_is_written_over_also_not_another_pictures(tmp_path: Path):
    """b.overlay.png is both a picture and what b.png's overlay would be called."""
    for name in ("b.png", "b.overlay.png"):
        cv2.imwrite(str(tmp_path / name), np.full((*SIZE, 3), 7, np.uint8))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    writer = Writer(tmp_path, ["overlay", "coco", "csv"], CLASSES, inputs=list(before))
    with pytest.raises(DataError, match=r"b\.overlay\.png.*input"):
        writer.add(result(tmp_path / "b.png"))
    writer.add(result(tmp_path / "b.overlay.png"))
    writer.finish()
    assert all(path.read_bytes() == data for path, data in before.items())
    # The picture that was refused is in no document either.
    assert len(json.loads((tmp_path / "predictions.json").read_text())["images"]) == 1


@pytest.mark.parametrize("link", [False, True])
def test_the_truth_is_not_written_over(tmp_path: Path, link: bool):
    truth = tmp_path / "predictions.json"
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [],
        "categories": CLASSES.to_coco(),
    }
    truth.write_text(json.dumps(document))
    given_ = truth
    if link:
        given_ = tmp_path / "gt.json"
        given_.symlink_to(truth)
    with pytest.raises(UsageError, match=r"predictions\.json.*input.*--out"):
        Writer(tmp_path, ["coco"], CLASSES, read_coco(given_))
    assert json.loads(truth.read_text()) == document


def test_ids_of_the_truth_are_kept(tmp_path: Path):
    document = {
        "images": [{"id": 77, "file_name": "val/a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [],
        "categories": [{"id": 2, "name": "round"}, {"id": 30, "name": "square"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(document))
    writer = Writer(tmp_path / "o", ["coco"], CLASSES, read_coco(tmp_path / "gt.json"))
    writer.add(result(Path("/data/val/a.png")))
    with pytest.raises(DataError, match="not among"):
        writer.add(result(Path("/data/val/other.png")))
    writer.finish()
    read = json.loads((tmp_path / "o" / "predictions.json").read_text())
    assert [(i["id"], i["file_name"]) for i in read["images"]] == [(77, "val/a.png")]
    assert read["categories"] == document["categories"]
    assert [a["category_id"] for a in read["annotations"]] == [30, 2, 30]
    assert {a["image_id"] for a in read["annotations"]} == {77}
    predictions = read_predictions(tmp_path / "o" / "predictions.json", read_coco(tmp_path / "gt.json"))
    assert predictions.instances(77).masks == found().sorted_by_score().masks


def test_outlines_for_qupath_and_imagej_say_what_they_are(tmp_path: Path):
    writer = Writer(tmp_path, ["geojson", "imagej"], CLASSES)
    own = writer.add(result(Path("in/a.png")))
    writer.finish()
    assert [path.name for path in own] == ["a.geojson", "a.rois.zip"]
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [one["properties"]["objectType"] for one in features] == ["detection"] * 3
    assert [round(one["properties"]["measurements"]["score"], 4) for one in features] == [0.9, 0.7, 0.5]
    rois = roifile.roiread(tmp_path / "a.rois.zip")
    assert [one.properties["score"] for one in rois] == pytest.approx([0.9, 0.7, 0.5])
    assert [one.name for one in rois] == ["square-0001", "round-0002", "square-0003"]


def test_areas_in_square_micrometres_where_a_picture_states_them(tmp_path: Path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros(SIZE, np.uint8), resolution=(20_000, 20_000), resolutionunit="CENTIMETER"
    )
    writer = Writer(tmp_path / "o", ["csv"], CLASSES)
    writer.add(result(tmp_path / "a.tif"))
    writer.add(result(tmp_path / "none.png"))
    writer.finish()
    rows = list(csv.DictReader((tmp_path / "o" / "objects.csv").open()))
    assert [row["area_um2"] for row in rows] == ["16"] * 3 + [""] * 3
    writer = Writer(tmp_path / "o", ["csv"], CLASSES)
    writer.add(result(tmp_path / "none.png"))
    writer.finish()
    assert "area_um2" not in (tmp_path / "o" / "objects.csv").read_text()


@pytest.mark.parametrize("formats", [["coco"], ["csv"], ["labels"], ["overlay"], ["geojson"], ["imagej"]])
def test_a_write_that_fails_leaves_the_old_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: list[str]
):
    def write() -> list[Path]:
        writer = Writer(tmp_path, formats, CLASSES)
        writer.add(result(Path("a.png")))
        writer.finish()
        return writer.written

    (path,) = write()
    before = path.read_bytes()
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        real(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises((DataError, ImageError), match="No space left") as stop:
        write()
    assert str(path) in str(stop.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_picture_the_results_of_an_earlier_run_stay(tmp_path: Path):
    writer = Writer(tmp_path, FORMATS, CLASSES)
    writer.add(result(Path("a.png")))
    writer.finish()
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    empty = Writer(tmp_path, FORMATS, CLASSES)
    empty.finish()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert empty.written == []


@pytest.mark.parametrize(
    ("formats", "says"),
    [(["coc"], "Did you mean 'coco'"), (["geo"], "no format 'geo'"), ([], "got none")],
)
def test_formats_that_cannot_be_meant_are_refused(tmp_path: Path, formats, says):
    with pytest.raises(UsageError, match=says):
        Writer(tmp_path / "o", formats, CLASSES)
    assert not (tmp_path / "o").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        Writer(tmp_path / "file" / "o", FORMATS, CLASSES)


def test_counts_name_every_class():
    assert counts(found(3)) == {"square": 2, "round": 1}
    assert counts(found(0)) == {"square": 0, "round": 0}
