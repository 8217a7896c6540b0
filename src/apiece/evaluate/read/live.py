"""Live pictures: predictions on pictures of which no truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from apiece.errors import AnnotationError, DataError
from apiece.evaluate.read.files import joined_classes, scored_scenes, without_classes
from apiece.evaluate.read.layouts import layout_of, read_predictions, refuse_pickle
from apiece.evaluate.read.truth import read_truth
from apiece.evaluate.subject import Subject

PICTURELESS = (
    "coco-results",
    "ultralytics",
    "yolo-text",
    "mmdetection",
    "supervision",
    "roboflow",
    "label-images",
)


def live_of_file(
    path: Path, subject: Subject, *, rename: Mapping[str, str] | None = None, one_class: bool = False
) -> Subject:
    """Predictions on unlabelled pictures, with the classes of a subject; there is no true object in its scenes.

    path    a COCO document whose `images` name all pictures, also those without objects (as `apiece segment --as
            coco` writes it), or annotations of any format that does.
    rename, one_class  as for `subject_of_files`.
    raises  DataError for results that don't say which pictures they are of: a mean over the others is too high.
    """
    if not path.exists():
        raise AnnotationError(
            f"{path}: not found; expected predictions on live pictures. Remedy: check the path."
        )
    refuse_pickle(path)
    found = layout_of(path)
    if found.name in PICTURELESS and not (isinstance(found.document, Mapping) and "images" in found.document):
        raise DataError(
            f"{path}: holds results without the list of pictures that they are of, so that pictures without any object "
            "would be left out of every mean; expected a COCO document with `images`. Remedy: `apiece segment "
            "PICTURES --as coco` writes one, or add `images` (id, file_name, height, width) to the results."
        )
    known = read_truth(path)
    categories = [{"id": key, "name": name} for key, name in subject.scenes.classes]
    bare = replace(
        known,
        format="coco",
        document={"images": known.document["images"], "categories": categories, "annotations": []},
        classes=subject.scenes.classes,
        notes=(),
    )
    renames = dict(rename or {})
    predictions = read_predictions(path, bare, None, None, frozenset(renames))
    notes: list[str] = []
    if one_class:
        bare, predictions = without_classes(bare, predictions, renames)
    else:
        bare, predictions = joined_classes(bare, predictions, renames, notes)
    scenes, scored = scored_scenes(bare, predictions, notes)
    return Subject(
        replace(scenes, truncated=len(predictions.truncated)),
        bare.pictures.names,
        bare.pictures.paths,
        bare.metadata,
        scored,
        str(path),
        str(path),
        tuple(f"Live pictures: {note}" for note in notes),
    )
