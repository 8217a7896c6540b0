"""Synthetic photographs of roundish things: coins, pills, fruit, cells, beads, on all kinds of ground.

Used by things_data.py as part of the training pictures of the bundled model `things`. Every pixel belongs to the
last object that was put on it, so the truth is exact.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
SIDE = 512


def scene(rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """A picture (512, 512, 3) RGB and its label image."""
    size = float(np.exp(rng.uniform(np.log(9), np.log(110))))
    spread = rng.uniform(1.05, 2.2)
    most = int(np.clip(0.75 * SIDE**2 / (np.pi * size**2), 3, 220))
    count = int(rng.integers(0 if rng.random() < 0.04 else 1, most + 1))
    overlap = rng.random() < 0.4
    tight = rng.random() < 0.5
    kind = int(rng.integers(len(KINDS)))
    mixed = rng.random() < 0.2
    shape = int(rng.integers(3))
    palette = rng.uniform(30, 245, (int(rng.integers(1, 4)), 3)).astype(np.float32)
    picture = ground(rng)
    owner = np.zeros((SIDE, SIDE), np.uint16)
    full, seen = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    light = rng.uniform(0, 2 * np.pi)
    shadow = rng.uniform(0, 0.7) if rng.random() < 0.6 else 0.0
    centres: list[tuple[float, float, float]] = []
    number = 0
    for _ in range(count * 6):
        if number == count:
            break
        radius = size * spread ** rng.uniform(-1, 1)
        x, y = rng.uniform(-0.3 * radius, SIDE + 0.3 * radius, 2)
        if tight and centres and rng.random() < 0.7:
            cx, cy, cr = centres[int(rng.integers(len(centres)))]
            turn, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.75 if overlap else 1.0, 1.12)
            x, y = cx + np.cos(turn) * gap * (cr + radius), cy + np.sin(turn) * gap * (cr + radius)
        if mixed:
            kind, shape = int(rng.integers(len(KINDS))), int(rng.integers(3))
        top, left, inside = outline(rng, x, y, radius, shape)
        if inside is None:
            continue
        window = owner[top : top + inside.shape[0], left : left + inside.shape[1]]
        hidden = np.bincount(window[inside > 0], minlength=count + 1)
        free = hidden[0]
        hidden[0] = 0
        if not overlap and hidden.sum() > 0.03 * inside.sum():
            continue
        if overlap and (free < 0.4 * inside.sum() or ((seen - hidden) < 0.45 * full)[1 : number + 1].any()):
            continue
        number += 1
        seen -= hidden
        full[number] = seen[number] = int(inside.sum())
        window[inside > 0] = number
        centres.append((x, y, radius))
        colour = palette[int(rng.integers(len(palette)))] * rng.uniform(0.85, 1.15, 3).astype(np.float32)
        paste(rng, picture, top, left, inside, KINDS[kind](rng, inside, colour, light), light, shadow, radius)
    if rng.random() < 0.4:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.4))
    picture += rng.normal(0, rng.uniform(0, 9), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), owner


def clouds(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float]) -> Float:
    """Smooth noise of mean 0 and deviation about 1, with features of (height, width) pixels."""
    rows, columns = (max(2, int(n / c) + 2) for n, c in zip(shape, cells, strict=True))
    coarse = rng.normal(0, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def ground(rng: np.random.Generator) -> Float:
    """The ground that things lie on: plain, uneven, cloth, wood or gravel."""
    colour = rng.uniform(0, 255, 3).astype(np.float32)
    if rng.random() < 0.4:
        colour[:] = colour.mean()
    shade = np.zeros((SIDE, SIDE), np.float32)
    shade += rng.uniform(0, 25) * clouds(rng, shade.shape, (300, 300))
    choice = rng.integers(5)
    if choice == 1:
        shade += rng.uniform(3, 22) * clouds(rng, shade.shape, (rng.uniform(2, 8), rng.uniform(60, 400)))
    elif choice == 2:
        shade += rng.uniform(3, 25) * clouds(rng, shade.shape, (rng.uniform(3, 30),) * 2)
    elif choice == 3:
        period = rng.uniform(3, 12)
        y, x = np.mgrid[:SIDE, :SIDE]
        shade += rng.uniform(2, 14) * (np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period))
    elif choice == 4:
        for cell in (4, 12, 40):
            shade += rng.uniform(2, 14) * clouds(rng, shade.shape, (cell, cell))
    picture = colour + shade[..., None] * rng.uniform(0.7, 1.1, 3).astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.float32)


def outline(
    rng: np.random.Generator, x: float, y: float, radius: float, shape: int
) -> tuple[int, int, npt.NDArray[np.uint8] | None]:
    """Top, left and the pixels (0 or 1) of a thing in its own window; None when it lies outside the picture."""
    angle = rng.uniform(0, 2 * np.pi)
    reach = int(np.ceil(radius * 1.8)) + 1
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    bottom, right = min(SIDE, int(y) + reach + 1), min(SIDE, int(x) + reach + 1)
    if bottom - top < 3 or right - left < 3:
        return top, left, None
    dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = dx + 0.5 - x, dy + 0.5 - y
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    if shape == 0:  # disc or ellipse
        inside = u**2 + (v / rng.uniform(0.75, 1.0)) ** 2 <= radius**2
    elif shape == 1:  # a stone, a fruit, a cell: an uneven outline
        theta = np.arctan2(v, u)
        r = radius * rng.uniform(0.85, 1.0) * np.ones_like(theta)
        for n in (2, 3, 4, 5):
            r *= 1 + rng.uniform(0, 0.22 / n) * np.cos(n * theta + rng.uniform(0, 2 * np.pi))
        inside = np.hypot(u, v) <= r
    else:  # a capsule
        half = radius * rng.uniform(0.45, 0.7)
        inside = np.hypot(np.maximum(np.abs(u) - (radius - half), 0), v) <= half
    if not inside.any():
        return top, left, None
    return top, left, inside.astype(np.uint8)


def height_of(inside: npt.NDArray[np.uint8]) -> Float:
    """0 at the outline, 1 in the middle."""
    # A frame of zeros: an outline that leaves the picture is none.
    framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.asarray(depth / max(float(depth.max()), 1e-3), np.float32)


def ball(rng: np.random.Generator, inside: npt.NDArray[np.uint8], colour: Float, light: float) -> Float:
    """A shaded solid with a highlight: fruit, beads, balloons."""
    relief = np.sqrt(np.clip(1 - (1 - height_of(inside)) ** 2, 0, 1))
    gy, gx = np.gradient(cv2.GaussianBlur(relief, (0, 0), max(1.0, inside.shape[0] / 20)))
    scale = inside.shape[0] / 4
    slope = (gx * np.cos(light) + gy * np.sin(light)) * scale
    shade = 0.75 + rng.uniform(0.1, 0.35) * np.clip(-slope, -1, 1) + 0.2 * relief
    shade += rng.uniform(0, 0.12) * clouds(rng, inside.shape, (max(2.0, inside.shape[0] / 8),) * 2)
    gloss = np.clip(relief - 0.3 - slope * 0.3, 0, 1) ** rng.uniform(4, 12)
    return colour * shade[..., None] + rng.uniform(0, 120) * (gloss * (relief > 0.3))[..., None]


def coin(rng: np.random.Generator, inside: npt.NDArray[np.uint8], colour: Float, light: float) -> Float:
    """A flat disc with a rim and a relief."""
    height = height_of(inside)
    rim = ((height > 0.05) & (height < rng.uniform(0.12, 0.3))).astype(np.float32)
    figure = (clouds(rng, inside.shape, (max(3.0, inside.shape[0] / rng.uniform(4, 9)),) * 2) > 0.3).astype(
        np.float32
    )
    relief = cv2.GaussianBlur(rim + figure * (height > 0.3), (0, 0), 1.0)
    gy, gx = np.gradient(relief)
    shade = (
        0.85
        + rng.uniform(0.2, 0.9) * (gx * np.cos(light) + gy * np.sin(light))
        + rng.uniform(-0.15, 0.15) * rim
    )
    shade += rng.uniform(0, 0.15) * clouds(rng, inside.shape, (5, 5))
    return colour * shade[..., None]


def pill(rng: np.random.Generator, inside: npt.NDArray[np.uint8], colour: Float, light: float) -> Float:
    """Flat with a bevel, perhaps of two colours or with a groove."""
    height = height_of(inside)
    shade = 0.7 + 0.3 * np.clip(height * rng.uniform(2, 6), 0, 1)
    out = np.broadcast_to(colour, (*inside.shape, 3)).copy()
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    along = (x - inside.shape[1] / 2) * np.cos(turn) + (y - inside.shape[0] / 2) * np.sin(turn)
    if rng.random() < 0.3:
        out[along > 0] = rng.uniform(20, 250, 3)
    if rng.random() < 0.3:
        shade = shade * (1 - 0.25 * (np.abs(along) < max(1.0, inside.shape[0] / 30)))
    return out * shade[..., None]


def cell(rng: np.random.Generator, inside: npt.NDArray[np.uint8], colour: Float, light: float) -> Float:
    """Grainy, with a membrane or a core."""
    height = height_of(inside)
    shade = 0.8 + rng.uniform(-0.4, 0.4) * height
    shade = shade + rng.uniform(-0.3, 0.3) * (height < 0.2)
    if rng.random() < 0.5:
        shade = shade * (1 - rng.uniform(0.1, 0.5) * (height > rng.uniform(0.5, 0.8)))
    shade = shade + rng.uniform(0, 0.25) * clouds(rng, inside.shape, (rng.uniform(2, 6),) * 2)
    return colour * shade[..., None].astype(np.float32)


KINDS = (ball, coin, pill, cell)


def paste(
    rng: np.random.Generator,
    picture: Float,
    top: int,
    left: int,
    inside: npt.NDArray[np.uint8],
    colours: Float,
    light: float,
    shadow: float,
    radius: float,
) -> None:
    """Put a thing on the picture, its shadow first."""
    if shadow > 0:
        reach = radius * 0.3
        moved = np.float32([[1, 0, left + reach * np.cos(light)], [0, 1, top + reach * np.sin(light)]])
        margin = int(reach * 3) + 3
        y1, x1 = max(0, top - margin), max(0, left - margin)
        y2, x2 = min(SIDE, top + inside.shape[0] + margin), min(SIDE, left + inside.shape[1] + margin)
        moved[:, 2] -= (x1, y1)
        dark = cv2.warpAffine(inside.astype(np.float32), moved, (x2 - x1, y2 - y1))
        dark = cv2.GaussianBlur(dark, (0, 0), max(1.0, reach * 0.6))
        picture[y1:y2, x1:x2] *= 1 - shadow * 0.8 * dark[..., None]
    window = picture[top : top + inside.shape[0], left : left + inside.shape[1]]
    window[inside > 0] = np.clip(colours, 0, 255)[inside > 0]
