"""Boundary IoU and boundary AP on crops, against whole frames and pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools_oracle as oracle
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval
from skimage.measure import perimeter_crofton

from apiece.errors import UsageError
from apiece.evaluate.boundary import (
    band_width,
    boundary_average_precision,
    inner_band,
    outlines,
    perimeter,
)
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.replay import average_precisions

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*", "ignore:__array__ implementation")


def framed_boundary(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The definition, on a whole frame: what erosion by d steps of a 3 x 3 square takes away."""
    height, width = frame.shape
    steps = max(1, round(float(0.02 * np.sqrt(height**2 + width**2))))
    padded = cv2.copyMakeBorder(frame, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return frame - eroded[1:-1, 1:-1]


def bands(rles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [coco_mask.encode(np.asfortranarray(framed_boundary(coco_mask.decode(rle)))) for rle in rles]


def boundary_iou_of(self: COCOeval, image: int, category: int) -> Any:
    """As COCOeval.computeIoU, but the smaller of mask and boundary IoU, crowd regions by masks."""
    true, found = self._gts[image, category], self._dts[image, category]
    if not true or not found:
        return []
    order = np.argsort([-one["score"] for one in found], kind="mergesort")
    t, f = (
        [one["segmentation"] for one in true],
        [found[i]["segmentation"] for i in order[: self.params.maxDets[-1]]],
    )
    crowd = [int(one["iscrowd"]) for one in true]
    iou = coco_mask.iou(f, t, crowd)
    regular = np.array(crowd) == 0
    iou[:, regular] = np.minimum(iou, coco_mask.iou(bands(f), bands(t), crowd))[:, regular]
    return iou


@pytest.mark.parametrize("seed", range(25))
def test_boundary_iou_equals_that_of_whole_frames(seed: int) -> None:
    overlaps = overlaps_of(scenes_of_coco(*oracle.scene(seed)))
    truth, predicted, pairs = overlaps.scenes.truth, overlaps.scenes.predicted, overlaps.across
    chosen = np.random.default_rng(seed).permutation(len(pairs)) < 60
    pairs = pairs.where(chosen)
    expected = [
        coco_mask.iou(bands([predicted.masks[p]]), bands([truth.masks[t]]), [0])[0, 0]
        for t, p in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(outlines(overlaps, pairs).iou, expected)


@pytest.mark.parametrize("seed", range(25))
def test_boundary_ap_equals_pycocotools_with_boundary_iou(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, results = oracle.scene(seed)
    overlaps = overlaps_of(scenes_of_coco(truth, results))
    found = boundary_average_precision(overlaps)
    monkeypatch.setattr(COCOeval, "computeIoU", boundary_iou_of)
    precision = oracle.run(truth, results, "segm", [1, 10, 10_000]).eval["precision"][:, :, :, 0, -1]

    def mean(part: NDArray[np.float64]) -> float | None:
        return float(part[part > -1].mean()) if (part > -1).any() else None

    expected = [mean(part) for part in (precision, precision[0], precision[5])]
    figures = [found.AP, found.AP50, found.AP75]
    assert figures == pytest.approx(expected, abs=1e-12)
    assert [ap for _, _, ap in found.by_class] == pytest.approx(
        [mean(precision[:, :, i]) for i in range(precision.shape[2])], abs=1e-12
    )
    json.dumps(found.to_json(), allow_nan=False)


def test_boundaries_are_stricter_than_masks_where_masks_are_large() -> None:
    frame = np.zeros((200, 200), bool)
    frame[20:180, 20:180] = True
    found = np.zeros_like(frame)
    found[26:174, 26:174] = True
    overlaps = overlaps_of(scenes_of_coco(*document([frame], [found])))
    # d = round(0.02 * 282.8) = 6: the bands are 6 wide and lie beside each other.
    assert outlines(overlaps, overlaps.across).iou.tolist() == [0.0]
    assert float(overlaps.iou[0]) == pytest.approx(148**2 / 160**2)
    assert boundary_average_precision(overlaps).AP == 0.0
    assert np.nanmean(average_precisions(overlaps)) > 0.7


def test_pictures_of_several_sizes_have_their_own_width() -> None:
    assert [band_width(size) for size in ((480, 640), (200, 200), (8, 8), (1080, 1920))] == [16, 6, 1, 44]
    small, large = np.zeros((40, 40), bool), np.zeros((300, 400), bool)
    small[5:25, 5:25] = True
    large[50:250, 50:250] = True
    overlaps = overlaps_of(scenes_of_coco(*document([small, large], [small, np.roll(large, 3, axis=1)])))
    inner = 200**2 - 180**2
    shared = framed_boundary(large.astype(np.uint8)) & framed_boundary(
        np.roll(large, 3, axis=1).astype(np.uint8)
    )
    expected = [1.0, shared.sum() / (2 * inner - shared.sum())]
    assert outlines(overlaps, overlaps.across).iou.tolist() == pytest.approx(expected)


def test_a_mask_thinner_than_two_bands_is_all_band() -> None:
    mask = np.ones((4, 9), bool)
    assert inner_band(mask, 2).all()
    assert inner_band(np.ones((5, 9), bool), 2).sum() == 5 * 9 - 1 * 5


@pytest.mark.parametrize("seed", range(20))
def test_perimeter_equals_scikit_images(seed: int) -> None:
    r = np.random.default_rng(seed)
    mask = cv2.GaussianBlur(r.random((40, 50)), (0, 0), r.uniform(0.5, 4)) > 0.5
    assert perimeter(mask) == pytest.approx(perimeter_crofton(np.pad(mask, 1), directions=4))


def test_boxes_are_refused() -> None:
    mask = np.ones((10, 10), bool)
    scenes = scenes_of_coco(*document([mask], [mask]))
    with pytest.raises(UsageError, match="asked of boxes"):
        boundary_average_precision(overlaps_of(scenes, "bbox"))


def test_of_very_many_pairs_some_images_are_drawn_and_it_is_said() -> None:
    truth, results = oracle.scene(11)
    overlaps = overlaps_of(scenes_of_coco(truth, results))
    whole = boundary_average_precision(overlaps)
    assert whole.images == whole.of == len(truth["images"]) > 1
    part = boundary_average_precision(overlaps, most=0)
    assert 1 <= part.images < part.of == whole.of
    alone = [boundary_average_precision(overlaps.only(np.array([i]))) for i in range(whole.of)]
    assert (part.AP, part.pairs) in [(one.AP, one.pairs) for one in alone]


@pytest.mark.needs_shared
def test_real_fixture(shared: Path) -> None:
    folder = shared / "fixtures" / "coco_small"
    truth = json.loads((folder / "gt_dataset.json").read_text())
    results = json.loads((folder / "dt_dataset.json").read_text())
    results = results["annotations"] if isinstance(results, dict) else results
    expected = json.loads((shared / "fixtures" / "EXPECTED.json").read_text())["two_image_segm"]["AP_all"]
    found = boundary_average_precision(overlaps_of(scenes_of_coco(truth, results)))
    assert found.AP is not None
    assert abs(found.AP - expected) < 1e-12


def document(
    true: list[NDArray[np.bool_]], found: list[NDArray[np.bool_]]
) -> tuple[oracle.Document, oracle.Results]:
    """One true and one predicted object an image."""
    images, annotations, results = [], [], []
    for i, (a, b) in enumerate(zip(true, found, strict=True), start=1):
        images.append({"id": i, "height": a.shape[0], "width": a.shape[1], "file_name": f"{i}.png"})
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "area": int(a.sum())}
            | {"segmentation": oracle.encoded(a), "bbox": coco_mask.toBbox(oracle.encoded(a)).tolist()}
        )
        results.append(
            {"image_id": i, "category_id": 1, "score": 0.9, "segmentation": oracle.encoded(b)}
            | {"bbox": coco_mask.toBbox(oracle.encoded(b)).tolist()}
        )
    truth = {"images": images, "categories": [{"id": 1, "name": "thing"}], "annotations": annotations}
    return truth, results
