"""Seams: the objects of overlapping tiles put together, so that none is cut, lost or counted twice.

Pure geometry on masks in the picture's pixels. The rule, and why (docs/decisions/0014-seams.md):

1. *View*: an object as one tile saw it. A view is *cut* where it comes within `margin` pixels of an inner edge of its
   tile; otherwise it is *whole*. Networks are unreliable along such edges, hence the margin.
2. *Same object*: two views of one class from two tiles are compared in the zone that both tiles saw, less the margin.
   They are one object where they agree on at least as many pixels as they dispute, 2 · |a ∩ b| >= |a ∪ b|, that is
   IoU >= 1/2. Pairs are taken one to one for each pair of tiles, the greatest surplus of agreed pixels first. Of cut
   views on both sides one may also contain the other (three quarters of its part in the zone): a ring's two arms in
   one tile, joined by the next.
3. *Chains* join no different objects: a group never takes in two views of one tile, unless both are cut and do not
   touch: what a tile told apart stays apart.
4. *Shape*: a group's object is its deepest whole view, alone, if no other view knows of parts beyond that tile. Without
   one it is the union of the views, where pixels in a tile's margin count only if no other tile of the group saw them
   outside its own.
5. *Leftovers* are dropped, and counted: cut views of what another tile had wholly before it without seeing such an
   object; objects that a tile in which they lie deeper did not see, unless their score, in proportion of the depths
   d / (d + deeper), still reaches the threshold; and objects half of whose pixels better ones cover, unless a tile saw
   both on those pixels. Without the second rule an area that two tiles see would get two chances for every doubtful
   object, and counts would grow with the overlap.

Rows of tiles are added from top to bottom. Objects that no later tile can meet are finished at once, so the working
set is that of a row or two of tiles and of objects that reach further.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from apiece.core.classes import ClassMap
from apiece.core.instances import Instances
from apiece.core.masks import Masks
from apiece.errors import GeometryError
from apiece.predict.tiles import FAR, Window

Int = NDArray[np.int64]
_Order: TypeAlias = tuple[int, int]  # a tile's number, and that of an object in it
CONTAINED = 0.75  # of a cut view's part in the zone, for it to be a piece of the other
COVERED = 0.5  # of an object by better ones, for it to be a leftover
CHUNK = 4096  # objects whose overlaps are looked for at a time


@dataclass(frozen=True, eq=False)
class TileView:
    """What one tile saw.

    window     the tile.
    found      its objects, in the whole picture's pixels.
    truncated  the network's slots were all used, so that there may be more objects.
    empty      candidates over the threshold without a pixel.
    runs       of the network that it took.
    """

    window: Window
    found: Instances
    truncated: bool = False
    empty: int = 0
    runs: int = 1


@dataclass(frozen=True, eq=False)
class Sewn:
    """The objects of a picture.

    instances  by score.
    whole      bool (N,), whether some tile saw the object whole; otherwise it was put together from cut views.
    fragments  leftovers that were dropped (rule 5).
    """

    instances: Instances
    whole: NDArray[np.bool_]
    fragments: int


class Seams:
    """Takes the tiles of a picture in, row by row; `finish` gives its objects.

    size    (height, width) of the picture.
    margin  pixels along a tile's inner edges where its network is not believed, at least 1.
    threshold  lowest score of an object; the tiles' objects reach it.
    """

    def __init__(self, size: tuple[int, int], classes: ClassMap, margin: int, threshold: float) -> None:
        self.size, self.classes, self.margin, self.threshold = size, classes, margin, threshold
        self.fragments = 0
        self._live: list[_Tile] = []
        self._windows: list[Window] = []  # of tiles whose verdict counts for objects that are still open
        self._edges = _edges([], size)
        self._groups: dict[_View, list[_View]] = {}  # only for groups of several
        self._shared: list[tuple[list[tuple[_Order, _Order]], Masks]] = []
        self._parts: list[_Part] = []
        self._numbers: dict[_Order, int] = {}  # finished objects' numbers, for views in `_shared`
        self._finished = 0
        self._tiles = 0

    @property
    def waiting(self) -> int:
        """Tiles that still hold an object that a later tile may meet."""
        return len(self._live)

    def add(self, views: Iterable[TileView], next_top: int) -> None:
        """Take in a row of tiles.

        views     of the tiles of a row; windows of any sizes.
        next_top  first row of pixels that the next row of tiles sees; the picture's height after the last.
        raises    GeometryError if a view is of another picture.
        """
        pairs: list[_Pair] = []
        for view in views:
            if view.found.size != self.size or view.found.classes != self.classes:
                raise GeometryError(
                    f"a tile's objects lie on {view.found.size} with {view.found.classes}; expected {self.size} with "
                    f"{self.classes}. Remedy: shift its masks onto the whole picture."
                )
            tile = _Tile(self._tiles, view, self.size, self.margin)
            self._tiles += 1
            for other in self._live:
                pairs += self._compare(other, tile)
            if not view.truncated:
                self._windows.append(view.window)
            if len(view.found):
                self._note_shared(tile)
                self._live.append(tile)
        self._join(pairs)
        self._close(next_top)

    def finish(self) -> Sewn:
        """All objects, after the last row."""
        self._close(self.size[0])
        if not self._parts:
            nothing = Instances.empty(self.size, self.classes)
            return Sewn(nothing, np.zeros(0, np.bool_), self.fragments)
        found = Instances.concatenate([part.found for part in self._parts])
        whole = np.concatenate([part.whole for part in self._parts])
        trust = np.concatenate([part.trust for part in self._parts])
        self._parts.clear()  # a copy less while leftovers are looked for
        kept = self._without_leftovers(found, whole, trust)
        self.fragments += len(found) - len(kept)
        order = kept[np.argsort(-found.scores[kept], kind="stable")]
        return Sewn(found[order], whole[order], self.fragments)

    # ---- which views are of one object

    def _compare(self, a: _Tile, b: _Tile) -> list[_Pair]:
        """Views of two tiles that share pixels and a class."""
        zone = a.window.common(b.window)
        if zone is None:
            return []
        near_a, near_b = a.near(zone), b.near(zone)
        if not near_a.size or not near_b.size:
            return []
        masks_a, masks_b = _seen(a, near_a, zone), _seen(b, near_b, zone)
        shared = masks_a.intersection(masks_b).tocoo()
        if not shared.nnz:
            return []
        row, column = shared.row, shared.col
        counts = np.stack([shared.data, masks_a.areas[row], masks_b.areas[column]])
        inner = zone.inside(self.size, self.margin)
        if inner.width and inner.height:
            x, y = inner.x - zone.x, inner.y - zone.y
            inner_a, inner_b = (
                masks.crop_to(x, y, x + inner.width, y + inner.height) for masks in (masks_a, masks_b)
            )
            reliable = (inner_a.areas[row] > 0) & (inner_b.areas[column] > 0)
            within = inner_a.intersection(inner_b).tocoo()
            # Pairs within the smaller zone are some of those in the larger one.
            picked = np.zeros(len(row), np.int64)
            keys = row.astype(np.int64) * len(near_b) + column
            order = np.argsort(keys)
            at = np.searchsorted(keys[order], within.row.astype(np.int64) * len(near_b) + within.col)
            picked[order[at]] = within.data
            better = np.stack([picked, inner_a.areas[row], inner_b.areas[column]])
            counts = np.where(reliable, better, counts)
        same = a.found.class_ids[near_a[row]] == b.found.class_ids[near_b[column]]
        out = []
        for k in np.flatnonzero(same & (counts[0] > 0)).tolist():
            i, j = int(near_a[row[k]]), int(near_b[column[k]])
            both, in_a, in_b = counts[:, k].tolist()
            contained = both >= CONTAINED * min(in_a, in_b) and a.cut[i] and b.cut[j]
            surplus = 3 * both - in_a - in_b  # 2 · |a ∩ b| - |a ∪ b|
            if surplus >= 0 or contained:
                out.append(_Pair(surplus, both, _View(a, i), _View(b, j)))
        return out

    def _join(self, pairs: Sequence[_Pair]) -> None:
        """Unite the views of one object (rules 2 and 3)."""
        taken: set[tuple[_View, int]] = set()
        for pair in sorted(pairs, key=lambda p: (-p.surplus, -p.shared, p.a.order, p.b.order)):
            if pair.surplus < 0:
                break
            sides = (pair.a, pair.b.tile.number), (pair.b, pair.a.tile.number)
            if sides[0] not in taken and sides[1] not in taken and self._unite(pair.a, pair.b):
                taken.update(sides)
        for pair in sorted(pairs, key=lambda p: (-p.shared, p.a.order, p.b.order)):
            # Also those that one-to-one pairing refused: an arm of a ring whose other arm was the better partner.
            if pair.a.is_cut and pair.b.is_cut:
                self._unite(pair.a, pair.b)

    def _unite(self, a: _View, b: _View) -> bool:
        first, second = self._groups.get(a, [a]), self._groups.get(b, [b])
        if first is second:
            return True
        by_tile = defaultdict(list)
        for view in first:
            by_tile[view.tile.number].append(view)
        for view in second:
            for other in by_tile[view.tile.number]:
                if not (view.is_cut and other.is_cut) or _touch(view.tile.found.masks, view.at, other.at):
                    return False
        united = [*first, *second]
        for view in united:
            self._groups[view] = united
        return True

    # ---- objects that no later tile can meet

    def _close(self, next_top: int) -> None:
        self._edges = _edges(self._windows, self.size)
        done: list[_Object] = []
        for tile in self._live:
            for i in np.flatnonzero(tile.open & (tile.boxes[:, 3] <= next_top)).tolist():
                if not tile.open[i]:  # closed with a group that holds two of this tile's views
                    continue
                group = self._groups.get(_View(tile, i), [_View(tile, i)])
                if all(view.tile.boxes[view.at, 3] <= next_top for view in group):
                    for view in group:
                        view.tile.open[view.at] = False
                        self._groups.pop(view, None)
                    settled = self._settled(group)
                    if settled is None:
                        self.fragments += 1
                    else:
                        done.append(settled)
        self._keep(done)
        self._live = [tile for tile in self._live if tile.open.any()]
        top = min((int(tile.boxes[tile.open, 1].min()) for tile in self._live), default=next_top)
        self._windows = [window for window in self._windows if window.bottom > min(top, next_top)]

    def _settled(self, group: list[_View]) -> _Object | None:
        """What the views of one object come to (rule 4), or None where another tile knows better (rule 5)."""
        view, masks = self._whole_view(group), None
        if view is not None:
            share = self._share_of_trust(view.box, view.depth, cut=False)
        else:
            view = max(group, key=lambda view: (view.area, view.order))
            box = view.box
            if len(group) > 1:
                masks = _union(group, self.size, self.margin)
                if masks.areas[0] == 0:
                    return None
                box = np.concatenate([masks.offsets[0], masks.offsets[0] + masks.shapes[0, ::-1]])
            share = self._share_of_trust(box, view.depth, cut=True)
        if share < 1 and view.score * share < self.threshold:
            return None
        return _Object(view, masks, view.score * share, group)

    def _keep(self, done: Sequence[_Object]) -> None:
        """Add finished objects to the results; one Instances for all of them, as each costs kilobytes of its own."""
        alone: dict[_Tile, list[_Object]] = defaultdict(list)
        for one in done:
            if one.masks is None:
                alone[one.view.tile].append(one)
        parts = [tile.found[[one.view.at for one in some]] for tile, some in alone.items()]
        order = [one for some in alone.values() for one in some]
        for one in done:
            if one.masks is not None:
                parts.append(_drawn(one.view, one.masks))
                order.append(one)
        if not order:
            return
        for number, one in enumerate(order, self._finished):
            for view in one.group:
                if view.at in view.tile.overlapped:
                    self._numbers[view.order] = number
        self._finished += len(order)
        whole = np.array([one.masks is None and not one.view.is_cut for one in order], np.bool_)
        trust = np.array([one.trust for one in order], np.float64)
        self._parts.append(_Part(Instances.concatenate(parts), whole, trust))

    def _share_of_trust(self, box: NDArray[np.integer[Any]], depth: int, *, cut: bool) -> float:
        """By how much to believe in an object in spite of a tile that had it deeper before it and did not see it.

        1 where there is no such tile. (A tile that knew it as the same would be in its group, and its deeper view would
        be the one that asks.) A cut view is not believed at all against a tile that had all of it, clear of its margin.
        """
        depths = _depths_in(self._edges, box)
        deepest = int(depths.max(initial=-1))
        if cut:
            return 0.0 if deepest >= self.margin else 1.0
        return depth / (depth + deepest) if deepest > depth else 1.0

    def _whole_view(self, group: list[_View]) -> _View | None:
        """The deepest whole view beyond whose tile no other view knows of parts."""
        complete = [
            view
            for view in group
            if not view.is_cut
            and not any(_knows_more(other, view, self.size, self.margin) for other in group)
        ]
        return max(complete, key=lambda view: (view.depth, view.score, view.order), default=None)

    # ---- leftovers

    def _note_shared(self, tile: _Tile) -> None:
        """Remember which pixels two objects of one tile share: the network laid them there on purpose."""
        masks = tile.found.masks
        shared = masks.intersection(masks).tocoo()
        pairs: list[tuple[_Order, _Order]] = []
        pixels: list[Masks] = []
        for i, j in zip(shared.row.tolist(), shared.col.tolist(), strict=True):
            if i < j:
                tile.overlapped |= {i, j}
                pairs.append((_View(tile, i).order, _View(tile, j).order))
                pixels.append(_both(masks, i, j))
        if pairs:
            self._shared.append((pairs, Masks.concatenate(pixels)))

    def _without_leftovers(
        self, found: Instances, whole: NDArray[np.bool_], trust: NDArray[np.float64]
    ) -> Int:
        """Positions of the objects that better ones do not cover (rule 5)."""
        explained: dict[tuple[int, int], list[tuple[Masks, int]]] = defaultdict(list)
        for pairs, pixels in self._shared:
            for n, (a, b) in enumerate(pairs):
                i, j = self._numbers.get(a, -1), self._numbers.get(b, -1)
                if i != j and min(i, j) >= 0:
                    explained[min(i, j), max(i, j)].append((pixels, n))
        areas = found.masks.areas
        covers: dict[int, dict[int, int]] = {}
        for i, others in overlaps(found.masks):
            total = 0
            for j in others:
                pieces = explained.get((min(i, j), max(i, j)))
                if pieces:
                    meant = Masks.concatenate([pixels[n : n + 1] for pixels, n in pieces]).union()
                    others[j] = max(0, others[j] - int(meant.areas[0]))
                total += others[j]
            if total >= COVERED * areas[i]:
                covers[i] = others
        dropped: set[int] = set()
        # From the worst on, an object yields to the better ones that are kept; so the best are settled first.
        ranks = np.lexsort((np.arange(len(found)), -trust, ~whole))
        place = np.empty(len(found), np.int64)
        place[ranks] = np.arange(len(found))
        for i in sorted(covers, key=lambda n: int(place[n])):
            better = sum(n for j, n in covers[i].items() if place[j] < place[i] and j not in dropped)
            if better >= COVERED * areas[i]:
                dropped.add(i)
        return np.array([i for i in range(len(found)) if i not in dropped], np.int64)


class _Object(NamedTuple):
    """A finished object: that of `view`, or `masks` where it is put together from the views of its group."""

    view: _View
    masks: Masks | None
    trust: float
    group: list[_View]


class _Part(NamedTuple):
    found: Instances
    whole: NDArray[np.bool_]
    trust: NDArray[np.float64]  # the score, less where a tile in which it lay deeper did not see it


class _Tile:
    """A tile while some of its objects are open.

    boxes       int64 (N, 4), xyxy; depth: int64 (N,), from its inner edges; cut: bool (N,), depth under the margin.
    open        bool (N,), objects that are not finished.
    overlapped  objects that share pixels with another of this tile.
    """

    def __init__(self, number: int, view: TileView, size: tuple[int, int], margin: int) -> None:
        self.number, self.window, self.found = number, view.window, view.found
        masks = view.found.masks
        offsets = masks.offsets.astype(np.int64)
        self.boxes = np.hstack([offsets, offsets + masks.shapes[:, ::-1]])
        self.depth = view.window.depths(self.boxes, size)
        self.cut = self.depth < margin
        self.open = np.ones(len(masks), np.bool_)
        self.overlapped: set[int] = set()

    def near(self, zone: Window) -> Int:
        """Objects whose box meets the zone."""
        low = np.maximum(self.boxes[:, :2], (zone.x, zone.y))
        high = np.minimum(self.boxes[:, 2:], (zone.right, zone.bottom))
        return np.flatnonzero((low < high).all(axis=1))


class _View(NamedTuple):
    """Object `at` of a tile."""

    tile: _Tile
    at: int

    @property
    def order(self) -> _Order:
        """By tile, then by the tile's own order."""
        return self.tile.number, self.at

    @property
    def box(self) -> Int:
        """int64 (4,), xyxy."""
        box: Int = self.tile.boxes[self.at]
        return box

    @property
    def is_cut(self) -> bool:
        """Whether it comes within the margin of an inner edge of its tile."""
        return bool(self.tile.cut[self.at])

    @property
    def depth(self) -> int:
        """Pixels from the nearest inner edge of its tile."""
        return int(self.tile.depth[self.at])

    @property
    def score(self) -> float:
        return float(self.tile.found.scores[self.at])

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.tile.found.masks.areas[self.at])


