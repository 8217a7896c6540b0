"""Truth: the ground truth of any format as one COCO document in memory, with what is known of its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apiece.core.instances import Instances
from apiece.data.coco_entries import load_json
from apiece.data.dataset import find_document
from apiece.data.formats import detect_format, format_of, open_source
from apiece.data.formats.coco_pictures import PictureFinder, picture_folders
from apiece.data.problems import Problem
from apiece.errors import AnnotationError, DataError
from apiece.evaluate.coco_scenes import as_key, scenes_of_coco
from apiece.evaluate.read.metadata import Columns, columns_of
from apiece.evaluate.read.pictures import Pictures
from apiece.evaluate.scenes import Key

Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth, read.

    path      as the user named it.
    format    of apiece.data.formats.FORMATS.
    document  a COCO document: the file's own, or made of another format's objects, masks as run-length codes.
    pictures  in the order of `Scenes.image_ids`.
    classes   (id, name) of each class, by increasing id; may be empty where the format names only what occurs.
    metadata  columns that describe the pictures.
    notes     what a reader of the figures must know.
    """

    path: str
    format: str
    document: Mapping[str, Any]
    pictures: Pictures
    classes: tuple[tuple[Key, str], ...]
    metadata: Columns = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def coco(self) -> bool:
        """Whether ids are the data's own, so that a list of COCO results can mean them."""
        return self.format == "coco"


def read_truth(path: Path, images: Path | None = None, format: str | None = None) -> Truth:
    """Read a COCO document, or annotations of any format that `open_source` reads.

    raises  DataError or AnnotationError naming file and object, as `open_source` and `scenes_of_coco` do.
    """
    if format is not None:
        format_of(format)
    if not path.exists():
        raise AnnotationError(f"{path}: not found; expected the ground truth. Remedy: check the path.")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: not found; expected the picture folder. Remedy: check the path.")
    document = None
    if format in (None, "coco") and path.is_file() and path.suffix.lower() == ".json":
        document = load_json(path)
        if format is None and not is_coco(document) and not _is_results(document):
            document = None
    if document is None:
        format = detect_format(path) if format is None else format
        if format != "coco":
            return _of_source(path, images, format)
        path = find_document(path)
        document = load_json(path)
    return _of_document(path, document, images)


def is_coco(document: object) -> bool:
    """Whether parsed JSON is a COCO document of objects; panoptic ones and such of YOLACT aren't."""
    if not isinstance(document, Mapping) or not isinstance(document.get("images"), list):
        return False
    annotations = document.get("annotations")
    if not isinstance(annotations, list):
        return "annotations" not in document and isinstance(document.get("categories"), list)
    first = annotations[0] if annotations else None
    return not (isinstance(first, Mapping) and "segments_info" in first)


def _is_results(document: object) -> bool:
    """A list of results, which scenes_of_coco refuses as truth with a sentence of its own."""
    return isinstance(document, list) and (
        not document or (isinstance(document[0], Mapping) and "image_id" in document[0])
    )


def _of_document(path: Path, document: Any, images: Path | None) -> Truth:
    bare = {**document, "annotations": []} if isinstance(document, Mapping) else document
    frame = scenes_of_coco(bare, [], str(path))
    entry_of = {as_key(entry["id"]): entry for entry in document["images"]}
    entries = [entry_of[key] for key in frame.image_ids]
    given = [entry.get("file_name") for entry in entries]
    names = [name if isinstance(name, str) and name else "" for name in given]
    stems = list(dict.fromkeys([path.stem, path.stem.removeprefix("instances_")]))
    finder = PictureFinder(picture_folders(path, images, stems, [name for name in names if name]))
    paths = tuple(finder.find(name) if name else None for name in names)
    notes = []
    absent = sum(place is None for place in paths)
    if images is not None and absent:
        notes.append(f"{absent} of {len(paths)} pictures of {path} were not found in {images}.")
    pictures = Pictures(
        frame.image_ids,
        tuple(name or str(key) for name, key in zip(names, frame.image_ids, strict=True)),
        paths,
        frame.sizes,
        str(path),
    )
    return Truth(str(path), "coco", document, pictures, frame.classes, columns_of(entries), tuple(notes))


def _of_source(path: Path, images: Path | None, format: str) -> Truth:
    """Objects of other formats, read picture by picture; of each picture only run-length codes are kept."""
    source = open_source(path, images, format)
    records: list[Entry] = []
    annotations: list[Entry] = []
    boxed = 0
    for index, picture in enumerate(source.pictures):
        objects = source.read(index)
        height, width = objects.size
        records.append({"id": picture.id, "file_name": picture.name, "height": height, "width": width})
        drawn = objects.columns.get("box_mask")
        boxed += 0 if drawn is None else int(drawn.sum())
        annotations += entries_of(objects, picture.id, {i: i for i in objects.classes.ids})
    if boxed and boxed == len(annotations):
        for entry in annotations:
            entry.pop("segmentation", None)
    order = sorted(range(len(records)), key=lambda i: source.pictures[i].id)
    kept = [source.pictures[i] for i in order]
    pictures = Pictures(
        tuple(picture.id for picture in kept),
        tuple(picture.name for picture in kept),
        tuple(picture.path for picture in kept),
        tuple((records[i]["height"], records[i]["width"]) for i in order),
        str(path),
    )
    described = [
        {"split": picture.split, "microns": "" if picture.microns is None else f"{picture.microns:g}"}
        for picture in kept
    ]
    classes = tuple(sorted(zip(source.classes.ids, source.classes.names, strict=True)))
    document = {
        "images": records,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in classes],
    }
    notes = (*_warned(source.problems, "ground truth"), *boxes_note("true", boxed, len(annotations)))
    return Truth(str(path), format, document, pictures, classes, columns_of(described), notes)


def entries_of(
    objects: Instances, image: Key, category_of: Mapping[int, Key], *, area: bool = True, score: bool = False
) -> list[Entry]:
    """Annotations as evaluation takes them: an object without a pixel but with a box has no `segmentation`.

    category_of  the category id to write for each id of the objects' classes.
    area         whether they have one: truth has, of predictions the mask or box counts.
    score        whether they have one.
    """
    areas = objects.masks.areas
    stated = objects.columns.get("area", areas).tolist()
    entries = objects.to_coco(0)
    for entry, pixels, own in zip(entries, areas.tolist(), stated, strict=True):
        side = entry["bbox"][2] * entry["bbox"][3]
        if not pixels and side > 0:
            del entry["segmentation"]
            own = side
        del entry["id"]
        entry |= {"image_id": image, "category_id": category_of[entry["category_id"]], "area": own}
        if not area:
            del entry["area"]
        if not score:
            del entry["score"]
    return entries


def boxes_note(side: str, boxed: int, count: int) -> tuple[str, ...]:
    """What is said of objects that are drawn rectangles."""
    if not boxed:
        return ()
    if boxed == count:
        return (f"All {count} {side} objects are drawn rectangles: they are boxes, and have no masks.",)
    return (f"{boxed} of {count} {side} objects are drawn rectangles, whose mask is the whole box.",)


def _warned(problems: tuple[Problem, ...], side: str) -> tuple[str, ...]:
    if not problems:
        return ()
    count = len(problems)
    return (f"The {side} was read with {count} warning{'s' * (count > 1)}: {problems[0]}",)
