"""JsonText: a JSON document that is read a piece at a time, so that its size doesn't matter."""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apiece.data.json_text import not_json, not_text, parse_json, unreadable
from apiece.errors import AnnotationError

HELD = 2**25  # bytes of a file that are kept in memory; of a larger one pieces are read when they are needed
WINDOW = 2**22  # bytes that are looked at together
MARGIN = 64  # characters at the end of a window in which a fault may be only that the window ends

BLANK = re.compile(r"[ \t\n\r]*")
ESCAPED = re.compile(rb"\\.", re.DOTALL)
BRACKETS = b'[]{}"'
OTHERS = bytes(set(range(256)) - set(BRACKETS))
STEP = np.zeros(256, np.int8)
STEP[list(b"[{")], STEP[list(b"]}")] = 1, -1


class Span(NamedTuple):
    """Where a value lies in the file: its first byte, and the one behind its last."""

    start: int
    end: int


class JsonText:
    """The text of a JSON file.

    A small file, and one that is no ordinary file or not UTF-8, is held in memory. Of others only pieces are read;
    if such a file has changed meanwhile, that is an error.

    path    the file.
    size    its length in bytes.
    raises  AnnotationError if the file can't be read, here and in every method.
    """

    def __init__(self, path: Path, *, held: int = HELD, window: int = WINDOW) -> None:
        self.path, self._window = path, window
        self._held: bytes | None = None
        self._stamp = (0, 0)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                regular = stat.S_ISREG(status.st_mode)
                head = file.read(4)
                encoding = json.detect_encoding(head)
                if not regular or status.st_size <= held or not encoding.startswith("utf-8"):
                    self._held = head + file.read()
                self._stamp = (status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise unreadable(path, error) from None
        if self._held is not None and not encoding.startswith("utf-8"):
            try:
                text = self._held.decode(encoding, "surrogatepass")
            except UnicodeDecodeError as error:
                raise not_text(path, error.reason, error.start) from None
            self._held, encoding = text.encode("utf-8", "surrogatepass"), "utf-8"
        self.size = self._stamp[0] if self._held is None else len(self._held)
        self._start = 3 if encoding == "utf-8-sig" else 0

    def pieces(self, spans: Iterable[tuple[int, int]]) -> list[bytes]:
        """The bytes of some spans, each (start, end)."""
        if self._held is not None:
            return [self._held[start:end] for start, end in spans]
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_size, status.st_mtime_ns) != self._stamp:
                    raise AnnotationError(
                        f"{self.path}: has changed since it was opened; expected the same file. "
                        "Remedy: open it again."
                    )
                found = []
                for start, end in spans:
                    file.seek(start)
                    found.append(file.read(end - start))
                return found
        except OSError as error:
            raise unreadable(self.path, error) from None

    def values(self, spans: Iterable[tuple[int, int]]) -> list[Any]:
        """The values at some spans, which have been read before and are whole."""
        return [json.loads(piece.decode("utf-8", "surrogatepass")) for piece in self.pieces(spans)]

    def outermost(self) -> str:
        """What the whole document is, in words; raises AnnotationError if it isn't JSON, or breaks off."""
        at = self._blank(self._start)
        end = self._end_of(at) if self._char(at) in ("[", "{") else self._scalar(at)[1]
        self._nothing_behind(end)
        return self.kind(Span(at, end))

    def first(self) -> str:
        """The first character of the document that is no blank; "" if there is none."""
        return self._char(self._blank(self._start))

    def members(self) -> dict[str, Span]:
        """Where the values of the outermost object lie, by key; of a key given twice the last, as Python does.

        Of values in brackets only these are looked at; `items` and `value` find what is wrong inside.
        raises  AnnotationError if the document is no object, not JSON, or breaks off.
        """
        found: dict[str, Span] = {}
        at = self._blank(self._start)
        if self._char(at) != "{":
            raise self._fault("Expecting value" if not self._char(at) else "Expecting an object", at)
        at = self._blank(at + 1)
        if self._char(at) == "}":
            self._nothing_behind(at + 1)
            return found
        while True:
            if self._char(at) != '"':
                raise self._fault("Expecting property name enclosed in double quotes", at)
            key, at = self._scalar(at)
            at = self._blank(at)
            if self._char(at) != ":":
                raise self._fault("Expecting ':' delimiter", at)
            at = self._blank(at + 1)
            end = self._end_of(at) if self._char(at) in ("[", "{") else self._scalar(at)[1]
            found[key] = Span(at, end)
            at = self._blank(end)
            if self._char(at) == "}":
                self._nothing_behind(at + 1)
                return found
            if self._char(at) != ",":
                raise self._fault("Expecting ',' delimiter", at)
            at = self._blank(at + 1)

    def kind(self, span: Span) -> str:
        """What the value at a span is, in words."""
        names = {"{": "an object", "[": "a list", '"': "a text", "n": "missing", "t": "a truth value"}
        return (names | {"f": "a truth value"}).get(self._char(span.start), "a number")

    def value(self, span: Span) -> Any:
        """The value at a span.

        raises  AnnotationError if it isn't JSON.
        """
        start, text = span.start, self._decoded(span.start, span.end)
        scanned = self._scan(text, 0, start, last=True)
        assert scanned is not None  # only windows that end early are answered so
        value, end = scanned
        if start + end != span.end:
            raise self._fault("Expecting ',' delimiter", start + end)
        return self._in_words(text, 0, end, start) if not text.isascii() else value

    def check(self, span: Span) -> None:
        """See that a value is JSON; raises AnnotationError if it isn't."""
        if self._char(span.start) == "[":
            for _ in self.items(span):
                pass
        else:
            self.value(span)

    def items(self, span: Span) -> Iterator[tuple[Any, int, int]]:
        """The items of the list at a span, each with its first byte and the one behind its last.

        raises  AnnotationError if something in it isn't JSON.
        """
        size = self._window
        base, at, first = span.start, 1, True
        text = self._decoded(base, min(base + size, span.end))
        plain = text.isascii()
        blank = BLANK.match
        while True:
            last = base + len(text) >= span.end
            begin = blank(text, at).end()  # type: ignore[union-attr]  # matches everywhere
            scanned = None
            if begin < len(text):
                if first and text[begin] == "]":
                    break
                scanned = self._scan(text, begin, base, last=last)
            elif last:
                raise self._fault("Expecting value", base + begin)
            behind = len(text) if scanned is None else blank(text, scanned[1]).end()  # type: ignore[union-attr]
            mark = text[behind : behind + 1]
            # A window may end within this item, or within a number: of 1.5 or 1e5 the 1 alone is one, too.
            cut = not mark or (mark not in ",]" and behind >= len(text) - MARGIN)
            if scanned is None or (cut and not last):
                size = size * 2 if begin == 0 else self._window
                base, at = base + begin, 0
                text = self._decoded(base, min(base + size, span.end))
                plain = text.isascii()
                continue
            value, end = scanned
            if not plain and not text[begin:end].isascii():
                value = self._in_words(text, begin, end, base)
            yield value, base + begin, base + end
            at, first = behind + 1, False
            if mark == "]":
                begin = behind
                break
            if mark != ",":
                raise self._fault("Expecting ',' delimiter", base + behind)
        if base + begin + 1 != span.end:
            raise self._fault("Extra data", base + begin + 1)

    # ---- within

    def _decoded(self, start: int, end: int) -> str:
        """Bytes as characters one for one: what stands in texts is put right by `_in_words`."""
        return self.pieces([(start, end)])[0].decode("latin-1")

    def _in_words(self, text: str, begin: int, end: int, base: int) -> Any:
        raw = text[begin:end].encode("latin-1")
        try:
            return json.loads(raw.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise not_text(self.path, error.reason, base + begin + error.start) from None

    def _scan(self, text: str, at: int, base: int, *, last: bool) -> tuple[Any, int] | None:
        """The value in `text` at `at`, and where it ends; None if more of the file is needed to tell."""
        try:
            value, end = _SCAN(text, at)
            return value, end
        except StopIteration as error:
            message, place = "Expecting value", int(error.value)
        except json.JSONDecodeError as error:
            message, place = error.msg, error.pos
        except (ValueError, RecursionError) as error:
            raise not_json(self.path, str(error)) from None
        if not last and (place >= len(text) - MARGIN or message.startswith("Unterminated")):
            return None
        raise self._fault(message, base + place)

    def _scalar(self, at: int) -> tuple[Any, int]:
        """A text, number, truth value or null at byte `at`, and the byte behind it."""
        size = 4096
        while True:
            text = self._decoded(at, min(at + size, self.size))
            last = at + len(text) >= self.size
            scanned = self._scan(text, 0, at, last=last)
            if scanned is not None and (scanned[1] < len(text) - MARGIN or last):
                value, end = scanned
                return (value if text[:end].isascii() else self._in_words(text, 0, end, at)), at + end
            size *= 2

    def _blank(self, at: int) -> int:
        """The first byte from `at` on that is no blank."""
        size = 256
        while at < self.size:
            text = self._decoded(at, min(at + size, self.size))
            skipped = BLANK.match(text).end()  # type: ignore[union-attr]  # matches everywhere
            at += skipped
            if skipped < len(text):
                break
            size = self._window
        return at

    def _char(self, at: int) -> str:
        return self._decoded(at, min(at + 1, self.size))

    def _nothing_behind(self, at: int) -> None:
        at = self._blank(at)
        if at < self.size:
            raise self._fault("Extra data", at)

    def _end_of(self, start: int) -> int:
        """The byte behind the list or object that starts at `start`: where its brackets balance."""
        at, depth, inside = start, 0, 0
        while at < self.size:
            chunk = self.pieces([(at, min(at + self._window, self.size))])[0]
            while (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 and at + len(chunk) < self.size:
                chunk += self.pieces([(at + len(chunk), at + len(chunk) + 1)])[0]
            seen = ESCAPED.sub(b"  ", chunk) if b"\\" in chunk else chunk
            marks = seen.translate(None, OTHERS)
            outside = b"".join(marks.split(b'"')[inside::2])  # between two quotes is a text
            depths = depth + np.cumsum(STEP[np.frombuffer(outside, np.uint8)], dtype=np.int64)
            closed = np.flatnonzero(depths == 0)
            if closed.size:
                raw = np.frombuffer(seen, np.uint8)
                in_text = (np.cumsum(raw == ord('"')) + inside) % 2 == 1
                return at + int(np.flatnonzero((STEP[raw] != 0) & ~in_text)[closed[0]]) + 1
            depth = int(depths[-1]) if depths.size else depth
            inside = (inside + marks.count(b'"')) % 2
            at += len(chunk)
        self.check(Span(start, self.size))  # says where it breaks off
        raise self._fault("Expecting ',' delimiter", self.size)

    def _fault(self, message: str, at: int) -> AnnotationError:
        """The sentence for what is no JSON at byte `at`."""
        if self._held is not None:
            try:
                parse_json(self.path, self._held)
            except AnnotationError as error:
                return error
        decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        line, column, place = 1, 1, self._start
        while place < at:
            chunk = self.pieces([(place, min(place + self._window, at))])[0]
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return not_text(self.path, error.reason, place + error.start)
            place += len(chunk)
            line += text.count("\n")
            column = len(text) - text.rfind("\n") if "\n" in text else column + len(text)
        ends = self._blank(at) >= self.size or message.startswith("Unterminated")
        return not_json(self.path, message, line, column, ends)


_SCAN: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
