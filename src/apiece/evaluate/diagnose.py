"""Diagnose: the ledger of scenes, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from apiece.errors import UsageError, did_you_mean
from apiece.evaluate import boundary, costs, count_quality, options, quality, risk, slices, tide
from apiece.evaluate import calibration as scores
from apiece.evaluate import label_errors as labels
from apiece.evaluate.average_precision import AveragePrecision, average_precision
from apiece.evaluate.bootstrap import DEFINITIONS as OF_INTERVALS
from apiece.evaluate.bootstrap import DRAWS, resamples
from apiece.evaluate.caps import Caps, find_caps
from apiece.evaluate.causes import causes
from apiece.evaluate.counting import counting
from apiece.evaluate.definitions import definitions as definitions_of_averages
from apiece.evaluate.diagnosis import Diagnosis, Part, Progress, Settings
from apiece.evaluate.kinds import sentences
from apiece.evaluate.ledger import Ledger, ledger
from apiece.evaluate.notes import notes_of
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.options.sweep import sweep_of
from apiece.evaluate.overlaps import Overlaps, overlaps_of
from apiece.evaluate.scenes import Kind, Scenes
from apiece.evaluate.subject import Subject
from apiece.evaluate.unaudited import unaudited

CRITERIA = {
    "f1": "the best F1 of predictions that are right",
    "lrp": "the least localisation recall precision error (LRP)",
    "bias": "the least bias of the count",
    "mae": "the least mean error of the count",
    "cost": "the least cost of misses and false alarms",
}
NO_SCORES = "the predictions carry no scores that differ, and this needs them to rank predictions."
AVERAGES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "AP_uncapped", "crowd", "undefined")


@dataclass(frozen=True)
class Averages:
    """Average precision under COCO's cap and without it, as hotcoco has it."""

    kind: Kind
    found: AveragePrecision
    caps: Caps

    def to_json(self) -> dict[str, Any]:
        """Under the kind's name as in the document `apiece/evaluate/1`, -1 where undefined; and what caps hid."""
        classes = [asdict(one) for one in self.found.by_class]
        figures = {**self.found.figures, "AP_uncapped": self.found.uncapped["AP"], "by_class": classes}
        return {self.kind: figures, "caps": asdict(self.caps)}


@dataclass(frozen=True)
class Several:
    """Several results under one key."""

    parts: Sequence[Part]

    def to_json(self) -> list[Any]:
        """Each in turn."""
        return [part.to_json() for part in self.parts]


