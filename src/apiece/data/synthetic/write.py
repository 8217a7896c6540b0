"""A data set of synthetic scenes, on disk in any annotation format."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from apiece.core.image import write_image
from apiece.data.formats import Picture, format_of
from apiece.data.synthetic.config import Scene
from apiece.data.synthetic.pictures import DEFAULT, scene
from apiece.errors import DataError, UsageError

MOST_PIXELS = 200_000_000  # of a picture; larger ones are for large_scene


def write_synthetic(
    out: str | os.PathLike[str],
    pictures: int,
    size: tuple[int, int],
    count: int,
    seed: int = 0,
    config: Scene = DEFAULT,
    *,
    format: str = "coco",
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write a data set of `pictures` scenes, each of `size` with `count` objects.

    out       a folder that doesn't exist yet, or is empty. It appears when it is whole.
    seed      picture k depends on seed and k alone, so a longer set begins with the shorter one.
    format    of apiece.data.formats.FORMATS. What it can't hold (holes, hidden parts) is lost as in `convert`.
    progress  called with pictures done and of all.
    returns   what the user should know of the format's writing; mostly nothing.
    raises    UsageError if a value can't be meant or `out` is taken; GeometryError if no place is found for an object;
              DataError if files can't be written.
    """
    out = Path(out)
    if pictures < 1 or min(size) < 1 or size[0] * size[1] > MOST_PIXELS or seed < 0:
        raise UsageError(
            f"synthetic: {pictures} pictures of {size[0]} x {size[1]} with seed {seed}; expected 1 or more of 1 to "
            f"{MOST_PIXELS:,} pixels and a seed of 0 or more."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out}: exists already; expected a new name. Remedy: choose another, nothing is written over."
        )
    target_type = format_of(format).TARGET
    work = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    made = out.parent / f"{work.name}.pictures"
    try:
        try:
            work.mkdir(parents=True)
            made.mkdir()
        except OSError as error:
            raise DataError(f"{out}: cannot be made ({error.strerror}).") from None
        target = target_type(work, config.class_map)
        digits = max(4, len(str(pictures)))
        for number in range(1, pictures + 1):
            sample = scene(np.random.default_rng([seed, number]), size, count, config)
            path = made / f"{number:0{digits}d}.png"
            write_image(path, sample.image)
            target.add(Picture(path.name, path, number, sample.size), sample.instances)
            path.unlink()
            if progress is not None:
                progress(number, pictures)
        target.finish()
        if out.is_dir():
            out.rmdir()
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(made, ignore_errors=True)
    return target.notes
