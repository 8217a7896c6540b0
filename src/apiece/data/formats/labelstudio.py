"""Label Studio: its JSON export, a list of tasks, each a picture with the results of its annotations.

Read are brush masks (in its own run lengths, see `labelstudio_rle`), polygons, rectangles and ellipses, each with the
labels of its own tag or of a `Labels` tag beside it. A rectangle is a box ("box_mask"), unless it is turned. Key
points, lines, choices and texts have no area and are passed over with a warning. Of several annotations of a task the
first that wasn't cancelled is read; predictions aren't. A task without annotation wasn't labelled, so its picture is
left out. Classes are the labels that occur, by name, as an export doesn't list them.

Addresses of pictures are never fetched: the file name at their end is searched in the picture folder, also without the
eight hexadecimal digits and "-" that Label Studio puts before the names of uploads.

What is written has a brush mask for each object, exact with holes, parts and overlaps, and a rectangle for an object
that was one; pictures are named as `/data/local-files/?d=images/NAME`, for a Label Studio that serves this folder.

source  labelstud.io/guide/export, "Label Studio JSON format of annotated tasks".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote, unquote

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES
from apiece.core.instances import Instances
from apiece.core.masks import MAX_AREA
from apiece.data.coco_entries import finite, kind
from apiece.data.formats.base import Holds, Picture, Size, Source, Target, clean_name, find_picture
from apiece.data.formats.drawing import (
    Drawing,
    Ring,
    ShapeError,
    bitmap_of_rows,
    ellipse,
    rectangle,
    rectangles,
    ring_of,
    turned,
)
from apiece.data.formats.labelstudio_rle import decode, encode
from apiece.data.json_stream import JsonText, Span
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, DataError

NAME = "labelstudio"
TITLE = "Label Studio JSON"
LAYOUT = "tasks.json, a list of tasks; pictures in images/"

DOCUMENT = "tasks.json"
HEAD = 2**16
AREAS = ("brush", "polygon", "rectangle", "ellipse")
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
BOM = b"\xef\xbb\xbf"

Entry = dict[str, Any]


def detect(path: Path) -> bool:
    """Whether `path` is a Label Studio export, or a folder with one."""
    try:
        if path.is_file():
            return path.suffix.lower() == ".json" and _is_export(path)
        return path.is_dir() and bool(_exports(path))
    except OSError:
        return False


def _exports(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.json"))
    return [file for file in files[:20] if _is_export(file)]


def _is_export(path: Path) -> bool:
    with path.open("rb") as file:
        text = file.read(HEAD).removeprefix(BOM).decode("utf-8", "replace")
    if not re.match(r"\s*\[\s*\{", text):
        return False
    try:
        task, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):  # longer than the head
        return bool(re.search(r'"(annotations|completions)"\s*:\s*\[', text)) and bool(
            re.search(r'"(result|completed_by|was_cancelled|from_name)"\s*:', text)
        )
    return _is_task(task)


def _is_task(task: Any) -> bool:
    return (
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and any(isinstance(task.get(key), list) for key in ("annotations", "completions", "predictions"))
    )


@dataclass(frozen=True, eq=False)
class LabelStudioSource(Source):
    """A Label Studio export, of which tasks are read one at a time."""

    text: JsonText = field(default=cast(JsonText, None))
    tasks: tuple[Span, ...] = field(default=())  # where each picture's task lies in the file

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.text.path

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "box_mask" where an object is a rectangle that isn't turned."""
        size, picture = self.size(index), self.pictures[index]
        (task,) = self.text.values([self.tasks[index]])
        drawing = Drawing(size, self.classes, str(self.text.path), found, picture.name)
        _, annotation = _chosen(task)
        results = annotation["result"] if annotation else []
        labels = _labels(results)
        for place, result in enumerate(results):
            where = f"result {place}"
            if not isinstance(result, dict):
                drawing.problem(where, f"is {kind(result)}; expected an object.", "export it again.")
                continue
            form = _form(result)
            if form == "labels":  # the name of another result
                continue
            names = labels[place]
            where += f' ("{names[0]}")' if names else ""
            if form not in AREAS:
                drawing.no_area(where, f"of the type {str(result.get('type'))[:40]!r}")
                continue
            try:
                if not names:
                    raise ShapeError("has no label.")
                _add(drawing, where, drawing.class_of[names[0]], form, result)
            except ShapeError as error:
                drawing.problem(where, str(error), "correct or delete it.")
                continue
            if len(names) > 1:
                text = f"has {len(names)} labels; the first is taken."
                drawing.warn(where, text, "give every region one label.", "the other labels")
        return drawing.instances()


