"""GeoJSON as QuPath writes it: a FeatureCollection for every picture, in pixels from its top-left corner.

Read are Polygon and MultiPolygon with their holes; points and lines have no area and are passed over with a warning,
and so is what lies on another plane (z or t) than the first. The class is `properties.classification.name`, "object"
where there is none; classes are sorted by name. The score is the measurement "score" or "Detection probability".
Of cells the boundary is read, not the nucleus. `.geojson.gz` may unpack to 4 GiB.

Documents of any length are read feature by feature.

source  qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html; RFC 7946.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.draw import PALETTE
from apiece.core.image import natural
from apiece.core.instances import Instances
from apiece.core.masks import MAX_AREA
from apiece.core.polygons import Part
from apiece.data.coco_entries import kind
from apiece.data.formats.base import FileSource, Holds, Picture, Size, Target
from apiece.data.formats.beside import Companion, overviews, pictures_of
from apiece.data.formats.drawing import ShapeError
from apiece.data.formats.outlines import Outlines, one_part
from apiece.data.formats.raster import write_bytes
from apiece.data.json_stream import JsonText, Span
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, DataError

NAME = "geojson"
TITLE = "GeoJSON (QuPath)"
LAYOUT = "NAME.geojson or NAME.geojson.gz beside NAME.tif, or in geojson/"

ENDINGS = (".geojson", ".geojson.gz")
FOLDERS = ("", "geojson")
HEAD = 4096
MOST_UNPACKED = 2**32
SCORES = ("score", "Score", "Detection probability", "detection probability", "probability")
NO_AREA = {
    "Point": "a point",
    "MultiPoint": "points",
    "LineString": "a line",
    "MultiLineString": "lines",
}


@dataclass(frozen=True, eq=False)
class GeojsonSource(FileSource):
    """GeoJSON documents and the pictures they belong to; see the module."""

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "iscrowd" and "box_mask" where we have written them."""
        path = self.files[index]
        outlines = Outlines(self.size(index), self.classes, str(path), found)
        with _text(path) as text:
            for place, feature in enumerate(_features(text)):
                where = f"features[{place}]"
                try:
                    _add(outlines, where, feature)
                except ShapeError as error:
                    outlines.problem(where, str(error), "redraw or delete it.")
        return outlines.instances()


def detect(path: Path) -> bool:
    """Whether `path` is such a document or a folder of them."""
    try:
        if path.is_file():
            return _is_document(path)
        if path.is_dir():
            for name in FOLDERS:
                some = _listed(path / name)[:3]
                if some:
                    return any(map(_is_document, some))
    except OSError:
        pass
    return False


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        (p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS) and p.is_file()),
        key=lambda p: natural(p.name),
    )


def _is_document(path: Path) -> bool:
    if not path.name.lower().endswith((*ENDINGS, ".json")):
        return False
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(HEAD).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return False
    whole = re.match(r"\ufeff?\s*[\[{]", head) and re.search(r'"type"\s*:\s*"Feature(Collection)?"', head)
    return bool(whole)


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> GeojsonSource:
    """Open a document, or all of a folder or its geojson/.

    images  where the pictures lie, if not beside the documents or one folder up.
    raises  DataError if there is none; AnnotationError, with `strict`, for the first that can't be read.
    """
    if path.is_file():
        root, files = (path.parent.parent if path.parent.name == "geojson" else path.parent), [path]
    else:
        root, files = path, next((listed for name in FOLDERS if (listed := _listed(path / name))), [])
    if not files:
        raise DataError(
            f"{path}: holds no GeoJSON; expected NAME.geojson or NAME.geojson.gz, there or in geojson/. "
            "Remedy: name their folder."
        )
    problems: list[Problem] = []
    companions, classes = overviews(files, _overview, strict, problems)
    pictures, documents = pictures_of(root, companions, images, problems)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    return GeojsonSource(path, classes, tuple(pictures), tuple(problems), tuple(documents))


def _overview(file: Path) -> tuple[Companion, set[str]]:
    """What a document says of its picture, and the classes that occur."""
    names: set[str] = set()
    with _text(file) as text:
        for feature in _features(text):
            name = _class_of(feature)
            if name is not None:
                names.add(name)
        stated = _stated(text)
    lower = file.name.lower()
    ending = next((one for one in ENDINGS[::-1] if lower.endswith(one)), file.suffix)
    lower = file.name.lower()
    ending = next((one for one in ENDINGS[::-1] if lower.endswith(one)), file.suffix)
    stem = file.name[: -len(ending)]
    return Companion(file, stem, *stated), names