class _Pair(NamedTuple):
    """Two views that may be of one object: agreed less disputed pixels, and the agreed ones."""

    surplus: int
    shared: int
    a: _View
    b: _View


def _drawn(view: _View, masks: Masks) -> Instances:
    """One object of other pixels, with the class and score of a view."""
    one = view.tile.found[[view.at]]
    if "box_mask" in one.columns:  # a mask that stands for a box stays one
        height, width = masks.shapes[0].tolist()
        masks = Masks.from_crops([np.ones((height, width), np.bool_)], masks.offsets, masks.size)
    return Instances(masks.size, masks, one.class_ids, one.scores, classes=one.classes, columns=one.columns)


def _edges(windows: Sequence[Window], size: tuple[int, int]) -> Int:
    """x1, y1, x2, y2 of windows, int64 (N, 4); an edge that is the picture's border lies FAR out."""
    edges = np.array([(w.x, w.y, w.right, w.bottom) for w in windows], np.int64).reshape(-1, 4)
    edges[:, :2][edges[:, :2] <= 0] = -FAR
    edges[:, 2:][edges[:, 2:] >= (size[1], size[0])] = FAR
    return edges


def _depths_in(edges: Int, box: NDArray[np.integer[Any]]) -> Int:
    """How deep a box lies in each window of `_edges`, int64 (N,); below 0 where it reaches beyond."""
    depths: Int = np.hstack([box[:2] - edges[:, :2], edges[:, 2:] - box[2:]]).min(axis=1)
    return depths


