"""Components in the graph against scipy.ndimage.label, which shares no code with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

torch = pytest.importorskip("torch")

from apiece.models.semantic.components import components, rounds


def check(classes: np.ndarray) -> None:
    """Each class's components are SciPy's, and each is called by its first pixel."""
    found = components(torch.from_numpy(classes)).numpy()
    for picture, owner in zip(classes, found, strict=True):
        index = np.arange(picture.size).reshape(picture.shape)
        for kind in np.unique(picture):
            labels, count = ndimage.label(picture == kind, np.ones((3, 3)))
            first = ndimage.minimum(index, labels, np.arange(1, count + 1))
            np.testing.assert_array_equal(owner[labels > 0], np.asarray(first)[labels[labels > 0] - 1])


def spiral(side: int, *, thick: int = 1) -> np.ndarray:
    """One path from the border to the centre, `thick` pixels wide with as wide a gap: some side² / 2 long."""
    path = np.zeros((side // thick, side // thick), dtype=np.int64)
    row, column, down, right = 0, 0, 0, 1
    n = len(path)
    path[0, 0] = 1
    while True:
        turned = 0
        while turned < 2:
            r, c = row + down, column + right
            beyond = (r + down, c + right)
            free = 0 <= r < n and 0 <= c < n and not path[r, c]
            clear = not (0 <= beyond[0] < n and 0 <= beyond[1] < n) or not path[beyond]
            if free and clear:
                break
            down, right = right, -down
            turned += 1
        if turned == 2:
            return path.repeat(thick, 0).repeat(thick, 1)
        row, column = row + down, column + right
        path[row, column] = 1


@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 4),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_random_images(height, width, classes, share, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, classes + 1, (2, height, width)) * (rng.random((2, height, width)) < share)
    check(image.astype(np.int64))


@pytest.mark.parametrize("share", [0.35, 0.4, 0.45, 0.55])
def test_images_near_percolation(share):
    """Where components are longest and most ragged."""
    check((np.random.default_rng(0).random((2, 120, 131)) < share).astype(np.int64))


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("thick", [1, 2])
def test_a_spiral_is_one_object(turn, flip, thick):
    image = np.rot90(spiral(96, thick=thick), turn)
    image = (image[:, ::-1] if flip else image).copy()
    assert ndimage.label(image, np.ones((3, 3)))[1] == 1
    assert image.sum() > 96 * 96 * 0.4
    check(image[None])


def test_combs_and_zigzags():
    """Teeth that meet only at the far end, and a diagonal that only corners hold together."""
    comb = np.zeros((64, 65), dtype=np.int64)
    comb[:, ::2] = 1
    comb[-1] = 1
    zigzag = np.zeros((64, 65), dtype=np.int64)
    zigzag[::2] = 1
    zigzag[1::4, -1] = 1
    zigzag[3::4, 0] = 1
    dust = np.zeros((64, 65), dtype=np.int64)
    dust[::2, ::2] = 1
    check(np.stack([comb, comb[::-1], zigzag, zigzag[:, ::-1], dust, np.eye(64, 65, dtype=np.int64)]))


def test_the_rounds_follow_from_the_number_of_blocks():
    assert rounds(1, 1) == rounds(2, 2) == []
    assert rounds(2, 4) == [1]
    assert len(rounds(128, 128)) == 2 * 12 - 1
    assert max(rounds(128, 128)) == 12
