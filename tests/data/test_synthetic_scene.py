"""Scenes: every property that their options promise, counted on the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.image import read_image
from apiece.data.dataset import open_dataset
from apiece.data.synthetic import SHAPES, Scene, lay_out, scene, write_synthetic
from apiece.data.synthetic.layout import staircase
from apiece.data.synthetic.space import Space
from apiece.errors import GeometryError, UsageError


def rng(seed=0):
    return np.random.default_rng(seed)


def numbers(image):
    """What an ids picture says of every pixel."""
    return image.astype(np.int64) @ np.array([1, 256, 65536])


def painted(layout):
    """Whole objects painted in order, the later over the earlier, then the fence."""
    labels = np.zeros(layout.size, np.int64)
    for i, (crop, (x, y)) in enumerate(layout.amodal):
        labels[y : y + crop.shape[0], x : x + crop.shape[1]][crop] = i + 1
    if layout.fence is not None:
        labels[layout.fence.window(0, 0, layout.size[1], layout.size[0])] = 0
    return labels


def beside_earlier(labels, number):
    """Whether an object has an edge neighbour that was put down before it."""
    own = (labels == number).view(np.uint8)
    ring = cv2.dilate(own, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)) > own
    return bool(((labels[ring] > 0) & (labels[ring] < number)).any())


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(60, 160), st.integers(60, 160)),
    count=st.integers(0, 20),
    shares=st.sampled_from([(0, 0), (0.5, 0), (1, 0), (0, 0.6), (0.4, 0.4), (0, 1)]),
    fence=st.sampled_from([None, (19.0, 4.0)]),
    shapes=st.sampled_from([("disc",), SHAPES]),
)
@settings(max_examples=40, deadline=None)
def test_exactly_the_objects_asked_for_each_the_pixels_that_nothing_hides(
    seed, size, count, shares, fence, shapes
):
    config = Scene(
        shapes=shapes, touching=shares[0], overlap=shares[1], fence=fence, min_visible=0.3, blur=0, noise=0
    )
    layout = lay_out(rng(seed), size, count, config)
    objects, labels = layout.instances, painted(layout)
    assert len(objects) == count
    assert objects.masks.overlapping_pixels() == 0
    np.testing.assert_array_equal(objects.masks.to_label_image(), labels)
    np.testing.assert_array_equal(layout.areas, objects.masks.areas)
    # "visible" is the share of the pixels that the whole object has.
    share = objects.masks.areas / layout.amodal.areas
    np.testing.assert_allclose(objects.columns["visible"], share, rtol=1e-6)
    assert (share >= 0.3).all()
    picture = scene(rng(seed), size, count, config, ids=True)
    np.testing.assert_array_equal(numbers(picture.image), labels)
    assert picture.instances == objects
    first, again = scene(rng(seed), size, count, config), scene(rng(seed), size, count, config)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.instances == objects


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shapes", [("disc",), SHAPES])
def test_just_the_share_asked_for_touches(share, shapes):
    for seed in range(3):
        sample = scene(rng(seed), (260, 300), 31, Scene(shapes=shapes, touching=share))
        labels = sample.instances.masks.to_label_image()
        touching = sum(beside_earlier(labels, number) for number in range(1, 32))
        assert touching == round(share * 30)


def test_objects_that_touch_hide_nothing():
    sample = scene(rng(3), (260, 300), 31, Scene(shapes=SHAPES, touching=1.0))
    assert (sample.instances.columns["visible"] == 1).all()


def test_objects_that_overlap_each_hide_part_of_an_earlier_one():
    layout = lay_out(rng(4), (260, 300), 31, Scene(shapes=SHAPES, overlap=0.5, min_visible=0.4))
    shared = np.tril(layout.amodal.intersection(layout.amodal).toarray(), -1)
    assert int((shared.sum(axis=1) > 0).sum()) == 15
    assert 0.4 <= layout.instances.columns["visible"].min() < 0.95


@pytest.mark.parametrize("most", [2, 4])
def test_groups_are_no_larger_than_asked_for_and_keep_apart(most):
    config = Scene(touching=0.5 * (1 - 1 / most), overlap=0.5 * (1 - 1 / most), cluster=most, gap=3)
    count = 36
    sample = scene(rng(5), (400, 400), count, config)
    labels = sample.instances.masks.to_label_image()
    found, groups = cv2.connectedComponents((labels > 0).view(np.uint8), connectivity=8)
    sizes = [len(np.unique(labels[groups == k])) for k in range(1, found)]
    assert sum(sizes) == count  # no object lies in two groups
    assert max(sizes) == most
    joined = 2 * round(0.5 * (1 - 1 / most) * (count - 1))
    assert len(sizes) == count - joined
    grown = cv2.dilate((labels > 0).view(np.uint8), np.ones((3, 3), np.uint8))
    assert cv2.connectedComponents(grown, connectivity=8)[0] == found


@pytest.mark.parametrize("gap", [0, 1, 6])
def test_free_objects_keep_the_gap(gap):
    layout = lay_out(rng(6), (300, 300), 60, Scene(gap=gap, radius=(8, 12)))
    labels = layout.instances.masks.to_label_image()
    nearest = min(
        float(cv2.distanceTransform((labels != number).view(np.uint8), cv2.DIST_C, 3)[other].min())
        for number in range(1, 61)
        if (other := (labels > 0) & (labels != number)).any()
    )
    assert gap + 1 <= nearest <= gap + 3


def test_rings_have_one_hole_and_what_is_in_it_is_not_theirs():
    layout = lay_out(rng(7), (300, 300), 20, Scene(shapes=("ring",), radius=(12, 20)))
    inside = [
        i
        for i, (x, y, x2, y2) in enumerate(layout.masks.boxes.tolist())
        if x > 0 and y > 0 and x2 < 300 and y2 < 300
    ]
    assert len(inside) > 10
    outlines = layout.masks.to_polygons()
    for i in inside:
        assert len(outlines[i]) == 1
        assert len(outlines[i][0][1]) == 1
        body = layout.bodies[i]
        x0, y0 = layout.masks.offsets[i]
        assert not layout.masks.crop(i)[int(body.y) - y0, int(body.x) - x0]


def test_letters_have_holes_and_lie_in_one_part():
    layout = lay_out(rng(8), (400, 400), 60, Scene(shapes=("letter",), radius=(14, 18)))
    outlines = layout.masks.to_polygons()
    holes = {len(parts[0][1]) for parts in outlines}
    assert {0, 1, 2} <= holes


def test_a_fence_shows_objects_in_several_parts():
    config = Scene(radius=(14, 20), fence=(16.0, 4.0), blur=0, noise=0)
    sample = scene(rng(9), (300, 300), 25, config)
    parts = [len(parts) for parts in sample.instances.masks.to_polygons()]
    assert np.mean(np.array(parts) >= 2) > 0.8
    visible = sample.instances.columns["visible"]
    assert visible.mean() == pytest.approx(0.75, abs=0.05)


def test_an_object_under_a_bar_of_another_is_in_two_parts():
    found = False
    for seed in range(10):
        config = Scene(shapes=("disc", "rod"), radius=(14, 24), overlap=0.8, min_visible=0.2)
        layout = lay_out(rng(seed), (200, 200), 16, config)
        found |= any(len(parts) > 1 for parts in layout.masks.to_polygons())
    assert found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_fills_what_it_is_meant_to(shape):
    layout = lay_out(rng(10), (900, 900), 12, Scene(shapes=(shape,), radius=(20, 20)))
    boxes = layout.masks.boxes
    whole = (boxes[:, :2] > 0).all(axis=1) & (boxes[:, 2:] < 900).all(axis=1)
    share = layout.areas[whole] / (np.pi * 20**2)
    low, high = {
        "disc": (0.95, 1.005),
        "blob": (0.3, 1.0),
        "polygon": (0.2, 0.95),
        "star": (0.3, 0.7),
        "rod": (0.2, 0.5),
        "worm": (0.08, 0.35),
        "ring": (1 - 0.65**2 - 0.01, 1 - 0.4**2 + 0.01),
        "letter": (0.1, 0.5),
    }[shape]
    assert whole.sum() >= 5
    assert low <= share.min()
    assert share.max() <= high
    sides = layout.masks.shapes[whole]
    assert sides.max() <= 42  # no point is further from the centre than the radius


def test_shapes_are_classes_unless_classes_are_given():
    sample = scene(rng(11), (300, 300), 40, Scene(shapes=SHAPES))
    assert sample.instances.classes.names == SHAPES
    assert set(sample.instances.class_ids.tolist()) == set(range(len(SHAPES)))
    given = ClassMap(("a", "b", "c"), (7, 3, 90))
    sample = scene(rng(11), (300, 300), 40, Scene(shapes=SHAPES, classes=given))
    assert sample.instances.classes == given
    assert set(sample.instances.class_ids.tolist()) == {0, 1, 2}


def mean_colours(sample):
    return np.array(
        [
            sample.image[y : y + c.shape[0], x : x + c.shape[1]][c].mean(axis=0)
            for c, (x, y) in sample.instances.masks
        ]
    )


def test_colours_tell_classes_apart_or_do_not():
    classes = ClassMap(("a", "b", "c"))
    by_class = {}
    for colours in ("class", "random"):
        sample = scene(rng(12), (300, 300), 40, Scene(classes=classes, colours=colours))
        strongest = mean_colours(sample).argmax(axis=1).tolist()
        by_class[colours] = set(zip(sample.instances.class_ids.tolist(), strongest, strict=True))
    assert len(by_class["class"]) == 3
    assert len(by_class["random"]) > 3


def test_the_picture_shows_what_the_masks_say():
    sample = scene(
        rng(13), (200, 200), 30, Scene(shapes=SHAPES, blur=0, noise=0, texture=0, ground_texture=0)
    )
    inside = sample.instances.masks.union().to_dense()[0]
    assert sample.image[inside].max(axis=1).min() > sample.image[~inside].max()


def flat(**options):
    config = Scene(ground=(100, 100), ground_texture=0, blur=0, noise=0)
    return scene(rng(14), (200, 220), 0, Scene(**{**vars(config), **options})).image.astype(float)


def test_light_noise_and_blur_are_as_large_as_asked_for():
    assert (flat() == 100).all()
    lit = flat(light=0.6)
    assert lit.max() == pytest.approx(100, abs=1)
    assert lit.min() == pytest.approx(40, abs=1)
    grain = flat(noise=8)
    assert grain.mean() == pytest.approx(100, abs=0.2)
    assert grain.std() == pytest.approx(8, rel=0.03)
    # Of n photons the deviation is √n: 100 grey levels are 20 photons, √20 of them are 22.4 grey levels.
    shot = flat(photons=51)
    assert shot.mean() == pytest.approx(100, abs=0.5)
    assert shot.std() == pytest.approx(100 / np.sqrt(20), rel=0.03)
    assert flat(noise=8, blur=0).std() > 7
    rough = flat(ground_texture=0.2)
    assert 5 < rough.std() < 25
    assert flat(ground_texture=0.2, blur=3).std() < 0.7 * rough.std()


def test_texture_changes_only_objects():
    config = {"blur": 0, "noise": 0}
    plain = scene(rng(15), (160, 160), 9, Scene(texture=0, **config))
    rough = scene(rng(15), (160, 160), 9, Scene(texture=0.3, **config))
    changed = (plain.image != rough.image).any(axis=2)
    inside = plain.instances.masks.union().to_dense()[0]
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.8


def test_the_staircase_goes_where_it_is_sent_pixel_by_pixel():
    for angle in np.linspace(0, 2 * np.pi, 41):
        way = np.array(staircase(angle, 50))
        assert (np.abs(np.diff(way, axis=0)).sum(axis=1) == 1).all()
        aside = way @ np.array([-np.sin(angle), np.cos(angle)])
        assert np.abs(aside).max() <= 1
        assert way[-1] @ np.array([np.cos(angle), np.sin(angle)]) >= 49


def test_work_grows_with_the_objects_alone(monkeypatch):
    """Times are for benchmarks; that which takes it is counted here: looks at neighbours."""
    looked = []
    near = Space.near

    def counted(self, *window):
        found = near(self, *window)
        looked.append(len(found))
        return found

    monkeypatch.setattr(Space, "near", counted)
    costs = []
    for count in (150, 1200):
        looked.clear()
        side = int(100 * count**0.5)
        lay_out(rng(16), (side, side), count, Scene(touching=0.4, overlap=0.3))
        costs.append((len(looked) + sum(looked)) / count)
    assert costs[1] < 1.4 * costs[0]


@given(seed=st.integers(0, 1000), cell=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_space_finds_just_what_is_near(seed, cell):
    draw = rng(seed)
    space = Space(cell)
    for _ in range(15):
        h, w = draw.integers(1, 12, 2)
        space.put(draw.random((h, w)) < 0.6, int(draw.integers(60)), int(draw.integers(60)))
    left, top = draw.integers(60, size=2).tolist()
    bitmap = draw.random((9, 7)) < 0.6
    found = {n: int(common.sum()) for n, common, _ in space.meetings(bitmap, left, top)}
    canvas = np.zeros((90, 90), bool)
    canvas[top : top + 9, left : left + 7] = bitmap
    for n, (other, (x, y, x2, y2)) in enumerate(zip(space.bitmaps, space.windows, strict=True)):
        assert (n in found) == (x < left + 7 and left < x2 and y < top + 9 and top < y2)
        assert found.get(n, 0) == (canvas[y:y2, x:x2] & other).sum()


def test_what_cannot_be_is_refused():
    with pytest.raises(GeometryError, match=r"no place for object \d+ of 40"):
        scene(rng(), (8, 8), 40)
    with pytest.raises(UsageError, match="expected 0 or more"):
        scene(rng(), (8, 8), -1)
    for options, words in (
        ({"shapes": ("dics",)}, "Did you mean 'disc'"),
        ({"shapes": ()}, "one or more"),
        ({"touching": 1.2}, "touching is 1.2"),
        ({"touching": 0.7, "overlap": 0.7}, "more than 1 together"),
        ({"touching": 0.8, "cluster": 2}, "groups of at most 2"),
        ({"radius": (4, 2)}, "radius"),
        ({"fence": (4, 9)}, "fence"),
        ({"noise": float("nan")}, "noise"),
        ({"ground": (0, 300)}, "ground"),
        ({"colours": "hue"}, "colours"),
    ):
        with pytest.raises(UsageError, match=words):
            Scene(**options)


def test_a_data_set_is_written_whole_and_depends_on_its_seed_alone(tmp_path):
    config = Scene(shapes=("disc", "ring"), overlap=0.5)
    steps = []
    write_synthetic(
        tmp_path / "a", 3, (60, 80), 6, 5, config, progress=lambda done, total: steps.append((done, total))
    )
    write_synthetic(tmp_path / "b", 2, (60, 80), 6, 5, config)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    long, short = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    assert long.stems == ("0001", "0002", "0003")
    assert long.classes.names == ("disc", "ring")
    for k in range(3):
        wanted = scene(np.random.default_rng([5, k + 1]), (60, 80), 6, config)
        np.testing.assert_array_equal(long[k].image, wanted.image)
        assert long[k].instances.masks == wanted.instances.masks
        assert long[k].instances.class_ids.tolist() == wanted.instances.class_ids.tolist()
        if k < 2:
            np.testing.assert_array_equal(read_image(short.paths[k]), wanted.image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    with pytest.raises(UsageError, match="exists already"):
        write_synthetic(tmp_path / "a", 1, (60, 80), 6)
    with pytest.raises(UsageError, match="expected 1 or more"):
        write_synthetic(tmp_path / "c", 0, (60, 80), 6)
    with pytest.raises(GeometryError):
        write_synthetic(tmp_path / "c", 1, (8, 8), 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_data_set_can_be_of_another_format(tmp_path):
    write_synthetic(tmp_path / "y", 1, (60, 80), 4, format="yolo")
    assert len(open_dataset(tmp_path / "y")[0].instances) == 4
