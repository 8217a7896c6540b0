"""Split: the parts of a data set, what is in each, and the files that `--subset` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from apiece.data.dataset import read_subset
from apiece.data.json_text import parse_json
from apiece.errors import DataError, UsageError

SCHEMA = "apiece/split/1"
RECORD = "split.json"
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Part:
    """One part of a data set, such as "train".

    pictures  names, sorted.
    aim       the share of all pictures that it was to have; None where that isn't known.
    objects   their number.
    classes   objects of each class, by name.
    density   objects a megapixel: minimum, quartiles and maximum over pictures; empty without pictures.
    groups    the groups that are in it, sorted; empty where pictures have none.
    """

    name: str
    pictures: tuple[str, ...]
    aim: float | None = None
    objects: int = 0
    classes: Mapping[str, int] | None = None
    density: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()


class Deviation(NamedTuple):
    """A part's distance from its aim.

    part   its name.
    of     what is counted: "pictures", "objects of class 'x'", "empty pictures", "pictures of density quarter 2".
    share  of them that the part has; `aim` is the share that it was to have.
    total  of them in all parts; where there are few, no share can be met.
    """

    part: str
    of: str
    share: float
    aim: float
    total: int


@dataclass(frozen=True)
class Split:
    """Parts of a data set that share no picture.

    parts    in the order asked for.
    how      what it was made with: seed, shares, groups; ready for JSON.
    notes    what could not be had as asked for, and what was kept together. Worth reading.
    deviation  the largest of all parts, over all that was to be balanced; None where that isn't known.
    """

    parts: tuple[Part, ...]
    how: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    deviation: Deviation | None = None

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """The pictures of a part.

        raises  KeyError if there is no such part.
        """
        for part in self.parts:
            if part.name == name:
                return part.pictures
        raise KeyError(name)

    def to_json(self, pictures: bool = True) -> dict[str, Any]:
        """All of it, ready for JSON; with `pictures` False without their names."""
        parts = []
        for part in self.parts:
            row: dict[str, Any] = {
                "name": part.name,
                "aim": part.aim,
                "pictures": len(part.pictures),
                "objects": part.objects,
                "classes": None if part.classes is None else dict(part.classes),
                "density": list(part.density),
                "groups": list(part.groups),
                "digest": _digest(part.pictures),
            }
            parts.append(row | ({"names": list(part.pictures)} if pictures else {}))
        return {
            "schema": SCHEMA,
            "how": dict(self.how),
            "parts": parts,
            "notes": list(self.notes),
            "deviation": None if self.deviation is None else self.deviation._asdict(),
        }

    def to_text(self) -> str:
        """A table of the parts, and the notes."""
        pictures = max(1, sum(len(part.pictures) for part in self.parts))
        lines = [f"{'part':12}{'pictures':>9}{'share':>8}{'aim':>8}{'objects':>10}  objects per megapixel"]
        for part in self.parts:
            aim = "" if part.aim is None else f"{part.aim:.1%}"
            quantiles = " ".join(f"{value:.4g}" for value in part.density)
            groups = (
                f"  {len(part.groups)} group{'s' if len(part.groups) != 1 else ''}" if part.groups else ""
            )
            share = f"{len(part.pictures) / pictures:.1%}"
            lines.append(
                f"{part.name:12}{len(part.pictures):>9,}{share:>8}{aim:>8}{part.objects:>10,}  {quantiles}{groups}"
            )
        names = [name for name in (self.parts[0].classes or {}) if len(self.parts[0].classes or {}) > 1]
        if names:
            lines.append(f"{'objects of':29}" + "".join(f"{part.name:>12}" for part in self.parts))
            for of in names:
                held = "".join(f"{(part.classes or {}).get(of, 0):>12,}" for part in self.parts)
                lines.append(f"{of:29}{held}")
        if self.deviation is not None:
            name, kind, got, wanted, total = self.deviation
            lines.append(
                f"furthest from its aim: {name} has {got:.1%} of the {total:,} {kind}, {wanted:.1%} were asked for"
            )
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    def to_files(self, folder: str | Path) -> list[Path]:
        """Write NAME.txt of each part, one picture a line as `--subset` reads it, and split.json.

        folder  is made where it isn't there.
        raises  UsageError if one of the files exists, so that no split is overwritten; DataError if they can't be
                written, or a picture's name can't stand on a line.
        """
        folder = Path(folder)
        texts = {f"{part.name}.txt": _lines(part) for part in self.parts}
        texts[RECORD] = json.dumps(self.to_json(pictures=False), ensure_ascii=False, indent=1) + "\n"
        taken = [name for name in texts if (folder / name).exists()]
        if taken:
            raise UsageError(
                f"{folder / taken[0]}: exists already; nothing is written over. Remedy: choose another folder."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror}).") from None
        return [folder / name for name in texts]

    @classmethod
    def from_files(cls, folder: str | Path) -> Split:
        """What `to_files` wrote, or any folder of NAME.txt files; counts are those of split.json, if it is there.

        Where a list was changed afterwards, its counts are left out and a note says so.
        raises  DataError if there is no list, one can't be read, or a picture is in two parts.
        """
        folder = Path(folder)
        record = _record(folder / RECORD)
        known = {row["name"]: row for row in record["parts"]}
        lists = {path.stem: path for path in sorted(folder.glob("*.txt"))}
        if not lists:
            raise DataError(f"{folder}: holds no NAME.txt; expected a list of pictures for each part.")
        notes = list(record["notes"])
        names = [name for name in known if name in lists] + [name for name in lists if name not in known]
        notes += [f"{name}.txt is missing, though {RECORD} names it." for name in known if name not in lists]
        parts, where = [], dict[str, str]()
        changed = len(names) != len(known)
        for name in names:
            pictures = _read(lists[name])
            for picture in pictures:
                if where.setdefault(picture, name) != name:
                    raise DataError(
                        f"{folder}: {picture!r} is in {where[picture]}.txt and in {name}.txt; expected it in one. "
                        "Remedy: remove it from one of them."
                    )
            row = known.get(name)
            if row is not None and row["digest"] == _digest(pictures):
                density, groups = tuple(row["density"]), tuple(row["groups"])
                parts.append(
                    Part(name, pictures, row["aim"], row["objects"], row["classes"], density, groups)
                )
                continue
            if row is not None:
                changed = True
                notes.append(f"{name}.txt was changed after {RECORD}, so its counts are not known.")
            parts.append(Part(name, pictures))
        off = record["deviation"]
        fields = None if off is None or changed else [off[name] for name in Deviation._fields]
        deviation = None if fields is None else Deviation(*fields)
        return cls(tuple(parts), record["how"], tuple(notes), deviation)


def _lines(part: Part) -> str:
    """The list of a part; empty ones say so."""
    for name in part.pictures:
        if name != name.strip() or name.startswith("#") or len(name.splitlines()) != 1:
            raise DataError(
                f"{name!r} can't stand in a list of pictures, one a line without # at its start. Remedy: rename it."
            )
    return "".join(f"{name}\n" for name in part.pictures) or "# no picture\n"


def _read(path: Path) -> tuple[str, ...]:
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: has more than {MOST_BYTES:,} bytes; expected a list of pictures.")
    try:
        empty = path.read_text(encoding="utf-8").strip() == "# no picture"
    except (OSError, UnicodeDecodeError):
        empty = False  # read_subset says what is wrong
    return () if empty else tuple(sorted(set(read_subset(path))))


def _digest(pictures: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(pictures).encode("utf-8", "surrogatepass")).hexdigest()


def _record(path: Path) -> dict[str, Any]:
    """split.json, checked; an empty one where there is none."""
    none: dict[str, Any] = {"how": {}, "parts": [], "notes": [], "deviation": None}
    if not path.is_file():
        return none
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: has more than {MOST_BYTES:,} bytes; expected the record of a split.")
        value = parse_json(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DataError(f"{path}: is no record of a split ({SCHEMA}). Remedy: remove it, or divide again.")
    found = none | {key: value[key] for key in none if key in value}
    if not _is_record(found):
        raise DataError(f"{path}: is a damaged record of a split. Remedy: remove it, or divide again.")
    return found


def _is_record(value: Mapping[str, Any]) -> bool:
    def number(x: object) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool)

    def row(part: object) -> bool:
        return (
            isinstance(part, dict)
            and isinstance(part.get("name"), str)
            and isinstance(part.get("digest"), str)
            and isinstance(part.get("objects"), int)
            and (part.get("aim") is None or number(part["aim"]))
            and isinstance(part.get("density"), list)
            and all(map(number, part["density"]))
            and isinstance(part.get("groups"), list)
            and all(isinstance(group, str) for group in part["groups"])
            and (
                part.get("classes") is None
                or (isinstance(part["classes"], dict) and all(map(number, part["classes"].values())))
            )
        )

    off = value["deviation"]
    return (
        isinstance(value["how"], dict)
        and isinstance(value["notes"], list)
        and all(isinstance(note, str) for note in value["notes"])
        and isinstance(value["parts"], list)
        and all(row(part) for part in value["parts"])
        and (
            off is None
            or (
                isinstance(off, dict)
                and isinstance(off.get("part"), str)
                and isinstance(off.get("of"), str)
                and number(off.get("share"))
                and number(off.get("aim"))
                and isinstance(off.get("total"), int)
            )
        )
    )
