"""Figures that say how far to trust a model: average precision and counting error, with their definitions."""

from apiece.evaluate.average_precision import AveragePrecision, average_precision
from apiece.evaluate.counting import best_count_threshold, counting_error
from apiece.evaluate.evaluation import Evaluation, evaluate, evaluate_files, evaluate_instances

__all__ = [
    "AveragePrecision",
    "Evaluation",
    "average_precision",
    "best_count_threshold",
    "counting_error",
    "evaluate",
    "evaluate_files",
    "evaluate_instances",
]
