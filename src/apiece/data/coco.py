"""COCO instances: ground truth and predictions, checked entry by entry, masks made only when a picture is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, GeometryError

HINT = "read_coco(path, strict=False).problems lists them all"


@dataclass(frozen=True)
class ImageRecord:
    """One entry of `images`."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """A COCO document whose entries have been checked.

    path      the file.
    images    its pictures, in the file's order.
    classes   its categories, by id.
    document  images, categories and annotations that were kept, as COCO has them, ids as integers.
    problems  what was found wrong; with errors only if it was read with strict=False.
    """

    path: Path
    images: tuple[ImageRecord, ...]
    classes: ClassMap
    document: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()
    _by_image: Mapping[int, list[dict[str, Any]]] = field(default_factory=dict, repr=False)
    _records: Mapping[int, ImageRecord] = field(default_factory=dict, repr=False)

    @property
    def annotation_count(self) -> int:
        """Objects in the document."""
        return len(self.document["annotations"])

    def image(self, image_id: int) -> ImageRecord:
        """The picture with this id.

        raises  AnnotationError when there is none.
        """
        try:
            return self._records[image_id]
        except KeyError:
            raise AnnotationError(f"{self.path}: has no image with id {image_id}.") from None

    def instances(self, image_id: int) -> Instances:
        """The objects of a picture, with the columns "iscrowd" (bool) and "annotation_id" (int64)."""
        record = self.image(image_id)
        return _instances(
            self._by_image.get(image_id, []), (record.height, record.width), self.classes, str(self.path)
        )


@dataclass(frozen=True, eq=False)
class CocoPredictions:
    """Predictions on the pictures of a truth.

    raw        COCO results, as evaluation takes them, ids as integers.
    has_masks  whether every one has a segmentation.
    """

    path: Path
    raw: list[dict[str, Any]]
    has_masks: bool
    truth: CocoDataset
    _by_image: Mapping[int, list[dict[str, Any]]] = field(repr=False)

    def instances(self, image_id: int) -> Instances:
        """The predictions on a picture, with scores, in the file's order."""
        record = self.truth.image(image_id)
        return _instances(
            self._by_image.get(image_id, []),
            (record.height, record.width),
            self.truth.classes,
            str(self.path),
        )


