"""Scenes from parsed COCO JSON, every object checked and none dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.errors import AnnotationError
from apiece.evaluate.coco_masks import Measured, measured
from apiece.evaluate.scenes import Float64, Int64, Key, Objects, Scenes, Size

AT_ONCE = 64  # masks made together: enough to be quick, few enough to be small where they are decoded


def scenes_of_coco(
    truth: Mapping[str, Any],
    predictions: Mapping[str, Any] | Sequence[Any],
    truth_name: str = "ground truth",
    predictions_name: str = "predictions",
) -> Scenes:
    """Scenes from parsed JSON: a COCO document, and a results list or a COCO document with scores.

    Ids may be whole numbers or text; text that spells a whole number is that number ("2299" is 2299).
    Images that a document of predictions marks `"truncated": true` were cut by a cap of the model.
    Object ids are not used: pycocotools loses every match whose id is 0, and repeated ids.

    raises  AnnotationError naming file and object for anything that cannot be evaluated as it stands:
            unknown images or categories, scores that are missing or not finite, malformed boxes or masks,
            objects with neither, ids given twice, and documents whose ids mean different things.
    """
    if not isinstance(truth, Mapping) or not isinstance(truth.get("images"), list):
        raise AnnotationError(
            f"{truth_name}: expected a COCO document with `images`, `categories` and `annotations`; "
            f"got {_keys(truth)}. Remedy: give the ground truth first, the predictions second."
        )
    images = _by_id(truth["images"], f"{truth_name}: images")
    if not images:
        raise AnnotationError(f"{truth_name}: no images; expected at least one to evaluate on.")
    categories = _by_id(truth.get("categories") or [], f"{truth_name}: categories")
    if not categories:
        raise AnnotationError(f"{truth_name}: no categories; expected at least one class.")
    if isinstance(predictions, Mapping):
        _check_same_meaning(predictions, truth, predictions_name, truth_name)
        results = predictions.get("annotations")
        truncated = sum(image.get("truncated") is True for image in predictions.get("images") or [])
    else:
        results, truncated = predictions, 0
    annotations = _listed(truth.get("annotations", []), truth_name)
    results = _listed(results, predictions_name)
    sizes = tuple(_size(image, f"{truth_name}: image {key}") for key, image in images.items())
    reader = _Reader(tuple(images), tuple(categories), sizes, truth_name)
    return Scenes(
        tuple(images),
        sizes,
        tuple((key, str(category.get("name", key))) for key, category in categories.items()),
        reader.objects(annotations, truth_name, scored=False),
        reader.objects(results, predictions_name, scored=True),
        truncated,
    )


def as_key(value: object) -> Key | None:
    """An id as evaluation compares it: a whole number, also where text spells one, or text; else None."""
    if isinstance(value, bool) or not isinstance(value, int | str | np.integer):
        return None
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.isascii() and digits.removeprefix("-").isdigit() else value
    return int(value)


def _listed(entries: object, name: str) -> Sequence[Any]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise AnnotationError(
            f"{name}: expected a list of objects, or a COCO document with `annotations`; got {_keys(entries)}."
        )
    return entries


def _by_id(entries: object, where: str) -> dict[Key, Mapping[str, Any]]:
    """The entries by id: whole numbers in increasing order, then text."""
    found: dict[Key, Mapping[str, Any]] = {}
    if not isinstance(entries, Sequence):
        raise AnnotationError(f"{where}: got {_keys(entries)}; expected a list.")
    for place, entry in enumerate(entries):
        key = as_key(entry.get("id")) if isinstance(entry, Mapping) else None
        if key is None:
            raise AnnotationError(
                f"{where}[{place}]: expected an object with a whole number or text as `id`."
            )
        if key in found:
            raise AnnotationError(f"{where}[{place}]: id {key!r} occurs twice; expected it once.")
        found[key] = entry
    return dict(sorted(found.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _check_same_meaning(
    document: Mapping[str, Any], truth: Mapping[str, Any], name: str, truth_name: str
) -> None:
    """Refuse predictions whose ids stand for other images or classes than the ground truth's.

    Classes are compared by name, images by file name without folder and ending, where both documents have them.

    raises  AnnotationError naming the first id that means different things.
    """
    for what, field, label in (("image", "images", "file_name"), ("category", "categories", "name")):
        known = _by_id(truth.get(field) or [], f"{truth_name}: {field}")
        for key, entry in _by_id(document.get(field) or [], f"{name}: {field}").items():
            here, there = entry.get(label), known.get(key, {}).get(label)
            if not isinstance(here, str) or not isinstance(there, str):
                continue
            same = here == there if what == "category" else _stem(here) == _stem(there)
            if not same:
                raise AnnotationError(
                    f"{name}: {what} {key} is {here!r}, but in {truth_name} {what} {key} is {there!r}; "
                    "expected ids to mean the same in both. Remedy: predict with the ground truth's ids "
                    "(`apiece segment … --images-of GT.json`)."
                )


def _stem(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).stem


def _size(image: Mapping[str, Any], who: str) -> Size | None:
    given = (image.get("height"), image.get("width"))
    if given == (None, None):
        return None
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in given):
        raise AnnotationError(
            f"{who}: height and width are {given}; expected whole numbers above 0, or neither."
        )
    return given  # type: ignore[return-value]


def _keys(value: object) -> str:
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(repr, list(value)[:6])) or 'no keys'}"
    return f"a {type(value).__name__}"


@dataclass(frozen=True)
class _Reader:
    """Reads lists of objects against the ground truth's images and categories."""

    image_ids: tuple[Key, ...]
    category_ids: tuple[Key, ...]
    sizes: tuple[Size | None, ...]
    truth_name: str

    def objects(self, entries: Sequence[Any], name: str, scored: bool) -> Objects:
        image_of = {key: i for i, key in enumerate(self.image_ids)}
        label_of = {key: i for i, key in enumerate(self.category_ids)}
        given = _plain_columns(entries, image_of, label_of, scored)
        if given is None:  # something isn't as usual: one by one, so that a message names the object
            given = self._columns(entries, image_of, label_of, name, scored)
        masks, mask_areas, mask_boxes = self._masks(entries, given, name)
        boxes = given.boxes
        unboxed = np.isnan(boxes[:, 0])
        boxes[unboxed] = mask_boxes[unboxed]
        box_areas = boxes[:, 2] * boxes[:, 3]
        segm_areas = np.where(np.isnan(mask_areas), box_areas, mask_areas)
        if not scored:
            segm_areas = box_areas = np.where(np.isnan(given.areas), segm_areas, given.areas)
        return Objects(
            given.images,
            given.labels,
            given.scores,
            given.crowd,
            boxes,
            masks,
            segm_areas,
            box_areas,
            int(unboxed.sum()),
            given.no_effect,
        )

    def _columns(
        self,
        entries: Sequence[Any],
        image_of: Mapping[Key, int],
        label_of: Mapping[Key, int],
        name: str,
        scored: bool,
    ) -> _Columns:
        count = len(entries)
        images, labels = np.zeros(count, np.int64), np.zeros(count, np.int64)
        scores, crowd = np.ones(count), np.zeros(count, np.bool_)
        boxes = np.full((count, 4), np.nan)
        areas = np.full(count, np.nan)
        drawn = np.zeros(count, np.bool_)
        no_effect = 0
        for i, entry in enumerate(entries):
            if not isinstance(entry, Mapping):
                raise AnnotationError(f"{name}: object {i} is {_keys(entry)}; expected an annotation.")
            images[i] = self._place(entry, "image_id", image_of, entries, name, i)
            labels[i] = self._place(entry, "category_id", label_of, entries, name, i)
            if scored:
                scores[i] = _score(entry, name, i)
            else:
                crowd[i] = _flag(entry, name, i)
                no_effect += bool(entry.get("ignore")) and not crowd[i]
                if entry.get("area") is not None:
                    areas[i] = _area(entry, name, i)
            if _has(entry, "bbox"):
                boxes[i] = _box(entry, name, i)
            drawn[i] = _has(entry, "segmentation")
            if not drawn[i] and not _has(entry, "bbox"):
                raise _refusal(
                    name, i, entry, "has neither `segmentation` nor `bbox`; expected one of them or both."
                )
        return _Columns(images, labels, scores, crowd, boxes, areas, drawn, no_effect)

    def _place(
        self,
        entry: Mapping[str, Any],
        field: str,
        known: Mapping[Key, int],
        entries: Sequence[Any],
        name: str,
        i: int,
    ) -> int:
        key = as_key(entry.get(field))
        place = None if key is None else known.get(key)
        if place is not None:
            return place
        strangers = sum(isinstance(e, Mapping) and as_key(e.get(field)) not in known for e in entries)
        what = "images" if field == "image_id" else "categories"
        shown = ", ".join(map(str, list(known)[:5])) + (", …" if len(known) > 5 else "")
        raise _refusal(
            name,
            i,
            entry,
            f"has {field} {entry.get(field)!r}; expected one of the {len(known)} {what} of {self.truth_name} "
            f"({shown}). Remedy: evaluate against the ground truth of these pictures, or take such objects out. "
            f"{strangers} of {len(entries)} objects are concerned.",
        )

    def _masks(
        self, entries: Sequence[Any], given: _Columns, name: str
    ) -> tuple[tuple[dict[str, Any] | None, ...], Float64, Float64]:
        """Each object's RLE, area and x, y, width, height; every one is checked."""
        masks: list[dict[str, Any] | None] = [None] * len(entries)
        areas, boxes = np.full(len(entries), np.nan), np.full((len(entries), 4), np.nan)
        for size, members in self._by_size(entries, given, name).items():
            for start in range(0, len(members), AT_ONCE):
                chosen = members[start : start + AT_ONCE]
                found = measured([entries[i]["segmentation"] for i in chosen], size)
                if found is None:
                    found = _decoded(entries, chosen, size, name)
                for i, rle in zip(chosen, found.rles, strict=True):
                    masks[i] = rle
                areas[chosen], boxes[chosen] = found.areas, found.boxes
        return tuple(masks), areas, boxes

    def _by_size(self, entries: Sequence[Any], given: _Columns, name: str) -> dict[Size, list[int]]:
        """The objects that have a mask, by the size of their picture."""
        by_image: dict[int, list[int]] = {}
        drawn = np.flatnonzero(given.drawn)
        for i, image in zip(drawn.tolist(), given.images[drawn].tolist(), strict=True):
            by_image.setdefault(image, []).append(i)
        by_size: dict[Size, list[int]] = {}
        for image, members in by_image.items():
            size = self.sizes[image] or _size_of_rle([entries[i]["segmentation"] for i in members])
            if size is None:
                raise _refusal(
                    name,
                    members[0],
                    entries[members[0]],
                    f"has a polygon, but {self.truth_name} gives image {self.image_ids[image]} no height and width; "
                    "expected both. Remedy: add them to `images`.",
                )
            by_size.setdefault(size, []).extend(members)
        return by_size


