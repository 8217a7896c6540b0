"""Losses: what of a data set another format can't hold, counted before writing and measured after."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from apiece.core.instances import Instances
from apiece.core.label_image import Policy, label_values
from apiece.core.masks import Masks
from apiece.data.formats.base import Holds
from apiece.data.problems import Problem

SCHEMA = "apiece/convert/1"
SHOWN = 5  # problems and notes that the text lists; all are in the JSON
LEVELS = (0.0, 0.5, 0.75, 0.9, 0.95, 1.0)  # edges of the histogram of round-trip IoU

# What each kind of loss means, as the report says it.
MEANINGS = {
    "holes": "objects had holes; they are filled",
    "parts": "objects had several parts; they are joined by bridges of no width, which other readers may draw",
    "overlaps": "objects share pixels with others and leave these to them",
    "hidden": "objects lie wholly under others and are gone",
    "boxes": "objects have a box and no outline and are gone",
    "empty": "objects have no pixel and are gone",
    "classes": "objects lose their class; all become one",
    "crowd": "crowd regions can't be told from objects any more; each counts as one",
    "tracks": "objects lose their track",
    "scores": "objects lose their score",
    "retold": "objects come back with another class, track, score or crowd mark, though the format has a place for it",
}


class Row(NamedTuple):
    """A loss of one object: its kind, the picture's name, and the object's place in the picture from 0."""

    kind: str
    picture: str
    place: int


def losses(objects: Instances, flat: Instances, holds: Holds, picture: str) -> Iterator[Row]:
    """What a format that holds this much can't keep of a picture's objects.

    flat  the same objects without the pixels that they leave to others, as `flattened` gives them; `objects` where
          the format holds overlaps.
    """
    masks = objects.masks
    there = masks.areas > 0
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    boxed = ~there & (sides > 0).all(axis=1)
    lost: dict[str, npt.NDArray[np.bool_]] = {"empty": ~there & ~boxed}
    if not holds.boxes_only:
        lost["boxes"] = boxed
    if not holds.holes or holds.parts != "kept":
        outlines = masks.to_polygons()
        if not holds.holes:
            lost["holes"] = np.array([any(holes for _, holes in parts) for parts in outlines], np.bool_)
        if holds.parts != "kept":
            lost["parts"] = np.array([len(parts) > 1 for parts in outlines], np.bool_)
    lost["hidden"] = there & (flat.masks.areas == 0)
    lost["overlaps"] = (flat.masks.areas < masks.areas) & ~lost["hidden"]
    if not holds.classes:
        lost["classes"] = np.full(len(objects), len(objects.classes) > 1)
    if not holds.crowd and "iscrowd" in objects.columns:
        lost["crowd"] = objects.columns["iscrowd"].astype(np.bool_)
    if not holds.track_ids and objects.track_ids is not None:
        lost["tracks"] = np.ones(len(objects), np.bool_)
    if not holds.scores:
        lost["scores"] = objects.scores != 1
    for kind, which in lost.items():
        for place in np.flatnonzero(which).tolist():
            yield Row(kind, picture, place)


def flattened(objects: Instances, policy: Policy) -> Instances:
    """The same objects without overlaps: a pixel of several stays with one of them; some may have none left.

    policy  "smaller": the smallest object keeps it, so that a thing before or in a larger one stays; "first" or
            "last": the one that comes first or last. Costs one label image of the picture.
    """
    masks = objects.masks
    if len(masks) < 2 or not masks.overlapping_pixels():
        return objects
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # hidden objects are counted by `losses`
        labels = masks.to_label_image(policy)
    left, places = Masks.from_label_image(labels), label_values(labels) - 1
    shapes, offsets = np.zeros((len(masks), 2), np.int32), np.zeros((len(masks), 2), np.int32)
    shapes[places], offsets[places] = left.shapes, left.offsets
    return Instances(
        objects.size,
        Masks(objects.size, offsets, shapes, left.pixels),
        objects.class_ids,
        objects.scores,
        classes=objects.classes,
        track_ids=objects.track_ids,
        columns=objects.columns,
    )


@dataclass
class Conversion:
    """What `convert` did, and what was lost.

    source, target  formats.
    out             where the written set lies.
    pictures        that were written.
    objects         that were read.
    written         objects in the written set, counted by reading it.
    losses          each loss of each object.
    left_out        what of the source couldn't be read, with its reason.
    ious            round-trip IoU of every object read with its counterpart in the written set; 0 without one.
    notes           what was read in another way than it stands, and what the writer says.
    refused         whether nothing was kept, as `strict` allows no loss.
    """

    source: str
    target: str
    out: str
    pictures: int = 0
    objects: int = 0
    written: int = 0
    losses: list[Row] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: bool = False

    @property
    def lossless(self) -> bool:
        """Whether everything that was read came through: nothing left out, every mask pixel for pixel."""
        return not self.losses and not self.left_out and self.written == self.objects and self.worst == 1.0

    @property
    def worst(self) -> float:
        """Smallest round-trip IoU; 1 without objects."""
        return min(self.ious, default=1.0)

    def counts(self) -> dict[str, int]:
        """Losses by kind, in the order of MEANINGS."""
        kinds = [row.kind for row in self.losses]
        return {kind: kinds.count(kind) for kind in MEANINGS if kind in kinds}

    def to_json(self) -> dict[str, Any]:
        """The machine-readable document."""
        ious = np.array(self.ious, np.float64)
        changed = ious[ious < 1]
        histogram = [int(np.count_nonzero((changed >= a) & (changed < b))) for a, b in _bins()]
        return {
            "schema": SCHEMA,
            "from": self.source,
            "to": self.target,
            "out": self.out,
            "pictures": self.pictures,
            "objects": self.objects,
            "written": self.written,
            "lossless": self.lossless,
            "refused": self.refused,
            "losses": self.counts(),
            "lost_of": [row._asdict() for row in self.losses],
            "left_out": [
                {
                    "file": p.file,
                    "where": p.where,
                    "message": p.message,
                    "remedy": p.remedy,
                    "what": p.left_out,
                }
                for p in self.left_out
            ],
            "iou": {
                "definition": "IoU of each object read with the object written for it, one to one; 0 without one",
                "exact": int(np.count_nonzero(ious == 1)),
                "worst": self.worst,
                "mean": float(ious.mean()) if len(ious) else 1.0,
                "below_1": {f"{a:g}-{b:g}": n for (a, b), n in zip(_bins(), histogram, strict=True)},
            },
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """For a person: the loss report."""
        lines = [
            f"{self.source} to {self.target}: {self.pictures} pictures, {self.objects} objects read, "
            f"{self.written} written to {self.out}"
        ]
        for kind, count in self.counts().items():
            first = next(row for row in self.losses if row.kind == kind)
            lines.append(f"  lost: {count} {MEANINGS[kind]} (first: {first.picture}, object {first.place})")
        lines += [f"  left out: {problem}" for problem in self.left_out[:SHOWN]]
        if len(self.left_out) > SHOWN:
            lines.append(f"  left out: {len(self.left_out) - SHOWN} more, listed by --json")
        ious = np.array(self.ious, np.float64)
        exact = int(np.count_nonzero(ious == 1))
        lines.append(f"  round trip: {exact} of {len(ious)} masks come back pixel for pixel")
        if exact < len(ious):
            changed = ious[ious < 1]
            bins = [
                f"{int(np.count_nonzero((changed >= a) & (changed < b)))} in {a:g} to {b:g}"
                for a, b in _bins()
            ]
            lines.append(
                f"  IoU of the other {len(changed)}: worst {changed.min():.3f}, median {np.median(changed):.3f}; "
                + ", ".join(bins)
            )
        lines += [f"  note: {note}" for note in self.notes[:SHOWN]]
        if len(self.notes) > SHOWN:
            lines.append(f"  note: {len(self.notes) - SHOWN} more, listed by --json")
        lines.append("nothing is lost" if self.lossless else "NOT LOSSLESS: keep the source")
        return "\n".join(lines)


def _bins() -> list[tuple[float, float]]:
    return list(itertools.pairwise(LEVELS))


def round_trip(before: Instances, after: Instances) -> npt.NDArray[np.float64]:
    """IoU of each object with its counterpart; see `counterparts`."""
    return counterparts(before, after)[0]


def counterparts(
    before: Instances, after: Instances
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The object of `after` that each of `before` became, one to one, best pairs first.

    Objects without a pixel on either side are equal (1) as often as there are such on both sides.

    returns  float64 (N,), the IoU, 0 without a counterpart; int64 (N,), its place, -1 without one or a pixel.
    """
    scores, places = np.zeros(len(before), np.float64), np.full(len(before), -1, np.int64)
    pairs = before.masks.iou(after.masks).tocoo()
    same = (pairs.row == pairs.col).astype(np.int64)  # of equals, those in the same place
    order = np.lexsort((pairs.col, pairs.row, -same, -pairs.data))
    taken = np.zeros(len(after), np.bool_)
    for k in order.tolist():
        i, j = int(pairs.row[k]), int(pairs.col[k])
        if places[i] < 0 and not taken[j]:
            places[i], taken[j] = j, True
            scores[i] = pairs.data[k]
    empty = np.flatnonzero(before.masks.areas == 0)
    scores[empty[: int(np.count_nonzero(after.masks.areas == 0))]] = 1
    return scores, places


