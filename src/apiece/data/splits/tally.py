"""Tally: what is known of every picture of a data set before it is divided."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.data.dataset import Dataset, by_name, groups_of
from apiece.data.formats import Source
from apiece.errors import DataError

Int64 = NDArray[np.int64]
CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Tally:
    """Pictures by name, and their objects counted.

    names    as `--subset` takes them; sorted, each once.
    paths    of the files; None where a picture wasn't found.
    classes  of the objects.
    counts   int64 (N, C), objects of each class on each picture.
    pixels   int64 (N,), of each picture.
    groups   of the pictures where the data set has some.
    """

    names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    classes: ClassMap
    counts: Int64
    pixels: Int64
    groups: tuple[str, ...] | None = None

    @property
    def densities(self) -> NDArray[np.float64]:
        """Objects a megapixel, float64 (N,)."""
        return np.asarray(self.counts.sum(axis=1) * 1e6 / np.maximum(self.pixels, 1), np.float64)

    def strata(self) -> Int64:
        """Of each picture 0 where it is empty, else 1 to 4 by the quarter of the others that its density is in."""
        objects = self.counts.sum(axis=1)
        density = objects * 10**9 // np.maximum(self.pixels, 1)
        full = np.sort(density[objects > 0])
        edges = [int(full[len(full) * k // 4]) for k in (1, 2, 3)] if full.size else []
        return np.where(objects > 0, 1 + np.searchsorted(edges, density, side="right"), 0).astype(np.int64)

    def find(self, keys: Iterable[str]) -> list[int]:
        """The picture that each name, path, file name or stem means.

        raises  DataError naming the first that no picture or several have.
        """
        known, place = by_name(self.names), {name: i for i, name in enumerate(self.names)}
        found = []
        for key in keys:
            meant = known.get(PurePosixPath(key).as_posix()) or known.get(PurePosixPath(key).name, [])
            if len(meant) != 1:
                raise DataError(
                    f"{key!r} is the name of {len(meant) or 'no'} picture{'s' if len(meant) > 1 else ''} here; "
                    "expected one. Remedy: give names as the data set has them."
                )
            found.append(place[meant[0]])
        return found

    def grouped(self, groups: Mapping[str, str]) -> tuple[str, ...]:
        """The group of each picture; see `groups_of`."""
        return groups_of(self.names, groups)

    def copies(self) -> list[list[int]]:
        """Pictures whose files are the same byte by byte, each set in order. Only files of equal size are read."""
        sizes: dict[int, list[int]] = {}
        for i, path in enumerate(self.paths):
            if path is not None and path.is_file():
                sizes.setdefault(path.stat().st_size, []).append(i)
        found: dict[bytes, list[int]] = {}
        for same in sizes.values():
            for i in same if len(same) > 1 else ():
                path = self.paths[i]
                assert path is not None
                found.setdefault(_digest(path), []).append(i)
        return sorted(places for places in found.values() if len(places) > 1)


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    return digest.digest()


def tally(data: Dataset | Source, progress: Callable[[int, int], None] | None = None) -> Tally:
    """Count the objects of every picture; pictures themselves aren't decoded.

    progress  called with pictures done and of all.
    raises    DataError if there is no picture or one comes twice; as reading annotations does.
    """
    if isinstance(data, Dataset):
        names, paths = list(data.names), list[Path | None](data.paths)
    else:
        names, paths = [picture.name for picture in data.pictures], [p.path for p in data.pictures]
    if not names:
        raise DataError("there is no picture to divide. Remedy: name a data set with pictures.")
    order = sorted(range(len(names)), key=lambda i: names[i])
    for a, b in pairwise(order):
        if names[a] == names[b]:
            raise DataError(
                f"{names[a]!r} is there more than once; expected every picture once. Remedy: divide the data set "
                "before pictures are repeated."
            )
    counts = np.zeros((len(names), len(data.classes)), np.int64)
    pixels = np.zeros(len(names), np.int64)
    for row, i in enumerate(order):
        objects = data.instances(i) if isinstance(data, Dataset) else data.read(i)
        counts[row] = np.bincount(objects.class_ids, minlength=len(data.classes))
        pixels[row] = objects.size[0] * objects.size[1]
        if progress is not None:
            progress(row + 1, len(names))
    groups = data.groups if isinstance(data, Dataset) else None
    return Tally(
        tuple(names[i] for i in order),
        tuple(paths[i] for i in order),
        data.classes,
        counts,
        pixels,
        None if groups is None else tuple(groups[i] for i in order),
    )
