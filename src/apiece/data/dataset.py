"""Dataset: pictures with their objects, read from disk one at a time when asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol, overload

import numpy as np

from apiece.core.classes import ClassMap
from apiece.core.image import image_size, read_image
from apiece.core.instances import Instances
from apiece.data.coco import CocoDataset, read_coco
from apiece.data.formats import Source, detect_format
from apiece.data.formats import open_source as open_annotations
from apiece.data.formats.coco_pictures import PictureFinder, picture_folders
from apiece.data.label_folder import Pair, is_label_folder, pair_files, read_labels, same_size
from apiece.data.sample import Sample
from apiece.errors import AnnotationError, DataError, did_you_mean

Size = tuple[int, int]
UNNAMED = ("object",)  # the classes of formats that name none


class Labels(Protocol):
    """Where a dataset's objects come from."""

    @property
    def classes(self) -> ClassMap:
        """The classes of the objects."""
        ...

    def read(self, index: int, size: Size) -> Instances:
        """The objects of picture `index` of the whole dataset, whose upright (height, width) is `size`."""
        ...


@dataclass(frozen=True)
class LabelImages:
    """Objects from label images, all of one class."""

    pairs: tuple[Pair, ...]
    classes: ClassMap

    def read(self, index: int, size: Size) -> Instances:
        """See Labels."""
        return read_labels(self.pairs[index], size, self.classes)


@dataclass(frozen=True, eq=False)
class CocoLabels:
    """Objects from a COCO document; `image_ids[i]` belongs to picture i, which lies at `paths[i]`."""

    coco: CocoDataset
    image_ids: tuple[int, ...]
    paths: tuple[Path, ...]

    @property
    def classes(self) -> ClassMap:
        """The document's categories."""
        return self.coco.classes

    def read(self, index: int, size: Size) -> Instances:
        """See Labels."""
        record = self.coco.image(self.image_ids[index])
        named = f"{self.coco.path}: image {record.id}"
        wrong = same_size(named, (record.height, record.width), self.paths[index], size)
        if wrong:
            raise AnnotationError(wrong)
        return self.coco.instances(record.id)


@dataclass(frozen=True, eq=False)
class SourceLabels:
    """Objects from annotations of any format; `places[i]` is the source's number of picture i."""

    source: Source
    places: tuple[int, ...]

    @property
    def classes(self) -> ClassMap:
        """The source's classes."""
        return self.source.classes

    def read(self, index: int, size: Size) -> Instances:
        """See Labels."""
        picture = self.source.pictures[self.places[index]]
        objects = self.source.read(self.places[index])
        wrong = same_size(
            f"{self.source.path}: {picture.name}", objects.size, picture.path or picture.name, size
        )
        if wrong:
            raise AnnotationError(wrong)
        return objects


