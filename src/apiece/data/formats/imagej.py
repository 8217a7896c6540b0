"""ImageJ and Fiji: a ZIP of ROIs for every picture, as the ROI Manager saves it, or a single .roi file.

Read are polygon, freehand and traced selections, rectangles (as boxes), ovals, ellipses, turned rectangles and
composite selections with their holes and parts; points, lines and angles have no area and are passed over with a
warning, and so are text and picture overlays. Coordinates of sub-pixel resolution count as they are.

The class of an object is, the first that is there:
1. its property "class" (in ImageJ: Edit > Selection > Properties), which is what we write;
2. its name without a number at the end: "cell-0012" and "cell" are of class cell. Names of digits alone (0005-0123),
   UUIDs and F01-C12, as ImageJ and other programs give them, are no classes;
3. "group N" for the ROI's group N > 0;
4. "object".
Classes are sorted by name.

A lone RoiSet.zip, ImageJ's own proposal for a name, goes with the only picture beside it, with a warning.

What is written: a traced polygon for an object of one ring, a rectangle for a drawn box, else a composite, so that
ImageJ fills the very pixels. Coordinates beyond 32,767 are stored with sub-pixel resolution, which is exact up to
16,777,216. Scores, crowds and track ids are properties, too.

source  imagej.net, ij/io/RoiDecoder.java and RoiEncoder.java (public domain); the format only.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, natural
from apiece.core.instances import Instances
from apiece.core.masks import MAX_AREA
from apiece.core.polygons import Part
from apiece.data.formats.base import FileSource, Holds, Picture, Size, Target
from apiece.data.formats.beside import Companion, overviews, pictures_of
from apiece.data.formats.drawing import Ring, ShapeError, ellipse, rectangle, rectangles, ring_of
from apiece.data.formats.outlines import Outlines, one_part
from apiece.data.formats.raster import one_line, write_bytes
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, DataError

NAME = "imagej"
TITLE = "ImageJ and Fiji ROIs"
LAYOUT = "NAME.tif with NAME.zip or NAME_rois.zip (or NAME.roi) beside it or in rois/"

ENDINGS = ("_rois", ".rois", "-rois", "_RoiSet", "_roi", "")
DEFAULT = "RoiSet"  # as the ROI Manager calls archives, if nobody changes it
FOLDERS = ("", "rois", "ROIs", "RoiSets")
MOST_ENTRIES = 1_000_000
MOST_BYTES = 2**26  # of one ROI, unpacked
MOST_TOTAL = 2**31  # of all ROIs of an archive, unpacked
NO_CLASS = re.compile(
    r"[\d\s_.:-]*|F\d+-C\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I
)
NUMBER = re.compile(r"[\s_-]*\d+$")
# ij.gui.Roi's types and subtypes, and ij.io.RoiDecoder's options.
POLYGON, RECT, OVAL, LINE, FREELINE, POLYLINE, NONE, FREEHAND, TRACED, ANGLE, POINT = range(11)
TEXT, ARROW, ELLIPSE, IMAGE, TURNED_RECT = range(1, 6)
SPLINE, SUBPIXEL = 1, 128
NO_AREA = {
    LINE: "a line",
    FREELINE: "a line",
    POLYLINE: "a line",
    ANGLE: "an angle",
    POINT: "a point",
    NONE: "no selection",
}
VERSION = 228
FARTHEST = 32767  # of whole-number coordinates
CURVE_STEPS = 32  # straight pieces of a curve in a composite


@dataclass(frozen=True, eq=False)
class ImagejSource(FileSource):
    """ROI archives and the pictures they belong to; see the module."""

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "box_mask" where an object is a rectangle."""
        path = self.files[index]
        outlines = Outlines(self.size(index), self.classes, str(path), found)
        with _rois(path, outlines.found) as rois:
            for entry, data in rois:
                try:
                    _add(outlines, entry, data)
                except ShapeError as error:
                    outlines.problem(_where(entry), str(error), "redraw or delete it.")
        return outlines.instances()


