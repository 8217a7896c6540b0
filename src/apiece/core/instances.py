"""Instances: the objects of one picture, the same for ground truth and prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apiece.core.classes import ClassMap
from apiece.core.masks import Masks, positions
from apiece.errors import GeometryError


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Instances:
    """N objects on one picture, in its own pixels; an immutable, validated value.

    size       (height, width) of the picture.
    masks      Masks of length N on that picture.
    class_ids  int64 (N,), indices into `classes`.
    scores     float32 (N,), finite; 1 where none are given, as for ground truth.
    boxes      float32 (N, 4), x1, y1, x2, y2, finite and ordered; the masks' own where none are given.
    classes    ClassMap.
    track_ids  int64 (N,), or None.
    truncated  True where a cap cut the list, so that the count is a lower bound.
    columns    further arrays by name, each of first dimension N (crowd regions: "iscrowd", bool; masks that are
               whole boxes, because the model predicts no outlines: "box_mask", bool).

    Arrays are copied and read-only. N = 0 is ordinary.
    raises     GeometryError if lengths, sizes or values disagree.
    """

    size: tuple[int, int]
    masks: Masks
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    classes: ClassMap
    track_ids: NDArray[np.int64] | None
    truncated: bool
    columns: Mapping[str, NDArray[Any]]

    def __init__(
        self,
        size: Sequence[int],
        masks: Masks,
        class_ids: ArrayLike,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        *,
        classes: ClassMap,
        track_ids: ArrayLike | None = None,
        truncated: bool = False,
        columns: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        count = len(masks)
        if tuple(size) != masks.size:
            raise GeometryError(
                f"picture size is {tuple(size)}, but the masks are of a picture of {masks.size}."
            )
        ids = _column("class_ids", class_ids, (count,), "biu", np.int64)
        if count and (int(ids.min()) < 0 or int(ids.max()) >= len(classes)):
            bad = int(np.flatnonzero((ids < 0) | (ids >= len(classes)))[0])
            raise GeometryError(
                f"object {bad} has class index {ids[bad]}; expected 0..{len(classes) - 1}. "
                "Remedy: translate category ids by ClassMap.index_of."
            )
        values = np.ones(count, np.float32) if scores is None else scores
        score = _column("scores", values, (count,), "biuf", np.float32)
        box = _column("boxes", masks.boxes if boxes is None else boxes, (count, 4), "iuf", np.float32)
        for name, array in (("score", score[:, None]), ("box", box)):
            wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
            if wrong.size:
                raise GeometryError(
                    f"object {wrong[0]} has {name} {array[wrong[0]].tolist()}; expected finite numbers."
                )
        wrong = np.flatnonzero((box[:, 2:] < box[:, :2]).any(axis=1))
        if wrong.size:
            raise GeometryError(
                f"object {wrong[0]} has box {box[wrong[0]].tolist()}; expected x1 <= x2 and y1 <= y2. "
                "Remedy: boxes are x1, y1, x2, y2, not x, y, width, height."
            )
        tracks = None if track_ids is None else _column("track_ids", track_ids, (count,), "iu", np.int64)
        extra: dict[str, NDArray[Any]] = {}
        for name, values in (columns or {}).items():
            array = np.array(values)
            extra[name] = _column(name, array, (count, *array.shape[1:]), array.dtype.kind, array.dtype)
        fields = {
            "size": masks.size,
            "masks": masks,
            "class_ids": ids,
            "scores": score,
            "boxes": box,
            "classes": classes,
            "track_ids": tracks,
            "truncated": bool(truncated),
            "columns": MappingProxyType(extra),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def empty(cls, size: Sequence[int], classes: ClassMap) -> Self:
        """No objects on a picture of this size."""
        return cls(size, Masks.empty(size), np.zeros(0, np.int64), classes=classes)

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Self:
        """All objects of one or more Instances of one picture and class list, in order.

        raises  GeometryError if there is none, or sizes, classes, columns or track ids do not agree.
        """
        if not parts:
            raise GeometryError(
                "concatenate got no Instances; expected at least one. Remedy: Instances.empty(size, classes)."
            )
        first = parts[0]
        for part in parts[1:]:
            for what, a, b in (
                ("classes", first.classes, part.classes),
                ("columns", sorted(first.columns), sorted(part.columns)),
                ("presence of track ids", first.track_ids is None, part.track_ids is None),
            ):
                if a != b:
                    raise GeometryError(f"instances to concatenate differ in {what}: {a} and {b}.")
        tracks = [part.track_ids for part in parts if part.track_ids is not None]
        return cls(
            first.size,
            Masks.concatenate([part.masks for part in parts]),
            np.concatenate([part.class_ids for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            classes=first.classes,
            track_ids=np.concatenate(tracks) if tracks else None,
            truncated=any(part.truncated for part in parts),
            columns={name: np.concatenate([part.columns[name] for part in parts]) for name in first.columns},
        )

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int | slice | ArrayLike) -> Self:
        """The chosen objects as a new value: by position, slice, array of positions or bool array (N,)."""
        chosen = positions(index, len(self))
        return type(self)(
            self.size,
            self.masks[index],
            self.class_ids[chosen],
            self.scores[chosen],
            self.boxes[chosen],
            classes=self.classes,
            track_ids=None if self.track_ids is None else self.track_ids[chosen],
            truncated=self.truncated,
            columns={name: column[chosen] for name, column in self.columns.items()},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instances):
            return NotImplemented
        if (self.track_ids is None) != (other.track_ids is None) or set(self.columns) != set(other.columns):
            return False
        arrays: list[tuple[ArrayLike, ArrayLike]] = [
            (self.class_ids, other.class_ids),
            (self.scores, other.scores),
            (self.boxes, other.boxes),
        ]
        if self.track_ids is not None and other.track_ids is not None:
            arrays.append((self.track_ids, other.track_ids))
        arrays += [(column, other.columns[name]) for name, column in self.columns.items()]
        return (
            self.masks == other.masks
            and self.classes == other.classes
            and self.truncated == other.truncated
            and all(np.array_equal(a, b) for a, b in arrays)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        counts = np.bincount(self.class_ids, minlength=len(self.classes))
        by_class = ", ".join(f"{n} {name}" for n, name in zip(counts, self.classes.names, strict=True) if n)
        height, width = self.size
        more = ", truncated" if self.truncated else ""
        return f"Instances({len(self)} on {height} × {width}{': ' + by_class if by_class else ''}{more})"

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.size, self.masks, self.class_ids, self.scores, self.boxes)
        return _restored, (values, self.classes, self.track_ids, self.truncated, dict(self.columns))

    def sorted_by_score(self) -> Self:
        """Highest score first; equal scores keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def to_coco(self, image_id: int, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations, numbered from `first_id`; every value is plain Python, ready for JSON.

        `bbox` is x, y, width, height; `area` counts the mask's pixels; `segmentation` is compressed RLE;
        `iscrowd` is 0 unless the column "iscrowd" says otherwise. `box_mask` is true, and only then there, where
        the column of this name says that the mask is no outline but the whole box.
        """
        crowd = self.columns.get("iscrowd", np.zeros(len(self), np.bool_)).astype(int).tolist()
        corners = self.boxes.astype(np.float64)
        sides = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()
        documents: list[dict[str, Any]] = []
        for i, segmentation in enumerate(self.masks.to_coco()):
            document = {
                "id": first_id + i,
                "image_id": image_id,
                "category_id": self.classes.id_of(int(self.class_ids[i])),
                "bbox": sides[i],
                "area": int(self.masks.areas[i]),
                "score": float(self.scores[i]),
                "segmentation": segmentation,
                "iscrowd": crowd[i],
            }
            if self.track_ids is not None:
                document["track_id"] = int(self.track_ids[i])
            if "box_mask" in self.columns and self.columns["box_mask"][i]:
                document["box_mask"] = True
            documents.append(document)
        return documents


def _restored(
    values: tuple[Any, ...],
    classes: ClassMap,
    track_ids: NDArray[np.int64] | None,
    truncated: bool,
    columns: dict[str, NDArray[Any]],
) -> Instances:
    return Instances(*values, classes=classes, track_ids=track_ids, truncated=truncated, columns=columns)


def _column(
    name: str, values: ArrayLike, shape: tuple[int, ...], kinds: str, dtype: np.dtype[Any] | type[np.generic]
) -> NDArray[Any]:
    """A read-only copy of the given dtype, after its shape and kind are checked."""
    array = np.asarray(values)
    if array.size == 0 and int(np.prod(shape)) == 0:
        array = np.zeros(shape, dtype)
    if array.shape != shape:
        raise GeometryError(f"{name} has shape {array.shape}; expected {shape}, one entry for each mask.")
    if array.size and array.dtype.kind not in kinds:
        raise GeometryError(f"{name} has dtype {array.dtype}; expected a kind that fits {np.dtype(dtype)}.")
    copied = np.array(array, dtype=dtype)
    copied.flags.writeable = False
    return copied
