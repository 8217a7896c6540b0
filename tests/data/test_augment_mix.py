"""Mosaic and copy-paste: each pixel's object is the one that the picture shows, and `dropped` is exact."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.augment import Compose, CopyPaste, Flip, Mosaic, Rotate90, ScaleCrop, drawn_from, pasted
from apiece.data.augment.targets import united
from apiece.data.dataset import open_dataset
from apiece.data.sample import Sample
from apiece.data.synthetic import discs
from apiece.errors import GeometryError, UsageError

SEEDS = st.integers(0, 2**32 - 1)
CLASSES = ClassMap(("a", "b"))
SIDE = 40


class Numbered:
    """Samples without overlap whose pictures say which object each pixel is of: numbers are never used twice."""

    def __init__(self, seed: int, count: int = 6) -> None:
        self.rng, self.count, self.used = np.random.default_rng(seed), count, 0

    def __call__(self, *_: object) -> Sample:
        labels = np.zeros((SIDE, SIDE), np.int64)
        for number in range(1, self.count + 1):
            height, width = self.rng.integers(2, 16, 2)
            y, x = self.rng.integers(-4, SIDE - 2, 2)
            block = labels[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
            block[...] = np.where(self.rng.random(block.shape) < 0.85, number, block)
        present = np.unique(labels[labels > 0])
        image = np.where(labels > 0, labels + self.used, 0).astype(np.uint8)
        objects = Instances(
            labels.shape,
            Masks.from_label_image(labels),
            present % 2,
            classes=CLASSES,
            columns={"number": present + self.used},
        )
        self.used += self.count
        assert self.used < 256
        return Sample(np.repeat(image[..., None], 3, axis=2), objects)


def audit(sample: Sample) -> None:
    """Masks are exactly the pixels of their number, and every number that is seen is a target or dropped."""
    shown = sample.image[..., 0]
    numbers = sample.instances.columns["number"].tolist()
    for (crop, (x, y)), number in zip(sample.instances.masks, numbers, strict=True):
        frame = np.zeros(shown.shape, bool)
        frame[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        np.testing.assert_array_equal(frame, shown == number)
    seen = set(np.unique(shown[shown > 0]).tolist())
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= seen
    assert len(sample.instances) + sample.dropped == len(seen)
    assert sample.instances.class_ids.tolist() == [((number - 1) % 6 + 1) % 2 for number in numbers]
    np.testing.assert_array_equal(sample.instances.boxes, sample.instances.masks.boxes)


def native(crop: int) -> tuple[float, float]:
    """The scale at which a picture of SIDE keeps its pixels when it is fitted into `crop`."""
    return SIDE / crop, SIDE / crop


@given(seed=SEEDS, limit=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
@settings(max_examples=80, deadline=None)
def test_dropped_is_exact_over_a_whole_chain(seed, limit):
    """No step resamples, so that the picture itself says what can be seen."""
    others = Numbered(seed)
    crop = 24
    steps = (
        Mosaic((SIDE, SIDE), others, 0.5, (1, 1), min_visible=limit),
        Flip(),
        CopyPaste(others, 1.0, native(SIDE), 0.7, most=3, min_visible=limit),
        ScaleCrop((crop, crop), native(crop), limit),
        Rotate90(),
        CopyPaste(others, 1.0, native(crop), 0.7, min_visible=limit),
        ScaleCrop((20, 20), (crop / 20, crop / 20), limit),
        Flip(),
    )
    sample = others()
    rng = np.random.default_rng(seed)
    for step in steps:
        sample = step(sample, rng)
        audit(sample)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_mosaic_is_four_pictures_around_a_point(seed):
    others = Numbered(seed)
    first = others()
    # 40 pixels fit into 50 at 1.25, so this is native scale.
    change = Mosaic((50, 60), others, 1.0, (0.8, 0.8), (0.2, 0.8), 0.0, fill=(255, 255, 255))
    out = change(first, np.random.default_rng(seed))
    assert others.used == 24
    assert out.size == (50, 60)
    assert out.dropped == 0
    shown = out.image[..., 0]
    numbers = out.instances.columns["number"]
    for quarter in range(4):
        of_it = (numbers - 1) // 6 == quarter
        rows, columns = np.nonzero((shown > 6 * quarter) & (shown <= 6 * quarter + 6))
        boxes = out.instances.boxes[of_it]
        if len(boxes) == 0:
            continue
        assert (boxes[:, 0].min(), boxes[:, 1].min()) == (columns.min(), rows.min())
        assert (boxes[:, 2].max(), boxes[:, 3].max()) == (columns.max() + 1, rows.max() + 1)
    for (crop, (x, y)), number in zip(out.instances.masks, numbers, strict=True):
        frame = np.zeros(shown.shape, bool)
        frame[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        np.testing.assert_array_equal(frame, shown == number)


def test_a_mosaic_of_chance_none_is_a_scale_crop():
    sample = discs(np.random.default_rng(0), (64, 64), 6)
    rng, same = np.random.default_rng(1), np.random.default_rng(1)
    out = Mosaic((48, 48), Numbered(0), 0.0, (0.8, 2))(sample, rng)
    same.random()
    expected = ScaleCrop((48, 48), (0.8, 2))(sample, same)
    np.testing.assert_array_equal(out.image, expected.image)
    assert out.instances == expected.instances
    assert Mosaic((1, 7), drawn_from([sample]), 1.0)(sample, rng).size == (1, 7)


def one(mask: np.ndarray, shade: int = 200, **columns) -> Sample:
    image = np.full((*mask.shape[1:], 3), shade, np.uint8)
    masks = Masks.from_dense(mask)
    ids = np.zeros(len(mask), int)
    return Sample(image, Instances(masks.size, masks, ids, classes=CLASSES, columns=columns))


def frames(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (30, 30)) -> np.ndarray:
    out = np.zeros((len(boxes), *size), bool)
    for frame, (x1, y1, x2, y2) in zip(out, boxes, strict=True):
        frame[y1:y2, x1:x2] = True
    return out


@pytest.mark.parametrize(("limit", "targets", "dropped"), [(0.0, 3, 0), (0.5, 2, 1), (0.6, 1, 2)])
def test_covered_objects_lose_their_pixels(limit, targets, dropped):
    """Half of one stays in sight, a quarter of another, nothing of the third, which isn't counted."""
    below = one(frames((0, 0, 10, 10), (10, 0, 20, 10), (5, 12, 8, 15)))
    above = one(frames((5, 0, 18, 20)), shade=90)
    # Of the second, 2 of 10 columns stay: 0.2.
    out = pasted(below, above.image, above.instances, limit)
    assert (len(out.instances), out.dropped) == (targets, dropped)
    assert out.instances.masks[-1:] == above.instances.masks
    assert (out.image[0:20, 5:18] == 90).all()
    assert (out.image != 200).any(axis=2).sum() == 13 * 20
    if limit == 0:
        assert out.instances.masks.areas.tolist() == [50, 20, 260]
    ignored = pasted(below, above.image, above.instances, limit, as_ignore=True)
    assert ignored.dropped == 0
    assert ignored.instances.columns.get("iscrowd", np.zeros(3, bool)).sum() == dropped
    assert len(ignored.instances) == 3


