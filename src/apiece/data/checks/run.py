"""One pass over pictures and their objects; every check sees each of them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from apiece.core.image import read_image
from apiece.data.checks.boxes import odd_boxes
from apiece.data.checks.classes import class_list
from apiece.data.checks.fingerprint import RGB, fingerprint
from apiece.data.checks.geometry import shapes
from apiece.data.checks.overlaps import overlaps
from apiece.data.checks.pictures import PictureFile, picture_findings, read_picture
from apiece.data.checks.report import Double, Report, Spot
from apiece.data.checks.sizes import Sizes, beyond_cap
from apiece.data.checks.sources import (
    document_of,
    entries_of,
    opening_problems,
    place_of,
    unlisted,
)
from apiece.data.checks.twins import Twin, Twins
from apiece.data.checks.view import Finding, View
from apiece.data.formats.base import Source
from apiece.data.label_folder import same_size
from apiece.data.problems import Problem, problem_of
from apiece.errors import AnnotationError, DataError, ImageError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """A source, the pictures of it to look at, and what it is called as a split.

    split   for pictures of which the source doesn't say it.
    known   True for data that is only compared with: its own problems aren't told.
    """

    source: Source
    rows: Sequence[int]
    split: str
    known: bool = False


@dataclass
class Run:
    """Collects what is found.

    pictures  whether every picture is decoded; else headers and bytes alone are read, and only equal files are
              found to be the same picture.
    tiny      objects of fewer pixels are reported.
    cap       the most objects of a picture that a model finds.
    """

    parts: Sequence[Part]
    sizes: Sizes
    pictures: bool = True
    tiny: int = 10
    cap: int | None = None
    progress: Progress | None = None
    problems: list[Problem] = field(default_factory=list)
    spots: list[Spot | None] = field(default_factory=list)
    doubles: list[Double] = field(default_factory=list)
    splits: dict[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._order: list[Spot] = []  # the pictures read, by their keys among the twins
        self._twins = Twins(self._reread)
        self._worst: Spot | None = None  # the picture with most objects too small for the input

    def report(self, path: str, failed: Sequence[Problem] = ()) -> Report:
        """Look at everything.

        path    what was named, for the report.
        failed  what of it couldn't be opened.
        """
        for problem in failed:
            self._add(problem)
        total, done = sum(len(part.rows) for part in self.parts), 0
        # What is only compared with comes first, so that problems lie with the data that was named.
        for number in sorted(range(len(self.parts)), key=lambda i: not self.parts[i].known):
            part = self.parts[number]
            if not part.known:
                for problem in opening_problems(part.source):
                    self._add(replace(problem, code=problem.code or "structure"))
            files: dict[Path, int] = {}
            for row in part.rows:
                self._picture(number, row, files)
                done += 1
                if self.progress is not None:
                    self.progress(done, total)
            if not part.known and len(part.rows) == len(part.source.pictures):
                for problem in unlisted(part.source):
                    self._add(problem)
        checked = [part for part in self.parts if not part.known]
        for part in _distinct(checked):
            for finding in class_list(part.source.classes, self.sizes.objects, self.problems):
                self._tell(finding, str(document_of(part.source)))
        for finding in self.sizes.findings():
            self._tell(finding, path, self._worst if finding.code == "small-for-input" else None)
        return Report(
            path,
            sum(len(part.rows) for part in checked),
            self.sizes.objects.total(),
            tuple(self.problems),
            self.sizes.to_json(),
            self.splits,
            tuple(self.doubles),
            tuple(self.spots),
            tuple(part.source for part in self.parts),
        )

    def _picture(self, number: int, row: int, files: dict[Path, int]) -> None:
        part, spot = self.parts[number], Spot(number, row)
        source, picture = part.source, part.source.pictures[row]
        file = self._file(spot, files)
        self._compare(spot, file)
        if part.known:
            return
        size = None if file is None else file.size
        stated = picture.size
        place = place_of(source, row)
        named = ": ".join(filter(None, (str(source.file_of(row)), place)))
        wrong = None
        if size is not None and stated is not None and picture.path is not None:
            wrong = same_size(named, stated, picture.path, size)
            self._size(wrong, spot)
        found: list[Problem] = []
        try:
            objects = source.read(row, found)
        except DataError as error:
            mismatch = "expected the same size" in str(error)
            # A picture that isn't there, can't be read, or is of another size, has been told.
            told = (
                file is None if isinstance(error, ImageError) or picture.path is None else mismatch and wrong
            )
            if not told:
                code = "size-mismatch" if mismatch else "structure"
                self._add(problem_of(error, source.file_of(row), "the picture", code), spot)
            return
        for problem in found:
            self._add(replace(problem, code=problem.code or "structure"), spot)
        if size is not None and stated is None and picture.path is not None and objects.size != size:
            self._size(same_size(named, objects.size, picture.path, size), spot)
        self._objects(View(objects, entries_of(source, row), "label" in objects.columns, place), spot)

    def _file(self, spot: Spot, files: dict[Path, int]) -> PictureFile | None:
        """A picture's file, with what is wrong with it told; None where it can't be read, or was read before."""
        part = self.parts[spot.source]
        picture = part.source.pictures[spot.picture]
        if picture.path is None:
            text = "the picture isn't there; expected it where the annotations say, or in the picture folder."
            remedy = "name the picture folder, or add the file."
            problem = Problem("error", str(part.source.file_of(spot.picture)), picture.name, text, remedy)
            self._add(replace(problem, left_out="the picture", code="no-picture"), known=part.known)
            return None
        first = files.setdefault(picture.path, spot.picture)
        if first != spot.picture:
            twin = part.source.pictures[first]
            place = place_of(part.source, spot.picture)
            text = f"has the file_name of {place_of(part.source, first)}, {twin.name!r}; expected another picture."
            remedy = "merge the two entries and their objects."
            self._add(
                Problem("warning", str(document_of(part.source)), place, text, remedy, code="listed-twice"),
                spot,
                known=part.known,
            )
        try:
            file = read_picture(picture.path, self.pictures)
        except ImageError as error:
            if first == spot.picture:
                code = "unreadable" if picture.path.is_file() else "no-picture"
                self._add(problem_of(error, picture.path, "the picture", code), known=part.known)
            return None
        if first != spot.picture:
            return file._replace(image=None, digest=b"")
        if not part.known:
            for finding in picture_findings(file):
                self._tell(finding, str(picture.path), spot)
            self.sizes.kinds.update([file.kind] if file.kind else [])
        return file

    def _compare(self, spot: Spot, file: PictureFile | None) -> None:
        """Whether an earlier picture shows the same."""
        if file is None or not file.digest:
            return
        split, path = self._split(spot), self._path(spot)
        mark = None if file.image is None else fingerprint(file.image)
        self._order.append(spot)
        twin = self._twins.add(len(self._order) - 1, split, file.digest, mark, file.image)
        if twin is None:
            return
        other = self._order[twin.key]
        if self.parts[spot.source].known:
            return
        splits = split, str(twin.split)
        self.doubles.append(
            Double(
                str(path), str(self._path(other)), splits, twin.exact, twin.turn, twin.alike, (spot, other)
            )
        )
        self._tell(_twin_finding(twin, splits, self._path(other)), str(path), spot)

    def _objects(self, view: View, spot: Spot) -> None:
        part = self.parts[spot.source]
        file, picture = part.source.file_of(spot.picture), part.source.pictures[spot.picture]
        numbers = self.splits.setdefault(self._split(spot), Counter())
        numbers.update(pictures=1, objects=len(view.objects))
        small = self.sizes.add(view)
        if small and (self._worst is None or len(small) > len(self._worst.objects)):
            self._worst = spot._replace(objects=small)
        where = view.picture
        if len(view.objects) == 0:
            text = "labels no object." if not where else f"has no object ({picture.name})."
            remedy = "nothing, if the picture holds no object; else draw them."
            self._tell(Finding("warning", "no-objects", (), text, remedy), str(file), spot, where)
        for finding in beyond_cap(view, self.cap):
            self._tell(finding, str(picture.path or file), spot)
        for finding in (
            *shapes(view, self.tiny),
            *odd_boxes(view),
            *overlaps(view, self.tiny),
        ):
            self._tell(finding, str(file), spot, view.name(finding.objects[0]))

    def _size(self, wrong: str | None, spot: Spot) -> None:
        if wrong:
            file = self.parts[spot.source].source.file_of(spot.picture)
            self._add(problem_of(AnnotationError(wrong), file, "the picture", "size-mismatch"), spot)

    def _tell(self, finding: Finding, file: str, spot: Spot | None = None, where: str = "") -> None:
        problem = Problem(finding.severity, file, where, finding.message, finding.remedy, code=finding.code)
        if spot is not None and finding.objects:
            spot = spot._replace(objects=finding.objects)
        self._add(problem, spot)

    def _add(self, problem: Problem, spot: Spot | None = None, known: bool = False) -> None:
        if not known:
            self.problems.append(problem)
            self.spots.append(spot)

    def _split(self, spot: Spot) -> str:
        part = self.parts[spot.source]
        return f"{part.split} {part.source.pictures[spot.picture].split}".strip() or "all"

    def _path(self, spot: Spot) -> Path:
        picture = self.parts[spot.source].source.pictures[spot.picture]
        return picture.path or Path(picture.name)

    def _reread(self, key: int) -> RGB | None:
        try:
            return read_image(self._path(self._order[key]))
        except ImageError:
            return None


def _twin_finding(twin: Twin, splits: tuple[str, str], other: Path) -> Finding:
    across = splits[0] != splits[1]
    remedy = "keep one; a picture in both training and validation data makes figures too good."
    if twin.exact:
        if not across:
            return Finding("warning", "duplicate", (), f"is the same picture as {other.name}.", remedy)
        text = f"is the same picture as {other}: one is in {splits[0]!r}, the other in {splits[1]!r}."
        return Finding("error", "duplicate-across-splits", (), text, "keep it in one split alone.")
    turned = f", {twin.turn}" if twin.turn else ""
    like = f"shows the same as {other if across else other.name}{turned} (correlation {twin.alike:.3f})"
    if not across:
        return Finding("warning", "near-duplicate", (), f"{like}.", remedy)
    text = f"{like}: one is in {splits[0]!r}, the other in {splits[1]!r}."
    return Finding("warning", "near-duplicate-across-splits", (), text, "put both into one split.")


def _distinct(parts: Iterable[Part]) -> list[Part]:
    """Of parts with one class list, the first."""
    seen: dict[tuple[str, ...], Part] = {}
    for part in parts:
        seen.setdefault(part.source.classes.names, part)
    return list(seen.values())