def _seen(tile: _Tile, index: Int, zone: Window) -> Masks:
    """Objects of a tile as far as they lie in the zone, in the zone's own pixels."""
    return tile.found.masks[index].crop_to(zone.x, zone.y, zone.right, zone.bottom)


def _knows_more(other: _View, view: _View, size: tuple[int, int], margin: int) -> bool:
    """Whether another tile's view has parts beyond the tile in which `view` is whole.

    A cut view that runs over that tile's margin, where `view` ends, merely contradicts it: it is believed only where
    the parts beyond are large, more than half of `view`.
    """
    window, box = view.tile.window, other.tile.boxes[other.at]
    if other is view or window.depths(box[None], size)[0] >= 0:
        return False
    masks = other.tile.found.masks[[other.at]]
    within = int(masks.crop_to(window.x, window.y, window.right, window.bottom).areas[0])
    beyond = other.area - within
    if beyond == 0 or not other.is_cut or 2 * beyond > view.area:
        return beyond > 0
    inner = window.inside(size, margin)
    if not inner.width or not inner.height:
        return within == 0
    return int(masks.crop_to(inner.x, inner.y, inner.right, inner.bottom).areas[0]) == within


def _union(group: list[_View], size: tuple[int, int], margin: int) -> Masks:
    """The pixels of all views, less those in a tile's margin that another tile of the group saw outside its own."""
    boxes = np.array([view.tile.boxes[view.at] for view in group])
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    canvas = np.zeros((bottom - top, right - left), np.bool_)
    inner = {view.tile.number: view.tile.window.inside(size, margin) for view in group}
    for view, (x, y, right, bottom) in zip(group, boxes.tolist(), strict=True):
        crop = view.tile.found.masks.crop(view.at)
        own = Window(x, y, right - x, bottom - y)
        believed = np.ones(crop.shape, np.bool_)
        for number, window in inner.items():
            better = window.common(own)
            if number != view.tile.number and better is not None:
                believed[better.y - y : better.bottom - y, better.x - x : better.right - x] = False
        core = inner[view.tile.number].common(own)
        if core is not None:
            believed[core.y - y : core.bottom - y, core.x - x : core.right - x] = True
        canvas[y - top : bottom - top, x - left : right - left] |= crop & believed
    return Masks.from_crops([canvas], [(left, top)], size)


