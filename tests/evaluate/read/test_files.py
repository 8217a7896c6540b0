"""Truth and predictions brought together: pictures, classes, scores and what is known of pictures."""

from __future__ import annotations

import json

import layout_writers as write
import numpy as np
import pytest
from evaluate.pycocotools_oracle import scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_layouts import put, simple

from apiece.core.image import write_image
from apiece.errors import AnnotationError, DataError, UsageError
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.read import subject_of_files


def dump(path, value):
    path.write_text(json.dumps(value))
    return path


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_coco_on_both_sides_is_what_scenes_of_coco_makes(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("coco")
    truth, results = scene(seed)
    truth["images"][0]["id"] = str(truth["images"][0]["id"])  # texts that spell numbers are these
    path = dump(folder / "truth.json", truth)
    for name, document in (("list", results), ("document", {**truth, "annotations": results})):
        found = subject_of_files(path, dump(folder / f"{name}.json", document))
        write.same_scenes(found.scenes, scenes_of_coco(truth, document))
        assert np.array_equal(found.scenes.predicted.images, scenes_of_coco(truth, results).predicted.images)
        assert found.truth_path == str(path)


def test_ids_that_are_texts(tmp_path):
    truth, results = simple()
    for one in truth["images"]:
        one["id"] = "ab"[one["id"] - 1] * 2
    for one in (*truth["annotations"], *results):
        one["image_id"] = "ab"[one["image_id"] - 1] * 2
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "list.json", results))
    assert found.scenes.image_ids == ("aa", "bb")
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))


# ---- pictures


def test_label_images_with_an_ending_on_both_sides_and_no_pictures(tmp_path):
    label = np.zeros((20, 30), np.uint8)
    label[2:8, 3:9], label[10:15, 12:20] = 1, 2
    for side, ending in (("truth", "_masks"), ("found", "_cp_masks")):
        (tmp_path / side).mkdir()
        for name in ("a", "b"):
            Image.fromarray(label).save(tmp_path / side / f"{name}{ending}.png")
    table = tmp_path / "plates.csv"
    table.write_text("picture;plate\na.tif;1,5\nb_masks.png;2,5\n")  # as a German spreadsheet writes it
    found = subject_of_files(tmp_path / "truth", tmp_path / "found", metadata=table)
    assert len(found.scenes.truth) == len(found.scenes.predicted) == 4
    assert found.metadata["plate"] == ("1,5", "2,5")


def test_foreground_without_numbers_is_said(tmp_path):
    label = np.zeros((20, 30), np.uint8)
    label[2:8, 3:9], label[10:15, 12:20] = 1, 2
    for side, array in (("truth", label), ("found", np.minimum(label, 1) * 255)):
        (tmp_path / side).mkdir()
        for name in ("a", "b"):
            Image.fromarray(array).save(tmp_path / side / f"{name}.png")
    for side, said in (("found", True), ("truth", False)):
        notes = subject_of_files(tmp_path / "truth", tmp_path / side).notes
        assert any("number the objects" in note for note in notes) is said


def test_the_truth_as_its_own_predictions_is_said(tmp_path):
    path = put(tmp_path, simple()[0])
    assert any("ground truth itself" in note for note in subject_of_files(path, path).notes)


def test_names_and_paths_are_in_the_order_of_ids(tmp_path):
    truth, results = simple(names=("z.png", "a.png", "m.png"))
    truth["images"].reverse()
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "list.json", results))
    assert found.names == ("z.png", "a.png", "m.png")
    assert found.paths == (None, tmp_path / "images" / "a.png", None)
    named = subject_of_files(tmp_path / "truth.json", tmp_path / "list.json", images=tmp_path / "images")
    assert any("2 of 3 pictures of" in note for note in named.notes)
    with pytest.raises(DataError, match="nowhere: not found"):
        subject_of_files(tmp_path / "truth.json", tmp_path / "list.json", images=tmp_path / "nowhere")


@pytest.mark.parametrize("form", ["list", "document"])
def test_predictions_on_other_pictures_are_refused_or_both_sides_cut(tmp_path, form):
    truth, results = simple(names=("a.png", "b.png", "c.png"))
    full = {**truth, "annotations": results}
    truth["images"] = truth["images"][:2]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] < 3]
    results = [row for row in results if row["image_id"] > 1]
    written = results if form == "list" else {**full, "images": full["images"][1:], "annotations": results}
    path, found = put(tmp_path, truth), dump(tmp_path / "found.json", written)
    name = "3" if form == "list" else "c.png"
    with pytest.raises(
        AnnotationError,
        match=rf"found\.json: 2 predictions lie on 1 pictures that are not in .*'{name}'.*--common",
    ):
        subject_of_files(path, found)
    subject = subject_of_files(path, found, common=True)
    assert subject.names == ("b.png",)
    assert subject.scenes.image_ids == (2,)
    assert (len(subject.scenes.truth), len(subject.scenes.predicted)) == (2, 2)
    assert any(
        "Only the 1 pictures that both sides have are compared: 1 pictures of the truth are left out, and 1 of the "
        "predictions with 2 predictions" in note
        for note in subject.notes
    )


