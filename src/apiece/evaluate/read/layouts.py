"""Layouts: in what form predictions lie there, told by what the files hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apiece.data.coco_entries import load_json
from apiece.data.dataset import find_document
from apiece.data.formats import FORMATS, detect_format
from apiece.data.label_folder import LABEL_SUFFIXES
from apiece.errors import AnnotationError, ApieceError, DataError, UsageError, did_you_mean
from apiece.evaluate.read import (
    coco,
    label_images,
    mmdetection,
    roboflow,
    sources,
    supervision,
    ultralytics,
    yolact,
    yolo_text,
)
from apiece.evaluate.read.per_picture import files_of
from apiece.evaluate.read.predictions import Predictions
from apiece.evaluate.read.truth import Truth

# Layouts of predictions besides the annotation formats, each with what lies where.
LAYOUTS = {
    "coco-results": "a list of {image_id, category_id, score, segmentation or bbox} (Detectron2, MMDetection, "
    "Ultralytics val), or a COCO document with scores",
    "ultralytics": "NAME.json a picture, or {picture: list}, of Results.to_json()",
    "yolo-text": "NAME.txt a picture, lines `class x y x y … confidence` (save_txt save_conf)",
    "mmdetection": "preds/NAME.json a picture, {labels, scores, bboxes, masks}",
    "supervision": "JSON or CSV of supervision's sinks, a row a detection",
    "roboflow": "NAME.json a picture, or a list, {predictions, image}",
    "yolact": "one JSON, {info, images: [{image_id, dets}]}",
    "label-images": "NAME.tif or NAME_cp_masks.png a picture (Cellpose, StarDist)",
}
PROBED = 5  # files of a folder that are looked into
PICKLES = frozenset({".pkl", ".pickle", ".pth", ".pt", ".joblib", ".npy", ".npz"})


class Found(NamedTuple):
    """A layout or format by its name, and what the file holds where it has been read."""

    name: str
    document: Any = None


def read_predictions(
    path: Path,
    truth: Truth,
    layout: str | None = None,
    images: Path | None = None,
    renamed: frozenset[str] = frozenset(),
) -> Predictions:
    """Read predictions of any layout or annotation format.

    layout   of LAYOUTS or FORMATS; told by what the files hold by default.
    images   the picture folder, for formats that need it.
    renamed  names of predicted classes that the user joins by hand.
    raises   UsageError for an unknown layout; DataError or AnnotationError naming file and object.
    """
    if layout is not None and layout not in LAYOUTS and layout not in FORMATS:
        raise UsageError(
            f"no layout or format of predictions {layout!r}. {did_you_mean(layout, [*LAYOUTS, *FORMATS])}"
        )
    if not path.exists():
        raise AnnotationError(f"{path}: not found; expected predictions. Remedy: check the path.")
    refuse_pickle(path)
    found = layout_of(path) if layout is None else Found(layout)
    if found.name in ("coco-results", "coco"):
        document = found.document
        if document is None:
            document = load_json(find_document(path))
        if isinstance(document, Mapping) and "annotations" in document:
            return coco.read_document(str(path), document, truth, renamed)
        if isinstance(document, list):
            return coco.read_results(str(path), document, truth, renamed)
        raise DataError(
            f"{path}: is neither a list of COCO results nor a COCO document with `annotations`; expected one of them. "
            "Remedy: say the layout (--predictions-format)."
        )
    readers = {
        "ultralytics": ultralytics.read,
        "yolo-text": yolo_text.read,
        "mmdetection": mmdetection.read,
        "supervision": supervision.read,
        "roboflow": roboflow.read,
        "yolact": yolact.read,
        "label-images": label_images.read,
    }
    if found.name in readers:
        return readers[found.name](path, truth, found.document)
    return sources.read(path, truth, found.name, images)


def layout_of(path: Path) -> Found:
    """The layout or format of a file or folder.

    raises  DataError if it is none that is known; UsageError if it can be of several formats; AnnotationError for
            JSON that isn't whole.
    """
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is not None:
        return found
    try:
        return Found(detect_format(path))
    except UsageError:
        raise
    except DataError as error:
        layouts = "\n".join(f"  {name:14}{told}" for name, told in LAYOUTS.items())
        raise DataError(
            f"{path}: no predictions of a layout known here. Remedy: name the file or folder itself, or say the layout "
            f"(--predictions-format).\n{layouts}\nand the annotation formats: {', '.join(FORMATS)}."
        ) from error


def _of_file(path: Path) -> Found | None:
    suffix = path.suffix.lower()
    if suffix == ".json":
        document = load_json(path)
        name = _of_json(document)
        return None if name is None else Found(name, document)
    if suffix == ".csv":
        return Found("supervision")
    if suffix == ".txt" and yolo_text.detect(path):
        return Found("yolo-text")
    return Found("label-images") if suffix in LABEL_SUFFIXES else None


def _of_json(document: Any) -> str | None:
    """The layout of parsed JSON; None for what may be an annotation format."""
    if isinstance(document, list):
        first = next((row for row in document if row != []), None)
        if first is None:
            return "coco-results" if not document else "ultralytics"
        if isinstance(first, list):
            return "ultralytics" if ultralytics.is_detection(first[0]) else None
        for name, fits in (
            ("supervision", supervision.is_row),
            ("ultralytics", ultralytics.is_detection),
            ("roboflow", _is_roboflow),
        ):
            if fits(first):
                return name
        return "coco-results" if isinstance(first, Mapping) and "image_id" in first else None
    if not isinstance(document, Mapping):
        return None
    if yolact.is_document(document):
        return "yolact"
    if isinstance(document.get("annotations"), list) and "images" in document:
        rows = document["annotations"]
        panoptic = bool(rows) and isinstance(rows[0], Mapping) and "segments_info" in rows[0]
        return None if panoptic else "coco-results"
    if mmdetection.is_document(document):
        return "mmdetection"
    if _is_roboflow(document):
        return "roboflow"
    values = list(document.values())
    if values and all(_is_roboflow(value) for value in values):
        return "roboflow"
    lists = [value for value in values if isinstance(value, list)]
    rows = [row for value in lists for row in value[:1]]
    if values and len(lists) == len(values) and rows and all(map(ultralytics.is_detection, rows)):
        return "ultralytics"
    return None


def _is_roboflow(value: object) -> bool:
    """An answer; Label Studio's tasks have `predictions`, too, but of `result`s."""
    if not isinstance(value, Mapping) or not roboflow.is_answer(value) or "data" in value:
        return False
    rows = value["predictions"]
    return not rows or (isinstance(rows[0], Mapping) and {"x", "y", "width"} <= rows[0].keys())


