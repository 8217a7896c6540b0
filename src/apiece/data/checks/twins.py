"""Pictures that occur twice: the same bytes, or a near copy, turned or mirrored; within a split and across."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from apiece.data.checks.fingerprint import (
    BITS,
    FINE,
    NEAR,
    RGB,
    TURNS,
    Fingerprint,
    Float,
    copied,
    correlation,
    grey_square,
    turned,
    turned_bits,
)

CHUNK = 15  # bits that must agree without exception; 135 are 9 chunks, one of which agrees in any near copy
FAR = 40  # of the 135 bits, from which pictures aren't compared further
NEAREST = 4  # pictures that are compared pixel by pixel with a new one, at most
CROWDED = 2000  # pictures in one chunk's bucket, from which it says too little to be looked into

_WEIGHTS = 1 << np.arange(CHUNK, dtype=np.int64)


class Twin(NamedTuple):
    """An earlier picture that shows the same.

    key    of the earlier picture, as given to `Twins.add`.
    split  the earlier one's split.
    exact  whether the files are equal byte for byte.
    turn   how this one lies against it, "" for upright.
    alike  correlation of the two pictures, 1 for equal files.
    """

    key: int
    split: Hashable
    exact: bool
    turn: str
    alike: float


class Twins:
    """Collects pictures one by one, and tells of each which earlier ones it repeats.

    Near copies are sought by parts of their fingerprints that agree exactly (Norouzi, Punjani and Fleet 2012,
    "Fast search in Hamming space with multi-index hashing"), so that time grows nearly as the number of pictures.
    Copies of copies are compared with the first of them alone. Some 2.5 kB a picture are kept.

    reread  gives an earlier picture by its key, None if it can't be read any more.
    """

    def __init__(self, reread: Callable[[int], RGB | None]) -> None:
        self._reread = reread
        self._equal: dict[bytes, dict[Hashable, int]] = {}  # of equal files, the first of every split
        self._groups: list[dict[Hashable, int]] = []  # so of every group of near copies
        self._buckets: dict[int, list[int]] = {}
        self._first: list[tuple[int, int]] = []  # of every picture that is indexed: key and group
        self._bits = np.zeros((1024, BITS), np.bool_)
        self._thumbs: list[npt.NDArray[np.uint8]] = []

    def add(
        self, key: int, split: Hashable, digest: bytes, mark: Fingerprint | None, image: RGB | None
    ) -> Twin | None:
        """The earlier picture that this one repeats: of another split, if there is one; mostly None.

        key    any number of the caller's; distinct.
        mark   None to compare bytes alone.
        image  the picture itself, needed with `mark`.
        """
        equal = self._equal.get(digest)
        if equal is not None:
            other = _other(equal, split)
            twin = Twin(equal[other], other, True, "", 1.0)
            equal.setdefault(split, key)
            return twin
        self._equal[digest] = {split: key}
        found = None if mark is None or image is None else self._nearest(mark, image)
        if found is not None:
            group, turn, alike = found
            members = self._groups[group]
            other = _other(members, split)
            twin = Twin(members[other], other, False, TURNS[turn][3], alike)
            members.setdefault(split, key)
            return twin
        if mark is not None:
            self._insert(key, len(self._groups), mark)
            self._groups.append({split: key})
        return None

    def _insert(self, key: int, group: int, mark: Fingerprint) -> None:
        place = len(self._first)
        if place == len(self._bits):
            self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)])
        self._bits[place] = mark.bits
        self._first.append((key, group))
        self._thumbs.append(mark.thumb)
        for bucket in _chunks(mark.bits[None])[0].tolist():
            self._buckets.setdefault(bucket, []).append(place)

    def _nearest(self, mark: Fingerprint, image: RGB) -> tuple[int, int, float] | None:
        """(group, turn, correlation) of the picture that this one copies."""
        positions = turned_bits(mark.bits)
        candidates: list[tuple[int, int]] = []
        for turn, buckets in enumerate(_chunks(positions).tolist()):
            places = {
                place
                for bucket in buckets
                if len(held := self._buckets.get(bucket, ())) <= CROWDED
                for place in held
            }
            candidates += [(place, turn) for place in places]
        if not candidates:
            return None
        rows, turns = np.array(candidates).T
        distances = (self._bits[rows] ^ positions[turns]).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        likely = []
        for i in order[distances[order] <= FAR][: 4 * NEAREST].tolist():
            place, turn = candidates[i]
            alike = correlation(self._thumbs[place], turned(mark.thumb, turn))
            if alike >= NEAR:
                likely.append((-alike, turn, place))
        square: Float | None = None
        for _, turn, place in sorted(likely)[:NEAREST]:
            key, group = self._first[place]
            earlier = self._reread(key)
            if earlier is None:
                continue
            if square is None:
                square = grey_square(image, FINE)
            alike = copied(grey_square(earlier, FINE), np.ascontiguousarray(turned(square, turn), np.float32))
            if alike:
                return group, turn, alike
        return None


def _other(members: dict[Hashable, int], split: Hashable) -> Hashable:
    """A split but this one, if there is one among them."""
    return next((one for one in members if one != split), split)


def _chunks(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Each row's chunks as numbers, every chunk's range its own: int64 (N, 9)."""
    parts = bits.reshape(len(bits), -1, CHUNK) @ _WEIGHTS
    return np.asarray(parts + (np.arange(parts.shape[1]) << CHUNK), np.int64)
