"""What `apiece segment` writes: COCO JSON, overlays, label images, a table; whole files or none."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.draw import overlay
from apiece.core.image import read_image, write_image
from apiece.core.instances import Instances
from apiece.data.coco import CocoDataset
from apiece.errors import DataError, UsageError, did_you_mean
from apiece.predict.predictor import Result

FORMATS = ("coco", "overlay", "labels", "csv")
COLUMNS = ("file", "object", "class", "score", "area_px", "x", "y", "x1", "y1", "x2", "y2")


class Writer:
    """Writes results into a folder, picture by picture; call `finish` for the files that hold all of them.

    formats    of FORMATS.
    classes    the model's.
    images_of  a truth whose image and category ids the COCO document keeps, so that it evaluates directly.
    raises     UsageError for an unknown format, or a truth without the model's classes.
    """

    def __init__(
        self, folder: Path, formats: Iterable[str], classes: ClassMap, images_of: CocoDataset | None = None
    ) -> None:
        self.formats = tuple(formats)
        for name in self.formats:
            if name not in FORMATS:
                raise UsageError(f"--as: no format {name!r}. {did_you_mean(name, FORMATS)}")
        self.folder, self.classes, self.images_of = folder, classes, images_of
        self.written: list[Path] = []
        self.notes: list[str] = []
        self._used: set[str] = set()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._rows: list[list[Any]] = []
        self._ids: dict[str, int] = {}
        self._categories = self._match_classes()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be made ({error.strerror}).") from None

    def _match_classes(self) -> dict[int, int]:
        """Class index -> category id in the COCO document."""
        own = {i: self.classes.id_of(i) for i in range(len(self.classes))}
        if self.images_of is None:
            return own
        truth = self.images_of.classes
        known = dict(zip(truth.names, truth.ids, strict=True))
        if len(truth) == len(self.classes) == 1:
            return {0: truth.ids[0]}
        missing = [name for name in self.classes.names if name not in known]
        if missing:
            raise UsageError(
                f"--images-of {self.images_of.path}: has no category {missing[0]!r}, which the model finds. "
                f"It has {', '.join(known)}."
            )
        return {i: known[name] for i, name in enumerate(self.classes.names)}

    def add(self, result: Result) -> None:
        """Write what belongs to one picture that was segmented."""
        assert result.instances is not None
        found = result.instances.sorted_by_score()
        stem = self._stem(result.path)
        if "overlay" in self.formats:
            image = result.image if result.image is not None else read_image(result.path)
            self._write_picture(self.folder / f"{stem}.overlay.png", overlay(image, found), result.path)
        if "labels" in self.formats:
            self._write_labels(self.folder / f"{stem}.labels.tif", found, result.path)
        if "coco" in self.formats:
            self._add_coco(result.path, found)
        if "csv" in self.formats:
            self._add_rows(result.path, found)

    def finish(self) -> None:
        """Write the files that hold all pictures."""
        if "coco" in self.formats:
            categories: Any = [
                {"id": self._categories[i], "name": name} for i, name in enumerate(self.classes.names)
            ]
            if self.images_of is not None:
                categories = self.images_of.classes.to_coco()
            document = {"images": self._images, "categories": categories, "annotations": self._annotations}
            self._write(self.folder / "predictions.json", json.dumps(document).encode())
        if "csv" in self.formats:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(self._rows)
            self._write(self.folder / "objects.csv", text.getvalue().encode())

    def _stem(self, path: Path) -> str:
        """A file name of its own for every picture, also for two of the same name in different folders."""
        base, number = path.stem, 1
        stem = base
        while stem.lower() in self._used:
            number += 1
            stem = f"{base}-{number}"
        self._used.add(stem.lower())
        return stem

    def _add_coco(self, path: Path, found: Instances) -> None:
        if self.images_of is not None:
            image_id, name = self._known_image(path)
        else:
            image_id, name = len(self._images) + 1, str(path)
        self._images.append(
            {"id": image_id, "file_name": name, "height": found.size[0], "width": found.size[1]}
        )
        for row, index in zip(
            found.to_coco(image_id, first_id=len(self._annotations) + 1),
            found.class_ids.tolist(),
            strict=True,
        ):
            self._annotations.append({**row, "category_id": self._categories[index]})

    def _known_image(self, path: Path) -> tuple[int, str]:
        assert self.images_of is not None
        if not self._ids:
            for record in self.images_of.images:
                self._ids[record.file_name] = self._ids[Path(record.file_name).name] = record.id
        for name in (str(path), path.name):
            if name in self._ids:
                return self._ids[name], self.images_of.image(self._ids[name]).file_name
        raise DataError(f"{path}: is not among the images of {self.images_of.path}.")

    def _add_rows(self, path: Path, found: Instances) -> None:
        areas, centres = found.masks.areas, found.masks.centroids
        for i in range(len(found)):
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

    def _write_labels(self, target: Path, found: Instances, source: Path) -> None:
        import tifffile

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            labels = found.masks.to_label_image("first")
        overlapping = found.masks.overlapping_pixels()
        if overlapping:
            self.notes.append(
                f"{target.name}: {overlapping} pixels belong to several objects; a label image gives each to the "
                "object with the best score. predictions.json keeps all."
            )
        self.notes += [f"{target.name}: {warning.message}" for warning in caught]
        data = io.BytesIO()
        tifffile.imwrite(data, labels, compression="zlib", photometric="minisblack")
        self._write(target, data.getvalue(), source)

    def _write_picture(self, target: Path, image: np.ndarray[Any, Any], source: Path) -> None:
        self._refuse_input(target, source)
        write_image(target, image)
        self.written.append(target)

    def _write(self, target: Path, data: bytes, source: Path | None = None) -> None:
        if source is not None:
            self._refuse_input(target, source)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}).") from None
        finally:
            temporary.unlink(missing_ok=True)
        self.written.append(target)

    @staticmethod
    def _refuse_input(target: Path, source: Path) -> None:
        if target.exists() and source.exists() and target.samefile(source):
            raise DataError(f"{target}: would be written over, but it is the input. Choose another --out.")


def counts(found: Instances) -> Mapping[str, int]:
    """Objects by class name, classes without objects included."""
    return {name: int((found.class_ids == i).sum()) for i, name in enumerate(found.classes.names)}
