"""CVAT 1.1: one XML document; for images, with an element for each picture, or for video, with an element a track.

Read are polygon, box, ellipse and mask; shapes of one label and one group_id other than 0 are the parts of one object.
A box is a rectangle ("box_mask"), unless it is turned. Polylines, points, cuboids, skeletons and tags of the whole
picture have no area and are passed over with a warning; attributes are not read. The classes are the labels of the
task or project, in its order; where it lists none, those that occur, by name.

What is written is CVAT for images: a `mask` for each object, exact with holes, parts and overlaps, and a `box` for an
object that was one. For video see `cvat_video`.

source  docs.cvat.ai, "XML annotation format" and its "Run-length encoding".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape, quoteattr

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import MAX_AREA
from apiece.data.coco_entries import whole
from apiece.data.formats.base import (
    Holds,
    Picture,
    Size,
    Source,
    Target,
    clean_name,
    find_picture,
    is_confined,
)
from apiece.data.formats.cvat_index import IMAGE, Span, index_of, parsed
from apiece.data.formats.cvat_shapes import add_shape
from apiece.data.formats.cvat_video import CvatVideoSource, open_video
from apiece.data.formats.drawing import Drawing, rectangles, row_counts
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError

NAME = "cvat"
TITLE = "CVAT for images 1.1"
LAYOUT = "annotations.xml, pictures in images/"

DOCUMENT = "annotations.xml"
HEAD = 2**14
# What XML 1.0 can't hold, not even escaped.
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def detect(path: Path) -> bool:
    """Whether `path` is a CVAT document, or a folder with one called annotations.xml."""
    file = path / DOCUMENT if path.is_dir() else path
    try:
        if file.suffix.lower() != ".xml" or not file.is_file():
            return False
        with file.open("rb") as stream:
            head = stream.read(HEAD).decode("utf-8", "replace")
    except OSError:
        return False
    return (
        re.search(r"<annotations\s*>\s*(<!--.*?-->\s*)*<(version|meta|image|track)\b", head, re.S) is not None
    )


@dataclass(frozen=True, eq=False)
class CvatSource(Source):
    """A CVAT document, of which only the places of the pictures' elements are in memory."""

    document: Path = field(default=Path())
    spans: tuple[Span, ...] = field(default=())  # one for each picture

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.document

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "box_mask" where an object is one box."""
        size, name = self.size(index), self.pictures[index].name
        drawing = Drawing(size, self.classes, str(self.document), found, name)
        for place, shape in enumerate(parsed(self.document, [self.spans[index]])):
            add_shape(drawing, place, shape, shape.get("label"), shape.get("group_id"))
        return drawing.instances()


def open_source(
    path: Path, images: Path | None = None, *, strict: bool = True
) -> CvatSource | CvatVideoSource:
    """Open a CVAT document, or the annotations.xml of a folder. It is read once, with a few bytes kept a picture.

    images  where the pictures lie, if not in `images` beside the document, or beside it.
    raises  AnnotationError if it is no such document, breaks off, or holds a DTD or entities.
    """
    document = path / DOCUMENT if path.is_dir() else path
    found = index_of(document)
    if found.tracks or found.is_video:
        return open_video(path, document, found, images, strict=strict)
    problems: list[Problem] = []
    classes = ClassMap(found.labels or tuple(sorted(found.used)))
    pictures: list[Picture] = []
    spans: list[Span] = []
    taken: set[str] = set()
    for place, (attributes, span) in enumerate(found.images):
        where = f"{IMAGE} {place}"
        given = attributes.get("name") or ""
        size = _size(attributes)
        name = _name(given)
        fault = None
        if not name:
            fault = f"has the name {given!r:.60}; expected the picture's path."
        elif size is None:
            fault = (
                f"({name}) has width {attributes.get('width')!r:.20} and height {attributes.get('height')!r:.20}; "
                "expected both, in pixels."
            )
        subset = attributes.get("subset") or ""
        if name in taken and _name(subset):  # projects may hold one name in several subsets
            name = f"{_name(subset)}/{name}"
        if fault is None and name in taken:
            fault = f"({name}) stands twice in the document; expected every picture once."
        if fault:
            remedy = "export the task again, or correct the element."
            problems.append(Problem("error", str(document), where, fault, remedy, "the picture"))
            continue
        taken.add(name)
        base = images or document.parent
        folders = [base] if images else [base / "images", *_of_subset(base / "images", subset), base]
        picture = find_picture(given, folders)
        pictures.append(Picture(name, picture, len(pictures) + 1, size, _split(subset)))
        spans.append(span)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    return CvatSource(path, classes, tuple(pictures), tuple(problems), document, tuple(spans))


def _name(given: str) -> str:
    pure = PurePosixPath(clean_name(given))
    name = pure.as_posix() if is_confined(given) else pure.name
    return "" if "\0" in name or name == ".." else name


def _of_subset(folder: Path, subset: str) -> list[Path]:
    return [folder / subset] if subset and is_confined(subset) else []


def _split(subset: str) -> str:
    known = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
    return known.get(subset.lower(), "")


def _size(attributes: dict[str, str]) -> Size | None:
    height, width = whole(attributes.get("height")), whole(attributes.get("width"))
    if height is None or width is None or min(height, width) < 1 or height * width > MAX_AREA:
        return None
    return height, width


class CvatTarget(Target):
    """Writes annotations.xml and images/NAME; a picture's split is its subset."""

    holds = Holds()
    document = DOCUMENT

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        labels = "".join(f"<label><name>{_text(name)}</name></label>" for name in classes.names)
        self.append(
            DOCUMENT,
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
            f"<meta><task><mode>annotation</mode><labels>{labels}</labels></task></meta>\n",
        )
        self._count = 0

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = str(self.flat_name(picture))
        height, width = objects.size
        subset = f" subset={_quoted(picture.split)}" if picture.split else ""
        self.copy_picture(picture, PurePosixPath("images", name))
        self.append(
            DOCUMENT,
            f'<image id="{self._count}" name={_quoted(name)}{subset} width="{width}" height="{height}">\n'
            + "".join(_shapes(objects))
            + "</image>\n",
        )
        self._count += 1
        return name

    def finish(self) -> None:
        """Close the document."""
        self.append(DOCUMENT, "</annotations>\n")


def _shapes(objects: Instances) -> list[str]:
    """An element for each object that has a pixel."""
    elements = []
    boxes = rectangles(objects.masks, objects.columns.get("box_mask"))
    for i, (crop, (x, y)) in enumerate(objects.masks):
        if crop.size == 0:
            continue
        label = _quoted(objects.classes.name_of(int(objects.class_ids[i])))
        height, width = crop.shape
        common = f'label={label} source="manual" occluded="0" z_order="0"'
        if boxes[i]:
            elements.append(
                f'<box {common} xtl="{x}" ytl="{y}" xbr="{x + width}" ybr="{y + height}"></box>\n'
            )
        else:
            rle = ", ".join(map(str, row_counts(crop)))
            place = f'left="{x}" top="{y}" width="{width}" height="{height}"'
            elements.append(f'<mask {common} rle="{rle}" {place}></mask>\n')
    return elements


def _quoted(text: str) -> str:
    return quoteattr(_writable(text))


def _text(text: str) -> str:
    return escape(_writable(text), {"\r": "&#13;"})


def _writable(text: str) -> str:
    if UNWRITABLE.search(text):
        raise AnnotationError(f"{text!r:.80} holds a character that XML can't hold. Remedy: rename it.")
    return text


TARGET = CvatTarget
