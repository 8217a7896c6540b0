"""Pictures: what the truth's pictures are called, so that predictions find theirs by id, name or stem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from apiece.core.image import image_size
from apiece.data.label_folder import LABEL_ENDINGS, stem_of
from apiece.errors import AnnotationError
from apiece.evaluate.coco_scenes import as_key
from apiece.evaluate.scenes import Key, Size

ENDINGS = tuple(sorted((ending for ending in LABEL_ENDINGS if ending), key=len, reverse=True))


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of the ground truth, each at its place in `Scenes.image_ids`.

    keys    their ids.
    names   what they are called.
    paths   where they lie; None where that isn't known.
    sizes   (height, width) as the truth states it; None where it doesn't.
    source  what the user called the truth, for messages.
    """

    keys: tuple[Key, ...]
    names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    sizes: tuple[Size | None, ...]
    source: str

    def __len__(self) -> int:
        return len(self.keys)

    def by_id(self, value: object) -> int | None:
        """The place of the picture with this id; None if there is none."""
        key = as_key(value)
        return None if key is None else self._by_id.get(key)

    def by_number(self, number: int) -> int | None:
        """The place of the only picture whose stem is this number, as 9 is of 000000000009.jpg."""
        places = self._by_number.get(number, ())
        return places[0] if len(places) == 1 else None

    def by_name(self, name: str) -> int | None:
        """The place of the picture that a path, file name or stem means; None if there is none.

        A path counts from its end: runs/a/x.jpg is a/x.jpg of the truth, or else x.jpg.
        raises  AnnotationError if it can be several.
        """
        for key in _tails(name):
            place = self._whole.get(key)
            if place is not None:
                return place
            places = self._known.get(key, ())
            if len(places) > 1:
                first, second = (self.names[i] for i in places[:2])
                raise AnnotationError(
                    f"{self.source}: the predictions name a picture {name!r}, which can be {first!r} or {second!r}; "
                    "expected a name of one picture. Remedy: name pictures with their folders, or use ids."
                )
            if places:
                return places[0]
        return None

    def size(self, place: int) -> Size:
        """(height, width) of a picture, from its file where the truth doesn't state it.

        raises  AnnotationError where nothing tells it.
        """
        stated, path = self.sizes[place], self.paths[place]
        if stated is not None:
            return stated
        if path is None:
            raise AnnotationError(
                f"{self.source}: image {self.names[place]!r} has no height and width and its file wasn't found; they "
                "are needed to place predictions. Remedy: add them to `images`, or name the picture folder (--images)."
            )
        return image_size(path)

    @cached_property
    def _by_id(self) -> dict[Key, int]:
        return {key: place for place, key in enumerate(self.keys)}

    @cached_property
    def _by_number(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for place, name in enumerate(self.names):
            stem = PurePosixPath(name.replace("\\", "/")).stem
            if stem.isascii() and stem.isdigit() and len(stem) < 19:
                found.setdefault(int(stem), []).append(place)
        return found

    @cached_property
    def _whole(self) -> dict[str, int]:
        return {name.replace("\\", "/"): place for place, name in enumerate(self.names)}

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        known: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            pure = PurePosixPath(name.replace("\\", "/"))
            stem = stem_of(Path(pure.name))
            keys = (
                str(pure),
                pure.name,
                pure.stem,
                stem,
                str(pure.with_suffix("")),
                str(pure.with_name(stem)),
            )
            for key in dict.fromkeys(keys) if pure.name and stem else (name,):
                known.setdefault(key, []).append(place)
        # A label image without its picture (NAME_masks.tif) is found by the picture's name, too.
        labelled: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            pure = PurePosixPath(name.replace("\\", "/"))
            stem = stem_of(Path(pure.name))
            own = picture_stem(stem)
            if own != stem:
                for key in dict.fromkeys((own, str(pure.with_name(own)))):
                    labelled.setdefault(key, []).append(place)
        return labelled | known


def picture_stem(stem: str) -> str:
    """The stem of the picture that a label image of this stem is of: its own, without an ending such as _masks."""
    ending = next((ending for ending in ENDINGS if stem.endswith(ending) and stem != ending), "")
    return stem.removesuffix(ending)


def _tails(name: str) -> Iterator[str]:
    """A path's ends from the longest on, each as it is and without its suffix."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    for begin in range(len(parts)):
        tail = parts[begin:]
        stems = dict.fromkeys((tail[-1], stem_of(Path(tail[-1])), PurePosixPath(tail[-1]).stem))
        for last in stems:
            if last:
                yield "/".join([*tail[:-1], last])


def shown(names: list[str], most: int = 5) -> str:
    """The first names of a list, for messages."""
    return ", ".join(repr(name) for name in names[:most]) + (", …" if len(names) > most else "")
