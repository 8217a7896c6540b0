"""MOTS: objects with tracks through the frames of a sequence, as text or as PNG.

instances_txt/SEQ.txt holds a line for each object, `frame id class height width rle`, the mask as COCO's compressed
run-length code; instances/SEQ/000012.png holds the same as numbers of 16 bits, class × 1000 + n. Where both are there,
the text is read. Pictures are images/SEQ/000012.jpg, SEQ/000012.png or training/image_02/SEQ/000012.png; the number
in a picture's name is its frame. A picture without a line has no objects.

Class 1 is "car" and 2 "pedestrian", as in KITTI MOTS, or as classes.txt says, with a line `number name` for each
class. Class 10 is "ignore": a region of objects that don't count, `iscrowd`. The track of an object is its id, as it
stands; ids of PNG are unique, by the class in them.

source  Voigtlaender et al. 2019, arXiv 1902.03604; github.com/VisualComputingInstitute/mots_tools, README.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, image_size, natural, read_label_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats.base import Holds, Picture, Size, Source, Target, report
from apiece.data.formats.mots_text import TextIndex, index_of, masks_of, parse, rows_of
from apiece.data.formats.raster import one_line, owners, read_lines, write_bytes
from apiece.data.label_folder import same_size
from apiece.data.problems import Problem, refuse
from apiece.errors import AnnotationError, DataError

NAME = "mots"
TITLE = "MOTS (text, and PNG for reading)"
LAYOUT = "instances_txt/SEQ.txt with lines `frame id class h w rle`, or instances/SEQ/000001.png; images/SEQ/000001.jpg"

OFFICIAL = {1: "car", 2: "pedestrian"}
IGNORE, IGNORE_ID, IGNORE_NAME = 10, 10_000, "ignore"
EACH = 1000
TEXTS, PNGS, CLASS_LIST = "instances_txt", "instances", "classes.txt"
PLACES = ("images", ".", "training/image_02", "image_02", "train/images")
PROBED = 4


def detect(path: Path) -> bool:
    """Whether `path` is a text of this format, or a folder with such texts or with PNGs of 16 bits by sequence."""
    try:
        if path.is_file():
            return path.suffix == ".txt" and _is_text(path)
        if not path.is_dir():
            return False
        texts = _texts(path)
        filled = [file for file in texts[:PROBED] if file.stat().st_size]
        if texts:
            return all(_is_text(file) for file in filled) and (bool(filled) or (path / TEXTS).is_dir())
        png = next((file for _, files in _png_sequences(path) for file in files), None)
        if png is None or PNGS not in (path.name, png.parent.parent.name):
            return False
        with png.open("rb") as file:
            return file.read(26)[24:] == b"\x10\x00"  # 16 bits, grey
    except OSError:
        return False


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2**16)
    line, ended, _ = head.lstrip().partition(b"\n")
    if not ended and len(head) == 2**16:
        line = b" ".join(line.split()[:5]) + b" 1"  # a long RLE: the numbers before it must do
    try:
        parse(line)
    except AnnotationError:
        return False
    return True


def _texts(path: Path) -> list[Path]:
    """A text a sequence."""
    if path.is_file():
        return [path]
    if (path / TEXTS).is_dir():
        files = list((path / TEXTS).glob("*.txt"))
    elif (path / PNGS).is_dir():
        return []
    else:
        files = [file for file in path.glob("*.txt") if file.name != CLASS_LIST]
    return sorted((f for f in files if not f.name.startswith(".")), key=lambda file: natural(file.name))


def _png_sequences(path: Path) -> Iterator[tuple[str, list[Path]]]:
    """Each sequence's name and PNGs, in order of their frames."""
    root = path / PNGS if (path / PNGS).is_dir() else path
    if not root.is_dir():
        return
    for folder in sorted((f for f in root.iterdir() if f.is_dir()), key=lambda folder: natural(folder.name)):
        files = sorted(
            (file for file in folder.glob("*.png") if file.stem.isdecimal()), key=lambda f: int(f.stem[-18:])
        )
        if files:
            yield folder.name, files


