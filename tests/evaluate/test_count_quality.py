"""Count quality: hand-computed counts, GAME, and the ledger's own sums."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pycocotools_oracle as oracle
import pytest

from apiece.evaluate.bootstrap import percentiles, resamples
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.count_quality import DEFINITIONS, CountQuality, cells, count_quality, game
from apiece.evaluate.counting import counting
from apiece.evaluate.ledger import Ledger, ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.overlaps import overlaps_of

pytestmark = pytest.mark.filterwarnings("ignore:.*datetime.*")

Place = tuple[int, float, float]  # image, centre


def ledger_of(
    true: list[Place], found: list[Place], images: int, sized: bool = True, classes: int = 1
) -> Ledger:
    """Boxes 4 × 4 on pictures 80 wide and 40 high, of class 1."""

    def box(x: float, y: float) -> list[float]:
        return [x - 2, y - 2, 4, 4]

    size = {"height": 40, "width": 80} if sized else {}
    truth = {
        "images": [{"id": i, **size} for i in range(1, images + 1)],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, classes + 1)],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 1, "bbox": box(x, y), "area": 16, "iscrowd": 0}
            for k, (i, x, y) in enumerate(true, start=1)
        ],
    }
    results = [{"image_id": i, "category_id": 1, "score": 0.9, "bbox": box(x, y)} for i, x, y in found]
    overlaps = overlaps_of(scenes_of_coco(truth, results), "bbox")
    return ledger(overlaps, select(overlaps, OperatingPoint()))


def counts_of(true: list[int], found: list[int], draws: int = 200) -> CountQuality:
    """Images with so many objects, all in a row from the left."""

    def places(counts: list[int]) -> list[Place]:
        return [(i, 2.0 + 4 * k, 10.0) for i, count in enumerate(counts, start=1) for k in range(count)]

    entries = ledger_of(places(true), places(found), len(true))
    return count_quality(entries, resamples(len(true), draws=draws))


def test_errors_by_hand() -> None:
    found = counts_of([2, 4, 0, 6], [3, 2, 0, 9])  # errors 1, -2, 0, 3
    assert (found.images, found.true, found.predicted) == (4, 12, 14)
    assert found.MAE.value == 6 / 4
    assert found.RMSE.value == pytest.approx(np.sqrt(14 / 4))
    assert found.bias.value == 2 / 4
    assert found.relative.value == found.relative_bias.value == pytest.approx(2 / 12)
    assert found.R2.value == pytest.approx(1 - 14 / (1 + 1 + 9 + 9))
    assert (found.too_many, found.too_few, found.gross.value) == (4, 2, 6 / 4)
    assert found.points == ((2, 3), (4, 2), (0, 0), (6, 9))
    assert np.isnan(found.MAE.low)
    assert found.reasons == ("No intervals: 4 images or groups; expected at least 5.",)


def test_game_by_hand() -> None:
    # Image 1: two objects left above; one prediction left above, one right below: the count is right, the place not.
    # Image 2: an object and a prediction in one half, in neighbouring quarters. Image 3: nothing predicted of one.
    true = [(1, 10, 10), (1, 16, 10), (2, 50, 10), (3, 70, 30)]
    found = [(1, 10, 10), (1, 70, 30), (2, 70, 10)]
    made = count_quality(ledger_of(true, found, 3), resamples(3, draws=20))
    # Level 1 (cells 40 × 20): 2, 0, 1. Level 2 (20 × 10, centre y = 10 is the second row): 2, 2, 1. Level 3
    # (10 × 5): the object at x = 16 is in the second column, as 10 is: 2, 2, 1.
    assert [one.value for one in made.GAME] == pytest.approx([1 / 3, 3 / 3, 5 / 3, 5 / 3])
    assert made.game_images == 3


def test_a_shift_within_a_cell_costs_nothing_and_across_its_border_two() -> None:
    true, inside, across = [(1, 38.0, 30.0)], [(1, 36.0, 30.0)], [(1, 40.0, 30.0)]
    draws = resamples(1, draws=20)
    assert [one.value for one in count_quality(ledger_of(true, inside, 1), draws).GAME] == [0, 0, 0, 0]
    assert [one.value for one in count_quality(ledger_of(true, across, 1), draws).GAME] == [0, 2, 2, 2]


def test_cells_hold_every_object_once_and_the_border_belongs_to_the_picture() -> None:
    entries = ledger_of([(1, 80.0, 40.0), (1, 0.0, 0.0), (2, 40.0, 20.0)], [], 2)
    scenes = entries.overlaps.scenes
    assert cells(scenes.truth, scenes.sizes, 1).tolist() == [[1, 0, 0, 1], [0, 0, 0, 1]]
    assert cells(scenes.truth, scenes.sizes, 0).tolist() == [[2], [1]]
    assert game(np.array([[2, 0], [1, 1]]), np.array([[0, 2], [1, 1]])).tolist() == [4, 0]


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_counting_and_the_ledger(seed: int) -> None:
    scenes = scenes_of_coco(*oracle.scene(seed))
    overlaps = overlaps_of(scenes)
    entries = ledger(overlaps, select(overlaps, OperatingPoint(0.3)))
    found = count_quality(entries, resamples(len(scenes.image_ids), draws=20))
    expected = counting(scenes, 0.3)
    assert (found.true, found.predicted) == (expected.total.true, expected.total.predicted)
    assert found.MAE.value == pytest.approx(expected.total.MAE)
    assert found.RMSE.value == pytest.approx(expected.total.RMSE)
    assert found.bias.value == pytest.approx(expected.total.bias)
    if found.true:
        assert found.relative.value == pytest.approx(expected.total.relative)
    for row, (_, errors) in zip(found.by_class, expected.by_class, strict=True):
        assert (row.true, row.predicted) == (errors.true, errors.predicted)
        assert (row.MAE.value, row.bias.value) == (pytest.approx(errors.MAE), pytest.approx(errors.bias))
    # GAME never falls with the level, begins at MAE, and the gross error is no less than the net.
    values = [one.value for one in found.GAME]
    assert values[0] == pytest.approx(found.MAE.value)
    assert values == sorted(values)
    assert found.gross.value >= found.MAE.value - 1e-12
    assert found.too_many - found.too_few == found.predicted - found.true
    json.dumps(found.to_json(), allow_nan=False)


def test_intervals_hold_the_figures_of_drawn_images() -> None:
    r = np.random.default_rng(8)
    true = r.integers(0, 8, 30)
    found = np.maximum(true + r.integers(-2, 3, 30), 0)
    made = counts_of(true.tolist(), found.tolist())
    weights = resamples(30, draws=200).weights.astype(int)
    mae, r2, relative = [], [], []
    for row in weights:
        t, p = np.repeat(true, row), np.repeat(found, row)
        mae.append(np.abs(p - t).mean())
        r2.append(1 - ((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum())
        relative.append((p - t).sum() / t.sum())
    for interval, values in ((made.MAE, mae), (made.R2, r2), (made.relative_bias, relative)):
        assert [interval.low, interval.high] == pytest.approx(np.quantile(values, percentiles(30)).tolist())


def test_density_bins_hold_all_images_and_ties_share_a_bin() -> None:
    true = [0, 1, 1, 1, 1, 1, 2, 3, 5, 8, 9, 9]
    made = counts_of(true, [count + (count > 4) for count in true])
    assert sum(one.images for one in made.density) == len(true)
    assert len(made.density) <= 5
    bounds = [(one.low, one.high) for one in made.density]
    assert bounds == sorted(bounds)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(bounds))
    assert made.density[0].bias.value == 0
    assert made.density[-1].bias.value == 1
    fullest = made.density[-1]
    members = [count for count in true if fullest.low <= count <= fullest.high]
    assert (fullest.images, fullest.true) == (len(members), pytest.approx(np.mean(members)))
    assert fullest.predicted == pytest.approx(np.mean(members) + 1)


def test_what_is_not_defined_is_said() -> None:
    made = counts_of([2] * 6, [2, 2, 2, 2, 2, 3])
    assert np.isnan(made.R2.value)
    assert "R² is not defined" in made.reasons[0]
    empty = counts_of([0] * 6, [0] * 5 + [1])
    assert np.isnan(empty.relative.value)
    assert empty.bias.value == pytest.approx(1 / 6)
    sizeless = count_quality(ledger_of([(1, 5, 5)], [], 2, sized=False), resamples(2, draws=20))
    assert sizeless.game_images == 0
    assert np.isnan(sizeless.GAME[0].value)
    assert "0 of 2 images" in sizeless.reasons[0]
    for one in (made, empty, sizeless):
        json.dumps(one.to_json(), allow_nan=False)


def test_many_images_are_drawn_for_the_plot_and_that_is_said() -> None:
    true = [i % 5 for i in range(50)]
    entries = ledger_of(
        [(i, 2.0 + 4 * k, 9) for i, n in enumerate(true, 1) for k in range(n)], [], 50, classes=2
    )
    made = count_quality(entries, resamples(50, draws=20), points=10)
    assert len(made.points) == 10
    assert made.reasons == ("The plot's points are 10 of 50 images, drawn at random.",)
    document = made.to_json()
    assert document["points"][0] == [made.points[0][0], 0]
    assert document["by_class"][1]["MAE"] == {"value": 0.0, "low": None, "high": None}
    assert all(text.endswith(".") for text in DEFINITIONS.values())
