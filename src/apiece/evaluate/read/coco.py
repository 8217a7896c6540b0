"""COCO results: a list, as Detectron2, MMDetection and Ultralytics write it, or a document with images and classes.

A list's `image_id` is the truth's id. Ultralytics writes the stem of the file name there, as a number where it is one
(000000000009.jpg is 9), and recently the `file_name`, too; such are found by name. Its `category_id` counts from 1
for data sets other than COCO, whatever ids the ground truth has (in older versions from 0).

A document says itself what its ids mean: pictures are found by file name, classes by name.

source  cocodataset.org, Results format; docs.ultralytics.com, `val` with save_json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePosixPath
from typing import Any

from apiece.data.coco_entries import finite
from apiece.errors import AnnotationError
from apiece.evaluate.coco_scenes import as_key
from apiece.evaluate.read.pictures import shown
from apiece.evaluate.read.predictions import ClassRef, Predictions, check_size
from apiece.evaluate.read.truth import Truth
from apiece.evaluate.scenes import Key

COCO_IDS = [key for key in range(1, 91) if key not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def read_results(
    path: str, rows: Sequence[Any], truth: Truth, renamed: frozenset[str] = frozenset()
) -> Predictions:
    """A list of COCO results.

    renamed  the category ids, as texts, that the user names.
    raises   AnnotationError where category ids can't be told. Rows that are none are left to `scenes_of_coco`, whose
             sentence names them.
    """
    _check_scores(path, rows)
    places, how = _places(rows, truth)
    entries, strangers = _at_pictures(rows, places, truth)
    notes = [how] if how else []
    ids = {as_key(row.get("category_id")) for row in rows if isinstance(row, Mapping)} - {None}
    named = {str(key) for key in ids} <= renamed
    base = None if named else _first_number(path, rows, ids, truth, bool(how))
    classes: dict[Key, ClassRef] | None = None
    if base is not None:
        classes = {key: key - base if isinstance(key, int) else key for key in ids if key is not None}
        notes.append(f"{path}: category ids count classes from {base}.")
    elif renamed:
        classes = {key: key for key in ids if key is not None}
    told = frozenset(place for place in places.values() if place is not None)
    return Predictions(path, entries, classes, told, False, strangers, by_id=base is None, notes=tuple(notes))


def read_document(
    path: str, document: Mapping[str, Any], truth: Truth, renamed: frozenset[str] = frozenset()
) -> Predictions:
    """A COCO document whose annotations are predictions, with scores or without.

    renamed  the classes that the user names.
    raises   AnnotationError for images and categories that don't hold together, and objects of unknown ones.
    """
    rows = document.get("annotations", [])
    if not isinstance(rows, list):
        raise AnnotationError(
            f"{path}: annotations is a {type(rows).__name__}; expected a list of objects. Remedy: export it again."
        )
    _check_scores(path, rows)
    images = _entries(path, document, "images")
    if images is None:
        places, _ = _places(rows, truth)
        names: Mapping[Key, str] = {}
    else:
        places = {}
        names = {key: str(entry.get("file_name") or key) for key, entry in images.items()}
        for key, entry in images.items():
            place = places[key] = _place_of(key, entry, truth)
            size = entry.get("height"), entry.get("width")
            if place is not None and all(isinstance(side, int) for side in size):
                check_size(f"{path}: image {key}", size, truth.pictures, place)  # type: ignore[arg-type]
        _check_twins(path, places, names, truth)
    entries, strangers = _at_pictures(rows, places, truth, names, path if images is not None else "")
    categories = _entries(path, document, "categories")
    classes: dict[Key, ClassRef] | None = None
    if categories:
        classes = {key: str(entry.get("name", key)) for key, entry in categories.items()}
        twice = [name for name, times in Counter(classes.values()).items() if times > 1]
        if twice:
            raise AnnotationError(
                f"{path}: categories: the name {twice[0]!r} occurs more than once; expected names that differ. "
                "Remedy: rename or merge them."
            )
    elif renamed:
        ids = {as_key(row.get("category_id")) for row in rows if isinstance(row, Mapping)} - {None}
        classes = {key: key for key in ids if key is not None}
    cut = [key for key, entry in (images or {}).items() if entry.get("truncated") is True]
    return Predictions(
        path,
        entries,
        classes,
        frozenset(place for place in places.values() if place is not None),
        images is not None,
        strangers,
        by_id=not categories,
        truncated=frozenset(place for place in map(places.get, cut) if place is not None),
    )


def _check_scores(path: str, rows: Sequence[Any]) -> None:
    """See that all results have finite scores, or none has one.

    raises  AnnotationError naming the first by its place, counted from 0.
    """
    scores = [row.get("score") for row in rows if isinstance(row, Mapping)]
    if len(scores) < len(rows) or all(map(finite, scores)) or not any(score is not None for score in scores):
        return  # what is no object is named by scenes_of_coco
    wrong = next(i for i, score in enumerate(scores) if not finite(score))
    what = "no score" if scores[wrong] is None else f"the score {str(scores[wrong])[:60]}"
    raise AnnotationError(
        f"{path}: result {wrong} has {what}; expected a finite number, as others have. "
        "Remedy: export predictions with their scores."
    )


def _places(rows: Sequence[Any], truth: Truth) -> tuple[dict[Key, int | None], str]:
    """The place of each picture that a list of results names, and a note where these aren't the truth's ids."""
    pictures = truth.pictures
    counts: Counter[Key] = Counter()
    files: dict[Key, str] = {}
    named = bool(rows) and isinstance(rows[0], Mapping) and isinstance(rows[0].get("file_name"), str)
    for row in rows:
        raw = row.get("image_id") if isinstance(row, Mapping) else None
        if type(raw) is int or type(raw) is str:
            counts[raw] += 1
            if named and isinstance(row.get("file_name"), str):
                files.setdefault(raw, row["file_name"])
    by_id = {raw: pictures.by_id(raw) if truth.coco else None for raw in counts}
    if not files and None not in by_id.values():
        return by_id, ""

    def by_name(raw: Key) -> int | None:
        if raw in files:
            return pictures.by_name(files[raw])
        if isinstance(raw, int) or (raw.isascii() and raw.isdigit() and len(raw) < 19):
            number = pictures.by_number(int(raw))
            return number if number is not None or isinstance(raw, int) else pictures.by_name(raw)
        return pictures.by_name(raw)

    names = {raw: by_name(raw) for raw in counts}
    if names == by_id:
        return by_id, ""
    found = {
        how: sum(counts[raw] for raw, place in one.items() if place is not None)
        for how, one in (("ids", by_id), ("names", names))
    }
    if found["names"] > found["ids"] or (files and found["names"] == found["ids"]):
        return (
            names,
            "Predictions name pictures by their files, not by the truth's ids; they were found by name.",
        )
    return by_id, ""


def _at_pictures(
    rows: Sequence[Any],
    places: Mapping[Key, int | None],
    truth: Truth,
    names: Mapping[Key, str] | None = None,
    document: str = "",
) -> tuple[Sequence[Any], dict[str, int]]:
    """The rows on the truth's pictures, with its ids; and the others, counted by picture.

    document  not "": its rows may name no other pictures than `places` has.
    """
    keys = truth.pictures.keys
    key_of = {raw: None if place is None else keys[place] for raw, place in places.items()}
    strangers = {
        (names or {}).get(raw, str(raw)): 0 for raw, key in key_of.items() if key is None and document
    }
    if all(key == as_key(raw) for raw, key in key_of.items()) and not document:
        return rows, strangers
    entries: list[Any] = []
    for i, row in enumerate(rows):
        raw = row.get("image_id") if isinstance(row, Mapping) else None
        if document:
            raw = as_key(raw)
        if not isinstance(raw, int | str) or isinstance(raw, bool):
            entries.append(row)
        elif raw not in key_of:
            raise AnnotationError(
                f"{document}: object {i} has image_id {raw!r}; expected one of the document's own "
                f"{len(key_of)} images. Remedy: export the predictions again."
            )
        else:
            key = key_of[raw]
            if key is None:
                name = (names or {}).get(raw, str(raw))
                strangers[name] = strangers.get(name, 0) + 1
            else:
                entries.append(row if row["image_id"] == key else {**row, "image_id": key})
    return entries, strangers


def _entries(path: str, document: Mapping[str, Any], field: str) -> dict[Key, Mapping[str, Any]] | None:
    """The entries of a document's list by id; None if it has no such list."""
    if field not in document:
        return None
    given = document[field]
    if not isinstance(given, list):
        raise AnnotationError(
            f"{path}: {field} is a {type(given).__name__}; expected a list. Remedy: export it again."
        )
    found: dict[Key, Mapping[str, Any]] = {}
    for place, entry in enumerate(given):
        key = as_key(entry.get("id")) if isinstance(entry, Mapping) else None
        if key is None or key in found:
            what = "no object with an id" if key is None else f"a second one with the id {key!r}"
            raise AnnotationError(
                f"{path}: {field}[{place}] is {what}; expected whole numbers or texts as ids, each once. "
                "Remedy: export it again."
            )
        found[key] = entry
    return found


