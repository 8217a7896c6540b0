"""Every layout of predictions gives the scenes that the same objects give as a list of COCO results."""

from __future__ import annotations

import json

import layout_writers as write
import numpy as np
import pytest
from evaluate.pycocotools_oracle import without
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiece.errors import AnnotationError, DataError, UsageError
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.read import subject_of_files
from apiece.evaluate.read.layouts import layout_of

MASKS = {
    "coco-results": write.coco_list,
    "mmdetection": write.mmdetection_preds,
    "roboflow": write.roboflow_codes,
    "yolact": write.yolact,
}
SHAPES = {
    "ultralytics": write.ultralytics_json,
    "ultralytics-mapping": write.ultralytics_mapping,
    "roboflow": write.roboflow,
}
BOXES = {"json": write.json_sink, "csv": write.csv_sink}

properties = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 10**6)


def put(folder, truth):
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    return path


@pytest.mark.parametrize("layout", MASKS)
@properties
@given(seed=seeds)
def test_layouts_with_masks(tmp_path_factory, layout, seed):
    folder = tmp_path_factory.mktemp("layout")
    truth, results = write.with_names(seed)
    path = put(folder, truth)
    (folder / "out").mkdir()
    written = MASKS[layout](folder / "out", truth, results)
    assert layout_of(written).name == layout or not results
    found = subject_of_files(path, written, predictions_format=None if results else layout)
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))
    assert found.names == tuple(f"shot_{key}.png" for key in found.scenes.image_ids)


@pytest.mark.parametrize("layout", SHAPES)
@properties
@given(seed=seeds)
def test_layouts_with_polygons(tmp_path_factory, layout, seed):
    folder = tmp_path_factory.mktemp("layout")
    truth, results = write.with_names(seed)
    results = write.polygons(truth, results, seed)
    path = put(folder, truth)
    (folder / "out").mkdir()
    written = SHAPES[layout](folder / "out", truth, results)
    found = subject_of_files(path, written, predictions_format=layout.removesuffix("-mapping"))
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))


@pytest.mark.parametrize("sink", BOXES)
@properties
@given(seed=seeds)
def test_layouts_with_boxes(tmp_path_factory, sink, seed):
    folder = tmp_path_factory.mktemp("layout")
    truth, results = write.with_names(seed)
    path = put(folder, truth)
    found = subject_of_files(path, BOXES[sink](folder, truth, results))
    write.same_scenes(found.scenes, scenes_of_coco(truth, without(results, "segmentation")))


@properties
@given(seed=seeds)
def test_yolo_texts_with_confidences(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("layout")
    truth, results = write.with_names(seed)
    results = write.polygons(truth, results, seed)
    path = put(folder, truth)
    (folder / "out").mkdir()
    written = write.yolo_text(folder / "out", truth, results)
    if not results:
        return
    found = subject_of_files(path, written)
    wanted = scenes_of_coco(truth, write.drawn_as_yolo(truth, results))
    write.same_scenes(found.scenes, wanted)


@properties
@given(seed=seeds)
def test_documents_with_ids_of_their_own(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("layout")
    truth, results = write.with_names(seed)
    path = put(folder, truth)
    (folder / "out").mkdir()
    found = subject_of_files(path, write.own_document(folder / "out", truth, results))
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))


@properties
@given(seed=seeds)
def test_ultralytics_val_names_pictures_by_their_stems(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("layout")
    truth, results = write.with_names(seed)
    path = put(folder, truth)
    written = write.ultralytics_val(folder, truth, results)
    rows = json.loads(written.read_text())
    numbers = write.index_of(truth)
    for row in rows:
        row["category_id"] = numbers[row["category_id"]] + 1
    written.write_text(json.dumps(rows))
    write.same_scenes(subject_of_files(path, written).scenes, scenes_of_coco(truth, results))


def simple(categories=((1, "car"), (2, "person")), names=("a.png", "b.png"), size=(20, 30)):
    """A truth with an object of every class in every picture, and the same objects as results."""
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]} for i, name in enumerate(names, 1)
    ]
    annotations, results = [], []
    for image in images:
        for k, (key, _) in enumerate(categories):
            x = 2.0 + 6 * k
            one = {
                "image_id": image["id"],
                "category_id": key,
                "bbox": [x, 2.0, 4.0, 5.0],
                "segmentation": [[x, 2.0, x + 4, 2.0, x + 4, 7.0, x, 7.0]],
            }
            annotations.append({**one, "id": len(annotations) + 1, "area": 20.0, "iscrowd": 0})
            results.append({**one, "score": round(0.9 - 0.01 * len(results), 3)})
    truth = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in categories],
    }
    return truth, results