def detect(path: Path) -> bool:
    """Whether `path` is an ROI archive, an .roi file, or a folder of them."""
    try:
        if path.is_file():
            return _is_rois(path)
        if not path.is_dir():
            return False
        for name in FOLDERS:
            folder = path / name
            if folder.is_dir():
                some = [p for p in folder.iterdir() if p.suffix.lower() in (".zip", ".roi")][:3]
                if some:
                    return any(map(_is_rois, some))
    except OSError:
        pass
    return False


def _is_rois(path: Path) -> bool:
    if path.suffix.lower() == ".roi":
        with path.open("rb") as file:
            return file.read(4) == b"Iout"
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            if any(name.lower().endswith(".roi") for name in archive.namelist()[:20]):
                return True
            return not archive.namelist() and bool(_comment(archive))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return False


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> ImagejSource:
    """Open an ROI archive or .roi file, or all of a folder or its rois/.

    images  where the pictures lie, if not beside the archives or one folder up.
    raises  DataError if there is none; AnnotationError, with `strict`, for the first archive that can't be read.
    """
    root, files = _files(path)
    problems: list[Problem] = []
    companions, classes = overviews(files, _overview, strict, problems)
    if [one.stem for one in companions] == [DEFAULT]:
        companions = [_of_the_only_picture(companions[0], images, problems)]
    pictures, archives = pictures_of(root, companions, images, problems)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    return ImagejSource(path, classes, tuple(pictures), tuple(problems), tuple(archives))


def _of_the_only_picture(one: Companion, images: Path | None, problems: list[Problem]) -> Companion:
    """An archive under the name that ImageJ proposes, which names no picture: that of the one beside it."""
    try:
        beside = [p for p in (images or one.file.parent).iterdir() if p.suffix.lower() in SUFFIXES]
    except OSError:
        return one
    if one.name or len(beside) != 1:
        return one
    message = f"names no picture; it is read as of {beside[0].name}, the only one here."
    problems.append(
        Problem("warning", str(one.file), "", message, f"call it {beside[0].stem}.zip, if that is so.")
    )
    return replace(one, stem=beside[0].stem)


def _files(path: Path) -> tuple[Path, list[Path]]:
    """The folder that pictures are named from, and the archives."""
    if path.is_file():
        parent = path.parent
        return (parent.parent if parent.name in FOLDERS else parent), [path]
    for name in FOLDERS:
        folder = path / name
        if folder.is_dir():
            files = [p for p in folder.iterdir() if p.suffix.lower() in (".zip", ".roi") and p.is_file()]
            if files:
                return path, sorted(files, key=lambda p: natural(p.name))
    raise DataError(
        f"{path}: holds no ROIs; expected NAME.zip, NAME_rois.zip or NAME.roi, there or in rois/. "
        "Remedy: name their folder."
    )


def _overview(file: Path) -> tuple[Companion, set[str]]:
    """What an archive says of its picture, and the classes that occur."""
    names: set[str] = set()
    with _rois(file, []) as rois:
        for entry, data in rois:
            names.add(_class_of(_Texts.of(data, entry)))
    stem = file.stem
    for ending in ENDINGS:
        if ending and file.suffix.lower() == ".zip" and stem.endswith(ending) and stem != ending:
            stem = stem.removesuffix(ending)
            break
    name, size = "", None
    if file.suffix.lower() == ".zip":
        with zipfile.ZipFile(file) as archive:
            name, size = _comment(archive) or ("", None)
    return Companion(file, stem, name, size), names


