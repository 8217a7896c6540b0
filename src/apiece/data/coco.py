"""Reading COCO files: ground truth and predictions, every entry checked before any is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from apiece.core.classes import ClassMap
from apiece.core.masks import MAX_AREA, Masks
from apiece.data.coco_document import CocoDataset, CocoPredictions, Entry, ImageRecord, masks_of
from apiece.data.coco_entries import Finding, check_outline, finite, kind, load_json, whole
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, GeometryError

HINT = "`apiece check` lists them"

__all__ = ["CocoDataset", "CocoPredictions", "ImageRecord", "read_coco", "read_predictions"]


def read_coco(path: str | Path, *, strict: bool = True) -> CocoDataset:
    """Read and check a COCO instances document.

    strict  True: the first error is raised; warnings (such as an object without area, or partly outside its
            picture) are kept in `problems`. False: every problem is listed in `problems`, each saying what was
            left out because of it; nothing else is left out.
    raises  AnnotationError: not whole JSON, not a COCO document, categories that don't hold together; with
            `strict` also an entry that doesn't hold: missing or double ids, dangling image or category ids, no
            segmentation, damaged run-length codes or polygons, NaN.
    """
    path = Path(path)
    document = load_json(path)
    if not isinstance(document, dict):
        raise AnnotationError(
            f"{path}: is {kind(document)}; expected a COCO document, an object with images, annotations and "
            "categories. Remedy: a plain list of results is for predictions; name the ground truth."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise AnnotationError(
                f"{path}: {key!r} is {kind(document.get(key))}; expected a list, as COCO instances have it. "
                f"Remedy: export the file as COCO instances, or add {key!r}."
            )
    problems = _Problems(path)
    classes = _classes(path, document["categories"], problems)
    records = _records(document["images"], problems)
    kept, by_image = _annotations(document["annotations"], records, classes, problems)
    found = problems.all()
    if strict:
        refuse(found, HINT)
    cleaned = {
        **document,
        "images": [entry for entry, _ in records.values()],
        "annotations": kept,
        "categories": document["categories"],
    }
    index = {number: record for number, (_, record) in records.items()}
    return CocoDataset(path, tuple(index.values()), classes, cleaned, found, by_image, index)


def read_predictions(path: str | Path, truth: CocoDataset | None = None) -> CocoPredictions:
    """Read and check predictions: a COCO results list, or a COCO document whose annotations have scores.

    truth   the ground truth of the same pictures, which fixes image ids, sizes and categories. Without it they are
            the document's own, or of a list what its entries tell: sizes from run-length codes, and categories
            named by their ids.
    raises  AnnotationError naming the entry by its place in the file, counted from 0: unknown image or category,
            no or non-finite score, neither box nor mask, a mask of another size than its picture.
    """
    path = Path(path)
    document = load_json(path)
    rows = document.get("annotations") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise AnnotationError(
            f"{path}: expected a list of COCO results, or a COCO document whose annotations have scores; it is "
            f"{kind(document)} without annotations. Remedy: export predictions as COCO results."
        )
    problems = _Problems(path)
    if truth is None:
        truth = _told_by(path, document, rows, problems)
    known = truth.classes.ids
    raw: list[Entry] = []
    by_image: dict[int, list[Entry]] = {}
    coded: dict[int, list[tuple[str, Entry]]] = {}
    for index, row in enumerate(rows):
        where = f"result {index}"
        if not isinstance(row, dict):
            problems.add(where, Finding("error", f"is {kind(row)}; expected an object.", "export it again."))
            continue
        image = problems.number(where, row, "image_id")
        category = problems.number(where, row, "category_id")
        score = row.get("score")
        if image is None or image not in truth:
            text = f"belongs to image {row.get('image_id')!r}, which is not in {truth.path}."
            if image is None:
                text = f"has image_id {row.get('image_id')!r}; expected the whole-number id of an image."
            problems.add(where, Finding("error", text, "compare with the truth of the same pictures."))
        elif category is None or category not in known:
            text = f"has category {row.get('category_id')!r}; {truth.path} knows {_ids(known)}."
            problems.add(where, Finding("error", text, "map the model's classes to these category ids."))
        elif not finite(score):
            text = f"has the score {'(none)' if score is None else repr(score)}; expected a finite number."
            problems.add(where, Finding("error", text, "export predictions with their scores."))
        else:
            clean = {key: value for key, value in row.items() if value is not None}
            record = truth.image(image)
            findings = check_outline(clean, record.height, record.width)
            for finding in findings:
                problems.add(where, finding)
            if any(finding.left_out == "the object" for finding in findings):
                continue
            clean |= {"image_id": image, "category_id": category, "score": float(row["score"])}
            raw.append(clean)
            by_image.setdefault(image, []).append(clean)
            if isinstance(clean.get("segmentation"), dict):
                coded.setdefault(image, []).append((where, clean))
    _check_codes(coded, truth.image, problems)
    refuse(problems.all())
    return CocoPredictions(path, raw, all("segmentation" in row for row in raw), truth, by_image)


class _Problems:
    """Collects what is wrong with one file; what occurs on every entry alike is told once, with its number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[Problem] = []
        self._often: dict[tuple[str, str], tuple[str, int]] = {}

    def add(self, where: str, finding: Finding) -> None:
        severity, message, remedy, left_out = finding
        self._found.append(Problem(severity, str(self.path), where, message, remedy, left_out))

    def often(self, where: str, message: str, remedy: str) -> None:
        """A warning that is told once: for the first entry, with the number of all."""
        first, count = self._often.get((message, remedy), (where, 0))
        self._often[message, remedy] = (first, count + 1)

    def number(self, where: str, entry: Mapping[str, Any], key: str) -> int | None:
        """An entry's id as an integer; None if it has none. Ids that are texts or fractions are noted."""
        value = entry.get(key)
        if type(value) is int and -(2**63) < value < 2**63:
            return value
        number = whole(value)
        if number is not None:
            form = "a text" if isinstance(value, str) else "a decimal number"
            self.often(where, f"has its {key} as {form}, not as an integer", "write ids as integers.")
        return number

    def all(self) -> tuple[Problem, ...]:
        often = [
            Problem(
                "warning",
                str(self.path),
                first,
                message + (f"; so have {count - 1} others." if count > 1 else "."),
                remedy,
            )
            for (message, remedy), (first, count) in self._often.items()
        ]
        return (*self._found, *often)


