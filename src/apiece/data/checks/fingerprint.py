"""Fingerprints of pictures: 135 bits by which near copies are found, and the pictures' proof that they are.

The bits are the signs of a picture's lowest frequencies (Zauner 2010, "Implementation and benchmarking of perceptual
image hash functions", the DCT hash; signs in place of a median, so that mirroring is exact: it changes the sign of
odd frequencies, and a quarter turn exchanges the two axes).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

SIDE = 64  # of the square to which pictures are brought before the transform
THUMB = 32  # of the thumbnail that is kept
FREQUENCIES = 16  # u + v below this; all but the mean
FLAT = 1.0  # grey levels of standard deviation below which a picture shows nothing to compare
FINE = 192  # side of the squares that are compared pixel by pixel
BLOCKS = 12  # a side, whose differences are looked at one by one
BLUR = 1.5  # pixels of those squares, standard deviation: noise isn't compared
NEAR = 0.75  # correlation from which pictures are worth a closer look
ALIKE = 0.93  # correlation from which they can be copies
DIFFERS = 0.25  # a block's difference, in variances of the picture, from which it shows something else
CUT = 0.08  # of a side that a copy may lack

_U, _V = np.meshgrid(np.arange(FREQUENCIES), np.arange(FREQUENCIES), indexing="ij")
_ORDER = np.lexsort((_U.ravel(), (_U + _V).ravel()))
_KEPT = _ORDER[(_U + _V).ravel()[_ORDER] < FREQUENCIES][1:]
BITS = len(_KEPT)

# What brings a picture upright from each of its eight positions: (transposed first?, rows reversed?, columns
# reversed?); and what the position is called.
TURNS: tuple[tuple[bool, bool, bool, str], ...] = (
    (False, False, False, ""),
    (False, False, True, "mirrored left to right"),
    (False, True, False, "mirrored top to bottom"),
    (False, True, True, "turned by 180°"),
    (True, True, False, "turned by 90° clockwise"),
    (True, False, True, "turned by 90° anticlockwise"),
    (True, False, False, "mirrored and turned"),
    (True, True, True, "mirrored and turned"),
)


class Fingerprint(NamedTuple):
    """Of one picture.

    bits   bool (135,).
    thumb  uint8 (32, 32), grey, stretched to its full range.
    """

    bits: npt.NDArray[np.bool_]
    thumb: npt.NDArray[np.uint8]


def grey_square(image: RGB, side: int) -> Float:
    """The picture in grey, squeezed to a square: float32 (side, side)."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def fingerprint(image: RGB) -> Fingerprint | None:
    """The fingerprint of uint8 (H, W, 3) RGB; None of a picture without contrast, which is like any other such."""
    small = grey_square(image, SIDE)
    if float(small.std()) < FLAT:
        return None
    signs = cv2.dct(small)[:FREQUENCIES, :FREQUENCIES] > 0
    thumb = cv2.resize(small, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    low, high = float(thumb.min()), float(thumb.max())
    levels = (thumb - low) * (255 / max(high - low, 1e-6)) + 0.5
    return Fingerprint(signs.ravel()[_KEPT], levels.astype(np.uint8))


def turned_bits(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The bits of a picture's eight positions, bool (8, 135), in the order of TURNS."""
    grid = np.zeros((FREQUENCIES, FREQUENCIES), np.bool_)
    grid.ravel()[_KEPT] = bits
    odd = (np.arange(FREQUENCIES) % 2).astype(np.bool_)
    rows = []
    for transposed, up, left, _ in TURNS:
        one = grid.T if transposed else grid
        rows.append((one ^ (odd[:, None] & up) ^ (odd & left)).ravel()[_KEPT])
    return np.array(rows)


def turned(pixels: npt.NDArray[np.generic], turn: int) -> npt.NDArray[np.generic]:
    """A picture (H, W, …) brought upright from one of its eight positions, as a view."""
    transposed, up, left, _ = TURNS[turn]
    if transposed:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if up else 1, :: -1 if left else 1]


def correlation(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    """Normalised correlation of two arrays of one shape, -1 to 1; 0 where one of them is constant."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / norm if norm > 0 else 0.0


def copied(a: Float, b: Float) -> float:
    """The correlation of two grey squares (FINE, FINE) where b is a copy of a; else 0.

    A copy may be in another quality, size or brightness, or cut at its edges by a few per cent: then it is brought
    over the first. What differs must be spread over the picture, as noise is. Where a block of it shows something
    else, as in two pictures of one camera, or of nuclei on black, they are two pictures.
    """
    x, y = (np.asarray(cv2.GaussianBlur(one, (0, 0), BLUR), np.float32) for one in (a, b))
    found = _alike(x, y, np.ones(x.shape, np.bool_))
    if found or correlation(x, y) < NEAR:
        return found
    warp = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        _, moved = cv2.findTransformECC(x, y, warp, cv2.MOTION_AFFINE, stop, np.ones(x.shape, np.uint8), 5)
    except cv2.error:  # didn't converge: nothing fits
        return 0.0
    if (
        float(np.abs(moved[:, :2] - np.eye(2)).max()) > CUT
        or float(np.abs(moved[:, 2]).max()) > 2 * CUT * FINE
    ):
        return 0.0
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones(x.shape, np.float32), moved, (FINE, FINE), flags=how) > 0.999
    return _alike(x, np.asarray(cv2.warpAffine(y, moved, (FINE, FINE), flags=how), np.float32), inside)


def _alike(x: Float, y: Float, inside: npt.NDArray[np.bool_]) -> float:
    """Correlation of what is `inside`, 0 where it is too low or a block shows something else.

    In each block y is fitted to x by brightness and contrast; what is left is measured in variances of the picture.
    """
    x, y = ((one - one[inside].mean()) / max(float(one[inside].std()), 1e-6) for one in (x, y))
    found = correlation(x[inside], y[inside])
    if found < ALIKE:
        return 0.0
    step = FINE // BLOCKS
    blocks = [
        one.reshape(BLOCKS, step, BLOCKS, step).swapaxes(1, 2).reshape(-1, step * step) for one in (x, y)
    ]
    p, q = (one - one.mean(axis=1, keepdims=True) for one in blocks)
    pp, qq, pq = (p * p).mean(axis=1), (q * q).mean(axis=1), (p * q).mean(axis=1)
    left = np.maximum(pp, qq) * (1 - pq * pq / np.maximum(pp * qq, 1e-12))
    whole = inside.reshape(BLOCKS, step, BLOCKS, step).all(axis=(1, 3)).ravel()
    return 0.0 if float(left[whole].max(initial=0)) > DIFFERS else found
