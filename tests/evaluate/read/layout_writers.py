"""Writers of predictions as tools write them, from COCO results, and the scenes that reading must give."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from evaluate.pycocotools_oracle import scene

from apiece.core.masks import Masks
from apiece.evaluate.coco_scenes import scenes_of_coco


def with_names(seed: int):
    """A scene whose classes and pictures have names that tell them apart, without crowds of ids."""
    truth, results = scene(seed)
    for image in truth["images"]:
        image["file_name"] = f"shot_{image['id']}.png"
    for category in truth["categories"]:
        category["name"] = f"kind {category['id']}"
    return truth, results


def polygons(truth, results, seed):
    """The same results with a polygon of three to six points instead of each mask, within the picture."""
    rng = np.random.default_rng(seed)
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    made = []
    for row in results:
        width, height = sizes[row["image_id"]]
        points = rng.random((int(rng.integers(3, 7)), 2)) * [width, height]
        flat = np.round(points, 3).reshape(-1).tolist()
        made.append({**row, "segmentation": [flat]})
    return made


def by_image(truth, results):
    return [(image, [r for r in results if r["image_id"] == image["id"]]) for image in truth["images"]]


def name_of(truth):
    return {category["id"]: category["name"] for category in truth["categories"]}


def index_of(truth):
    """Class numbers from 0, as trainers count them."""
    return {key: i for i, key in enumerate(sorted(c["id"] for c in truth["categories"]))}


def stem(image) -> str:
    return Path(image["file_name"]).stem


def xyxy(box):
    x, y, width, height = box
    return [x, y, x + width, y + height]


def ultralytics_json(folder, truth, results):
    """`Path(result.path).stem + ".json"` with `result.to_json()` a picture."""
    names, numbers = name_of(truth), index_of(truth)
    for image, rows in by_image(truth, results):
        found = []
        for row in rows:
            x1, y1, x2, y2 = xyxy(row["bbox"])
            one = {
                "name": names[row["category_id"]],
                "class": numbers[row["category_id"]],
                "confidence": row["score"],
                "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
            }
            if "segmentation" in row:
                flat = row["segmentation"][0]
                one["segments"] = {"x": flat[0::2], "y": flat[1::2]}
            found.append(one)
        (folder / f"{stem(image)}.json").write_text(json.dumps(found, indent=2))
    return folder


def ultralytics_mapping(folder, truth, results):
    """One document {picture: list}."""
    ultralytics_json(folder, truth, results)
    whole = {
        stem(image): json.loads((folder / f"{stem(image)}.json").read_text()) for image in truth["images"]
    }
    (folder / "all.json").write_text(json.dumps(whole))
    return folder / "all.json"


def ultralytics_val(folder, truth, results):
    """`predictions.json` of `val` with save_json: image_id is the stem, category_id counts from 1."""
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    rows = [
        {
            "image_id": Path(names[row["image_id"]]).stem,
            "file_name": names[row["image_id"]],
            **{key: row[key] for key in ("category_id", "bbox", "score", "segmentation")},
        }
        for row in results
    ]
    (folder / "predictions.json").write_text(json.dumps(rows))
    return folder / "predictions.json"


def coco_list(folder, truth, results):
    """Detectron2's coco_instances_results.json, MMDetection's *.segm.json."""
    (folder / "coco_instances_results.json").write_text(json.dumps(results))
    return folder / "coco_instances_results.json"


def mmdetection_preds(folder, truth, results):
    """`outputs/preds/NAME.json` of the inferencer."""
    numbers = index_of(truth)
    (folder / "preds").mkdir()
    (folder / "vis").mkdir()
    for image, rows in by_image(truth, results):
        document = {
            "labels": [numbers[row["category_id"]] for row in rows],
            "scores": [row["score"] for row in rows],
            "bboxes": [xyxy(row["bbox"]) for row in rows],
            "masks": [row["segmentation"] for row in rows],
        }
        (folder / "preds" / f"{stem(image)}.json").write_text(json.dumps(document))
    return folder


def sink_rows(truth, results):
    names, numbers = name_of(truth), index_of(truth)
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    for row in results:
        x1, y1, x2, y2 = xyxy(row["bbox"])
        yield {
            "x_min": x1,
            "y_min": y1,
            "x_max": x2,
            "y_max": y2,
            "class_id": numbers[row["category_id"]],
            "confidence": row["score"],
            "tracker_id": "",
            "class_name": names[row["category_id"]],
            "image": files[row["image_id"]],
        }


def json_sink(folder, truth, results):
    (folder / "detections.json").write_text(json.dumps(list(sink_rows(truth, results)), indent=4))
    return folder / "detections.json"


def csv_sink(folder, truth, results):
    with (folder / "detections.csv").open("w", newline="") as file:
        rows = list(sink_rows(truth, results))
        names = list(rows[0]) if rows else ["x_min", "y_min", "x_max", "y_max", "class_id", "confidence"]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "detections.csv"


def answer(image, rows, names, mask="points"):
    predictions = []
    for i, row in enumerate(rows):
        x, y, width, height = row["bbox"]
        one = {
            "x": x + width / 2,
            "y": y + height / 2,
            "width": width,
            "height": height,
            "confidence": row["score"],
            "class": names[row["category_id"]],
            "class_id": 0,
            "detection_id": str(i),
        }
        if mask == "points":
            flat = row["segmentation"][0]
            one["points"] = [{"x": px, "y": py} for px, py in zip(flat[0::2], flat[1::2], strict=True)]
        elif mask:
            one[mask] = row["segmentation"]
        predictions.append(one)
    return {
        "time": 0.1,
        "image": {"width": image["width"], "height": image["height"]},
        "predictions": predictions,
    }


def roboflow(folder, truth, results):
    for image, rows in by_image(truth, results):
        document = answer(image, rows, name_of(truth))
        (folder / f"{stem(image)}.json").write_text(json.dumps(document))
    return folder


def roboflow_codes(folder, truth, results):
    """The newer answers, with run-length codes; one document of all pictures."""
    whole = {
        image["file_name"]: answer(image, rows, name_of(truth), "rle")
        for image, rows in by_image(truth, results)
    }
    (folder / "answers.json").write_text(json.dumps(whole))
    return folder / "answers.json"


def yolact(folder, truth, results):
    names = name_of(truth)
    images = [
        {
            "image_id": image["id"],
            "dets": [
                {
                    "score": row["score"],
                    "bbox": row["bbox"],
                    "category": names[row["category_id"]],
                    "mask": row["segmentation"],
                }
                for row in rows
            ],
        }
        for image, rows in by_image(truth, results)
    ]
    (folder / "yolact.json").write_text(json.dumps({"info": {"Config": {}}, "images": images}))
    return folder / "yolact.json"


def own_document(folder, truth, results):
    """`predictions.json` of `apiece segment`, with ids of its own."""
    shift = {image["id"]: image["id"] + 40 for image in truth["images"]}
    kinds = {category["id"]: category["id"] + 7 for category in truth["categories"]}
    document = {
        "images": [{**image, "id": shift[image["id"]]} for image in truth["images"]],
        "categories": [{**one, "id": kinds[one["id"]]} for one in truth["categories"]],
        "annotations": [
            {**row, "id": i, "image_id": shift[row["image_id"]], "category_id": kinds[row["category_id"]]}
            for i, row in enumerate(results)
        ],
    }
    (folder / "predictions.json").write_text(json.dumps(document))
    return folder / "predictions.json"


def yolo_text(folder, truth, results):
    """`labels/NAME.txt` of `predict save_txt save_conf`; pictures without a detection have no text."""
    numbers = index_of(truth)
    (folder / "labels").mkdir()
    for image, rows in by_image(truth, results):
        sides = np.array([image["width"], image["height"]])
        lines = []
        for row in rows:
            shares = (np.array(row["segmentation"][0]).reshape(-1, 2) / sides).reshape(-1).tolist()
            lines.append(" ".join(map(repr, [numbers[row["category_id"]], *shares, row["score"]])))
        if lines:
            (folder / "labels" / f"{stem(image)}.txt").write_text("\n".join(lines) + "\n")
    return folder


def drawn_as_yolo(truth, results):
    """What the polygons of a YOLO text mean: masks by the centres of pixels, even and odd."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    made = []
    for row in results:
        height, width = sizes[row["image_id"]]
        sides = np.array([width, height])
        ring = np.array(row["segmentation"][0]).reshape(-1, 2) / sides * sides
        code = Masks.from_polygons([[(ring, [])]], (height, width)).to_coco()[0]
        made.append({**{key: row[key] for key in row if key != "bbox"}, "segmentation": code})
    return made


def same_scenes(found, wanted):
    """Assert that two scenes are of the same images, classes and objects; objects of an image in the same order."""
    assert found.image_ids == wanted.image_ids
    assert found.sizes == wanted.sizes
    assert found.classes == wanted.classes
    for a, b in ((found.truth, wanted.truth), (found.predicted, wanted.predicted)):
        assert len(a) == len(b)
        first, second = (np.argsort(one.images, kind="stable") for one in (a, b))
        for field in ("images", "labels", "crowd"):
            assert np.array_equal(getattr(a, field)[first], getattr(b, field)[second]), field
        for field in ("scores", "boxes", "segm_areas", "bbox_areas"):
            np.testing.assert_allclose(
                getattr(a, field)[first], getattr(b, field)[second], atol=1e-6, err_msg=field
            )
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            assert a.masks[i] == b.masks[j]


def expected(truth, results):
    return scenes_of_coco(truth, results)
