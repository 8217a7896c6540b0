"""JSON documents whose long lists are written an entry at a time, so that a million of them are never in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from apiece.errors import DataError


class StreamedDocument:
    """A JSON object in a file: its lists grow in files of their own beside it, and are joined at the end.

    path   the document; nothing is there before `finish`. It is ASCII, which readers of every encoding understand.
    lists  the keys of its lists, in the order in which they are to stand.
    """

    def __init__(self, path: Path, lists: Iterable[str]) -> None:
        self.path = path
        self._counts = dict.fromkeys(lists, 0)

    def add(self, key: str, entries: Iterable[Mapping[str, Any]]) -> None:
        """Append entries to a list; raises DataError if the disk doesn't take them."""
        texts = [json.dumps(entry, allow_nan=False) for entry in entries]
        if not texts:
            return
        try:
            with self._part(key).open("a", encoding="ascii", newline="\n") as file:
                file.write((",\n" if self._counts[key] else "") + ",\n".join(texts))
        except OSError as error:
            raise self._unwritten(error) from None
        self._counts[key] += len(texts)

    def finish(self, first: Mapping[str, Any]) -> None:
        """Write the document: the members of `first`, then the lists; raises DataError as `add`."""
        try:
            with self.path.open("wb") as file:
                file.write(b"{")
                for key, value in first.items():
                    text = json.dumps(value, allow_nan=False)
                    file.write(f"{json.dumps(key)}: {text},\n".encode())
                for place, (key, count) in enumerate(self._counts.items()):
                    file.write((",\n" if place else "").encode() + f"{json.dumps(key)}: [\n".encode())
                    if count:
                        with self._part(key).open("rb") as part:
                            shutil.copyfileobj(part, file, 2**20)
                        self._part(key).unlink()
                    file.write(b"]")
                file.write(b"}\n")
        except OSError as error:
            raise self._unwritten(error) from None

    def _part(self, key: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{key}.part")

    def _unwritten(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written ({error.strerror}). Remedy: is the disk full?")
