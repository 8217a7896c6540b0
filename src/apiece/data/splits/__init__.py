"""Dividing a data set into parts that have the same classes and densities and share no group and no picture."""

from __future__ import annotations

from apiece.data.splits.groups import groups_from_csv, groups_from_folder, groups_from_pattern
from apiece.data.splits.leaks import leaks
from apiece.data.splits.make import folds, fractions_of, leave_one_group_out, split
from apiece.data.splits.report import Deviation, Part, Split
from apiece.data.splits.tally import Tally, tally
from apiece.data.splits.units import By

__all__ = [
    "By",
    "Deviation",
    "Part",
    "Split",
    "Tally",
    "folds",
    "fractions_of",
    "groups_from_csv",
    "groups_from_folder",
    "groups_from_pattern",
    "leaks",
    "leave_one_group_out",
    "split",
    "tally",
]