def _form(result: Entry) -> str:
    """brush, polygon, rectangle, ellipse, labels, or what else the type says."""
    given = result.get("type")
    form = given.lower() if isinstance(given, str) else ""
    return form if form == "labels" else form.removesuffix("labels")


def _labels(results: list[Any]) -> list[list[str]]:
    """The labels of each result: its own, or those of another result of the same region."""
    own: list[list[str]] = []
    of_region: dict[str, list[str]] = {}
    for result in results:
        names: list[str] = []
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict):
            for key in ("labels", *(f"{form}labels" for form in AREAS)):
                listed = value.get(key)
                if isinstance(listed, list):
                    names += [name for name in listed if isinstance(name, str) and name.strip()]
        own.append(names)
        if names and isinstance(result.get("id"), str):
            of_region.setdefault(result["id"], names)
    return [
        names or (of_region.get(str(result.get("id")), []) if isinstance(result, dict) else [])
        for names, result in zip(own, results, strict=True)
    ]


def _add(drawing: Drawing, where: str, class_id: int, form: str, result: Entry) -> None:
    value = result.get("value")
    if not isinstance(value, dict):
        raise ShapeError(f"has a value that is {kind(value)}; expected an object.")
    size = _size(result)
    if size != drawing.size:
        raise ShapeError(
            f"was drawn on a picture of {result.get('original_height')!r:.20} x "
            f"{result.get('original_width')!r:.20} (height x width); expected {drawing.size[0]} x {drawing.size[1]}."
        )
    if result.get("image_rotation"):
        raise ShapeError(
            f"was drawn on the picture turned by {result['image_rotation']!r:.20} degrees, which can't be read."
        )
    if form == "brush":
        if value.get("format", "rle") != "rle":
            raise ShapeError(f"has the format {value['format']!r:.20}; expected rle.")
        counts = decode(value.get("rle"), size)
        crop, corner = bitmap_of_rows(counts, size, drawing.pixels_left)
        drawing.bitmap(class_id, crop, corner)
    elif form == "polygon":
        drawing.ring(where, class_id, _in_pixels(value.get("points"), size))
    elif form == "rectangle":
        x, y, width, height = (_percent(value, key) for key in ("x", "y", "width", "height"))
        (left, top), (right, bottom) = _in_pixels([[x, y], [x + width, y + height]], size, 2).tolist()
        degrees = _percent(value, "rotation", 0)
        ring = turned(rectangle(left, top, right, bottom), (left, top), degrees)
        drawing.ring(where, class_id, ring, box=degrees % 360 == 0)
    else:
        x, y, radius_x, radius_y = (_percent(value, key) for key in ("x", "y", "radiusX", "radiusY"))
        (x, y), (radius_x, radius_y) = _in_pixels([[x, y], [radius_x, radius_y]], size, 2).tolist()
        drawing.ring(where, class_id, ellipse(x, y, radius_x, radius_y, _percent(value, "rotation", 0)))


def _percent(value: Entry, key: str, default: float | None = None) -> float:
    number = value.get(key, default)
    if number is None or not finite(number):
        raise ShapeError(f"has {key} {number!r:.40}; expected a number.")
    return float(number)


def _in_pixels(points: Any, size: Size, least: int = 3) -> Ring:
    """Points in percent of width and height, in pixels."""
    return ring_of(ring_of(points, least) * (size[1] / 100, size[0] / 100), least)


def _size(entry: Any) -> Size | None:
    """(height, width) of the picture on which a result was drawn, or as the data of a task written here state it."""
    if not isinstance(entry, dict):
        return None
    height, width = (entry.get(key) for key in ("original_height", "original_width"))
    if type(height) is not int or type(width) is not int:
        return None
    return (height, width) if min(height, width) > 0 and height * width <= MAX_AREA else None