@dataclass(frozen=True, eq=False)
class NamedLabels:
    """Objects of other labels in another class list; `places[c]` is where their class c is in it."""

    labels: Labels
    classes: ClassMap
    places: tuple[int, ...]

    def read(self, index: int, size: Size) -> Instances:
        """See Labels."""
        objects = self.labels.read(index, size)
        return Instances(
            objects.size,
            objects.masks,
            np.array(self.places, np.int64)[objects.class_ids],
            objects.scores,
            objects.boxes,
            classes=self.classes,
            track_ids=objects.track_ids,
            truncated=objects.truncated,
            columns=objects.columns,
        )


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[Sample]):
    """Pictures with their objects; `dataset[i]` reads one from disk, `dataset[2:9]` is a smaller dataset.

    paths      the pictures.
    image_ids  their numbers: those of the COCO document, or 1, 2, … in order of file name.
    labels     where the objects come from.
    rows       the place of each picture in `labels`.
    groups     one name a picture (laboratory, camera, background), for balanced sampling and for figures
               by group; None without groups.
    left_out   pictures and labels without a counterpart, which `allow_unlabelled=True` let pass.
    """

    paths: tuple[Path, ...]
    image_ids: tuple[int, ...]
    labels: Labels
    rows: tuple[int, ...]
    groups: tuple[str, ...] | None = None
    left_out: tuple[Path, ...] = field(default=())

    @classmethod
    def from_label_folder(
        cls,
        root: str | Path,
        class_name: str = "object",
        names: Collection[str] | None = None,
        *,
        allow_unlabelled: bool = False,
    ) -> Dataset:
        """A folder with `images/` and `labels/` (or `masks/`): one label image a picture, one class.

        names             file names or stems of the pictures wanted; None for all.
        allow_unlabelled  leave files without a counterpart out and list them in `left_out`. A picture
                          without a label image isn't a picture without objects: that one has an empty label.
        raises            DataError if counterparts are missing, or nothing is left.
        """
        pairing = pair_files(root, names)
        left_out = pairing.unlabelled + pairing.orphans
        if left_out and not allow_unlabelled:
            parts = []
            if pairing.unlabelled:
                parts.append(f"{_listed(pairing.unlabelled)} without a label image")
            if pairing.orphans:
                parts.append(f"label {_listed(pairing.orphans)} without a picture")
            raise DataError(
                f"{root}: {'; '.join(parts)}; expected a label image of the same stem for every picture. "
                "Remedy: add the missing files (an all-zero label where there is no object), or pass "
                "allow_unlabelled=True to leave them out."
            )
        pairs = pairing.pairs
        if not pairs:
            raise DataError(
                f"{root}: no picture with a label image. Remedy: check the subset and the folders."
            )
        return cls(
            paths=tuple(pair.picture for pair in pairs),
            image_ids=tuple(pair.image_id for pair in pairs),
            labels=LabelImages(pairs, ClassMap((class_name,))),
            rows=tuple(range(len(pairs))),
            left_out=left_out,
        )

    @classmethod
    def from_coco(
        cls,
        json: str | Path | CocoDataset,
        images_dir: str | Path,
        names: Collection[str] | None = None,
        *,
        allow_unlabelled: bool = False,
    ) -> Dataset:
        """A COCO document and the folder that its file names start from.

        json              the document, or one already read by read_coco.
        names             file names, paths or stems of the pictures wanted; None for all in the document.
        allow_unlabelled  leave out pictures that aren't in the folder, and list them in `left_out`.
        raises            AnnotationError as read_coco does; DataError if picture files are missing.
        """
        coco = json if isinstance(json, CocoDataset) else read_coco(json)
        folder = Path(images_dir)
        records = coco.images
        if names is not None:
            wanted = match_names([record.file_name for record in records], names, str(coco.path))
            records = tuple(record for record in records if record.file_name in wanted)
        nameless = [record.id for record in records if not record.file_name]
        if nameless:
            raise AnnotationError(
                f"{coco.path}: image {nameless[0]} has no file_name; expected the picture's path under {folder}."
                " Remedy: add it."
            )
        finder = PictureFinder([folder])
        found = [finder.find(record.file_name) for record in records]
        paths = [path or folder / record.file_name for path, record in zip(found, records, strict=True)]
        missing = tuple(path for path, there in zip(paths, found, strict=True) if there is None)
        if missing and not allow_unlabelled:
            raise DataError(
                f"{coco.path}: {_listed(missing)} not found; expected every image of the document under "
                f"{folder}. Remedy: name the right picture folder, or pass allow_unlabelled=True to leave "
                "them out."
            )
        absent = set(missing)
        present = [(path, record) for path, record in zip(paths, records, strict=True) if path not in absent]
        if not present:
            raise DataError(f"{coco.path}: no picture of it is in {folder}. Remedy: name the right folder.")
        kept, ids = tuple(path for path, _ in present), tuple(record.id for _, record in present)
        return cls(kept, ids, CocoLabels(coco, ids, kept), tuple(range(len(kept))), left_out=missing)

    @classmethod
    def from_source(
        cls, source: Source, names: Collection[str] | None = None, *, allow_unlabelled: bool = False
    ) -> Dataset:
        """Annotations of any format, as `apiece.data.formats.open_source` gives them.

        names             names, file names or stems of the pictures wanted; None for all.
        allow_unlabelled  leave out pictures whose file wasn't found, and list them in `left_out`.
        raises            DataError if picture files are missing, nothing is left, or two entries mean one file.
        """
        places = list(range(len(source.pictures)))
        if names is not None:
            wanted = match_names([picture.name for picture in source.pictures], names, str(source.path))
            places = [i for i in places if source.pictures[i].name in wanted]
        missing = tuple(Path(source.pictures[i].name) for i in places if source.pictures[i].path is None)
        if missing and not allow_unlabelled:
            raise DataError(
                f"{source.path}: {_listed(missing)} not found; expected every picture that is annotated. Remedy: "
                "name the picture folder, or pass allow_unlabelled=True to leave them out."
            )
        kept: list[int] = []
        paths: list[Path] = []
        entries: dict[Path, str] = {}
        for i in places:
            picture = source.pictures[i]
            if picture.path is None:
                continue
            twin = entries.setdefault(picture.path, picture.name)
            if twin != picture.name:
                raise DataError(
                    f"{source.path}: {twin!r} and {picture.name!r} both mean the file {picture.path}; expected a "
                    "file each. Remedy: name the right picture folder, or correct the names."
                )
            kept.append(i)
            paths.append(picture.path)
        if not kept:
            raise DataError(f"{source.path}: no picture of it was found. Remedy: name the picture folder.")
        return cls(
            tuple(paths),
            tuple(source.pictures[i].id for i in kept),
            SourceLabels(source, tuple(kept)),
            tuple(range(len(kept))),
            left_out=missing,
        )

    @property
    def classes(self) -> ClassMap:
        """The classes of the objects."""
        return self.labels.classes

    @property
    def names(self) -> tuple[str, ...]:
        """What the pictures are called where some are named: as the annotations have them, or by file name."""
        labels = self.labels
        while isinstance(labels, NamedLabels):
            labels = labels.labels
        if isinstance(labels, CocoLabels):
            return tuple(labels.coco.image(labels.image_ids[row]).file_name for row in self.rows)
        if isinstance(labels, SourceLabels):
            return tuple(labels.source.pictures[labels.places[row]].name for row in self.rows)
        return tuple(path.name for path in self.paths)

    @property
    def stems(self) -> tuple[str, ...]:
        """The pictures' file names without their suffix."""
        return tuple(path.stem for path in self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        """One sample, read from disk, or the dataset of a slice.

        raises  ImageError if the picture can't be decoded, AnnotationError if its labels don't fit it.
        """
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        image = read_image(self.paths[index])
        size = (int(image.shape[0]), int(image.shape[1]))
        instances = self.labels.read(self.rows[index], size)
        return Sample(image, instances, str(self.paths[index]), self.image_ids[index])

    def instances(self, index: int) -> Instances:
        """The objects of one picture, of which only the header is read."""
        return self.labels.read(self.rows[index], image_size(self.paths[index]))

    def select(self, indices: Iterable[int]) -> Dataset:
        """The dataset of some pictures, in the order given; one may come more than once."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            image_ids=tuple(self.image_ids[i] for i in chosen),
            rows=tuple(self.rows[i] for i in chosen),
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
        )

    def subset(self, names: Collection[str]) -> Dataset:
        """The pictures with these file names or stems, in the dataset's own order.

        raises  DataError naming the first name that no picture has.
        """
        wanted = match_names([path.as_posix() for path in self.paths], names, "dataset")
        return self.select(i for i, path in enumerate(self.paths) if path.as_posix() in wanted)

    def with_groups(self, groups: Mapping[str, str]) -> Dataset:
        """The same dataset with a group for every picture.

        groups  name, file name or stem → group name; other pictures may be in it, too.
        raises  DataError as `groups_of` does.
        """
        return replace(self, groups=groups_of(self.names, groups))

    def with_classes(self, classes: ClassMap) -> Dataset:
        """The same dataset with the classes of a list: each keeps its name, whatever its place was.

        raises  DataError naming the first class that isn't in the list.
        """
        unknown = [name for name in self.classes.names if name not in classes.names]
        if unknown:
            raise DataError(
                f"the class {unknown[0]!r} of the data is not among {list(classes.names)}; expected every class there. "
                f"{did_you_mean(unknown[0], classes.names)} Remedy: correct one of the two."
            )
        places = tuple(classes.names.index(name) for name in self.classes.names)
        return replace(self, labels=NamedLabels(self.labels, classes, places))


def open_dataset(
    path: str | Path,
    images: str | Path | None = None,
    subset: str | Path | None = None,
    *,
    format: str | None = None,
    class_name: str = "object",
    allow_unlabelled: bool = False,
) -> Dataset:
    """Open a dataset of any format.

    path        a file or folder of annotations; the formats are those of apiece.data.formats.FORMATS, and a folder
                with one COCO document (in it or in its `annotations/`) is COCO.
    images      the picture folder, where pictures lie elsewhere. For a COCO document without it, `images/`, a
                folder of the document's stem, and the document's own folder are tried, and the one that holds most
                pictures is taken.
    subset      a text file with a picture's file name or stem on each line; # starts a comment.
    format      the format's name; detected by default.
    class_name  what objects are called where the format names no class, as label images do.
    raises      DataError or AnnotationError if the layout isn't one of these, or as Dataset.from_* do.
    """
    path = Path(path)
    names = None if subset is None else read_subset(subset)
    if not path.exists():
        raise DataError(
            f"{path}: not found; expected a file or folder of annotations. Remedy: check the path."
        )
    if format is None:
        format = detect_format(path)
    if format == "labels" and images is None and is_label_folder(path):
        return Dataset.from_label_folder(path, class_name, names, allow_unlabelled=allow_unlabelled)
    if format == "coco":
        coco = read_coco(find_document(path))
        folder = Path(images) if images is not None else picture_folder(coco)
        return Dataset.from_coco(coco, folder, names, allow_unlabelled=allow_unlabelled)
    source = open_annotations(path, images, format)
    opened = Dataset.from_source(source, names, allow_unlabelled=allow_unlabelled)
    if opened.classes.names == UNNAMED:
        return replace(opened, labels=NamedLabels(opened.labels, ClassMap((class_name,)), (0,)))
    return opened


def read_subset(path: str | Path) -> tuple[str, ...]:
    """The names in a subset file, one a line; empty lines and what follows a # at a line's start are skipped."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a readable list of pictures ({getattr(error, 'strerror', None) or 'no UTF-8'}). "
            "Remedy: one name a line."
        ) from error
    names = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not names:
        raise DataError(f"{path}: lists no picture; expected one file name or stem a line. Remedy: add them.")
    return names


