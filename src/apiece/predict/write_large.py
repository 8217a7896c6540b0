"""What `apiece segment --tile` writes of pictures of any size: reduced overlays, label images by bands."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.image import ImageLimits
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.core.windows import Windows, open_windows
from apiece.data.coco import CocoDataset
from apiece.errors import DataError
from apiece.predict.predictor import Result
from apiece.predict.write import Writer

RGB = npt.NDArray[np.uint8]
OVERLAY_SIDE = 4096  # longer side of an overlay, at most
BLOCK = 2048  # pixels a side that are read at a time
TILE = 512  # of label images
LARGE = 2**26  # pixels from which a label image is written by bands
BIG = 2**31  # bytes of labels from which the file is a BigTIFF


class LargeWriter:
    """As `Writer`, for results whose pictures may be of any size: overlays have at most OVERLAY_SIDE pixels a side, and
    label images are painted band by band into tiled TIFF. Coordinates in all other files are the picture's own."""

    def __init__(
        self,
        folder: Path,
        formats: Iterable[str],
        classes: ClassMap,
        images_of: CocoDataset | None = None,
        inputs: Iterable[Path] = (),
        limits: ImageLimits | None = None,
    ) -> None:
        wanted, inputs = list(formats), list(inputs)
        rest = [name for name in wanted if name != "overlay"]
        self._limits = limits
        # No format at all is refused by the first writer, so it is made also for overlays alone.
        self._main = _BandWriter(folder, rest, classes, images_of, inputs) if rest or not wanted else None
        self._overlays = Writer(folder, ["overlay"], classes, None, inputs) if "overlay" in wanted else None

    @property
    def _writers(self) -> list[Writer]:
        return [writer for writer in (self._main, self._overlays) if writer is not None]

    @property
    def written(self) -> list[Path]:
        """The files."""
        return [path for writer in self._writers for path in writer.written]

    @property
    def notes(self) -> list[str]:
        """What the files don't show."""
        return list(dict.fromkeys(note for writer in self._writers for note in writer.notes))

    def add(self, result: Result) -> list[Path]:
        """Write what belongs to one picture; returns the files of its own. Raises as `Writer.add`."""
        assert result.instances is not None
        own = [] if self._main is None else self._main.add(result)
        if self._overlays is not None:
            with open_windows(result.path, limits=self._limits) as windows:
                image, found = reduced(windows, result.instances, OVERLAY_SIDE)
            own += self._overlays.add(Result(result.path, image, found, None))
        return own

    def finish(self) -> None:
        """Write the files that hold all pictures."""
        for writer in self._writers:
            writer.finish()


class _BandWriter(Writer):
    def _write_labels(self, target: Path, found: Instances) -> None:
        if found.size[0] * found.size[1] < LARGE:
            super()._write_labels(target, found)
            return
        hidden = write_labels(target, found.masks)
        shared = found.masks.overlapping_pixels()
        if shared:
            self.notes.append(
                f"{target.name}: {shared} pixels belong to several objects; a label image gives each to the object "
                "with the best score. --as coco keeps all."
            )
        if hidden:
            self.notes.append(
                f"{target.name}: {hidden} objects lie wholly under others and have no pixel in it."
            )


def reduced(windows: Windows, found: Instances, side: int) -> tuple[RGB, Instances]:
    """A picture and its objects, shrunk by a whole factor until no side is longer than `side` pixels.

    Each pixel is the mean of the factor² pixels it stands for; at the right and bottom, where the picture ends before,
    its last pixels are repeated. Read in blocks, so that memory is that of the result.
    """
    height, width = windows.size
    factor = -(-max(height, width) // side)
    if factor == 1:
        return windows.read(0, 0, width, height), found
    size = -(-height // factor), -(-width // factor)
    image = np.zeros((*size, 3), np.uint8)
    step = max(1, BLOCK // factor)
    for top in range(0, size[0], step):
        for left in range(0, size[1], step):
            bottom, right = min(top + step, size[0]), min(left + step, size[1])
            x, y = left * factor, top * factor
            block = windows.read(x, y, min(right * factor, width) - x, min(bottom * factor, height) - y)
            rest = [-length % factor for length in block.shape[:2]]
            whole = cv2.copyMakeBorder(block, 0, rest[0], 0, rest[1], cv2.BORDER_REPLICATE)
            image[top:bottom, left:right] = cv2.resize(
                whole, (right - left, bottom - top), interpolation=cv2.INTER_AREA
            )
    ratio = np.array([size[1] / width, size[0] / height] * 2, np.float32)
    shrunk = Instances(
        size,
        found.masks.resize(size),
        found.class_ids,
        found.scores,
        found.boxes * ratio,
        classes=found.classes,
        truncated=found.truncated,
        columns=found.columns,
    )
    return image, shrunk


def write_labels(target: Path, masks: Masks) -> int:
    """A label image as tiled TIFF (zlib; BigTIFF where it is large), painted by bands: object i is i + 1, and of
    several on one pixel the first. Whole or not at all.

    returns  how many objects have no pixel left under others.
    raises   DataError if it can't be written.
    """
    import tifffile

    dtype: np.dtype[np.integer[Any]] = np.dtype(np.uint16) if len(masks) < 2**16 else np.dtype(np.uint32)
    seen = np.zeros(len(masks) + 1, np.bool_)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            tifffile.imwrite(
                temporary,
                _tiles(masks, dtype, seen),
                shape=masks.size,
                dtype=dtype,
                tile=(TILE, TILE),
                compression="zlib",
                photometric="minisblack",
                metadata=None,
                bigtiff=masks.size[0] * masks.size[1] * dtype.itemsize > BIG,
            )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror}).") from None
    return int(np.count_nonzero((masks.areas > 0) & ~seen[1:]))


def _tiles(
    masks: Masks, dtype: np.dtype[np.integer[Any]], seen: npt.NDArray[np.bool_]
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """Tiles of the label image, row by row of tiles; marks in `seen` the labels that have a pixel."""
    height, width = masks.size
    tops = masks.offsets[:, 1].astype(np.int64)
    bottoms = tops + masks.shapes[:, 0]
    for top in range(0, height, TILE):
        band = np.zeros((TILE, -(-width // TILE) * TILE), dtype)
        rows = min(TILE, height - top)
        for i in np.flatnonzero((tops < top + rows) & (bottoms > top))[::-1].tolist():
            crop, x = masks.crop(i), int(masks.offsets[i, 0])
            begin, end = max(top, int(tops[i])), min(top + rows, int(bottoms[i]))
            part = crop[begin - int(tops[i]) : end - int(tops[i])]
            band[begin - top : end - top, x : x + crop.shape[1]][part] = i + 1
        seen[np.unique(band)] = True
        for left in range(0, band.shape[1], TILE):
            yield np.ascontiguousarray(band[:, left : left + TILE])
