"""Reading what is compared: truth in any annotation format, predictions in the layouts that tools write."""

from __future__ import annotations

from apiece.evaluate.read.files import subject_of_files
from apiece.evaluate.read.layouts import LAYOUTS
from apiece.evaluate.read.live import live_of_file

__all__ = ["LAYOUTS", "live_of_file", "subject_of_files"]
