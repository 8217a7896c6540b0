"""COCO panoptic: a PNG for each picture, in which every pixel names its segment, and one JSON document.

A segment's number is R + 256 G + 65536 B; 0 belongs to none. `segments_info` gives its category. Segments of things
(`isthing` 1) are objects. Those of stuff, such as sky or road, are regions without a number of objects: they are
left out, and counted in one warning. The PNGs lie in a folder of the document's stem, beside it or one up, as COCO
ships them, or beside it in `panoptic/`.

A pixel belongs to one segment, so of overlapping objects the first keeps it. Written are `panoptic.json`,
`panoptic/NAME.png` and `images/`; an object's number counts up from 1 in each picture.

source  cocodataset.org, Data format, 4. Panoptic Segmentation; Kirillov et al. 2019, arXiv 1801.00868.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.image import read_image, write_image
from apiece.core.instances import Instances
from apiece.core.label_image import label_values
from apiece.core.masks import Masks
from apiece.data.coco_document import ImageRecord
from apiece.data.coco_entries import Entry, Finding, kind, mend_crowd, whole
from apiece.data.coco_lists import LISTS, Findings, lists_of, read_categories, read_images
from apiece.data.formats.base import Holds, Picture, Source, Target, find_picture, report
from apiece.data.formats.coco_documents import documents, only_document
from apiece.data.formats.coco_pictures import (
    PictureFinder,
    TargetNames,
    bases_of,
    not_found,
    own_names,
    own_path,
    picture_folders,
)
from apiece.data.formats.coco_stream import StreamedDocument
from apiece.data.json_stream import JsonText
from apiece.data.label_folder import same_size
from apiece.data.problems import Problem, Severity, refuse
from apiece.errors import AnnotationError, DataError

NAME = "coco-panoptic"
TITLE = "COCO panoptic"
LAYOUT = (
    "one document (.json) whose annotations have segments_info, PNGs in the folder of its stem, and images/"
)

MOST = 2**24  # numbers that a pixel of three bytes can hold
SEGMENT, EXPORT = "the segment", "export the segments again."
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def detect(path: Path) -> bool:
    """Whether `path` is a COCO panoptic document, or a folder with just one."""
    return len(documents(path, "panoptic")) == 1


@dataclass(frozen=True, eq=False)
class PanopticSource(Source):
    """A COCO panoptic document; see the module.

    text     the document.
    spans    where the annotation of each picture lies in it, by image id.
    folders  where PNGs are searched.
    stuff    ids of the categories that aren't classes.
    """

    text: JsonText = field(kw_only=True)
    spans: Mapping[int, tuple[int, int]] = field(kw_only=True)
    folders: tuple[Path, ...] = field(kw_only=True)
    stuff: frozenset[int] = field(kw_only=True)

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.text.path

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; in the order of `segments_info`.

        columns  "iscrowd"; "segment_id", int64, the number in the PNG.
        """
        picture, size = self.pictures[index], self.size(index)
        if picture.id not in self.spans:
            return Instances.empty(size, self.classes)
        entry = self.text.values([self.spans[picture.id]])[0]
        path = find_picture(entry["file_name"], self.folders)
        if path is None:
            raise AnnotationError(
                f"{self.text.path}: {picture.name}: its segments {entry['file_name']!r} are not in "
                f"{', '.join(map(str, self.folders))}. Remedy: put the PNGs in a folder of the document's stem, beside "
                "it."
            )
        numbers = segment_numbers(path)
        wrong = same_size(path, numbers.shape, picture.path or picture.name, size)
        if wrong:
            raise AnnotationError(wrong)
        drawn = label_values(numbers)
        segments, listed = self._segments(picture, entry["segments_info"], set(drawn.tolist()), found)
        self._unlisted(path, numbers, drawn, listed, found)
        places = np.zeros(MOST, np.uint32)  # of each number, counted from 1 in the order of segments_info
        places[[segment["id"] for segment in segments]] = np.arange(len(segments)) + 1
        masks = Masks.from_label_image(places[numbers])
        for segment, area in zip(segments, masks.areas.tolist(), strict=True):
            stated = segment.get("area", area)
            if stated != area:
                text = f"has the area {str(stated)[:40]}, but {area} pixels in {path.name}, which count."
                self._report(found, "warning", self._where(picture, segment), text, "compute the area again.")
        return Instances(
            size,
            masks,
            [self.classes.index_of(segment["category_id"]) for segment in segments],
            classes=self.classes,
            columns={
                "iscrowd": np.array([segment["iscrowd"] for segment in segments], np.bool_),
                "segment_id": np.array([segment["id"] for segment in segments], np.int64),
            },
        )

    def _segments(
        self, picture: Picture, entries: Sequence[Any], drawn: set[int], found: list[Problem] | None
    ) -> tuple[list[Entry], set[int]]:
        """The segments of things that can be used, their numbers as integers; and the numbers of all."""
        kept: list[Entry] = []
        listed: set[int] = set()
        for place, entry in enumerate(entries):
            where, text = f"{picture.name}: segments_info[{place}]", ""
            if not isinstance(entry, dict):
                self._report(found, "error", where, f"is {kind(entry)}; expected an object.", EXPORT, SEGMENT)
                continue
            number, category = whole(entry.get("id")), whole(entry.get("category_id"))
            if number is None or not 0 < number < MOST:
                text = f"has id {str(entry.get('id'))[:40]!r}; expected a whole number from 1 to {MOST - 1}."
                self._report(found, "error", where, text, EXPORT, SEGMENT)
                continue
            entry |= {"id": number, "category_id": category}
            where = self._where(picture, entry)
            if number in listed:
                text = "stands twice in segments_info; expected numbers that differ."
            elif category not in self.classes.ids and category not in self.stuff:
                text = f"has category {str(entry['category_id'])[:40]}, which is not in categories."
            elif number not in drawn:
                text = "has no pixel in the PNG; expected its number there."
            listed.add(number)
            if text:
                self._report(found, "error", where, text, EXPORT, SEGMENT)
            elif category not in self.stuff:
                crowd = mend_crowd(entry)
                if crowd:
                    self._report(found, crowd.severity, where, crowd.message, crowd.remedy)
                kept.append(entry)
        return kept, listed

    def _unlisted(
        self,
        path: Path,
        numbers: npt.NDArray[np.uint32],
        drawn: npt.NDArray[np.int64],
        listed: set[int],
        found: list[Problem] | None,
    ) -> None:
        """One problem for all segments of a PNG that have no entry."""
        others = [number for number in drawn.tolist() if number not in listed]
        if others:
            pixels = int(np.count_nonzero(numbers == others[0]))
            more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
            text = f"segment {others[0]} ({pixels} pixels){more} not in segments_info; expected an entry for each."
            report(Problem("error", str(path), "", text, EXPORT, "the segments"), found)

    def _where(self, picture: Picture, segment: Entry) -> str:
        names = dict(zip(self.classes.ids, self.classes.names, strict=True))
        name = names.get(segment["category_id"])
        return f"{picture.name}: segment {segment['id']}" + (f' ("{name}")' if name else "")

    def _report(
        self,
        found: list[Problem] | None,
        severity: Severity,
        where: str,
        message: str,
        remedy: str,
        left_out: str = "",
    ) -> None:
        report(Problem(severity, str(self.text.path), where, message, remedy, left_out), found)