@dataclass(frozen=True, eq=False)
class _Columns:
    """What N entries say but for their masks: as in Objects; boxes and areas are NaN where there is none.

    drawn  bool (N,), which have a segmentation.
    """

    images: Int64
    labels: Int64
    scores: Float64
    crowd: NDArray[np.bool_]
    boxes: Float64
    areas: Float64
    drawn: NDArray[np.bool_]
    no_effect: int


def _plain_columns(
    entries: Sequence[Any], image_of: Mapping[Key, int], label_of: Mapping[Key, int], scored: bool
) -> _Columns | None:
    """All entries at once; None if one is not as JSON usually has it, be it wrong or not."""
    if not set(map(type, entries)) <= {dict}:
        return None
    count = len(entries)
    images = _places([entry.get("image_id") for entry in entries], image_of)
    labels = _places([entry.get("category_id") for entry in entries], label_of)
    scores, crowd, areas = np.ones(count), np.zeros(count, np.bool_), np.full(count, np.nan)
    no_effect = 0
    if scored:
        given = _finite([entry.get("score") for entry in entries])
        if given is None:
            return None
        scores = given
    else:
        flags = [entry.get("iscrowd", 0) for entry in entries]
        if not set(map(type, flags)) <= {int} or not set(flags) <= {0, 1}:
            return None
        crowd = np.array(flags, np.bool_)
        no_effect = sum(bool(entry.get("ignore")) and not entry.get("iscrowd") for entry in entries)
        stated = [entry.get("area") for entry in entries]
        known = [i for i, area in enumerate(stated) if area is not None]
        given = _finite([stated[i] for i in known])
        if given is None or (given < 0).any():
            return None
        areas[known] = given
    rows = [entry.get("bbox") for entry in entries]
    boxed = [i for i, row in enumerate(rows) if row is not None and row != []]
    boxes = np.full((count, 4), np.nan)
    if not all(type(rows[i]) is list and len(rows[i]) == 4 for i in boxed):
        return None
    given = _finite(list(chain.from_iterable(rows[i] for i in boxed)))
    if given is None or (given.reshape(-1, 4)[:, 2:] < 0).any():
        return None
    boxes[boxed] = given.reshape(-1, 4)
    outlines = [entry.get("segmentation") for entry in entries]
    if not set(map(type, outlines)) <= {dict, list, type(None)}:
        return None
    drawn = np.fromiter(map(bool, outlines), np.bool_, count)
    if images is None or labels is None or (np.isnan(boxes[:, 0]) & ~drawn).any():
        return None
    return _Columns(images, labels, scores, crowd, boxes, areas, drawn, no_effect)


