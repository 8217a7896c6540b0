"""LabelMe: one JSON document beside every picture, with the shapes drawn on it (versions 3 to 5).

Read are polygon, rectangle (as a box), circle, rotation (a turned rectangle) and mask. Shapes of one label and one
group_id are the parts of one object. Points, lines and line strips have no area and are passed over with a warning,
and so are LabelMe's own labels `__ignore__` and `_background_`. Classes are those of labels.txt, if it lies beside the
documents, in its order; then others by name.

A group unites its shapes, so polygons can't leave a hole. What is written has polygons for objects without holes, one
for each part, with a group_id where there are several; a `mask` (LabelMe 5.3 or later) for an object with holes; and
a rectangle for an object that was one.

source  github.com/labelmeai/labelme, labelme/label_file.py and labelme/utils/shape.py (masks include their last row
        and column); the format only.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import ImageLimits, decode_image
from apiece.core.instances import Instances
from apiece.core.masks import MAX_AREA
from apiece.core.polygons import Part
from apiece.data.coco_entries import kind, load_json, whole
from apiece.data.formats.base import (
    FileSource,
    Holds,
    Picture,
    Size,
    Target,
    clean_name,
    find_picture,
)
from apiece.data.formats.drawing import (
    Bool,
    Drawing,
    ShapeError,
    ellipse,
    rectangle,
    rectangles,
    ring_of,
)
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, DataError, ImageError

NAME = "labelme"
TITLE = "LabelMe"
LAYOUT = "NAME.json beside NAME.jpg, a document for each picture"

IGNORED = ("__ignore__", "_background_")
NO_AREA = {"point": "a point", "points": "points", "line": "a line", "linestrip": "a line strip"}
VERSION = "5.5.0"  # what is written: the first versions with masks are 5.3
MOST_BYTES = 2**29  # of a document, which may hold its picture as text
MOST_LABELS = 2**17  # bytes of labels.txt
HEAD = 2**16

Entry = dict[str, Any]


def detect(path: Path) -> bool:
    """Whether `path` is a LabelMe document or a folder of them."""
    try:
        if path.is_file():
            return path.suffix.lower() == ".json" and _is_document(path)
        if not path.is_dir():
            return False
        for pattern in ("*.json", "*/*.json"):
            some = [file for _, file in zip(range(3), path.glob(pattern), strict=False)]
            if some:
                return any(map(_is_document, some))
    except OSError:
        pass
    return False


def _is_document(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= HEAD:
            try:
                document = json.loads(file.read())
            except (ValueError, RecursionError):
                return False
            return _has_shapes(document)
        head = file.read(HEAD)
        file.seek(-HEAD, 2)
        tail = file.read()
    text = (head + tail).decode("utf-8", "replace")
    whole_object = text.lstrip("\ufeff \r\n\t").startswith("{")
    keys = set(re.findall(r'"(shapes|imagePath|imageData|imageHeight|shape_type|group_id)"\s*:', text))
    return whole_object and "shapes" in keys and len(keys) >= 2


def _has_shapes(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("shapes"), list) and "imagePath" in document


@dataclass(frozen=True, eq=False)
class LabelmeSource(FileSource):
    """A folder of LabelMe documents; see the module."""

    def size(self, index: int) -> Size:
        """See Source; of old documents that don't state it, that of the picture inside them."""
        picture = self.pictures[index]
        if picture.path is None and picture.size is None:
            path = self.files[index]
            data = _load(path).get("imageData")
            if isinstance(data, str) and data:
                try:
                    pixels = decode_image(base64.b64decode(data, validate=True), f"{path}: imageData")
                except binascii.Error:
                    raise ImageError(f"{path}: imageData is damaged. Remedy: save it again.") from None
                return int(pixels.shape[0]), int(pixels.shape[1])
        return super().size(index)

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "box_mask" where an object is one rectangle."""
        size, path = self.size(index), self.files[index]
        drawing = Drawing(size, self.classes, str(path), found)
        for place, shape in enumerate(_load(path)["shapes"]):
            where = f"shapes[{place}]"
            if not isinstance(shape, dict):
                drawing.problem(where, f"is {kind(shape)}; expected an object.", "save the file again.")
                continue
            label = shape.get("label")
            if not isinstance(label, str) or not _is_name(label):
                text = f"has the label {str(label)[:60]!r}; expected a name."
                drawing.problem(where, text, "name or delete it.")
                continue
            where += f' ("{label}")'
            if label in IGNORED:
                text = f"is called {label}, which LabelMe means for no object."
                drawing.warn(where, text, "nothing, if so it was meant.", "the shape")
                continue
            try:
                _add(drawing, where, drawing.class_of[label], shape)
            except ShapeError as error:
                drawing.problem(where, str(error), "redraw or delete it.")
        return drawing.instances()


def _add(drawing: Drawing, where: str, class_id: int, shape: Entry) -> None:
    form = shape.get("shape_type") or "polygon"
    group = shape.get("group_id")
    if isinstance(group, dict | list):
        raise ShapeError(f"has a group_id that is {kind(group)}; expected a number or null.")
    if not isinstance(form, str):
        raise ShapeError(f"has a shape_type that is {kind(form)}; expected a text.")
    if form in NO_AREA:
        drawing.no_area(where, NO_AREA[form])
    elif form in ("polygon", "rotation"):
        drawing.ring(where, class_id, ring_of(shape.get("points")), group=group)
    elif form == "rectangle":
        corners = ring_of(shape.get("points"), least=2)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        level = bool(
            np.isin(corners[:, 0], (left, right)).all() and np.isin(corners[:, 1], (top, bottom)).all()
        )
        if len(corners) > 2 and not level:  # some programs turn rectangles
            drawing.ring(where, class_id, corners, group=group)
        else:
            drawing.ring(where, class_id, rectangle(left, top, right, bottom), group=group, box=True)
    elif form == "circle":
        points = ring_of(shape.get("points"), least=2)
        (x, y), (at_x, at_y) = points[:2].tolist()
        radius = math.hypot(at_x - x, at_y - y)
        drawing.ring(where, class_id, ellipse(x, y, radius, radius), group=group)
    elif form == "mask":
        crop, corner = _bitmap(shape, drawing)
        drawing.bitmap(class_id, crop, corner, group=group)
    else:
        raise ShapeError(f"has the shape_type {form[:60]!r}, which isn't known.")


def _bitmap(shape: Entry, drawing: Drawing) -> tuple[Bool, tuple[int, int]]:
    """The bitmap of a mask, a grey PNG in base64, and x, y of its top-left pixel."""
    (left, top), (right, bottom) = ring_of(shape.get("points"), least=2)[:2].astype(np.int64).tolist()
    text = shape.get("mask")
    if not isinstance(text, str) or not text:
        raise ShapeError("has no mask; expected a PNG in base64.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ShapeError("has a mask that is damaged; expected a PNG in base64.") from None
    height, width = drawing.size
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:26] not in (b"\1\0", b"\2\0", b"\4\0", b"\x08\0"):
        raise ShapeError("has a mask that is no grey PNG of at most 8 bits.")
    limits = ImageLimits(max_pixels=min(height * width, max(drawing.pixels_left, 0)))
    try:
        crop = decode_image(data, "mask", limits=limits)[..., 0] > 0
    except ImageError as error:
        raise ShapeError(f"has a mask that can't be read ({error})") from None
    sides = crop.shape[1] - (right - left), crop.shape[0] - (bottom - top)
    if sides not in ((1, 1), (0, 0)):  # LabelMe's points include the last pixel, other programs' may not
        raise ShapeError(
            f"has a mask of {crop.shape[0]} x {crop.shape[1]} (height x width) between the points {left}, {top} "
            f"and {right}, {bottom}; expected {bottom - top + 1} x {right - left + 1}."
        )
    return crop, (left, top)


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> LabelmeSource:
    """Open a LabelMe document, or all of a folder and its subfolders.

    images  where the pictures lie, if not where imagePath says, nor beside the document.
    raises  DataError if there is no document; AnnotationError, with `strict`, for the first that can't be read.
    """
    root = path.parent if path.is_file() else path
    if not path.exists():
        raise DataError(f"{path}: not found; expected a folder of LabelMe documents. Remedy: check the path.")
    files = [path] if path.is_file() else sorted(path.rglob("*.json"))
    problems: list[Problem] = []
    names: set[str] = set()
    pictures: list[Picture] = []
    documents: list[Path] = []
    taken: dict[str, Path] = {}
    for file in files:
        try:
            document = _load(file)
        except AnnotationError as error:
            if strict or len(files) == 1:
                raise
            text = str(error).removeprefix(f"{file}: ")
            message, _, remedy = text.partition(" Remedy: ")
            problems.append(Problem("error", str(file), "", message, remedy, "the picture"))
            continue
        picture = _picture(root, file, document, len(pictures) + 1, images, problems)
        if picture.name in taken:
            message = (
                f"labels {picture.name}, as {taken[picture.name]} does; expected one document a picture."
            )
            remedy = "merge the documents, or correct imagePath."
            problems.append(
                Problem("error", str(file), "imagePath", message, remedy, "the document's objects")
            )
            continue
        taken[picture.name] = file
        shapes = [shape for shape in document["shapes"] if isinstance(shape, dict)]
        names |= {shape["label"] for shape in shapes if _is_name(shape.get("label"))}
        pictures.append(picture)
        documents.append(file)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    if not documents:
        raise DataError(f"{path}: holds no LabelMe document (.json with shapes). Remedy: name their folder.")
    names -= set(IGNORED)
    listed = _listed_labels(root, names)
    classes = ClassMap((*listed, *sorted(names - set(listed))))
    return LabelmeSource(path, classes, tuple(pictures), tuple(problems), tuple(documents))


def _load(path: Path) -> Entry:
    """A document with its list of shapes.

    raises  AnnotationError if it can't be read or is none.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}). Remedy: check the file.") from None
    if size > MOST_BYTES:
        raise AnnotationError(
            f"{path}: has {size:,} bytes; expected at most {MOST_BYTES:,}. Remedy: save it without imageData."
        )
    document = load_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise AnnotationError(
            f"{path}: is {kind(document)} without a list of shapes; expected a LabelMe document. "
            "Remedy: move other JSON files elsewhere."
        )
    return document


