"""A small diagnosis with every part of the page: pictures, planted failures of each kind, and a whole document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from apiece.core.image import write_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.evaluate.ledger import KINDS, Ledger, ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.overlaps import overlaps_of
from apiece.evaluate.scenes import Scenes, scenes_of_instances
from apiece.evaluate.subject import Subject

SIZE = (120, 160)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x07\ud800.png'
HOSTILE_CLASS = "</script><b>bold</b> & 'quoted'"


def interval(value: float, half: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def instances(
    boxes: list[tuple[int, int, int, int]], labels: list[int], scores: list[float] | None
) -> Instances:
    """Ellipses in boxes x, y, width, height."""
    from apiece.core.classes import ClassMap

    crops = []
    for _, _, w, h in boxes:
        y, x = np.mgrid[:h, :w]
        crops.append(((x + 0.5 - w / 2) / (w / 2)) ** 2 + ((y + 0.5 - h / 2) / (h / 2)) ** 2 <= 1)
    masks = Masks.from_crops(crops, [(x, y) for x, y, _, _ in boxes], SIZE)
    given = {} if scores is None else {"scores": np.array(scores, np.float32)}
    return Instances(
        SIZE, masks, np.array(labels, np.int64), classes=ClassMap(("cell", HOSTILE_CLASS)), **given
    )


def scene(folder: Path) -> tuple[Subject, Ledger]:
    """Three pictures: one with a failure of every kind, one without objects whose file is missing, one damaged."""
    true = [
        (10, 10, 20, 20),
        (40, 10, 20, 20),
        (70, 10, 20, 20),
        (10, 50, 20, 20),
        (31, 50, 20, 20),
        (70, 50, 30, 20),
    ]
    true += [(120, 10, 20, 20), (120, 80, 24, 24)]
    found = [
        ((11, 10, 20, 20), 0, 0.9),  # matched
        ((49, 10, 20, 20), 0, 0.8),  # loose
        ((70, 10, 20, 20), 1, 0.95),  # confused
        ((10, 50, 41, 20), 0, 0.7),  # merged
        ((70, 50, 14, 20), 0, 0.65),  # split
        ((86, 50, 14, 20), 0, 0.6),
        ((12, 12, 17, 17), 0, 0.55),  # duplicate
        ((10, 90, 20, 20), 0, 0.85),  # spurious
        ((121, 80, 24, 24), 0, 0.2),  # below the threshold: a missed one's candidate
    ]
    empty = instances([], [], None)
    many = instances([(20 + 40 * i, 30, 24, 24) for i in range(3)], [0, 1, 0], None)
    truth = [instances(true, [0] * len(true), None), empty, many]
    predicted = [
        instances(
            [box for box, _, _ in found], [label for _, label, _ in found], [score for *_, score in found]
        ),
        instances([(5, 5, 30, 30)], [1], [0.9]),
        instances([(20, 30, 24, 24), (100, 30, 24, 24)], [0, 0], [0.8, 0.7]),
    ]
    scenes = scenes_of_instances(truth, predicted)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    write_image(folder / "first.png", np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8))
    (folder / "third.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    subject = Subject(
        scenes,
        ("first.png", HOSTILE, "third.png"),
        (folder / "first.png", None, folder / "third.png"),
        {"camera": ("a", "b", "a")},
        truth_path="<i>truth</i>.json",
        predicted_path="results & more.json",
    )
    return subject, entries_of(scenes)


def entries_of(scenes: Scenes) -> Ledger:
    overlaps = overlaps_of(scenes)
    return ledger(overlaps, select(overlaps, OperatingPoint(0.5)))


def document(subject: Subject, entries: Ledger) -> dict[str, Any]:
    """`apiece/diagnose/1` with every part; what the ledger says is true, the rest made up."""
    truth, found = entries.table("truth"), entries.table("prediction")
    true, predicted = truth[:, :, :9].sum(axis=(1, 2)), found.sum(axis=(1, 2))
    errors, signed = entries.errors, entries.signed.sum(axis=(0, 1))

    def row(a: Any, b: Any) -> dict[str, list[int]]:
        return {kind: [int(a[k]), int(b[k])] for k, kind in enumerate(KINDS) if a[k] or b[k]}

    return {
        "schema": "apiece/diagnose/1",
        "truth_path": subject.truth_path,
        "predicted_path": subject.predicted_path,
        "kind": "segm",
        "threshold": 0.5,
        "operating_point": {
            "threshold": 0.5,
            "thresholds": {"1": 0.4},
            "nms": {"iou": 0.6, "measure": "iou"},
            "cap": 100,
            "min_area": 4,
            "border": "drop",
            "chosen_by": "given",
        },
        "verdict": ["First <sentence>.", "Second sentence.", "Third sentence."],
        "notes": ["A note with <markup> & signs."],
        "reasons": {"tide": "There are no scores."},
        "count": {
            "true": int(true.sum()),
            "predicted": int(predicted.sum()),
            "net": int(predicted.sum() - true.sum()),
            "too_many": int(errors[:, 0].sum()),
            "too_few": int(errors[:, 1].sum()),
            "gross": int(errors.sum()),
            "MAE": 1.0,
            "RMSE": 1.5,
            "bias": -0.25,
        },
        "ledger": {
            kind: {
                "truth": int(truth[:, :, k].sum()),
                "prediction": int(found[:, :, k].sum()),
                "entries": 1,
                "signed": int(signed[k]),
            }
            for k, kind in enumerate(KINDS)
        },
        "by_class": [
            {
                "category_id": key,
                "name": name,
                "true": int(truth[:, c, :9].sum()),
                "predicted": int(found[:, c].sum()),
                "ledger": row(truth[:, c].sum(axis=0), found[:, c].sum(axis=0)),
            }
            for c, (key, name) in enumerate(subject.scenes.classes)
        ],
        "images": [
            {
                "id": key,
                "name": subject.names[i],
                "true": int(true[i]),
                "predicted": int(predicted[i]),
                "too_many": int(errors[i, 0]),
                "too_few": int(errors[i, 1]),
                "ledger": row(truth[i].sum(axis=0), found[i].sum(axis=0)),
            }
            for i, key in enumerate(subject.scenes.image_ids)
        ],
        "causes": {
            "total": 3,
            "causes": [
                {
                    "cause": "below threshold",
                    "missed": 1,
                    "share": 1 / 3,
                    "seen": True,
                    "definition": "Too low.",
                },
                {
                    "cause": "no candidate",
                    "missed": 2,
                    "share": 2 / 3,
                    "seen": False,
                    "definition": "None < 0.1.",
                },
                {"cause": "crowded", "missed": 0, "share": 0.0, "seen": False, "definition": "Near others."},
            ],
        },
        "costs": {
            "AP50": interval(0.6),
            "all_repaired": interval(0.99, 0.01),
            "notes": ["Draws of AP are few."],
            "kinds": [
                {
                    "kind": kind,
                    "AP50": interval(0.02 * k),
                    "count": interval(k - 4.0),
                    "gross": interval(-k),
                    "area": interval(90.0 * k),
                }
                for k, kind in enumerate(KINDS)
            ],
            "tide": {"gains": {"Cls": 0.1, "Miss": 0.2}, "counts": {"Cls": 1, "Miss": 3}},
        },
        "options": {
            "objective": "mae",
            "fold_note": "Chosen on one half, judged on the other.",
            "options": [
                {
                    "name": "threshold",
                    "label": "threshold 0.4",
                    "effect": {
                        "MAE": interval(-0.5),
                        "AP": interval(0.01, 0.02),
                        "kinds": {"missed": interval(-2, 1)},
                    },
                    "measurable": True,
                    "helps": True,
                    "rank": 1,
                    "sentence": "Fewer misses.",
                },
                {
                    "name": "cap",
                    "label": "cap <50>",
                    "effect": {"MAE": interval(0.3)},
                    "rank": 2,
                    "sentence": "Worse.",
                },
            ],
            "left_out": [{"name": "nms", "label": "Suppression", "reason": "nothing overlaps."}],
            "beyond": [{"what": "retrain", "evidence": "2 of 3 misses had no candidate.", "share": 0.67}],
        },
        "risk": [
            {
                "name": "missed objects",
                "method": "Learn-then-Test",
                "target": 0.1,
                "level": 0.95,
                "n": 3,
                "unit": "picture",
                "threshold": 0.3,
                "interval": None,
                "promise": "At most 10 % are missed.",
                "assumption": "Pictures are alike.",
                "abstains": None,
                "shift": None,
            },
            {
                "name": "count",
                "method": "conformal",
                "n": 3,
                "abstains": "three pictures are too few.",
                "assumption": "As above.",
            },
        ],
        "calibration": {
            "iou": 0.5,
            "matching": "coco",
            "floor": 0.05,
            "total": {
                "predictions": 12,
                "d_ece": interval(0.1),
                "curve": [
                    {"low": 0.0, "high": 0.5, "n": 4, "score": 0.2, "precision": interval(0.3), "iou": 0.6},
                    {"low": 0.5, "high": 1.0, "n": 8, "score": 0.8, "precision": interval(0.7), "iou": 0.8},
                ],
            },
            "by_size": [{"size": "small", "predictions": 5, "d_ece": interval(0.2)}],
            "by_class": [],
            "repair": {
                "before": interval(0.1),
                "after": interval(0.05),
                "change": interval(-0.05),
                "map": {"scores": [0.1, 0.9], "precision": [0.2, 0.8]},
            },
            "reasons": [],
        },
        "counting": {
            "MAE": interval(1.0),
            "R2": interval(0.5),
            "GAME": [interval(1.0), interval(2.0)],
            "density": [
                {"low": 0, "high": 3, "images": 2, "true": 1.5, "bias": interval(0.5)},
                {"low": 8, "high": 8, "images": 1, "true": 8.0, "bias": interval(-1)},
            ],
            "reasons": [],
        },
        "quality": {
            "total": {"pairs": 4, "iou": interval(0.7), "area_bias_mean": interval(-0.02)},
            "by_size": [{"size": "small", "pairs": 4, "iou": interval(0.6), "area_bias_mean": interval(0.1)}],
            "by_class": [],
            "boundary_AP": {"AP": 0.4, "AP50": 0.6, "AP75": 0.3},
            "reasons": ["All pairs were measured."],
        },
        "slices": [
            slice_of("all", "all images", 3, 0.5, []),
            slice_of("metadata: camera", "a", 2, 0.3, ["recall"]),
            slice_of("metadata: camera", "b <x>", 1, 0.9, [], "too few"),
        ],
        "label_errors": {
            "missing": [
                {
                    "image": 1,
                    "name": "first.png",
                    "truth": None,
                    "prediction": 7,
                    "class": "cell",
                    "score": 0.85,
                    "box": [10, 90, 30, 110],
                    "rank_score": 0.9,
                    "why": "sure & alone",
                }
            ],
            "wrong_class": [],
            "poor_outline": [],
            "doubtful": [
                {
                    "image": 1,
                    "name": "first.png",
                    "truth": 6,
                    "prediction": None,
                    "class": "cell",
                    "score": None,
                    "box": [120, 10, 140, 30],
                    "rank_score": 0.9,
                    "why": "no candidate",
                }
            ],
            "totals": {"missing": 1, "wrong_class": 0, "poor_outline": 0, "doubtful": 1},
            "notes": [],
        },
        "definitions": {"AP50": "Average precision at IoU 0.5 <COCO>."},
    }


def slice_of(
    by: str, name: str, images: int, recall: float, differs: list[str], few: str | None = None
) -> dict[str, Any]:
    return {
        "by": by,
        "name": name,
        "images": images,
        "true": 4 * images,
        "predicted": 3 * images,
        "recall": interval(recall),
        "precision": interval(0.6),
        "bias": interval(-1.0),
        "gross": interval(0.4),
        "kinds": {"missed": interval(0.2), "spurious": interval(0.05)},
        "differs": differs,
        "few": few,
    }
