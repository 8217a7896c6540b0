"""AP equals pycocotools exactly, on ordinary and on odd scenes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools_oracle import FIGURES, encoded, run, scene, stats, without

from apiece.errors import UsageError
from apiece.evaluate import average_precision, evaluate
from apiece.evaluate.coco_scenes import scenes_of_coco


def twelve(figures):
    return [figures[name] for name in FIGURES]


def square(x, y, side, **more):
    mask = np.zeros((60, 80), bool)
    mask[y : y + side, x : x + side] = True
    return {
        "image_id": 1,
        "category_id": 1,
        "segmentation": encoded(mask),
        "bbox": [x, y, side, side],
        **more,
    }


def one_image(*annotations, categories=(1,)):
    return {
        "images": [{"id": 1, "height": 60, "width": 80}],
        "categories": [{"id": i, "name": f"class {i}"} for i in categories],
        "annotations": [
            {"id": i, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3], **a}
            for i, a in enumerate(annotations, start=1)
        ],
    }


def assert_equals_pycocotools(truth, results):
    found = evaluate(truth, results)
    # pycocotools takes areas from boxes, also for masks, where results have any: masks are judged without boxes.
    assert twelve(found.segm) == stats(truth, without(results, "bbox"), "segm")
    assert twelve(found.bbox) == stats(truth, without(results, "segmentation"), "bbox")
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_random_scenes_equal_pycocotools_to_the_last_bit(seed):
    assert_equals_pycocotools(*scene(seed))


def test_the_random_scenes_hold_the_odd_cases():
    seen = set()
    for truth, results in map(scene, range(120)):
        counts = np.unique([row["image_id"] for row in results], return_counts=True)[1]
        seen |= {"crowd" for a in truth["annotations"] if a["iscrowd"]}
        seen |= {"ignore" for a in truth["annotations"] if a.get("ignore") and not a["iscrowd"]}
        seen |= {"empty mask" for row in results if not row["bbox"][2]}
        seen |= {"id 0" for image in truth["images"] if image["id"] == 0}
        seen |= {"class 0" for category in truth["categories"] if category["id"] == 0}
        seen |= {"image without predictions"} if len(counts) < len(truth["images"]) else set()
        seen |= {"no truth"} if not truth["annotations"] else set()
        seen |= {"more than maxDets"} if counts.size and counts.max() > 100 else set()
        seen |= {"ties"} if len({row["score"] for row in results}) < len(results) else set()
    assert seen == {
        "crowd",
        "ignore",
        "empty mask",
        "id 0",
        "class 0",
        "image without predictions",
        "no truth",
        "more than maxDets",
        "ties",
    }


NAMED = {
    "no truth": (one_image(), [square(1, 1, 9, score=0.5)]),
    "no predictions": (one_image(square(1, 1, 9)), []),
    "neither": (one_image(), []),
    "crowd alone": (one_image(square(1, 1, 30, iscrowd=1)), [square(2, 2, 9, score=0.5)]),
    "crowd over an object": (
        one_image(square(0, 0, 40, iscrowd=1), square(5, 5, 10)),
        [square(5, 5, 10, score=0.3), square(6, 6, 10, score=0.9), square(20, 20, 9, score=0.7)],
    ),
    "tied scores": (
        one_image(square(1, 1, 20), square(30, 30, 20)),
        [square(50, 1, 20, score=0.5), square(1, 1, 20, score=0.5), square(30, 30, 20, score=0.5)],
    ),
    "area on a border of small and medium": (
        one_image(square(0, 0, 32), square(40, 0, 32, area=1024.5)),
        [square(0, 0, 32, score=0.9), square(40, 0, 32, score=0.8)],
    ),
    "a class without truth": (
        one_image(square(1, 1, 9), categories=(1, 2)),
        [square(1, 1, 9, score=0.5), square(30, 1, 9, score=0.5, category_id=2)],
    ),
    "the same object twice": (
        one_image(square(1, 1, 9)),
        [square(1, 1, 9, score=0.5), square(1, 1, 9, score=0.5)],
    ),
    "empty masks on both sides": (one_image(square(1, 1, 0)), [square(1, 1, 0, score=0.5)]),
    "scores beyond 0..1": (
        one_image(square(1, 1, 9)),
        [square(1, 1, 9, score=-3), square(30, 1, 9, score=7.5)],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_odd_cases_equal_pycocotools(name):
    assert_equals_pycocotools(*copy.deepcopy(NAMED[name]))


def test_undefined_figures_are_minus_one_and_missed_ones_zero():
    nothing_to_find = evaluate(*copy.deepcopy(NAMED["no truth"]))
    assert set(nothing_to_find.segm.values()) == {-1.0}
    nothing_found = evaluate(*copy.deepcopy(NAMED["no predictions"]))
    assert nothing_found.segm["AP"] == nothing_found.segm["AR100"] == 0.0
    assert nothing_found.segm["APl"] == -1.0


def test_polygons_and_plain_counts_equal_pycocotools():
    shape = [[3.2, 4.7, 40.1, 5.3, 33.3, 50.9, 10.0, 44.4], [50, 5, 70, 5, 70, 30]]
    truth = one_image(
        square(0, 0, 40, segmentation=shape, area=1500.25),
        square(0, 0, 10, segmentation={"size": [60, 80], "counts": [0, 10, 50, 10, 4730]}, iscrowd=1),
    )
    assert_equals_pycocotools(truth, [square(8, 5, 30, score=0.8), square(0, 0, 3, score=0.9)])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_object_ids_play_no_part(seed):
    """pycocotools takes a match with id 0 for none; here the figures are those of any other numbering."""
    truth, results = scene(seed)
    shifted = copy.deepcopy(truth)
    for annotation in shifted["annotations"]:
        annotation["id"] -= 1
    assert evaluate(shifted, results).to_json() == evaluate(truth, results).to_json()


def test_id_zero_is_where_pycocotools_errs():
    truth, results = one_image(square(1, 1, 9)), [square(1, 1, 9, score=0.5)]
    perfect = evaluate(truth, results).segm["AP"]
    truth["annotations"][0]["id"] = 0
    assert evaluate(truth, results).segm["AP"] == perfect > 0.99
    assert stats(truth, without(results, "bbox"), "segm")[0] == 0.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_figures_do_not_depend_on_the_order_of_truth_images_or_classes(seed, order):
    truth, results = scene(seed)
    # Equal areas of overlap are broken by the truth's order, so each object keeps its place among its image's.
    r = np.random.default_rng(order)
    mixed = dict(truth)
    mixed["images"] = [truth["images"][i] for i in r.permutation(len(truth["images"]))]
    mixed["categories"] = [truth["categories"][i] for i in r.permutation(len(truth["categories"]))]
    mixed["annotations"] = sorted(truth["annotations"], key=lambda a: -a["image_id"])
    assert evaluate(mixed, results).to_json() == evaluate(truth, results).to_json()


def dense(count=130, seed=0):
    """More objects than COCO's cap on one image, all found, in a random order of scores."""
    places = [(x, y) for y in range(0, 60, 5) for x in range(0, 80, 5)][:count]
    scores = np.random.default_rng(seed).permutation(count) / count
    truth = one_image(*(square(x, y, 4) for x, y in places))
    return truth, [square(x, y, 4, score=float(s)) for (x, y), s in zip(places, scores, strict=True)]


