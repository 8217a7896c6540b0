"""The augmentation of a recipe: typed sections, and the changes that they ask for. Imports no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator

from apiece.data.augment import (
    Affine,
    Augment,
    Blur,
    ChannelDrop,
    ColorJitter,
    Compose,
    CopyPaste,
    Flip,
    Grey,
    Invert,
    Jpeg,
    Mosaic,
    MotionBlur,
    Noise,
    Others,
    Rotate90,
    ScaleCrop,
    StainJitter,
)
from apiece.data.augment.stain import Method
from apiece.data.sample import Sample
from apiece.errors import UsageError
from apiece.train.section import Section

Range = tuple[float, float]


class ColorRanges(Section):
    """How far `color` goes: factors of contrast, brightness and saturation, exponents, degrees; see `ColorJitter`."""

    contrast: Range = ColorJitter.contrast
    brightness: Range = ColorJitter.brightness
    offset: float = ColorJitter.offset
    gamma: Range = ColorJitter.gamma
    saturation: Range = ColorJitter.saturation
    hue: float = ColorJitter.hue
    shuffle: float = ColorJitter.shuffle


class AffineRecipe(Section):
    """Turn, stretch, shear and shift; see `Affine`."""

    p: float = Affine.p
    rotation: float = Affine.rotation
    scale: Range = Affine.scale
    aspect: Range = Affine.aspect
    shear: float = Affine.shear
    translate: float = Affine.translate


class MosaicRecipe(Section):
    """Four pictures in one; see `Mosaic`. Each is scaled by `augment.scale`."""

    p: float = Mosaic.p
    centre: Range = Mosaic.centre


class CopyPasteRecipe(Section):
    """Objects of other pictures pasted on; see `CopyPaste`."""

    p: float = CopyPaste.p
    scale: Range = CopyPaste.scale
    share: float = CopyPaste.share
    most: int | None = CopyPaste.most
    blend: float = CopyPaste.blend


class StainRecipe(Section):
    """Other amounts of dye in histology; see `StainJitter`."""

    p: float = StainJitter.p
    strength: float = StainJitter.strength
    shift: float = StainJitter.shift
    method: Method = StainJitter.method
    only_histology: bool = StainJitter.only_histology


class AugmentRecipe(Section):
    """Random changes of the training pictures; a probability of 0 or a range of one value turns a change off.

    size           height and width of the training crop, pixels.
    scale          factor range, relative to the scale that fits the whole picture into `size`; [0.1, 2] is
                   large-scale jitter.
    min_visible    an object of which less than this fraction is left is dropped from the targets.
    as_ignore      it stays as a crowd region instead; see `ScaleCrop` for what the families' losses make of that.
    fill           colour of what no picture covers: red, green, blue.
    flip, rotate90         mirror images; quarter turns.
    mosaic, affine, copy_paste, stain      see their sections; left out, they don't happen.
    color, invert, grey    probabilities; how far `color` goes is in `color_ranges`.
    channel_drop           probability that a channel goes black (fluorescence).
    blur, motion_blur, noise, jpeg         probabilities; how strong is in the key that follows each.
    """

    size: tuple[int, int]
    scale: Range = (1.0, 1.0)
    min_visible: float = Field(0.2, ge=0, le=1)
    as_ignore: bool = False
    fill: tuple[int, int, int] = ScaleCrop.fill
    flip: bool = True
    rotate90: bool = True
    mosaic: MosaicRecipe | None = None
    affine: AffineRecipe | None = None
    copy_paste: CopyPasteRecipe | None = None
    stain: StainRecipe | None = None
    color: float = Field(0.0, ge=0, le=1)
    color_ranges: ColorRanges = ColorRanges()
    invert: float = Field(0.0, ge=0, le=1)
    grey: float = Field(0.0, ge=0, le=1)
    channel_drop: float = Field(0.0, ge=0, le=1)
    blur: float = Field(0.0, ge=0, le=1)
    blur_sigma: Range = Blur.sigma
    motion_blur: float = Field(0.0, ge=0, le=1)
    motion_length: Range = MotionBlur.length
    noise: float = Field(0.0, ge=0, le=1)
    noise_sigma: Range = Noise.sigma
    jpeg: float = Field(0.0, ge=0, le=1)
    jpeg_quality: tuple[int, int] = Jpeg.quality

    @model_validator(mode="after")
    def _can_be_meant(self) -> AugmentRecipe:
        try:
            augmentation(self, _nobody)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self


def augmentation(recipe: AugmentRecipe, others: Others) -> Compose:
    """The changes that a recipe asks for: geometry first, then colours, then what a camera does.

    A change that isn't asked for draws no random number, so that a recipe written before it was there still sees
    the same pixels.
    others  where `mosaic` and `copy_paste` take their pictures from; see `drawn_from`.
    raises  UsageError if a value can't be meant.
    """
    shared: dict[str, Any] = {"min_visible": recipe.min_visible, "as_ignore": recipe.as_ignore}
    steps: list[Augment] = []
    if recipe.mosaic is not None:
        mosaic = recipe.mosaic.model_dump()
        steps.append(Mosaic(recipe.size, others, scale=recipe.scale, fill=recipe.fill, **mosaic, **shared))
    else:
        steps.append(ScaleCrop(recipe.size, recipe.scale, fill=recipe.fill, **shared))
    if recipe.flip:
        steps.append(Flip())
    if recipe.rotate90:
        steps.append(Rotate90())
    if recipe.affine is not None:
        steps.append(Affine(**recipe.affine.model_dump(), fill=recipe.fill, **shared))
    if recipe.copy_paste is not None:
        flip = Flip() if recipe.flip else Flip(0, 0)
        steps.append(CopyPaste(others, **recipe.copy_paste.model_dump(), flip=flip, **shared))
    if recipe.stain is not None:
        steps.append(StainJitter(**recipe.stain.model_dump()))
    steps += [
        ColorJitter(recipe.color, **recipe.color_ranges.model_dump()),
        Invert(recipe.invert),
        Grey(recipe.grey),
    ]
    # These draw no number where they are off; those above and below, which came first, always do.
    drop = ChannelDrop(recipe.channel_drop)
    smear, jpeg = MotionBlur(recipe.motion_blur, recipe.motion_length), Jpeg(recipe.jpeg, recipe.jpeg_quality)
    if drop.p:
        steps.append(drop)
    steps.append(Blur(recipe.blur, recipe.blur_sigma))
    if smear.p:
        steps.append(smear)
    steps.append(Noise(recipe.noise, recipe.noise_sigma))
    if jpeg.p:
        steps.append(jpeg)
    return Compose(tuple(steps))


def _nobody(sample: Sample, rng: np.random.Generator) -> Sample:
    raise AssertionError("a recipe is checked without a picture")
