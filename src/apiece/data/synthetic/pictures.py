"""Pictures of a scene: in memory, or of any size into a file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from apiece.core.instances import Instances
from apiece.data.sample import Sample
from apiece.data.synthetic.config import Scene
from apiece.data.synthetic.layout import Layout, lay_out
from apiece.data.synthetic.paint import Painter, ids_rows
from apiece.errors import ImageError, UsageError

BAND_PIXELS = 1 << 21  # painted at once: some 100 MB with all that is in between
STRIP_BYTES = 1 << 18
MOST_IDS = 2**24 - 1
DEFAULT = Scene()


def scene(
    rng: np.random.Generator, size: tuple[int, int], count: int, config: Scene = DEFAULT, *, ids: bool = False
) -> Sample:
    """A picture of exactly `count` objects, each with the pixels that can be seen.

    size     (height, width) in pixels.
    config   what the picture shows.
    ids      instead of a picture, every object in the colour of its number: R + 256 G + 65536 B is its place among
             the instances + 1, and 0 is ground.
    returns  the sample; column "visible" (float32) is the share of each object's own pixels that nothing hides. For
             whole objects under others, `lay_out(rng, size, count, config).amodal`.
    The same generator state gives the same sample; `large_scene` gives the same picture.
    raises   UsageError if a value can't be meant; GeometryError if no place is found for an object.
    """
    layout = lay_out(rng, size, count, config)
    return Sample(_rows(layout, ids)(0, layout.size[0]), layout.instances, "synthetic scene")


def large_scene(
    rng: np.random.Generator,
    path: str | os.PathLike[str],
    size: tuple[int, int],
    count: int,
    config: Scene = DEFAULT,
    *,
    ids: bool = False,
    band: int | None = None,
) -> Instances:
    """`scene` into an uncompressed TIFF that can be mapped to memory; memory grows with the objects' pixels alone.

    path     of the picture; it appears when it is whole, and an older file of that name is replaced.
    band     rows painted at once; by default as many as two million pixels. The file doesn't depend on it.
    returns  the objects, as those of `scene`.
    raises   as `scene`; ImageError if the file can't be written.
    """
    if band is not None and band < 1:
        raise UsageError(f"large_scene: band is {band}; expected 1 row or more.")
    layout = lay_out(rng, size, count, config)
    paint = _rows(layout, ids)
    height, width = layout.size
    step = band or max(16, BAND_PIXELS // width)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            written = tifffile.imwrite(
                temporary,
                shape=(height, width, 3),
                dtype=np.uint8,
                photometric="rgb",
                rowsperstrip=max(1, STRIP_BYTES // (3 * width)),
                metadata=None,
                returnoffset=True,
            )
            assert written is not None  # uncompressed data lies in one piece
            # Written, not mapped: mapped pages would count as this process's memory.
            with temporary.open("r+b") as file:
                file.seek(written[0])
                for top in range(0, height, step):
                    file.write(paint(top, min(height, top + step)).data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be written ({error.strerror}). Remedy: does its folder exist, and has the disk "
            f"{3 * height * width:,} bytes left?"
        ) from error
    return layout.instances


def _rows(layout: Layout, ids: bool) -> Callable[[int, int], NDArray[np.uint8]]:
    """What paints rows top to bottom."""
    if not ids:
        return Painter(layout).rows
    if len(layout.masks) > MOST_IDS:
        raise UsageError(f"scene: {len(layout.masks):,} objects; colours tell at most {MOST_IDS:,} apart.")
    return lambda top, bottom: ids_rows(layout.masks, top, bottom)