def _picture(
    root: Path, file: Path, document: Entry, number: int, images: Path | None, problems: list[Problem]
) -> Picture:
    given = document.get("imagePath")
    given = given if isinstance(given, str) else ""
    own = file.relative_to(root)
    last = PurePosixPath(clean_name(given)).name
    if not last or "\0" in last:
        message = f"has imagePath {given[:60]!r}; expected the picture's path."
        problems.append(Problem("warning", str(file), "imagePath", message, "write it."))
        last = own.stem
    folders = [file.parent] if images is None else [images / own.parent, images]
    path = find_picture(given or last, folders)
    size = tuple(whole(document.get(key)) for key in ("imageHeight", "imageWidth"))
    if any(document.get(key) is not None for key in ("imageHeight", "imageWidth")) and not _is_size(size):
        message = f"has imageHeight {document.get('imageHeight')!r:.40} and imageWidth "
        message += f"{document.get('imageWidth')!r:.40}; expected both, in pixels."
        problems.append(Problem("warning", str(file), "", message, "save the file again."))
    stated = (size[0] or 0, size[1] or 0) if _is_size(size) else None
    return Picture((own.parent / last).as_posix(), path, number, stated)


def _is_size(size: tuple[int | None, ...]) -> bool:
    height, width = size
    return height is not None and width is not None and min(height, width) > 0 and height * width <= MAX_AREA


