"""Scale: how many pixels of the network's input a picture's pixel takes, so that objects have the size it knows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apiece.errors import UsageError
from apiece.models.card import ModelCard

LARGEST = 64.0  # pixels of input a pixel of the picture
STRIDE = 32  # pixels of input between cells of a network's coarsest grid, for every family here
UNRELIABLE = 8  # pixels of input along a tile's inner edge: two cells of the usual stride of 4


@dataclass(frozen=True)
class Scale:
    """value  pixels of the network's input per pixel of the picture.
    why    one sentence for the person.
    """

    value: float
    why: str


def choose_scale(
    card: ModelCard,
    *,
    scale: float | None = None,
    object_size: float | None = None,
    microns: float | None = None,
    file_microns: float | None = None,
) -> Scale:
    """The scale that was asked for, or else what the file and the card say, or else 1.

    scale         pixels of input per pixel of the picture.
    object_size   typical diameter of an object in the picture's pixels; compared with the card's.
    microns       width of a pixel in µm; compared with the card's.
    file_microns  the same as the file states it; used where the card states its own, and nothing was asked for.
    raises        UsageError when more than one is given, the value can't be meant, or the card lacks its counterpart.
    """
    asked = {"scale": scale, "object size": object_size, "microns": microns}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: each of them sets the scale; give one.")
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name}: expected a number above 0, got {value:g}.")
    if object_size is not None:
        if card.object_size is None:
            raise UsageError(
                f"object size: the card of {card.name} doesn't state the size of its own objects, so there is "
                "nothing to compare with. Use --scale, pixels of network input per pixel of the picture."
            )
        why = f"objects of about {object_size:g} pixels are shown as {card.object_size:g}, their size in training"
        return _checked(card.object_size / object_size, why)
    if microns is not None and card.microns is None:
        raise UsageError(
            f"microns: it is unknown which pixel width {card.name} was trained at; its card states none. "
            "Use --object-size, the typical diameter of an object in pixels, or --scale."
        )
    width = microns if microns is not None else file_microns
    if scale is None and width is not None and card.microns is not None:
        return _checked(width / card.microns, f"{width:g} µm a pixel, {card.microns:g} in training")
    if scale is not None:
        return _checked(scale, "as asked")
    unknown = (
        f"the file states {file_microns:g} µm a pixel, but the card of {card.name} doesn't say at which width it was "
        "trained; "
        if file_microns is not None
        else ""
    )
    return Scale(
        1.0, f"{unknown}a pixel of the picture is a pixel of the network's input, as nothing else was asked"
    )


def _checked(value: float, why: str) -> Scale:
    if not value <= LARGEST:
        raise UsageError(
            f"scale: {value:g} is more than {LARGEST:g} pixels of network input per pixel. {why}."
        )
    return Scale(value, why)


def tile_size(card: ModelCard, scale: float) -> tuple[int, int]:
    """(height, width) of the window that fills the network's input at this scale.

    raises  UsageError where it would have less than 8 pixels a side.
    """
    height, width = (int(side / scale + 1e-9) for side in card.input_size)
    if min(height, width) < 8:
        raise UsageError(
            f"scale: at {scale:g} a tile has {height} x {width} pixels; expected at least 8 x 8."
        )
    return height, width


def default_overlap(card: ModelCard, scale: float) -> int:
    """Pixels that neighbouring tiles share when nothing else is asked.

    An eighth of the network's input, or where the card states the typical diameter of its objects two and a half of
    them and the margins on both sides, so that nearly every object is whole in some tile; at most half a tile.
    """
    shared = math.ceil(min(card.input_size) / 8 / scale)
    if card.object_size is not None:
        shared = max(shared, math.ceil(2.5 * card.object_size / scale) + 2 * math.ceil(UNRELIABLE / scale))
    return max(2, min(shared, min(tile_size(card, scale)) // 2))


def margin_of(scale: float, overlap: int) -> int:
    """Pixels along a tile's inner edges where the network isn't believed: UNRELIABLE pixels of its input, at most an
    eighth of the overlap and at least 1."""
    return max(1, min(math.ceil(UNRELIABLE / scale), overlap // 8))