def test_pictures_without_predictions_stay_and_are_said(tmp_path):
    truth, results = simple(names=("a.png", "b.png", "c.png"))
    path = put(tmp_path, truth)
    rows = [row for row in results if row["image_id"] == 1]
    found = subject_of_files(path, dump(tmp_path / "list.json", rows))
    assert len(found.names) == 3
    assert any("2 of 3 pictures have no prediction ('b.png', 'c.png')" in note for note in found.notes)
    whole = dump(tmp_path / "document.json", {**truth, "annotations": rows})
    assert not any("have no prediction" in note for note in subject_of_files(path, whole).notes)
    part = dump(tmp_path / "part.json", {**truth, "images": truth["images"][:2], "annotations": rows})
    notes = subject_of_files(path, part).notes
    assert any("1 of 3 pictures are not in the predictions ('c.png')" in note for note in notes)


def test_other_data_sets_are_refused(tmp_path):
    truth, results = simple()
    path = put(tmp_path, truth)
    rows = [{**row, "image_id": row["image_id"] + 100} for row in results]
    for common in (False, True):
        with pytest.raises(AnnotationError, match=r"none of its 2 pictures \('101', '102'\)"):
            subject_of_files(path, dump(tmp_path / "list.json", rows), common=common)
    images = [{**one, "file_name": f"x{one['file_name']}"} for one in truth["images"]]
    other = dump(tmp_path / "other.json", {**truth, "images": images, "annotations": results})
    with pytest.raises(AnnotationError, match=r"none of its 2 pictures \('xa.png', 'xb.png'\)"):
        subject_of_files(path, other)


def test_names_that_may_be_several_pictures_are_refused(tmp_path):
    truth, results = simple(names=("train/a.png", "val/a.png"))
    truth["images"][0]["id"] = 7
    for one in truth["annotations"]:
        one["image_id"] = 7 if one["image_id"] == 1 else 2
    path = put(tmp_path, truth)
    for row in results:
        row["image_id"] = {1: "x/train/a.jpg", 2: "val/a"}[row["image_id"]]
    found = subject_of_files(path, dump(tmp_path / "list.json", results))
    assert found.scenes.predicted.images.tolist() == [1, 1, 0, 0]
    results[0]["image_id"] = "a"
    with pytest.raises(AnnotationError, match="'a', which can be 'val/a.png' or 'train/a.png'"):
        subject_of_files(path, dump(tmp_path / "list.json", results))


def test_two_files_of_one_picture_are_refused(tmp_path):
    truth, results = simple()
    (tmp_path / "out").mkdir()
    write.ultralytics_json(tmp_path / "out", truth, results)
    (tmp_path / "out" / "a.png.json").write_text((tmp_path / "out" / "a.json").read_text())
    with pytest.raises(AnnotationError, match=r"is the picture 'a\.png' .* once"):
        subject_of_files(put(tmp_path, truth), tmp_path / "out")


def test_documents_of_pictures_of_another_size_are_refused(tmp_path):
    truth, results = simple()
    images = [{**one, "height": 40, "width": 60} for one in truth["images"]]
    found = dump(tmp_path / "found.json", {**truth, "images": images, "annotations": results})
    with pytest.raises(
        AnnotationError, match=r"image 1: predictions are for a picture of 40 x 60 .* has 20 x 30"
    ):
        subject_of_files(put(tmp_path, truth), found)


# ---- classes


def document_of(truth, results, names):
    categories = [{**one, "name": names.get(one["name"], one["name"])} for one in truth["categories"]]
    return {**truth, "categories": categories, "annotations": results}


def test_classes_are_joined_by_name_whatever_their_ids_and_case(tmp_path):
    truth, results = simple([(1, "car"), (2, "traffic light")])
    document = document_of(truth, results, {"car": "Traffic_Light", "traffic light": "CAR"})
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "found.json", document))
    assert found.scenes.predicted.labels.tolist() == [1, 0, 1, 0]
    assert found.scenes.classes == ((1, "car"), (2, "traffic light"))


