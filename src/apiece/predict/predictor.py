"""Model: pictures in, instances out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from apiece.core.frame import Frame
from apiece.core.image import ImageLimits, read_image
from apiece.core.instances import Instances
from apiece.core.windows import Windows
from apiece.errors import ApieceError, GeometryError, UsageError
from apiece.models.card import ModelCard
from apiece.models.decode import Decoded, decode
from apiece.predict.runtime import Runtime

if TYPE_CHECKING:
    from apiece.predict.large import Tiled

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Result:
    """What became of one picture.

    path       as it was given.
    image      the picture, when `keep_images` asked for it.
    instances  its objects, or None when it failed.
    error      why it failed, one sentence that names the file, or None.
    empty      candidates over the threshold whose mask had no pixel, so that they are not among the objects.
    seconds    of network and decoding, this picture's share of its batch.
    tiled      how it was cut into tiles, when it was.
    """

    path: Path
    image: RGB | None
    instances: Instances | None
    error: str | None
    empty: int = 0
    seconds: float = 0.0
    tiled: Tiled | None = None


class Model:
    """A network with its card, ready for pictures.

    model(picture) takes a path or a uint8 (H, W, 3) RGB array and returns its Instances; `predict` goes through any
    number of files and never stops at a bad one.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @property
    def card(self) -> ModelCard:
        """Classes, licence, data, measured figures."""
        return self.runtime.card

    def __repr__(self) -> str:
        card = self.card
        return (
            f"Model({card.name!r}, {card.family}, classes {list(card.classes.names)}, licence {card.licence})"
        )

    def __call__(self, picture: str | Path | RGB, *, threshold: float | None = None) -> Instances:
        """Objects of one picture: a path, or uint8 (H, W, 3) RGB.

        threshold  lowest score; the card's by default.
        raises     ImageError or GeometryError when the picture can't be used.
        """
        lowest = self._threshold(threshold)
        return self._segment([_as_image(picture)], lowest)[0].instances

    def segment_large(
        self,
        picture: str | Path | RGB | Windows,
        *,
        threshold: float | None = None,
        scale: float | None = None,
        object_size: float | None = None,
        microns: float | None = None,
        scales: Sequence[float] = (1.0,),
        overlap: int | None = None,
        offset: tuple[int, int] = (0, 0),
        store: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        page: int | None = None,
        limits: ImageLimits | None = None,
    ) -> Tiled:
        """Objects of a picture of any size, by overlapping tiles; memory is that of a row of tiles and the objects.

        picture      a path (any picture; TIFF and Zarr are read by windows), uint8 (H, W, 3) RGB, or Windows.
        threshold    lowest score; the card's by default.
        scale        pixels of the network's input per pixel of the picture. Or, instead,
        object_size  typical diameter of an object in the picture's pixels: shown as large as in training; or
        microns      width of a pixel in µm, where the card states its own; by default what the file says. With
                     nothing known the scale is 1.
        scales       factors of that scale, each gone through; the results are merged (`merge_scales`).
        overlap      pixels that neighbouring tiles share; see `default_overlap`. An object that is larger is put
                     together from pieces.
        offset       (x, y) pixels by which the tiles are moved to the left and up.
        store        folder for finished rows of tiles: a run that was interrupted goes on from there, with the same
                     result. Its content is removed when all is done.
        progress     called with tiles done and tiles in all.
        page, limits as `open_windows`.

        A picture that fits one tile is segmented as a whole, as `model(picture)` does, if no scale is asked for. A tile
        in which the network finds all that it can is divided, so that no cap is met in silence: where even its
        smallest parts are full, the result is `truncated` and names the place.
        raises  UsageError, ImageError, GeometryError; DataError where the store can't be written.
        """
        # Imported late: it is not needed for a single picture.
        from apiece.predict.large import segment_large

        given = picture if isinstance(picture, str | Path | Windows) else _as_image(picture)
        return segment_large(
            self,
            given,
            threshold=self._threshold(threshold),
            scale=scale,
            object_size=object_size,
            microns=microns,
            scales=scales,
            overlap=overlap,
            offset=offset,
            store=store,
            progress=progress,
            page=page,
            limits=limits,
        )

    def predict(
        self,
        paths: Iterable[str | Path] | str | Path,
        *,
        threshold: float | None = None,
        batch: int = 1,
        keep_images: bool = False,
    ) -> Iterator[Result]:
        """Results in the order of `paths`, one at a time.

        A picture that can't be read or segmented gives a Result with `error`; the rest goes on. The next pictures
        are read in the background while the network runs; at most two batches are held in memory.
        batch   pictures of one run of the network: worth it on accelerators, seldom on a CPU.
        raises  UsageError for a threshold or batch that cannot be meant, before anything is read.
        """
        if batch < 1:
            raise UsageError(f"batch: expected at least 1, got {batch}")
        lowest = self._threshold(threshold)
        given = [paths] if isinstance(paths, str | Path) else paths
        return self._predict(map(Path, given), lowest, batch, keep_images)

    def _predict(self, paths: Iterator[Path], threshold: float, batch: int, keep: bool) -> Iterator[Result]:
        reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="apiece-read")
        try:
            waiting: deque[tuple[Path, Future[RGB | str]]] = deque()
            while True:
                while len(waiting) < 2 * batch and (path := next(paths, None)) is not None:
                    waiting.append((path, reader.submit(_read, path)))
                if not waiting:
                    return
                group = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
                yield from self._finish([(path, future.result()) for path, future in group], threshold, keep)
        finally:
            # Also when the caller stops early: what isn't being read yet never is.
            reader.shutdown(cancel_futures=True)

    def _finish(self, group: list[tuple[Path, RGB | str]], threshold: float, keep: bool) -> Iterator[Result]:
        """Results of pictures, or of the sentences that say why there is none, with one run of the network."""
        good = [image for _, image in group if not isinstance(image, str)]
        started = time.perf_counter()
        try:
            found = iter(self._segment(good, threshold) if good else [])
        except Exception as error:
            if len(group) > 1:  # one picture's failure is not its neighbours'
                for one in group:
                    yield from self._finish([one], threshold, keep)
            else:
                yield Result(group[0][0], None, None, _sentence(group[0][0], error))
            return
        seconds = (time.perf_counter() - started) / max(len(good), 1)
        for path, image in group:
            if isinstance(image, str):
                yield Result(path, None, None, image)
            else:
                instances, empty = next(found)
                yield Result(path, image if keep else None, instances, None, empty, seconds)

    def _threshold(self, threshold: float | None) -> float:
        value = self.card.threshold if threshold is None else threshold
        if not 0.0 < value <= 1.0:
            raise UsageError(f"threshold: expected a score above 0 and at most 1, got {value}")
        return value

    def segment_frames(
        self, images: Sequence[RGB], frames: Sequence[Frame], threshold: float
    ) -> list[Decoded]:
        """Objects of pictures uint8 (H, W, 3), each laid into the network's input by its frame; one run."""
        card = self.card
        inputs = np.stack([frame.apply(image) for frame, image in zip(frames, images, strict=True)])
        candidates = self.runtime(inputs)
        return [
            decode(
                candidates,
                i,
                frame,
                card.classes,
                threshold=threshold,
                boxes_from=card.boxes_from,
                box_masks=card.box_masks,
            )
            for i, frame in enumerate(frames)
        ]

    def _segment(self, images: Sequence[RGB], threshold: float) -> list[Decoded]:
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        frames = [Frame.letterbox(size, self.card.input_size) for size in sizes]
        return self.segment_frames(images, frames, threshold)


def _read(path: Path) -> RGB | str:
    """A picture, or the sentence that says why not."""
    try:
        return read_image(path)
    except Exception as error:
        return _sentence(path, error)


def _sentence(path: Path, error: Exception) -> str:
    """Why a picture failed. Whatever it was, a batch of thousands must name it and go on."""
    if isinstance(error, ApieceError):
        text = str(error)
        return text if str(path) in text else f"{path}: {text}"
    if isinstance(error, MemoryError):
        return f"{path}: not enough memory for it. Cut the picture into tiles."
    return f"{path}: failed with {type(error).__name__} ({' '.join(str(error).split())[:200]})."


def _as_image(picture: str | Path | RGB) -> RGB:
    if isinstance(picture, str | Path):
        return read_image(picture)
    if not isinstance(picture, np.ndarray):
        raise UsageError(
            f"expected one picture, a path or a uint8 (height, width, 3) array; got {type(picture).__name__}. "
            "For several files use model.predict(paths)."
        )
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise GeometryError(
            f"expected a picture as uint8 (height, width, 3), RGB; got {picture.dtype} {picture.shape}. "
            "read_image makes one from any file."
        )
    return picture
