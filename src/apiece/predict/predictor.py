"""Model: pictures in, instances out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from apiece.core.frame import Frame
from apiece.core.image import read_image
from apiece.core.instances import Instances
from apiece.errors import ApieceError, GeometryError, UsageError
from apiece.models.card import ModelCard
from apiece.models.decode import decode
from apiece.predict.runtime import Runtime

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
    """

    path: Path
    image: RGB | None
    instances: Instances | None
    error: str | None
    empty: int = 0
    seconds: float = 0.0


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
        return self._segment([_as_image(picture)], self._threshold(threshold))[0][0]

    def predict(
        self,
        paths: Iterable[str | Path],
        *,
        threshold: float | None = None,
        batch: int = 1,
        keep_images: bool = False,
    ) -> Iterator[Result]:
        """Results in the order of `paths`, one at a time.

        A file that can't be read gives a Result with `error`; the rest goes on. The next pictures are read in the
        background while the network runs; at most two batches are held in memory.
        batch  pictures of one run of the network: worth it on accelerators, seldom on a CPU.
        """
        if batch < 1:
            raise UsageError(f"batch: expected at least 1, got {batch}")
        lowest = self._threshold(threshold)
        with ThreadPoolExecutor(max_workers=1) as reader:
            waiting: deque[tuple[Path, Future[RGB | str]]] = deque()
            source = iter(map(Path, paths))
            while True:
                while len(waiting) < 2 * batch and (path := next(source, None)) is not None:
                    waiting.append((path, reader.submit(_read, path)))
                if not waiting:
                    return
                group = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
                yield from self._finish(
                    [(path, future.result()) for path, future in group], lowest, keep_images
                )

    def _finish(self, group: list[tuple[Path, RGB | str]], threshold: float, keep: bool) -> Iterator[Result]:
        good = [(path, image) for path, image in group if not isinstance(image, str)]
        started = time.perf_counter()
        failure: str | None = None
        found: list[tuple[Instances, int]] = []
        if good:
            try:
                found = self._segment([image for _, image in good], threshold)
            except (ApieceError, MemoryError) as error:
                failure = str(error) or type(error).__name__
        seconds = (time.perf_counter() - started) / max(len(good), 1)
        outcome = iter(found)
        for path, image in group:
            if isinstance(image, str):
                yield Result(path, None, None, image)
            elif failure is not None:
                yield Result(path, None, None, f"{path}: {failure}")
            else:
                instances, empty = next(outcome)
                yield Result(path, image if keep else None, instances, None, empty, seconds)

    def _threshold(self, threshold: float | None) -> float:
        value = self.card.threshold if threshold is None else threshold
        if not 0.0 < value <= 1.0:
            raise UsageError(f"threshold: expected a score above 0 and at most 1, got {value}")
        return value

    def _segment(self, images: Sequence[RGB], threshold: float) -> list[tuple[Instances, int]]:
        card = self.card
        frames = [Frame.letterbox((image.shape[0], image.shape[1]), card.input_size) for image in images]
        inputs = np.stack([frame.apply(image) for frame, image in zip(frames, images, strict=True)])
        candidates = self.runtime(inputs)
        out = []
        for i, frame in enumerate(frames):
            decoded = decode(
                candidates, i, frame, card.classes, threshold=threshold, boxes_from=card.boxes_from
            )
            out.append((decoded.instances, decoded.empty))
        return out


def _read(path: Path) -> RGB | str:
    """A picture, or the sentence that says why not."""
    try:
        return read_image(path)
    except ApieceError as error:
        return str(error)
    except MemoryError:
        return f"{path}: not enough memory to decode it. Cut the picture into tiles."


def _as_image(picture: str | Path | RGB) -> RGB:
    if isinstance(picture, str | Path):
        return read_image(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise GeometryError(
            f"expected a picture as uint8 (height, width, 3), RGB; got {picture.dtype} {picture.shape}. "
            "read_image makes one from any file."
        )
    return picture