def test_other_names_are_refused_and_renamed(tmp_path):
    truth, results = simple([(1, "car"), (2, "person")])
    path = put(tmp_path, truth)
    document = document_of(truth, results, {"car": "automobile"})
    found = dump(tmp_path / "found.json", document)
    with pytest.raises(
        AnnotationError,
        match=r"categories 'automobile' with 2 predictions are none of .*true classes: 'car', 'person'; predicted "
        r"classes: 'automobile', 'person'.*--rename 'automobile'=NAME",
    ):
        subject_of_files(path, found)
    for rename in ({"automobile": "car"}, {"Automobile": "CAR"}, {"car": "automobile"}):
        renamed = subject_of_files(path, found, rename=rename)
        write.same_scenes(renamed.scenes, scenes_of_coco(truth, results))
    merged = subject_of_files(path, found, rename={"automobile": "person"})
    assert merged.scenes.predicted.labels.tolist() == [1, 1, 1, 1]
    less = subject_of_files(path, found, rename={"automobile": ""})
    assert less.scenes.predicted.labels.tolist() == [1, 1]
    assert any("2 predictions of 'automobile' are left out" in note for note in less.notes)
    with pytest.raises(UsageError, match=r"has no class 'autombile'. Did you mean 'automobile'"):
        subject_of_files(path, found, rename={"autombile": "car"})
    with pytest.raises(UsageError, match=r"has no class 'cat'. Did you mean 'car'"):
        subject_of_files(path, found, rename={"automobile": "cat"})


def test_a_single_class_on_both_sides_is_joined_and_said(tmp_path):
    truth, results = simple([(3, "nucleus")])
    found = dump(tmp_path / "found.json", document_of(truth, results, {"nucleus": "object"}))
    subject = subject_of_files(put(tmp_path, truth), found)
    write.same_scenes(subject.scenes, scenes_of_coco(truth, results))
    assert any("'object', is taken for the only true class, 'nucleus'" in note for note in subject.notes)


def test_classes_without_predictions_need_no_counterpart(tmp_path):
    truth, results = simple([(1, "car")])
    document = document_of(truth, results, {})
    document["categories"] += [{"id": 5, "name": "zebra"}]
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "found.json", document))
    write.same_scenes(found.scenes, scenes_of_coco(truth, results))


def test_a_list_of_results_is_renamed_by_its_ids(tmp_path):
    truth, results = simple([(1, "car"), (2, "person")])
    path = put(tmp_path, truth)
    rows = [{**row, "category_id": row["category_id"] + 6} for row in results]
    found = dump(tmp_path / "list.json", rows)
    with pytest.raises(AnnotationError, match=r"category_id 7; expected one of the 2 categories"):
        subject_of_files(path, found)
    with pytest.raises(AnnotationError, match=r"category 8 .*--rename 8=NAME"):
        subject_of_files(path, found, rename={"7": "car"})
    renamed = subject_of_files(path, found, rename={"7": "car", "8": "person"})
    write.same_scenes(renamed.scenes, scenes_of_coco(truth, results))


def test_numbers_against_a_heading_of_roboflow_are_refused(tmp_path):
    truth, _ = simple([(1, "RBC"), (2, "WBC")])
    for one in truth["categories"]:
        one["supercategory"] = "cells"
    truth["categories"].insert(0, {"id": 0, "name": "cells", "supercategory": "none"})
    path = put(tmp_path, truth)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("0 0.5 0.5 0.2 0.4 0.75\n1 0.1 0.1 0.2 0.1 0.3\n")
    with pytest.raises(
        AnnotationError, match=r"'cells' has no true object and may be a heading.*classes\.txt"
    ):
        subject_of_files(path, out)
    found = subject_of_files(path, out, rename={"0": "RBC", "1": "WBC"})
    assert found.scenes.predicted.labels.tolist() == [1, 2]
    (out / "a.txt").write_text("0 0.5 0.5 0.2 0.4 0.75\n7 0.1 0.1 0.2 0.1 0.3\n")
    with pytest.raises(AnnotationError, match="class 7 has predictions, but .* has 3 classes"):
        subject_of_files(path, out)


# ---- scores


def test_predictions_without_scores(tmp_path):
    truth, results = simple()
    path = put(tmp_path, truth)
    rows = [{k: v for k, v in row.items() if k != "score"} for row in results]
    for written in (rows, [{**row, "score": None} for row in rows]):
        found = subject_of_files(path, dump(tmp_path / "list.json", written))
        assert not found.scored
        assert found.scenes.predicted.scores.tolist() == [1, 1, 1, 1]
        assert any("carry no scores" in note for note in found.notes)
    with pytest.raises(AnnotationError, match="result 1 has no score"):
        subject_of_files(path, dump(tmp_path / "list.json", [results[0], rows[1]]))


@pytest.mark.parametrize("score", [1, 0.3])
def test_equal_scores_mean_nothing(tmp_path, score):
    truth, results = simple()
    rows = [{**row, "score": score} for row in results]
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "list.json", rows))
    assert not found.scored
    assert any(f"All 4 predictions have the score {score}" in note for note in found.notes)
    one = subject_of_files(tmp_path / "truth.json", dump(tmp_path / "one.json", rows[:1]))
    assert one.scored == (score != 1)


