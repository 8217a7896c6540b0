"""Where a YOLO data set has its pictures, labels and class names: data.yaml, or folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from apiece.core.classes import ClassMap
from apiece.core.image import SUFFIXES
from apiece.data.formats.base import clean_name, is_confined
from apiece.data.problems import Problem
from apiece.errors import AnnotationError

SPLITS = ("train", "val", "test")
MOST_BYTES = 2**28  # of a label file
MOST_SETTINGS = 2**19  # bytes of data.yaml
MOST_CLASSES = 10_000
BESIDE = frozenset({"classes.txt", "readme.txt", "requirements.txt"})  # texts that are no labels


@dataclass(frozen=True)
class Entry:
    """A picture and its label file.

    name   its path without the folder `images`: train/a.jpg for images/train/a.jpg.
    place  its whole path in the data set.
    """

    name: str
    place: str
    picture: Path
    label: Path | None
    split: str


def layout_of(
    root: Path, settings_file: Path | None, images: Path | None, problems: list[Problem]
) -> tuple[list[Entry], Mapping[str, Any]]:
    """The pictures of the set by split and name, and what data.yaml says; label files without picture are problems."""
    settings = _settings(root, settings_file)
    if images is not None:
        return _elsewhere(root, images, problems), settings
    entries: list[Entry] = []
    seen: set[Path] = set()
    for split, picture in _listed(root, settings, problems):
        if picture in seen:
            continue
        seen.add(picture)
        place = picture.relative_to(root)
        label = _label_of(root, place)
        name = _without(place, "images").as_posix()
        entries.append(Entry(name, place.as_posix(), picture, label if label.is_file() else None, split))
    used = {entry.label for entry in entries}
    # A data.yaml may leave parts out: then only folders of which it lists pictures are complete.
    complete = {_label_of(root, Path(entry.place)).parent for entry in entries} if settings else set()
    for text in _texts(root):
        if text not in used and (not complete or text.parent in complete):
            _orphan(text, problems)
    return entries, settings


def _orphan(text: Path, problems: list[Problem]) -> None:
    message = "has no picture; expected one of the same stem in the folder images."
    remedy = "add the picture, name the picture folder, or remove the label file."
    problems.append(Problem("error", str(text), "", message, remedy, "the file's objects"))


def _elsewhere(root: Path, images: Path, problems: list[Problem]) -> list[Entry]:
    """Label files with their pictures in another folder."""
    by_stem: dict[str, list[Path]] = {}
    for picture in _pictures(images):
        by_stem.setdefault(picture.stem, []).append(picture)
    entries, used = [], set()
    for text in _texts(root):
        place = text.relative_to(root)
        bare = _without(place, "labels")
        near = by_stem.get(text.stem, [])
        same = [picture for picture in near if picture.parent == (images / bare).parent]
        if len(same or near) != 1:
            if near:
                message = f"has {len(same or near)} pictures of its stem in {images}; expected one."
                remedy = "arrange the pictures in the same subfolders as the labels."
                problems.append(Problem("error", str(text), "", message, remedy, "the file's objects"))
            else:
                _orphan(text, problems)
            continue
        picture = (same or near)[0]
        used.add(picture)
        name = bare.with_name(picture.name).as_posix()
        whole = place.with_name(picture.name).as_posix()
        split = next((part for part in place.parts[:-1] if part in SPLITS), "")
        entries.append(Entry(name, whole, picture, text, split))
    count = sum(len(group) for group in by_stem.values()) - len(used)
    if count and entries:
        message = f"holds {count} picture{'s' if count > 1 else ''} without a label file."
        remedy = (
            "nothing, if they aren't of this set; else write an empty label file for each without objects."
        )
        problems.append(Problem("warning", str(images), "", message, remedy, "the pictures"))
    return entries


# ---- data.yaml


def _settings(root: Path, file: Path | None) -> Mapping[str, Any]:
    """What data.yaml holds; every value is a text, a list or a dictionary. Empty where there is no such file."""
    import yaml

    found = [file] if file else [root / name for name in ("data.yaml", "data.yml")]
    file = next((path for path in found if path is not None and path.is_file()), None)
    if file is None:
        return {}
    try:
        # BaseLoader makes texts of all values: a class called `no` stays "no".
        document = yaml.load(read_text(file, MOST_SETTINGS), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise AnnotationError(
            f"{file}: is not YAML that can be read ({text}). Remedy: correct the file."
        ) from None
    if not isinstance(document, dict):
        raise AnnotationError(
            f"{file}: expected `names:` and the folders of `train:` and `val:`. Remedy: correct the file."
        )
    return {str(key): value for key, value in document.items()} | {"": str(file)}


def _listed(root: Path, settings: Mapping[str, Any], problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """The pictures that data.yaml lists, with their split; without it those of all folders `images`."""
    file = settings.get("", str(root))
    base = _confined(root, settings["path"]) if isinstance(settings.get("path"), str) else None
    named = False
    for split in SPLITS:
        value = settings.get(split, settings.get("valid") if split == "val" else None)
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str) or not one.strip():
                continue
            named = True
            place = next((p for b in (base, root) if b and (p := _confined(b, one)) and p.exists()), None)
            if place is None:
                message = f"names {one!r}, which isn't in the data set's folder."
                remedy = "nothing, if this part isn't wanted; else put it beside data.yaml."
                problems.append(Problem("warning", file, split, message, remedy, "this part"))
            elif place.is_dir():
                yield from ((split, picture) for picture in _pictures(place))
            else:
                yield from ((split, picture) for picture in _in_list(root, place, problems))
    if not named:
        for folder in picture_folders(root):
            for picture in _pictures(folder):
                parts = picture.relative_to(root).parts[:-1]
                split = next(
                    (s for part in parts for s in SPLITS if part in (s, {"val": "valid"}.get(s))), ""
                )
                yield split, picture


def _in_list(root: Path, file: Path, problems: list[Problem]) -> Iterator[Path]:
    """The pictures that a text lists, one a line."""
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        places = [_confined(base, name) for base in (file.parent, root)]
        path = next((place for place in places if place is not None and place.is_file()), None)
        if path is None or path.suffix.lower() not in SUFFIXES:
            message = f"lists {name[:200]!r}, which is no picture of the data set's folder."
            problems.append(
                Problem("error", str(file), f"line {number}", message, "correct the list.", "the picture")
            )
        else:
            yield path


def _confined(base: Path, name: str) -> Path | None:
    """A path of data.yaml inside `base`: absolute ones and those that climb out are searched by their ends."""
    pure = PurePosixPath(clean_name(name.strip()))
    if not pure.parts or "\0" in name:
        return base if pure.as_posix() == "." else None
    if is_confined(pure.as_posix()):
        place = base / pure
        return place if _inside(place, base) else None
    parts = [part for part in pure.parts if part not in ("/", "..") and ":" not in part]
    for begin in range(len(parts)):
        place = base.joinpath(*parts[begin:])
        if place.exists() and _inside(place, base):
            return place
    return None


def _inside(place: Path, base: Path) -> bool:
    try:
        return place.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


# ---- folders


def label_folders(root: Path) -> list[Path]:
    """Folders called labels, in the root or one below; the root itself where texts lie beside classes.txt."""
    found = [path for path in (root / "labels", *sorted(root.glob("*/labels"))) if path.is_dir()]
    if not found and (root / "classes.txt").is_file():
        return [root]
    return found


def picture_folders(root: Path) -> list[Path]:
    """Folders called images, in the root or one below; the root itself where there is none."""
    found = [path for path in (root / "images", *sorted(root.glob("*/images"))) if path.is_dir()]
    return found or [root]


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def _texts(root: Path) -> Iterator[Path]:
    for folder in label_folders(root):
        for path in sorted(folder.rglob("*.txt")):
            if path.name.lower() not in BESIDE and path.is_file():
                yield path


def _exchanged(place: Path) -> Path:
    """images/train/a.jpg → labels/train/a.txt, by the last folder called images; else a.txt beside it."""
    parts = list(place.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _label_of(root: Path, place: Path) -> Path:
    return root / _exchanged(place)


def _without(place: Path, folder: str) -> Path:
    """The path without the last folder of this name."""
    parts = list(place.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == folder:
            del parts[at]
            break
    return Path(*parts)


# ---- class names


def class_names(
    root: Path, settings: Mapping[str, Any], labels: Sequence[Path], problems: list[Problem]
) -> ClassMap:
    """The classes: from data.yaml, else classes.txt, else by number."""
    file = settings.get("", "")
    names = settings.get("names")
    if names is not None and names != "":
        if isinstance(names, list):
            names = dict(enumerate(names))
        try:
            numbered = {int(number): name for number, name in names.items()}
            texts = all(isinstance(name, str) for name in numbered.values())
        except (AttributeError, TypeError, ValueError):
            numbered, texts = {}, False
        if not texts or len(numbered) > MOST_CLASSES or min(numbered, default=0) < 0:
            raise AnnotationError(
                f"{file}: names is no list of names and no dictionary from class numbers to names. "
                "Remedy: write one name for each class."
            )
        count = settings.get("nc")
        if isinstance(count, str) and count.strip().isdecimal() and int(count) != len(numbered):
            message = f"says nc: {count}, but lists {len(numbered)} names."
            problems.append(Problem("warning", file, "names", message, "correct one of them."))
        return _map(file, {number: numbered[number] for number in sorted(numbered)})
    for listed in (root / "classes.txt", root / "labels" / "classes.txt"):
        if listed.is_file():
            lines = [line.strip() for line in read_text(listed, MOST_SETTINGS).splitlines()]
            return _map(str(listed), {i: line for i, line in enumerate(lines) if line})
    highest = -1
    for label in labels:
        for line in read_text(label).splitlines():
            number = line.split(maxsplit=1)[0] if line.strip() else ""
            if number.isascii() and number.isdigit() and len(number) < 9:
                highest = max(highest, int(number))
    if highest >= MOST_CLASSES:
        raise AnnotationError(
            f"{root}: has the class number {highest}; expected fewer than {MOST_CLASSES:,} classes. "
            "Remedy: correct the labels, or add data.yaml with names."
        )
    return ClassMap(tuple(f"class {i}" for i in range(highest + 1)), tuple(range(highest + 1)))


def _map(file: str, named: Mapping[int, str]) -> ClassMap:
    try:
        return ClassMap(tuple(named.values()), tuple(named))
    except AnnotationError as error:
        raise AnnotationError(f"{file}: {error}") from None


def is_label_line(line: str) -> bool:
    """Whether a text begins as a line of labels does: a class number and four or more shares, around 0 to 1."""
    words = line.split()
    if len(words) < 5 or not words[0].isascii() or not words[0].isdigit():
        return False
    try:
        return all(-1 <= float(word) <= 2 for word in words[1:5])
    except ValueError:
        return False


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """A text file in UTF-8.

    raises  AnnotationError if it can't be read, is larger than `most` bytes, or no text.
    """
    try:
        if path.stat().st_size > most:
            raise AnnotationError(
                f"{path}: has {path.stat().st_size:,} bytes; expected at most {most:,}. Remedy: check the file."
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: is not text in UTF-8 (byte {error.start}). Remedy: export the file again."
        ) from None
