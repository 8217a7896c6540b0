"""CVAT for video 1.1: one XML document, a `track` element for each object, with its shape on every frame.

CVAT writes the shapes of all frames, those that it interpolated among them, so they are read as they stand. A shape
that is marked `outside` isn't on its frame. Objects have the track's number as `track_ids`. The pictures are all frames
of the task; they are searched as frame_000012 with the suffix of a picture, as CVAT exports them.

source  docs.cvat.ai, "XML annotation format" (interpolation).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES
from apiece.core.instances import Instances
from apiece.core.masks import MAX_AREA
from apiece.data.coco_entries import whole
from apiece.data.formats.base import Picture, Size, Source, find_picture
from apiece.data.formats.cvat_index import CvatIndex, Span, parsed
from apiece.data.formats.cvat_shapes import add_shape
from apiece.data.formats.drawing import Drawing
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError

MOST_FRAMES = 1_000_000
NAMES = [
    f"frame_{{:06d}}{suffix}"
    for known in sorted(SUFFIXES)
    for suffix in dict.fromkeys((known, known.upper()))
]


@dataclass(frozen=True, eq=False)
class CvatVideoSource(Source):
    """Tracks of a video, of which only numbers and the places of shapes are in memory.

    tracks  attributes of every track, and its number.
    shapes  int64 (S, 3), track, begin and end of every shape, by frame and in the file's order.
    starts  int64 (pictures + 1,), where each picture's shapes begin.
    """

    document: Path = field(default=Path())
    tracks: tuple[tuple[dict[str, str], int], ...] = field(default=())
    shapes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.document

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "box_mask" where an object is one box."""
        name = self.pictures[index].name
        drawing = Drawing(self.size(index), self.classes, str(self.document), found, name)
        rows = self.shapes[self.starts[index] : self.starts[index + 1]].tolist()
        spans = [Span(begin, end) for _, begin, end in rows]
        for place, ((track, _, _), shape) in enumerate(
            zip(rows, parsed(self.document, spans), strict=True) if rows else ()
        ):
            attributes, number = self.tracks[track]
            if shape.get("outside") != "1":
                label, group = attributes.get("label"), attributes.get("group_id")
                add_shape(drawing, place, shape, label, group, track_id=number)
        return drawing.instances()


def open_video(
    path: Path, document: Path, found: CvatIndex, images: Path | None, *, strict: bool
) -> CvatVideoSource:
    """The source of an indexed document with tracks; see `cvat.open_source`."""
    if "project" in found.about:
        raise AnnotationError(
            f"{document}: is a project exported as CVAT for video, in which frames of several videos have one number. "
            "Remedy: export its tasks one by one."
        )
    problems: list[Problem] = []
    tracks = _numbered(document, found, problems)
    frames = np.array(found.frames, np.int64)
    lost = int((frames < 0).sum())
    if lost:
        message = f"{lost} shape{'s have' if lost > 1 else ' has'} no frame; expected a whole number."
        problems.append(
            Problem("error", str(document), "track", message, "export the task again.", "the shapes")
        )
    listed = _frames(document, found, frames)
    order = np.argsort(frames, kind="stable")
    order = order[frames[order] >= 0]
    shapes = np.column_stack([np.array(part, np.int64) for part in (found.owners, found.begins, found.ends)])
    starts = np.searchsorted(frames[order], np.append(listed, MOST_FRAMES * 2000))
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    base = images or document.parent
    folders = [base] if images else [base / "images", base]
    folders = [folder for folder in folders if folder.is_dir()]
    size = _size(found)
    pictures = tuple(_picture(int(frame), i, folders, size) for i, frame in enumerate(listed, start=1))
    classes = ClassMap(found.labels or tuple(sorted(found.used)))
    return CvatVideoSource(
        path, classes, pictures, tuple(problems), document, tracks, shapes[order], starts.astype(np.int64)
    )


def _numbered(
    document: Path, found: CvatIndex, problems: list[Problem]
) -> tuple[tuple[dict[str, str], int], ...]:
    numbers = [whole(track.get("id")) for track in found.tracks]
    if None in numbers or len(set(numbers)) < len(numbers):
        message = "tracks lack an id, or two have the same; they are numbered by their order."
        problems.append(
            Problem("warning", str(document), "track", message, "nothing, if the numbers don't matter.")
        )
        numbers = list(range(len(numbers)))
    return tuple((track, number or 0) for track, number in zip(found.tracks, numbers, strict=True))


def _frames(document: Path, found: CvatIndex, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the task's frames: as meta says, and those with a shape."""
    about = found.about
    begin, last, size = (whole(about.get(key)) for key in ("start_frame", "stop_frame", "size"))
    step = re.fullmatch(r"step\s*=\s*(\d{1,6})", about.get("frame_filter", ""))
    stride = max(int(step[1]), 1) if step else 1
    begin = begin or 0
    if last is None:
        last = begin + (size - 1) * stride if size else begin - 1
    drawn = np.unique(drawn[drawn >= 0])
    if begin < 0 or (last - begin) // stride >= MOST_FRAMES or drawn.size > MOST_FRAMES:
        raise AnnotationError(
            f"{document}: is of frames {begin} to {last}; expected at most {MOST_FRAMES:,}. "
            "Remedy: export its jobs one by one."
        )
    return np.union1d(np.arange(begin, last + 1, stride, dtype=np.int64), drawn)


def _size(found: CvatIndex) -> Size | None:
    height, width = whole(found.about.get("height")), whole(found.about.get("width"))
    if height is None or width is None or min(height, width) < 1 or height * width > MAX_AREA:
        return None
    return height, width


def _picture(frame: int, number: int, folders: list[Path], size: Size | None) -> Picture:
    for name in (name.format(frame) for name in NAMES if folders):
        path: Any = find_picture(name, folders)
        if path is not None:
            return Picture(name, path, number, size)
    return Picture(f"frame_{frame:06d}.png", None, number, size)
