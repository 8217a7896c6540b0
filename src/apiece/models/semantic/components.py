"""Connected components in the graph: a fixed number of rounds that suffices for every picture, spirals included.

Every pixel points at another of its component, in the end at the first one in reading order. All pixels that point
at one pixel, the root, are a star. A round joins stars: each root takes the smallest root among its star's neighbours
if that is smaller than itself, then pointers are doubled until all are stars again (Liu and Tarjan, "Simple
concurrent labeling algorithms for connected components", arXiv 1812.06177, algorithm S).

Why 2 · log2(stars) rounds suffice. Take a component of two or more stars, and a root r that does not point away in
a round: all its neighbours are larger. Either one of them joins r; or each has a neighbour below r and joins that, so
that r has a smaller neighbour in the next round and joins it. So after two rounds every root that is left has taken
in another, and there are at most half as many. A chain of joins has no more links than the component has stars, so
log2(stars) doublings make stars of it. Nothing depends on the data, hence the same graph for every picture.
"""

from __future__ import annotations

import torch
from torch import Tensor


def components(classes: Tensor) -> Tensor:
    """8-connected components of equal class.

    (B, h, w) whole numbers -> int64 (B, h, w): flat index (row · w + column) of the component's first pixel. The
    background is labelled like any class.
    """
    height, width = classes.shape[-2:]
    flat = classes.flatten(1)
    here = torch.arange(height * width, device=classes.device).view(height, width)
    # Equal pixels of a 2 × 2 block touch, so a component starts as at most one star for each block that it meets.
    parent = torch.zeros_like(flat, dtype=torch.int64) + here.flatten()
    for down, right in ((0, 1), (1, 0), (1, 1)):
        other = _other_of_block(here, down, right).flatten()
        parent = torch.minimum(parent, torch.where(flat[:, other] == flat, other, parent))
    start = here.flatten().repeat(4)
    end = torch.cat([_neighbour(here, *step).flatten() for step in ((0, 1), (1, -1), (1, 0), (1, 1))])
    # An edge between classes becomes one from a pixel to itself, which joins nothing.
    end = torch.where(flat[:, end] == flat[:, start], end, start)
    for doublings in rounds(height, width):
        one, two = parent.repeat(1, 4), parent.gather(1, end)
        parent = parent.scatter_reduce(1, torch.maximum(one, two), torch.minimum(one, two), "amin")
        for _ in range(doublings):
            parent = parent.gather(1, parent)
    return parent.view_as(classes)


def rounds(height: int, width: int) -> list[int]:
    """Pointer doublings of each round that a grid of this size needs at most."""
    stars = -(-height // 2) * -(-width // 2)
    needed: list[int] = []
    while stars > 1:
        # Two stars join in one round.
        needed += [(stars - 1).bit_length()] * (2 if stars > 2 else 1)
        stars //= 2
    return needed


def _other_of_block(here: Tensor, down: int, right: int) -> Tensor:
    """Index of the pixel at the other side of the own 2 × 2 block; the pixel itself where the grid ends before."""
    height, width = here.shape
    row, column = here // width, here % width
    row, column = row ^ down, column ^ right
    return torch.where((row < height) & (column < width), row * width + column, here)


def _neighbour(here: Tensor, down: int, right: int) -> Tensor:
    """Index of the pixel that many steps away; the pixel itself where that lies outside."""
    height, width = here.shape
    row, column = here // width + down, here % width + right
    inside = (row < height) & (column >= 0) & (column < width)
    return torch.where(inside, row * width + column, here)
