"""Every change that there is, one after the other."""

from __future__ import annotations

from apiece.data.augment.affine import Affine
from apiece.data.augment.artefacts import Blur, Jpeg, MotionBlur, Noise
from apiece.data.augment.base import Compose
from apiece.data.augment.colour import ChannelDrop, ColorJitter, Grey, Invert
from apiece.data.augment.copy_paste import CopyPaste
from apiece.data.augment.flips import Flip, Rotate90
from apiece.data.augment.mosaic import Mosaic
from apiece.data.augment.partners import Others
from apiece.data.augment.stain import StainJitter

SCALE = (0.7, 1.8)


def every_change(size: tuple[int, int], others: Others) -> Compose:
    """All changes that there are, with their usual strength, for pictures of `size` (height, width)."""
    return Compose(
        (
            Mosaic(size, others, 0.3, SCALE),
            Flip(),
            Rotate90(),
            Affine(),
            CopyPaste(others),
            StainJitter(),
            ColorJitter(0.5),
            Invert(0.1),
            Grey(0.1),
            ChannelDrop(0.1),
            Blur(0.2),
            MotionBlur(0.1),
            Noise(0.2),
            Jpeg(0.2),
        )
    )