def _place_of(key: Key, entry: Mapping[str, Any], truth: Truth) -> int | None:
    """The truth's picture for an image of a document: of the same id and name, else of the same name."""
    pictures = truth.pictures
    name = entry.get("file_name")
    place = pictures.by_id(key) if truth.coco else None
    if not isinstance(name, str) or not name:
        return place
    if place is not None and (
        pictures.names[place] == str(key) or _stem(name) == _stem(pictures.names[place])
    ):
        return place
    return pictures.by_name(name)


def _check_twins(path: str, places: Mapping[Key, int | None], names: Mapping[Key, str], truth: Truth) -> None:
    first: dict[int, Key] = {}
    for key, place in places.items():
        if place is not None and first.setdefault(place, key) != key:
            raise AnnotationError(
                f"{path}: images {first[place]} and {key} are both {truth.pictures.names[place]!r} of {truth.path}; "
                "expected each picture once. Remedy: remove one of them."
            )


def _first_number(
    path: str, rows: Sequence[Any], ids: AbstractSet[Key | None], truth: Truth, by_name: bool
) -> int | None:
    """From which number category ids count classes; None where they are the truth's own ids.

    by_name  whether pictures were found by name, as those of Ultralytics are.
    raises   AnnotationError if they may count from 0 or from 1.
    """
    count = len(truth.classes)
    own = [key for key, _ in truth.classes]
    marked = bool(rows) and isinstance(rows[0], Mapping) and isinstance(rows[0].get("file_name"), str)
    if truth.coco and not (marked or by_name):
        return None
    if 0 in ids or not ids or not count:
        return 0
    if truth.coco and (own == COCO_IDS or any(isinstance(key, int) and key > count for key in ids)):
        return None  # Ultralytics maps to the ids of COCO where it knows the data set
    if marked or count in ids:
        return None if truth.coco and own == list(range(1, count + 1)) else 1
    names = shown([name for _, name in truth.classes])
    raise AnnotationError(
        f"{path}: category ids can count the {count} classes of {truth.path} ({names}) from 0 or from 1: neither 0 "
        f"nor {count} occurs; expected to be able to tell. Remedy: say each class "
        f"(--rename {min(map(str, ids))}=NAME), or write predictions as a COCO document with `categories`."
    )


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem
