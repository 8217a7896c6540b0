"""Diagnosis: what is wrong with predictions, what it costs, and what each option would change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from apiece.core.instances import Instances
from apiece.data.json_text import resting_collector
from apiece.errors import UsageError, did_you_mean
from apiece.evaluate.bootstrap import LEVEL
from apiece.evaluate.counting import count_errors
from apiece.evaluate.ledger import IGNORED, KINDS, Ledger, Rules
from apiece.evaluate.operating import OperatingPoint, Suppression
from apiece.evaluate.scenes import Int64, scenes_of_instances
from apiece.evaluate.subject import Subject
from apiece.evaluate.verdict import verdict

SCHEMA = "apiece/diagnose/1"
Choice = Literal["f1", "lrp", "bias", "mae", "cost"]
Objective = Literal["mae", "gross", "ap", "cost"]
CHOICES: tuple[Choice, ...] = ("f1", "lrp", "bias", "mae", "cost")
OBJECTIVES: tuple[Objective, ...] = ("mae", "gross", "ap", "cost")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to diagnose.

    threshold     lowest score that counts as an object; chosen on the data itself where None.
    choose        by what it is then chosen: "f1", "lrp", "bias" (of the count), "mae" (of the count) or "cost".
    boxes         compare boxes, not masks.
    nms           suppression that the operating point applies to the candidates; None for none.
    cap           most objects of an image that it keeps; None for no limit.
    rules         the ledger's thresholds.
    group         metadata column whose values are drawn and parted as wholes (camera, plate); pictures where None.
    objective     by what options are ranked: "mae", "gross", "ap" or "cost".
    cost_miss     cost of a missed object, against
    cost_false    that of a false alarm.
    max_miss      share of missed objects that a threshold with a guarantee may have.
    max_false     share of false alarms that it may have.
    level         of intervals and guarantees.
    seed          of everything drawn.

    raises  UsageError for values that cannot be meant.
    """

    threshold: float | None = None
    choose: Choice = "f1"
    boxes: bool = False
    nms: Suppression | None = None
    cap: int | None = None
    rules: Rules = field(default_factory=Rules)
    group: str | None = None
    objective: Objective = "mae"
    cost_miss: float = 1.0
    cost_false: float = 1.0
    max_miss: float = 0.1
    max_false: float = 0.1
    level: float = LEVEL
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("choose", self.choose, CHOICES),
            ("objective", self.objective, OBJECTIVES),
        ):
            if value not in known:
                raise UsageError(f"{name} is {value!r}. {did_you_mean(str(value), known)}")
        for name in ("max_miss", "max_false", "level"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a share between 0 and 1.")
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise UsageError(f"score threshold is {self.threshold!r}; expected a finite number such as 0.5.")
        if self.nms is not None and not 0 <= self.nms.iou < 1:
            raise UsageError(f"nms is {self.nms.iou}; expected an IoU from 0 to below 1, such as 0.5.")
        if not (
            np.isfinite([self.cost_miss, self.cost_false]).all() and min(self.cost_miss, self.cost_false) >= 0
        ):
            raise UsageError(
                f"costs are {self.cost_miss} and {self.cost_false}; expected finite numbers from 0 on."
            )


class Part(Protocol):
    """A result that stands under a key of its own in the document."""

    def to_json(self) -> Any:
        """Plain values."""
        ...


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All that is known of what fails.

    subject      what was diagnosed.
    settings     how.
    point        the operating point.
    chosen_by    how its threshold came about, a sentence.
    ledger       the entry of every object at the operating point.
    parts        the other results, by the key that they have in the document.
    reasons      why a part is not there, by its key.
    notes        sentences about the data that a reader of the figures must know.
    definitions  a sentence for every figure.
    """

    subject: Subject
    settings: Settings
    point: OperatingPoint
    chosen_by: str
    ledger: Ledger
    parts: Mapping[str, Part]
    reasons: Mapping[str, str]
    notes: tuple[str, ...]
    definitions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The document `apiece/diagnose/1`, of plain values: `json.dumps(…, allow_nan=False)` takes it."""
        entries = self.ledger
        truth, found = entries.table("truth"), entries.table("prediction")
        errors = entries.errors
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "truth_path": self.subject.truth_path,
            "predicted_path": self.subject.predicted_path,
            "kind": entries.overlaps.kind,
            "threshold": self.point.threshold,
            "operating_point": {**asdict(self.point), "chosen_by": self.chosen_by},
            "notes": list(self.notes),
            "reasons": dict(self.reasons),
            "count": _count(truth, found, errors),
            "ledger": _ledger(entries, truth, found),
            "by_class": _classes(self.subject, truth, found),
            "images": _images(self.subject, truth, found, errors),
            **{key: part.to_json() for key, part in self.parts.items()},
            "definitions": dict(self.definitions),
        }
        return {**document, "verdict": verdict(document)}

    def to_text(self, width: int = 100) -> str:
        """Tables for people, of lines up to `width` characters; the verdict comes first."""
        from apiece.evaluate.diagnosis_text import render

        return render(self.to_json(), width)

    def write_html(self, path: str | Path) -> None:
        """The report as one page with pictures, which needs no network.

        raises  DataError where the file can't be written.
        """
        from apiece.evaluate.report import write_report

        write_report(self.to_json(), self.subject, self.ledger, path)

    def __str__(self) -> str:
        return self.to_text()


def _count(truth: Int64, found: Int64, errors: Int64) -> dict[str, Any]:
    true, predicted = objects(truth).sum(axis=1), found.sum(axis=(1, 2))
    net = int(predicted.sum() - true.sum())
    too_many, too_few = errors.sum(axis=0).tolist()
    figures = asdict(count_errors(true, predicted))
    return {**figures, "net": net, "too_many": too_many, "too_few": too_few, "gross": too_many + too_few}


def _ledger(entries: Ledger, truth: Int64, found: Int64) -> dict[str, Any]:
    signed = entries.signed.sum(axis=(0, 1)).tolist()
    made: dict[str, Any] = {}
    for k, kind in enumerate(KINDS):
        own = (
            entries.truth_entry[entries.truth_kind == k],
            entries.predicted_entry[entries.predicted_kind == k],
        )
        made[kind] = {
            "truth": int(truth[:, :, k].sum()),
            "prediction": int(found[:, :, k].sum()),
            "entries": len(np.unique(np.concatenate(own))),
            "signed": signed[k],
        }
    return made


def _classes(subject: Subject, truth: Int64, found: Int64) -> list[dict[str, Any]]:
    true, predicted = objects(truth).sum(axis=0).tolist(), found.sum(axis=(0, 2)).tolist()
    truths, predictions = truth.sum(axis=0), found.sum(axis=0)
    return [
        {
            "category_id": key,
            "name": name,
            "true": true[c],
            "predicted": predicted[c],
            "ledger": _row(truths[c], predictions[c]),
        }
        for c, (key, name) in enumerate(subject.scenes.classes)
    ]


def _images(subject: Subject, truth: Int64, found: Int64, errors: Int64) -> list[dict[str, Any]]:
    true, predicted = objects(truth).sum(axis=1).tolist(), found.sum(axis=(1, 2)).tolist()
    truths, predictions = truth.sum(axis=1), found.sum(axis=1)
    return [
        {
            "id": key,
            "name": subject.names[i],
            "true": true[i],
            "predicted": predicted[i],
            "too_many": many,
            "too_few": few,
            "ledger": _row(truths[i], predictions[i]),
        }
        for i, (key, (many, few)) in enumerate(zip(subject.scenes.image_ids, errors.tolist(), strict=True))
    ]


def _row(truth: Int64, found: Int64) -> dict[str, list[int]]:
    """[true objects, predictions] of each kind that occurs."""
    pairs = zip(KINDS, truth.tolist(), found.tolist(), strict=True)
    return {kind: [a, b] for kind, a, b in pairs if a or b}


def objects(truth: Int64) -> Int64:
    """True objects by image and class, without crowd regions, from a ledger's table."""
    real: NDArray[np.int64] = truth.sum(axis=2) - truth[:, :, IGNORED]
    return real


def diagnose_instances(
    truth: Sequence[Instances],
    predicted: Sequence[Instances],
    settings: Settings | None = None,
    *,
    names: Sequence[str] | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> Diagnosis:
    """Diagnose values in memory; `truth[i]` and `predicted[i]` are of the same picture.

    predicted  with a low threshold, so that options and causes can be told.
    names      what each picture is called; 1, 2, … without.
    metadata   columns that describe the pictures, a text a picture.
    raises     AnnotationError if the two do not belong together.
    """
    from apiece.evaluate.diagnose import diagnose

    scenes = scenes_of_instances(truth, predicted)
    called = tuple(map(str, scenes.image_ids)) if names is None else tuple(names)
    columns = {name: tuple(map(str, values)) for name, values in (metadata or {}).items()}
    subject = Subject(scenes, called, (None,) * len(called), columns)
    return diagnose(subject, settings)


def diagnose_files(
    truth: str | Path,
    predictions: str | Path,
    settings: Settings | None = None,
    *,
    images: Path | None = None,
    format: str | None = None,
    predictions_format: str | None = None,
    rename: Mapping[str, str] | None = None,
    common: bool = False,
    one_class: bool = False,
    metadata: Path | None = None,
    live: str | Path | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Diagnose a file or folder of predictions against a file or folder of ground truth.

    images              the picture folder, where pictures lie elsewhere.
    format,             what the two are; detected where None.
    predictions_format
    rename              predicted class → true class, where they are called otherwise.
    common              compare only the pictures that both sides have.
    one_class           take all objects for one class.
    metadata            CSV file: picture, and columns such as camera.
    live                predictions on unlabelled pictures, for totals with intervals and as a test for drift.
    progress            is called with what is being done.
    raises              AnnotationError naming file and object, and UsageError for what cannot be meant.
    """
    from apiece.evaluate.diagnose import diagnose
    from apiece.evaluate.read import live_of_file, subject_of_files

    if progress is not None:
        progress("reading")
    with resting_collector():
        subject = subject_of_files(
            Path(truth),
            Path(predictions),
            images=images,
            format=format,
            predictions_format=predictions_format,
            rename=rename,
            common=common,
            one_class=one_class,
            metadata=metadata,
        )
        unlabelled = (
            None if live is None else live_of_file(Path(live), subject, rename=rename, one_class=one_class)
        )
    return diagnose(subject, settings, live=unlabelled, progress=progress)
