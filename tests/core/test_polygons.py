from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle
from scipy import ndimage

from apiece.core.masks import Masks
from apiece.errors import AnnotationError, GeometryError
from strategies import masks, polygons, sizes


def shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def drawn(rows: list[str]) -> Masks:
    return Masks.from_dense(np.array([[[c == "#" for c in row] for row in rows]]))


# ---- outlines


@given(masks())
def test_outlines_give_exactly_the_same_masks_back(made):
    assert Masks.from_polygons(made.to_polygons(), made.size) == made


@given(masks())
def test_outlines_are_simple_rings_along_pixel_edges_that_enclose_the_area(made):
    for frame, area, parts in zip(made.to_dense(), made.areas, made.to_polygons(), strict=True):
        regions, count = ndimage.label(frame)  # connected over pixel edges
        assert len(parts) == count
        total = 0.0
        for outer, holes in parts:
            assert shoelace(outer) > 0  # clockwise on a screen, whose y points down
            assert all(shoelace(hole) < 0 for hole in holes)
            total += shoelace(outer) + sum(shoelace(hole) for hole in holes)
            for ring in (outer, *holes):
                assert ring.dtype == np.float64
                assert np.array_equal(ring, np.round(ring))
                assert len(np.unique(ring, axis=0)) == len(ring)  # no corner twice
                steps = np.roll(ring, -1, axis=0) - ring
                assert ((steps == 0).sum(axis=1) == 1).all()  # level or upright
                level = steps[:, 1] == 0
                assert (level != np.roll(level, 1)).all()  # every corner is a corner
                assert tuple(ring[0][::-1]) == min(tuple(point[::-1]) for point in ring)
            # The ring's first pixel (below right of the corner) says which region this is.
            x, y = outer[0].astype(int)
            alone = Masks.from_polygons([[(outer, holes)]], made.size).to_dense()[0]
            assert np.array_equal(alone, regions == regions[y, x])
        assert total == area


def test_a_ring_with_a_diagonal_gap_keeps_hole_and_outside_apart():
    made = drawn(["###", "#.#", "##."])
    ((outer, holes),) = made.to_polygons()[0]
    assert outer.tolist() == [[0, 0], [3, 0], [3, 2], [2, 2], [2, 3], [0, 3]]
    assert [hole.tolist() for hole in holes] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]


def test_pixels_that_touch_at_a_corner_are_parts_of_their_own():
    parts = drawn(["#.", ".#"]).to_polygons()[0]
    assert [outer.tolist() for outer, _ in parts] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]
    assert all(holes == [] for _, holes in parts)


def test_an_island_in_a_hole_is_a_part():
    made = drawn(["#####", "#...#", "#.#.#", "#...#", "#####"])
    (frame, holes), (island, none) = made.to_polygons()[0]
    assert (shoelace(frame), shoelace(holes[0]), shoelace(island), none) == (25, -9, 1, [])


@given(masks())
def test_outer_rings_are_read_alike_by_cocos_rasteriser(made):
    filled = [[(outer, []) for outer, _ in parts] for parts in made.to_polygons()]
    with_pixels = [parts for parts in filled if parts]
    as_coco = [[outer.reshape(-1).tolist() for outer, _ in parts] for parts in with_pixels]
    assert Masks.from_coco(as_coco, made.size) == Masks.from_polygons(with_pixels, made.size)


# ---- filling


@given(
    sizes(),
    st.lists(
        st.lists(st.tuples(*[st.integers(-30, 60).map(lambda v: v / 4 + 0.1)] * 2), min_size=3, max_size=7),
        min_size=1,
        max_size=3,
    ),
)
def test_a_pixel_is_in_where_a_ray_from_its_centre_crosses_the_rings_an_odd_number_of_times(size, loops):
    made = Masks.from_polygons([[(loops[0], loops[1:])]], size).to_dense()[0]
    for y, x in np.ndindex(size):
        crossings = 0
        for loop in loops:
            for (xa, ya), (xb, yb) in zip(loop, loop[1:] + loop[:1], strict=True):
                if (ya <= y + 0.5) != (yb <= y + 0.5):
                    at = xa + (y + 0.5 - ya) * (xb - xa) / (yb - ya)
                    if abs(at - (x + 0.5)) < 1e-9:
                        return  # on the line itself either answer will do
                    crossings += at < x + 0.5
        assert made[y, x] == crossings % 2


@given(masks(), st.integers(-9, 9), st.integers(-9, 9))
def test_moving_the_outline_moves_the_mask(made, dx, dy):
    moved = [
        [
            (outer + np.array([dx, dy]), [hole + np.array([dx, dy]) for hole in holes])
            for outer, holes in parts
        ]
        for parts in made.to_polygons()
    ]
    assert Masks.from_polygons(moved, made.size) == made.shift(dx, dy)


