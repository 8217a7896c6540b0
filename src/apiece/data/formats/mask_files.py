"""One mask a file: every object has a picture of its own in which its pixels are not 0.

Read are these layouts:

* ID/images/ID.png and ID/masks/*.png, as the Data Science Bowl 2018 has them; `path` may be one such ID, too;
* images/STEM.jpg and masks/STEM/*.png;
* images/STEM.jpg and masks/STEM_0001.png, STEM_0002.png, …

Objects come in natural order of the file names. The class is what follows the number: 0001_cell.png is a "cell",
STEM_0001_cell.png too. A name without it (0001.png, 0001_mask.png, a number, what the Data Science Bowl has) is of the
class "object". Characters that file names can't have are written as %XX, in UTF-8, as in web addresses. The classes
are those of classes.txt, a name a line with the same %XX, in its order; others follow sorted, with or without the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES, image_size, natural, read_image, read_label_image
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.data.formats.base import Holds, Picture, Size, Source, Target, report
from apiece.data.formats.raster import (
    SPLITS,
    listed,
    read_lines,
    write_bytes,
    write_png,
)
from apiece.data.label_folder import same_size, stem_of
from apiece.data.problems import Problem, problem_of, refuse
from apiece.errors import AnnotationError, DataError

NAME = "mask-files"
TITLE = "One mask a file (Data Science Bowl 2018)"
LAYOUT = (
    "ID/images/ID.png and ID/masks/0001_CLASS.png, a file an object; or images/STEM.png and masks/STEM/*.png"
)

CLASS_LIST = "classes.txt"
NO_CLASS = "object"
# What follows a number and is no class.
NOT_A_CLASS = re.compile(r"masks?|labels?|\d*", re.IGNORECASE)
NUMBERED = re.compile(r"\d+_(.+)", re.DOTALL)
# What Windows, macOS or Linux can't have in a file name, the escape itself, and dots and spaces at the ends.
UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]|^[.\s]|[.\s]\Z')
LONGEST_NAME = 200  # bytes of UTF-8, of the 255 that a file name may have
PROBED = 20


@dataclass(frozen=True)
class Entry:
    """The mask files of one picture, in order; `name` is the picture's."""

    name: str
    picture: Path | None
    folder: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]


def class_of(stem: str) -> str:
    """The class that a mask file's stem names, which begins with the object's number."""
    numbered = NUMBERED.fullmatch(stem)
    if numbered is None or NOT_A_CLASS.fullmatch(numbered[1]):
        return NO_CLASS
    name = unquote(numbered[1])
    return name if name.strip() else NO_CLASS


def escaped(name: str) -> str:
    """A class name as file names and classes.txt have it; `class_of` reads it back."""
    text = UNSAFE.sub(lambda found: _percent(found[0]), name)
    return _percent(text[0]) + text[1:] if NOT_A_CLASS.fullmatch(text) else text


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


# ---- layouts


def detect(path: Path) -> bool:
    """Whether `path` is a folder with a folder of masks for each picture, or several numbered masks of each stem."""
    try:
        if not path.is_dir():
            return False
        if _is_one(path) or any(_holds_masks(folder) for folder in _ids(path)[:PROBED]):
            return True
        return any(entry.files for entry in _by_stem(path, None, []))
    except (OSError, DataError):
        return False


def _ids(root: Path) -> list[Path]:
    """Subfolders that have a folder of masks; those called train and the like are splits of another format."""
    folders = sorted(root.iterdir(), key=lambda folder: natural(folder.name))
    return [
        f for f in folders if f.name not in SPLITS and not f.name.startswith(".") and (f / "masks").is_dir()
    ]


def _holds_masks(folder: Path) -> bool:
    return (folder / "images").is_dir() or bool(_images(folder / "masks"))


def _is_one(path: Path) -> bool:
    """Whether this is a single ID of the Data Science Bowl: one picture, and masks that don't go by its name."""
    pictures, masks = _images(path / "images"), _images(path / "masks")
    if len(pictures) != 1 or not masks:
        return False
    stem = stem_of(Path(pictures[0]))
    return not any(mask.startswith(stem) for mask in masks)