def _comment(archive: zipfile.ZipFile) -> tuple[str, Size] | None:
    """The picture's name and size, which we write as the archive's comment; ImageJ passes over it."""
    try:
        given = json.loads(archive.comment)
        name, height, width = given["picture"], given["height"], given["width"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(name, str) or type(height) is not int or type(width) is not int:
        return None
    inside = name and "/" not in name and "\\" not in name and "\0" not in name
    return (name, (height, width)) if inside and height > 0 < width and height * width <= MAX_AREA else None


@contextmanager
def _rois(path: Path, found: list[Problem] | None) -> Iterator[Iterator[tuple[str, bytes]]]:
    """The ROIs of a file, each with its name in the archive ("" for an .roi file), one at a time.

    raises  AnnotationError if the file can't be read; and for an entry that can't, where `found` is None.
    """
    try:
        if path.suffix.lower() == ".roi":
            if path.stat().st_size > MOST_BYTES:
                raise AnnotationError(f"{path}: has {path.stat().st_size:,} bytes; expected an ROI.")
            yield iter([("", path.read_bytes())])
            return
        with zipfile.ZipFile(path) as archive:
            yield _entries(path, archive, found)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise AnnotationError(
            f"{path}: is no whole ZIP archive ({error}); expected ROIs as the ROI Manager saves them. "
            "Remedy: save or copy it again."
        ) from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}). Remedy: check the path.") from None


def _entries(
    path: Path, archive: zipfile.ZipFile, found: list[Problem] | None
) -> Iterator[tuple[str, bytes]]:
    entries = [one for one in archive.infolist() if not one.is_dir()]
    total = sum(one.file_size for one in entries)
    if len(entries) > MOST_ENTRIES or total > MOST_TOTAL:
        raise AnnotationError(
            f"{path}: unpacks to {total:,} bytes in {len(entries):,} files; expected at most {MOST_TOTAL:,} in "
            f"{MOST_ENTRIES:,}. Remedy: split it."
        )
    for one in entries:
        last = one.filename.replace("\\", "/").rsplit("/", 1)[-1]
        if last.startswith("._") or last == ".DS_Store":  # macOS adds these
            continue
        problem = None
        if not last.lower().endswith(".roi"):
            problem = "is no ROI; expected names that end in .roi."
        elif one.file_size > MOST_BYTES:
            problem = f"unpacks to {one.file_size:,} bytes; expected at most {MOST_BYTES:,}."
        else:
            try:
                with archive.open(one) as file:
                    data = file.read(MOST_BYTES + 1)
            except Exception as error:  # zlib, lzma, CRC, passwords: each has its own errors
                problem = f"can't be unpacked ({error})."
        if problem is None:
            yield last[:-4], data
        elif found is not None:
            found.append(
                Problem("error", str(path), f'"{last}"', problem, "save the ROIs again.", "the object")
            )
        else:
            raise AnnotationError(f'{path}: "{last}": {problem} Remedy: save the ROIs again.')


@dataclass(frozen=True)
class _Texts:
    """An ROI's name, group and properties."""

    name: str
    group: int
    properties: dict[str, str]

    @classmethod
    def of(cls, data: bytes, entry: str) -> _Texts:
        """From the second header; what is damaged there counts as not there."""
        name, group, properties = entry, 0, {}
        try:
            (header,) = struct.unpack_from(">i", data, 60)
            if header > 0:
                name_at, name_length = struct.unpack_from(">ii", data, header + 16)
                (group,) = struct.unpack_from(">B", data, header + 30)
                at, length = struct.unpack_from(">ii", data, header + 40)
                # In archives the ROI Manager goes by the entry's name, which a user may have changed.
                name = entry or _utf16(data, name_at, name_length)
                for line in _utf16(data, at, length).splitlines():
                    key, colon, value = line.partition(":")
                    if colon:
                        properties[key.strip()] = value.strip()
        except struct.error:
            pass
        return cls(name, group, properties)


def _utf16(data: bytes, at: int, length: int) -> str:
    if at <= 0 or length <= 0 or at + 2 * length > len(data):
        return ""
    return data[at : at + 2 * length].decode("utf-16-be", "replace")