def test_what_was_dropped_and_is_covered_later_no_longer_counts():
    below = one(frames((0, 0, 10, 10)))
    half = one(frames((0, 0, 8, 10)), shade=90)
    first = pasted(below, half.image, half.instances, 0.5)
    assert first.dropped == 1
    rest = one(frames((8, 0, 10, 10)), shade=50)
    second = pasted(first, rest.image, rest.instances, 0.5)
    assert second.dropped == 0
    assert len(second.instances) == 2


def test_objects_that_have_a_box_alone_are_judged_by_it():
    empty = Masks.from_crops([np.zeros((1, 1), bool)] * 2, np.zeros((2, 2), int), (30, 30))
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30]]
    below = Sample(
        np.zeros((30, 30, 3), np.uint8), Instances((30, 30), empty, [0, 1], boxes=boxes, classes=CLASSES)
    )
    cover = one(frames((0, 0, 10, 8)))
    out = pasted(below, cover.image, cover.instances, 0.5)
    assert (len(out.instances), out.dropped) == (2, 1)
    assert out.instances.boxes[0].tolist() == boxes[1]
    all_of_it = one(frames((0, 0, 10, 10)))
    assert pasted(below, all_of_it.image, all_of_it.instances, 0.5).dropped == 0


def test_crowds_and_boxes_are_not_pasted():
    source = one(
        frames((0, 0, 5, 5), (6, 6, 12, 12), (20, 20, 25, 25)),
        iscrowd=np.array([True, False, False]),
        box_mask=np.array([False, True, False]),
    )
    base = one(frames((0, 0, 2, 2)))
    change = CopyPaste(lambda sample, rng: source, 1.0, (1, 1), 1.0, flip=Flip(0, 0))
    out = change(base, np.random.default_rng(0))
    assert len(out.instances) == 2
    assert out.instances.masks[1:] == source.instances.masks[2:]
    assert out.instances.columns["iscrowd"].tolist() == [False, False]
    assert change(base, np.random.default_rng(0)).instances == out.instances
    assert (
        len(CopyPaste(lambda sample, rng: source, 1.0, share=0.0)(base, np.random.default_rng(0)).instances)
        == 1
    )


def test_most_is_the_most():
    source = Numbered(4, 12)()
    base = one(frames((0, 0, 2, 2), size=(SIDE, SIDE)))
    counts = {
        len(
            CopyPaste(lambda sample, rng: source, 1.0, (1, 1), 1.0, most=2, min_visible=0)(
                base, np.random.default_rng(i)
            ).instances
        )
        for i in range(10)
    }
    assert counts <= {2, 3}
    assert 3 in counts


