"""Everything that apiece raises on purpose.

ApieceError                 one sentence for the user, exit code 2
├── UsageError              an option or argument that cannot be meant
├── DataError               something the user gave is not what it should be
│   ├── ImageError          a picture that cannot or must not be decoded
│   ├── AnnotationError     labels, predictions or category ids that do not hold together
│   └── GeometryError       masks, boxes or sizes that contradict each other
├── RecipeError             a training recipe that cannot be followed
├── ModelError              a network or model file that does not keep the contract
│   └── WeightsError        weights that are missing, of another layout, or fail their checksum
├── ConversionError         a conversion that would lose what `--strict` protects
└── ExportError             an exported graph that does not equal its source

A message says what was expected, what came, in which file and object, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ApieceError(Exception):
    """Root of all errors raised by apiece; `exit_code` is what the command line returns."""

    exit_code = 2


class UsageError(ApieceError):
    """An option or argument that cannot be meant."""


class DataError(ApieceError):
    """Something the user gave is not what it should be."""


class ImageError(DataError):
    """A picture that cannot, or for safety must not, be decoded."""


class AnnotationError(DataError):
    """Labels, predictions or category ids that do not hold together."""


class GeometryError(DataError):
    """Masks, boxes or sizes that contradict each other."""


class RecipeError(ApieceError):
    """A training recipe that cannot be followed."""


class ModelError(ApieceError):
    """A network or model file that does not keep the contract."""


class WeightsError(ModelError):
    """Weights that are missing, of another layout, or fail their checksum."""


class ConversionError(ApieceError):
    """A conversion that would lose what `--strict` protects."""

    exit_code = 1


class ExportError(ApieceError):
    """An exported graph that does not equal its source."""

    exit_code = 1


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or all of them when none is near."""
    options = sorted(known)
    near = difflib.get_close_matches(given, options, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(options)}."