def _class_of(texts: _Texts) -> str:
    stated = texts.properties.get("class", "")
    if stated:
        return stated
    if texts.name and not NO_CLASS.fullmatch(texts.name):
        return NUMBER.sub("", texts.name).strip() or texts.name.strip()
    return f"group {texts.group}" if texts.group else "object"


def _where(name: str) -> str:
    return f'ROI "{name}"' if name else ""


def _add(outlines: Outlines, entry: str, data: bytes) -> None:
    """Add the ROI in `data`."""
    import roifile

    try:
        roi = roifile.ImagejRoi.frombytes(data)
    except Exception as error:  # roifile's own, struct's, NumPy's, enum's
        raise ShapeError(f"is no whole ROI ({error}).") from None
    texts = _Texts.of(data, entry)
    where = _where(texts.name)
    form, subtype = int(roi.roitype), int(roi.subtype)
    if form in NO_AREA or subtype in (TEXT, IMAGE, ARROW):
        what = {TEXT: "a text", IMAGE: "a picture overlay", ARROW: "an arrow"}.get(subtype) or NO_AREA[form]
        remedy = "nothing, if it isn't an object; else draw its outline."
        outlines.warn(where, f"is {what}, which has no area.", remedy, "the shape")
        return
    slices = {"slice": roi.z_position, "frame": roi.t_position, "position": roi.position}
    deep = [f"{name} {number}" for name, number in slices.items() if number > 1]
    if deep:
        outlines.warn(
            where, f"lies on {deep[0]} of a stack; it is read as of the one picture.", "split the stack."
        )
    if int(roi.options) & SPLINE and form in (POLYGON, FREEHAND, TRACED):
        outlines.warn(where, "is a spline; it is read with straight sides.", "convert it to a polygon.")
    outlines.add(
        where,
        _class_of(texts),
        _parts(roi, form, subtype, data),
        box=form == RECT and not roi.composite,
        score=_number(texts.properties.get("score"), 1.0),
        crowd=texts.properties.get("iscrowd") == "true",
        track=int(_number(texts.properties.get("track_id"), 0)),
    )


def _number(text: str | None, default: float) -> float:
    try:
        value = float(text) if text is not None else default
    except ValueError:
        return default
    return value if abs(value) < 2**53 else default


def _parts(roi: Any, form: int, subtype: int, data: bytes) -> list[Part]:
    """The outline of an ROI, which has an area by its type.

    raises  ShapeError if it has none.
    """
    if form == RECT and roi.composite:
        rings = _composite(np.asarray(roi.multi_coordinates, np.float64))
        return [one_part([np.asarray(ring) for ring in rings])]
    if form in (RECT, OVAL):
        left, top, right, bottom = float(roi.left), float(roi.top), float(roi.right), float(roi.bottom)
        if roi.subpixelrect:
            left, top = float(roi.xd), float(roi.yd)
            right, bottom = left + float(roi.widthd), top + float(roi.heightd)
        if not (math.isfinite(left + right + top + bottom) and right > left and bottom > top):
            raise ShapeError(
                f"has the sides x {left:g} to {right:g}, y {top:g} to {bottom:g}; expected an area."
            )
        if form == RECT:
            return [(rectangle(left, top, right, bottom), [])]
        return [(oval(left, top, right, bottom), [])]
    if form == FREEHAND and subtype in (ELLIPSE, TURNED_RECT):
        (ratio,) = struct.unpack_from(">f", data, 52)  # of an ellipse; a rectangle's width
        axis = ring_of([[roi.x1, roi.y1], [roi.x2, roi.y2]], least=2)
        length = float(np.hypot(*(axis[1] - axis[0])))
        if not (length > 0 and ratio > 0 and math.isfinite(ratio)):
            raise ShapeError(
                f"has an axis of {length:g} and the proportion {ratio:g}; expected positive numbers."
            )
        x, y = axis.mean(axis=0).tolist()
        if subtype == ELLIPSE:
            degrees = math.degrees(math.atan2(axis[1, 1] - axis[0, 1], axis[1, 0] - axis[0, 0]))
            return [(ellipse(x, y, length / 2, length / 2 * ratio, degrees), [])]
        aside = (axis[1] - axis[0])[::-1] * [1, -1] / length * ratio / 2
        return [(ring_of([axis[0] + aside, axis[1] + aside, axis[1] - aside, axis[0] - aside]), [])]
    if form in (POLYGON, FREEHAND, TRACED):
        if roi.subpixel_coordinates is not None:
            return [one_part([roi.subpixel_coordinates])]
        return [one_part([roi.integer_coordinates + np.array([roi.left, roi.top])])]
    raise ShapeError(f"is of the type {form}, which isn't known.")


