"""Annotations of every format as truth and as predictions give the scenes of the same objects in memory."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest

from apiece.core.classes import ClassMap
from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats import FORMATS, Picture, format_of
from apiece.data.formats.raster import write_png
from apiece.errors import AnnotationError, DataError
from apiece.evaluate.read import subject_of_files
from apiece.evaluate.scenes import scenes_of_instances
from format_scenes import CLASSES, expected, random_scene


def written(folder, name, pictures, classes=CLASSES):
    """A data set of this format with these objects, and what is left of them by what the format holds."""
    target_of = format_of(name).TARGET
    folder.mkdir()
    target = target_of(folder, classes, pictures=True)
    given = folder.parent / "given"
    given.mkdir(exist_ok=True)
    for number, objects in enumerate(pictures, start=1):
        path = given / f"shot_{number}.png"
        write_image(path, np.zeros((*objects.size, 3), np.uint8))
        target.add(Picture(path.name, path, number, objects.size, "train"), objects)
    target.finish()
    return [expected(objects, target_of.holds) for objects in pictures]


def with_classes(objects: Instances, names) -> Instances:
    """The same objects in another class list."""
    places = [names.index(name) for name in objects.classes.names]
    return Instances(
        objects.size,
        objects.masks,
        np.array(places, np.int64)[objects.class_ids],
        objects.scores,
        classes=ClassMap(tuple(names)),
        columns=objects.columns,
    )


def compared(found, wanted):
    """Scenes without regard to ids: classes by name, pictures by order, objects of a picture by mask."""
    assert found.sizes == wanted.sizes
    for a, b in ((found.truth, wanted.truth), (found.predicted, wanted.predicted)):

        def told(objects, scenes):
            return sorted(
                (
                    image,
                    scenes.classes[label][1],
                    round(float(score), 5),
                    bool(crowd),
                    tuple(map(float, box)),
                    json.dumps(mask),
                    float(area),
                )
                for image, label, score, crowd, box, mask, area in zip(
                    objects.images.tolist(),
                    objects.labels.tolist(),
                    objects.scores,
                    objects.crowd,
                    objects.boxes,
                    objects.masks,
                    objects.segm_areas,
                    strict=True,
                )
            )

        assert told(a, found) == told(b, wanted)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_truth_and_as_predictions(tmp_path, name):
    rng = np.random.default_rng(5)
    crowd = format_of(name).TARGET.holds.crowd
    truth = [
        random_scene(rng, size, count, crowd=crowd)
        for size, count in (((17, 23), 5), ((17, 23), 0), ((9, 12), 3))
    ]
    predicted = [random_scene(rng, one.size, 4, crowd=False) for one in truth]
    predicted = [
        Instances(one.size, one.masks, one.class_ids, np.linspace(0.9, 0.5, len(one)), classes=CLASSES)
        for one in predicted
    ]
    true_left = written(tmp_path / "truth", name, truth)
    found_left = written(tmp_path / "found", name, predicted)
    holds = format_of(name).TARGET.holds
    subject = subject_of_files(tmp_path / "truth", tmp_path / "found")
    names = list(CLASSES.names) if holds.classes else ["object"]
    true_left = [with_classes(one, names) for one in true_left]
    found_left = [with_classes(one, names) for one in found_left]
    compared(subject.scenes, scenes_of_instances(true_left, found_left))
    assert subject.scored == holds.scores
    assert all(path is not None and path.is_file() for path in subject.paths)
    assert ("no scores" in " ".join(subject.notes)) == (not holds.scores)
    again = subject_of_files(tmp_path / "truth", tmp_path / "found", format=name, predictions_format=name)
    compared(again.scenes, subject.scenes)


@pytest.mark.parametrize("name", ["labels", "imagej", "yolo", "mask-files"])
def test_coco_truth_with_predictions_in_a_format(tmp_path, name):
    rng = np.random.default_rng(6)
    classes = ClassMap(("cell",))
    truth = [random_scene(rng, (17, 23), 5, classes), random_scene(rng, (9, 12), 3, classes)]
    written(tmp_path / "truth", "coco", truth, classes)
    left = written(tmp_path / "found", name, truth, classes)
    subject = subject_of_files(tmp_path / "truth" / "annotations.json", tmp_path / "found")
    left = [
        Instances(one.size, one.masks, np.zeros(len(one), np.int64), one.scores, classes=classes)
        for one in left
    ]
    compared(subject.scenes, scenes_of_instances(truth, left))


@pytest.mark.parametrize("ending", ["", "_cp_masks", "_masks"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_label_images_of_cellpose_and_stardist(tmp_path, ending, suffix):
    from apiece.data.formats.ome import write_tiff

    rng = np.random.default_rng(7)
    classes = ClassMap(("nucleus",))
    truth = [random_scene(rng, (17, 23), 5, classes), random_scene(rng, (9, 12), 0, classes)]
    written(tmp_path / "truth", "coco", truth, classes)
    out = tmp_path / "out"
    out.mkdir()
    labels = []
    for number, objects in enumerate(truth, start=1):
        image = np.zeros(objects.size, np.uint16)
        for i, frame in enumerate(objects.masks.to_dense(), start=1):
            image[frame] = 7 * i
        labels.append(image)
        if ending == "_cp_masks":  # Cellpose writes beside the pictures, and its own file
            write_image(out / f"shot_{number}.png", np.zeros((*objects.size, 3), np.uint8))
            (out / f"shot_{number}_seg.npy").write_bytes(b"\x93NUMPY")
        if suffix == ".png":
            write_png(out / f"shot_{number}{ending}.png", image)
        else:
            write_tiff(out / f"shot_{number}{ending}.tif", image, None)
    subject = subject_of_files(tmp_path / "truth", out)
    predicted = [
        Instances(image.shape, masks, np.zeros(len(masks), np.int64), classes=classes)
        for image in labels
        for masks in [Masks.from_label_image(image)]
    ]
    compared(subject.scenes, scenes_of_instances(truth, predicted))
    assert not subject.scored
    assert any("'object', is taken for the only true class, 'nucleus'" in note for note in subject.notes)
    assert any("taken for pictures" in note for note in subject.notes) == (ending == "_cp_masks")
    wrong = out / f"shot_1{ending}{suffix}"
    wrong.write_bytes(wrong.read_bytes()[:40])
    with pytest.raises(DataError, match="shot_1"):
        subject_of_files(tmp_path / "truth", out, predictions_format="label-images")


def test_roi_archives_without_pictures_have_the_size_of_the_truth(tmp_path):
    """StarDist's export_imagej_rois: archives of ROIs that say nothing of a picture."""
    classes = ClassMap(("nucleus",))
    objects = random_scene(np.random.default_rng(7), (17, 23), 5, classes, crowd=False)
    written(tmp_path / "truth", "coco", [objects], classes)
    written(tmp_path / "found", "imagej", [objects], classes)
    out = tmp_path / "out"
    out.mkdir()
    (archive,) = (tmp_path / "found").rglob("*.zip")
    with zipfile.ZipFile(archive) as given, zipfile.ZipFile(out / archive.name, "w") as made:
        for entry in given.namelist():
            made.writestr(entry, given.read(entry))
    for images in (True, False):
        if not images:
            shutil.rmtree(tmp_path / "truth" / "images")
        subject = subject_of_files(tmp_path / "truth", out)
        compared(subject.scenes, scenes_of_instances([objects], [objects]))
        assert subject.scenes.sizes == ((17, 23),)