def _touch(masks: Masks, i: int, j: int) -> bool:
    """Whether two masks share a pixel, a pixel's edge or its corner."""
    x, y = (masks.offsets[i] - 1).tolist()
    grown = cv2.dilate(np.pad(masks.crop(i), 1).view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    return bool(_overlap(grown, (x, y), masks.crop(j), tuple(masks.offsets[j].tolist()))[0].any())


def _both(masks: Masks, i: int, j: int) -> Masks:
    """The pixels that belong to both, as one mask."""
    places = [tuple(masks.offsets[k].tolist()) for k in (i, j)]
    pixels, corner = _overlap(masks.crop(i), places[0], masks.crop(j), places[1])
    return Masks.from_crops([pixels], [corner], masks.size)


def _overlap(
    a: NDArray[np.bool_], at_a: tuple[int, int], b: NDArray[np.bool_], at_b: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """a & b of two bitmaps with their top-left pixels (x, y), and that of the result, which may have no pixel."""
    own_a, own_b = (Window(*at, bitmap.shape[1], bitmap.shape[0]) for bitmap, at in ((a, at_a), (b, at_b)))
    common = own_a.common(own_b)
    if common is None:
        return np.zeros((0, 0), np.bool_), at_a
    parts = [
        bitmap[common.y - own.y : common.bottom - own.y, common.x - own.x : common.right - own.x]
        for bitmap, own in ((a, own_a), (b, own_b))
    ]
    return parts[0] & parts[1], (common.x, common.y)


def overlaps(masks: Masks) -> Iterator[tuple[int, dict[int, int]]]:
    """Every object that shares pixels with others, and how many with each; CHUNK objects at a time."""
    order = np.argsort(masks.offsets[:, 1], kind="stable")
    tops = masks.offsets[:, 1].astype(np.int64)
    bottoms = tops + masks.shapes[:, 0]
    for begin in range(0, len(order), CHUNK):
        some = order[begin : begin + CHUNK]
        near = np.flatnonzero((tops < bottoms[some].max()) & (bottoms > tops[some].min()))
        shared = masks[some].intersection(masks[near]).tocoo()
        i, j = some[shared.row], near[shared.col]
        found: dict[int, dict[int, int]] = defaultdict(dict)
        for a, b, pixels in zip(
            i[i != j].tolist(), j[i != j].tolist(), shared.data[i != j].tolist(), strict=True
        ):
            found[a][b] = pixels
        yield from found.items()
