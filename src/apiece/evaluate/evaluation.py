"""Evaluation: predictions against truth, as average precision and as counts, with the definitions they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from apiece.core.instances import Instances
from apiece.errors import AnnotationError
from apiece.evaluate import text
from apiece.evaluate.average_precision import ClassPrecision, average_precision
from apiece.evaluate.caps import Caps, find_caps
from apiece.evaluate.coco_scenes import as_key, scenes_of_coco
from apiece.evaluate.counting import Counting, counting
from apiece.evaluate.definitions import definitions
from apiece.evaluate.notes import notes_of
from apiece.evaluate.scenes import Scenes, scenes_of_instances

SCHEMA = "apiece/evaluate/1"
THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All figures of one set of predictions on one set of true objects.

    segm, bbox     COCO's twelve figures of masks and of boxes by name, under COCO's cap of 100 detections an image
                   and class; segm is None where it cannot be computed, see `reasons`.
    segm_uncapped, the same with the cap raised above the fullest image; without segm all are -1.
    bbox_uncapped
    segm_by_class, the figures of each class, by category id; empty without segm.
    bbox_by_class
    counting       counts at the operating threshold.
    caps           what caps on the number of detections hid.
    truth          true objects, crowd regions excluded.
    crowd          crowd regions.
    predictions    predictions, whatever their score.
    reasons        why "segm" is None.
    notes          sentences about the data that a reader of the figures must know.
    """

    segm: Mapping[str, float] | None
    bbox: Mapping[str, float]
    segm_uncapped: Mapping[str, float]
    bbox_uncapped: Mapping[str, float]
    segm_by_class: tuple[ClassPrecision, ...]
    bbox_by_class: tuple[ClassPrecision, ...]
    counting: Counting
    caps: Caps
    truth: int
    crowd: int
    predictions: int
    reasons: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def count(self) -> dict[str, Any]:
        """`threshold` and the count errors over all classes by name, see CountErrors."""
        return {"threshold": self.counting.threshold, **asdict(self.counting.total)}

    @property
    def definitions(self) -> dict[str, str]:
        """A sentence for every figure: thresholds, area ranges, caps, and the rule for crowds."""
        return definitions(self.caps, self.counting.threshold)

    def to_json(self) -> dict[str, Any]:
        """The document `apiece/evaluate/1`, of plain values: `json.dumps(…, allow_nan=False)` takes it.

        AP and AR in 0..1; count errors in objects, relative ones as parts of 1; -1 where undefined.
        """
        counts = [
            {"category_id": key, "name": name, **asdict(errors)}
            for (key, name), errors in self.counting.by_class
        ]
        return {
            "schema": SCHEMA,
            "images": self.caps.images,
            "truth": self.truth,
            "crowd": self.crowd,
            "predictions": self.predictions,
            "segm": _plain(self.segm, self.segm_uncapped, self.segm_by_class),
            "segm_uncapped": None if self.segm is None else dict(self.segm_uncapped),
            "bbox": _plain(self.bbox, self.bbox_uncapped, self.bbox_by_class),
            "bbox_uncapped": dict(self.bbox_uncapped),
            "count": {**self.count, "by_class": counts},
            "caps": asdict(self.caps),
            "reasons": dict(self.reasons),
            "notes": list(self.notes),
            "definitions": self.definitions,
        }

    def to_text(self, width: int = 100) -> str:
        """Tables for people, of lines up to `width` characters; what a cap hid is said in the first line."""
        return text.render(self.to_json(), width)

    def __str__(self) -> str:
        return self.to_text()


def evaluate(
    truth: Mapping[str, Any],
    predictions: Mapping[str, Any] | Sequence[Any],
    *,
    threshold: float = THRESHOLD,
    truth_name: str = "ground truth",
    predictions_name: str = "predictions",
) -> Evaluation:
    """Evaluate parsed COCO JSON: a ground-truth document, and a results list or a document with scores.

    threshold         predictions with score >= threshold are counted; AP does not depend on it.
    truth_name,       what messages call the two, such as their paths.
    predictions_name
    raises            AnnotationError if the two cannot be evaluated as they stand, see scenes_of_coco;
                      UsageError for a threshold that is not a finite number.
    """
    return evaluate_scenes(scenes_of_coco(truth, predictions, truth_name, predictions_name), threshold)