def segment_numbers(path: Path) -> npt.NDArray[np.uint32]:
    """The number of the segment of every pixel of a panoptic PNG, uint32 (H, W).

    raises  AnnotationError if the picture is no PNG of three bytes a pixel; ImageError as `read_image`.
    """
    rgb = read_image(path)
    with path.open("rb") as file:
        head = file.read(26)
    # 8 bits of RGB, or of RGB with opacity; read_image has seen that the rest holds together
    if not head.startswith(SIGNATURE) or head[24:26] not in (b"\x08\x02", b"\x08\x06"):
        raise AnnotationError(
            f"{path}: is no PNG of 8-bit RGB; expected the number of each pixel's segment as R + 256 G + 65536 B. "
            "Remedy: export the segments as COCO panoptic has them."
        )
    wide = rgb.astype(np.uint32)
    return np.asarray(wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16, np.uint32)


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> PanopticSource:
    """Open a COCO panoptic document.

    path    the document, or a folder with just one.
    images  the picture folder; without it `images/`, a folder of the document's stem without "panoptic_", and the
            document's own folder are searched, there and one up.
    raises  DataError if the folder holds none or several documents; AnnotationError for what is no such document,
            and with `strict` for the first entry that doesn't hold.
    """
    document = only_document(path, "panoptic")
    text, problems = JsonText(document), Findings(document)
    members = lists_of(text)
    categories = [category for category, _, _ in text.items(members["categories"])]
    every = read_categories(document, categories, problems)
    things = {one["id"] for one in categories if one.get("isthing", 1)}
    if not all("isthing" in one for one in categories):
        remedy = "add isthing, 1 for things and 0 for stuff."
        problems.add("categories", Finding("warning", "lack isthing; those are read as things.", remedy))
    names = dict(zip(every.ids, every.names, strict=True))
    classes = ClassMap(tuple(names[i] for i in names if i in things), tuple(i for i in names if i in things))
    stuff = frozenset(names) - things
    records, _ = read_images(text.items(members["images"]), problems)
    spans = _annotations(text.items(members["annotations"]), records, {i: names[i] for i in stuff}, problems)
    for key in members.keys() - set(LISTS):
        text.check(members[key])
    bare = [record for record in records.values() if record.id not in spans]
    if bare:
        others = f"; nor have {len(bare) - 1} others" if len(bare) > 1 else ""
        message = f"has no annotation{others}. It is read as a picture without objects."
        problems.add(
            f"image {bare[0].id}", Finding("warning", message, "leave it out if nobody labelled it.")
        )
    if strict:
        refuse(problems.all())
    given = [record.file_name for record in records.values()]
    stem = document.stem.removeprefix("panoptic_")
    stems = [stem] if stem != document.stem else []
    finder = PictureFinder(picture_folders(document, images, stems, [name for name in given if name]))
    pictures = tuple(
        Picture(name, finder.find(record.file_name) if record.file_name else None, record.id, record.size)
        for name, record in zip(own_names(given, records), records.values(), strict=True)
    )
    near, above = bases_of(document)
    folders = (near / document.stem, above / document.stem, near / "panoptic", near)
    return PanopticSource(
        path,
        classes,
        pictures,
        (*problems.all(), *not_found(document, pictures, finder.folders)),
        text=text,
        spans=spans,
        folders=folders,
        stuff=stuff,
    )