def _places(values: list[Any], known: Mapping[Key, int]) -> Int64 | None:
    """The place of each id, int64 (N,); None if one is unknown, or neither whole number nor text."""
    if not set(map(type, values)) <= {int, str}:
        return None
    place_of: dict[Any, int] = {}
    for value in set(values):
        key = as_key(value)
        if key is None or key not in known:
            return None
        place_of[value] = known[key]
    return np.fromiter(map(place_of.__getitem__, values), np.int64, len(values))


def _finite(values: list[Any]) -> Float64 | None:
    """float64 (N,); None if one isn't a finite number."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        numbers = np.array(values, np.float64)
    except OverflowError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _decoded(entries: Sequence[Any], chosen: Sequence[int], size: Size, name: str) -> Measured:
    """The masks of entries of pictures of one size, by way of their pixels."""
    given = [entries[i]["segmentation"] for i in chosen]
    try:
        masks = Masks.from_coco(given, size)
        corners = masks.boxes.astype(np.float64)
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        return Measured(masks.to_coco(), masks.areas.astype(np.float64), boxes)
    except AnnotationError:
        # Decode one by one, so that the message names the object in the file.
        for i, segmentation in zip(chosen, given, strict=True):
            try:
                Masks.from_coco([segmentation], size)
            except AnnotationError as error:
                what = str(error).removeprefix("object 0: ")
                raise AnnotationError(f"{_who(name, i, entries[i])}: {what}") from error
        raise


def _size_of_rle(segmentations: Sequence[Any]) -> Size | None:
    for item in segmentations:
        size = item.get("size") if isinstance(item, Mapping) else None
        if isinstance(size, list | tuple) and len(size) == 2:
            return size[0], size[1]
    return None


def _has(entry: Mapping[str, Any], field: str) -> bool:
    """Whether the field is there; writers leave it out, or write null or an empty list or object."""
    value = entry.get(field)
    return value is not None and not (isinstance(value, Sequence | Mapping) and len(value) == 0)


def _who(name: str, place: int, entry: Mapping[str, Any]) -> str:
    return f"{name}: object {place}" + (f" (id {entry['id']})" if "id" in entry else "")


def _refusal(name: str, place: int, entry: Mapping[str, Any], what: str) -> AnnotationError:
    return AnnotationError(f"{_who(name, place, entry)} {what}")


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    try:
        number = float(value)
    except (TypeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _score(entry: Mapping[str, Any], name: str, place: int) -> float:
    number = _number(entry.get("score"))
    if number is None:
        given = f"score {entry['score']!r}" if "score" in entry else "no score"
        raise _refusal(
            name,
            place,
            entry,
            f"has {given}; expected a finite number, since scores rank the predictions. "
            "Remedy: write the model's confidence, or 1 for every object of a source that has none.",
        )
    return number


def _flag(entry: Mapping[str, Any], name: str, place: int) -> bool:
    value = entry.get("iscrowd", 0)
    if value not in (0, 1):
        raise _refusal(name, place, entry, f"has iscrowd {value!r}; expected 0 or 1.")
    return bool(value)


def _area(entry: Mapping[str, Any], name: str, place: int) -> float:
    number = _number(entry["area"])
    if number is None or number < 0:
        raise _refusal(
            name, place, entry, f"has area {entry['area']!r}; expected a number of pixels, 0 or more."
        )
    return number


def _box(entry: Mapping[str, Any], name: str, place: int) -> list[float]:
    value = entry["bbox"]
    numbers = [_number(v) for v in value] if isinstance(value, list | tuple) else []
    if len(numbers) != 4 or any(n is None for n in numbers) or min(numbers[2:]) < 0:  # type: ignore[type-var, operator]
        raise _refusal(
            name,
            place,
            entry,
            f"has bbox {value!r}; expected four finite numbers x, y, width, height with sides of 0 or more.",
        )
    return numbers  # type: ignore[return-value]