def _chosen(task: Entry) -> tuple[int, Entry | None]:
    """Number of annotations of a task that count, and the first of them."""
    given = task.get("annotations", task.get("completions"))
    made = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    kept = [
        one
        for one in made
        if not one.get("was_cancelled") and not one.get("skipped") and isinstance(one.get("result"), list)
    ]
    return len(kept), kept[0] if kept else None


# ---- opened


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> LabelStudioSource:
    """Open a Label Studio export, or the only one in a folder. It is read once, a task at a time.

    images  where the pictures lie, if not in `images` beside the document, or beside it.
    raises  AnnotationError if it isn't such an export or, with `strict`, for the first task that is none.
    """
    document = _document(path)
    text = JsonText(document)
    problems: list[Problem] = []
    base = images or document.parent
    folders = [base] if images else [base / "images", base]
    names: set[str] = set()
    pictures: list[Picture] = []
    spans: list[Span] = []
    taken: set[str] = set()
    addresses: set[str] = set()
    for place, (task, span) in enumerate(_tasks(text)):
        where = (
            f"task {task['id']}" if isinstance(task, dict) and type(task.get("id")) is int else f"[{place}]"
        )

        def note(
            severity: Any, message: str, remedy: str, left_out: str = "the picture", where: str = where
        ) -> None:
            problems.append(Problem(severity, str(document), where, message, remedy, left_out))

        if not _is_task(task):
            _refuse_other(document, task)
            note("error", f"is {kind(task)} without data and annotations; expected a task.", "export again.")
            continue
        address = _address(task["data"])
        if address is None:
            note("error", "has no address of a picture in its data.", "export again.")
            continue
        count, annotation = _chosen(task)
        if task.get("predictions"):
            remedy = "nothing; accept them in Label Studio where they are wanted."
            note("warning", "has predictions, which are not read.", remedy, "the predictions")
        if annotation is None:
            note(
                "warning", "has no annotation, so its picture wasn't labelled.", "label it, or leave it out."
            )
            continue
        if count > 1:
            message = f"has {count} annotations; the first is taken."
            note("warning", message, "delete the others, or accept that.", "the other annotations")
        results = annotation["result"]
        drawn = [
            labels[0]
            for result, labels in zip(results, _labels(results), strict=True)
            if labels and isinstance(result, dict) and _form(result) in AREAS
        ]
        names.update(drawn)
        name, picture = _found(address, folders)
        if address in addresses or (name in taken and picture is not None):
            message = f"is of {name}, as another task is; expected a task for each picture."
            note("error", message, "delete one of them.")
            continue
        addresses.add(address)
        if name in taken:  # found nowhere, so only the whole addresses tell them apart
            name = f"{PurePosixPath(name).stem}-task{place}{PurePosixPath(name).suffix}"
        taken.add(name)
        size = next((size for one in (*results, task["data"]) if (size := _size(one))), None)
        pictures.append(Picture(name, picture, len(pictures) + 1, size))
        spans.append(span)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    classes = ClassMap(tuple(sorted(names)))
    return LabelStudioSource(path, classes, tuple(pictures), tuple(problems), text, tuple(spans))


def _document(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = _exports(path)
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} Label Studio exports ({', '.join(file.name for file in found[:5])})"
    raise DataError(
        f"{path}: holds {what if found else 'no Label Studio export (.json)'}; expected one. "
        "Remedy: name the document."
    )


def _tasks(text: JsonText) -> Iterator[tuple[Any, Span]]:
    head = text.pieces([(0, HEAD)])[0]
    start = len(head) - len(head.removeprefix(BOM).lstrip())
    tail = text.pieces([(max(0, text.size - HEAD), text.size)])[0]
    end = text.size - (len(tail) - len(tail.rstrip()))
    if head[start : start + 1] != b"[":
        raise AnnotationError(
            f"{text.path}: is no list of tasks; expected Label Studio's JSON export. Remedy: export as JSON."
        )
    for task, begin, behind in text.items(Span(start, end)):
        yield task, Span(begin, behind)


def _refuse_other(document: Path, task: Any) -> None:
    """Raise for documents that are lists of something else, so that they are not told entry by entry."""
    if not isinstance(task, dict) or "data" in task:
        return
    if "image_id" in task:
        what = "a list of COCO results"
    elif isinstance(task.get("id"), int) and "image" in task:
        what = "Label Studio's JSON-MIN"
    else:
        return
    raise AnnotationError(f"{document}: is {what}; expected Label Studio's JSON. Remedy: export as JSON.")