def _images(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, in natural order; hidden ones are passed over."""
    if not folder.is_dir():
        return []
    names = (p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(names, key=natural)


def _entry(name: str, picture: Path | None, folder: Path, files: Iterable[str], skip: int = 0) -> Entry:
    """skip: characters of each name that are the picture's stem."""
    every = tuple(files)
    return Entry(name, picture, folder, every, tuple(class_of(Path(file).stem[skip:]) for file in every))


def _by_id(path: Path, folders: list[Path], images: Path | None, problems: list[Problem]) -> list[Entry]:
    elsewhere = {Path(name).stem: name for name in _images(images)} if images is not None else {}
    entries = []
    for folder in folders:
        inside = _images(folder / "images")
        if len(inside) > 1:
            text = f"holds {len(inside)} pictures ({listed(inside)}); expected one."
            remedy = "keep one picture in each folder."
            problems.append(Problem("error", str(folder / "images"), "", text, remedy, "the pictures"))
            continue
        picture = folder / "images" / inside[0] if inside else None
        if picture is None and folder.name in elsewhere and images is not None:
            picture = images / elsewhere[folder.name]
        name = folder.name
        if picture is not None:
            name = picture.name if picture.stem == folder.name else f"{folder.name}/{picture.name}"
        if not (folder / "masks").is_dir():
            text = "has no folder masks/."
            remedy = "add it, empty if the picture holds no object."
            problems.append(Problem("error", str(folder), "", text, remedy, "the picture", "no-label"))
            continue
        entries.append(_entry(name, picture, folder / "masks", _images(folder / "masks")))
    return entries


def _by_stem(path: Path, images: Path | None, problems: list[Problem]) -> list[Entry]:
    """images/ and masks/STEM/*.png, or masks/STEM_0001.png."""
    pictures_folder, masks = images if images is not None else path / "images", path / "masks"
    names = _images(pictures_folder)
    stems: dict[str, str] = {}
    for name in names:
        stem = stem_of(Path(name))
        if stem in stems:
            raise DataError(
                f"{pictures_folder}: {stems[stem]} and {name} share the stem {stem!r}; expected one file a stem. "
                "Remedy: rename or remove one of them."
            )
        stems[stem] = name
    groups: dict[str, list[str]] = {stem: [] for stem in stems}
    for file in _images(masks):
        owner = _owner(Path(file).stem, stems)
        if owner is None:
            text = "is the mask of no picture; expected STEM_0001, the STEM of a picture in images/."
            remedy = "add the picture, or rename the mask."
            problems.append(Problem("error", str(masks / file), "", text, remedy, "the object", "no-picture"))
        else:
            groups[owner].append(file)
    entries = []
    for stem, name in stems.items():
        if (masks / stem).is_dir():
            entries.append(_entry(name, pictures_folder / name, masks / stem, _images(masks / stem)))
        elif groups[stem]:
            skip = len(stem) + 1
            entries.append(_entry(name, pictures_folder / name, masks, groups[stem], skip))
        else:
            text = f"has no mask and no folder masks/{stem}."
            remedy = "add an empty folder, if the picture holds no object."
            file = str(pictures_folder / name)
            problems.append(Problem("error", file, "", text, remedy, "the picture", "no-label"))
    for folder in sorted(masks.iterdir()) if masks.is_dir() else []:
        if folder.is_dir() and folder.name not in stems and _images(folder):
            text = "holds the masks of no picture; its name is the stem of none in images/."
            remedy = "add the picture, or rename the folder."
            problems.append(Problem("warning", str(folder), "", text, remedy, "", "no-picture"))
            entries.append(_entry(folder.name, None, folder, _images(folder)))
    return entries


def _owner(stem: str, pictures: dict[str, str]) -> str | None:
    """The picture's stem in STEM_0001 or STEM_0001_CLASS: the longest that is a picture's."""
    cuts = [place for place, character in enumerate(stem) if character == "_"]
    for cut in reversed(cuts):
        if stem[:cut] in pictures and re.fullmatch(r"\d+(_.+)?", stem[cut + 1 :], re.DOTALL):
            return stem[:cut]
    return None


# ---- reading


@dataclass(frozen=True, eq=False)
class MaskFilesSource(Source):
    """Pictures with a mask file for each object; see the module."""

    entries: tuple[Entry, ...] = field(default=())
    shared: ClassVar[bool] = False

    def file_of(self, index: int) -> Path:
        """See Source."""
        return self.entries[index].folder

    def size(self, index: int) -> Size:
        """See Source; of the first mask, where there is no picture."""
        entry = self.entries[index]
        if entry.picture is None and entry.files:
            return image_size(entry.folder / entry.files[0])
        return super().size(index)

    def read(self, index: int, found: list[Problem] | None = None) -> Instances:
        """See Source. Masks are read one after the other, each cut to its object at once."""
        size, entry = self.size(index), self.entries[index]
        masks, class_ids = [], []
        place = {name: i for i, name in enumerate(self.classes.names)}
        for file, name in zip(entry.files, entry.classes, strict=True):
            path = entry.folder / file
            try:
                mask = _object(path, size, str(entry.picture or entry.folder / entry.files[0]), found)
            except DataError as error:
                report(problem_of(error, path, "the object", where=f'"{name}"'), found)
                continue
            if mask is not None:
                masks.append(mask)
                class_ids.append(place[name])
        joined = Masks.concatenate(masks) if masks else Masks.empty(size)
        return Instances(size, joined, np.array(class_ids, np.int64), classes=self.classes)


def _object(path: Path, size: Size, picture: str, found: list[Problem] | None) -> Masks | None:
    """The one mask of a file; None, and a Problem, if it has no pixel."""
    values = _values(path)
    wrong = same_size(path, (values.shape[0], values.shape[1]), picture, size)
    if wrong:
        raise AnnotationError(wrong)
    mask = Masks.from_crops([values != 0], [(0, 0)], size)
    if not mask.areas[0]:
        text = "has no pixel but 0; expected an object."
        report(Problem("warning", str(path), "", text, "remove the file.", "the object"), found)
        return None
    (x, y), crop = mask.offsets[0].tolist(), mask.crop(0)
    inside = values[y : y + crop.shape[0], x : x + crop.shape[1]][crop]
    if inside.min() != inside.max():
        text = f"holds values from {inside.min()} to {inside.max()}; all that are not 0 are taken for one object."
        remedy = "nothing, if it is one object; else export a label image, or a mask for each object."
        report(Problem("warning", str(path), "", text, remedy), found)
    return mask


def _values(path: Path) -> npt.NDArray[Any]:
    """The numbers of a mask; a grey one that was saved as colour counts as grey."""
    try:
        return read_label_image(path)
    except AnnotationError:
        with path.open("rb") as file:
            is_plain_colour = file.read(26)[24:] == b"\x08\x02" and path.suffix.lower() == ".png"
        rgb = read_image(path) if is_plain_colour else None
        if rgb is not None and (rgb == rgb[..., :1]).all():
            return rgb[..., 0]
        raise


def open_source(path: Path, images: Path | None = None, *, strict: bool = True) -> MaskFilesSource:
    """Open a data set of mask files.

    path    a folder of one of the layouts above.
    images  the picture folder, if pictures lie elsewhere.
    raises  DataError if there are no masks; AnnotationError, with `strict`, for the first mask without a picture and
            the first picture without masks. A picture whose folder of masks is empty has no objects.
    """
    problems: list[Problem] = []
    if not path.is_dir():
        raise DataError(
            f"{path}: not found; expected a folder with pictures and masks. Remedy: check the path."
        )
    if _is_one(path):
        entries = _by_id(path, [path], images, problems)
    elif _ids(path):
        others = [
            folder
            for folder in path.iterdir()
            if (folder / "images").is_dir() and not folder.name.startswith(".") and folder.name not in SPLITS
        ]
        folders = sorted({*_ids(path), *others}, key=lambda folder: natural(folder.name))
        entries = _by_id(path, folders, images, problems)
    else:
        entries = _by_stem(path, images, problems)
    if strict:
        refuse(problems, f"`apiece check {path}` lists them")
    if not entries:
        raise DataError(
            f"{path}: holds no masks; expected {LAYOUT}. Remedy: name the folder that holds them."
        )
    class_list = path / CLASS_LIST
    names = [unquote(line) for line in read_lines(class_list) if line] if class_list.is_file() else []
    used = {name for entry in entries for name in entry.classes}
    try:
        classes = ClassMap((*names, *sorted(used.difference(names))) or (NO_CLASS,))
    except AnnotationError as error:
        raise AnnotationError(f"{class_list}: {error}") from None
    pictures = tuple(Picture(entry.name, entry.picture, i) for i, entry in enumerate(entries, start=1))
    return MaskFilesSource(path, classes, pictures, tuple(problems), tuple(entries))


# ---- writing


class MaskFilesTarget(Target):
    """Writes STEM/images/NAME, STEM/masks/0001_CLASS.png, …, grey PNG of 0 and 255, and classes.txt."""

    holds = Holds()

    def __init__(self, folder: Path, classes: ClassMap, *, pictures: bool = True) -> None:
        super().__init__(folder, classes, pictures=pictures)
        self._names = tuple(escaped(name) for name in classes.names)
        for name, text in zip(classes.names, self._names, strict=True):
            if len(text.encode()) > LONGEST_NAME:
                raise AnnotationError(
                    f"the class {name[:40]!r}… is too long for a file name; expected at most {LONGEST_NAME} bytes. "
                    "Remedy: give it a shorter name."
                )

    def add(self, picture: Picture, objects: Instances) -> str:
        """See Target."""
        name = self.flat_name(picture)
        if name.stem in ("images", "masks", *SPLITS):  # names of folders that mean something else
            name = self.flat_name(Picture(f"{name.stem}-1{name.suffix}", picture.path, picture.id))
            self.notes.append(f"{picture.name}: is called {name}, as its own name is a folder's.")
        base = self.folder / name.stem
        self.copy_picture(picture, PurePosixPath(name.stem, "images", name))
        try:
            (base / "masks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{base}: cannot be written ({error.strerror}).") from None
        digits = max(4, len(str(len(objects))))
        frame = np.zeros(objects.size, np.uint8)
        number = 0
        for (crop, (x, y)), class_id in zip(objects.masks, objects.class_ids.tolist(), strict=True):
            if not crop.size:
                continue
            number += 1
            window = frame[y : y + crop.shape[0], x : x + crop.shape[1]]
            window[crop] = 255
            write_png(base / "masks" / f"{number:0{digits}d}_{self._names[class_id]}.png", frame)
            window[...] = 0
        found = picture.path is not None and name.suffix.lower() in SUFFIXES
        if not found and not number:
            self.notes.append(f"{picture.name}: has no object and no picture, so nothing holds its size.")
        return str(name) if found else name.stem

    def finish(self) -> None:
        """Write classes.txt."""
        write_bytes(self.folder / CLASS_LIST, "".join(f"{name}\n" for name in self._names).encode())


TARGET = MaskFilesTarget