def _is_name(label: Any) -> bool:
    return isinstance(label, str) and bool(label.strip())


def _listed_labels(root: Path, names: set[str]) -> tuple[str, ...]:
    """The classes of labels.txt, one a line, in its order; () where there is no such file.

    LabelMe's own examples have it one folder up; there it counts only if it lists every name that occurs.
    """
    for file in (root / "labels.txt", root.parent / "labels.txt"):
        try:
            if not file.is_file() or file.stat().st_size > MOST_LABELS:
                continue
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError):
            continue
        listed = tuple(dict.fromkeys(line for line in lines if line and line not in IGNORED))
        if file.parent == root or names <= set(listed):
            return listed
    return ()


class LabelmeTarget(Target):
    """Writes NAME.json beside NAME.jpg, and labels.txt with the classes in order; see the module for shapes."""

    holds = Holds()

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = self.flat_name(picture)
        height, width = objects.size
        document: Entry = {
            "version": VERSION,
            "flags": {},
            "shapes": _shapes(objects),
            "imagePath": str(name),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        self.copy_picture(picture, name)
        self._write(f"{name.stem}.json", json.dumps(document, ensure_ascii=False))
        return str(name)

    def finish(self) -> None:
        """Write labels.txt as LabelMe's own converters expect it."""
        self._write("labels.txt", "".join(f"{name}\n" for name in (*IGNORED, *self.classes.names)))

    def _write(self, name: str, text: str) -> None:
        place = self.folder / name
        try:
            place.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{place}: cannot be written ({error.strerror}).") from None
        except UnicodeEncodeError:
            raise DataError(f"{place}: holds a name that is no valid text. Remedy: rename it.") from None


def _shapes(objects: Instances) -> list[Entry]:
    """The shapes of all objects that have a pixel."""
    shapes: list[Entry] = []
    boxes = rectangles(objects.masks, objects.columns.get("box_mask"))
    outlines = objects.masks.to_polygons()
    for i, parts in enumerate(outlines):
        label = objects.classes.name_of(int(objects.class_ids[i]))
        if not parts:
            continue
        if boxes[i]:
            x0, y0, x1, y1 = objects.masks[i : i + 1].boxes[0].tolist()
            shapes.append(_shape(label, "rectangle", [[x0, y0], [x1, y1]]))
        elif any(holes for _, holes in parts):
            shapes.append(_mask(label, objects, i))
        else:
            shapes += _polygons(label, parts, i)
    return shapes


def _polygons(label: str, parts: list[Part], number: int) -> list[Entry]:
    group = number if len(parts) > 1 else None
    return [_shape(label, "polygon", ring.tolist(), group) for ring, _ in parts]


def _mask(label: str, objects: Instances, i: int) -> Entry:
    from PIL import Image

    crop = objects.masks.crop(i)
    x, y = objects.masks.offsets[i].tolist()
    file = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8)).save(file, "PNG")
    last = [x + crop.shape[1] - 1, y + crop.shape[0] - 1]
    shape = _shape(label, "mask", [[x, y], last])
    return shape | {"mask": base64.b64encode(file.getvalue()).decode("ascii")}


def _shape(label: str, form: str, points: list[Any], group: int | None = None) -> Entry:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": form,
        "flags": {},
        "mask": None,
    }


TARGET = LabelmeTarget