def _classes(path: Path, categories: list[Any], problems: _Problems) -> ClassMap:
    for place, category in enumerate(categories):
        if isinstance(category, dict):
            number = problems.number(f"categories[{place}]", category, "id")
            category["id"] = category.get("id") if number is None else number
    try:
        return ClassMap.from_coco(categories)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None


def _records(entries: list[Any], problems: _Problems) -> dict[int, tuple[Entry, ImageRecord]]:
    records: dict[int, tuple[Entry, ImageRecord]] = {}

    def refused(where: str, message: str, remedy: str, left_out: str = "the image") -> None:
        problems.add(where, Finding("error", message, remedy, left_out))

    for index, entry in enumerate(entries):
        where = f"images[{index}]"
        if not isinstance(entry, dict):
            refused(where, f"is {kind(entry)}; expected an object.", "export the file again.")
            continue
        number = problems.number(where, entry, "id")
        if number is None:
            refused(where, f"has id {entry.get('id')!r}; expected a whole number.", "number the images.")
            continue
        where = f"image {number}"
        height, width = (problems.number(where, entry, key) for key in ("height", "width"))
        if height is None or width is None or min(height, width) < 1 or height * width > MAX_AREA:
            text = f"has height {entry.get('height')!r} and width {entry.get('width')!r}; expected both, in pixels."
            refused(where, text, "write the picture's size.")
            continue
        if number in records:
            text = f"stands twice in images, also as images[{index}]; expected ids that differ."
            refused(where, text, "give every image an id of its own.", "the second image")
            continue
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            remedy = "add it, unless only figures are wanted."
            problems.add(where, Finding("warning", f"has file_name {name!r}; expected a path.", remedy))
            name = ""
        entry["id"], entry["height"], entry["width"] = number, height, width
        records[number] = entry, ImageRecord(number, name, height, width)
    return records


