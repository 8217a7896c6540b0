"""Label Studio: exact round trips, its run lengths against its own converter's, exports as it writes them, damage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import drawing, labelstudio
from apiece.data.formats.base import Picture
from apiece.data.formats.drawing import ShapeError, bitmap_of_rows, row_counts
from apiece.data.formats.labelstudio_rle import decode, encode
from apiece.errors import AnnotationError, DataError
from format_scenes import CLASSES, expected, random_scene, same, scenes

# Made by label-studio-converter 0.0.59 (Apache-2.0), brush.mask2rle of a 5 x 7 picture with 255 at the pixels below.
GOLDEN = [0, 0, 0, 140, 57, 27, 254, 35, 0, 191, 255, 124, 2, 63, 252, 126, 1, 31, 248]
GOLDEN_MASK = np.zeros((5, 7), bool)
GOLDEN_MASK[1, 2:6] = GOLDEN_MASK[2, 3] = GOLDEN_MASK[4, 6] = True
# By its brush.encode_rle of a 3 x 4 picture, RGBA (0, 255, 0, 100) at (1, 1) and (1, 2), as its contour2rle draws.
GREEN = [0, 0, 0, 48, 57, 27, 254, 20, 0, 3, 252, 0, 0, 25, 0, 0, 3, 252, 0, 0, 25, 48, 152, 0]


def by_the_book(rle, size):
    """The description of rle-pack, bit by bit: the oracle."""
    text = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(bits):
        nonlocal at
        at += bits
        return int(text[at - bits : at], 2)

    count, bits = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        repeated = read(1)
        run = 1 + read(lengths[read(2)])
        values += [read(bits)] * run if repeated else [read(bits) for _ in range(run)]
    return np.array(values).reshape(*size, 4)[..., 3] > 0


def from_bits(*fields):
    """Bytes of numbers of so many bits."""
    text = "".join(f"{number:0{bits}b}" for number, bits in fields)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


HEAD = [(7, 5), (2, 4), (3, 4), (7, 4), (15, 4)]  # 8-bit values; counts of 3, 4, 8 and 16 bits


def mask_of(rle, size):
    crop, corner = bitmap_of_rows(decode(rle, size), size, 10**9)
    return Masks.from_crops([crop], np.array([corner]), size).to_dense()[0]


def lenient(source, index=0):
    found = []
    return source.read(index, found), found


# ---- run lengths


def test_the_converters_own_codes_are_read():
    assert np.array_equal(mask_of(GOLDEN, (5, 7)), GOLDEN_MASK)
    assert np.array_equal(mask_of(GREEN, (3, 4)), np.pad(np.ones((1, 2), bool), 1))


def test_the_converters_codes_are_written_where_no_value_stands_alone():
    """The converter writes each run by the shortest count, so a mask (whose runs are of 4 or more) gives its bytes."""
    code = encode(row_counts(GOLDEN_MASK), (5, 7))
    assert code == GOLDEN[: len(code)]
    assert not any(GOLDEN[len(code) :])  # it may end on a zero more


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0, 0.02, 0.5, 1]))
def test_a_code_is_what_the_description_says(seed, height, width, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    code = encode(row_counts(mask), mask.shape)
    assert np.array_equal(by_the_book(code, mask.shape), mask)
    assert np.array_equal(mask_of(code, mask.shape), mask)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_mixture_of_runs_and_single_values_is_read(data):
    """As Label Studio's own browser code writes them: values of any kind, stretches that don't repeat."""
    size = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)))
    left = 4 * size[0] * size[1]
    fields = [(left, 32), *HEAD]
    while left:
        run = data.draw(st.integers(1, min(left, 20)))
        kind = data.draw(st.integers(0 if run <= 8 else 1 if run <= 16 else 2, 3))
        repeated = data.draw(st.booleans())
        fields += [(int(repeated), 1), (kind, 2), (run - 1, (3, 4, 8, 16)[kind])]
        fields += [(data.draw(st.sampled_from([0, 0, 255, 7])), 8) for _ in range(1 if repeated else run)]
        left -= run
    code = from_bits(*fields)
    assert np.array_equal(mask_of(code, size), by_the_book(code, size))


@pytest.mark.parametrize("size", [(300, 301), (1, 70_000)])
def test_runs_longer_than_a_count_are_cut(size):
    mask = np.zeros(size, bool)
    mask[:, : size[1] - 5] = True
    assert np.array_equal(mask_of(encode(row_counts(mask), size), size), mask)


@pytest.mark.parametrize(
    "rle, message",
    [
        ([], "no list of bytes"),
        ("abc", "no list of bytes"),
        ([0, 256], "no list of bytes"),
        ([0, "1"], "no list of bytes"),
        ([0, 0, 0, 140], "breaks off"),
        (GOLDEN[:-2], "breaks off"),
        ([255, *GOLDEN[1:]], r"4278190220 values; expected 4 × height × width = 140"),
        (from_bits((140, 32), (15, 5), *HEAD[1:]), "values of 16 bits"),
        (from_bits((140, 32), *HEAD, (1, 1), (3, 2), (65535, 16), (255, 8)), "more than the 140 values"),
        (from_bits((140, 32), *HEAD, (0, 1), (3, 2), (139, 16), (255, 8)), "breaks off"),
    ],
)
def test_codes_that_are_none(rle, message):
    with pytest.raises(ShapeError, match=message):
        decode(rle, (5, 7))


def test_a_picture_too_large_for_the_code_is_refused():
    with pytest.raises(AnnotationError, match="can count"):
        encode([2**30], (2**15, 2**15))


# ---- exactness


def written(folder, scene, name="a.png", path=None):
    target = labelstudio.TARGET(folder, CLASSES)
    given = target.add(Picture(name, path, 1, scene.size), scene)
    target.finish()
    return given


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_what_is_written_is_read_back(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("labelstudio")
    name = written(folder, scene)
    source = labelstudio.open_source(folder)
    assert [(one.name, one.size) for one in source.pictures] == [(name, scene.size)]
    same(source.read(0), expected(scene, labelstudio.TARGET.holds), labelstudio.TARGET.holds)
    assert set(source.classes.names) <= set(CLASSES.names)
    assert labelstudio.detect(folder)
    assert labelstudio.detect(folder / "tasks.json")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_drawn_boxes_stay_boxes_to_the_pixel(tmp_path_factory, height, width, seed):
    folder = tmp_path_factory.mktemp("labelstudio")
    rng = np.random.default_rng(seed)
    w, h = int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1))
    corner = [[int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))]]
    masks = Masks.from_crops([np.ones((h, w), bool)], np.array(corner), (height, width))
    written(folder, Instances((height, width), masks, [1], classes=CLASSES, columns={"box_mask": [True]}))
    objects = labelstudio.open_source(folder).read(0)
    assert objects.masks == masks
    assert objects.columns["box_mask"].tolist() == [True]


def test_pictures_are_copied_and_found(tmp_path, rng):
    (tmp_path / "set").mkdir()
    made = [random_scene(rng, (9, 7), count) for count in (3, 0, 2)]
    target = labelstudio.TARGET(tmp_path / "set", CLASSES)
    given = []
    for scene, name in zip(made, ("x/50% ä#1.png", "y/50% ä#1.png", "z.png"), strict=True):
        write_image(tmp_path / "a.png", np.zeros((9, 7, 3), np.uint8))
        given.append(target.add(Picture(name, tmp_path / "a.png", 1, (9, 7)), scene))
    target.finish()
    source = labelstudio.open_source(tmp_path / "set")
    assert [one.name for one in source.pictures] == given == ["50% ä#1.png", "50% ä#1-2.png", "z.png"]
    assert [one.path for one in source.pictures] == [tmp_path / "set/images" / name for name in given]
    for i, scene in enumerate(made):
        same(source.read(i), scene, labelstudio.TARGET.holds)


# ---- exports


def region(form, value, id="r1", size=(10, 20), **more):
    return {
        "id": id,
        "type": form,
        "from_name": "tag",
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value,
        **more,
    }


def task(results, image="/data/upload/1/0a1b2c3d-a.png", **more):
    """As Label Studio 1.x exports (labelstud.io/guide/export), shortened."""
    return {
        "id": 7,
        "annotations": [
            {"id": 3, "completed_by": 1, "result": results, "was_cancelled": False, "ground_truth": False}
        ],
        "drafts": [],
        "predictions": [],
        "data": {"image": image},
        "meta": {},
        "created_at": "2023-01-01T00:00:00Z",
        "project": 1,
        **more,
    }


def export(folder, tasks, name="project-1-at-2023-01-01.json"):
    path = folder / name
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


SQUARE = {"points": [[10, 20], [20, 20], [20, 40], [10, 40]], "closed": True, "polygonlabels": ["Größe"]}


def test_an_export(tmp_path):
    results = [
        region("brushlabels", {"format": "rle", "rle": GOLDEN, "brushlabels": ["cell"]}, size=(5, 7)),
        region(
            "polygonlabels", {"points": [[0, 0], [50, 0], [50, 100]], "polygonlabels": ["Größe"]}, size=(5, 7)
        ),
    ]
    more = [
        region("polygonlabels", SQUARE),
        region(
            "rectanglelabels",
            {"x": 5, "y": 10, "width": 10, "height": 20, "rotation": 0, "rectanglelabels": ["b"]},
        ),
        region(
            "rectanglelabels",
            {"x": 50, "y": 50, "width": 20, "height": 20, "rotation": 90, "rectanglelabels": ["b"]},
        ),
        region(
            "ellipselabels",
            {"x": 50, "y": 50, "radiusX": 15, "radiusY": 20, "rotation": 0, "ellipselabels": ["b"]},
        ),
        region("polygon", {"points": SQUARE["points"]}, id="r9"),
        region("labels", {"points": SQUARE["points"], "labels": ["c"]}, id="r9"),
        region("keypointlabels", {"x": 5, "y": 5, "width": 1, "keypointlabels": ["b"]}),
        {"id": "c", "type": "choices", "from_name": "q", "to_name": "image", "value": {"choices": ["good"]}},
    ]
    path = export(
        tmp_path, [task(results), task(more, "s3://bucket/b/c.jpg?sig=1"), task([], "http://x/d.png")]
    )
    source = labelstudio.open_source(path)
    assert source.classes.names == ("Größe", "b", "c", "cell")
    assert [one.name for one in source.pictures] == ["0a1b2c3d-a.png", "c.jpg", "d.png"]
    first = source.read(0)
    assert np.array_equal(first.masks.to_dense()[0], GOLDEN_MASK)
    second, found = lenient(source, 1)
    names = [second.classes.name_of(i) for i in second.class_ids.tolist()]
    assert names == ["Größe", "b", "b", "b", "c"]
    assert second.masks.boxes.tolist()[:3] == [
        [2, 2, 4, 4],
        [1, 1, 3, 3],
        [8, 5, 10, 9],
    ]  # turned about its corner
    assert second.columns["box_mask"].tolist() == [False, True, False, False, False]
    y, x = np.mgrid[:10, :20] + 0.5
    assert np.array_equal(second.masks[3].to_dense()[0], ((x - 10) / 3) ** 2 + ((y - 5) / 2) ** 2 <= 1)
    assert [(problem.severity, problem.left_out) for problem in found] == [("warning", "the shape")] * 2
    assert labelstudio.detect(path)
    assert labelstudio.detect(tmp_path)


def test_addresses_are_searched_by_name_and_never_followed(tmp_path):
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    for name in ("a.png", "ä b.png", "b/a.png", "0a1b2c3d-kept.png"):
        write_image(folder / name, np.zeros((10, 20, 3), np.uint8))
    write_image(tmp_path.parent / "outside.png", np.zeros((10, 20, 3), np.uint8))
    wanted = {
        "/data/upload/1/0a1b2c3d-a.png": "a.png",
        "/data/local-files/?d=x/b/a.png": "b/a.png",
        "s3://bucket/%C3%A4%20b.png?X-Amz=1": "ä b.png",
        "/data/upload/1/0a1b2c3d-kept.png": "0a1b2c3d-kept.png",
        "/data/local-files/?d=../../outside.png": None,
        f"{tmp_path.parent}/outside.png": None,
        "C:\\pics\\no.png": None,
    }
    path = export(tmp_path, [task([region("polygonlabels", SQUARE)], address) for address in wanted])
    source = labelstudio.open_source(path)
    found = [one.path and one.path.relative_to(folder).as_posix() for one in source.pictures]
    assert found == list(wanted.values())
    assert [one.name for one in source.pictures[:2]] == ["a.png", "b/a.png"]
    assert len({one.name for one in source.pictures}) == len(wanted)


def test_several_annotations_cancelled_ones_and_predictions(tmp_path):
    polygon = [region("polygonlabels", SQUARE)]
    several = task([], predictions=[{"result": polygon}])
    several["annotations"] = [
        {"result": [], "was_cancelled": True},
        {"result": polygon, "was_cancelled": False},
        {"result": [], "was_cancelled": False},
    ]
    unlabelled = task([], "/u.png", annotations=[])
    old = task([], "/old.png")
    old["completions"] = old.pop("annotations")
    source = labelstudio.open_source(export(tmp_path, [several, unlabelled, old]))
    assert [one.name for one in source.pictures] == ["0a1b2c3d-a.png", "old.png"]
    assert len(source.read(0)) == 1
    assert [problem.left_out for problem in source.problems] == [
        "the predictions",
        "the other annotations",
        "the picture",
    ]
    assert {problem.severity for problem in source.problems} == {"warning"}


BROKEN = [
    (
        region("brushlabels", {"format": "rle", "rle": GOLDEN, "brushlabels": ["a"]}),
        "140 values; expected .* = 800",
    ),
    (region("brushlabels", {"format": "png", "rle": [1], "brushlabels": ["a"]}), "the format 'png'"),
    (region("brushlabels", {"format": "rle", "brushlabels": ["a"]}), "no list of bytes"),
    (region("polygonlabels", {"points": [[1, 1], [2, 2]], "polygonlabels": ["a"]}), "2 points"),
    (
        region("polygonlabels", {"points": [[1, 1], [2, "x"], [3, 3]], "polygonlabels": ["a"]}),
        "not a list of pairs",
    ),
    (
        region("polygonlabels", {"points": [[400, 400], [500, 400], [500, 500]], "polygonlabels": ["a"]}),
        "lies outside",
    ),
    (region("polygonlabels", {**SQUARE, "polygonlabels": []}), "has no label"),
    (region("polygonlabels", SQUARE, size=(11, 20)), "a picture of 11 x 20 .*; expected 10 x 20"),
    (region("polygonlabels", SQUARE, image_rotation=90), "turned by 90 degrees"),
    (region("polygonlabels", None), "has no label"),
    (region("polygonlabels", None, id="good"), "a value that is missing"),
    (
        region("rectanglelabels", {"x": 1, "y": None, "width": 1, "height": 1, "rectanglelabels": ["a"]}),
        "y None",
    ),
    (
        region("ellipselabels", {"x": 1, "y": 1, "radiusX": -1, "radiusY": 1, "ellipselabels": ["a"]}),
        "the radii",
    ),
    (5, "is a number; expected an object"),
]


@pytest.mark.parametrize("result, message", BROKEN)
def test_a_result_that_is_none(tmp_path, result, message):
    source = labelstudio.open_source(
        export(tmp_path, [task([region("polygonlabels", SQUARE, id="good"), result])])
    )
    with pytest.raises(AnnotationError, match=rf"\.json: 0a1b2c3d-a\.png: result 1.*{message}.*Remedy"):
        source.read(0)
    objects, found = lenient(source)
    assert len(objects) == 1
    assert [(problem.severity, problem.left_out) for problem in found] == [("error", "the object")]


def test_many_huge_masks_in_few_bytes_are_refused_before_they_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "MAX_PIXELS", 250_000)
    size = (300, 400)
    code = encode([0, size[0] * size[1]], size)
    full = region("brushlabels", {"format": "rle", "rle": code, "brushlabels": ["a"]}, size=size)
    with pytest.raises(AnnotationError, match="crop pixels"):
        labelstudio.open_source(export(tmp_path, [task([full] * 3)])).read(0)
    assert len(labelstudio.open_source(export(tmp_path, [task([full] * 2)])).read(0)) == 2


def test_tasks_that_are_none(tmp_path):
    good = task([region("polygonlabels", SQUARE)])
    twice = {**good, "id": 8}
    path = export(tmp_path, [good, 5, {"annotations": []}, {"data": {"text": "a"}, "annotations": []}, twice])
    with pytest.raises(AnnotationError, match=r"\.json: \[1\]: is a number"):
        labelstudio.open_source(path)
    source = labelstudio.open_source(path, strict=False)
    assert len(source.pictures) == 1
    assert [problem.where for problem in source.problems] == ["[1]", "[2]", "[3]", "task 8"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is no list of tasks"),
        ("{}", "is no list of tasks"),
        ('[{"data": {"image": "a.png"}, "annotations": [', "breaks off"),
        ('[{"data": {"image": "a.png"}, "annotations": []}', "breaks off"),
        ('[{"data": {"image": "a.png"}, "annotations": []}] x', "not valid JSON"),
        ('[{"image_id": 1, "category_id": 1, "score": 0.5}]', "is a list of COCO results"),
        ('[{"image": "/a.png", "id": 1, "label": []}]', "is Label Studio's JSON-MIN"),
    ],
)
def test_documents_that_are_none(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{message}.*Remedy"):
        labelstudio.open_source(path)
    if "annotations" not in content:
        assert not labelstudio.detect(path)


def test_folders_with_no_export_or_two(tmp_path):
    with pytest.raises(DataError, match="no Label Studio export"):
        labelstudio.open_source(tmp_path)
    with pytest.raises(AnnotationError, match="no such file"):
        labelstudio.open_source(tmp_path / "x.json")
    for name in ("a.json", "b.json"):
        export(tmp_path, [task([])], name)
    with pytest.raises(DataError, match=r"2 Label Studio exports \(a\.json, b\.json\)"):
        labelstudio.open_source(tmp_path)


def test_neighbours_are_not_taken_for_it(tmp_path):
    others = [
        {"images": [], "annotations": [], "categories": []},
        [{"image_id": 1, "category_id": 1, "segmentation": {}, "score": 1}],
        {"type": "FeatureCollection", "features": []},
        [{"type": "Feature", "geometry": {}, "properties": {}}],
        {"version": "5.0.1", "flags": {}, "shapes": [], "imagePath": "a.png"},
        [],
        [1],
    ]
    for i, other in enumerate(others):
        assert not labelstudio.detect(export(tmp_path, other, f"{i}.json"))
    assert not labelstudio.detect(tmp_path)
    long = task([region("brushlabels", {"format": "rle", "rle": [0] * 100_000, "brushlabels": ["a"]})])
    assert labelstudio.detect(export(tmp_path, [long], "long.json"))  # longer than what is looked at
