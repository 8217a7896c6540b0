"""Diagnose: the ledger of scenes, and everything that follows from it, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apiece.errors import UsageError, did_you_mean
from apiece.evaluate.average_precision import AveragePrecision, average_precision
from apiece.evaluate.boundary import boundary_average_precision
from apiece.evaluate.bootstrap import Resamples, resamples
from apiece.evaluate.calibration import calibration
from apiece.evaluate.caps import Caps, find_caps
from apiece.evaluate.causes import causes
from apiece.evaluate.costs import costs
from apiece.evaluate.count_quality import count_quality
from apiece.evaluate.diagnosis import Diagnosis, Part, Progress, Settings
from apiece.evaluate.label_errors import label_errors
from apiece.evaluate.ledger import Ledger, ledger
from apiece.evaluate.operating import OperatingPoint, select
from apiece.evaluate.options import choose_threshold, options
from apiece.evaluate.overlaps import Overlaps, overlaps_of
from apiece.evaluate.quality import mask_quality
from apiece.evaluate.risk import Risk, risk
from apiece.evaluate.scenes import Scenes
from apiece.evaluate.slices import slices
from apiece.evaluate.subject import Subject
from apiece.evaluate.tide import tide


@dataclass(frozen=True)
class Parts:
    """Several results under one key."""

    parts: tuple[Part, ...]

    def to_json(self) -> list[Any]:
        """Each in turn."""
        return [part.to_json() for part in self.parts]
