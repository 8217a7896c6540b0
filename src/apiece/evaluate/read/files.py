"""Files: truth and predictions from disk, brought together as one Subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apiece.errors import AnnotationError, UsageError
from apiece.evaluate.coco_scenes import as_key, scenes_of_coco
from apiece.evaluate.read.classes import join_classes
from apiece.evaluate.read.layouts import read_predictions
from apiece.evaluate.read.metadata import Columns, read_metadata
from apiece.evaluate.read.pictures import shown
from apiece.evaluate.read.predictions import ClassRef, Predictions
from apiece.evaluate.read.truth import Truth, read_truth
from apiece.evaluate.scenes import Key, Scenes
from apiece.evaluate.subject import Subject


def subject_of_files(
    truth: Path,
    predictions: Path,
    *,
    images: Path | None = None,
    format: str | None = None,
    predictions_format: str | None = None,
    rename: Mapping[str, str] | None = None,
    common: bool = False,
    one_class: bool = False,
    metadata: Path | None = None,
) -> Subject:
    """Truth and predictions of the same pictures, from files of any format.

    truth               a COCO document, or annotations of any format of apiece.data.formats.
    predictions         COCO results, a COCO document with scores, what other tools write (see LAYOUTS), or
                        annotations of any format.
    images              the picture folder, where pictures don't lie beside the truth.
    format              the truth's format; told by what is there by default.
    predictions_format  of LAYOUTS or FORMATS, the same.
    rename              a predicted class → the truth's name of it; "" leaves its predictions out.
    common              keep only the pictures that both sides speak of.
    one_class           take all objects for one class, whatever either side calls them.
    metadata            a CSV file whose first column names pictures and whose others describe them.

    Pictures are joined by id for a list of COCO results and a COCO truth, else by path, file name or stem. Classes
    are joined by name, without regard to case; a single class on both sides is joined whatever it is called.

    raises  UsageError, DataError or AnnotationError: files that can't be read, objects that don't hold, classes or
            pictures of the predictions that the truth doesn't have.
    """
    known = read_truth(truth, images, format)
    renames = dict(rename or {})
    found = read_predictions(predictions, known, predictions_format, images, frozenset(renames))
    notes = [*known.notes, *found.notes]
    if truth.resolve() == predictions.resolve():
        notes.append(
            "The predictions are the ground truth itself, so that nothing here says how good a model is."
        )
    _check_pictures(known, found, common)
    if one_class:
        known, found = without_classes(known, found, renames)
        notes.append("All objects are taken for one class, as was asked for.")
    else:
        known, found = joined_classes(known, found, renames, notes)
    scenes, scored = scored_scenes(known, found, notes)
    columns: Columns = dict(known.metadata)
    if metadata is not None:
        described, more = read_metadata(metadata, known.pictures)
        columns |= described
        notes += more
    places = list(range(len(known.pictures)))
    if common:
        places = _common(known, found, notes)
        scenes = scenes.only(places)
    else:
        notes += _empty(known, found, scenes)
    cut = sum(place in found.truncated for place in places)
    return Subject(
        scenes=replace(scenes, truncated=cut),
        names=tuple(known.pictures.names[i] for i in places),
        paths=tuple(known.pictures.paths[i] for i in places),
        metadata={name: tuple(values[i] for i in places) for name, values in columns.items()},
        scored=scored,
        truth_path=str(truth),
        predicted_path=str(predictions),
        notes=tuple(notes),
    )


def _check_pictures(truth: Truth, found: Predictions, common: bool) -> None:
    """Refuse predictions on pictures that the truth doesn't have.

    raises  AnnotationError with their number and first names.
    """
    strange = [name for name, count in found.strangers.items() if count or not found.told]
    if not strange:
        return
    objects = sum(found.strangers.values())
    if not found.told:
        raise AnnotationError(
            f"{found.path}: none of its {len(found.strangers)} pictures ({shown(list(found.strangers))}) is one of the "
            f"{len(truth.pictures)} of {truth.path} ({shown(list(truth.pictures.names))}); expected predictions of "
            "these pictures. Remedy: check that both are of the same data set; pictures are found by id or file name."
        )
    if not common:
        raise AnnotationError(
            f"{found.path}: {objects} predictions lie on {len(strange)} pictures that are not in {truth.path} "
            f"({shown(strange)}); expected predictions of its {len(truth.pictures)} pictures alone. Remedy: compare "
            "the pictures that both have (--common), or name the truth of all pictures."
        )


def joined_classes(
    truth: Truth, found: Predictions, rename: Mapping[str, str], notes: list[str]
) -> tuple[Truth, Predictions]:
    """The predictions with the truth's category ids; a truth that names no class gets those of the predictions."""
    if found.classes is None:
        return _with_classes(truth, {}), found
    counts: dict[ClassRef, int] = dict.fromkeys(found.classes.values(), 0)
    ids = [as_key(row.get("category_id")) if isinstance(row, Mapping) else None for row in found.entries]
    for i, key in enumerate(ids):
        if key is None:
            continue
        ref = found.classes.get(key)
        if ref is None:
            raise AnnotationError(
                f"{found.path}: object {i} has category_id {key!r}; expected one of its own categories "
                f"({shown([str(one) for one in found.classes], 8)}). Remedy: export the predictions again."
            )
        counts[ref] += 1
    truth = _with_classes(truth, counts)
    used = {as_key(row.get("category_id")) for row in _rows(truth)} if truth.coco else set()
    categories = [one for one in truth.document.get("categories") or [] if isinstance(one, Mapping)]
    parents = {str(one["supercategory"]) for one in categories if one.get("supercategory")}
    headings = {as_key(one.get("id")) for one in categories if str(one.get("name")) in parents}
    joined = join_classes(
        truth.classes,
        counts,
        rename,
        names=(truth.path, found.path),
        unused=frozenset(key for key in headings - used if key is not None),
        numbering="id" if found.by_id else "own" if truth.format == "yolo" else "order",
    )
    notes += joined.notes
    key_of: dict[Key, Key | None] = {
        own: joined.key_of[ref] for own, ref in found.classes.items() if ref in joined.key_of
    }
    left_out = sum(counts[ref] for ref, key in joined.key_of.items() if key is None)
    if left_out:
        names = [str(ref) for ref, key in joined.key_of.items() if key is None]
        notes.append(f"{left_out} predictions of {shown(names)} are left out, as the renaming says.")
    if all(own == key for own, key in key_of.items()):
        return truth, found
    entries: list[Any] = []
    for row, own in zip(found.entries, ids, strict=True):
        if own is None:
            entries.append(row)
        elif key_of[own] is not None:
            entries.append({**row, "category_id": key_of[own]})
    return truth, replace(found, entries=entries)