def _address(data: Entry) -> str | None:
    """The picture's address: data's `image`, else the first text that ends like a picture."""
    texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
    for text in texts:
        if PurePosixPath(_bare(text)).suffix.lower() in SUFFIXES:
            return text
    image = data.get("image")
    return image if isinstance(image, str) and PurePosixPath(_bare(image)).name else None


def _bare(address: str) -> str:
    """The path in an address, without its server, query and percent signs."""
    if "/local-files/" in address and "?d=" in address:
        path = address.split("?d=", 1)[1].split("&")[0]
    elif re.match(r"[a-z][a-z0-9+.-]+://", address, re.IGNORECASE):
        path = re.sub(r"^[^:]+://", "", address).split("?")[0].split("#")[0]
    else:
        path = address
    return clean_name(unquote(path)).replace("\0", "")


def _found(address: str, folders: list[Path]) -> tuple[str, Path | None]:
    """A picture's name and file: the longest end of the address that is a path within a picture folder."""
    bare = PurePosixPath(_bare(address))
    parts = [part for part in bare.parts if part not in ("/", "..") and ":" not in part]
    ends = ["/".join(parts[begin:]) for begin in range(len(parts))]
    ends += [UPLOADED.sub("", bare.name, count=1), PurePosixPath(clean_name(address)).name]
    for end in dict.fromkeys(ends):
        for folder in folders:
            path = find_picture(end, [folder])
            if path is not None and path == folder / end:
                inner = next(one for one in folders if path.is_relative_to(one))
                return path.relative_to(inner).as_posix(), path
    return bare.name, None


# ---- written


class LabelStudioTarget(Target):
    """Writes tasks.json, to be imported, and images/NAME."""

    holds = Holds()
    document = DOCUMENT

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self._count = 0
        self.append(DOCUMENT, "[")

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = str(self.flat_name(picture))
        self.copy_picture(picture, PurePosixPath("images", name))
        self._count += 1
        task = {
            "id": self._count,
            "data": {
                "image": f"/data/local-files/?d=images/{quote(name)}",
                "original_width": objects.size[1],  # a task without results has no other place for it
                "original_height": objects.size[0],
            },
            "annotations": [{"id": self._count, "was_cancelled": False, "result": _results(objects)}],
            "predictions": [],
        }
        try:
            written = json.dumps(task, ensure_ascii=False, separators=(",", ":"))
            self.append(DOCUMENT, (",\n" if self._count > 1 else "\n") + written)
        except UnicodeEncodeError:
            raise DataError(
                f"{picture.name}: holds a name that is no valid text. Remedy: rename it."
            ) from None
        return name

    def finish(self) -> None:
        """Close the list."""
        self.append(DOCUMENT, "\n]\n")


def _results(objects: Instances) -> list[Entry]:
    """A result for each object that has a pixel."""
    height, width = objects.size
    boxes = rectangles(objects.masks, objects.columns.get("box_mask"))
    results: list[Entry] = []
    for i in range(len(objects)):
        x0, y0, x1, y1 = objects.masks[i : i + 1].boxes[0].tolist()
        if x1 == x0:
            continue
        name = objects.classes.name_of(int(objects.class_ids[i]))
        value: Entry
        if boxes[i]:
            form = "rectanglelabels"
            value = {
                "x": 100 * x0 / width,
                "y": 100 * y0 / height,
                "width": 100 * (x1 - x0) / width,
                "height": 100 * (y1 - y0) / height,
                "rotation": 0,
            }
        else:
            form = "brushlabels"
            # COCO counts down the columns; those of the mask with x and y exchanged are counts along the rows.
            exchanged = objects.masks[i : i + 1].rotate90().flip(horizontal=False)
            (rle,) = exchanged.to_coco(compressed=False)
            value = {"format": "rle", "rle": encode(rle["counts"], objects.size)}
        results.append(
            {
                "id": f"object{i}",
                "type": form,
                "from_name": "tag" if form == "brushlabels" else "box",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": value | {form: [name]},
            }
        )
    return results


TARGET = LabelStudioTarget
