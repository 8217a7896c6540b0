"""Scenes from parsed COCO JSON, every object checked and none dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from apiece.core.masks import Masks
from apiece.errors import AnnotationError
from apiece.evaluate.scenes import Float64, Key, Objects, Scenes, Size

AT_ONCE = 64  # masks decoded together: enough to be quick, few enough to be small


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
        count = len(entries)
        images, labels = np.zeros(count, np.int64), np.zeros(count, np.int64)
        scores, crowd = np.ones(count), np.zeros(count, np.bool_)
        boxes = np.full((count, 4), np.nan)
        areas = np.full(count, np.nan)
        no_effect = 0
        segmentations: dict[int, list[int]] = {}
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
            if _has(entry, "segmentation"):
                segmentations.setdefault(int(images[i]), []).append(i)
            elif not _has(entry, "bbox"):
                raise _refusal(
                    name, i, entry, "has neither `segmentation` nor `bbox`; expected one of them or both."
                )
        masks, mask_areas, mask_boxes = self._masks(entries, segmentations, name)
        unboxed = np.isnan(boxes[:, 0])
        boxes[unboxed] = mask_boxes[unboxed]
        box_areas = boxes[:, 2] * boxes[:, 3]
        segm_areas = np.where(np.isnan(mask_areas), box_areas, mask_areas)
        if not scored:
            segm_areas = box_areas = np.where(np.isnan(areas), segm_areas, areas)
        return Objects(
            images, labels, scores, crowd, boxes, masks, segm_areas, box_areas, int(unboxed.sum()), no_effect
        )

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
        self, entries: Sequence[Any], by_image: Mapping[int, list[int]], name: str
    ) -> tuple[tuple[dict[str, Any] | None, ...], Float64, Float64]:
        """Each object's RLE, area and x, y, width, height; all are decoded, so that all are checked."""
        masks: list[dict[str, Any] | None] = [None] * len(entries)
        areas, boxes = np.full(len(entries), np.nan), np.full((len(entries), 4), np.nan)
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
        for size, members in by_size.items():
            for start in range(0, len(members), AT_ONCE):
                chosen = members[start : start + AT_ONCE]
                decoded = _decoded(entries, chosen, size, name)
                for i, rle in zip(chosen, decoded.to_coco(), strict=True):
                    masks[i] = rle
                areas[chosen] = decoded.areas
                corners = decoded.boxes.astype(np.float64)
                boxes[chosen] = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        return tuple(masks), areas, boxes


def _decoded(entries: Sequence[Any], chosen: Sequence[int], size: Size, name: str) -> Masks:
    """The masks of entries of pictures of one size."""
    given = [entries[i]["segmentation"] for i in chosen]
    try:
        return Masks.from_coco(given, size)
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
