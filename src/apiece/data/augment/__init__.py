"""Random changes of a picture and its objects: masks are moved as crops, colours leave them alone.

Every change is a small frozen value, called with a sample and a generator; the same generator state gives the same
sample. `p` is the probability with which a change happens. Changes that need other samples (`Mosaic`, `CopyPaste`)
get them from a function of sample and generator, see `drawn_from`.
"""

from __future__ import annotations

from apiece.data.augment.affine import Affine, warped
from apiece.data.augment.artefacts import Blur, Jpeg, MotionBlur, Noise
from apiece.data.augment.base import Augment, Compose
from apiece.data.augment.colour import ChannelDrop, ColorJitter, Grey, Invert
from apiece.data.augment.copy_paste import CopyPaste, pasted
from apiece.data.augment.flips import Flip, Rotate90
from apiece.data.augment.mosaic import Mosaic
from apiece.data.augment.partners import Drawn, Others, drawn_from
from apiece.data.augment.scale_crop import LARGE_SCALE, ScaleCrop
from apiece.data.augment.stain import StainJitter, looks_stained
from apiece.data.augment.targets import Cut

__all__ = [
    "LARGE_SCALE",
    "Affine",
    "Augment",
    "Blur",
    "ChannelDrop",
    "ColorJitter",
    "Compose",
    "CopyPaste",
    "Cut",
    "Drawn",
    "Flip",
    "Grey",
    "Invert",
    "Jpeg",
    "Mosaic",
    "MotionBlur",
    "Noise",
    "Others",
    "Rotate90",
    "ScaleCrop",
    "StainJitter",
    "drawn_from",
    "looks_stained",
    "pasted",
    "warped",
]