@pytest.mark.parametrize(("base", "ids"), [(1, (0, 1)), (0, (0, 1)), (1, (0, 1, 2)), (0, (0, 1, 2))])
def test_ultralytics_category_ids_count_classes(tmp_path, base, ids):
    truth, results = simple([(key, f"kind {key}") for key in ids])
    rows = [
        {**row, "image_id": "ab"[row["image_id"] - 1], "category_id": row["category_id"] + base}
        for row in results
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(rows))
    found = subject_of_files(put(tmp_path, truth), tmp_path / "predictions.json")
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))
    assert any(f"count classes from {base}" in note for note in found.notes)
    assert any("found by name" in note for note in found.notes)


@pytest.mark.parametrize(
    ("own", "named", "given", "base"),
    [
        ((1, 2, 3), False, (1, 2, 3), None),
        ((1, 2, 3), False, (0, 1, 2), 0),
        ((1, 2, 3), True, (1, 2, 3), None),
        ((1, 4, 9), True, (1, 2, 3), 1),
        ((1, 4, 9), False, (1, 2, 3), 1),
        ((1, 4, 9), False, (1, 4, 9), None),
        ((5,), True, (1,), 1),
    ],
)
def test_category_ids_of_files_that_name_pictures(tmp_path, own, named, given, base):
    truth, results = simple([(key, f"kind {key}") for key in own])
    number = dict(zip(own, given, strict=True))
    rows = [
        {**row, "image_id": "ab"[row["image_id"] - 1], "category_id": number[row["category_id"]]}
        | ({"file_name": "ab"[row["image_id"] - 1] + ".png"} if named else {})
        for row in results
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(rows))
    found = subject_of_files(put(tmp_path, truth), tmp_path / "predictions.json")
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))
    assert any("count classes from" in note for note in found.notes) == (base is not None)


def test_category_ids_that_may_count_from_0_or_1_are_refused_until_they_are_named(tmp_path):
    truth, results = simple([(0, "car"), (1, "person"), (2, "dog")])
    rows = [{**row, "image_id": "ab"[row["image_id"] - 1]} for row in results if row["category_id"] == 1]
    (tmp_path / "predictions.json").write_text(json.dumps(rows))
    path = put(tmp_path, truth)
    with pytest.raises(AnnotationError, match=r"from 0 or from 1.*Remedy: .*--rename 1=NAME"):
        subject_of_files(path, tmp_path / "predictions.json")
    found = subject_of_files(path, tmp_path / "predictions.json", rename={"1": "dog"})
    assert found.scenes.predicted.labels.tolist() == [2, 2]


def test_numbers_in_file_names_are_found(tmp_path):
    truth, results = simple(names=("000000000009.jpg", "000000000025.jpg"))
    rows = [{**row, "image_id": {1: 9, 2: 25}[row["image_id"]]} for row in results]
    (tmp_path / "predictions.json").write_text(json.dumps(rows))
    found = subject_of_files(put(tmp_path, truth), tmp_path / "predictions.json")
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))


def test_ids_that_all_pictures_have_stay_ids_though_files_are_called_by_numbers(tmp_path):
    truth, results = simple(names=("2.jpg", "1.jpg"))
    (tmp_path / "list.json").write_text(json.dumps(results))
    write.same_scenes(
        subject_of_files(put(tmp_path, truth), tmp_path / "list.json").scenes, scenes_of_coco(truth, results)
    )
    rows = [{**row, "file_name": f"{row['image_id']}.jpg"} for row in results]
    (tmp_path / "named.json").write_text(json.dumps(rows))
    found = subject_of_files(tmp_path / "truth.json", tmp_path / "named.json")
    assert found.scenes.predicted.images.tolist() == [1, 1, 0, 0]


