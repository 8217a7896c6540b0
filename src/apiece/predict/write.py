"""What `apiece segment` writes: COCO JSON, overlays, label images, outlines for QuPath and ImageJ, a table; whole
files or none."""

from __future__ import annotations

import csv
import io
import json
import secrets
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.draw import overlay
from apiece.core.image import read_image, write_image
from apiece.core.instances import Instances
from apiece.data.coco import CocoDataset, ImageRecord
from apiece.errors import DataError, UsageError, did_you_mean
from apiece.predict.predictor import Result
from apiece.predict.truth_ids import TruthIds

SCHEMA = "apiece/segment/1"
FORMATS = ("coco", "overlay", "labels", "csv", "geojson", "imagej")
DOCUMENTS = {"coco": "predictions.json", "csv": "objects.csv"}
SUFFIXES = {
    "overlay": ".overlay.png",
    "labels": ".labels.tif",
    "geojson": ".geojson",
    "imagej": ".rois.zip",
}
COLUMNS = ("file", "object", "class", "score", "area_px", "x", "y", "x1", "y1", "x2", "y2")


class Writer:
    """Writes results into a folder, picture by picture; call `finish` for the files that hold all of them.

    formats    of FORMATS.
    classes    the model's.
    images_of  a truth whose image and category ids the COCO document keeps, so that it evaluates directly.
    inputs     files that must not be written over: the pictures. `images_of` is protected anyway.
    raises     UsageError for an unknown or no format, a truth without the model's classes, or where a file that
               holds all pictures would be an input.

    written    the files, in order of writing.
    notes      what the files don't show: overlaps in label images, names that were made different.
    """

    def __init__(
        self,
        folder: Path,
        formats: Iterable[str],
        classes: ClassMap,
        images_of: CocoDataset | None = None,
        inputs: Iterable[Path] = (),
    ) -> None:
        self.formats = tuple(dict.fromkeys(formats))
        for name in self.formats:
            if name not in FORMATS:
                raise UsageError(f"--as: no format {name!r}. {did_you_mean(name, FORMATS)}")
        if not self.formats:
            raise UsageError(f"--as: expected one or more of {', '.join(FORMATS)}, got none.")
        self.folder, self.classes = folder, classes
        self.truth = None if images_of is None else TruthIds(images_of, classes)
        self.written: list[Path] = []
        self.notes: list[str] = [] if self.truth is None else list(self.truth.notes)
        self._inputs = {_identity(path) for path in inputs if path.exists()}
        if images_of is not None:
            self._inputs.add(_identity(images_of.path))
        for name in self.formats:
            if name in DOCUMENTS and self._is_input(folder / DOCUMENTS[name]):
                raise UsageError(
                    f"{folder / DOCUMENTS[name]}: would be written over, but it is an input. Choose another --out."
                )
        self._pictures = 0
        self._used: set[str] = set()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._rows: list[list[Any]] = []
        self._square_microns: list[
            str
        ] = []  # of each row; "" where the picture doesn't state its pixels' width
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be made ({error.strerror}).") from None

    def add(self, result: Result) -> list[Path]:
        """Write what belongs to one picture that was segmented; returns the files of its own.

        raises  DataError, before anything is written, when a file would be an input or --images-of doesn't know
                the picture; and when a file cannot be written.
        """
        from apiece.data.formats.geojson import feature_collection
        from apiece.data.formats.imagej import roi_archive

        assert result.instances is not None
        found = result.instances.sorted_by_score()
        stem = self._stem(result.path)
        targets = {f: self.folder / (stem + SUFFIXES[f]) for f in self.formats if f in SUFFIXES}
        for target in targets.values():
            if self._is_input(target):
                raise DataError(f"{target}: would be written over, but it is an input. Choose another --out.")
        record = None
        if self.truth is not None and "coco" in self.formats:
            record = self.truth.claim(result.path, found.size)
        if "overlay" in targets:
            image = result.image if result.image is not None else read_image(result.path)
            write_image(targets["overlay"], overlay(image, found))
        if "labels" in targets:
            self._write_labels(targets["labels"], found)
        if "geojson" in targets:
            data = feature_collection(found, result.path.name, kind_of_object="detection")
            self._write(targets["geojson"], data)
        if "imagej" in targets:
            self._write(targets["imagej"], roi_archive(found, result.path.name))
        self.written += targets.values()
        self._pictures += 1
        if "coco" in self.formats:
            self._add_coco(result.path, found, record)
        if "csv" in self.formats:
            self._add_rows(result.path, found)
        if stem != result.path.stem and targets:
            self.notes.append(f"{result.path}: its files are called {stem}.*, another picture has its name.")
        return list(targets.values())

    def finish(self) -> None:
        """Write the files that hold all pictures. Without a picture nothing is written, so that a misspelt path
        doesn't empty the results of an earlier run."""
        if not self._pictures:
            return
        if "coco" in self.formats:
            if self.truth is None:
                categories = self.classes.to_coco()
            else:
                categories = self.truth.categories
            document = {
                "schema": SCHEMA,
                "images": self._images,
                "categories": categories,
                "annotations": self._annotations,
            }
            self._write(self.folder / DOCUMENTS["coco"], json.dumps(document).encode())
            self.written.append(self.folder / DOCUMENTS["coco"])
        if "csv" in self.formats:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if any(self._square_microns):
                writer.writerow((*COLUMNS, "area_um2"))
                rows = zip(self._rows, self._square_microns, strict=True)
                writer.writerows([*row, area] for row, area in rows)
            else:
                writer.writerow(COLUMNS)
                writer.writerows(self._rows)
            self._write(self.folder / DOCUMENTS["csv"], text.getvalue().encode())
            self.written.append(self.folder / DOCUMENTS["csv"])

    def _stem(self, path: Path) -> str:
        """A file name of its own for every picture, also for two of the same name in different folders."""
        stem, number = path.stem, 1
        while stem.lower() in self._used:  # file systems may not tell cases apart
            number += 1
            stem = f"{path.stem}-{number}"
        self._used.add(stem.lower())
        return stem

    def _add_coco(self, path: Path, found: Instances, record: ImageRecord | None) -> None:
        image_id, name = (
            (len(self._images) + 1, str(path)) if record is None else (record.id, record.file_name)
        )
        categories = self.classes.ids if self.truth is None else self.truth.category_ids
        height, width = found.size
        self._images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        rows = found.to_coco(image_id, first_id=len(self._annotations) + 1)
        for row, index in zip(rows, found.class_ids.tolist(), strict=True):
            self._annotations.append({**row, "category_id": categories[index]})

    def _add_rows(self, path: Path, found: Instances) -> None:
        from apiece.data.formats.ome import microns_of_file

        areas, centres = found.masks.areas, found.masks.centroids
        microns = microns_of_file(path)
        for i in range(len(found)):
            self._square_microns.append("" if microns is None else f"{areas[i] * microns**2:.6g}")
            self._rows.append(
                [
                    str(path),
                    i + 1,
                    found.classes.name_of(int(found.class_ids[i])),
                    f"{found.scores[i]:.4f}",
                    int(areas[i]),
                    f"{centres[i, 0]:.2f}",
                    f"{centres[i, 1]:.2f}",
                    *(f"{v:.1f}" for v in found.boxes[i]),
                ]
            )

    def _write_labels(self, target: Path, found: Instances) -> None:
        import tifffile

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            labels = found.masks.to_label_image("first")
        overlapping = found.masks.overlapping_pixels()
        if overlapping:
            self.notes.append(
                f"{target.name}: {overlapping} pixels belong to several objects; a label image gives each to the "
                "object with the best score. --as coco keeps all."
            )
        self.notes += [f"{target.name}: {warning.message}" for warning in caught]
        data = io.BytesIO()
        tifffile.imwrite(data, labels, compression="zlib", photometric="minisblack")
        self._write(target, data.getvalue())

    def _write(self, target: Path, data: bytes) -> None:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            try:
                temporary.write_bytes(data)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}).") from None

    def _is_input(self, target: Path) -> bool:
        return target.exists() and _identity(target) in self._inputs


def _identity(path: Path) -> tuple[int, int]:
    """What makes two paths the same file, whatever links lead there."""
    status = path.stat()
    return status.st_dev, status.st_ino


def counts(found: Instances) -> Mapping[str, int]:
    """Objects by class name, classes without objects included."""
    numbers = np.bincount(found.class_ids, minlength=len(found.classes))
    return dict(zip(found.classes.names, numbers.tolist(), strict=True))