@contextmanager
def _text(path: Path) -> Iterator[JsonText]:
    """The document, unpacked into a temporary file where it is packed; errors name the packed one."""
    if path.suffix.lower() != ".gz":
        yield JsonText(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "document"
        try:
            with gzip.open(path) as packed, plain.open("wb") as file:
                size = 0
                while piece := packed.read(1 << 22):
                    size += len(piece)
                    if size > MOST_UNPACKED:
                        raise AnnotationError(
                            f"{path}: unpacks to more than {MOST_UNPACKED:,} bytes. Remedy: split it into several."
                        )
                    file.write(piece)
        except (OSError, EOFError, zlib.error) as error:
            raise AnnotationError(f"{path}: can't be unpacked ({error}). Remedy: copy it again.") from None
        try:
            yield JsonText(plain)
        except AnnotationError as error:
            raise AnnotationError(str(error).replace(str(plain), str(path))) from None


def _features(text: JsonText) -> Iterator[Any]:
    """The features of a document: a FeatureCollection, a list of features (as QuPath 0.2 wrote) or a single one.

    raises  AnnotationError if it is none of these, or no JSON.
    """
    if text.first() == "[":
        for feature, _, _ in text.items(Span(_start(text), text.size - _tail(text))):
            yield feature
        return
    members = text.members()
    form = text.value(members["type"]) if "type" in members else None
    if form == "Feature":
        yield {
            name: text.value(members[name]) for name in ("type", "geometry", "properties") if name in members
        }
        return
    span = members.get("features")
    if form != "FeatureCollection" or span is None or text.kind(span) != "a list":
        what = repr(form)[:60] if form is not None else "nothing"
        raise AnnotationError(
            f"{text.path}: its type is {what}; expected a FeatureCollection with a list of features. "
            "Remedy: export it again as GeoJSON."
        )
    for feature, _, _ in text.items(span):
        yield feature


def _start(text: JsonText) -> int:
    (head,) = text.pieces([(0, min(HEAD, text.size))])
    return head.index(b"[")


def _tail(text: JsonText) -> int:
    (tail,) = text.pieces([(max(0, text.size - HEAD), text.size)])
    return len(tail) - len(tail.rstrip(b" \t\r\n"))


def _stated(text: JsonText) -> tuple[str, Size | None]:
    """The picture's name and size, which we write as a member of our own; other programs pass over it."""
    if text.first() != "{":
        return "", None
    span = text.members().get("picture")
    given = text.value(span) if span is not None and span.end - span.start < HEAD else None
    if not isinstance(given, dict):
        return "", None
    name, height, width = given.get("name"), given.get("height"), given.get("width")
    if not isinstance(name, str) or not name or re.search(r"[/\\\0]", name):
        name = ""
    if (
        type(height) is not int
        or type(width) is not int
        or min(height, width) < 1
        or height * width > MAX_AREA
    ):
        return name, None
    return name, (height, width)


def _properties(feature: Any) -> Mapping[str, Any]:
    given = feature.get("properties") if isinstance(feature, dict) else None
    return given if isinstance(given, dict) else {}


def _class_of(feature: Any) -> str | None:
    """The class's name, "object" where there is none; None where it can't be a name."""
    given = _properties(feature).get("classification")
    name = given.get("name") if isinstance(given, dict) else given
    if name is None and isinstance(given, dict) and isinstance(given.get("names"), list):
        name = ": ".join(map(str, given["names"])) or None  # derived classes of QuPath 0.5
    if name is None:
        return "object"
    return name if isinstance(name, str) and name.strip() else None


def _add(outlines: Outlines, where: str, feature: Any) -> None:
    if not isinstance(feature, dict):
        raise ShapeError(f"is {kind(feature)}; expected a feature.")
    name = _class_of(feature)
    if name is None:
        raise ShapeError("has a classification without a name.")
    where += f' ("{name}")'
    geometry = feature.get("geometry")
    if not isinstance(geometry, dict):
        raise ShapeError(f"has a geometry that is {kind(geometry)}; expected an object.")
    form = geometry.get("type")
    if isinstance(form, str) and form in NO_AREA:
        remedy = "nothing, if it isn't an object; else draw its outline."
        outlines.warn(where, f"is {NO_AREA[form]}, which has no area.", remedy, "the shape")
        return
    plane = geometry.get("plane")
    deep = (
        [f"{axis} = {plane[axis]}" for axis in "zt" if plane.get(axis, 0)] if isinstance(plane, dict) else []
    )
    if deep:
        outlines.warn(
            where, f"lies on the plane {deep[0]!s:.40}; read is the first.", "split the stack.", "the shape"
        )
        return
    coordinates = geometry.get("coordinates")
    if form == "Polygon":
        coordinates = [coordinates]
    elif form != "MultiPolygon":
        raise ShapeError(f"is of the type {str(form)[:60]!r}; expected Polygon or MultiPolygon.")
    if not isinstance(coordinates, list) or not coordinates:
        raise ShapeError("has no coordinates.")
    properties = _properties(feature)
    details = properties.get("metadata")
    details = details if isinstance(details, dict) else {}
    track = str(details.get("track_id", ""))
    outlines.add(
        where,
        name,
        [_part(polygon) for polygon in coordinates],
        box=details.get("box_mask") == "true",
        score=_score(properties.get("measurements")),
        crowd=details.get("iscrowd") == "true",
        track=int(track) if re.fullmatch(r"-?[0-9]{1,18}", track) else 0,
    )


def _part(polygon: Any) -> Part:
    if not isinstance(polygon, list):
        raise ShapeError(f"has a polygon that is {kind(polygon)}; expected a list of rings.")
    rings = []
    for ring in polygon:
        if isinstance(ring, list) and ring and isinstance(ring[0], list) and len(ring[0]) == 3:
            ring = [
                point[:2] if isinstance(point, list) else point for point in ring
            ]  # a height, by RFC 7946
        rings.append(ring)
    return one_part(rings)


def _score(measurements: Any) -> float:
    """From an object of measurements, or QuPath 0.2's list of {name, value}."""
    if isinstance(measurements, list):
        measurements = {
            str(one.get("name")): one.get("value") for one in measurements if isinstance(one, dict)
        }
    if not isinstance(measurements, dict):
        return 1.0
    for name in SCORES:
        value = measurements.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53:
            return float(value)
    return 1.0


# ---- written


def feature_collection(
    objects: Instances, picture: str, *, kind_of_object: str = "annotation", scores: bool = True
) -> bytes:
    """The objects of a picture as the GeoJSON that QuPath opens, a feature a line; those without a pixel are skipped.

    picture         name of its file, without folders.
    kind_of_object  "annotation" or "detection", QuPath's two kinds.
    scores          whether objects carry their scores, as a measurement.
    """
    height, width = objects.size
    crowd, boxes = objects.columns.get("iscrowd"), objects.columns.get("box_mask")
    lines = []
    for i, parts in enumerate(objects.masks.to_polygons()):
        if not parts:
            continue
        polygons = [[_closed(ring) for ring in (outer, *holes)] for outer, holes in parts]
        single = len(polygons) == 1
        place = int(objects.class_ids[i])
        properties: dict[str, Any] = {
            "objectType": kind_of_object,
            "classification": {
                "name": objects.classes.name_of(place),
                "color": list(PALETTE[place % len(PALETTE)]),
            },
        }
        if scores:
            properties["measurements"] = {"score": float(objects.scores[i])}
        details = {}
        if crowd is not None and crowd[i]:
            details["iscrowd"] = "true"
        if boxes is not None and boxes[i]:
            details["box_mask"] = "true"
        if objects.track_ids is not None:
            details["track_id"] = str(int(objects.track_ids[i]))
        if details:
            properties["metadata"] = details
        geometry = {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": polygons[0] if single else polygons,
        }
        lines.append(json.dumps({"type": "Feature", "geometry": geometry, "properties": properties}))
    about = json.dumps({"name": picture, "height": height, "width": width})
    text = ",\n".join(lines)
    return f'{{"type": "FeatureCollection", "picture": {about}, "features": [\n{text}\n]}}\n'.encode()


def _closed(ring: np.ndarray[Any, Any]) -> list[list[int]]:
    points: list[list[int]] = ring.astype(np.int64).tolist()
    return [*points, points[0]]


class GeojsonTarget(Target):
    """Writes NAME.geojson beside NAME.tif."""

    holds = Holds(crowd=True, track_ids=True, scores=True)

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = self.flat_name(picture)
        self.copy_picture(picture, name)
        given = bool((objects.scores != 1).any())
        data = feature_collection(objects, str(name), scores=given)
        write_bytes(self.folder / f"{name.stem}.geojson", data)
        return str(name)

    def finish(self) -> None:
        """Nothing holds all pictures."""


TARGET = GeojsonTarget