@dataclass(frozen=True)
class Frame:
    """Where the objects of a picture are: in lines of a text, or in a PNG; neither for a picture without objects."""

    number: int
    text: TextIndex | None = None
    png: Path | None = None


@dataclass(frozen=True, eq=False)
class MotsSource(Source):
    """Frames of sequences; see the module."""

    frames: tuple[Frame, ...] = field(default=())

    def file_of(self, index: int) -> Path:
        """See Source; of a picture without objects its own."""
        frame = self.frames[index]
        lines = None if frame.text is None else frame.text.path
        return lines or frame.png or self.pictures[index].path or self.path

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source; "iscrowd" for regions of class 10."""
        size, frame = self.size(index), self.frames[index]
        if frame.png is not None:
            return self._of_png(frame.png, size, self.pictures[index].path or frame.png, found)
        if frame.text is None:
            return Instances.empty(size, self.classes)
        return self._of_text(frame.text, frame.number, size, found)

    def _of_text(self, text: TextIndex, frame: int, size: Size, found: list[Problem] | None) -> Instances:
        lines, rows = rows_of(text, frame)
        known = [
            self._known(text.path, f"line {n}", row.category, found)
            for n, row in zip(lines, rows, strict=True)
        ]
        lines = [line for line, fine in zip(lines, known, strict=True) if fine]
        rows = [row for row, fine in zip(rows, known, strict=True) if fine]
        masks, kept = masks_of(rows, size, lambda i: f"line {lines[i]}", text.path, found)
        seen: set[int] = set()
        for i in kept:
            if rows[i].track in seen and rows[i].category != IGNORE:
                message = f"has the id {rows[i].track}, as an earlier line of frame {frame} has."
                remedy = "give every object of a frame its own id."
                report(Problem("warning", str(text.path), f"line {lines[i]}", message, remedy), found)
            seen.add(rows[i].track)
        return self._made(masks, [rows[i].category for i in kept], [rows[i].track for i in kept])

    def _of_png(self, path: Path, size: Size, picture: Path, found: list[Problem] | None) -> Instances:
        array = read_label_image(path)
        wrong = same_size(path, (array.shape[0], array.shape[1]), picture, size)
        if wrong:
            raise AnnotationError(wrong)
        values = np.unique(array)
        kept = [v for v in values.tolist() if v and self._known(path, f"object {v}", v // EACH, found)]
        fine = np.isin(values, kept)
        masks = Masks.from_label_image(np.where(fine, np.cumsum(fine), 0)[np.searchsorted(values, array)])
        return self._made(masks, [v // EACH for v in kept], kept)

    def _known(self, path: Path, where: str, category: int, found: list[Problem] | None) -> bool:
        if category in self.classes.ids:
            return True
        text = f"is of class {category}, which has no name; expected one of {self.classes.ids}."
        report(Problem("error", str(path), where, text, f"name it in {CLASS_LIST}.", "the object"), found)
        return False

    def _made(self, masks: Masks, categories: list[int], tracks: list[int]) -> Instances:
        return Instances(
            masks.size,
            masks,
            np.array([self.classes.index_of(category) for category in categories], np.int64),
            classes=self.classes,
            track_ids=np.array(tracks, np.int64),
            columns={"iscrowd": np.array(categories, np.int64) == IGNORE},
        )


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> MotsSource:
    """Open sequences.

    path    the folder that holds instances_txt or instances, one of these, or the text of one sequence.
    images  the folder that holds a folder of pictures for each sequence; of a single sequence, its pictures.
    raises  DataError if there is no sequence; AnnotationError, with `strict`, for the first line that can't be parsed.
    """
    problems: list[Problem] = []
    texts = _texts(path) if path.exists() else []
    pngs = {} if texts else dict(_png_sequences(path))
    if not texts and not pngs:
        raise DataError(f"{path}: holds no sequence; expected {LAYOUT}. Remedy: name the folder that does.")
    root = path.parent if path.is_file() else path
    root = root.parent if root.name in (TEXTS, PNGS) else root
    indices = {file.stem: index_of(file, problems) for file in texts}
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    sequences = list(indices or pngs)
    pictures: list[Picture] = []
    frames: list[Frame] = []
    absent = 0
    for sequence in sequences:
        files = _pictures(root, sequence, images, alone=len(sequences) == 1)
        index = indices.get(sequence)
        labels = {int(png.stem[-18:]): png for png in pngs.get(sequence, ())}
        labelled = labels if index is None else index.sizes
        for number in sorted({*files, *labelled}):
            file = files.get(number)
            absent += file is None
            name = file.name if file is not None else f"{number:06d}.png"
            size = None if index is None else index.sizes.get(number)
            pictures.append(Picture(f"{sequence}/{name}", file, len(pictures) + 1, size))
            here = index if index is not None and number in index.sizes else None
            frames.append(Frame(number, here, labels.get(number)))
            if file is None and index is None:
                pictures[-1] = _sized(pictures[-1], labels[number])
    if absent:
        text = (
            f"has {absent} frame{'s' if absent > 1 else ''} without a picture; their objects are read alone."
        )
        problems.append(Problem("warning", str(path), "", text, "name the picture folder.", "", "no-picture"))
    categories = set().union(*(index.categories for index in indices.values()))
    classes = _classes(root, ignore=bool(pngs) or IGNORE in categories)
    return MotsSource(path, classes, tuple(pictures), tuple(problems), tuple(frames))


def _sized(picture: Picture, png: Path) -> Picture:
    """A picture that isn't there, with the size of its PNG of objects."""
    try:
        return replace(picture, size=image_size(png))
    except DataError:  # said when it is read
        return picture


