"""A sheet of augmented pictures: what a recipe does to the data, to be looked at before hours are spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from apiece.core.draw import FONT, overlay
from apiece.core.image import write_image
from apiece.core.masks import Masks
from apiece.data.augment import (
    Augment,
    Blur,
    Compose,
    Flip,
    Jpeg,
    Mosaic,
    MotionBlur,
    Noise,
    ScaleCrop,
    drawn_from,
)
from apiece.data.augment.every import every_change
from apiece.data.augment.targets import is_crowd, lost_of
from apiece.data.dataset import open_dataset
from apiece.data.sample import Sample
from apiece.data.splits import groups_from_csv
from apiece.errors import DataError, UsageError

RGB = npt.NDArray[np.uint8]

TILE = 320  # longest side of a picture on the sheet, pixels
GAP = 8
LINE = 22  # height of a line of text, pixels
PAPER, INK, FAINT, WHITE = (236, 236, 236), (20, 20, 20), (90, 90, 90), (255, 255, 255)
CLOSE = 2  # how many times what is seen in single pixels is enlarged
TRIES = 30  # draws until a change shows
USUAL_SIZE = 384, 384  # of the frame without a recipe
HIDDEN = {"p", "size", "others", "fill", "flip", "horizontal", "vertical", "min_visible", "as_ignore"}


def show_augmented(
    data: str | Path,
    out: str | Path,
    recipe: str | Path | None = None,
    seed: int = 0,
    *,
    images: str | Path | None = None,
    subset: str | Path | None = None,
    format: str | None = None,
    columns: int = 4,
) -> Path:
    """Write a sheet of a dataset's augmented pictures, see `augmented_sheet` -> `out`.

    data     a dataset of any format; `images`, `subset` and `format` as for `open_dataset`.
    out      the picture to write, .png or .jpg.
    recipe   a training recipe, whose `augment` is shown, with partners by its `balance` and groups as far as these
             are of this data; every change that there is when None.
    raises   DataError as `open_dataset` does, or if no picture can be read; RecipeError; ImageError if `out` can't be
             written; UsageError if recipes can't be read for want of a package.
    """
    dataset = open_dataset(data, images, subset, format=format, allow_unlabelled=True)
    transform: Augment
    if recipe is None:
        transform = every_change(USUAL_SIZE, drawn_from(dataset))
    else:
        try:
            from apiece.train.augmentation import augmentation
            from apiece.train.balance import sampling_weights
            from apiece.train.recipe import read_recipe
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{recipe}: reading a recipe needs {error.name}. Run: pip install 'apiece[train]'"
            ) from None
        read = read_recipe(Path(recipe))
        if read.train.groups is not None:
            groups = groups_from_csv(read.train.groups)
            with suppress(DataError):  # where they are of other pictures
                dataset = dataset.with_groups(groups)
        balance = "plain" if read.balance == "group" and dataset.groups is None else read.balance
        transform = augmentation(read.augment, drawn_from(dataset, sampling_weights(balance, dataset)))
    write_image(Path(out), augmented_sheet(dataset, transform, seed, columns=columns))
    return Path(out)


def augmented_sheet(
    dataset: Sequence[Sample],
    transform: Augment,
    seed: int = 0,
    rows: int | None = None,
    columns: int = 4,
) -> RGB:
    """A sheet with a row for each change alone and a last one for all of them: uint8 (H, W, 3), RGB.

    A row has the picture as it would be without the change, at the left, and `columns` changed versions of it, with
    the outlines of their objects; white and dotted are those that are dropped, or left out as crowd regions. Changes
    of colour have outlines at the left only, and what shows in single pixels is seen close. Under each picture is how
    many objects it had and has. A change alone happens always, whatever its `p`; the last row has the recipe's own
    probabilities.

    dataset    from which each row takes a picture at random; those that can't be read are passed over.
    transform  a `Compose`, of whose steps those with a probability of 0 have no row; or a single change.
    seed       the same seed gives the same sheet.
    rows       the most rows of single changes; None for all.
    raises     UsageError if there is no picture or no column, or the seed is negative; DataError if none of the
               pictures that were tried can be read.
    """
    if len(dataset) == 0 or columns < 1 or seed < 0:
        raise UsageError(
            f"a sheet of {len(dataset)} pictures in {columns} columns with seed {seed}; expected at least one of "
            "each and a seed of 0 or more."
        )
    steps = transform.steps if isinstance(transform, Compose) else (transform,)
    frame = next((step for step in steps if isinstance(step, ScaleCrop | Mosaic)), None)
    alone = [step for step in steps if not _is_off(step)]
    made = [
        _row(dataset, _certain(step), frame, _described(step), [seed, number], columns)
        for number, step in enumerate(alone[:rows])
    ]
    if len(steps) > 1:
        made.append(_row(dataset, transform, frame, "all of it", [seed, len(steps)], columns))
    width = max(row.shape[1] for row in made)
    pages = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=PAPER[0]) for row in made
    ]
    return np.ascontiguousarray(np.concatenate(pages))


def _row(
    dataset: Sequence[Sample],
    step: Augment,
    frame: ScaleCrop | Mosaic | None,
    title: str,
    seed: list[int],
    columns: int,
) -> RGB:
    rng = np.random.default_rng(seed)
    original, versions = _versions(dataset, step, frame, rng, columns)
    close = isinstance(step, Blur | MotionBlur | Noise | Jpeg)
    tiles = [_tile(original, _counted(len(original.instances)), True, close)]
    for version in versions:
        still = version.instances is original.instances
        tiles.append(_tile(version, _told(original, version), not still, close))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    sheet = np.full((LINE + height + GAP, (width + GAP) * len(tiles) + GAP, 3), PAPER, np.uint8)
    _write(sheet, title, GAP, LINE - 6, INK)
    for place, tile in enumerate(tiles):
        left = GAP + place * (width + GAP)
        sheet[LINE : LINE + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _versions(
    dataset: Sequence[Sample],
    step: Augment,
    frame: ScaleCrop | Mosaic | None,
    rng: np.random.Generator,
    columns: int,
) -> tuple[Sample, list[Sample]]:
    """A picture and its changed versions; of those tried, one with objects that the change does something to."""
    unreadable: DataError | None = None
    best: tuple[Sample, list[Sample]] | None = None
    for _ in range(TRIES):
        try:
            sample = dataset[int(rng.integers(len(dataset)))]
            framed = sample
            if frame is not None:
                framed = ScaleCrop(frame.size, fill=frame.fill, min_visible=0.0)(sample, rng)
            # A change of the frame, or all of them, begin with the picture as read.
            begin = sample if step is frame or isinstance(step, Compose | ScaleCrop | Mosaic) else framed
            versions = [_changed(step, begin, rng) for _ in range(columns)]
        except DataError as error:
            unreadable = error
            continue
        best = framed, versions
        if len(sample.instances) and any(not _same(framed, version) for version in versions):
            break
    if best is None:
        assert unreadable is not None
        raise unreadable
    return best


def _changed(step: Augment, sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample after the change, drawn again where it happened to do nothing."""
    version = step(sample, rng)
    for _ in range(3):
        if not _same(sample, version):
            break
        version = step(sample, rng)
    return version