def retold(
    before: Instances, after: Instances, places: npt.NDArray[np.int64], holds: Holds, picture: str
) -> Iterator[Row]:
    """What the format holds by its description, and yet came back as something else.

    places  as `counterparts` gives them.
    """
    there = np.flatnonzero(places >= 0)
    held = (holds.classes, holds.crowd, holds.track_ids, holds.scores)
    told = zip(held, _words(before, there), _words(after, places[there]), strict=True)
    for holds_it, first, second in told:
        # Of objects with equal masks it doesn't matter which became which.
        if holds_it and first is not None and Counter(first) != Counter(second or ()):
            for k, place in enumerate(there.tolist()):
                if second is None or first[k] != second[k]:
                    yield Row("retold", picture, place)


def _words(objects: Instances, places: npt.NDArray[np.int64]) -> list[list[Any] | None]:
    """Class names but for spaces, which some formats can't hold; crowd; tracks, None where there are none; scores."""
    names = [" ".join(name.split()) for name in objects.classes.names]
    crowd = objects.columns.get("iscrowd", np.zeros(len(objects), np.bool_))
    tracks = objects.track_ids
    return [
        [names[i] for i in objects.class_ids[places].tolist()],
        crowd[places].astype(np.bool_).tolist(),
        None if tracks is None else tracks[places].tolist(),
        np.round(objects.scores[places].astype(np.float64), 4).tolist(),
    ]
