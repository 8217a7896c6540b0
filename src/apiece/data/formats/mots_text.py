"""The text form of MOTS: one object a line, `frame id class height width rle`, indexed without being held."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from apiece.core.masks import Masks
from apiece.data.formats.base import Size, report
from apiece.data.problems import Problem, problem_of
from apiece.errors import AnnotationError, DataError, GeometryError

LONGEST = 2**26  # bytes of a line; the RLE of a mask is a small part of that
MOST_DIGITS = 18  # that surely fit into int64


class Row(NamedTuple):
    """An object as its line has it; `size` is (height, width)."""

    frame: int
    track: int
    category: int
    size: Size
    rle: str


class TextIndex(NamedTuple):
    """Where the lines of each frame begin.

    frames      int64 (L,), of each line, sorted; lines of a frame in the file's order.
    offsets     int64 (L,), the byte at which the line begins.
    lines       int64 (L,), its number from 1.
    sizes       frame → (height, width) of its first line.
    categories  all that occur.
    """

    path: Path
    frames: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]
    sizes: dict[int, Size]
    categories: set[int]

    def of_frame(self, frame: int) -> Iterator[tuple[int, int]]:
        """Number and offset of each line of a frame."""
        begin, end = np.searchsorted(self.frames, [frame, frame + 1])
        return zip(self.lines[begin:end].tolist(), self.offsets[begin:end].tolist(), strict=True)


def parse(line: bytes) -> Row:
    """A line of the format.

    raises  AnnotationError that says what is wrong with it.
    """
    words = line.split()
    if len(words) != 6:
        raise AnnotationError(
            f"has {len(words)} fields; expected six: frame, id, class, height, width, rle. "
            "Remedy: export the file again."
        )
    if not all(word.isdigit() and len(word) <= MOST_DIGITS for word in words[:5]):
        shown = b" ".join(words[:5])[:60].decode("ascii", "replace")
        raise AnnotationError(
            f"begins with {shown!r}; expected five whole numbers: frame, id, class, height, width. "
            "Remedy: export the file again."
        )
    frame, track, category, height, width = (int(word) for word in words[:5])
    if not 0 < height * width < 2**40:
        raise AnnotationError(
            f"is of a picture of {height} x {width}; expected sides of at least 1 pixel. Remedy: correct the line."
        )
    return Row(frame, track, category, (height, width), words[5].decode("utf-8", "replace"))


def index_of(path: Path, problems: list[Problem]) -> TextIndex:
    """Read a file once, line by line; lines that can't be parsed become problems.

    raises  AnnotationError if the file can't be read.
    """
    frames, offsets, numbers = array("q"), array("q"), array("q")
    sizes: dict[int, Size] = {}
    categories: set[int] = set()
    try:
        with path.open("rb") as file:
            offset, number = 0, 0
            while line := file.readline(LONGEST):
                number += 1
                if line.strip():
                    try:
                        row = parse(line)
                        first = sizes.setdefault(row.frame, row.size)
                        if row.size != first:
                            raise AnnotationError(
                                f"is of a picture of {row.size[0]} x {row.size[1]}, an earlier line of frame "
                                f"{row.frame} of {first[0]} x {first[1]} (height x width). Remedy: correct one of them."
                            )
                    except AnnotationError as error:
                        problems.append(problem_of(error, path, "the object", where=f"line {number}"))
                    else:
                        categories.add(row.category)
                        frames.append(row.frame)
                        offsets.append(offset)
                        numbers.append(number)
                offset += len(line)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from None
    order = np.argsort(np.array(frames, np.int64), kind="stable")
    sorted_frames, starts, lines = (np.array(v, np.int64)[order] for v in (frames, offsets, numbers))
    return TextIndex(path, sorted_frames, starts, lines, sizes, categories)


def rows_of(index: TextIndex, frame: int) -> tuple[list[int], list[Row]]:
    """The lines of a frame: their numbers and what they hold.

    raises  AnnotationError if the file can't be read, or has changed since.
    """
    numbers, rows = [], []
    try:
        with index.path.open("rb") as file:
            for number, offset in index.of_frame(frame):
                file.seek(offset)
                try:
                    rows.append(parse(file.readline(LONGEST)))
                except AnnotationError as error:
                    raise AnnotationError(f"{index.path}: line {number}: {error}") from None
                numbers.append(number)
    except OSError as error:
        raise AnnotationError(f"{index.path}: cannot be read ({error.strerror}).") from None
    return numbers, rows


def masks_of(
    rows: list[Row], size: Size, name: Callable[[int], str], path: Path, found: list[Problem] | None
) -> tuple[Masks, list[int]]:
    """The masks of a frame's lines, and which of them could be read."""
    items = [{"size": list(size), "counts": row.rle} for row in rows]
    try:
        return Masks.from_coco(items, size), list(range(len(rows)))
    except (AnnotationError, GeometryError):
        pass
    parts, kept = [Masks.empty(size)], []
    for i, item in enumerate(items):
        try:
            parts.append(Masks.from_coco([item], size))
        except DataError as error:
            message = AnnotationError(str(error).removeprefix("object 0: "))
            report(problem_of(message, path, "the object", where=name(i)), found)
        else:
            kept.append(i)
    return Masks.concatenate(parts), kept