def test_shares_of_normalized_ultralytics(tmp_path):
    truth, results = simple()
    (tmp_path / "out").mkdir()
    write.ultralytics_json(tmp_path / "out", truth, results)
    for file in (tmp_path / "out").iterdir():
        rows = json.loads(file.read_text())
        for row in rows:
            row["box"] = {key: value / (30 if key[0] == "x" else 20) for key, value in row["box"].items()}
            row["segments"] = {
                key: [value / (30 if key == "x" else 20) for value in values]
                for key, values in row["segments"].items()
            }
        file.write_text(json.dumps(rows))
    found = subject_of_files(put(tmp_path, truth), tmp_path / "out")
    np.testing.assert_allclose(found.scenes.predicted.boxes, scenes_of_coco(truth, results).predicted.boxes)
    assert any("shares of width and height" in note for note in found.notes)


def test_yolo_texts_of_boxes_tracks_and_names(tmp_path):
    truth, _ = simple()
    path = put(tmp_path, truth)
    out = tmp_path / "predict"
    (out / "labels").mkdir(parents=True)
    (out / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4 0.75\n0 0.1 0.1 0.2 0.1 0.3 0.4 0.6\n")
    found = subject_of_files(path, out)
    assert found.scenes.predicted.scores.tolist() == [0.75, 0.6]
    assert found.scenes.predicted.labels.tolist() == [1, 0]
    assert found.scenes.predicted.boxes[0].tolist() == pytest.approx([12, 6, 6, 8])
    assert any("0 = 'car', 1 = 'person'" in note for note in found.notes)
    assert any("1 of 2 pictures have no prediction" in note for note in found.notes)
    (out / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4 0.75 1\n0 0.5 0.5 0.2 0.4 0.5 2\n")
    found = subject_of_files(path, out)
    assert found.scenes.predicted.scores.tolist() == [0.75, 0.5]
    (out / "classes.txt").write_text("person\ncar\n")
    assert subject_of_files(path, out).scenes.predicted.labels.tolist() == [0, 1]


def test_supervision_writes_what_is_read(tmp_path):
    supervision = pytest.importorskip("supervision")
    truth, results = simple()
    path = put(tmp_path, truth)
    for sink, name in ((supervision.JSONSink, "found.json"), (supervision.CSVSink, "found.csv")):
        with sink(str(tmp_path / name)) as out:
            for image in truth["images"]:
                rows = [row for row in results if row["image_id"] == image["id"]]
                detections = supervision.Detections(
                    xyxy=np.array([write.xyxy(row["bbox"]) for row in rows]),
                    class_id=np.array([row["category_id"] - 1 for row in rows]),
                    confidence=np.array([row["score"] for row in rows]),
                )
                out.append(detections, {"frame": image["file_name"]})
        found = subject_of_files(path, tmp_path / name)
        write.same_scenes(found.scenes, scenes_of_coco(truth, without(results, "segmentation")))


def test_supervision_rows_that_name_no_picture_are_refused(tmp_path):
    truth, results = simple()
    rows = [{key: row[key] for key in row if key != "image"} for row in write.sink_rows(truth, results)]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    with pytest.raises(
        AnnotationError, match=r"found\.json: no column tells the picture.*Remedy: sink\.append"
    ):
        subject_of_files(put(tmp_path, truth), tmp_path / "found.json")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text(json.dumps(rows[:2]))
    assert subject_of_files(tmp_path / "truth.json", tmp_path / "out").scenes.predicted.images.tolist() == [
        0,
        0,
    ]


def test_supervision_rows_without_a_class_are_of_the_only_class(tmp_path):
    for count in (1, 2):
        truth, results = simple([(i, f"kind {i}") for i in range(1, count + 1)])
        rows = list(write.sink_rows(truth, results))
        for row in rows:
            row |= {"class_id": "", "class_name": ""}
        (tmp_path / "found.json").write_text(json.dumps(rows))
        path = put(tmp_path, truth)
        if count == 1:
            subject = subject_of_files(path, tmp_path / "found.json")
            assert subject.scenes.predicted.labels.tolist() == [0, 0]
        else:
            with pytest.raises(AnnotationError, match="categories 'object' with 4 predictions are none of"):
                subject_of_files(path, tmp_path / "found.json")


def test_roboflow_list_whose_predictions_name_the_picture(tmp_path):
    truth, results = simple()
    answers = []
    for image, rows in write.by_image(truth, results):
        one = write.answer(image, rows, write.name_of(truth))
        one["image"] = {key: str(value) for key, value in one["image"].items()}
        for row in one["predictions"]:
            row["image_path"] = f"/data/{image['file_name']}"
        answers.append(one)
    (tmp_path / "list.json").write_text(json.dumps(answers))
    found = subject_of_files(put(tmp_path, truth), tmp_path / "list.json")
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))
    answers[0]["image"]["width"] = "31"
    (tmp_path / "list.json").write_text(json.dumps(answers))
    with pytest.raises(AnnotationError, match=r"20 x 31.*has 20 x 30"):
        subject_of_files(tmp_path / "truth.json", tmp_path / "list.json")
    for row in answers[1]["predictions"]:
        del row["image_path"]
    answers[0]["image"]["width"] = "30"
    (tmp_path / "list.json").write_text(json.dumps(answers))
    with pytest.raises(AnnotationError, match="answer 1: doesn't say of which picture"):
        subject_of_files(tmp_path / "truth.json", tmp_path / "list.json")


