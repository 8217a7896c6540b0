"""Evaluation: how far predictions can be trusted, as average precision and counts, and what fails and why."""

from apiece.evaluate.average_precision import AveragePrecision, ClassPrecision, average_precision
from apiece.evaluate.caps import Caps
from apiece.evaluate.counting import CountErrors, Counting, best_count_threshold, count_errors
from apiece.evaluate.diagnosis import Diagnosis, Settings, diagnose_files, diagnose_instances
from apiece.evaluate.evaluation import (
    Evaluation,
    evaluate,
    evaluate_by_group,
    evaluate_files,
    evaluate_instances,
)
from apiece.evaluate.ledger import Ledger, Rules
from apiece.evaluate.operating import OperatingPoint

__all__ = [
    "AveragePrecision",
    "Caps",
    "ClassPrecision",
    "CountErrors",
    "Counting",
    "Diagnosis",
    "Evaluation",
    "Ledger",
    "OperatingPoint",
    "Rules",
    "Settings",
    "average_precision",
    "best_count_threshold",
    "count_errors",
    "diagnose_files",
    "diagnose_instances",
    "evaluate",
    "evaluate_by_group",
    "evaluate_files",
    "evaluate_instances",
]
