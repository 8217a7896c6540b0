"""Do two runtimes find the same objects? Compared on scores, boxes and decoded masks, object by object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apiece.core.frame import Frame
from apiece.core.instances import Instances
from apiece.models.card import ModelCard
from apiece.models.contract import Candidates
from apiece.models.decode import decode
from apiece.predict.runtime import Runtime


@dataclass(frozen=True)
class Tolerance:
    """How far two runtimes may differ.

    margin        objects whose score is within this of the threshold may be missing on the other side.
    score         absolute difference of an object's two scores, at most.
    box           absolute difference of a box side in input pixels, at most.
    iou           of an object's two masks, at least.
    unmatched     fraction of objects above threshold + margin without a counterpart, at most.
    exceed        fraction of matched objects that may exceed score, box or iou.
    """

    name: str
    margin: float
    score: float
    box: float
    iou: float
    unmatched: float
    exceed: float


FLOAT32 = Tolerance("float32", margin=0.01, score=0.005, box=1.0, iou=0.98, unmatched=0.0, exceed=0.0)
INT8 = Tolerance("int8", margin=0.1, score=0.1, box=8.0, iou=0.80, unmatched=0.02, exceed=0.05)


@dataclass(frozen=True)
class Parity:
    """What the comparison found, over all pictures."""

    tolerance: Tolerance
    pictures: int
    objects: int
    unmatched: int
    exceeding: int
    worst_score: float
    worst_box: float
    worst_iou: float

    @property
    def passed(self) -> bool:
        """Whether every tolerance was kept."""
        total = max(self.objects, 1)
        return (
            self.unmatched <= self.tolerance.unmatched * total
            and self.exceeding <= self.tolerance.exceed * total
        )

    def to_text(self) -> str:
        """The figures beside their tolerances."""
        t = self.tolerance
        return (
            f"parity ({t.name}): {self.pictures} pictures, {self.objects} objects, "
            f"{self.unmatched} without a counterpart (at most {t.unmatched:.0%}), "
            f"{self.exceeding} beyond a tolerance (at most {t.exceed:.0%})\n"
            f"  worst score difference {self.worst_score:.2e} (tolerance {t.score})\n"
            f"  worst box difference {self.worst_box:.2e} px (tolerance {t.box})\n"
            f"  worst mask IoU {self.worst_iou:.4f} (tolerance {t.iou})"
        )


def compare(a: Runtime, b: Runtime, images: npt.NDArray[np.uint8], tolerance: Tolerance) -> Parity:
    """Run both on the same network inputs (B, H, W, 3), one by one, and match their objects by mask overlap.

    The threshold is the card's, or half the highest score found where nothing reaches it (an untrained network),
    so that the comparison is never of two empty lists on pictures that have candidates.
    """
    objects = unmatched = exceeding = 0
    scores, boxes, ious = [0.0], [0.0], [1.0]
    for image in images:
        one, other = a(image[None]), b(image[None])
        threshold = min(a.card.threshold, float(max(one.scores.max(), other.scores.max(), 1e-3)) / 2)
        frame = Frame.letterbox((image.shape[0], image.shape[1]), a.card.input_size)
        low = max(threshold - tolerance.margin, 1e-6)
        left = _objects(one, frame, a.card, low)
        right = _objects(other, frame, a.card, low)
        for mine, theirs in ((left, right), (right, left)):
            sure = np.flatnonzero(mine.scores >= threshold + tolerance.margin)
            objects += len(sure)
            overlap = mine.masks.iou(theirs.masks).tocsr() if len(theirs) else None
            for i in sure:
                row = overlap[[i]].toarray()[0] if overlap is not None else np.zeros(0)
                row = np.where(theirs.class_ids == mine.class_ids[i], row, 0.0)
                if not len(row) or row.max() < 0.5:
                    unmatched += 1
                    continue
                j = int(row.argmax())
                score = abs(float(mine.scores[i] - theirs.scores[j]))
                box = float(np.abs(mine.boxes[i] - theirs.boxes[j]).max())
                scores.append(score)
                boxes.append(box)
                ious.append(float(row[j]))
                exceeding += score > tolerance.score or box > tolerance.box or row[j] < tolerance.iou
    return Parity(tolerance, len(images), objects, unmatched, exceeding, max(scores), max(boxes), min(ious))


def _objects(candidates: Candidates, frame: Frame, card: ModelCard, threshold: float) -> Instances:
    return decode(
        candidates, 0, frame, card.classes, threshold=threshold, boxes_from=card.boxes_from
    ).instances