def test_an_outline_without_an_area_is_an_empty_mask_and_is_said(tmp_path):
    truth, results = simple()
    (tmp_path / "out").mkdir()
    write.ultralytics_json(tmp_path / "out", truth, results)
    file = tmp_path / "out" / "a.json"
    rows = json.loads(file.read_text())
    rows[0]["segments"] = {"x": [], "y": []}
    file.write_text(json.dumps(rows))
    found = subject_of_files(put(tmp_path, truth), tmp_path / "out")
    assert found.scenes.predicted.without_mask == 0
    assert found.scenes.predicted.segm_areas.tolist()[0] == 0
    assert any("1 of 4 predictions have an outline without an area" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("results.pkl", r"\*\.segm\.json"),
        ("instances_predictions.pth", "coco_instances_results.json"),
        ("a_seg.npy", "--save_png"),
        ("odd", "JSON"),
    ],
)
def test_pickles_are_never_opened(tmp_path, name, remedy):
    truth, _ = simple()
    (tmp_path / name).write_bytes(b"\x80\x04cposix\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(DataError, match=f"{name}.* pickle.*Remedy: .*{remedy}"):
        subject_of_files(put(tmp_path, truth), tmp_path / name)
    (tmp_path / "folder").mkdir()
    if name != "odd":
        (tmp_path / "folder" / name).write_bytes(b"\x93NUMPY")
        with pytest.raises(DataError, match="pickle"):
            subject_of_files(tmp_path / "truth.json", tmp_path / "folder")


def test_unknown_layouts_are_refused_with_the_nearest(tmp_path):
    truth, results = simple()
    path = put(tmp_path, truth)
    (tmp_path / "list.json").write_text(json.dumps(results))
    with pytest.raises(UsageError, match="Did you mean 'mmdetection'"):
        subject_of_files(path, tmp_path / "list.json", predictions_format="mmdet")
    with pytest.raises(UsageError, match="Did you mean 'yolo'"):
        subject_of_files(path, tmp_path / "list.json", format="yol")
    (tmp_path / "what.json").write_text('{"what": 1}')
    with pytest.raises(DataError, match=r"what\.json"):
        subject_of_files(path, tmp_path / "what.json")
    (tmp_path / "what.bin").write_text("?")
    with pytest.raises(DataError, match=r"no predictions of a layout known here.*\n.*coco-results"):
        subject_of_files(path, tmp_path / "what.bin")


HOSTILE = {
    "ultralytics": [
        [{"name": "car", "class": 0, "confidence": 0.5}],
        [{"name": "car", "class": 0, "confidence": None, "box": {"x1": 1, "y1": 1, "x2": "a", "y2": 3}}],
        [{"name": "car", "class": 0, "confidence": "nan", "box": {"x1": 1, "y1": 1, "x2": 4, "y2": 3}}],
        [{"name": "car", "class": 0, "confidence": 0.5, "box": {"x1": 9, "y1": 1, "x2": 4, "y2": 3}}],
        [
            {
                "name": "car",
                "class": 0,
                "box": {"x1": 1, "y1": 1, "x2": 4, "y2": 3},
                "segments": {"x": [1], "y": []},
            }
        ],
        [{"name": "", "class": -3, "confidence": 0.5, "box": {"x1": 1, "y1": 1, "x2": 4, "y2": 3}}],
        [[], [{"class": 0, "box": {}}]],
        3,
    ],
    "mmdetection": [
        {"labels": [0], "scores": [0.5, 0.4], "bboxes": [[1, 2, 3, 4]]},
        {"labels": [0], "scores": [0.5]},
        {"labels": [0.5], "scores": [0.5], "bboxes": [[1, 2, 3, 4]]},
        {"labels": [0], "scores": [0.5], "masks": [{"size": [9, 9], "counts": "xx"}]},
        {"labels": [0], "scores": [0.5], "masks": [{"size": [20, 30], "counts": "\u0000"}]},
        {"labels": [0], "scores": [0.5], "masks": [{"size": [20, 30], "counts": "\ud800"}]},
        {"labels": [0], "scores": [0.5], "masks": ["mask"]},
        {"labels": {}, "scores": []},
        [],
    ],
    "roboflow": [
        {"predictions": [{"x": 1, "y": 1, "width": -3, "height": 4, "confidence": 1, "class": "car"}]},
        {"predictions": [{"x": 1, "y": 1, "width": 3, "height": 4, "confidence": 0.4, "class": None}]},
        {"predictions": [{"x": 1, "y": 1, "width": 3, "height": 4, "class": "car", "points": [[1, 2]]}]},
        {"predictions": [7]},
        {"predictions": {}},
    ],
    "yolact": [
        {"info": {}, "images": [{"image_id": None, "dets": []}]},
        {"info": {}, "images": [{"image_id": 1, "dets": 5}]},
        {"info": {}, "images": [{"image_id": 1, "dets": [{"score": 1, "category": "car", "bbox": [1, 2]}]}]},
        {"info": {}, "images": [{"image_id": 1, "dets": [{"score": 1, "category": "car"}]}]},
        {"info": {}, "images": 3},
    ],
    "supervision": [
        [{"x_min": 1, "y_min": 2, "x_max": 3}],
        [{"x_min": 1, "y_min": 2, "x_max": 0, "y_max": 4, "class_id": 0, "confidence": 0.5}],
        [7],
        {},
    ],
    "coco-results": [
        [{"image_id": 1, "category_id": 1, "score": 0.5}],
        [{"image_id": [1], "category_id": 1, "score": 0.5, "bbox": [1, 1, 2, 2]}],
        [{"image_id": 1, "category_id": 77, "score": 0.5, "bbox": [1, 1, 2, 2]}],
        [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": {"size": [9, 9], "counts": "a"}}],
        [3],
        {"images": [3], "categories": [], "annotations": []},
        {"images": [], "categories": [{"id": 1, "name": "car"}], "annotations": [{"image_id": 5}]},
        {"images": [], "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "car"}], "annotations": []},
        {"images": {}, "annotations": []},
        {"annotations": {}},
        "text",
    ],
}


@pytest.mark.parametrize(
    ("layout", "document"), [(layout, one) for layout, rows in HOSTILE.items() for one in rows]
)
def test_damaged_predictions_are_refused_in_a_sentence_that_names_the_file(tmp_path, layout, document):
    truth, _ = simple()
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"a\.json.*(expected|Remedy: )"):
        subject_of_files(put(tmp_path, truth), tmp_path / "a.json", predictions_format=layout)


BAD_LINES = [
    "0 x 1 2 3",
    "0 0.1 0.1 nan 0.2 0.5",
    "-1 0.1 0.2 0.1 0.1 0.5",
    "0 0.1 0.2",
    "0 5 5 5 5 0.5",
    "0 0.1 0.1 -0.2 0.1 0.5",
    "0 0.1 0.1 0.2 0.2 1.5",
    "7 0.1 0.1 0.2 0.2 0.5",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_damaged_yolo_texts_are_refused_by_line(tmp_path, line):
    truth, _ = simple()
    (tmp_path / "a.txt").write_text(f"0 0.1 0.1 0.2 0.2 0.5\n{line}\n")
    with pytest.raises(DataError, match=r"a\.txt.*Remedy: "):
        subject_of_files(put(tmp_path, truth), tmp_path / "a.txt")


@pytest.mark.parametrize("layout", ["ultralytics", "mmdetection", "roboflow", "yolact", "coco-results"])
def test_truncated_json_says_where_it_breaks_off(tmp_path, layout):
    truth, _ = simple()
    (tmp_path / "a.json").write_text('[{"image_id": 1, "dets": ')
    with pytest.raises(AnnotationError, match=r"a\.json: breaks off"):
        subject_of_files(put(tmp_path, truth), tmp_path / "a.json", predictions_format=layout)
