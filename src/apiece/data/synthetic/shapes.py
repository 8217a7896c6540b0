"""Shapes of synthetic objects, as outlines around (0, 0) in pixels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Part = tuple[Float64, list[Float64]]  # outer ring (P, 2) and holes, as Masks.from_polygons takes them

SHAPES = ("disc", "blob", "polygon", "star", "rod", "worm", "ring", "letter")
THINNEST = 0.75  # half width in pixels: what is thinner falls apart on the grid
# Letters as strokes between points of a box from (-1, -1) to (1, 1), y downwards.
LETTERS = (
    "A: -.8,1 0,-1 .8,1 | -.4,.2 .4,.2",
    "B: -.7,-1 .3,-1 .7,-.5 .3,0 -.7,0 | -.7,-1 -.7,1 .3,1 .7,.5 .3,0",
    "C: .7,-.7 .2,-1 -.4,-1 -.7,-.5 -.7,.5 -.4,1 .2,1 .7,.7",
    "E: .7,-1 -.7,-1 -.7,1 .7,1 | -.7,0 .4,0",
    "H: -.7,-1 -.7,1 | .7,-1 .7,1 | -.7,0 .7,0",
    "K: -.7,-1 -.7,1 | .7,-1 -.7,.1 .7,1",
    "O: -.3,-1 .3,-1 .8,-.4 .8,.4 .3,1 -.3,1 -.8,.4 -.8,-.4 -.3,-1",
    "P: -.7,1 -.7,-1 .3,-1 .7,-.5 .3,0 -.7,0",
    "S: .7,-.7 .3,-1 -.3,-1 -.7,-.5 -.3,0 .3,0 .7,.5 .3,1 -.3,1 -.7,.7",
    "T: -.8,-1 .8,-1 | 0,-1 0,1",
    "X: -.8,-1 .8,1 | .8,-1 -.8,1",
    "8: 0,0 .6,-.5 0,-1 -.6,-.5 0,0 .7,.5 0,1 -.7,.5 0,0",
)


def outline(rng: np.random.Generator, shape: str, a: float, b: float) -> list[Part]:
    """The parts of one object, united; no point is further from (0, 0) than the larger half axis.

    shape  of SHAPES: "disc" an ellipse, "blob" one with an uneven outline, "ring" one with a hole, "letter" strokes
           of a capital letter or digit, some with holes.
    a, b   half axes in pixels, along x and y.
    """
    axes = np.array([a, b])
    r = float(axes.mean())
    if shape == "disc":
        return [(_circle(_fineness(r)) * axes, [])]
    if shape == "ring":
        inner = axes * rng.uniform(0.4, 0.65)
        return [(_circle(_fineness(r)) * axes, [_circle(_fineness(r)) * inner])]
    if shape == "blob":
        angle = np.linspace(0, 2 * np.pi, _fineness(r), endpoint=False)
        distance = np.ones_like(angle)
        for waves in (2, 3, 4, 5):
            distance += rng.uniform(0, 0.5 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
        return [(_circle(len(angle)) * (distance / distance.max())[:, None] * axes, [])]
    if shape == "polygon":
        corners = int(rng.integers(3, 8))
        angle = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
        distance = rng.uniform(0.75, 1, corners)
        return [(np.column_stack([np.cos(angle), np.sin(angle)]) * distance[:, None] * axes, [])]
    if shape == "star":
        points = int(rng.integers(4, 8))
        angle = np.arange(2 * points) * np.pi / points
        distance = np.where(np.arange(2 * points) % 2, rng.uniform(0.4, 0.6), 1.0) * r
        return [(np.column_stack([np.cos(angle), np.sin(angle)]) * distance[:, None], [])]
    if shape == "rod":
        half = max(THINNEST, r * rng.uniform(0.18, 0.35))
        return _strokes([np.array([[half - r, 0.0], [r - half, 0.0]])], half)
    if shape == "worm":
        half = max(THINNEST, r * rng.uniform(0.1, 0.18))
        along = np.linspace(-1, 1, 11)
        sway = rng.uniform(0.15, 0.5) * np.sin(along * rng.uniform(1.5, 4) + rng.uniform(0, 2 * np.pi))
        way = np.column_stack([along, sway])
        return _strokes([way * (r - half) / float(np.hypot(*way.T).max())], half)
    letter = LETTERS[int(rng.integers(len(LETTERS)))]
    half = max(THINNEST, r * rng.uniform(0.1, 0.16))
    strokes = [
        np.array([point.split(",") for point in stroke.split()], np.float64)
        for stroke in letter.partition(": ")[2].split("|")
    ]
    return _strokes([stroke * np.maximum(axes / np.sqrt(2) - half, 0) for stroke in strokes], half)


def turned(parts: list[Part], angle: float, x: float, y: float) -> list[Part]:
    """The outline turned by an angle about (0, 0), then moved there from."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    place = np.array([x, y])
    return [(outer @ turn + place, [hole @ turn + place for hole in holes]) for outer, holes in parts]


def _fineness(radius: float) -> int:
    """Points on a circle of this radius, so that chords stay within a tenth of a pixel up to 200 pixels."""
    return int(np.clip(4 * np.sqrt(radius) + 12, 16, 128))


def _circle(points: int) -> Float64:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _strokes(ways: list[Float64], half: float) -> list[Part]:
    """Lines of round ends, twice `half` thick, along each way (P, 2): a capsule a segment."""
    parts: list[Part] = []
    arc = np.linspace(-np.pi / 2, np.pi / 2, 7)
    for way in ways:
        for begin, end in pairwise(way):
            heading = np.arctan2(end[1] - begin[1], end[0] - begin[0])
            front = np.column_stack([np.cos(heading + arc), np.sin(heading + arc)]) * half
            parts.append((np.concatenate([end + front, begin - front]), []))
    return parts
