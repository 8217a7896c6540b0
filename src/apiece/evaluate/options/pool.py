"""Pools: candidates and all objects that merging or splitting could make of them, with their overlaps known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apiece.core.masks import Masks
from apiece.evaluate.operating import Reason, Selection
from apiece.evaluate.options.fragments import unions
from apiece.evaluate.options.setting import Fragments, Setting
from apiece.evaluate.options.waists import Split, splits, wanted
from apiece.evaluate.overlaps import Overlaps, Pairs, overlaps_of
from apiece.evaluate.scenes import Float64, Int64, Objects

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pool:
    """Predictions, and after them those that edits make.

    overlaps    all of them, with the truth.
    original    how many predictions there were.
    scores      float64 (P,), by which they are chosen; what an edit makes has the highest score of its parts.
    rules       the merging rules that were prepared.
    merges      by rule, (parts, place of the union) each.
    found       the splits that were prepared.
    pieces      the places of each split's pieces.
    """

    overlaps: Overlaps
    original: int
    scores: Float64
    rules: tuple[Fragments, ...]
    merges: tuple[tuple[tuple[tuple[int, ...], int], ...], ...]
    found: tuple[Split, ...]
    pieces: tuple[tuple[int, ...], ...]

    def edited(self, setting: Setting) -> tuple[Int64, Int64]:
        """The places of the predictions that go, and of those that come in their stead."""
        gone: list[int] = []
        come: list[int] = []
        if setting.fragments is not None:
            for parts, union in self.merges[self.rules.index(setting.fragments)]:
                gone += parts
                come.append(union)
        if setting.watershed is not None:
            for number in wanted(self.overlaps, self.found, setting.watershed):
                gone.append(self.found[number].part)
                come += self.pieces[number]
        return np.array(gone, np.int64), np.array(come, np.int64)

    def kept(self, chosen: Bool, setting: Setting) -> Bool:
        """bool (P,), the predictions that are left of those `chosen` (original,), and what edits make of them."""
        left = np.zeros(len(self.overlaps.scenes.predicted), np.bool_)
        left[: self.original] = chosen
        gone, come = self.edited(setting)
        left[gone], left[come] = False, True
        return left

    def selection(self, chosen: Selection, setting: Setting) -> Selection:
        """The selection after the edits; parts that are gone are SUPPRESSED, as is what other edits would make."""
        reason = np.full(len(self.overlaps.scenes.predicted), Reason.SUPPRESSED, np.int8)
        reason[: self.original] = chosen.reason
        gone, come = self.edited(setting)
        reason[gone], reason[come] = Reason.SUPPRESSED, Reason.KEPT
        return Selection(self.scores, reason)


def pool_of(
    overlaps: Overlaps, chosen: Selection, rules: Sequence[Fragments] = (), highest: float | None = None
) -> Pool:
    """Prepare merging by any of the rules, and splitting of masks of solidity up to `highest`.

    Only candidates that count are merged or split, and overlaps are computed anew only on pictures where something
    is made.
    """
    predicted = overlaps.scenes.predicted
    original = len(predicted)
    kept = chosen.kept
    merges: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in rules]
    known: dict[tuple[int, ...], int] = {}
    made: list[Masks] = []
    origin: list[tuple[int, ...]] = []
    for union in unions(overlaps, kept, rules) if rules else []:
        if union.parts not in known:
            known[union.parts] = original + len(origin)
            made.append(union.mask)
            origin.append(union.parts)
        merges[union.rule].append((union.parts, known[union.parts]))
    found = splits(overlaps, kept, highest) if highest is not None else []
    pieces: list[tuple[int, ...]] = []
    for split in found:
        first = original + len(origin)
        made.append(split.pieces)
        origin += [(split.part,)] * len(split.pieces)
        pieces.append(tuple(range(first, first + len(split.pieces))))
    added, scores = _objects(predicted, chosen.scores, made, origin)
    return Pool(
        extended(overlaps, added) if origin else overlaps,
        original,
        np.concatenate([chosen.scores, scores]),
        tuple(rules),
        tuple(map(tuple, merges)),
        tuple(found),
        tuple(pieces),
    )


def extended(overlaps: Overlaps, added: Objects) -> Overlaps:
    """The overlaps with further predictions; computed anew on the images of these alone."""
    scenes = replace(overlaps.scenes, predicted=_joined(overlaps.scenes.predicted, added))
    places = np.unique(added.images)
    changed = np.zeros(len(scenes.image_ids), np.bool_)
    changed[places] = True
    fresh = overlaps_of(scenes.only(places.tolist()), overlaps.kind)
    true = np.flatnonzero(changed[scenes.truth.images])
    found = np.flatnonzero(changed[scenes.predicted.images])
    areas = np.concatenate([overlaps.predicted_areas, np.zeros(len(added))])
    areas[found] = fresh.predicted_areas

    def spliced(old: Pairs, new: Pairs, owners: Int64, first: Int64, second: Int64) -> Pairs:
        left = old.where(~changed[owners[old.first]])
        return Pairs(
            np.concatenate([left.first, first[new.first]]),
            np.concatenate([left.second, second[new.second]]),
            np.concatenate([left.shared, new.shared]),
        )

    return replace(
        overlaps,
        scenes=scenes,
        predicted_areas=areas,
        across=spliced(overlaps.across, fresh.across, scenes.truth.images, true, found),
        among_predicted=spliced(
            overlaps.among_predicted, fresh.among_predicted, scenes.predicted.images, found, found
        ),
    )


def _objects(
    predicted: Objects, scores: Float64, made: Sequence[Masks], origin: Sequence[tuple[int, ...]]
) -> tuple[Objects, Float64]:
    """What edits make as predictions of their parts' class and highest scores: in the file, and those chosen by."""
    corners = np.concatenate([np.zeros((0, 4)), *(masks.boxes.astype(np.float64) for masks in made)])
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    areas = np.concatenate([np.zeros(0), *(masks.areas.astype(np.float64) for masks in made)])
    first = np.array([parts[0] for parts in origin], np.int64)
    written = np.array([max(predicted.scores[p] for p in parts) for parts in origin], np.float64)
    chosen_by = np.array([max(scores[p] for p in parts) for parts in origin], np.float64)
    return Objects(
        predicted.images[first],
        predicted.labels[first],
        written,
        np.zeros(len(origin), np.bool_),
        boxes,
        tuple(rle for masks in made for rle in masks.to_coco()),
        areas,
        boxes[:, 2] * boxes[:, 3],
    ), chosen_by


def _joined(first: Objects, second: Objects) -> Objects:
    return replace(
        first,
        images=np.concatenate([first.images, second.images]),
        labels=np.concatenate([first.labels, second.labels]),
        scores=np.concatenate([first.scores, second.scores]),
        crowd=np.concatenate([first.crowd, second.crowd]),
        boxes=np.concatenate([first.boxes, second.boxes]),
        masks=first.masks + second.masks,
        segm_areas=np.concatenate([first.segm_areas, second.segm_areas]),
        bbox_areas=np.concatenate([first.bbox_areas, second.bbox_areas]),
    )
