"""Overlaps from run-length codes, against those of decoded masks, picture by picture."""

from __future__ import annotations

import numpy as np
import pycocotools_oracle as oracle
import pytest

from apiece.core.masks import Masks
from apiece.errors import UsageError
from apiece.evaluate import overlaps as module
from apiece.evaluate.coco_scenes import scenes_of_coco
from apiece.evaluate.overlaps import Overlaps, Pairs, by_image, masks_of, overlaps_of
from apiece.evaluate.scenes import Kind, Objects, Scenes


def plain(scenes: Scenes, kind: Kind) -> dict[str, list[tuple[int, int, float]]]:
    """The pairs by decoding every picture's masks, or by comparing every box with every other."""
    found: dict[str, list[tuple[int, int, float]]] = {"across": [], "truth": [], "predicted": []}
    true_at, found_at = (by_image(side, len(scenes.image_ids)) for side in (scenes.truth, scenes.predicted))
    for true, others in zip(true_at, found_at, strict=True):
        sides = {
            "across": (scenes.truth, true, scenes.predicted, others),
            "truth": (scenes.truth, true, scenes.truth, true),
            "predicted": (scenes.predicted, others, scenes.predicted, others),
        }
        for name, (one, places, other, other_places) in sides.items():
            if not len(places) or not len(other_places):
                continue
            shared = dense(one, places, other, other_places, kind)
            for i, first in enumerate(places.tolist()):
                for j, second in enumerate(other_places.tolist()):
                    crowded = name == "truth" and (one.crowd[first] or one.crowd[second])
                    if shared[i, j] > 0 and (name == "across" or first < second) and not crowded:
                        found[name].append((first, second, float(shared[i, j])))
    return found


def dense(one: Objects, places: np.ndarray, other: Objects, others: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "segm":
        return masks_of(one, places).intersection(masks_of(other, others)).toarray()
    x, y, w, h = (column[:, None] for column in one.boxes[places].T)
    u, v, s, t = other.boxes[others].T
    width = np.maximum(np.minimum(x + w, u + s) - np.maximum(x, u), 0)
    return width * np.maximum(np.minimum(y + h, v + t) - np.maximum(y, v), 0)


def rows(pairs: Pairs) -> list[tuple[int, int, float]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.shared.tolist(), strict=True))


def check(scenes: Scenes, kind: Kind) -> Overlaps:
    found, expected = overlaps_of(scenes, kind), plain(scenes, kind)
    assert rows(found.across) == expected["across"]
    assert rows(found.among_truth) == expected["truth"]
    assert rows(found.among_predicted) == expected["predicted"]
    for side, areas in ((scenes.truth, found.truth_areas), (scenes.predicted, found.predicted_areas)):
        if kind == "segm":
            own = [Masks.from_coco([rle], rle["size"]).areas[0] for rle in side.masks if rle is not None]
        else:
            own = side.boxes[:, 2] * side.boxes[:, 3]
        np.testing.assert_array_equal(areas, own)
    return found


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(40))
def test_overlaps_are_those_of_the_masks_or_boxes(
    seed: int, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = scenes_of_coco(*oracle.scene(seed))
    check(scenes, kind)
    monkeypatch.setattr(module, "CHUNK", 5)
    check(scenes, kind)


@pytest.mark.parametrize("seed", range(20))
def test_pictures_of_different_sizes_with_single_pixels_and_empty_masks(seed: int) -> None:
    r = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for i in range(6):
        size = r.integers(1, 30, 2).tolist()
        images.append({"id": i, "height": size[0], "width": size[1]})
        for k in range(int(r.integers(0, 12))):
            mask = r.random(size) < r.choice([0, 0.02, 0.5, 1])
            if r.random() < 0.4:
                mask[:] = False
                mask[int(r.integers(size[0])), int(r.integers(size[1]))] = True
            row = {"image_id": i, "category_id": 1, "segmentation": oracle.encoded(mask)}
            if k % 2:
                annotations.append({**row, "iscrowd": int(r.random() < 0.2)})
            else:
                results.append({**row, "score": 0.5})
    truth = {"images": images, "categories": [{"id": 1}], "annotations": annotations}
    check(scenes_of_coco(truth, results), "segm")


def boxes_of(*boxes: list[float]) -> Scenes:
    truth = {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 1}], "annotations": []}
    return scenes_of_coco(
        truth, [{"image_id": 1, "category_id": 1, "score": 1, "bbox": box} for box in boxes]
    )


def test_boxes_that_touch_share_nothing_and_thin_ones_do_no_harm() -> None:
    found = check(boxes_of([0, 0, 4, 4], [4, 0, 4, 4], [0, 4, 4, 4], [3, 3, 2, 2]), "bbox")
    assert rows(found.among_predicted) == [(0, 3, 1.0), (1, 3, 1.0), (2, 3, 1.0)]
    check(boxes_of([1, 1, 1e-300, 5], [1, 1, 0, 5], [1, 1, 3, 1e-300], [0, 0, 9, 9], [1, 1, 1, 1]), "bbox")


def test_the_same_box_on_two_pictures_is_no_overlap() -> None:
    scenes = boxes_of([0, 0, 4, 4], [0, 0, 4, 4])
    scenes.predicted.images[1] = 1
    assert not len(overlaps_of(scenes, "bbox").among_predicted)


def test_without_objects_there_are_no_overlaps() -> None:
    for kind in ("segm", "bbox"):
        found = overlaps_of(boxes_of(), kind)
        assert [len(found.across), len(found.among_truth), len(found.among_predicted)] == [0, 0, 0]


def test_codes_with_counts_of_nothing_are_compared_like_any_other() -> None:
    images = [{"id": 1, "height": 5, "width": 4}]
    mask = {"size": [5, 4], "counts": [2, 0, 1, 3, 0, 2, 12]}
    row = {"image_id": 1, "category_id": 1, "segmentation": mask}
    truth = {"images": images, "categories": [{"id": 1}], "annotations": [row]}
    found = check(scenes_of_coco(truth, [{**row, "score": 1}]), "segm")
    assert rows(found.across) == [(0, 0, 5.0)]


def test_objects_without_masks_are_refused_as_masks() -> None:
    with pytest.raises(UsageError, match="1 predicted objects have no mask.*Remedy"):
        overlaps_of(boxes_of([0, 0, 1, 1]), "segm")


def test_pictures_beyond_the_range_of_counts_are_refused_by_name() -> None:
    size = [2**16, 2**16]
    scenes = boxes_of([0, 0, 1, 1])
    huge = {"size": size, "counts": "0"}
    scenes = Scenes(
        scenes.image_ids,
        scenes.sizes,
        scenes.classes,
        scenes.truth,
        Objects(**{**vars(scenes.predicted), "masks": (huge,)}),
    )
    with pytest.raises(UsageError, match=r"4,294,967,296 pixels.*Remedy"):
        overlaps_of(scenes, "segm")