def test_a_soft_edge_is_between_the_two_pictures_and_hard_where_far():
    base, source = one(frames((0, 0, 1, 1)), 0), one(frames((10, 10, 22, 22)), 200)
    soft = pasted(base, source.image, source.instances, blend=1.0)
    hard = pasted(base, source.image, source.instances)
    assert set(np.unique(hard.image)) == {0, 200}
    assert hard.instances == soft.instances
    shade = soft.image[16, :, 0].astype(int)
    assert shade[16] == 200
    assert shade[5] == shade[28] == 0
    assert 0 < shade[9] < 100 < shade[10] < 200
    assert abs(int(soft.image.sum()) - int(hard.image.sum())) < 0.01 * hard.image.sum()


def test_partners_are_drawn_by_weight_and_by_the_generator():
    samples = [discs(np.random.default_rng(i), (20, 20), 1) for i in range(4)]
    draw = drawn_from(samples, np.array([0, 3.0, 1.0, 0]))
    rng = np.random.default_rng(0)
    drawn = [samples.index(draw(samples[0], rng)) for _ in range(400)]
    assert set(drawn) == {1, 2}
    assert 270 < drawn.count(1) < 330
    equal = drawn_from(samples)
    assert len({id(equal(samples[0], rng)) for _ in range(100)}) == 4
    with pytest.raises(UsageError, match="without a picture"):
        drawn_from([])
    with pytest.raises(UsageError, match="weights"):
        drawn_from(samples, np.ones(3))


def test_partners_are_of_the_same_group(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(6):
        write_image(tmp_path / f"images/{i}.png", np.full((9, 9, 3), 10 * i, np.uint8))
        cv2.imwrite(str(tmp_path / f"labels/{i}.png"), np.zeros((9, 9), np.uint8))
    dataset = open_dataset(tmp_path)
    rng = np.random.default_rng(0)
    ungrouped = drawn_from(dataset)
    assert {ungrouped(dataset[0], rng).image[0, 0, 0] // 10 for _ in range(60)} == set(range(6))
    draw = drawn_from(dataset.with_groups({str(i): "even" if i % 2 == 0 else "odd" for i in range(6)}))
    for i in range(6):
        drawn = {draw(dataset[i], rng).image[0, 0, 0] // 10 for _ in range(40)}
        assert drawn == {j for j in range(6) if j % 2 == i % 2}
    weights = np.array([1, 0, 3, 0, 0, 0.0])
    only = drawn_from(dataset.with_groups({str(i): str(i % 2) for i in range(6)}), weights)
    assert {only(dataset[0], rng).image[0, 0, 0] // 10 for _ in range(40)} == {0, 2}
    assert {only(dataset[1], rng).image[0, 0, 0] // 10 for _ in range(40)} == {
        0,
        2,
    }  # none of its group has weight


def test_the_same_generator_gives_the_same_sample_also_in_another_process():
    samples = [discs(np.random.default_rng(i), (64, 48), 6) for i in range(5)]
    others = drawn_from(samples, np.arange(1, 6) / 15)
    change = Compose((Mosaic((64, 64), others, 0.7, (0.7, 2)), Flip(), CopyPaste(others, 0.8, blend=1.0)))
    copied = pickle.loads(pickle.dumps(change))
    for seed in range(10):
        a, b = (c(samples[0], np.random.default_rng(seed)) for c in (change, copied))
        np.testing.assert_array_equal(a.image, b.image)
        assert a.instances == b.instances
        assert a.dropped == b.dropped


def test_columns_that_are_known_for_all_stay():
    a, b = (
        one(frames((0, 0, 3, 3)), number=[1], iscrowd=[True], odd=[1]),
        one(frames((5, 5, 9, 9)), number=[2], odd=["x"]),
    )
    both = united([a.instances, b.instances])
    assert sorted(both.columns) == ["iscrowd", "number"]
    assert both.columns["iscrowd"].tolist() == [True, False]
    assert both.columns["number"].tolist() == [1, 2]
    other = Sample(a.image, Instances.empty((30, 30), ClassMap(("else",))))
    with pytest.raises(GeometryError, match="classes"):
        Mosaic((30, 30), lambda sample, rng: other, 1.0)(a, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Mosaic, {"p": 1.5}),
        (Mosaic, {"centre": (0.5, 1.5)}),
        (Mosaic, {"scale": (0, 1)}),
        (CopyPaste, {"share": -1}),
        (CopyPaste, {"most": 0}),
        (CopyPaste, {"blend": -1}),
        (CopyPaste, {"min_visible": 2}),
    ],
)
def test_values_that_cannot_be_meant_are_refused(kind, wrong):
    size = {"size": (32, 32)} if kind is Mosaic else {}
    with pytest.raises(UsageError, match=f"{kind.__name__} {next(iter(wrong))}"):
        kind(others=Numbered(0), **size, **wrong)