def oval(left: float, top: float, right: float, bottom: float) -> Ring:
    """The ring of the ellipse in a level rectangle: it crosses the middle of each row exactly where the ellipse does,
    so that the pixels whose centres lie in it are those of the ellipse."""
    x, radius = (left + right) / 2, (right - left) / 2
    middle, height = (top + bottom) / 2, (bottom - top) / 2
    rows = np.arange(math.ceil(top - 0.5), math.ceil(bottom - 0.5)) + 0.5
    if len(rows) > 1 << 17:
        raise ShapeError(f"is {len(rows):,} pixels high; expected at most {1 << 17:,}.")
    half = radius * np.sqrt(np.maximum(1 - ((rows - middle) / height) ** 2, 0))
    right_side, left_side = np.column_stack([x + half, rows]), np.column_stack([x - half, rows])[::-1]
    return ring_of(np.concatenate([[[x, top]], right_side, [[x, bottom]], left_side, [[x, top]]]))


def _composite(path: Ring) -> list[list[tuple[float, float]]]:
    """The rings of a path of java.awt.geom.PathIterator: 0 move, 1 line, 2 and 3 curves, 4 close."""
    values = path.tolist()
    rings: list[list[tuple[float, float]]] = []
    at = 0
    while at < len(values):
        kind = values[at]
        count = {0.0: 2, 1.0: 2, 2.0: 4, 3.0: 6, 4.0: 0}.get(kind)
        if count is None or at + count >= len(values):
            raise ShapeError(f"is a composite that is damaged at number {at} of {len(values)}.")
        given = values[at + 1 : at + 1 + count]
        points = [(given[k], given[k + 1]) for k in range(0, count, 2)]
        if kind != 0 and not rings:
            raise ShapeError("is a composite that doesn't begin with a point.")
        if kind == 0:
            rings.append(points)
        elif kind == 1:
            rings[-1].extend(points)
        elif count:
            controls = np.array([rings[-1][-1], *points])
            degree = len(controls) - 1
            t = (np.arange(1, CURVE_STEPS + 1) / CURVE_STEPS)[:, None]
            weights = [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)]
            curve = sum(weight * point for weight, point in zip(weights, controls, strict=True))
            rings[-1].extend(map(tuple, np.asarray(curve).tolist()))
        at += 1 + count
    kept = [ring for ring in rings if len(ring) > 2]
    if not kept:
        raise ShapeError("is a composite without an area.")
    return kept


# ---- written


