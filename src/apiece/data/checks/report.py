"""Report: all that `apiece check` found, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from apiece.data.formats.base import Source
from apiece.data.problems import Problem

SCHEMA = "apiece/check/1"
SHOWN = 3  # problems of a kind in the text; the rest is counted
RANK = {"error": 0, "warning": 1, "note": 2}


class Spot(NamedTuple):
    """A picture of the data, and objects on it.

    source   which of the report's sources.
    picture  which of the source's pictures.
    objects  positions among its objects; empty for the whole picture.
    """

    source: int
    picture: int
    objects: tuple[int, ...] = ()


class Double(NamedTuple):
    """A picture that shows what another shows.

    picture, other  the files; `other` came first.
    splits          of the two, in that order; they differ where the picture leaks.
    exact           whether the files are equal byte for byte.
    turn            how it lies against the other, "" for upright.
    correlation     of the two pictures in grey.
    spots           where they lie, for drawing.
    """

    picture: str
    other: str
    splits: tuple[str, str]
    exact: bool
    turn: str
    correlation: float
    spots: tuple[Spot, Spot]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    path        the dataset; of several, all with commas.
    images      pictures that were looked at.
    objects     objects in them that can be read.
    problems    all that was found, errors, warnings and notes, picture by picture.
    statistics  classes, sizes, densities; see `Sizes.to_json`.
    splits      of each split its pictures and objects.
    duplicates  pictures that occur twice.
    spots       where each problem is, None where it isn't of one picture; as many as problems.
    sources     what was looked at, for drawing.
    """

    path: str
    images: int
    objects: int
    problems: tuple[Problem, ...]
    statistics: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    duplicates: tuple[Double, ...] = ()
    spots: tuple[Spot | None, ...] = field(default=(), repr=False)
    sources: tuple[Source, ...] = field(default=(), repr=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What keeps the dataset, or a part of it, from being used."""
        return self._of("error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is used as it stands but is probably not meant."""
        return self._of("warning")

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What is no problem, but worth to know."""
        return self._of("note")

    def _of(self, severity: str) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == severity)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def groups(self) -> list[list[int]]:
        """Positions of the problems, one list a kind: errors first, then the kind with most problems."""
        kinds: dict[tuple[str, str], list[int]] = {}
        for i, problem in enumerate(self.problems):
            kinds.setdefault((problem.severity, problem.code), []).append(i)
        order = sorted(kinds.items(), key=lambda item: (RANK[item[0][0]], -len(item[1])))
        return [places for _, places in order]

    def to_json(self) -> dict[str, Any]:
        """The machine-readable document, with every problem."""
        spots: Sequence[Spot | None] = self.spots or (None,) * len(self.problems)
        return {
            "schema": SCHEMA,
            "path": self.path,
            "images": self.images,
            "objects": self.objects,
            "ok": self.ok,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "notes": len(self.notes),
            "problems": [
                {
                    "severity": problem.severity,
                    "code": problem.code,
                    "file": problem.file,
                    "where": problem.where,
                    "picture": None
                    if spot is None
                    else self.sources[spot.source].pictures[spot.picture].name,
                    "message": problem.message,
                    "remedy": problem.remedy,
                    "left_out": problem.left_out,
                }
                for problem, spot in zip(self.problems, spots, strict=True)
            ],
            "splits": {name: dict(numbers) for name, numbers in self.splits.items()},
            "duplicates": [
                {
                    "picture": double.picture,
                    "other": double.other,
                    "splits": list(double.splits),
                    "exact": double.exact,
                    "turn": double.turn,
                    "correlation": round(double.correlation, 4),
                }
                for double in self.duplicates
            ],
            "statistics": dict(self.statistics),
        }

    def to_text(self) -> str:
        """For a person: kind by kind, the first few of each and how many more there are; a last line that sums up."""
        lines = []
        for places in self.groups():
            first = self.problems[places[0]]
            lines += [f"{first.severity}: {self.problems[i]}" for i in places[:SHOWN]]
            if len(places) > SHOWN:
                kind = f" of the kind {first.code}" if first.code else ""
                more = len(places) - SHOWN
                lines.append(f"{first.severity}: … and {more:,} more{kind}; --json and --html list all.")
        lines += self._numbers()
        notes = f", {len(self.notes)} notes" if self.notes else ""
        lines.append(
            f"{self.path}: {self.images} pictures, {self.objects} objects, {len(self.errors)} errors, "
            f"{len(self.warnings)} warnings{notes}; nothing was changed."
        )
        return "\n".join(lines)

    def _numbers(self) -> list[str]:
        lines = []
        if len(self.splits) > 1:
            parts = [
                f"{name} {n['pictures']} pictures, {n['objects']} objects" for name, n in self.splits.items()
            ]
            lines.append(f"splits: {'; '.join(parts)}.")
        size, count = self.statistics.get("object_size", {}), self.statistics.get("objects_per_picture", {})
        if self.objects and size.get("median") is not None:
            lines.append(
                f"sizes: objects measure {size['median']:g} pixels (square root of the area) at the median, 90 % "
                f"{size['p5']:g} to {size['p95']:g}; a picture holds {count['median']:g} at the median, "
                f"{count['max']:g} at most."
            )
        return lines