def without_classes(
    truth: Truth, found: Predictions, rename: Mapping[str, str] | None = None
) -> tuple[Truth, Predictions]:
    """Both sides with one class, "object".

    raises  UsageError if classes are renamed, too.
    """
    if rename:
        raise UsageError("--one-class and --rename exclude each other; expected one of them.")

    def alike(rows: Sequence[Any]) -> list[Any]:
        return [{**row, "category_id": 1} if isinstance(row, Mapping) else row for row in rows]

    annotations = truth.document.get("annotations", [])
    document = {
        **truth.document,
        "categories": [{"id": 1, "name": "object"}],
        "annotations": alike(annotations) if isinstance(annotations, list) else annotations,
    }
    return (
        replace(truth, document=document, classes=((1, "object"),)),
        replace(found, entries=alike(found.entries), classes=None),
    )


def _with_classes(truth: Truth, predicted: Mapping[ClassRef, int]) -> Truth:
    """A truth without any object may name no class: then those of the predictions are its."""
    if truth.classes or truth.coco:
        return truth
    names = [ref if isinstance(ref, str) else f"class {ref}" for ref in predicted] or ["object"]
    classes = tuple(enumerate(names))
    document = {**truth.document, "categories": [{"id": key, "name": name} for key, name in classes]}
    return replace(truth, classes=classes, document=document)


def _rows(truth: Truth) -> Sequence[Mapping[str, Any]]:
    rows = truth.document.get("annotations") or []
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def scored_scenes(truth: Truth, found: Predictions, notes: list[str]) -> tuple[Scenes, bool]:
    """The scenes, and whether scores mean anything."""
    entries = found.entries
    lacking = bool(entries) and all(isinstance(row, Mapping) and row.get("score") is None for row in entries)
    if lacking:
        entries = [{**row, "score": 1} for row in entries]
    scenes = scenes_of_coco(truth.document, entries, truth.path, found.path)
    scores = scenes.predicted.scores
    if lacking:
        notes.append(
            "Predictions carry no scores: each counts with score 1, so thresholds and average precision mean nothing."
        )
        return scenes, False
    if (len(scores) and (scores == 1).all()) or (len(scores) > 1 and np.ptp(scores) == 0):
        notes.append(
            f"All {len(scores)} predictions have the score {scores[0]:g}, so thresholds and average precision mean "
            "nothing."
        )
        return scenes, False
    return scenes, True


def _common(truth: Truth, found: Predictions, notes: list[str]) -> list[int]:
    """The places of pictures that both sides speak of."""
    places = sorted(found.told)
    left, strange = len(truth.pictures) - len(places), len(found.strangers)
    if left or strange:
        told = (
            ""
            if found.all_told
            else " A picture without predictions can't be told from one that was never shown."
        )
        notes.append(
            f"Only the {len(places)} pictures that both sides have are compared: {left} pictures of the truth are left "
            f"out, and {strange} of the predictions with {sum(found.strangers.values())} predictions.{told}"
        )
    if not places:
        raise AnnotationError(
            f"{found.path}: speaks of no picture of {truth.path}; expected at least one that both have. "
            "Remedy: leave --common away."
        )
    return places


def _empty(truth: Truth, found: Predictions, scenes: Scenes) -> list[str]:
    """Notes about pictures of the truth on which there is no prediction."""
    notes = []
    strange = [name for name, count in found.strangers.items() if not count]
    if strange:
        notes.append(
            f"{found.path} lists {len(strange)} pictures that are not in {truth.path} ({shown(strange)}), without "
            "predictions."
        )
    if not len(scenes.predicted):
        return [*notes, "There are no predictions."]
    with_any = set(scenes.predicted.images.tolist())
    bare = [name for place, name in enumerate(truth.pictures.names) if place not in with_any]
    if found.all_told:
        absent = [name for place, name in enumerate(truth.pictures.names) if place not in found.told]
        if absent:
            notes.append(
                f"{len(absent)} of {len(truth.pictures)} pictures are not in the predictions ({shown(absent)}); they "
                "count as pictures in which nothing was found."
            )
    elif bare:
        notes.append(
            f"{len(bare)} of {len(truth.pictures)} pictures have no prediction ({shown(bare)}); they count as pictures "
            "in which nothing was found."
        )
    return notes
