"""TruthIds: the image and category ids that a ground truth uses, for predictions that evaluate against it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from apiece.core.classes import ClassMap
from apiece.data.coco import CocoDataset, ImageRecord
from apiece.errors import DataError, UsageError


class TruthIds:
    """Finds pictures and classes again in a COCO ground truth.

    truth    the ground truth.
    classes  the model's. Matched by name; where both know just one class, that is the one whatever its name.
    raises   UsageError when the truth lacks a class of the model.

    category_ids  the truth's category id of each of the model's classes.
    notes         what a person should know about the match.
    """

    def __init__(self, truth: CocoDataset, classes: ClassMap) -> None:
        self.truth = truth
        self.notes: list[str] = []
        known = dict(zip(truth.classes.names, truth.classes.ids, strict=True))
        if len(known) == len(classes) == 1 and classes.names != truth.classes.names:
            self.notes.append(
                f"the model's class {classes.names[0]!r} is written as {truth.classes.names[0]!r}, the only "
                f"category of {truth.path}."
            )
            known = {classes.names[0]: truth.classes.ids[0]}
        for name in classes.names:
            if name not in known:
                raise UsageError(
                    f"--images-of {truth.path}: has no category {name!r}, which the model finds; it has "
                    f"{', '.join(truth.classes.names)}. Rename its category, or leave --images-of out."
                )
        self.category_ids = tuple(known[name] for name in classes.names)
        self._named: dict[str, list[ImageRecord]] = {}
        for record in truth.images:
            self._named.setdefault(_parts(record.file_name)[-1], []).append(record)
        self._taken: dict[int, Path] = {}

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The truth's `categories`."""
        return self.truth.classes.to_coco()

    def claim(self, path: Path, size: tuple[int, int]) -> ImageRecord:
        """The truth's entry for the picture at `path` of `size` (height, width); each can be had once.

        Of several entries with the file's name the one whose folders agree furthest, from the end, is meant.
        raises  DataError: no entry, several that agree as far, taken before, or of another size.
        """
        own = _parts(path.absolute().as_posix())
        records = self._named.get(own[-1], [])
        if not records:
            raise DataError(f"{path}: is not among the {len(self.truth.images)} images of {self.truth.path}.")
        agreed = [_shared_end(own, _parts(record.file_name)) for record in records]
        best = [r for r, length in zip(records, agreed, strict=True) if length == max(agreed)]
        if len(best) > 1:
            raise DataError(
                f"{path}: {self.truth.path} has {len(best)} images that could be it: "
                f"{best[0].file_name!r}, {best[1].file_name!r}. Give the path with its folders."
            )
        record = best[0]
        if record.id in self._taken:
            raise DataError(
                f"{path}: is image {record.id} of {self.truth.path}, but so was {self._taken[record.id]}."
            )
        if (record.height, record.width) != size:
            raise DataError(
                f"{path}: is {size[0]} x {size[1]} pixels (height x width), but {self.truth.path} says "
                f"{record.height} x {record.width} for {record.file_name!r}. Is it the same picture?"
            )
        self._taken[record.id] = path
        return record


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file name; a document from Windows may have backslashes."""
    return PurePosixPath(name.replace("\\", "/")).parts or ("",)


def _shared_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    length = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if x != y:
            break
        length += 1
    return length