def _same(a: Sample, b: Sample) -> bool:
    return a.image.shape == b.image.shape and np.array_equal(a.image, b.image)


def _tile(sample: Sample, caption: str, outlines: bool, close: bool) -> RGB:
    """A picture at most `TILE` pixels a side, or a part of it enlarged, above its caption."""
    if close:
        return _close(sample, caption, outlines)
    scale = min(1.0, TILE / max(sample.size))
    size = max(1, round(sample.size[0] * scale)), max(1, round(sample.size[1] * scale))
    crowd = is_crowd(sample.instances)
    drawn = sample.instances[~crowd] if outlines else sample.instances[:0]
    picture = overlay(sample.image, drawn, fill=0, ids=False, max_side=TILE)
    for masks in (lost_of(sample).masks, sample.instances.masks[crowd]):
        _dotted(picture, masks.resize(size))
    return _captioned(picture, caption)


def _close(sample: Sample, caption: str, outlines: bool) -> RGB:
    """The surroundings of the object that lies nearest to the middle, enlarged."""
    middle = np.array(sample.size[::-1]) / 2
    if len(sample.instances):
        centres = sample.instances.boxes.reshape(-1, 2, 2).mean(axis=1)
        middle = centres[np.square(centres - middle).sum(axis=1).argmin()]
    side = TILE // CLOSE
    most = np.maximum(np.array(sample.size[::-1]) - side, 0)
    x, y = np.clip(np.rint(middle - side / 2), 0, most).astype(int).tolist()
    drawn = sample.instances if outlines else sample.instances[:0]
    picture = overlay(sample.image, drawn, fill=0, ids=False)[y : y + side, x : x + side]
    return _captioned(picture.repeat(CLOSE, axis=0).repeat(CLOSE, axis=1), caption)


def _captioned(picture: RGB, caption: str) -> RGB:
    sheet = np.full((picture.shape[0] + LINE, max(picture.shape[1], TILE), 3), PAPER, np.uint8)
    sheet[: picture.shape[0], : picture.shape[1]] = picture
    _write(sheet, caption, 0, picture.shape[0] + LINE - 8, FAINT)
    return sheet


def _dotted(picture: RGB, masks: Masks) -> None:
    """White dots along the outline of each mask."""
    for crop, (x, y) in masks:
        if crop.size == 0:
            continue
        inner = cv2.erode(crop.view(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
        rows, columns = np.nonzero(crop & (inner == 0))
        dots = (rows + columns) % 4 < 2
        picture[rows[dots] + y, columns[dots] + x] = WHITE
        picture[rows[~dots] + y, columns[~dots] + x] = INK


def _told(before: Sample, after: Sample) -> str:
    """What became of the objects, in a line."""
    ignored = int(np.count_nonzero(is_crowd(after.instances)))
    text = f"{len(before.instances)} -> {_counted(len(after.instances) - ignored)}"
    if after.dropped:
        text += f", {after.dropped} dropped"
    if ignored:
        text += f", {ignored} crowd"
    return text + (", unchanged" if _same(before, after) else "")


def _counted(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"


def _write(sheet: RGB, text: str, x: int, y: int, ink: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, (x, y), FONT, 0.45, ink, 1, cv2.LINE_AA)


def _is_off(step: Augment) -> bool:
    if isinstance(step, Flip):
        return step.horizontal == step.vertical == 0
    return not isinstance(step, Mosaic) and getattr(step, "p", 1) == 0


def _certain(step: Any) -> Any:
    """The change with a probability of 1, where it has one."""
    return replace(step, p=1.0) if _is_value(step) and hasattr(step, "p") else step


def _is_value(step: Any) -> bool:
    return is_dataclass(step) and not isinstance(step, type)


def _described(step: Any) -> str:
    """The change's name and what it was set to."""
    name = type(step).__name__
    if not _is_value(step):
        return name
    shown = [f"p {step.p:g}"] if hasattr(step, "p") else []
    for field in fields(step):
        value = getattr(step, field.name)
        if field.name in HIDDEN or value is None:
            continue
        number = " to ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
        shown.append(f"{field.name} {number:g}" if isinstance(number, float) else f"{field.name} {number}")
    return f"{name}   {', '.join(shown)}"