def evaluate_files(
    truth: str | Path,
    predictions: str | Path,
    *,
    threshold: float = THRESHOLD,
    images: str | Path | None = None,
    format: str | None = None,
    predictions_format: str | None = None,
    rename: Mapping[str, str] | None = None,
    common: bool = False,
    one_class: bool = False,
) -> Evaluation:
    """Evaluate predictions against ground truth, from files of any format; `read.subject_of_files` has the options.

    raises  AnnotationError naming file and object; UsageError for a threshold that is not a finite number.
    """
    from apiece.evaluate.read import subject_of_files

    subject = subject_of_files(
        Path(truth),
        Path(predictions),
        images=None if images is None else Path(images),
        format=format,
        predictions_format=predictions_format,
        rename=rename,
        common=common,
        one_class=one_class,
    )
    found = evaluate_scenes(subject.scenes, threshold)
    return replace(found, notes=tuple(dict.fromkeys((*found.notes, *subject.notes))))


def evaluate_instances(
    truth: Sequence[Instances], predicted: Sequence[Instances], *, threshold: float = THRESHOLD
) -> Evaluation:
    """Evaluate values in memory, picture by picture; the figures equal those of the same objects in files.

    truth      crowd regions are marked by the bool column "iscrowd". Objects are small, medium or large by their
               masks' pixels, or by the column "area", as files state it.
    predicted  on the same pictures in the same order, with the same classes.
    raises     AnnotationError if the two do not belong together.
    """
    return evaluate_scenes(scenes_of_instances(truth, predicted), threshold)


def evaluate_by_group(
    truth: Mapping[str, Any],
    predictions: Mapping[str, Any] | Sequence[Any],
    groups: Mapping[Any, str],
    *,
    threshold: float = THRESHOLD,
    truth_name: str = "ground truth",
    predictions_name: str = "predictions",
) -> dict[str, Evaluation]:
    """The same figures for each group of images, such as a laboratory or a camera, by increasing name.

    groups  the group of each image, by image id; exactly the images of the ground truth.
    raises  AnnotationError as evaluate, and if an image has no group or a group names an unknown image.
    """
    scenes = scenes_of_coco(truth, predictions, truth_name, predictions_name)
    group_of = {as_key(key): str(group) for key, group in groups.items()}
    missing = [key for key in scenes.image_ids if key not in group_of]
    strange = [key for key in group_of if key not in set(scenes.image_ids)]
    if missing or strange:
        what = (
            f"image {missing[0]!r} has no group" if missing else f"a group is given to image {strange[0]!r}"
        )
        raise AnnotationError(
            f"{truth_name}: {what}; expected a group for each of the {len(scenes.image_ids)} images and no others "
            f"({len(missing)} images without a group, {len(strange)} unknown)."
        )
    places: dict[str, list[int]] = {}
    for place, key in enumerate(scenes.image_ids):
        places.setdefault(group_of[key], []).append(place)
    return {
        group: evaluate_scenes(scenes.only(members), threshold) for group, members in sorted(places.items())
    }


def evaluate_scenes(scenes: Scenes, threshold: float) -> Evaluation:
    """Evaluate scenes that have been read and checked."""
    counts = counting(scenes, threshold)
    caps = find_caps(scenes)
    lacking = {
        side: objects.without_mask
        for side, objects in (("ground truth", scenes.truth), ("predictions", scenes.predicted))
        if objects.without_mask
    }
    reasons: dict[str, str] = {}
    if lacking:
        named = " and ".join(
            f"{missing} of {len(scenes.truth if side == 'ground truth' else scenes.predicted)} objects of the {side}"
            for side, missing in lacking.items()
        )
        reasons["segm"] = f"{named} have no mask (`segmentation`), so the overlap of masks is not known."
    segm = None if lacking else average_precision(scenes, "segm", caps.uncapped)
    bbox = average_precision(scenes, "bbox", caps.uncapped)
    return Evaluation(
        segm=None if segm is None else segm.figures,
        bbox=bbox.figures,
        segm_uncapped=dict.fromkeys(bbox.figures, -1.0) if segm is None else segm.uncapped,
        bbox_uncapped=bbox.uncapped,
        segm_by_class=() if segm is None else segm.by_class,
        bbox_by_class=bbox.by_class,
        counting=counts,
        caps=caps,
        truth=int((~scenes.truth.crowd).sum()),
        crowd=int(scenes.truth.crowd.sum()),
        predictions=len(scenes.predicted),
        reasons=reasons,
        notes=tuple(notes_of(scenes, counts, caps)),
    )


def _plain(
    capped: Mapping[str, float] | None, uncapped: Mapping[str, float], by_class: Sequence[ClassPrecision]
) -> dict[str, Any] | None:
    if capped is None:
        return None
    return {**capped, "AP_uncapped": uncapped["AP"], "by_class": [asdict(entry) for entry in by_class]}