def read_coco(path: str | Path, *, strict: bool = True) -> CocoDataset:
    """Read and check a COCO instances document.

    strict  True: the first error is raised; warnings (an object without area, or partly outside its picture) are
            kept in `problems`. False: every problem is listed in `problems`, and what can't be used is left out.
    raises  AnnotationError: not JSON, not a COCO document, or with `strict` an entry that doesn't hold: missing or
            double ids, dangling image or category ids, no segmentation, damaged RLE or polygons, NaN.
    """
    path = Path(path)
    document = _load(path)
    if not isinstance(document, dict) or "annotations" not in document:
        raise AnnotationError(
            f"{path}: expected a COCO document, an object with images, annotations and categories; "
            f"found {_kind(document)}."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise AnnotationError(f"{path}: {key!r} is {_kind(document.get(key))}; expected a list.")
    problems: list[Problem] = []

    def problem(where: str, message: str, remedy: str, left_out: str = "", severity: Any = "error") -> None:
        problems.append(Problem(severity, str(path), where, message, remedy, left_out))

    try:
        classes = ClassMap.from_coco(document["categories"])
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None
    records: dict[int, ImageRecord] = {}
    for index, entry in enumerate(document["images"]):
        where = f"images[{index}]"
        number = _integer(entry.get("id")) if isinstance(entry, dict) else None
        if number is None:
            problem(where, "has no whole-number id.", "give every image an integer id.", "the image")
            continue
        size = _integer(entry.get("height")), _integer(entry.get("width"))
        if size[0] is None or size[1] is None or min(size[0], size[1]) < 1:
            problem(
                f"image {number}",
                "has no height and width of at least 1.",
                "add both, in pixels.",
                "the image",
            )
            continue
        if number in records:
            problem(f"image {number}", "stands twice in images.", "give each its own id.", "the second one")
            continue
        records[number] = ImageRecord(number, str(entry.get("file_name", "")), size[0], size[1])

    known = set(classes.ids)
    seen: set[int] = set()
    kept: list[dict[str, Any]] = []
    by_image: dict[int, list[dict[str, Any]]] = {}
    for index, entry in enumerate(document["annotations"]):
        if not isinstance(entry, dict):
            problem(
                f"annotations[{index}]", f"is {_kind(entry)}; expected an object.", "repair it.", "the entry"
            )
            continue
        number = _integer(entry.get("id"))
        where = f"annotation {number}" if number is not None else f"annotations[{index}]"
        if number is None:
            problem(where, "has no whole-number id.", "give every annotation an integer id.", "the object")
            continue
        if number in seen:
            problem(where, "stands twice in annotations.", "give each its own id.", "the second one")
            continue
        image, category = _integer(entry.get("image_id")), _integer(entry.get("category_id"))
        if image not in records:
            text = f"belongs to image {entry.get('image_id')!r}, which is not in images."
            problem(where, text, "add the image, or delete the object.", "the object")
            continue
        if category not in known:
            text = f"has category {entry.get('category_id')!r}, which is not in categories."
            problem(where, text, "add the category, or correct the id.", "the object")
            continue
        record = records[image]
        fault = _segmentation_fault(entry, record)
        if fault:
            problem(where, fault, "redraw or delete the object.", "the object")
            continue
        outside = _outside(entry.get("segmentation"), record)
        if outside:
            problem(where, outside, "nothing: the part outside is cut off.", severity="warning")
        clean = {**entry, "id": number, "image_id": image, "category_id": category}
        clean["iscrowd"] = int(bool(entry.get("iscrowd", 0)))
        if "area" not in clean or "bbox" not in clean:
            try:
                area, box = _area_and_box(clean, record)
            except AnnotationError as error:
                problem(where, f"has a mask that can't be read ({error})", "redraw it.", "the object")
                continue
            clean = {"area": area, "bbox": box} | clean
        if clean["area"] == 0:
            problem(where, "covers no pixel.", "redraw or delete the object.", severity="warning")
        seen.add(number)
        kept.append(clean)
        by_image.setdefault(image, []).append(clean)
    if strict:
        refuse(problems, HINT)
    cleaned = {
        **{k: v for k, v in document.items() if k not in ("images", "annotations")},
        "images": [
            {**e, "id": _integer(e["id"])}
            for e in document["images"]
            if isinstance(e, dict) and _integer(e.get("id")) in records
        ],
        "annotations": kept,
    }
    return CocoDataset(path, tuple(records.values()), classes, cleaned, tuple(problems), by_image, records)


def read_predictions(path: str | Path, truth: CocoDataset) -> CocoPredictions:
    """Read and check predictions: a COCO results list, or a COCO document whose annotations have scores.

    raises  AnnotationError naming the entry: unknown image or category, no or non-finite score, neither box nor
            mask, a mask of another size than its picture.
    """
    path = Path(path)
    document = _load(path)
    rows = document.get("annotations") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise AnnotationError(
            f"{path}: expected a list of COCO results, or a COCO document with annotations."
        )
    known = set(truth.classes.ids)
    raw: list[dict[str, Any]] = []
    by_image: dict[int, list[dict[str, Any]]] = {}
    for index, row in enumerate(rows):
        where = f"{path}: result {index}"
        if not isinstance(row, dict):
            raise AnnotationError(f"{where} is {_kind(row)}; expected an object.")
        image, category = _integer(row.get("image_id")), _integer(row.get("category_id"))
        if image is None or image not in truth._records:
            raise AnnotationError(
                f"{where} belongs to image {row.get('image_id')!r}, which is not in {truth.path}. "
                "Evaluate against the truth of the same pictures."
            )
        if category not in known:
            raise AnnotationError(
                f"{where} has category {row.get('category_id')!r}; {truth.path} knows {sorted(known)}."
            )
        score = row.get("score")
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise AnnotationError(f"{where} has the score {score!r}; expected a finite number.")
        record = truth.image(image)
        if row.get("segmentation") is None and row.get("bbox") is None:
            raise AnnotationError(f"{where} has neither a segmentation nor a bbox.")
        fault = _segmentation_fault(row, record)
        if fault:
            raise AnnotationError(f"{where} {fault}")
        clean = {k: v for k, v in row.items() if v is not None}
        clean |= {"image_id": image, "category_id": category, "score": float(score)}
        raw.append(clean)
        by_image.setdefault(image, []).append(clean)
    return CocoPredictions(path, raw, all("segmentation" in r for r in raw), truth, by_image)


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.load(file, parse_constant=_no_constant)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise AnnotationError(f"{path}: is a folder; expected a JSON file.") from None
    except _ConstantError as error:
        raise AnnotationError(
            f"{path}: holds {error}; JSON knows only finite numbers. Repair its writer."
        ) from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{path}: is not whole, valid JSON ({error}). Copy or export it again."
        ) from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from None


