"""Masks that are measured by their codes, against decoded ones and pycocotools."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pycocotools_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from apiece.core.masks import Masks
from apiece.data.coco_codes import all_hold
from apiece.errors import AnnotationError
from apiece.evaluate import coco_scenes
from apiece.evaluate.coco_masks import measured
from apiece.evaluate.coco_scenes import scenes_of_coco

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def text_of(counts: list[int]) -> str:
    """COCO's compressed string of any counts, also of wrong ones."""
    text = ""
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        while True:
            low, value = value & 31, value >> 5
            more = value != (-1 if low & 16 else 0)
            text += chr(48 + low + 32 * more)
            if not more:
                break
    return text


def decodes(rle: dict[str, Any], size: tuple[int, int]) -> bool:
    try:
        Masks.from_coco([rle], size)
    except AnnotationError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.data(), SIZES)
def test_codes_hold_where_they_can_be_decoded(data: st.DataObject, size: tuple[int, int]) -> None:
    area = size[0] * size[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, area), max_size=8)))
    counts = np.diff([0, *cuts, area]).tolist()
    change = data.draw(st.sampled_from(["nothing", "count", "cut", "symbol", "text"]))
    if change == "count":
        counts[data.draw(st.integers(0, len(counts) - 1))] += data.draw(
            st.sampled_from([-1, 1, -99, 99, 2**31, 2**32, 2**40])
        )
    text = text_of(counts)
    if change == "cut":
        text = text[: data.draw(st.integers(0, len(text)))]
    if change == "symbol":
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    if change == "text":
        text = data.draw(st.text(st.characters(min_codepoint=44, max_codepoint=115), max_size=16))
    rle = {"size": list(size), "counts": text}
    good = {"size": list(size), "counts": text_of([area])}
    assert all_hold([text], area) == decodes(rle, size)
    assert all_hold([good["counts"], text, good["counts"]], area) == decodes(rle, size)
    assert (measured([good, rle, good], size) is not None) == decodes(rle, size)
    found = measured([rle], size)
    assert (found is not None) == decodes(rle, size)
    if found is not None:
        agrees(found, Masks.from_coco([rle], size))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2, 40), max_size=6), SIZES)
def test_lists_of_counts_hold_where_they_can_be_decoded(counts: list[int], size: tuple[int, int]) -> None:
    area = size[0] * size[1]
    for given_counts in (counts, [*counts, area - sum(counts)]):
        rle = {"size": list(size), "counts": given_counts}
        found = measured([rle], size)
        assert (found is not None) == decodes(rle, size)
        if found is not None:
            agrees(found, Masks.from_coco([rle], size))


def agrees(found: coco_scenes.Measured, masks: Masks) -> None:
    corners = masks.boxes.astype(np.float64)
    np.testing.assert_array_equal(found.areas, masks.areas)
    np.testing.assert_array_equal(found.boxes, np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]))
    assert Masks.from_coco(found.rles, masks.size) == masks


def polygon(r: np.random.Generator, height: int, width: int) -> list[float]:
    points = r.random((int(r.integers(3, 12)), 2)) * [width, height]
    how = int(r.integers(6))
    if how == 0:
        points = r.normal(0.5, 0.8, points.shape) * [width, height]
    if how == 1:
        points = np.round(points)
    if how == 2:
        points = np.round(points * 2) / 2
    if how == 3:
        points[int(r.integers(len(points)))] = points[0]
    if how == 4:
        points[:, int(r.integers(2))] = points[0, 0]
    return points.reshape(-1).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_polygons_are_drawn_as_pycocotools_draws_them(seed: int) -> None:
    r = np.random.default_rng(seed)
    height, width = size = tuple(r.integers(1, 90, 2).tolist())
    outlines = [[polygon(r, height, width) for _ in range(int(r.integers(1, 4)))] for _ in range(40)]
    found = measured(outlines, size)
    expected = [coco_mask.merge(coco_mask.frPyObjects(outline, height, width)) for outline in outlines]
    kept = [i for i, outline in enumerate(outlines) if measured([outline], size) is not None]
    assert len(kept) > 20
    assert (found is None) == (len(kept) < len(outlines))
    found = measured([outlines[i] for i in kept], size)
    assert found is not None
    assert [rle["counts"] for rle in found.rles] == [expected[i]["counts"].decode() for i in kept]
    agrees(found, Masks.from_coco([outlines[i] for i in kept], size))


@pytest.mark.parametrize(
    "outline",
    [
        [[0, 0, 4, 4]],
        [[0, 0, 5, 0, 5, 5, 1]],
        [[0, 0, 5, 0, 5, float("nan")]],
        [[0, 0, 5, 0, 5, float("inf")]],
        [[0, 0, 5, 0, 5, 1e7]],
        [[0, 0, 5, 0, 5, "5"]],
        [[0, 0, 5, 0, 5, 10**400]],
        [0, 0, 5, 0, 5, 5],
        [],
        "mask",
        None,
        {"size": [9, 8], "counts": "x1"},
        {"size": [8, 9]},
        {"size": [8, 9], "counts": None},
        {"size": [8, 9], "counts": [72.0]},
        {"size": [8, 9], "counts": [True, 71]},
        {"size": [8, 9], "counts": []},
    ],
)
def test_what_is_not_plain_is_left_to_the_decoder(outline: Any) -> None:
    fine = {"size": [8, 9], "counts": text_of([10, 20, 42])}
    assert measured([fine, outline, fine], (8, 9)) is None


@pytest.mark.parametrize("seed", range(12))
def test_columns_at_once_are_those_read_one_by_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, results = oracle.scene(seed)
    r = np.random.default_rng(seed)
    for row in (*truth["annotations"], *results):
        if r.random() < 0.2:
            row["bbox"] = [] if r.random() < 0.5 else None
        elif r.random() < 0.2:
            row["segmentation"] = None
    quick = scenes_of_coco(truth, results)
    monkeypatch.setattr(coco_scenes, "_plain_columns", lambda *_: None)
    monkeypatch.setattr(coco_scenes, "measured", lambda *_: None)
    slow = scenes_of_coco(truth, results)
    for side in ("truth", "predicted"):
        one, other = vars(getattr(quick, side)), vars(getattr(slow, side))
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_other_numbers_and_mappings_are_taken_as_before() -> None:
    truth, results = oracle.scene(3)
    other = copy.deepcopy(results)
    for row in other:
        row["score"] = np.float64(row["score"])
        row["bbox"] = tuple(row["bbox"])
        row["segmentation"]["counts"] = row["segmentation"]["counts"].encode()
    one, two = scenes_of_coco(truth, results), scenes_of_coco(truth, other)
    assert one.predicted.masks == two.predicted.masks
    np.testing.assert_array_equal(one.predicted.scores, two.predicted.scores)
    np.testing.assert_array_equal(one.predicted.boxes, two.predicted.boxes)