def _pictures(root: Path, sequence: str, images: Path | None, alone: bool) -> dict[int, Path]:
    """The pictures of a sequence by frame."""
    folders = [root / place / sequence for place in PLACES]
    if images is not None:
        folders = [images / sequence, *([images] if alone else [])]
    for folder in folders:
        if folder.is_dir():
            files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.stem.isdecimal()]
            if files:
                return {int(file.stem[-18:]): file for file in sorted(files)}
    return {}


def _classes(root: Path, ignore: bool) -> ClassMap:
    """Those of classes.txt, else KITTI's; with "ignore" where it occurs."""
    listed = root / CLASS_LIST
    named = dict(OFFICIAL)
    if listed.is_file():
        named = {}
        for number, line in enumerate(read_lines(listed), start=1):
            category, _, name = line.partition(" ")
            if not line:
                continue
            if not category.isdecimal() or len(category) > 9 or not name.strip() or int(category) in named:
                raise AnnotationError(
                    f"{listed}: line {number} is {line[:60]!r}; expected a number of its own and a name. "
                    "Remedy: correct the line."
                )
            named[int(category)] = name
    if ignore and IGNORE not in named:
        named[IGNORE] = IGNORE_NAME
    try:
        return ClassMap(tuple(named.values()), tuple(named))
    except AnnotationError as error:
        raise AnnotationError(f"{listed}: {error}") from None


# ---- writing


