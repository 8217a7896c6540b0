"""TileStore: finished rows of tiles on disk, so that an interrupted run goes on where it was."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import DataError
from apiece.predict.seams import TileView
from apiece.predict.tiles import Window

SCHEMA = "apiece/tiles/1"


class TileStore:
    """One folder for one picture, model and settings; a file a row of tiles, each whole or absent.

    folder    where stores lie; made when missing.
    settings  all that the objects depend on, as JSON can hold it. A run with other settings has another folder, named
              by the settings' SHA-256.
    size      (height, width) of the picture; classes: the model's.
    raises    DataError when the folder can't be made.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], size: tuple[int, int], classes: ClassMap
    ) -> None:
        text = json.dumps({"schema": SCHEMA, **settings}, sort_keys=True)
        self.parent = folder
        self.folder = folder / sha256(text.encode()).hexdigest()[:24]
        self.size, self.classes = size, classes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "settings.json").write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be made ({error.strerror}).") from None

    def load(self, top: int) -> list[TileView] | None:
        """The row of tiles that begins at this row of pixels; None where it isn't there, or isn't whole."""
        try:
            with np.load(self._path(top), allow_pickle=False) as file:
                return _unpacked({name: file[name] for name in file.files}, self.size, self.classes)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, DataError):
            return None  # it is computed again

    def save(self, top: int, views: Sequence[TileView]) -> None:
        """Keep a row.

        raises  DataError when it can't be written.
        """
        path = self._path(top)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            try:
                with temporary.open("wb") as file:
                    np.savez_compressed(file, **_packed(views))  # type: ignore[arg-type]
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}).") from None

    def remove(self) -> None:
        """Take the store away, and its parent where nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.parent.rmdir()

    def _path(self, top: int) -> Path:
        return self.folder / f"row-{top:09d}.npz"


def _packed(views: Sequence[TileView]) -> dict[str, NDArray[Any]]:
    found = [view.found for view in views]
    columns = {f"column_{name}": [part.columns[name] for part in found] for name in found[0].columns}
    return {
        "windows": np.array([view.window for view in views], np.int64),
        "truncated": np.array([view.truncated for view in views], np.bool_),
        "empty": np.array([view.empty for view in views], np.int64),
        "runs": np.array([view.runs for view in views], np.int64),
        "counts": np.array([len(part) for part in found], np.int64),
        "offsets": np.concatenate([part.masks.offsets for part in found]),
        "shapes": np.concatenate([part.masks.shapes for part in found]),
        "pixels": np.packbits(np.concatenate([part.masks.pixels for part in found])),
        "class_ids": np.concatenate([part.class_ids for part in found]),
        "scores": np.concatenate([part.scores for part in found]),
        "boxes": np.concatenate([part.boxes for part in found]),
        **{name: np.concatenate(arrays) for name, arrays in columns.items()},
    }


def _unpacked(arrays: dict[str, NDArray[Any]], size: tuple[int, int], classes: ClassMap) -> list[TileView]:
    shapes = arrays["shapes"]
    count = int(shapes.astype(np.int64).prod(axis=1).sum())
    if count > 8 * len(arrays["pixels"]):
        raise ValueError("fewer pixels than the shapes need")
    masks = Masks(
        size, arrays["offsets"], shapes, np.unpackbits(arrays["pixels"], count=count).view(np.bool_)
    )
    prefix = "column_"
    columns = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
    whole = Instances(
        size,
        masks,
        arrays["class_ids"],
        arrays["scores"],
        arrays["boxes"],
        classes=classes,
        columns=columns,
    )
    ends = np.cumsum(arrays["counts"]).tolist()
    if (arrays["counts"] < 0).any() or (ends[-1] if ends else 0) != len(whole):
        raise ValueError("other counts than objects")
    out = []
    facts = (arrays[name].tolist() for name in ("windows", "counts", "truncated", "empty", "runs"))
    for (window, number, truncated, empty, runs), end in zip(zip(*facts, strict=True), ends, strict=True):
        out.append(TileView(Window(*window), whole[end - number : end], truncated, empty, runs))
    return out