def _of_folder(path: Path) -> Found | None:
    for file in files_of(path, frozenset({".json"}))[:PROBED]:
        document = load_json(file)
        if document == []:
            continue  # a picture without detections; another file tells the layout
        name = _of_json(document)
        if name in ("ultralytics", "mmdetection", "supervision", "roboflow"):
            return Found(name)
        break
    else:
        if files_of(path, frozenset({".json"})):
            return Found("ultralytics")
    if files_of(path, frozenset({".csv"}), ("",)):
        return Found("supervision")
    if yolo_text.detect(path):
        return Found("yolo-text")
    try:
        name = detect_format(path)
    except UsageError:
        raise
    except ApieceError:
        name = "labels" if label_images.files(path)[0] else ""
    if name == "labels":
        return Found("label-images")
    return Found(name) if name else None


def refuse_pickle(path: Path) -> None:
    """Refuse files that run code when they are read: pickles, and what is made of them.

    raises  DataError saying how to write the same results as data.
    """
    inside: list[Path] = []
    if path.is_dir():
        if files_of(path, LABEL_SUFFIXES | {".json", ".csv", ".txt", ".zip", ".roi", ".xml", ".geojson"}):
            return
        inside = files_of(path, PICKLES)
    elif path.suffix.lower() in PICKLES or _starts_as_pickle(path):
        inside = [path]
    if not inside:
        return
    remedy = "save results as JSON or as label images."
    if inside[0].name.endswith("_seg.npy"):
        remedy = "run cellpose with --save_png or --save_tif, and name the folder of *_cp_masks files."
    elif inside[0].suffix.lower() in (".pkl", ".pickle"):
        remedy = (
            "MMDetection: test with `outfile_prefix`, which writes *.segm.json, or use the inferencer's preds/; "
            "Detectron2: use coco_instances_results.json."
        )
    elif inside[0].suffix.lower() in (".pth", ".pt"):
        remedy = "name coco_instances_results.json, which Detectron2 writes beside it."
    raise DataError(
        f"{inside[0]}: is or may hold a pickle, which can run any code when it is read, so it isn't opened; expected "
        f"predictions as data. Remedy: {remedy}"
    )


def _starts_as_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError:
        return False
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5