def diagnose(
    subject: Subject,
    settings: Settings | None = None,
    *,
    live: Subject | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Everything that is known of what fails.

    live      predictions on unlabelled pictures, with the subject's classes and no true object.
    progress  is called with what is being done.
    raises    UsageError where settings and data do not go together.
    """
    given = Settings() if settings is None else settings
    step = progress or (lambda text: None)
    scenes = subject.scenes
    groups = None if given.group is None else _groups(subject, given.group)
    kind: Kind = "bbox" if given.boxes or _boxes_only(scenes) else "segm"
    step("overlaps")
    overlaps = overlaps_of(scenes, kind)
    step("ledger")
    point, chosen_by = _point(overlaps, subject, given)
    entries = ledger(overlaps, select(overlaps, point), given.rules)
    caps = find_caps(scenes)
    draws = resamples(len(scenes.image_ids), groups, DRAWS, given.seed, given.level)
    chosen_here = given.threshold is None and subject.scored
    why = causes(entries, caps)
    fresh = np.zeros(0, np.int64) if live is None else unaudited(live, subject)

    def boundary_precision() -> Part:
        if kind == "bbox":
            raise UsageError("boxes have no outline of their own.")
        return boundary.boundary_average_precision(overlaps)

    def options_replayed() -> Part:
        return options.options(
            overlaps,
            point,
            objective=given.objective,
            cost_miss=given.cost_miss,
            cost_false=given.cost_false,
            rules=given.rules,
            groups=groups,
            draws=draws,
            seed=given.seed,
            scored=subject.scored,
            chosen_here=chosen_here,
            causes=why.to_json(),
        )

    def risks() -> Part:
        unlabelled = live_groups = None
        if live is not None and fresh.size:
            unlabelled = overlaps_of(live.scenes, kind).only(fresh)
            if given.group is not None and given.group in live.metadata:
                live_groups = [_groups(live, given.group)[place] for place in fresh.tolist()]
        return Several(
            risk.risk(
                overlaps,
                point,
                groups=groups,
                alpha_miss=given.max_miss,
                alpha_false=given.max_false,
                level=given.level,
                live=unlabelled,
                live_groups=live_groups,
                metadata=subject.metadata,
                tuned_here=chosen_here,
            )
        )

    makers: dict[str, tuple[str, Callable[[], Part], bool]] = {
        "evaluation": (
            "average precision",
            lambda: Averages(kind, average_precision(scenes, kind, caps.uncapped), caps),
            True,
        ),
        "boundary": ("boundaries", boundary_precision, True),
        "costs": ("costs", lambda: costs.costs(entries, draws, subject.scored), False),
        "tide": ("TIDE", lambda: tide.tide(scenes, kind), True),
        "slices": ("slices", lambda: slices.slices(subject, entries, draws), False),
        "worst": ("worst pictures", lambda: Several(slices.worst_images(entries, WORST)), False),
        "quality": ("mask quality", lambda: quality.mask_quality(entries, draws, seed=given.seed), False),
        "calibration": (
            "calibration",
            lambda: scores.calibration(overlaps, draws, matching="coco", groups=groups, seed=given.seed),
            True,
        ),
        "counting": ("counting", lambda: count_quality.count_quality(entries, draws), False),
        "options": ("options", options_replayed, False),
        "risk": ("risk", risks, False),
        "label_errors": ("label errors", lambda: labels.label_errors(subject, entries), True),
    }
    parts: dict[str, Part] = {"causes": why}
    reasons: dict[str, str] = {}
    for key, (name, make, needs_scores) in makers.items():
        if needs_scores and not subject.scored:
            reasons[key] = NO_SCORES
            continue
        step(name)
        try:
            parts[key] = make()
        except UsageError as error:
            reasons[key] = str(error)
    notes = tuple(
        dict.fromkeys(
            (
                *subject.notes,
                *(live.notes if live is not None else ()),
                *_audited(live, len(fresh)),
                *notes_of(scenes, counting(scenes, point.threshold), caps),
                *_how(kind, given),
            )
        )
    )
    told = _definitions(caps, point, entries, parts)
    return Diagnosis(subject, given, point, chosen_by, entries, parts, reasons, notes, told)


WORST = 12


def _groups(subject: Subject, column: str) -> tuple[str, ...]:
    if column not in subject.metadata:
        known = (
            f"Columns: {did_you_mean(column, subject.metadata)}"
            if subject.metadata
            else "There are no columns."
        )
        raise UsageError(
            f"--group {column!r}: no such column of the pictures. {known} Remedy: --slices FILE.csv."
        )
    # A picture whose group is not known hangs together with no other.
    return tuple(
        value or f"picture {key}"
        for key, value in zip(subject.scenes.image_ids, subject.metadata[column], strict=True)
    )


def _audited(live: Subject | None, fresh: int) -> list[str]:
    """How many live pictures are labelled ones."""
    count = 0 if live is None else len(live.names) - fresh
    if not count:
        return []
    if not fresh:
        return ["All live pictures are labelled ones, so that there is nothing to tell of others."]
    return [
        f"{count:,} of the {count + fresh:,} live pictures are labelled ones, by their names and predictions. They are "
        f"left out there: live pictures are the other {fresh:,}."
    ]


def _how(kind: Kind, settings: Settings) -> list[str]:
    """What is not as a reader would expect."""
    if kind == "bbox" and not settings.boxes:
        return ["Not every object has a mask, so boxes are compared: figures on outlines are not given."]
    return []


def _boxes_only(scenes: Scenes) -> bool:
    return bool(scenes.truth.without_mask or scenes.predicted.without_mask)


def _point(overlaps: Overlaps, subject: Subject, settings: Settings) -> tuple[OperatingPoint, str]:
    """The operating point, and how its threshold came about."""
    scenes = overlaps.scenes
    lowest = float(scenes.predicted.scores.min()) if len(scenes.predicted) else 0.0
    open_point = OperatingPoint(threshold=min(lowest, 0.0), nms=settings.nms, cap=settings.cap)
    if not subject.scored:
        return open_point, "every prediction counts, as there are no scores"
    if settings.threshold is not None:
        return OperatingPoint(
            settings.threshold, nms=settings.nms, cap=settings.cap
        ), "the threshold was given"
    kept = select(overlaps, OperatingPoint(threshold=open_point.threshold, nms=settings.nms)).kept
    sweep = sweep_of(overlaps, kept, found=settings.rules.found)
    threshold = sweep.threshold(settings.choose, settings.cost_miss, settings.cost_false)
    if threshold is None:
        return open_point, "there is no prediction to choose a threshold by"
    return (
        OperatingPoint(threshold, nms=settings.nms, cap=settings.cap),
        f"chosen on these same pictures by {CRITERIA[settings.choose]}, so its own figures are a little too kind",
    )


def _definitions(
    caps: Caps, point: OperatingPoint, entries: Ledger, parts: Mapping[str, Part]
) -> dict[str, str]:
    """A sentence for every figure of the parts that are there."""
    averages = definitions_of_averages(caps, point.threshold)
    own: dict[str, Mapping[str, str]] = {
        "evaluation": {key: averages[key] for key in AVERAGES},
        "boundary": boundary.DEFINITIONS,
        "causes": getattr(parts["causes"], "definitions", {}),
        "costs": costs.DEFINITIONS,
        "tide": tide.DEFINITIONS,
        "slices": slices.DEFINITIONS,
        "quality": quality.DEFINITIONS,
        "calibration": scores.DEFINITIONS,
        "counting": count_quality.DEFINITIONS,
        "options": options.definitions(),
        "risk": risk.DEFINITIONS,
        "label_errors": getattr(parts.get("label_errors"), "definitions", {}),
    }
    told = {f"ledger.{kind}": text for kind, text in sentences(entries.rules).items()} | OF_INTERVALS
    for key, meanings in own.items():
        if key in parts:
            told |= {
                name if name.startswith(key) else f"{key}.{name}": text for name, text in meanings.items()
            }
    return told
