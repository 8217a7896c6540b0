"""Options: what other settings would give, recomputed from stored predictions; and what no setting can give."""

from apiece.evaluate.options.beyond import Beyond, beyond
from apiece.evaluate.options.replayed import Replayed, replay
from apiece.evaluate.options.report import Option, Options, apply_option, definitions, measure, options
from apiece.evaluate.options.setting import Fragments, Setting, Watershed

__all__ = [
    "Beyond",
    "Fragments",
    "Option",
    "Options",
    "Replayed",
    "Setting",
    "Watershed",
    "apply_option",
    "beyond",
    "definitions",
    "measure",
    "options",
    "replay",
]
