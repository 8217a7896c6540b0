"""Average precision from known overlaps, against pycocotools."""

from __future__ import annotations

import numpy as np
import pycocotools_oracle as oracle
import pytest

from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.replay import average_precisions
from apiece.evaluate.scenes import Kind

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(60))
def test_equals_pycocotools_without_its_cap(seed: int, kind: Kind) -> None:
    truth, results = oracle.scene(seed)
    scenes = scenes_of_coco(truth, results)
    expected = (
        oracle.run(truth, results, kind, [1, 10, 10_000]).eval["precision"][:, :, :, 0, -1].mean(axis=1)
    )
    expected = np.where(expected < 0, np.nan, expected)
    found = average_precisions(overlaps_of(scenes, kind))
    np.testing.assert_allclose(found, expected, rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_leaving_predictions_out_is_evaluating_without_them(seed: int) -> None:
    truth, results = oracle.scene(seed)
    scenes = scenes_of_coco(truth, results)
    kept = np.random.default_rng(seed).random(len(results)) < 0.6
    chosen = [row for row, keep in zip(results, kept.tolist(), strict=True) if keep]
    found = average_precisions(overlaps_of(scenes), kept)
    alone = average_precisions(overlaps_of(scenes_of_coco(truth, chosen)))
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_images_apart_have_the_overlaps_that_they_have_together(seed: int) -> None:
    truth, results = oracle.scene(seed)
    scenes = scenes_of_coco(truth, results)
    places = np.flatnonzero(np.random.default_rng(seed).random(len(scenes.image_ids)) < 0.5)
    part, alone = overlaps_of(scenes).only(places), overlaps_of(scenes.only(places.tolist()))
    for name in ("across", "among_truth", "among_predicted"):
        for field in ("first", "second", "shared"):
            np.testing.assert_array_equal(
                getattr(getattr(part, name), field), getattr(getattr(alone, name), field)
            )
    np.testing.assert_array_equal(part.predicted_areas, alone.predicted_areas)
    np.testing.assert_array_equal(part.truth_areas, alone.truth_areas)