def test_nothing_is_ordinary(tmp_path):
    truth, results = simple()
    path = put(tmp_path, truth)
    for document in ([], {**truth, "annotations": []}):
        found = subject_of_files(path, dump(tmp_path / "found.json", document))
        assert (len(found.scenes.truth), len(found.scenes.predicted), found.scored) == (4, 0, True)
        assert "There are no predictions." in found.notes
    bare = dump(tmp_path / "bare.json", {**truth, "annotations": []})
    found = subject_of_files(bare, dump(tmp_path / "list.json", results))
    assert (len(found.scenes.truth), len(found.scenes.predicted)) == (0, 4)


def test_the_caps_of_a_model_are_known(tmp_path):
    truth, results = simple()
    document = {**truth, "annotations": results}
    document["images"] = [{**one, "truncated": one["id"] == 2} for one in truth["images"]]
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "found.json", document))
    assert found.scenes.truncated == 1


EMPTY = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}
DAMAGED = [
    {"images": 3},
    {**EMPTY, "images": []},
    {**EMPTY, "categories": []},
    {**EMPTY, "images": [{"id": None}]},
    {**EMPTY, "images": [{"id": 1}, {"id": "1"}]},
    {**EMPTY, "images": [{"id": 1, "height": -1, "width": 2}]},
    {**EMPTY, "annotations": [4]},
    {**EMPTY, "annotations": {}},
]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", *map(json.dumps, DAMAGED)])
def test_damaged_truth_is_refused_in_a_sentence_that_names_the_file(tmp_path, text):
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(DataError, match=r"truth\.json"):
        subject_of_files(tmp_path / "truth.json", dump(tmp_path / "list.json", []))


def test_missing_files_are_refused(tmp_path):
    truth, _ = simple()
    with pytest.raises(DataError, match=r"nowhere\.json: not found; expected the ground truth"):
        subject_of_files(tmp_path / "nowhere.json", tmp_path / "list.json")
    with pytest.raises(DataError, match=r"nowhere\.json: not found; expected predictions"):
        subject_of_files(put(tmp_path, truth), tmp_path / "nowhere.json")


# ---- metadata


def test_what_images_carry_describes_them(tmp_path):
    truth, results = simple()
    truth["images"][0] |= {"camera": "north", "hour": 7, "night": False, "coco_url": "http://x", "license": 3}
    truth["images"][1] |= {"camera": "south", "night": True, "objects": [1, 2], "note": "x" * 500}
    found = subject_of_files(put(tmp_path, truth), dump(tmp_path / "list.json", results))
    assert found.metadata == {"camera": ("north", "south"), "hour": ("7", ""), "night": ("false", "true")}


def test_a_table_describes_pictures(tmp_path):
    truth, results = simple(names=("x/a.png", "b.png", "c.png"))
    truth["images"][0]["camera"] = "old"
    path, found = put(tmp_path, truth), dump(tmp_path / "list.json", results)
    table = tmp_path / "table.csv"
    table.write_text('\ufeffimage,camera,plate\na.png,"north, 1",5\n2,south,\n\n', encoding="utf-8")
    subject = subject_of_files(path, found, metadata=table)
    assert subject.metadata == {"camera": ("north, 1", "south", ""), "plate": ("5", "", "")}
    assert any("1 of 3 pictures are not in it ('c.png')" in note for note in subject.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,camera\nd.png,1\n", r"line 2: no picture of .* is called 'd\.png'"),
        ("image,camera\na,1\na.png,2\n", "lines 2 and 3 are both of the picture 'a.png'"),
        ("image,camera\na,1,2\n", "line 2 has 3 columns; expected 2"),
        ("image\na\n", "has 1 columns"),
        ("", "has 0 columns"),
        ("image,x,x\na,1,2\n", "two columns called 'x'"),
        ("image,\na,1\n", "a column without a name"),
        ('image,x\na,"1\n', "is not CSV"),
    ],
)
def test_tables_that_do_not_hold_are_refused(tmp_path, text, message):
    truth, results = simple()
    path, found = put(tmp_path, truth), dump(tmp_path / "list.json", results)
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        subject_of_files(path, found, metadata=tmp_path / "table.csv")
    assert "table.csv" in str(error.value)
    assert "Remedy: " in str(error.value)
    (tmp_path / "table.csv").write_bytes(b"image,x\na,\xff\xfe\n")
    with pytest.raises(DataError, match="not text in UTF-8"):
        subject_of_files(path, found, metadata=tmp_path / "table.csv")
    with pytest.raises(DataError, match="cannot be read"):
        subject_of_files(path, found, metadata=tmp_path / "none.csv")