def test_neighbours_that_share_an_edge_neither_overlap_nor_leave_a_gap():
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b = rng.uniform(0, 20, (2, 2))
        left = [[-50, -50], a, b, [-50, 70]]
        right = [[70, 70], b, a, [70, -50]]
        top, bottom = [[-50, -50], [70, -50], a], [[-50, 70], b, [70, 70]]
        made = Masks.from_polygons([[(ring, [])] for ring in (left, right, top, bottom)], (20, 20))
        cover = made.to_dense().sum(axis=0) % 2  # edges may cross, so pixels are counted by even and odd
        assert cover.all()


@pytest.mark.parametrize(
    ("ring", "message"),
    [
        ([[0, 0], [1, 1]], "at least 3 points"),
        ([0, 0, 1, 1, 2, 0], r"expected \(P, 2\)"),
        ([[0, 0], [1, 1], [np.nan, 0]], "finite"),
        ([[0, 0], [1, 1], [np.inf, 0]], "finite"),
        ([[0, 0], [1, 1], [1e12, 0]], "finite"),
        ([["a", 0], [1, 1], [1, 0]], r"expected \(P, 2\)"),
    ],
)
def test_rings_that_are_none_name_object_part_and_ring(ring, message):
    square = [[0, 0], [1, 0], [1, 1]]
    with pytest.raises(GeometryError, match=f"object 1, part 0, hole 0 .*{message}"):
        Masks.from_polygons([[(square, [])], [(square, [ring])]], (4, 4))


# ---- COCO's own rasterisation


@settings(max_examples=600)
@given(sizes(20), polygons())
def test_coco_polygons_equal_pycocotools(size, parts):
    made = Masks.from_coco([parts], size)
    reference = oracle.merge(oracle.frPyObjects(parts, *size))
    assert made.to_coco()[0]["counts"] == reference["counts"].decode()


@settings(max_examples=200)
@given(sizes(300), polygons(far=1e5))
def test_coco_polygons_that_reach_far_out_equal_pycocotools(size, parts):
    made = Masks.from_coco([parts], size)
    reference = oracle.merge(oracle.frPyObjects(parts, *size))
    assert made.to_coco()[0]["counts"] == reference["counts"].decode()


def test_polygons_and_rle_in_one_list_keep_their_order():
    square = [[0, 0, 3, 0, 3, 3, 0, 3]]
    rle = {"size": [5, 5], "counts": [24, 1]}
    made = Masks.from_coco([rle, square, rle, square], (5, 5))
    assert made.areas.tolist() == [1, 9, 1, 9]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "empty list"),
        ([[]], "even number of at least 6"),
        ([[1, 2, 3, 4]], "even number of at least 6"),
        ([[1, 2, 3, 4, 5, 6, 7]], "even number of at least 6"),
        ([1, 2, 3, 4, 5, 6], "even number of at least 6"),
        ([["a", 2, 3, 4, 5, 6]], "even number of at least 6"),
        ([[[1, 2], [3, 4], [5, 6]]], "even number of at least 6"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite"),
        ([[1, 2, 3, 4, 5, float("inf")]], "finite"),
        ([[1, 2, 3, 4, 5, 1e300]], "finite"),
    ],
)
def test_polygons_that_are_none_name_the_object_and_the_remedy(parts, message):
    good = [[0, 0, 3, 0, 3, 3]]
    rle = {"size": [5, 5], "counts": [25]}
    with pytest.raises(AnnotationError, match=f"(?s)object 2: .*{message}.*Remedy"):
        Masks.from_coco([good, rle, parts], (5, 5))


def test_a_polygon_with_very_long_edges_costs_no_more_than_the_picture():
    star = np.random.default_rng(0).uniform(-9e7, 9e7, 400).tolist()
    tracemalloc.start()
    try:
        Masks.from_coco([[star]], (300, 300))
        Masks.from_polygons([[(np.reshape(star, (-1, 2)), [])]], (300, 300))
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_chunks_of_crossings_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(2)
    parts = [rng.uniform(-20, 120, 40).tolist() for _ in range(3)]
    loops = [[(np.reshape(part, (-1, 2)), []) for part in parts]]
    whole = Masks.from_coco([parts], (100, 100)), Masks.from_polygons(loops, (100, 100))
    monkeypatch.setattr("apiece.core.scanfill.CHUNK", 50)
    assert (Masks.from_coco([parts], (100, 100)), Masks.from_polygons(loops, (100, 100))) == whole


@pytest.mark.needs_shared
def test_official_coco_polygons_equal_pycocotools(shared):
    (path, *_) = sorted((shared / "coco128").rglob("*instances*.json")) or pytest.skip("no COCO annotations")
    document = json.loads(path.read_text())
    sizes_of = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    drawn_by_image: dict[int, list] = {}
    for annotation in document["annotations"]:
        drawn_by_image.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    checked = 0
    for image_id, segmentations in drawn_by_image.items():
        size = sizes_of[image_id]
        for segmentation, document in zip(
            segmentations, Masks.from_coco(segmentations, size).to_coco(), strict=True
        ):
            coded = oracle.frPyObjects(segmentation, *size)
            reference = oracle.merge(coded) if isinstance(coded, list) else coded
            assert document["counts"] == reference["counts"].decode()
            checked += 1
    assert checked > 500
