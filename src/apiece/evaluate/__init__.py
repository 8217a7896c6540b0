"""Evaluation: how far predictions can be trusted, as average precision and as counts."""

from apiece.evaluate.average_precision import AveragePrecision, ClassPrecision, average_precision
from apiece.evaluate.caps import Caps
from apiece.evaluate.counting import CountErrors, Counting, best_count_threshold, count_errors
from apiece.evaluate.evaluation import (
    Evaluation,
    evaluate,
    evaluate_by_group,
    evaluate_files,
    evaluate_instances,
)

__all__ = [
    "AveragePrecision",
    "Caps",
    "ClassPrecision",
    "CountErrors",
    "Counting",
    "Evaluation",
    "average_precision",
    "best_count_threshold",
    "count_errors",
    "evaluate",
    "evaluate_by_group",
    "evaluate_files",
    "evaluate_instances",
]