def _annotations(
    entries: list[Any],
    records: Mapping[int, tuple[Entry, ImageRecord]],
    classes: ClassMap,
    problems: _Problems,
) -> tuple[list[Entry], dict[int, list[Entry]]]:
    """The entries that can be used, mended in place; all, and by image."""
    names = dict(zip(classes.ids, classes.names, strict=True))
    seen: set[int] = set()
    unnumbered: list[Entry] = []
    kept: list[Entry] = []
    by_image: dict[int, list[Entry]] = {}
    coded: dict[int, list[tuple[str, Entry]]] = {}
    unmeasured: list[Entry] = []
    for index, entry in enumerate(entries):
        where = f"annotations[{index}]"
        if not isinstance(entry, dict):
            text = f"is {kind(entry)}; expected an object."
            problems.add(where, Finding("error", text, "export the file again.", "the entry"))
            continue
        number = problems.number(where, entry, "id")
        image = problems.number(where, entry, "image_id")
        category = problems.number(where, entry, "category_id")
        if number is not None:
            where = f"annotation {number}"
        if category in names:
            where += f' ("{names[category]}")'
        if image is None or image not in records:
            text = f"belongs to image {entry.get('image_id')!r}, which is not in images."
            if image is None:
                text = f"has image_id {entry.get('image_id')!r}; expected the whole-number id of an image."
            problems.add(where, Finding("error", text, "add the image, or delete the object.", "the object"))
            continue
        if category is None or category not in names:
            text = f"has category {entry.get('category_id')!r}, which is not in categories ({_ids(classes.ids)})."
            problems.add(where, Finding("error", text, "add the category, or correct the id.", "the object"))
            continue
        record = records[image][1]
        findings = check_outline(entry, record.height, record.width)
        for finding in findings:
            problems.add(where, finding)
        if any(finding.left_out == "the object" for finding in findings):
            continue
        if number is None or number in seen:
            what = f"has id {entry.get('id')!r}" if number is None else "stands twice in annotations"
            remedy = "give every annotation an id of its own."
            problems.add(where, Finding("error", f"{what}; expected integer ids that differ.", remedy))
            unnumbered.append(entry)
        else:
            seen.add(number)
            entry["id"] = number
        entry["image_id"], entry["category_id"] = image, category
        crowd = entry.get("iscrowd", 0)
        if type(crowd) is not int or crowd not in (0, 1):
            if crowd not in (0, 1, None):
                text = f"has iscrowd {crowd!r}; expected 0 or 1. It is read as {int(bool(crowd))}."
                problems.add(where, Finding("warning", text, "write 0 or 1."))
            crowd = int(bool(crowd))
        entry["iscrowd"] = crowd
        outline = entry.get("segmentation")
        if outline is None:
            problems.often(
                where,
                "has a box but no segmentation: its mask is empty",
                "draw outlines, if masks are wanted.",
            )
        elif isinstance(outline, dict):
            coded.setdefault(image, []).append((where, entry))
        _check_area(where, entry, unmeasured, problems)
        kept.append(entry)
        by_image.setdefault(image, []).append(entry)
    damaged = _check_codes(coded, lambda image: records[image][1], problems)
    if damaged:
        kept = [entry for entry in kept if id(entry) not in damaged]
        by_image = {i: [e for e in rows if id(e) not in damaged] for i, rows in by_image.items()}
        unmeasured = [entry for entry in unmeasured if id(entry) not in damaged]
    _measure(unmeasured, records)
    for number, entry in enumerate(unnumbered, start=max(seen, default=0) + 1):
        entry["id"] = number
    return kept, by_image