class _ConstantError(Exception):
    pass


def _no_constant(name: str) -> Any:
    raise _ConstantError(name)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "missing", bool: "a truth value"}
    return names.get(type(value), f"a {type(value).__name__}")


def _integer(value: Any) -> int | None:
    """A whole number, also one written as a text or as 3.0; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return int(value)
    return None


def _numbers(values: Any) -> bool:
    """Whether `values` is a list of finite numbers."""
    return isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )


def _segmentation_fault(entry: Mapping[str, Any], record: ImageRecord) -> str | None:
    """What is wrong with an entry's outline, as the end of a sentence; None when it holds."""
    box = entry.get("bbox")
    if box is not None and not (_numbers(box) and len(box) == 4 and box[2] >= 0 and box[3] >= 0):
        return f"has the bbox {str(box)[:60]}; expected four finite numbers x, y, width, height."
    outline = entry.get("segmentation")
    if outline is None:
        return None if box is not None else "has neither a segmentation nor a bbox."
    if isinstance(outline, dict):
        size, counts = outline.get("size"), outline.get("counts")
        if size != [record.height, record.width]:
            return f"has an RLE of size {size}; its image is [{record.height}, {record.width}]."
        if not (
            isinstance(counts, str) or (isinstance(counts, list) and all(type(c) is int for c in counts))
        ):
            return f"has RLE counts that are {_kind(counts)}; expected a text or a list of whole numbers."
        return None
    if not isinstance(outline, list) or not outline:
        return f"has a segmentation that is {_kind(outline) if outline != [] else 'empty'}; expected RLE or polygons."
    for part in outline:
        if not _numbers(part):
            return "has a polygon with something else than finite numbers in it."
        if len(part) < 6 or len(part) % 2:
            return f"has a polygon of {len(part)} numbers; expected x, y of at least three points."
    return None


def _outside(outline: Any, record: ImageRecord) -> str | None:
    if not isinstance(outline, list):
        return None
    for part in outline:
        x, y = part[0::2], part[1::2]
        if min(x) < -1 or min(y) < -1 or max(x) > record.width + 1 or max(y) > record.height + 1:
            return f"has points outside its image of {record.height} × {record.width} (height × width)."
    return None


def _outline_of(row: Mapping[str, Any]) -> Any:
    """The segmentation of an entry; its box, filled, where it has a box alone."""
    if row.get("segmentation") is not None:
        return row["segmentation"]
    x, y, w, h = row["bbox"]
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _masks_of(rows: Sequence[Mapping[str, Any]], size: tuple[int, int], source: str) -> Masks:
    try:
        return Masks.from_coco([_outline_of(row) for row in rows], size)
    except (AnnotationError, GeometryError) as error:
        names = ", ".join(str(row.get("id", row.get("image_id"))) for row in rows[:5])
        raise AnnotationError(f"{source}: objects {names} …: {error}") from None


def _area_and_box(entry: Mapping[str, Any], record: ImageRecord) -> tuple[float, list[float]]:
    masks = Masks.from_coco([_outline_of(entry)], (record.height, record.width))
    x1, y1, x2, y2 = map(float, masks.boxes[0])
    return float(masks.areas[0]), [x1, y1, x2 - x1, y2 - y1]


def _instances(
    rows: Sequence[Mapping[str, Any]], size: tuple[int, int], classes: ClassMap, source: str
) -> Instances:
    return Instances(
        size=size,
        masks=_masks_of(rows, size, source),
        class_ids=np.array([classes.index_of(row["category_id"]) for row in rows], dtype=np.int64),
        scores=np.array([row.get("score", 1.0) for row in rows], dtype=np.float32),
        classes=classes,
        columns={
            "iscrowd": np.array([bool(row.get("iscrowd", 0)) for row in rows], dtype=bool),
            "annotation_id": np.array([row.get("id", 0) for row in rows], dtype=np.int64),
        },
    )
