"""What caps hid is found and said."""

from __future__ import annotations

import pytest
from pycocotools_oracle import Document, Results

from apiece.evaluate import Caps, evaluate


def boxes(true: list[int], predicted: list[int], classes: int = 1) -> tuple[Document, Results]:
    """Images with that many true and predicted objects, spread evenly over the classes."""

    def entries(counts: list[int]) -> Results:
        return [
            {"image_id": image, "category_id": 1 + i % classes, "bbox": [i, 0, 5, 5], "score": 0.05}
            for image, count in enumerate(counts)
            for i in range(count)
        ]

    images = [{"id": i} for i in range(len(true))]
    categories = [{"id": 1 + i, "name": f"class {i}"} for i in range(classes)]
    return {"images": images, "categories": categories, "annotations": entries(true)}, entries(predicted)


def caps(true: list[int], predicted: list[int], classes: int = 1) -> Caps:
    return evaluate(*boxes(true, predicted, classes)).caps


def test_a_hundred_objects_are_within_the_cap():
    found = caps([100, 3], [100, 7])
    assert not found.hides
    assert found.uncapped == found.coco == 100


def test_what_the_cap_cuts_is_tallied():
    found = caps([130, 3, 101], [150, 120, 7])
    assert (found.images, found.images_cut, found.predictions_cut) == (3, 2, 70)
    assert (found.images_beyond, found.truths_beyond) == (2, 31)
    assert found.uncapped == 150
    assert caps([431], [5]).uncapped == 431


def test_the_cap_is_of_each_class_alone():
    assert not caps([150], [150], classes=2).hides
    assert caps([250], [250], classes=2).predictions_cut == 50


def test_crowd_regions_are_not_objects_beyond_the_cap():
    truth, results = boxes([110], [3])
    for annotation in truth["annotations"][:20]:
        annotation["iscrowd"] = 1
    assert not evaluate(truth, results).caps.hides


@pytest.mark.parametrize(
    ("true", "predicted", "suspected"),
    [
        ([130, 12, 140], [100, 12, 100], 100),  # two images at a usual cap
        ([130, 12, 14], [100, 12, 15], 100),  # one, but with more true objects than that
        ([30, 31, 32], [37, 37, 37], 37),  # all images at the same unusual number
        ([90, 12, 14], [100, 12, 15], None),  # one image that happens to have 100
        ([1, 1, 1], [1, 1, 1], None),  # one object a picture is how pictures are
        ([30, 31, 32], [36, 37, 37], None),
        ([130, 150], [100, 101], None),  # nothing stops at 100
        ([5], [0], None),
    ],
)
def test_a_cap_of_the_producer_is_suspected_from_where_images_stop(true, predicted, suspected):
    found = evaluate(*boxes(true, predicted))
    assert found.caps.suspected == suspected
    assert found.caps.images_at_suspected == (predicted.count(suspected) if suspected else 0)
    said = any(f"keeps at most {suspected} an image" in note for note in found.notes)
    assert said == (suspected is not None)


def test_the_first_line_says_what_the_cap_hid_and_both_figures():
    found = evaluate(*boxes([130, 3, 4], [150, 3, 4]))
    first = found.to_text(width=60).splitlines()[0]
    assert first.startswith("CAP REACHED")
    assert "left out 50 of 157 predictions in 1 of 3 images" in first
    assert "30 of 137 true objects in 1 of 3 images out of reach" in first
    assert f"bbox AP {found.bbox['AP']:.3f} under it" in first
    assert f"AP_uncapped {found.bbox_uncapped['AP']:.3f} with up to 150" in first
    assert found.bbox["AP"] < found.bbox_uncapped["AP"]
    assert "bbox_uncapped" in found.to_text()


def test_nothing_is_said_of_a_cap_that_hid_nothing():
    text = evaluate(*boxes([100], [90])).to_text()
    assert "CAP REACHED" not in text
    assert text.startswith("1 image, 100 true objects, 90 predictions")