def test_without_the_cap_a_dense_image_is_seen_whole():
    truth, results = dense()
    found = assert_equals_pycocotools(truth, results)
    assert found.segm["AR100"] == pytest.approx(100 / 130)
    assert found.segm_uncapped["AR100"] == 1.0
    assert found.segm_uncapped["AP"] == pytest.approx(1.0)
    assert found.segm["AP"] < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_uncapped_figures_equal_pycocotools_with_the_cap_raised(seed):
    truth, results = dense(seed=seed)
    for row in results[::3]:  # some too far off for the higher IoU thresholds
        row["segmentation"] = square(row["bbox"][0] + 1, row["bbox"][1], 4)["segmentation"]
    found = evaluate(truth, results)
    oracle = run(truth, without(results, "bbox"), "segm", [1, 10, 130])
    # pycocotools' own AP asks for a cap of exactly 100, and is -1 with any other.
    assert twelve(found.segm_uncapped)[1:] == [float(value) for value in oracle.stats[1:]]
    assert found.segm_uncapped["AP"] == np.mean(oracle.eval["precision"][:, :, :, 0, 2])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_cap_that_cuts_nothing_changes_nothing(seed):
    truth, results = scene(seed)
    found = evaluate(truth, results)
    if not found.caps.hides:
        assert found.segm_uncapped == found.segm
        assert found.bbox_uncapped == found.bbox


def test_figures_of_each_class_are_those_of_the_class_alone():
    truth, results = next(s for s in map(scene, range(50)) if len(s[0]["categories"]) == 3 and len(s[1]) > 9)
    found = evaluate(truth, results)
    for entry in found.segm_by_class:
        number = entry.category_id
        alone = {
            "images": truth["images"],
            "categories": [c for c in truth["categories"] if c["id"] == number],
            "annotations": [a for a in truth["annotations"] if a["category_id"] == number],
        }
        own = [row for row in results if row["category_id"] == number]
        figures = evaluate(alone, own)
        assert tuple(figures.segm[name] for name in ("AP", "AP50", "AP75", "AR100")) == (
            entry.AP,
            entry.AP50,
            entry.AP75,
            entry.AR100,
        )
        assert entry.AP_uncapped == figures.segm_uncapped["AP"]
        assert entry.truth == sum(not a["iscrowd"] for a in alone["annotations"])
        assert entry.predicted == len(own)


def test_masks_are_large_or_small_by_their_own_area_though_results_have_boxes():
    """pycocotools would take the box, 40 × 40 and medium, of a mask that has 300 pixels and is small."""
    thin = np.zeros((60, 80), bool)
    thin[:40, :5] = True
    thin[:5, :40] = True
    rle, area = encoded(thin), int(thin.sum())
    assert area < 32**2 < 40**2
    base = {"image_id": 1, "category_id": 1, "segmentation": rle, "bbox": [0, 0, 40, 40]}
    stray = {**base, "score": 0.9, "segmentation": encoded(thin[::-1, ::-1]), "bbox": [40, 20, 40, 40]}
    truth = one_image({**base, "area": area})
    results = [stray, {**base, "score": 0.5}]
    assert evaluate(truth, results).segm["APs"] == stats(truth, without(results, "bbox"), "segm")[3]
    assert evaluate(truth, results).segm["APs"] != stats(truth, results, "segm")[3]


def test_masks_are_refused_where_there_are_none():
    truth = one_image(square(1, 1, 9))
    boxes = scenes_of_coco(truth, without([square(1, 1, 9, score=0.5)], "segmentation"))
    with pytest.raises(UsageError, match="1 of 1 objects have no mask"):
        average_precision(boxes, "segm", 100)
