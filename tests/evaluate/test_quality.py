"""Mask quality of found objects: hand-made masks whose error is known."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pycocotools_oracle as oracle
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from apiece.evaluate.bootstrap import resamples
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.ledger import KINDS, Ledger, ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.quality import DEFINITIONS, FIGURES, MaskQuality, found_pairs, mask_quality
from apiece.evaluate.scenes import Kind

Mask = NDArray[np.bool_]
pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")

ROWS, COLUMNS = np.mgrid[0:120, 0:120]


def disk(radius: float, x: float = 60, y: float = 60) -> Mask:
    return (ROWS - y) ** 2 + (COLUMNS - x) ** 2 <= radius**2


def stairs(mask: Mask, step: int) -> Mask:
    """The mask as a network sees it that has one pixel for `step` × `step`."""
    blocks = mask.reshape(120 // step, step, 120 // step, step).mean(axis=(1, 3)) >= 0.5
    return np.repeat(np.repeat(blocks, step, axis=0), step, axis=1)


def ledger_of(pairs: list[tuple[Mask, Mask, int]], kind: Kind = "segm") -> Ledger:
    """One true and one predicted object an image, of a class."""
    annotations, results = [], []
    for i, (true, found, category) in enumerate(pairs, start=1):
        a, b = oracle.encoded(true), oracle.encoded(found)
        base = {"image_id": i, "category_id": category}
        annotations.append(
            base
            | {"id": i, "iscrowd": 0, "area": int(true.sum()), "segmentation": a}
            | {"bbox": coco_mask.toBbox(a).tolist()}
        )
        results.append(base | {"score": 0.9, "segmentation": b, "bbox": coco_mask.toBbox(b).tolist()})
    truth = {
        "images": [{"id": i + 1, "height": 120, "width": 120} for i in range(len(pairs))],
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
        "annotations": annotations,
    }
    overlaps = overlaps_of(scenes_of_coco(truth, results), kind)
    return ledger(overlaps, select(overlaps, OperatingPoint()))


def quality_of(pairs: list[tuple[Mask, Mask, int]], kind: Kind = "segm", **options: int) -> MaskQuality:
    return mask_quality(ledger_of(pairs, kind), resamples(len(pairs), draws=200), **options)


def test_figures_by_hand() -> None:
    square, wide, narrow = np.zeros((3, 120, 120), bool)
    square[10:30, 10:30] = True  # 400 pixels
    wide[10:30, 10:34] = True  # 480
    narrow[10:30, 10:29] = True  # 380
    found = quality_of([(square, wide, 1), (square, narrow, 1), (square, square, 2)])
    total = found.total.intervals
    assert found.total.pairs == found.total.measured == 3
    assert total["iou"].value == pytest.approx((400 / 480 + 380 / 400 + 1) / 3)
    assert total["area_bias_mean"].value == pytest.approx((0.2 - 0.05 + 0) / 3)
    assert total["area_bias_median"].value == pytest.approx(0.0)
    (_, _, one), (_, _, two) = found.by_class
    assert (one.pairs, two.pairs) == (2, 1)
    assert one.intervals["area_bias_mean"].value == pytest.approx(0.075)
    assert one.intervals["area_bias_median"].value == pytest.approx(0.075)
    assert two.intervals["boundary_iou"].value == 1
    assert two.intervals["roughness_mean"].value == 0
    assert [(size, figures.pairs) for size, figures in found.by_size] == [
        ("small", 3),
        ("medium", 0),
        ("large", 0),
    ]
    # Three images are too few for any interval.
    assert all(np.isnan(total[name].low) for name in FIGURES)


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        (lambda mask: mask, -1e-12, 1e-12),
        (lambda mask: stairs(mask, 8), 0.04, 0.4),
        (
            lambda mask: mask & (np.random.default_rng(0).random(mask.shape) > 0.1),
            2.0,
            5.0,
        ),  # one pixel in ten: as many outlines
        (lambda mask: disk(36), -0.02, 0.02),  # larger, but as smooth
    ],
    ids=["same", "stairs", "holes", "larger"],
)
def test_roughness_says_how_much_longer_outlines_are(
    change: Callable[[Mask], Mask], low: float, high: float
) -> None:
    masks = [disk(30, x, y) for x in (58, 60.3, 61) for y in (59, 60.5)]
    pairs = [(mask, change(mask), 1) for mask in masks]
    roughness = quality_of(pairs).total.intervals["roughness_mean"]
    assert low <= roughness.value <= high


def test_stairs_are_rougher_the_coarser_they_are() -> None:
    made = [quality_of([(disk(40), stairs(disk(40), step), 1)]).total.intervals for step in (1, 2, 4, 8)]
    values = [one["roughness_mean"].value for one in made]
    assert values[0] == 0
    assert values == sorted(set(values))
    # No staircase is longer than the box around it, 8 r for the circle's 2 pi r.
    assert values[-1] < 8 / (2 * np.pi) - 1


def test_a_known_bias_lies_in_its_interval_and_the_interval_is_narrow() -> None:
    r = np.random.default_rng(3)
    pairs = [(disk(30), disk(30 * np.sqrt(1.08 + r.normal(0, 0.02))), 1) for _ in range(40)]
    for name in ("area_bias_mean", "area_bias_median"):
        value, low, high = quality_of(pairs).total.intervals[name]
        assert low <= value <= high
        assert low < 0.08 < high
        assert 0.002 < high - low < 0.03


def test_only_matched_and_loose_pairs_count() -> None:
    truth, results = oracle.scene(3)
    for seed in range(3, 12):
        truth, results = oracle.scene(seed)
        overlaps = overlaps_of(scenes_of_coco(truth, results))
        entries = ledger(overlaps, select(overlaps, OperatingPoint(0.2)))
        pairs, iou = found_pairs(entries)
        kinds = {KINDS[k] for k in entries.predicted_kind[pairs.second].tolist()}
        assert kinds <= {"matched", "loose"}
        single = np.isin(entries.predicted_kind, (KINDS.index("matched"), KINDS.index("loose")))
        np.testing.assert_array_equal(pairs.second, np.flatnonzero(single))
        np.testing.assert_array_equal(pairs.first, entries.partner[single])
        decoded = [
            coco_mask.iou([overlaps.scenes.predicted.masks[p]], [overlaps.scenes.truth.masks[t]], [0])[0, 0]
            for t, p in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        ]
        np.testing.assert_allclose(iou, decoded)


def test_more_pairs_than_the_sample_are_drawn_and_said() -> None:
    pairs = [(disk(20 + i % 7), disk(21 + i % 5), 1 + i % 2) for i in range(60)]
    whole, part = quality_of(pairs), quality_of(pairs, sample=20)
    assert whole.reasons == ()
    assert "20 of the 60 pairs" in part.reasons[0]
    assert (part.total.pairs, part.total.measured) == (60, 20)
    assert sum(f.measured for _, _, f in part.by_class) == 20
    assert part.total.intervals["iou"] == whole.total.intervals["iou"]
    assert part.total.intervals["area_bias_median"] == whole.total.intervals["area_bias_median"]
    spread = part.total.intervals["boundary_iou"]
    assert spread.low <= whole.total.intervals["boundary_iou"].value <= spread.high


def test_drawn_medians_are_those_of_repeated_values() -> None:
    r = np.random.default_rng(5)
    draws = resamples(12, draws=100)
    pairs = [(disk(20), disk(20 + r.uniform(-2, 2)), 1) for _ in range(12)]
    entries = ledger_of(pairs)
    bias = entries.overlaps.predicted_areas / entries.overlaps.truth_areas - 1
    medians = [np.median(np.repeat(bias, row.astype(int))) for row in draws.weights]
    expected = np.quantile(medians, [0.025, 0.975])
    found = mask_quality(entries, draws).total.intervals["area_bias_median"]
    assert [found.low, found.high] == pytest.approx(expected.tolist())
    assert found.value == pytest.approx(np.median(bias))


def test_boxes_have_iou_and_area_alone() -> None:
    found = quality_of([(disk(30), disk(32), 1) for _ in range(6)], "bbox")
    total = found.to_json()["total"]
    assert total["iou"]["value"] == pytest.approx(61**2 / 65**2)
    assert total["area_bias_mean"]["value"] == pytest.approx(65**2 / 61**2 - 1)
    assert total["boundary_iou"] == {"value": None, "low": None, "high": None}
    assert total["measured"] == 0
    assert "Boxes have no outline" in found.reasons[0]


def test_nothing_found_is_said_and_the_document_is_plain() -> None:
    found = quality_of([(disk(10, 30, 30), disk(10, 90, 90), 1)])
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["total"]["pairs"] == 0
    assert document["total"]["iou"] == {"value": None, "low": None, "high": None}
    assert document["reasons"] == [
        "No object was found one to one, so that there is no mask quality to state."
    ]
    assert [row["category_id"] for row in document["by_class"]] == [1, 2]
    assert all(text.endswith(".") for text in DEFINITIONS.values())
