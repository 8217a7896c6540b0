"""Masks: many objects' pixels on one picture, at the cost of the objects alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from apiece.core import coco_polygons, label_image, polygons, resample, rle
from apiece.core import crops as store
from apiece.core import overlap as overlaps
from apiece.core.crops import Bool, Crops, Int32, Int64
from apiece.core.runs import row_runs
from apiece.errors import AnnotationError, GeometryError

MAX_PIXELS = 2**31  # crop pixels (bytes) that one call of from_coco or from_polygons may make

MAX_AREA = 2**36  # pixels of a picture, so that positions of many objects fit in int64


class Masks:
    """N masks on one picture, each a small bitmap and its place; an immutable value.

    size     (height, width) of the picture in pixels, each at least 1.
    offsets  int32 (N, 2), x and y of each bitmap's top-left pixel in the picture.
    shapes   int32 (N, 2), height and width of each bitmap.
    starts   int64 (N + 1,), where each bitmap begins in `pixels`.
    pixels   bool (sum of heights × widths,), every bitmap row by row.

    Bitmaps are tight: the first and last row and column hold a True pixel; a mask without a pixel has
    shape (0, 0) and offset (0, 0). So two Masks are equal where their arrays are. Arrays are read-only.
    Masks may overlap, have holes and several parts; N = 0 is ordinary.
    """

    __slots__ = ("_areas", "offsets", "pixels", "shapes", "size", "starts")

    size: tuple[int, int]
    offsets: Int32
    shapes: Int32
    starts: Int64
    pixels: Bool
    _areas: Int64 | None

    def __init__(self, size: Sequence[int], offsets: ArrayLike, shapes: ArrayLike, pixels: ArrayLike) -> None:
        """Checks and copies; use `Masks.from_crops` for bitmaps that may not be tight.

        raises  GeometryError if arrays disagree, a bitmap leaves the picture or is not tight.
        """
        checked = _checked_size(size)
        pair = {"offsets": np.asarray(offsets), "shapes": np.asarray(shapes)}
        for name, array in pair.items():
            if array.size and array.dtype.kind not in "iu":
                raise GeometryError(f"{name} has dtype {array.dtype}; expected whole numbers.")
            if array.size and (array.min() < 0 or array.max() >= 2**31):
                raise GeometryError(
                    f"{name} holds numbers from {array.min()} to {array.max()}; expected 0 to 2**31 - 1. "
                    "Remedy: Masks.from_crops cuts masks at the picture's border."
                )
            pair[name] = array.reshape(0, 2) if array.size == 0 else array
            if pair[name].ndim != 2 or pair[name].shape[1] != 2:
                raise GeometryError(f"{name} has shape {array.shape}; expected (N, 2).")
        if len(pair["offsets"]) != len(pair["shapes"]):
            raise GeometryError(
                f"{len(pair['offsets'])} offsets for {len(pair['shapes'])} shapes; expected as many of each."
            )
        made = Crops(
            pair["offsets"].astype(np.int32),
            pair["shapes"].astype(np.int32),
            store.starts_of(pair["shapes"]),
            _as_bool(pixels, "pixels").reshape(-1).copy(),
        )
        _check_crops(checked, made)
        self._fill(checked, made)

    def _fill(self, size: tuple[int, int], made: Crops) -> None:
        arrays: list[NDArray[Any]] = list(made)
        for name, value in zip(Crops._fields, arrays, strict=True):
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "_areas", None)

    @classmethod
    def _of(cls, size: tuple[int, int], made: Crops) -> Self:
        """From crops that are tight and inside by construction; takes the arrays over."""
        masks = object.__new__(cls)
        masks._fill(size, made)
        return masks

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Masks is immutable; make a new value instead of setting {name!r}.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Masks is immutable; {name!r} cannot be deleted.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.size, *self._crops)

    @property
    def _crops(self) -> Crops:
        return Crops(self.offsets, self.shapes, self.starts, self.pixels)

    # ---- made from something else

    @classmethod
    def empty(cls, size: Sequence[int]) -> Self:
        """No masks on a picture of this size (height, width)."""
        return cls._of(_checked_size(size), store.nothing(0))

    @classmethod
    def from_crops(cls, crops: Sequence[ArrayLike], offsets: ArrayLike, size: Sequence[int]) -> Self:
        """From bitmaps (h, w) of bool or whole numbers (non-zero is object) of any tightness.

        offsets  whole numbers (N, 2), x and y of each bitmap's top-left pixel; may be negative.
        What lies outside the picture is cut off; a mask that lies outside wholly becomes empty.
        raises   GeometryError if a bitmap is not two-dimensional or counts disagree.
        """
        height, width = _checked_size(size)
        places = np.asarray(offsets)
        places = places.reshape(0, 2) if places.size == 0 else places
        if places.shape != (len(crops), 2) or (places.size and places.dtype.kind not in "iu"):
            raise GeometryError(
                f"offsets has shape {np.shape(offsets)} and dtype {places.dtype} for {len(crops)} crops; "
                f"expected whole numbers of shape ({len(crops)}, 2), x and y."
            )
        bitmaps: list[Bool] = []
        corners: list[tuple[int, int]] = []
        for i, (crop, (x, y)) in enumerate(zip(crops, places.tolist(), strict=True)):
            bitmap = _as_bool(crop, f"crop {i}")
            if bitmap.ndim != 2:
                raise GeometryError(f"crop {i} has shape {bitmap.shape}; expected (height, width).")
            left, top = max(0, -x), max(0, -y)
            bitmaps.append(bitmap[top : max(0, height - y), left : max(0, width - x)])
            corners.append((x + left, y + top))
        return cls._of((height, width), store.tightened(bitmaps, corners))

    @classmethod
    def from_label_image(cls, array: NDArray[np.generic], *, max_pixels: int = MAX_PIXELS) -> Self:
        """From a label image (H, W) of whole numbers: a mask for every label but 0, by increasing label.

        `label_values(array)` gives the labels in the same order. A bool image is one object, or none.
        max_pixels  the most crop pixels that all objects together may need; a guard against pictures that are none
                    of labels.
        raises      GeometryError if the array is not two-dimensional, not of whole numbers or holds a negative.
        """
        made = label_image.crops_of_labels(array, max_pixels)
        return cls._of(_checked_size(np.shape(array)), made)

    @classmethod
    def from_coco(
        cls, segmentations: Sequence[Any], size: Sequence[int], *, max_pixels: int = MAX_PIXELS
    ) -> Self:
        """From COCO segmentations, one an object.

        segmentations  each an RLE {"size": [h, w], "counts": str, bytes or list of counts}, or a list of
                       polygons, each a flat list [x, y, x, y, ...] of three or more points; a polygon's
                       parts are united.
        size           (height, width) of the picture.
        max_pixels     the most crop pixels that all objects together may need; a guard against files
                       that ask for more memory than they are worth.
        raises         AnnotationError naming the object's index.
        source         cocoapi, common/maskApi.c; masks equal pycocotools' exactly.
        """
        checked = _checked_size(size)
        drawn = [i for i, item in enumerate(segmentations) if isinstance(item, list | tuple)]
        shapes = coco_polygons.crops_of_polygons(
            [segmentations[i] for i in drawn], checked, drawn, max_pixels
        )
        coded = [i for i, item in enumerate(segmentations) if not isinstance(item, list | tuple)]
        counts = [_counts_of(segmentations[i], i, checked) for i in coded]
        bitmaps = rle.decode(counts, checked, coded, max_pixels - shapes.pixels.size)
        if not drawn or not coded:
            return cls._of(checked, shapes if drawn else bitmaps)
        order = np.argsort(np.array(drawn + coded))
        return cls._of(checked, store.selected(store.joined([shapes, bitmaps]), order))

    @classmethod
    def from_polygons(
        cls,
        parts: Sequence[Sequence[tuple[ArrayLike, Sequence[ArrayLike]]]],
        size: Sequence[int],
        *,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """From outlines: for each object its parts, each (outer (P, 2), [hole (Q, 2), ...]) of x, y.

        Coordinates are continuous: pixel (x, y) spans x to x + 1 and y to y + 1, and belongs to a part where
        its centre is inside. Rings of a part count by even and odd, parts of an object are united. What lies
        outside the picture is cut off. The exact inverse of `to_polygons`; for COCO's lists and its own way
        of drawing use `from_coco`.

        raises  GeometryError naming object, part and ring.
        """
        checked = _checked_size(size)
        return cls._of(checked, polygons.crops_of_parts(parts, checked, max_pixels))

    @classmethod
    def from_dense(cls, array: ArrayLike) -> Self:
        """From full frames (N, H, W) of bool or whole numbers (non-zero is object).

        raises  GeometryError if the array is not three-dimensional or a frame has no pixels.
        """
        frames = _as_bool(array, "dense masks")
        if frames.ndim != 3:
            raise GeometryError(f"dense masks have shape {frames.shape}; expected (N, height, width).")
        return cls._of(_checked_size(frames.shape[1:]), store.tightened(list(frames), [(0, 0)] * len(frames)))

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Self:
        """All masks of one or more Masks on pictures of one size, in order.

        raises  GeometryError if there is none (use `Masks.empty`) or sizes differ.
        """
        if not parts:
            raise GeometryError("concatenate got no Masks; expected at least one. Remedy: Masks.empty(size).")
        for part in parts[1:]:
            _check_same_picture(parts[0], part)
        return cls._of(parts[0].size, store.joined([part._crops for part in parts]))

    # ---- a sequence

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int | slice | ArrayLike) -> Self:
        """The chosen masks as a new value: by position, slice, array of positions or bool array (N,)."""
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            if step == 1 and begin < end:  # neighbours: the pixels are shared, not copied
                starts = self.starts[begin : end + 1]
                view = self.pixels[starts[0] : starts[-1]]
                made = Crops(self.offsets[begin:end], self.shapes[begin:end], starts - starts[0], view)
                return self._of(self.size, made)
        return self._of(self.size, store.selected(self._crops, positions(index, len(self))))

    def __iter__(self) -> Iterator[tuple[Bool, tuple[int, int]]]:
        """Each mask's bitmap (bool (h, w), a view) and the place (x, y) of its top-left pixel."""
        for i, (x, y) in enumerate(self.offsets.tolist()):
            yield self.crop(i), (x, y)

    def crop(self, i: int) -> Bool:
        """Bitmap of mask i, bool (h, w), a read-only view; (0, 0) for an empty mask."""
        return self._crops.crop(range(len(self))[i])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self.size == other.size and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in Crops._fields
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        height, width = self.size
        return f"Masks({len(self)} on {height} × {width}, {self.nbytes:,} bytes)"

    # ---- measures

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(array.nbytes for array in self._crops)

    @property
    def areas(self) -> Int64:
        """Number of pixels of each mask, int64 (N,)."""
        if self._areas is None:
            areas = store.sums(self.pixels, self.starts)
            areas.flags.writeable = False
            object.__setattr__(self, "_areas", areas)
            return areas
        return self._areas

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Tight boxes x1, y1, x2, y2, float32 (N, 4); right and bottom are exclusive (last pixel + 1).

        An empty mask has 0, 0, 0, 0.
        """
        return np.hstack([self.offsets, self.offsets + self.shapes[:, ::-1]]).astype(np.float32)

    @property
    def centroids(self) -> NDArray[np.float64]:
        """Centres of mass x, y in pixel indices (the centre of pixel 0 is 0.0), float64 (N, 2).

        An empty mask has NaN.
        """
        runs = row_runs(self._crops)
        moments = np.empty((len(self), 2))
        middle = runs.start + (runs.length - 1) / 2
        moments[:, 0] = np.bincount(runs.owner, middle * runs.length, len(self))
        moments[:, 1] = np.bincount(runs.owner, runs.line * runs.length, len(self))
        with np.errstate(invalid="ignore"):
            return moments / self.areas[:, None]

    # ---- compared

    def intersection(self, other: Masks) -> csr_array:
        """Shared pixels, SciPy CSR int64 (N, M); only pairs that share a pixel are stored.

        raises  GeometryError if the pictures differ in size; so do `iou` and `overlap`.
        """
        _check_same_picture(self, other)
        return overlaps.intersections(self._crops, other._crops, self.size)

    def iou(self, other: Masks) -> csr_array:
        """Intersection over union, SciPy CSR float64 (N, M) in (0, 1]; only pairs that share a pixel."""
        return overlaps.iou(self.intersection(other), self.areas, other.areas)

    def overlap(self, other: Masks) -> csr_array:
        """Share of each of these masks that lies in the other: |a ∩ b| / |a|, SciPy CSR float64 (N, M)."""
        return overlaps.share_of_first(self.intersection(other), self.areas)

    def overlapping_pixels(self) -> int:
        """Number of the picture's pixels that belong to two or more masks."""
        return overlaps.crowded_pixels(self._crops, self.size)

    def union(self) -> Self:
        """One mask (length 1) of all pixels that belong to any; an empty mask if there are none."""
        low = self.offsets[self.shapes[:, 0] > 0]
        if len(low) == 0:
            return self._of(self.size, store.nothing(1))
        x0, y0 = low.min(axis=0).tolist()
        x1, y1 = (self.offsets + self.shapes[:, ::-1]).max(axis=0).tolist()
        canvas = np.zeros((y1 - y0, x1 - x0), np.bool_)
        for crop, (x, y) in self:
            canvas[y - y0 : y - y0 + crop.shape[0], x - x0 : x - x0 + crop.shape[1]] |= crop
        return self._of(self.size, store.tightened([canvas], [(x0, y0)]))

    # ---- moved, cut and turned

    def shift(self, dx: int, dy: int, size: Sequence[int] | None = None) -> Self:
        """Moved by whole pixels to the right (dx) and down (dy), on a picture of `size` (default: the same).

        What leaves the picture is cut off; N is kept, so a mask may become empty.
        """
        return self._windowed(-dx, -dy, _checked_size(self.size if size is None else size))

    def crop_to(self, x0: int, y0: int, x1: int, y1: int) -> Self:
        """What lies in the window x0 ≤ x < x1, y0 ≤ y < y1, in the window's own coordinates.

        The window may reach beyond the picture. N is kept: masks outside become empty.
        raises  GeometryError if the window has no pixels.
        """
        if x1 <= x0 or y1 <= y0:
            raise GeometryError(
                f"window x {x0} to {x1}, y {y0} to {y1} has no pixels; expected x0 < x1 and y0 < y1."
            )
        return self._windowed(x0, y0, (y1 - y0, x1 - x0))

    def _windowed(self, x0: int, y0: int, size: tuple[int, int]) -> Self:
        """The picture as seen through a window of `size` whose top-left corner is at (x0, y0)."""
        corner = np.array([int(x0), int(y0)], np.int64)
        full = self.starts[1:] > self.starts[:-1]
        low = self.offsets - corner
        high = low + self.shapes[:, ::-1]
        cut = full & ((low < 0) | (high > np.array(size[::-1]))).any(axis=1)
        if not cut.any():
            offsets = np.where(full[:, None], low, 0).astype(np.int32)
            return self._of(size, self._crops._replace(offsets=offsets))
        gone = full & ((high <= 0) | (low >= np.array(size[::-1]))).any(axis=1)
        pieces: list[Bool] = []
        offsets, shapes = np.zeros_like(self.offsets), np.zeros_like(self.shapes)
        for i in np.flatnonzero(full & ~gone).tolist():
            if cut[i]:
                x, y = low[i].tolist()
                left, top = max(0, -x), max(0, -y)
                bitmap = self.crop(i)[top : max(0, size[0] - y), left : max(0, size[1] - x)]
                piece = store.tightened([bitmap], [(x + left, y + top)])
                offsets[i], shapes[i] = piece.offsets[0], piece.shapes[0]
                pieces.append(piece.pixels)
            else:
                offsets[i], shapes[i] = low[i], self.shapes[i]
                pieces.append(self.pixels[self.starts[i] : self.starts[i + 1]])
        pixels = np.concatenate([np.zeros(0, np.bool_), *pieces])
        return self._of(size, Crops(offsets, shapes, store.starts_of(shapes), pixels))

    def flip(self, horizontal: bool) -> Self:
        """Mirrored left to right, or (horizontal=False) top to bottom."""
        axis = 1 if horizontal else 0
        full = self.shapes[:, 0] > 0
        offsets = self.offsets.copy()
        extent = self.size[axis]
        flipped = extent - self.offsets[:, 1 - axis] - self.shapes[:, axis]
        offsets[:, 1 - axis] = np.where(full, flipped, 0)
        pixels = np.empty_like(self.pixels)
        starts = self.starts.tolist()
        for i, (height, width) in enumerate(self.shapes.tolist()):
            source = self.pixels[starts[i] : starts[i + 1]].reshape(height, width)
            target = pixels[starts[i] : starts[i + 1]].reshape(height, width)
            target[...] = source[:, ::-1] if horizontal else source[::-1]
        return self._of(self.size, Crops(offsets, self.shapes, self.starts, pixels))

    def rotate90(self, k: int = 1) -> Self:
        """Turned by k quarter turns in the sense of np.rot90: counter-clockwise on the screen."""
        turns = k % 4
        if turns == 0:
            return self
        if turns == 2:
            return self.flip(horizontal=True).flip(horizontal=False)
        swapped = self._of((self.size[1], self.size[0]), store.transposed(self._crops))
        # rot90 = transpose, then upside down; the other way round for the third turn.
        return swapped.flip(horizontal=turns == 3)

    def resize(self, size: Sequence[int]) -> Self:
        """On a picture of another size (height, width): each mask's area scales as the picture's.

        A new pixel is object where at least half of it was (shrinking), or where bilinear interpolation
        reaches one half (growing). A mask too thin for that keeps its best-covered pixels, so none gets lost.
        """
        new = _checked_size(size)
        return self if new == self.size else self._of(new, resample.resized(self._crops, self.size, new))

    # ---- other forms

    def to_coco(self, compressed: bool = True) -> list[dict[str, Any]]:
        """COCO RLE of each mask: {"size": [h, w], "counts": str}; a list of counts where not compressed.

        source  cocoapi, common/maskApi.c; strings equal pycocotools.mask.encode byte for byte.
        """
        height, width = self.size
        if compressed:
            texts = rle.encode_strings(self._crops, self.size)
            return [{"size": [height, width], "counts": text} for text in texts]
        counts, starts = rle.encode_counts(self._crops, self.size)
        cuts = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        return [{"size": [height, width], "counts": counts[a:b].tolist()} for a, b in cuts]

    def to_polygons(self) -> list[list[polygons.Part]]:
        """Outlines along pixel edges: for each mask its parts, each (outer (P, 2), [hole (Q, 2), ...]).

        float64 x, y, whole numbers; pixel (x, y) spans x to x + 1 and y to y + 1. A part is connected over
        pixel edges; rings are simple, outer ones clockwise on the screen, not closed by a repeated point. An
        empty mask has no parts. `from_polygons` gives exactly the same masks back.
        """
        return polygons.outlines(self._crops, self.size)

    def to_label_image(
        self,
        overlap: label_image.Policy = "error",
        dtype: type[np.integer] | np.dtype[np.integer] | None = None,
    ) -> NDArray[np.integer]:
        """Label image (H, W): mask i is i + 1, background 0.

        overlap  whose pixel it is where masks overlap: "error" refuses, "first" and "last" go by order,
                 "smaller" by area (the earlier of equals). `overlapping_pixels()` counts the pixels that this decides.
        dtype    a whole-number type; by default uint16, or uint32 from 65,536 masks on.
        warns    UserWarning if a mask has no pixel left under those that hide it.
        raises   GeometryError naming the first pair of masks that overlap, or if dtype cannot hold N.
        """
        return label_image.labels_of(self._crops, self.size, self.areas, overlap, dtype)

    def to_dense(self) -> Bool:
        """Full frames, bool (N, H, W). Costs N × H × W bytes: for small pictures and foreign tools only."""
        frames = np.zeros((len(self), *self.size), np.bool_)
        for frame, (crop, (x, y)) in zip(frames, self, strict=True):
            frame[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return frames


def positions(index: int | slice | ArrayLike, count: int) -> Int64:
    """Non-negative positions that an index into `count` objects means; int64 (K,).

    raises  IndexError as a NumPy array of that length would.
    """
    array = np.asarray([] if isinstance(index, slice) else index)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    chosen = np.arange(count)[index if isinstance(index, slice) else array]
    return np.atleast_1d(chosen).astype(np.int64)


def _restored(size: tuple[int, int], offsets: Int32, shapes: Int32, starts: Int64, pixels: Bool) -> Masks:
    return Masks._of(size, Crops(offsets, shapes, starts, pixels))


def _checked_size(size: Sequence[int]) -> tuple[int, int]:
    values = tuple(size)
    if len(values) != 2 or any(int(v) != v or v < 1 for v in values):
        raise GeometryError(
            f"picture size is {values}; expected (height, width), whole numbers of at least 1."
        )
    if max(values) >= 2**31 or int(values[0]) * int(values[1]) > MAX_AREA:
        raise GeometryError(
            f"picture size is {values}; expected at most {MAX_AREA:,} pixels. Remedy: work on tiles."
        )
    return int(values[0]), int(values[1])


def _as_bool(array: ArrayLike, name: str) -> Bool:
    values = np.asarray(array)
    if values.dtype.kind in "iu":
        nonzero: Bool = values != 0
        return nonzero
    if values.dtype.kind != "b" and values.size:
        raise GeometryError(
            f"{name} has dtype {values.dtype}; expected bool or whole numbers. "
            "Remedy: compare with a threshold first."
        )
    return values.astype(np.bool_, copy=False)


def _check_same_picture(a: Masks, b: Masks) -> None:
    if a.size != b.size:
        raise GeometryError(
            f"masks of a picture of {a.size} meet masks of one of {b.size}; expected one (height, width)."
        )


def _check_crops(size: tuple[int, int], made: Crops) -> None:
    """Raises GeometryError unless every bitmap is tight and inside the picture."""
    expected = int(made.starts[-1])
    if expected != made.pixels.size:
        raise GeometryError(f"{made.pixels.size} pixels for shapes that need {expected}; expected as many.")
    high = made.offsets[:, ::-1].astype(np.int64) + made.shapes
    outside = (high > np.array(size)).any(axis=1)
    if outside.any():
        worst = int(outside.argmax())
        raise GeometryError(
            f"mask {worst} of shape {tuple(made.shapes[worst].tolist())} at x, y "
            f"{tuple(made.offsets[worst].tolist())} leaves the picture of {size}. "
            "Remedy: Masks.from_crops cuts masks at the picture's border."
        )
    full = made.shapes.all(axis=1)
    if (made.shapes[~full] != 0).any() or (made.offsets[~full] != 0).any():
        raise GeometryError("an empty mask has an offset or a side; expected shape (0, 0) and offset (0, 0).")
    for i in np.flatnonzero(full).tolist():
        crop = made.crop(i)
        if not (crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any()):
            raise GeometryError(
                f"mask {i} has an outer row or column without a pixel; expected a tight bitmap. "
                "Remedy: Masks.from_crops tightens bitmaps."
            )


def _counts_of(item: Any, i: int, size: tuple[int, int]) -> Any:
    """The counts of an RLE dictionary whose size is the picture's."""
    if not isinstance(item, Mapping) or "counts" not in item:
        raise AnnotationError(
            f"object {i}: segmentation is {type(item).__name__}; expected an RLE with 'size' and 'counts'."
        )
    given = item.get("size")
    if not isinstance(given, list | tuple) or list(given) != list(size):
        raise AnnotationError(
            f"object {i}: RLE of size {given} on a picture of {list(size)} (height, width). "
            "Remedy: correct the size in the file, or encode the mask again."
        )
    return item["counts"]
