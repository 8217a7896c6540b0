"""TIDE: what false and missed detections cost in average precision, as hotcoco computes it.

TIDE (Bolya et al. 2020, arXiv 2008.08115, section 2.2) sorts the errors of all predictions, whatever their score,
by IoU; the ledger sorts those of an operating point by the overlap graph. They relate so:

    loose       Loc. TIDE counts every poor mask near an object, the ledger one an object.
    confused    Cls. The ledger's are one to one; TIDE's may be several for an object.
    duplicate   Dupe, or Loc where the second mask is poor.
    merged      scatters into Loc (the mask) and Miss (all but one of the objects).
    split       scatters into Loc, Dupe and Bkg (its parts).
    tangled     as merged and split.
    spurious    Bkg and Both; Loc where the mask is near an object that has its prediction.
    missed      Miss; TIDE's leaves out objects that a Loc or Cls error means. Objects that only a candidate below
                the operating threshold finds are missed in the ledger, not in TIDE.
    ignored     counts neither for nor against in both.

FP and FN are TIDE's special errors: no false detection at all, and no object unfound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from apiece.evaluate.average_precision import COCO_CAP, coco_eval
from apiece.evaluate.scenes import Kind, Scenes

COUNTED = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
ERRORS = (*COUNTED, "FP", "FN")

DEFINITIONS = {
    "tide": (
        "TIDE (arXiv 2008.08115), computed by hotcoco over all predictions, whatever their score and without a cap: "
        "how much AP at IoU `found` would rise, were one kind of error repaired. Gains do not sum to what is lacking. "
        "It has no kind for merged and split objects; no interval is given."
    ),
    "tide.Cls": "IoU ≥ `found` with an object of another class; repaired to a true positive.",
    "tide.Loc": "Right class, `near` ≤ IoU ≤ `found`; repaired to a true positive.",
    "tide.Both": "Wrong class, `near` < IoU < `found`; removed.",
    "tide.Dupe": "IoU ≥ `found` with an object of its class that a prediction of higher score took; removed.",
    "tide.Bkg": "IoU ≤ `near` with every object; removed.",
    "tide.Miss": "True objects that no prediction takes and no Cls or Loc error means; found, at the highest score.",
    "tide.FP": "All false positives removed.",
    "tide.FN": "All true objects that are not found no longer counted.",
}


@dataclass(frozen=True)
class Tide:
    """TIDE's errors.

    AP      average precision at IoU `found`, over all predictions; NaN without truth.
    gains   how much AP rises if an error of ERRORS is repaired; it falls in rare cases.
    counts  how many errors there are of each kind but FP and FN.
    found   IoU from which a detection is right (t_f).
    near    IoU from which it is about an object (t_b).
    """

    AP: float
    gains: Mapping[str, float]
    counts: Mapping[str, int]
    found: float
    near: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where nothing can be said."""
        known = not np.isnan(self.AP)
        return {
            "AP": self.AP if known else None,
            "gains": {name: self.gains[name] if known else None for name in ERRORS},
            "counts": dict(self.counts),
            "found": self.found,
            "near": self.near,
        }


def tide(scenes: Scenes, kind: Kind = "segm", found: float = 0.5, near: float = 0.1) -> Tide:
    """TIDE's errors of all predictions, without a cap.

    kind    "segm": IoU of masks, which every object must have; "bbox": IoU of boxes.
    raises  UsageError for "segm" if an object has no mask.
    """
    truth, predicted = scenes.truth, scenes.predicted
    classes = len(scenes.classes)
    run = coco_eval(scenes, kind)
    fullest = np.bincount(predicted.images * classes + predicted.labels, minlength=1).max()
    run.params.max_dets = [max(int(fullest), COCO_CAP)]
    run.params.iou_thrs = [found]
    run.evaluate()
    errors = run.tide_errors(pos_thr=found, bg_thr=near)
    return Tide(
        float("nan") if truth.crowd.all() else float(errors["ap_base"]),
        {name: float(errors["delta_ap"].get(name, 0.0)) for name in ERRORS},
        {name: int(errors["counts"].get(name, 0)) for name in COUNTED},
        found,
        near,
    )