def test_label_images_of_another_size_are_refused(tmp_path):
    objects = random_scene(np.random.default_rng(8), (17, 23), 5)
    written(tmp_path / "truth", "coco", [objects])
    (tmp_path / "out").mkdir()
    write_png(tmp_path / "out" / "shot_1.png", np.eye(17, dtype=np.uint8))
    with pytest.raises(AnnotationError, match=r"shot_1\.png: labels are 17 x 17.*17 x 23"):
        subject_of_files(tmp_path / "truth", tmp_path / "out", predictions_format="label-images")


@pytest.mark.parametrize("name", ["imagej", "labelme", "voc"])
def test_formats_of_another_size_are_refused(tmp_path, name):
    objects = random_scene(np.random.default_rng(8), (17, 23), 5)
    larger = random_scene(np.random.default_rng(8), (34, 46), 5)
    written(tmp_path / "truth", "coco", [objects])
    written(tmp_path / "found", name, [larger])
    with pytest.raises(DataError, match=r"34 x 46|\(34, 46\)"):
        subject_of_files(tmp_path / "truth", tmp_path / "found")


def test_drawn_rectangles_alone_are_boxes(tmp_path):
    objects = random_scene(np.random.default_rng(9), (17, 23), 5, crowd=False)
    boxes = [np.ones((4, 6), bool)] * 2
    rectangles = Instances(
        (17, 23),
        Masks.from_crops(boxes, np.array([(1, 2), (9, 8)]), (17, 23)),
        [0, 1],
        classes=CLASSES,
        columns={"box_mask": np.array([True, True])},
    )
    written(tmp_path / "truth", "labelme", [objects])
    written(tmp_path / "found", "labelme", [rectangles])
    subject = subject_of_files(tmp_path / "truth", tmp_path / "found")
    assert subject.scenes.predicted.without_mask == 2
    assert subject.scenes.predicted.boxes.tolist() == [[1, 2, 6, 4], [9, 8, 6, 4]]
    assert any("All 2 predicted objects are drawn rectangles" in note for note in subject.notes)