class MotsTarget(Target):
    """Writes instances_txt/SEQ.txt, images/SEQ/000001.jpg and classes.txt.

    SEQ is the picture's folder. A picture whose name is a number has this frame, if it is free; others are numbered in
    the order in which they come. A pixel has one object, as the challenge demands. An object's id is its track as it
    stands; without tracks, class × 1000 + n, n running through the sequence, which is read back as a track of one
    frame. Crowd regions are written as objects of their class; class "ignore" is number 10 with the id 10000.
    """

    holds = Holds(overlaps=False, track_ids=True)

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        names = one_line(classes, self.notes)
        if set(names) <= {*OFFICIAL.values(), IGNORE_NAME}:
            numbers = {name: number for number, name in OFFICIAL.items()} | {IGNORE_NAME: IGNORE}
            self._numbers = [numbers[name] for name in names]
        else:
            free = (number for number in range(1, len(names) + 2) if number != IGNORE)
            self._numbers = [IGNORE if name == IGNORE_NAME else next(free) for name in names]
        self._lines = [f"{number} {name}\n" for number, name in zip(self._numbers, names, strict=True)]
        self._frames: dict[str, set[int]] = {}
        self._most: dict[str, int] = {}  # of each sequence's frames
        self._ids: dict[str, set[int]] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._renamed = self._gone = 0

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        given = PurePosixPath(picture.name)
        sequence = "-".join(part for part in given.parent.parts if part.strip("./")) or "0001"
        frame = self._frame(sequence, given.stem)
        suffix = given.suffix if picture.path is not None and given.suffix.lower() in SUFFIXES else ".png"
        name = f"{sequence}/{frame:06d}{suffix}"
        self._renamed += name != picture.name
        self.copy_picture(picture, PurePosixPath("images") / name)
        canvas, there = owners(objects.masks)
        masks = objects.masks
        if int(there.sum()) < len(masks) or masks.overlapping_pixels():
            ranks = np.append(0, np.where(there, np.cumsum(there), 0))
            masks, objects = Masks.from_label_image(ranks[canvas]), objects[there]
        tracks = self._tracks(sequence, objects)
        height, width = objects.size
        lines = [
            f"{frame} {track} {self._numbers[class_id]} {height} {width} {code['counts']}\n"
            for track, class_id, code in zip(tracks, objects.class_ids.tolist(), masks.to_coco(), strict=True)
        ]
        if not lines and (picture.path is None or not self.with_pictures):
            self._gone += 1
        place = self.folder / TEXTS / f"{sequence}.txt"
        try:
            place.parent.mkdir(exist_ok=True)
            with place.open("a", encoding="ascii") as file:
                file.writelines(lines)
        except OSError as error:
            raise DataError(f"{place}: cannot be written ({error.strerror}).") from None
        return name if self.with_pictures or name == picture.name else f"{sequence}/{frame:06d}.png"

    def _frame(self, sequence: str, stem: str) -> int:
        taken = self._frames.setdefault(sequence, set())
        number = int(stem) if stem.isdecimal() and len(stem) <= 9 else -1
        if number < 0 or number in taken:
            number = self._most.get(sequence, 0) + 1
        taken.add(number)
        self._most[sequence] = max(self._most.get(sequence, 0), number)
        return number

    def _tracks(self, sequence: str, objects: Instances) -> list[int]:
        """The id of each object: its track; without one the next free number of its class."""
        used = self._ids.setdefault(sequence, set())
        numbers = [self._numbers[class_id] for class_id in objects.class_ids.tolist()]
        given = [-1] * len(numbers) if objects.track_ids is None else objects.track_ids.tolist()
        used.update(track for track in given if track >= 0)
        tracks = []
        for number, track in zip(numbers, given, strict=True):
            if track < 0 and number == IGNORE:
                track = IGNORE_ID
            while track < 0:
                n = self._next.get((sequence, number), 0) + 1
                self._next[sequence, number] = n
                candidate = (
                    number * EACH + n if n < EACH else number * 10**6 + n
                )  # the convention ends at 999
                track = candidate if candidate not in used else -1
            used.add(track)
            tracks.append(track)
        return tracks

    def finish(self) -> None:
        """Write classes.txt."""
        write_bytes(self.folder / CLASS_LIST, "".join(self._lines).encode())
        if self._renamed:
            self.notes.append(f"{self._renamed} pictures are named by sequence and frame, as MOTS demands.")
        if self._gone:
            self.notes.append(
                f"{self._gone} pictures have no object and aren't copied, so nothing holds them."
            )


TARGET = MotsTarget