def _check_area(where: str, entry: Entry, unmeasured: list[Entry], problems: _Problems) -> None:
    """Note an entry whose area or box the file doesn't give, and one that covers nothing."""
    if "area" in entry and not (finite(entry["area"]) and entry["area"] >= 0):
        text = f"has area {entry['area']!r}; expected a number of pixels. The mask's own is taken."
        problems.add(where, Finding("warning", text, "nothing."))
        del entry["area"]
    if "area" not in entry or "bbox" not in entry:
        unmeasured.append(entry)
    box = entry.get("bbox")
    if entry.get("area") == 0 or (box is not None and (box[2] == 0 or box[3] == 0)):
        sides = "" if box is None else f" (its bbox is {box[2]:g} wide and {box[3]:g} high)"
        text = f"covers no area{sides}; expected a shape. It is kept, and counted, with what pixels it has."
        problems.add(where, Finding("warning", text, "delete the object, or redraw it."))


def _measure(entries: Iterable[Entry], records: Mapping[int, tuple[Entry, ImageRecord]]) -> None:
    """Give every entry the area and box that it lacks: its mask's, or its box's."""
    by_image: dict[int, list[Entry]] = {}
    for entry in entries:
        by_image.setdefault(entry["image_id"], []).append(entry)
    for image, rows in by_image.items():
        masks = masks_of(rows, records[image][1], lambda i: f"object {i}")
        for row, area, (x1, y1, x2, y2) in zip(rows, masks.areas.tolist(), masks.boxes.tolist(), strict=True):
            if "segmentation" not in row:
                row.setdefault("area", float(row["bbox"][2] * row["bbox"][3]))
            row.setdefault("area", float(area))
            row.setdefault("bbox", [x1, y1, x2 - x1, y2 - y1])


def _check_codes(
    coded: Mapping[int, list[tuple[str, Entry]]],
    image: Callable[[int], ImageRecord],
    problems: _Problems,
) -> set[int]:
    """Report run-length codes that don't decode, as evaluation takes them undecoded; the `id()` of those entries."""
    damaged: set[int] = set()
    for number, rows in coded.items():
        size = (image(number).height, image(number).width)
        try:
            Masks.from_coco([entry["segmentation"] for _, entry in rows], size)
        except (AnnotationError, GeometryError):
            for where, entry in rows:
                try:
                    Masks.from_coco([entry["segmentation"]], size)
                except (AnnotationError, GeometryError) as error:
                    text = str(error).removeprefix("object 0: ").split(" Remedy: ")[0]
                    finding = Finding("error", f"is damaged: {text}", "encode the mask again.", "the object")
                    problems.add(where, finding)
                    damaged.add(id(entry))
    return damaged


def _told_by(path: Path, document: Any, rows: list[Any], problems: _Problems) -> CocoDataset:
    """Pictures and categories as a file of predictions tells them itself."""
    if isinstance(document, dict) and isinstance(document.get("images"), list):
        records = _records(document["images"], problems)
    else:
        sizes: dict[int, tuple[int, int]] = {}
        for index, row in enumerate(rows):
            number = whole(row.get("image_id")) if isinstance(row, dict) else None
            outline = row.get("segmentation") if isinstance(row, dict) else None
            size = outline.get("size") if isinstance(outline, dict) else None
            if number is None or number in sizes:
                continue
            if not (
                isinstance(size, list) and len(size) == 2 and all(type(v) is int and v > 0 for v in size)
            ):
                raise AnnotationError(
                    f"{path}: result {index}: nothing tells how large image {number} is; expected masks as "
                    "run-length codes. Remedy: give the ground truth too."
                )
            sizes[number] = (size[0], size[1])
        records = {
            number: (
                {"id": number, "height": height, "width": width, "file_name": ""},
                ImageRecord(number, "", height, width),
            )
            for number, (height, width) in sizes.items()
        }
    if isinstance(document, dict) and isinstance(document.get("categories"), list):
        classes = _classes(path, document["categories"], problems)
    else:
        found = {whole(row.get("category_id")) for row in rows if isinstance(row, dict)} - {None}
        ids = tuple(sorted(number for number in found if number is not None))
        classes = ClassMap(tuple(f"category {number}" for number in ids), ids)
    told = {number: record for number, (_, record) in records.items()}
    stated = {
        "images": [entry for entry, _ in records.values()],
        "annotations": [],
        "categories": classes.to_coco(),
    }
    return CocoDataset(path, tuple(told.values()), classes, stated, (), {}, told)


def _ids(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:8]))
    return shown + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
