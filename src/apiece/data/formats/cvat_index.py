"""A CVAT document read as a stream: its labels, and where each picture's or tracked shape's element lies."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from apiece.errors import AnnotationError

IMAGE = "image"
TRACK = "track"
CHUNK = 2**20
DEEPEST = 32  # elements within each other; CVAT's own need ten
ABOUT = frozenset({"size", "mode", "start_frame", "stop_frame", "frame_filter", "width", "height"})
COPY_AGAIN = "Remedy: export the task again."


class Span(NamedTuple):
    """Bytes of the document: from `begin` to before `end`."""

    begin: int
    end: int


@dataclass
class CvatIndex:
    """What a document holds.

    labels  the task's or project's, in its order; empty where it lists none.
    used    labels of shapes, gathered only as long as `labels` is empty.
    images  attributes and place of every picture's element, in the file's order.
    about   what meta says of the task, by element: size, mode, start_frame, width, …; `project` is there for one.
    tracks  attributes of every track, in the file's order.
    frames, owners, begins, ends  for every shape of a track: frame, track and place in the file, int64; 32 bytes a
            shape, as videos may have millions. A frame that is no whole number is -1.
    """

    labels: tuple[str, ...] = ()
    used: set[str] = field(default_factory=set)
    images: list[tuple[dict[str, str], Span]] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    tracks: list[dict[str, str]] = field(default_factory=list)
    frames: array[int] = field(default_factory=lambda: array("q"))
    owners: array[int] = field(default_factory=lambda: array("q"))
    begins: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))

    @property
    def is_video(self) -> bool:
        """Whether a document without tracks is of a video in which nothing was drawn."""
        return not self.images and self.about.get("mode") == "interpolation"


def index_of(path: Path) -> CvatIndex:
    """Read a document once, by a parser that keeps no tree.

    raises  AnnotationError if it can't be read, is no CVAT document, breaks off, or has a DTD, entities, another
            encoding than UTF-8, both pictures and tracks, or elements too deep within each other.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    scan = _Scan(path)
    parser = DefusedXMLParser(target=scan, forbid_dtd=True)
    scan.expat = parser.parser
    try:
        with path.open("rb") as file:
            _check_encoding(path, file.read(256))
            file.seek(0)
            while data := file.read(CHUNK):
                parser.feed(data)
            parser.close()
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file. Remedy: check the path.") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from None
    except ParseError as error:
        raise AnnotationError(f"{path}: is damaged or breaks off ({error}). {COPY_AGAIN}") from None
    except DefusedXmlException:
        raise AnnotationError(
            f"{path}: defines a document type or entities, which CVAT doesn't write and which can do harm. {COPY_AGAIN}"
        ) from None
    return scan.index


def parsed(path: Path, spans: Sequence[Span]) -> Iterator[Any]:
    """Elements at some places: those in the element of one picture, or shapes of tracks.

    raises  AnnotationError if the file is no longer what it was when it was opened.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        with path.open("rb") as file:
            pieces = []
            for span in spans:
                file.seek(span.begin)
                pieces.append(file.read(span.end - span.begin))
        found = fromstring(b"<all>" + b"".join(pieces) + b"</all>", forbid_dtd=True)
        if len(found) != len(spans):
            raise ParseError(f"{len(found)} elements where {len(spans)} were")
    except (OSError, ParseError, DefusedXmlException) as error:
        raise AnnotationError(
            f"{path}: has changed since it was opened ({error}). Remedy: open it again."
        ) from None
    return iter(found[0]) if len(found) == 1 and found[0].tag == IMAGE else iter(found)


def _check_encoding(path: Path, head: bytes) -> None:
    declared = re.match(
        rb"\s*<\?xml[^>]*encoding\s*=\s*[\"']([A-Za-z0-9._-]+)", head.removeprefix(b"\xef\xbb\xbf")
    )
    name = declared[1].decode("ascii") if declared else "utf-8"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        name = "utf-16"
    if name.lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise AnnotationError(f"{path}: is in {name}; expected UTF-8, as CVAT writes. {COPY_AGAIN}")


class _Scan:
    """Receives the parser's events."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = CvatIndex()
        self.expat: Any = None  # knows at which byte the event lies
        self._stack: list[str] = []
        self._labels: dict[str, None] = {}
        self._text: list[str] | None = None
        self._label: tuple[str, bool] = ("", False)  # its name, and whether it is a part of a skeleton
        self._image: tuple[dict[str, str], int] | None = None
        self._shape: tuple[int, int] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        depth, stack = len(self._stack), self._stack
        if depth == 0 and tag != "annotations":
            raise AnnotationError(
                f"{self.path}: is XML that begins with <{tag:.40}>; expected <annotations>, as CVAT writes. "
                "Remedy: export the task as CVAT for images 1.1."
            )
        if depth >= DEEPEST:
            raise AnnotationError(f"{self.path}: has elements {depth} deep within each other. {COPY_AGAIN}")
        if depth == 1:
            self._close_image()
            if tag == IMAGE:
                self._image = attributes, self.expat.CurrentByteIndex
            elif tag == TRACK:
                self.index.tracks.append(attributes)
                self._used(attributes)
            if self.index.tracks and (self._image or self.index.images):
                raise AnnotationError(
                    f"{self.path}: holds both <image> and <track>; expected CVAT for images, or for video. {COPY_AGAIN}"
                )
        elif depth == 2 and stack[1] == TRACK:
            self._close_shape()
            frame = attributes.get("frame", "")
            number = int(frame) if frame.isascii() and frame.isdigit() and len(frame) < 10 else -1
            self._shape = number, self.expat.CurrentByteIndex
        elif depth == 2 and stack[1] == IMAGE:
            self._used(attributes)
        elif stack[1:2] == ["meta"]:
            if depth == 2 and tag == "project":
                self.index.about["project"] = ""
            if (tag == "name" and stack[-1] == "label") or (depth > 2 and tag in ABOUT):
                self._text = []
            elif tag == "label" and stack[-1] == "labels":
                self._label = "", False
            elif tag == "parent" and stack[-1] == "label":
                self._label = self._label[0], True
        stack.append(tag)

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        self._stack.pop()
        if len(self._stack) == 0:
            self._close_image()
        elif len(self._stack) == 1:
            self._close_shape()
        if self._text is not None:
            text = "".join(self._text)
            self._text = None
            if tag == "name":
                self._label = text, self._label[1]
            else:
                self.index.about.setdefault(tag, text.strip())
        elif tag == "label" and self._stack[1:2] == ["meta"]:
            name, part = self._label
            if name.strip() and not part:
                self._labels[name] = None
                self.index.labels = tuple(self._labels)

    def close(self) -> None:
        """Nothing is built."""

    def _used(self, attributes: dict[str, str]) -> None:
        if not self._labels and "label" in attributes:
            self.index.used.add(attributes["label"])

    def _close_image(self) -> None:
        """The last picture's element, if one is open, ended before this event."""
        if self._image is not None:
            attributes, begin = self._image
            self.index.images.append((attributes, Span(begin, self.expat.CurrentByteIndex)))
            self._image = None

    def _close_shape(self) -> None:
        """So did the last shape of a track."""
        if self._shape is not None:
            frame, begin = self._shape
            self.index.frames.append(frame)
            self.index.owners.append(len(self.index.tracks) - 1)
            self.index.begins.append(begin)
            self.index.ends.append(self.expat.CurrentByteIndex)
            self._shape = None