def _annotations(
    entries: Iterable[tuple[Any, int, int]],
    records: Mapping[int, ImageRecord],
    stuff: Mapping[int, str],
    problems: Findings,
) -> dict[int, tuple[int, int]]:
    """Where the annotation of each image lies, by id; segments of stuff are counted."""
    spans: dict[int, tuple[int, int]] = {}
    counted: Counter[int] = Counter()
    for index, (entry, start, end) in enumerate(entries):
        where = f"annotations[{index}]"
        if not isinstance(entry, dict):
            problems.add(
                where, Finding("error", f"is {kind(entry)}; expected an object.", EXPORT, "the entry")
            )
            continue
        number = problems.number(where, entry, "image_id")
        text = ""
        if number is None or number not in records:
            text = f"belongs to image {str(entry.get('image_id'))[:40]}, which is not in images."
        elif number in spans:
            text = f"is the second of image {number}; expected one for each image."
        elif not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            text = f"has file_name {str(entry.get('file_name'))[:40]!r}; expected the name of a PNG."
        elif not isinstance(entry.get("segments_info"), list):
            text = f"has segments_info that is {kind(entry.get('segments_info'))}; expected a list."
        if text or number is None:
            problems.add(where, Finding("error", text, EXPORT, "the annotation"))
            continue
        spans[number] = start, end
        for segment in entry["segments_info"]:
            category = whole(segment.get("category_id")) if isinstance(segment, dict) else None
            if category is not None and category in stuff:
                counted[category] += 1
    if counted:
        shown = ", ".join(stuff[category] for category, _ in counted.most_common(5))
        text = (
            f"{counted.total()} segments are stuff ({shown}{', ...' if len(counted) > 5 else ''}), regions without "
            "a number of objects."
        )
        problems.add(
            "", Finding("warning", text, "nothing, if only things are wanted.", "the segments of stuff")
        )
    return spans


class PanopticTarget(Target):
    """Writes `panoptic.json`, `panoptic/` and `images/`; see the module."""

    holds: ClassVar[Holds] = Holds(overlaps=False, crowd=True, most=MOST - 1)
    document: ClassVar[str | None] = None

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self._stream = StreamedDocument(folder / "panoptic.json", ("images", "annotations"))
        self._names = TargetNames(self.notes)
        self._pngs: dict[str, int] = {}

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        if len(objects) >= MOST:
            raise AnnotationError(
                f"{picture.name}: has {len(objects)} objects; a panoptic PNG holds {MOST - 1}. "
                "Remedy: cut the picture into tiles."
            )
        name, number = self._names.take(picture)
        png = own_path(PurePosixPath(name).with_suffix(".png"), self._pngs, str.lower)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hidden objects, which the report of losses counts
            labels = objects.masks.to_label_image(overlap="first", dtype=np.uint32)
        areas = np.bincount(labels.reshape(-1), minlength=len(objects) + 1)[1:]
        kept = np.flatnonzero(areas)
        renumbered = np.zeros(len(objects) + 1, np.uint32)
        renumbered[kept + 1] = np.arange(len(kept)) + 1
        labels = renumbered[labels]
        self._write(png, labels)
        boxes = Masks.from_label_image(labels).boxes.astype(int).tolist()
        crowd = objects.columns.get("iscrowd", np.zeros(len(objects), np.bool_))
        segments = [
            {
                "id": place + 1,
                "category_id": self.classes.id_of(int(objects.class_ids[i])),
                "area": int(areas[i]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "iscrowd": int(crowd[i]),
            }
            for place, (i, (x1, y1, x2, y2)) in enumerate(zip(kept.tolist(), boxes, strict=True))
        ]
        height, width = objects.size
        self._stream.add("images", [{"id": number, "file_name": name, "height": height, "width": width}])
        entry = {"image_id": number, "file_name": png, "segments_info": segments}
        self._stream.add("annotations", [entry])
        self.copy_picture(picture, PurePosixPath("images") / name)
        return name

    def finish(self) -> None:
        """See Target."""
        categories = [{**one, "supercategory": "", "isthing": 1} for one in self.classes.to_coco()]
        self._stream.finish({"info": {"description": "written by apiece"}, "categories": categories})

    def _write(self, name: str, labels: npt.NDArray[np.uint32]) -> None:
        path = self.folder / "panoptic" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path.parent}: cannot be made ({error.strerror}).") from None
        write_image(path, np.stack([labels >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8))


TARGET = PanopticTarget