def find_document(path: Path) -> Path:
    """The COCO document that `path` stands for: itself, or the only one in a folder.

    raises  DataError if the folder holds none or several.
    """
    if path.is_file():
        return path
    found = [*sorted(path.glob("*.json")), *sorted(path.glob("annotations/*.json"))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(
            f"{path}: neither a label folder (images/ and labels/) nor a folder with a COCO document (.json). "
            "Remedy: name the document, or arrange the files in one of these ways."
        )
    raise DataError(f"{path}: holds {len(found)} documents: {_listed(found)}. Remedy: name the one you mean.")


def picture_folder(coco: CocoDataset) -> Path:
    """The likeliest picture folder of a document: the one that holds most of its pictures.

    Tried are `images/`, a folder of the document's stem and the document's own folder, there and one up.
    """
    document = Path(coco.path)
    names = [record.file_name for record in coco.images if record.file_name]
    stems = list(dict.fromkeys((document.stem, document.stem.removeprefix("instances_"))))
    folders = picture_folders(document, None, stems, names)
    if not folders:
        raise DataError(
            f"{document}: none of its {len(names)} pictures was found beside it or one folder up. "
            "Remedy: name the picture folder."
        )
    return folders[0]


def match_names(files: Sequence[str], names: Iterable[str], source: str) -> set[str]:
    """The files that paths, file names or stems stand for; a whole path stands for that file alone."""
    known = by_name(files)
    wanted: set[str] = set()
    for name in names:
        if name not in known:
            raise DataError(
                f"{source}: no picture is named {name!r}. {did_you_mean(name, known)[:400]} "
                "Remedy: correct the name in the subset."
            )
        wanted.update(known[name])
    return wanted


def groups_of(names: Sequence[str], groups: Mapping[str, str]) -> tuple[str, ...]:
    """The group of each picture.

    names   of all pictures, with their folders.
    groups  name, file name or stem → group; what else is in it doesn't matter.
    raises  DataError naming pictures without a group, and a key that would give one group to several pictures of
            different folders.
    """
    found: list[str] = []
    missing: list[str] = []
    known = by_name(names)
    for name in names:
        key = next((key for key in _keys(name) if key in groups), None)
        if key is None:
            missing.append(name)
        elif len(known[key]) > 1:
            first, second = known[key][:2]
            raise DataError(
                f"groups: {key!r} is the name of {len(known[key])} pictures, such as {first!r} and {second!r}. "
                "Remedy: give their paths."
            )
        else:
            found.append(str(groups[key]))
    if missing:
        shown = ", ".join(map(repr, missing[:5]))
        raise DataError(
            f"{len(missing)} of {len(names)} pictures have no group ({shown}{', …' if missing[5:] else ''}); "
            "expected one for every picture. Remedy: add their names or stems."
        )
    return tuple(found)


def by_name(names: Iterable[str]) -> dict[str, list[str]]:
    """Whole name, file name or stem → the whole names that it can mean, each once; a whole name means that alone."""
    known: dict[str, list[str]] = {}
    distinct = list(dict.fromkeys(names))
    for name in distinct:
        for key in _keys(name):
            known.setdefault(key, []).append(name)
    return known | {name: [name] for name in distinct}


def _keys(name: str) -> tuple[str, ...]:
    """What a picture can be called by: its whole name, also with slashes for backslashes, its file name, its stem."""
    pure = PurePosixPath(name.replace("\\", "/"))
    return tuple(dict.fromkeys((name, pure.as_posix(), pure.name, pure.stem)))


def _listed(paths: Sequence[Path], show: int = 5) -> str:
    names = ", ".join(path.name for path in paths[:show])
    more = len(paths) - show
    return f"{len(paths)} file{'s' if len(paths) != 1 else ''} ({names}{f' and {more} more' if more > 0 else ''})"
