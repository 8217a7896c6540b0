"""Bridges: several outlines as one ring, joined by lines of no width that lead there and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.spatial import Delaunay

Ring = NDArray[np.float64]
Int64 = NDArray[np.int64]


def joined(rings: Sequence[Ring]) -> Ring:
    """One ring (P, 2) that fills, by even and odd, what the rings (each (P, 2), three points or more) fill.

    Rings are joined as a tree, each by a bridge from corner to corner. A bridge is gone along there and back, between
    the same two points, so that both ways cross every line of pixels at the same place and cancel, whatever the
    bridge passes over: no pixel turns over. Bridges are as short as they can be together (the least spanning tree
    over the corners), since some programs draw them.
    """
    if len(rings) == 1:
        return rings[0]
    points = np.concatenate(rings)
    lengths = np.array([len(ring) for ring in rings])
    first = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(len(rings)), lengths)
    start, end = _bridges(points, owner)
    leaving: dict[int, list[tuple[int, int]]] = {}  # corner: bridges that leave it, by their far end
    for a, b in zip(start.tolist(), end.tolist(), strict=True):
        leaving.setdefault(a, []).append((a, b))

    # A walk around the first ring, that at each bridge goes around the ring beyond before it goes on.
    walk: list[int] = []
    begins, sizes, owners = first.tolist(), lengths.tolist(), owner.tolist()
    ways: list[tuple[int, int]] = [(0, 0)]  # (corner where the ring was entered, steps gone around it)
    while ways:
        entry, steps = ways.pop()
        begin, size = begins[owners[entry]], sizes[owners[entry]]
        while True:
            corner = begin + (entry - begin + steps) % size
            walk.append(corner)
            if steps == size:  # back at the entry: over the bridge, to where it began
                break
            waiting = leaving.get(corner)
            if waiting:
                ways.append((entry, steps))
                ways.append((waiting.pop()[1], 0))
                break
            steps += 1
    ring = points[walk[:-1]]
    moved = np.any(ring != np.roll(ring, 1, axis=0), axis=1)  # corners that two rings share follow each other
    return np.asarray(ring[moved], np.float64)


def _bridges(points: Ring, owner: Int64) -> tuple[Int64, Int64]:
    """Corners that bridges join, index into `points`: from the ring nearer to the first one, to the other."""
    places, place = np.unique(points, axis=0, return_inverse=True)
    place = place.reshape(-1)
    # The shortest tree over points uses Delaunay edges alone; corners at one place are neighbours too.
    mesh = Delaunay(places)
    corners = mesh.simplices.astype(np.int64)
    passed_over = mesh.coplanar[:, [0, 2]].astype(np.int64)  # with the corner nearest to each
    near = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]], passed_over])
    order = np.argsort(place, kind="stable")
    head = order[np.searchsorted(place[order], np.arange(len(places)))]  # one corner at each place
    same = order[1:][place[order[1:]] == place[order[:-1]]]
    a = np.concatenate([head[near[:, 0]], head[place[same]]])
    b = np.concatenate([head[near[:, 1]], same])
    return _tree(a, b, np.hypot(*(points[a] - points[b]).T), owner)


def _tree(a: Int64, b: Int64, length: NDArray[np.float64], owner: Int64) -> tuple[Int64, Int64]:
    """The shortest edges a–b that join all owners into a tree, each directed away from owner 0."""
    count = int(owner.max()) + 1
    between = owner[a] != owner[b]
    a, b, length = a[between], b[between], length[between]
    low, high = np.minimum(owner[a], owner[b]), np.maximum(owner[a], owner[b])
    pair = low * count + high
    best = np.lexsort((length, pair))
    best = best[np.diff(pair[best], prepend=-1) != 0]
    weights = coo_array((length[best] + 1, (low[best], high[best])), shape=(count, count))  # 0: no edge
    tree = minimum_spanning_tree(weights.tocsr()).tocoo()
    kept = best[np.searchsorted(pair[best], tree.row.astype(np.int64) * count + tree.col)]
    _, above = breadth_first_order(tree.tocsr(), 0, directed=False)
    away = above[owner[b[kept]]] == owner[a[kept]]
    return np.where(away, a[kept], b[kept]), np.where(away, b[kept], a[kept])
