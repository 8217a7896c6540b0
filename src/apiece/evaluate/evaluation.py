"""`apiece evaluate`: AP beside counting error, every figure with its definition, every cap said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apiece.core.instances import Instances
from apiece.data.coco import read_coco, read_predictions
from apiece.evaluate.average_precision import COCO_CAP, AveragePrecision, average_precision
from apiece.evaluate.counting import counting_error, counts_by_image

SCHEMA = "apiece/evaluate/1"


@dataclass(frozen=True)
class Caps:
    """What COCO's cap of 100 predictions a picture and class cut.

    images     pictures with more predictions, or more objects, of one class than the cap.
    objects    objects beyond the cap in those pictures: they can't be found by a capped AP.
    suspected  a number at which many pictures' predictions stop, as if their producer had a cap; or None.
    largest    the most predictions or objects of one class in a picture: the cap of the uncapped figures.
    """

    images: int
    objects: int
    suspected: int | None
    largest: int


@dataclass(frozen=True)
class Evaluation:
    """Figures of a set of pictures. `segm` and `bbox` are None where predictions have neither masks nor boxes."""

    threshold: float
    images: int
    segm: dict[str, float] | None
    segm_uncapped: dict[str, float] | None
    bbox: dict[str, float] | None
    bbox_uncapped: dict[str, float] | None
    segm_by_class: dict[str, float]
    count: dict[str, float]
    count_by_class: dict[str, dict[str, float]]
    caps: Caps
    notes: tuple[str, ...] = ()

    @property
    def definitions(self) -> dict[str, str]:
        """What each figure means, with its thresholds, ranges and caps."""
        return {
            "AP": f"mean over classes and IoU 0.50:0.05:0.95 of 101-point average precision; at most {COCO_CAP} "
            "predictions of a picture and class, best scores first; crowd regions are neither hits nor misses (COCO)",
            "AP50": "AP at IoU 0.50",
            "AP75": "AP at IoU 0.75",
            "APs, APm, APl": "AP of objects of area < 32², 32² to 96², > 96² pixels",
            "AR1, AR10, AR100": "mean over classes and the same IoUs of the highest recall with at most 1, 10, 100 "
            "predictions of a picture and class",
            "uncapped": f"the same figures with at most {self.caps.largest} predictions, above the fullest picture",
            "count": f"predictions with score ≥ {self.threshold:g} against objects that are not crowd regions",
            "MAE": "mean over pictures of |predicted - true|",
            "RMSE": "square root of the mean over pictures of (predicted - true)²",
            "bias": "mean over pictures of predicted - true",
            "relative": "|sum of predicted - sum of true| / sum of true: errors of pictures cancel",
            "relative_per_image": "mean over pictures with objects of |predicted - true| / true: they don't cancel",
        }

    def to_json(self) -> dict[str, Any]:
        """The machine-readable document."""
        return {
            "schema": SCHEMA,
            "threshold": self.threshold,
            "images": self.images,
            "segm": self.segm,
            "segm_uncapped": self.segm_uncapped,
            "bbox": self.bbox,
            "bbox_uncapped": self.bbox_uncapped,
            "segm_by_class": self.segm_by_class,
            "count": self.count,
            "count_by_class": self.count_by_class,
            "caps": {
                "coco": COCO_CAP,
                "images_over": self.caps.images,
                "objects_over": self.caps.objects,
                "suspected_in_predictions": self.caps.suspected,
                "uncapped": self.caps.largest,
            },
            "notes": list(self.notes),
            "definitions": self.definitions,
        }

    def to_text(self) -> str:
        """For a person: caps first, then figures, then definitions."""
        lines = []
        if self.caps.images:
            lines.append(
                f"CAP REACHED: {self.caps.images} of {self.images} pictures have more than {COCO_CAP} predictions or "
                f"objects of a class; AP can't see {self.caps.objects} objects. Read the uncapped figures."
            )
        if self.caps.suspected is not None:
            lines.append(
                f"SUSPECTED CAP: predictions stop at exactly {self.caps.suspected} in several pictures; their producer "
                "seems to have cut them."
            )
        lines += list(self.notes)
        for name in ("segm", "segm_uncapped", "bbox", "bbox_uncapped"):
            figures = getattr(self, name)
            if figures is not None and not (name.endswith("uncapped") and not self.caps.images):
                lines.append(f"{name:14} " + "  ".join(f"{k} {_figure(v)}" for k, v in figures.items()))
        c = self.count
        lines.append(
            f"{'count':14} true {c['true']:.0f}  predicted {c['predicted']:.0f}  MAE {c['MAE']:.2f}  "
            f"RMSE {c['RMSE']:.2f}  bias {c['bias']:+.2f}  relative {_percent(c['relative'])}  "
            f"per image {_percent(c['relative_per_image'])}"
        )
        lines.append("")
        lines += [f"{name}: {text}" for name, text in self.definitions.items()]
        return "\n".join(lines)


def _figure(value: float) -> str:
    return "undefined" if value == -1 else f"{value:.3f}"


def _percent(value: float) -> str:
    return "undefined" if value == -1 else f"{value:.1%}"


def evaluate(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, threshold: float = 0.5
) -> Evaluation:
    """Figures from a COCO document and a list of COCO results, both already checked.

    threshold  lowest score that counts as an object; AP uses all scores.
    """
    notes = []
    masks = any("segmentation" in r for r in results) or not results
    boxes = any("bbox" in r for r in results) or not results
    truth_masks = all(a.get("segmentation") is not None for a in truth["annotations"])
    if masks and not truth_masks:
        masks = False
        notes.append("segm: not computed, some objects of the ground truth have no segmentation.")
    elif not masks:
        notes.append("segm: not computed, the predictions have no masks.")
    if not boxes:
        notes.append("bbox: not computed, the predictions have no boxes.")
    caps = _caps(truth, results)

    def figures(kind: Any, wanted: bool) -> tuple[AveragePrecision | None, AveragePrecision | None]:
        if not wanted:
            return None, None
        capped = average_precision(truth, results, kind)
        return capped, average_precision(truth, results, kind, caps.largest) if caps.images else capped

    segm, segm_uncapped = figures("segm", masks)
    bbox, bbox_uncapped = figures("bbox", boxes)
    images = [image["id"] for image in truth["images"]]
    objects = [a for a in truth["annotations"] if not a.get("iscrowd", 0)]
    found = [r for r in results if r["score"] >= threshold]

    def count(category: int | None) -> dict[str, float]:
        true, predicted = (
            Counter(r["image_id"] for r in rows if category in (None, r["category_id"]))
            for rows in (objects, found)
        )
        return counting_error(counts_by_image(images, true), counts_by_image(images, predicted))

    return Evaluation(
        threshold=threshold,
        images=len(images),
        segm=segm.figures if segm else None,
        segm_uncapped=segm_uncapped.figures if segm_uncapped else None,
        bbox=bbox.figures if bbox else None,
        bbox_uncapped=bbox_uncapped.figures if bbox_uncapped else None,
        segm_by_class=segm_uncapped.by_class if segm_uncapped else {},
        count=count(None),
        count_by_class={str(c["name"]): count(c["id"]) for c in truth["categories"]},
        caps=caps,
        notes=tuple(notes),
    )


def _caps(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Caps:
    true = Counter((a["image_id"], a["category_id"]) for a in truth["annotations"])
    predicted = Counter((r["image_id"], r["category_id"]) for r in results)
    over = {key[0] for counts in (true, predicted) for key, n in counts.items() if n > COCO_CAP}
    by_image = Counter(r["image_id"] for r in results)
    fullest = max(by_image.values(), default=0)
    stops = sum(n == fullest for n in by_image.values())
    return Caps(
        images=len(over),
        objects=sum(max(0, n - COCO_CAP) for n in true.values()),
        suspected=fullest if stops >= 3 and fullest >= 10 and fullest % 10 == 0 else None,
        largest=max(COCO_CAP, *true.values(), *predicted.values(), 0),
    )


def evaluate_instances(
    truth: Sequence[Instances], predicted: Sequence[Instances], *, threshold: float = 0.5
) -> Evaluation:
    """The same from values in memory: picture i of `predicted` belongs to picture i of `truth`."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    images = []
    for i, (true, found) in enumerate(zip(truth, predicted, strict=True), start=1):
        images.append({"id": i, "height": true.size[0], "width": true.size[1]})
        rows = true.to_coco(i, first_id=len(annotations) + 1)
        crowd = true.columns.get("iscrowd")
        for row, flag in zip(rows, crowd if crowd is not None else [False] * len(rows), strict=True):
            annotations.append({**row, "iscrowd": int(flag)})
        results += found.to_coco(i)
    categories = truth[0].classes.to_coco() if truth else []
    document = {"images": images, "annotations": annotations, "categories": categories}
    return evaluate(document, results, threshold=threshold)


def evaluate_files(truth: Path, predictions: Path, *, threshold: float = 0.5) -> Evaluation:
    """The same from files: COCO ground truth; a COCO results list, or a COCO document with scores.

    raises  AnnotationError naming file and entry.
    """
    read = read_coco(truth)
    return evaluate(read.document, read_predictions(predictions, read).raw, threshold=threshold)
