"""Reading COCO files: ground truth and predictions, every entry checked before any is used."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.classes import ClassMap
from apiece.data.coco_codes import CodeCheck
from apiece.data.coco_document import CocoDataset, CocoPredictions, ImageRecord
from apiece.data.coco_entries import (
    Entry,
    Finding,
    check_outline,
    finite,
    kind,
    load_json,
    mend_area,
    mend_crowd,
    whole,
)
from apiece.data.coco_index import ID, CocoIndex, Int64, as_rows
from apiece.data.coco_lists import LISTS, Findings, lists_of, read_categories, read_images
from apiece.data.json_stream import JsonText
from apiece.data.problems import refuse
from apiece.errors import AnnotationError

LIMIT = 2**63  # ids are below
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
    text = JsonText(path)
    members = lists_of(text)
    problems = Findings(path)
    categories = [category for category, _, _ in text.items(members["categories"])]
    classes = read_categories(path, categories, problems)
    records, spans = read_images(text.items(members["images"]), problems)
    rows = _annotations(text.items(members["annotations"]), records, classes, problems)
    for key in members.keys() - set(LISTS):
        text.check(members[key])
    found_problems = problems.all()
    if strict:
        refuse(found_problems, HINT)
    index = CocoIndex(text, members, spans, categories, rows)
    return CocoDataset(path, tuple(records.values()), classes, found_problems, index, records)


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
    problems = Findings(path)
    if truth is None:
        truth = _told_by(path, document, rows, problems)
    known = truth.classes.ids
    raw: list[Entry] = []
    by_image: dict[int, list[Entry]] = {}
    codes = CodeCheck()
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
                codes.add(index, partial(str, where), clean["segmentation"], record.size)
    codes.report(problems)
    refuse(problems.all())
    return CocoPredictions(path, raw, all("segmentation" in row for row in raw), truth, by_image)


def _annotations(
    entries: Iterable[tuple[Any, int, int]],
    records: Mapping[int, ImageRecord],
    classes: ClassMap,
    problems: Findings,
) -> Int64:
    """The entries that can be used, as rows of a CocoIndex."""
    names = dict(zip(classes.ids, classes.names, strict=True))
    seen: set[int] = set()
    unnumbered: list[int] = []
    rows = array("q")
    kept = 0
    codes = CodeCheck()
    for index, (entry, start, end) in enumerate(entries):
        if not isinstance(entry, dict):
            text = f"is {kind(entry)}; expected an object."
            finding = Finding("error", text, "export the file again.", "the entry")
            problems.add(f"annotations[{index}]", finding)
            continue
        number, image, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
        if (
            type(number) is not int
            or type(image) is not int
            or type(category) is not int
            or not (-LIMIT < number < LIMIT and image in records and category in names)
        ):
            where = f"annotations[{index}]"
            number = problems.number(where, entry, "id")
            image = problems.number(where, entry, "image_id")
            category = problems.number(where, entry, "category_id")
            if image is None or image not in records or category is None or category not in names:
                where = _where(index, number, None if category is None else names.get(category))
                problems.add(where, _dangling(entry, image, records, classes))
                continue
        where_of = partial(_where, index, number, names[category])
        record = records[image]
        findings = check_outline(entry, record.height, record.width)
        if findings:
            for finding in findings:
                problems.add(where_of(), finding)
            if any(finding.left_out == "the object" for finding in findings):
                continue
        if number is None or number in seen:
            what = f"has id {entry.get('id')!r}" if number is None else "stands twice in annotations"
            remedy = "give every annotation an id of its own."
            problems.add(where_of(), Finding("error", f"{what}; expected integer ids that differ.", remedy))
            unnumbered.append(kept)
            number = 0
        else:
            seen.add(number)
        crowd = mend_crowd(entry)
        if crowd:
            problems.add(where_of(), crowd)
        outline = entry.get("segmentation")
        if outline is None:
            problems.often(
                where_of(),
                "has a box but no segmentation: its mask is empty",
                "draw outlines, if masks are wanted.",
            )
        elif type(outline) is dict:
            codes.add(kept, where_of, outline, record.size)
        for finding in mend_area(entry):
            problems.add(where_of(), finding)
        rows.extend((start, end, number, image, category, outline is not None))
        kept += 1
    made = as_rows(rows).copy()
    first = max(seen, default=0) + 1
    free = (one for one in count(first if first + kept < LIMIT else 1) if one not in seen)
    made[unnumbered, ID] = list(islice(free, len(unnumbered)))
    damaged = codes.report(problems)
    return np.delete(made, damaged, axis=0) if damaged else made


def _where(index: int, number: int | None, name: str | None) -> str:
    """What an annotation is called: by its id and class as far as it has them."""
    place = f"annotations[{index}]" if number is None else f"annotation {number}"
    return place if name is None else f'{place} ("{name}")'


def _dangling(
    entry: Entry, image: int | None, records: Mapping[int, ImageRecord], classes: ClassMap
) -> Finding:
    """What is wrong with an annotation whose image or else category isn't there."""
    if image is None:
        text = f"has image_id {entry.get('image_id')!r}; expected the whole-number id of an image."
        return Finding("error", text, "add the image, or delete the object.", "the object")
    if image not in records:
        text = f"belongs to image {entry.get('image_id')!r}, which is not in images."
        return Finding("error", text, "add the image, or delete the object.", "the object")
    text = f"has category {entry.get('category_id')!r}, which is not in categories ({_ids(classes.ids)})."
    return Finding("error", text, "add the category, or correct the id.", "the object")


def _told_by(path: Path, document: Any, rows: list[Any], problems: Findings) -> CocoDataset:
    """Pictures and categories as a file of predictions tells them itself."""
    if isinstance(document, dict) and isinstance(document.get("images"), list):
        records, _ = read_images(((entry, 0, 0) for entry in document["images"]), problems)
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
        records = {number: ImageRecord(number, "", *size) for number, size in sizes.items()}
    if isinstance(document, dict) and isinstance(document.get("categories"), list):
        classes = read_categories(path, document["categories"], problems)
    else:
        found = {whole(row.get("category_id")) for row in rows if isinstance(row, dict)} - {None}
        ids = tuple(sorted(number for number in found if number is not None))
        classes = ClassMap(tuple(f"category {number}" for number in ids), ids)
    return CocoDataset(path, tuple(records.values()), classes, (), None, records)


def _ids(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:8]))
    return shown + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