def roi_archive(objects: Instances, picture: str, *, scores: bool = True) -> bytes:
    """The objects of a picture as the ZIP of ROIs that ImageJ's ROI Manager opens; objects without a pixel are skipped.

    picture  name of its file, without folders.
    scores   whether objects carry their scores.
    """
    height, width = objects.size
    file = io.BytesIO()
    boxes = rectangles(objects.masks, objects.columns.get("box_mask"))
    crowd = objects.columns.get("iscrowd")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        comment = {"picture": picture, "height": height, "width": width}
        archive.comment = json.dumps(comment).encode()
        for i, parts in enumerate(objects.masks.to_polygons()):
            if not parts:
                continue
            class_name = objects.classes.name_of(int(objects.class_ids[i]))
            properties = {"class": class_name}
            if scores:
                properties["score"] = repr(float(objects.scores[i]))
            if crowd is not None and crowd[i]:
                properties["iscrowd"] = "true"
            if objects.track_ids is not None:
                properties["track_id"] = str(int(objects.track_ids[i]))
            name = f"{class_name}-{i + 1:04d}"
            data = _roi(parts, name, properties, box=boxes[i])
            entry = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name)
            entry = entry.encode("utf-8", "replace").decode()
            archive.writestr(zipfile.ZipInfo(f"{entry}.roi"), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _roi(parts: list[Part], name: str, properties: dict[str, str], *, box: bool) -> bytes:
    import roifile

    outer = parts[0][0]
    whole = np.concatenate([ring for ring, _ in parts])
    (left, top), (right, bottom) = whole.min(axis=0).astype(int), whole.max(axis=0).astype(int)
    roi = roifile.ImagejRoi()
    roi.version = VERSION
    roi.left, roi.top, roi.right, roi.bottom = int(left), int(top), int(right), int(bottom)
    far = max(right, bottom) > FARTHEST
    if box and not far:
        roi.roitype = roifile.ROI_TYPE.RECT
    elif len(parts) == 1 and not parts[0][1]:
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.n_coordinates = len(outer)
        # Where only the exact coordinates count, those of whole numbers must be there nevertheless.
        roi.integer_coordinates = np.minimum(outer - [left, top], FARTHEST).astype(np.int32)
        if far:
            roi.options = roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            roi.subpixel_coordinates = outer.astype(np.float32)
    else:
        path: list[float] = []
        for ring in (ring for outer, holes in parts for ring in (outer, *holes)):
            steps = np.column_stack([np.ones(len(ring)), ring])
            steps[0, 0] = 0
            path += [*steps.reshape(-1).tolist(), 4.0]
        roi.roitype = roifile.ROI_TYPE.RECT
        roi.multi_coordinates = np.array(path, np.float32)
        roi.shape_roi_size = len(path)
    data = bytearray(roi.tobytes())
    # Texts go behind it all; roifile counts characters where ImageJ counts UTF-16 units.
    (header,) = struct.unpack_from(">i", data, 60)
    lines = "".join(f"{key}: {value}\n" for key, value in sorted(properties.items()))
    for place, text in ((16, name), (40, lines)):
        units = text.encode("utf-16-be", "surrogatepass")
        struct.pack_into(">ii", data, header + place, len(data), len(units) // 2)
        data += units
    return bytes(data)


class ImagejTarget(Target):
    """Writes NAME.tif with rois/NAME.zip; a picture without objects has an empty archive."""

    holds = Holds(crowd=True, track_ids=True, scores=True)

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self._names = ClassMap(one_line(classes, self.notes), classes.ids)

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = self.flat_name(picture)
        if max(objects.size) > FARTHEST:
            self.notes.append(
                f"{name}: is larger than 32,767 pixels, so its ROIs have sub-pixel resolution; what lies beyond is "
                "shown by ImageJ 1.52 or later."
            )
        renamed = Instances(
            objects.size,
            objects.masks,
            objects.class_ids,
            objects.scores,
            classes=self._names,
            track_ids=objects.track_ids,
            columns=objects.columns,
        )
        self.copy_picture(picture, name)
        given = bool((objects.scores != 1).any())
        write_bytes(self.folder / "rois" / f"{name.stem}.zip", roi_archive(renamed, str(name), scores=given))
        return str(name)

    def finish(self) -> None:
        """Make the folder, also for a set without pictures."""
        (self.folder / "rois").mkdir(exist_ok=True)


TARGET = ImagejTarget
