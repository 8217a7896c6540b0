"""AP equals pycocotools' to the last bit; counting error is what its definition says; caps are said."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest

mask = pytest.importorskip("pycocotools.mask")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.evaluate import (
    average_precision,
    best_count_threshold,
    counting_error,
    evaluate,
    evaluate_instances,
)
from apiece.evaluate.average_precision import NAMES

SIZE = (96, 128)


def random_masks(rng: np.random.Generator, count: int) -> Masks:
    crops = [rng.random(rng.integers(1, 60, 2)) > 0.2 for _ in range(count)]
    return Masks.from_crops(crops, rng.integers(-5, 110, (count, 2)), SIZE)


def case(seed: int) -> tuple[dict, list]:
    """Random truth and predictions: several classes, crowd, ties, empty pictures, ids from 0."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(4)]
    categories = [{"id": c, "name": f"c{c}"} for c in (0, 3, 7)]
    annotations, results = [], []
    for image in images[: 3 if seed % 3 else 4]:
        count = int(rng.integers(0, 8))
        masks = random_masks(rng, count)
        for i, (rle, area) in enumerate(zip(masks.to_coco(), masks.areas.tolist(), strict=True)):
            category = int(rng.choice([0, 3, 7]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "segmentation": rle,
                    "area": area,
                    "bbox": mask.toBbox(rle).tolist(),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = masks[[i]].shift(*rng.integers(-6, 7, 2).tolist(), SIZE)
                results.append((image["id"], category if rng.random() < 0.8 else 3, moved))
        results += [(image["id"], 7, random_masks(rng, 1)) for _ in range(int(rng.integers(0, 3)))]
    rows = [
        {
            "image_id": i,
            "category_id": c,
            "segmentation": m.to_coco()[0],
            "score": float(rng.choice([0.2, 0.5, rng.random()])),
        }
        for i, c, m in results
    ]
    for row in rows:
        row["bbox"] = mask.toBbox(row["segmentation"]).tolist()
    return {"images": images, "annotations": annotations, "categories": categories}, rows


def by_pycocotools(truth: dict, rows: list, kind: str, cap: int = 100) -> list[float]:
    unwanted = {"segm": "bbox", "bbox": "segmentation"}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(truth)
        ground.createIndex()
        found = COCO()
        found.dataset = {
            "images": truth["images"],
            "categories": truth["categories"],
            "annotations": [
                {k: v for k, v in r.items() if k != unwanted}
                | {
                    "id": i + 1,
                    "iscrowd": 0,
                    "area": float(mask.area(r["segmentation"]))
                    if kind == "segm"
                    else r["bbox"][2] * r["bbox"][3],
                }
                for i, r in enumerate(rows)
            ],
        }
        found.createIndex()
        evaluation = COCOeval(ground, found, kind)
        evaluation.params.maxDets = [1, 10, cap]
        evaluation.evaluate()
        evaluation.accumulate()
        if cap != 100:
            precision = evaluation.eval["precision"][:, :, :, 0, 2]
            return [float(precision[precision > -1].mean())]
        evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(24))
def test_equal_to_pycocotools(kind, seed):
    truth, rows = case(seed)
    figures = average_precision(truth, rows, kind).figures
    expected = by_pycocotools(truth, rows, kind)
    assert list(figures) == list(NAMES)
    assert list(figures.values()) == expected


def test_an_object_of_id_0_is_an_object():
    truth, rows = crowded(20)
    for annotation in truth["annotations"]:
        annotation["id"] -= 1
    assert average_precision(truth, rows, "segm").figures["AP"] == 1.0


def crowded(objects: int) -> tuple[dict, list]:
    """More objects of one class in one picture than COCO's cap."""
    y, x = np.divmod(np.arange(objects), 16)
    masks = Masks.from_crops(
        [np.ones((4, 4), bool)] * objects, np.stack([x * 8, y * 6], axis=1), (objects // 2, 128)
    )
    annotations = [
        {
            "id": i + 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": rle,
            "area": 16,
            "bbox": mask.toBbox(rle).tolist(),
            "iscrowd": 0,
        }
        for i, rle in enumerate(masks.to_coco())
    ]
    truth = {
        "images": [{"id": 1, "height": objects // 2, "width": 128}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": annotations,
    }
    rows = [
        {
            "image_id": 1,
            "category_id": 1,
            "segmentation": a["segmentation"],
            "bbox": a["bbox"],
            "score": 1 - i / 1000,
        }
        for i, a in enumerate(annotations)
    ]
    return truth, rows


def test_the_cap_is_said_first_and_the_uncapped_figure_is_right():
    truth, rows = crowded(150)
    figures = evaluate(truth, rows)
    assert figures.to_text().startswith("CAP REACHED: 1 of 1 pictures")
    assert figures.caps.objects == 50
    assert figures.segm["AP"] < 0.7
    assert figures.segm_uncapped["AP"] == 1.0
    assert by_pycocotools(truth, rows[:130], "segm", cap=150) == [
        average_precision(truth, rows[:130], "segm", 150).figures["AP"]
    ]


def test_below_the_cap_nothing_is_said():
    truth, rows = crowded(90)
    figures = evaluate(truth, rows)
    assert "CAP" not in figures.to_text()
    assert figures.segm == figures.segm_uncapped


def test_every_figure_has_a_definition():
    truth, rows = crowded(30)
    document = evaluate(truth, rows).to_json()
    defined = " ".join(document["definitions"])
    for name in [*document["segm"], "MAE", "RMSE", "bias", "relative", "relative_per_image"]:
        assert name.rstrip("sml") in defined or name in defined


@pytest.mark.parametrize("missing", ["segmentation", "bbox"])
def test_what_predictions_lack_is_not_computed_and_said(missing: str):
    truth, rows = crowded(20)
    figures = evaluate(truth, [{k: v for k, v in r.items() if k != missing} for r in rows])
    absent = "segm" if missing == "segmentation" else "bbox"
    assert getattr(figures, absent) is None
    assert f"{absent}: not computed" in figures.to_text()


def test_no_predictions_and_no_objects():
    truth, _ = crowded(20)
    assert evaluate(truth, []).segm["AP"] == 0
    assert evaluate(truth, []).count["bias"] == -20
    empty = {**truth, "annotations": []}
    assert evaluate(empty, []).segm["AP"] == -1
    assert evaluate(empty, []).count["relative"] == -1


def test_counting_error_by_hand():
    figures = counting_error([10, 0, 5], [12, 1, 2])
    assert figures["MAE"] == pytest.approx(2.0)
    assert figures["RMSE"] == pytest.approx(np.sqrt(14 / 3))
    assert figures["bias"] == pytest.approx(0.0)
    assert figures["relative"] == pytest.approx(0.0)
    assert figures["relative_per_image"] == pytest.approx((0.2 + 0.6) / 2)


def test_the_best_threshold_gives_the_true_counts():
    assert 0.4 < best_count_threshold([2, 1], [[0.9, 0.8, 0.4], [0.7, 0.3]]) <= 0.7


def test_instances_and_files_agree_and_crowd_is_no_object(rng: np.random.Generator):
    masks = random_masks(rng, 5)
    masks = masks[masks.areas > 0]
    crowd = np.arange(len(masks)) == 0
    classes = ClassMap(("a",), (4,))
    ids = np.zeros(len(masks), dtype=np.int64)
    truth = Instances(size=SIZE, masks=masks, class_ids=ids, classes=classes, columns={"iscrowd": crowd})
    found = Instances(size=SIZE, masks=masks, class_ids=ids, classes=classes, scores=np.full(len(masks), 0.9))
    figures = evaluate_instances([truth], [found])
    assert figures.segm["AP"] == pytest.approx(1.0)
    assert figures.count["true"] == len(masks) - 1