def test_a_truth_without_objects_takes_the_classes_of_the_predictions(tmp_path):
    nothing = Instances.empty((17, 23), CLASSES)
    objects = random_scene(np.random.default_rng(9), (17, 23), 5, crowd=False)
    written(tmp_path / "truth", "labelme", [nothing])
    written(tmp_path / "found", "labelme", [objects])
    subject = subject_of_files(tmp_path / "truth", tmp_path / "found")
    assert (len(subject.scenes.truth), len(subject.scenes.predicted)) == (0, 5)
    assert {name for _, name in subject.scenes.classes} <= set(CLASSES.names)
    both = subject_of_files(tmp_path / "truth", tmp_path / "truth")
    assert len(both.scenes.predicted) == 0
    assert "There are no predictions." in both.notes


@pytest.mark.needs_shared
def test_yolact_on_truth_made_of_it(shared, tmp_path):
    """Real detections: their own best objects as truth, all of them as predictions."""
    path = shared / "yolact_dets" / "yolact_base.json"
    document = json.loads(path.read_text())
    names = sorted({det["category"] for image in document["images"] for det in image["dets"]})
    images, annotations = [], []
    for image in document["images"]:
        if not image["dets"]:
            continue
        height, width = image["dets"][0]["mask"]["size"]
        number = image["image_id"]
        images.append({"id": number, "file_name": f"{number:012}.jpg", "height": height, "width": width})
        for det in image["dets"]:
            if det["score"] > 0.5:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": names.index(det["category"]) + 1,
                        "segmentation": det["mask"],
                        "bbox": det["bbox"],
                        "iscrowd": 0,
                    }
                )
    truth = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    subject = subject_of_files(tmp_path / "truth.json", path)
    assert len(subject.scenes.predicted) == sum(len(image["dets"]) for image in document["images"])
    assert subject.scored
    strong = subject.scenes.predicted.where(subject.scenes.predicted.scores > 0.5)
    assert sorted(map(json.dumps, strong.masks)) == sorted(map(json.dumps, subject.scenes.truth.masks))
