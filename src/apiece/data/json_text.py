"""What is said of JSON files that can't be read."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apiece.errors import AnnotationError


def unreadable(path: Path, error: OSError) -> AnnotationError:
    """For a file that the system doesn't give."""
    if isinstance(error, FileNotFoundError):
        return AnnotationError(f"{path}: there is no such file. Remedy: check the path.")
    if isinstance(error, IsADirectoryError):
        return AnnotationError(f"{path}: is a folder; expected a JSON file. Remedy: name a file in it.")
    return AnnotationError(f"{path}: cannot be read ({error.strerror}).")


def not_text(path: Path, reason: str, byte: int) -> AnnotationError:
    """For a file that is no UTF-8 at this byte."""
    return AnnotationError(
        f"{path}: is not text ({reason} at byte {byte}); expected JSON in UTF-8. "
        "Remedy: name the annotation file, not a picture or an archive."
    )


def not_json(path: Path, message: str, line: int = 0, column: int = 0, ends: bool = False) -> AnnotationError:
    """For text that is no JSON at a place (line and column from 1), or, with `ends`, is cut off there."""
    if not line:
        return AnnotationError(
            f"{path}: is not JSON that can be read ({message}). Remedy: export the file again."
        )
    what = "breaks off" if ends else "is not valid JSON"
    return AnnotationError(
        f"{path}: {what} at line {line}, column {column} ({message}); expected one whole JSON "
        "document. Remedy: copy or export the file again."
    )


@contextmanager
def resting_collector() -> Iterator[None]:
    """Without the collector of cycles: while much is read it looks through all, again and again, and finds nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def parse_json(path: Path, data: bytes) -> Any:
    """The document in the bytes of a file; NaN and Infinity are read as floats.

    raises  AnnotationError as above.
    """
    try:
        with resting_collector():
            return json.loads(data)
    except UnicodeDecodeError as error:
        raise not_text(path, error.reason, error.start) from None
    except json.JSONDecodeError as error:
        ends = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        raise not_json(path, error.msg, error.lineno, error.colno, ends) from None
    except (ValueError, RecursionError) as error:
        raise not_json(path, str(error)) from None
