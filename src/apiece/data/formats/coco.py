"""COCO instances: one JSON document with images, annotations and categories, beside a folder of pictures.

Outlines are polygons or run-length codes; masks equal those of pycocotools in every pixel. An annotation with a box
and no outline has an empty mask and keeps its box. Scores are read where annotations have a `score`, tracks where
every annotation of a picture has a whole `track_id`.

Written is `annotations.json` with `images/`: masks as run-length codes, byte for byte those of pycocotools; picture
and category ids are kept.

source  cocodataset.org, Data format; what isn't there (`score`, `track_id`, `box_mask`) other readers pass over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.data.coco import CocoDataset, read_coco
from apiece.data.coco_entries import Entry, finite
from apiece.data.formats.base import Holds, Picture, Source, Target
from apiece.data.formats.coco_documents import documents, only_document
from apiece.data.formats.coco_pictures import (
    PictureFinder,
    TargetNames,
    not_found,
    own_names,
    picture_folders,
)
from apiece.data.formats.coco_stream import StreamedDocument
from apiece.data.problems import Problem

NAME = "coco"
TITLE = "COCO instances"
LAYOUT = "one document (.json) with images, annotations and categories, and the picture folder images/"

LARGEST = float(np.finfo(np.float32).max)


def detect(path: Path) -> bool:
    """Whether `path` is a COCO document of objects (not panoptic, captions or video), or a folder with just one."""
    return len(documents(path, "instances")) == 1


@dataclass(frozen=True, eq=False)
class CocoSource(Source):
    """A COCO document; see the module.

    coco  what `read_coco` makes of it.
    """

    coco: CocoDataset = field(kw_only=True)

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.coco.path

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source. What can't be read was left out when the source was opened, and stands in its `problems`.

        columns  "iscrowd", "annotation_id"; "box_mask" where an annotation says so.
        """
        number = self.pictures[index].id
        self.size(index)
        rows = self.coco.annotations(number)
        boxes = np.array([row.get("box_mask") is True for row in rows], np.bool_)
        scores = [self._score(row, found) for row in rows]
        return self.coco.instances_of(rows, number, scores, {"box_mask": boxes} if boxes.any() else None)

    def _score(self, row: Entry, found: list[Problem] | None) -> float:
        score = row.get("score", 1.0)
        if finite(score) and abs(score) <= LARGEST:
            return float(score)
        if score is not None and found is not None:
            text = f"has the score {str(score)[:60]!r}; expected a finite number. It is read as 1."
            where = f"annotation {row['id']}"
            found.append(Problem("warning", str(self.path), where, text, "write a number, or none."))
        return 1.0


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> CocoSource:
    """Open a COCO document.

    path    the document, or a folder with just one.
    images  the picture folder; without it `images/`, a folder of the document's stem, and the document's own folder
            are searched, there and one up. File names are never followed out of it.
    raises  DataError as `read_coco`, and if the folder holds none or several documents.
    """
    document = only_document(path, "instances")
    coco = read_coco(document, strict=strict)
    names = [record.file_name for record in coco.images]
    stems = list(dict.fromkeys([document.stem, document.stem.removeprefix("instances_")]))
    finder = PictureFinder(picture_folders(document, images, stems, [name for name in names if name]))
    pictures = tuple(
        Picture(name, finder.find(record.file_name) if record.file_name else None, record.id, record.size)
        for name, record in zip(own_names(names, (one.id for one in coco.images)), coco.images, strict=True)
    )
    missing = not_found(document, pictures, finder.folders)
    return CocoSource(path, coco.classes, pictures, (*coco.problems, *missing), coco=coco)


class CocoTarget(Target):
    """Writes `annotations.json` and `images/`; see the module."""

    holds: ClassVar[Holds] = Holds(crowd=True, track_ids=True, scores=True, boxes_only=True)
    document: ClassVar[str | None] = "annotations.json"

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self._stream = StreamedDocument(folder / "annotations.json", ("images", "annotations"))
        self._names = TargetNames(self.notes)
        self._next = 1

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name, number = self._names.take(picture)
        height, width = objects.size
        self._stream.add("images", [{"id": number, "file_name": name, "height": height, "width": width}])
        self._stream.add("annotations", self._entries(objects, number))
        self._next += len(objects)
        self.copy_picture(picture, PurePosixPath("images") / name)
        return name

    def finish(self) -> None:
        """See Target."""
        categories = [{**category, "supercategory": ""} for category in self.classes.to_coco()]
        self._stream.finish({"info": {"description": "written by apiece"}, "categories": categories})

    def _entries(self, objects: Instances, image_id: int) -> list[dict[str, Any]]:
        entries = objects.to_coco(image_id, self._next)
        for entry in entries:
            if entry["area"] == 0:  # a box alone, as COCO's detection sets have it
                entry["segmentation"] = []
                entry["area"] = entry["bbox"][2] * entry["bbox"][3]
            if entry["score"] == 1:
                del entry["score"]
        return entries


TARGET = CocoTarget
