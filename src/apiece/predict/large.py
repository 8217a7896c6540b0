"""Pictures of any size: tiles through the network, seams put together, finished rows kept for resuming."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from apiece.core.frame import Frame
from apiece.core.image import DEFAULT_LIMITS, ImageLimits
from apiece.core.instances import Instances
from apiece.core.windows import Windows, open_windows
from apiece.errors import UsageError
from apiece.predict.across_scales import merge_scales
from apiece.predict.scale import STRIDE, Scale, choose_scale, default_overlap, margin_of, tile_size
from apiece.predict.seams import Seams, Sewn, TileView
from apiece.predict.tile_store import TileStore
from apiece.predict.tiles import Layout, Window, quarters

if TYPE_CHECKING:
    from apiece.predict.predictor import Model

RGB = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
SPLITS = 3  # times that a tile is divided when the network's slots do not suffice


@dataclass(frozen=True, eq=False)
class Tiled:
    """What became of a large picture.

    instances  its objects by score; `truncated` where `full` names a place.
    scales     pixels of the network's input per pixel of the picture, one or several.
    why        how the scale was chosen, one sentence.
    tiles      runs of the network, those of an interrupted run before and of divided tiles included; 1 where the
               picture was segmented as a whole.
    fragments  leftovers that were dropped: pieces of objects that another tile (or scale) saw better.
    full       places where even the smallest parts of tiles filled the network's slots, so that objects are missing.
    empty      candidates over the threshold whose mask had no pixel.
    seconds    of all of it.
    """

    instances: Instances
    scales: tuple[float, ...]
    why: str
    tiles: int
    fragments: int
    full: tuple[Window, ...]
    empty: int
    seconds: float


class ArrayWindows(Windows):
    """A picture in memory, uint8 (H, W, 3) RGB, as `open_windows` gives one of a file."""

    def __init__(self, image: RGB, name: str = "the picture") -> None:
        digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).data).hexdigest()
        super().__init__(name, (image.shape[0], image.shape[1]), None, digest, DEFAULT_LIMITS)
        self._image = image

    def _read(self, x: int, y: int, width: int, height: int) -> RGB:
        return self._image[y : y + height, x : x + width]


def segment_large(
    model: Model,
    picture: str | Path | RGB | Windows,
    *,
    threshold: float,
    scale: float | None,
    object_size: float | None,
    microns: float | None,
    scales: Sequence[float],
    overlap: int | None,
    offset: tuple[int, int],
    store: Path | None,
    progress: Progress | None,
    page: int | None,
    limits: ImageLimits | None,
) -> Tiled:
    """See `Model.segment_large`."""
    started = time.perf_counter()
    opened: AbstractContextManager[Windows]
    if isinstance(picture, Windows):
        opened = nullcontext(picture)
    elif isinstance(picture, str | Path):
        opened = open_windows(picture, page=page, limits=limits)
    else:
        opened = ArrayWindows(picture)
    with opened as windows:
        base = choose_scale(
            model.card,
            scale=scale,
            object_size=object_size,
            microns=microns,
            file_microns=windows.microns,
        )
        if not scales or len(set(scales)) < len(scales) or not all(0 < factor < np.inf for factor in scales):
            raise UsageError(f"scales: expected different numbers above 0, got {list(scales)}.")
        asked = (scale, object_size, microns) != (None, None, None) or base.value != 1 or len(scales) > 1
        fits = all(a <= b for a, b in zip(windows.size, tile_size(model.card, 1.0), strict=True))
        if fits and not asked and tuple(scales) == (1,):
            frame = Frame.letterbox(windows.size, model.card.input_size)
            base = Scale(frame.scale, "the picture fits the network's input")
            passes = [_Pass(model, windows, threshold, frame.scale, overlap, offset, None)]
        else:
            passes = [
                _Pass(model, windows, threshold, base.value * factor, overlap, offset, store)
                for factor in scales
            ]
        total = sum(one.count for one in passes)
        done = 0
        sewn: list[Sewn] = []
        for one in passes:
            sewn.append(one.run(None if progress is None else _from(progress, done, total)))
            done += one.count
        for one in passes:
            one.remove_store()
    found, merged = sewn[0].instances, 0
    if len(passes) > 1:
        found, merged = merge_scales(sewn, [one.scale for one in passes])
    full = _places([window for one in passes for window in one.full])
    return Tiled(
        instances=_flagged(found, bool(full)),
        scales=tuple(one.scale for one in passes),
        why=base.why,
        tiles=sum(one.runs for one in passes),
        fragments=sum(part.fragments for part in sewn) + merged,
        full=full,
        empty=sum(one.empty for one in passes),
        seconds=time.perf_counter() - started,
    )


class _Pass:
    """A picture at one scale.

    count  tiles of its layout; after `run`: `runs` of the network, `empty` candidates, windows that stayed `full`.
    """

    def __init__(
        self,
        model: Model,
        windows: Windows,
        threshold: float,
        scale: float,
        overlap: int | None,
        offset: tuple[int, int],
        store: Path | None,
    ) -> None:
        card = model.card
        self.model, self.windows, self.threshold, self.scale = model, windows, threshold, scale
        self.overlap = default_overlap(card, scale) if overlap is None else overlap
        self.layout = Layout(windows.size, tile_size(card, scale), self.overlap, offset, STRIDE / scale)
        self.tops = self.layout.tops
        self.count = len(self.tops) * len(self.layout.lefts)
        self.margin = margin_of(scale, self.overlap)
        self.runs = self.empty = 0
        self.full: list[Window] = []
        self.store: TileStore | None = None
        if store is not None:
            self.store = TileStore(store, self._settings(), windows.size, card.classes)

    def run(self, progress: Progress | None) -> Sewn:
        """Every tile, then the objects."""
        seams = Seams(self.windows.size, self.model.card.classes, self.margin, self.threshold)
        ends = [*self.tops[1:], self.windows.size[0]]
        width = len(self.layout.lefts)
        for i, (top, end) in enumerate(zip(self.tops, ends, strict=True)):
            views = None if self.store is None else self.store.load(top)
            if views is None:
                views = []
                for n, tile in enumerate(self._row(top)):
                    views += tile
                    if progress is not None:
                        progress(i * width + n + 1, self.count)
                if self.store is not None:
                    self.store.save(top, views)
            elif progress is not None:
                progress((i + 1) * width, self.count)
            self.runs += sum(view.runs for view in views)
            self.empty += sum(view.empty for view in views)
            self.full += [view.window for view in views if view.truncated]
            seams.add(views, end)
        return seams.finish()

    def remove_store(self) -> None:
        if self.store is not None:
            self.store.remove()

    def _row(self, top: int) -> Iterator[list[TileView]]:
        """What each tile of a row saw; the next tile is read while the network runs."""
        reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="apiece-tile")
        try:
            ahead: deque[tuple[Window, Future[RGB]]] = deque()
            for window in self.layout.row(top):
                ahead.append((window, reader.submit(self.windows.read, *window)))
                if len(ahead) > 2:
                    yield self._look(*_first(ahead), SPLITS)
            while ahead:
                yield self._look(*_first(ahead), SPLITS)
        finally:
            reader.shutdown(cancel_futures=True)

    def _look(self, window: Window, image: RGB, splits: int, runs: int = 0) -> list[TileView]:
        """What a window shows; in quarters where the network's slots do not suffice for it.

        Quarters are shown at the same scale, with padding around them: enlarged, their objects would have another
        size than the network is to see.
        """
        frame = Frame(window.size, self.model.card.input_size, self.scale)
        seen = self.model.segment_frames([image], [frame], self.threshold)[0]
        runs += 1
        if seen.instances.truncated and splits:
            views: list[TileView] = []
            for part in quarters(window, self.overlap):
                x, y = part.x - window.x, part.y - window.y
                cut = np.ascontiguousarray(image[y : y + part.height, x : x + part.width])
                views += self._look(part, cut, splits - 1, runs)
                runs = 0
            if views:
                return views
        found = seen.instances
        moved = Instances(
            self.windows.size,
            found.masks.shift(window.x, window.y, self.windows.size),
            found.class_ids,
            found.scores,
            found.boxes + np.array([window.x, window.y] * 2, np.float32),
            classes=found.classes,
            columns=found.columns,
        )
        return [TileView(window, moved, found.truncated, seen.empty, runs)]

    def _settings(self) -> dict[str, Any]:
        """All that the tiles' objects depend on."""
        from apiece import __version__

        return {
            "apiece": __version__,
            "picture": self.windows.digest,
            "size": self.windows.size,
            "card": self.model.card.to_json(),
            "weights": _weights_digest(getattr(self.model.runtime, "path", None)),
            "threshold": self.threshold,
            "scale": self.scale,
            "tile": self.layout.tile,
            "overlap": self.overlap,
            "offset": self.layout.offset,
        }


def _first(ahead: deque[tuple[Window, Future[RGB]]]) -> tuple[Window, RGB]:
    window, future = ahead.popleft()
    return window, future.result()


def _weights_digest(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


def _flagged(found: Instances, truncated: bool) -> Instances:
    return Instances(
        found.size,
        found.masks,
        found.class_ids,
        found.scores,
        found.boxes,
        classes=found.classes,
        truncated=truncated,
        columns=found.columns,
    )


def _places(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Windows that meet become the smallest one that holds them, until none meet."""
    apart: list[Window] = []
    for window in windows:
        meeting = True
        while meeting:
            meeting = False
            for other in apart:
                if window.common(other) is not None:
                    apart.remove(other)
                    x, y = min(window.x, other.x), min(window.y, other.y)
                    right, bottom = max(window.right, other.right), max(window.bottom, other.bottom)
                    window, meeting = Window(x, y, right - x, bottom - y), True
                    break
        apart.append(window)
    return tuple(sorted(apart))
