"""Pictures that occur twice: copies are found whatever was done to them, other pictures are not taken for copies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.data.checks.fingerprint import BITS, TURNS, fingerprint, turned, turned_bits
from apiece.data.checks.twins import CHUNK, Twin, Twins
from apiece.data.synthetic import discs


def photograph(seed: int, size=(180, 240)) -> np.ndarray:
    """A ground of its own with blobs on it."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(
        rng.integers(0, 160, (7, 9, 3)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    return np.maximum(discs(rng, size, 12, radius=(8, 16)).image, ground)


def nuclei(seed: int, size=(128, 128)) -> np.ndarray:
    """Dim blobs on black, as fluorescence is."""
    sample = discs(np.random.default_rng(seed), size, 15, radius=(4, 8), noise=1)
    return (np.clip(sample.image.astype(int) - 70, 0, 255) // 3).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], 1)


class Shelf:
    """Twins with the pictures in memory."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.twins = Twins(lambda key: self.images[key])

    def add(self, image: np.ndarray, split: str = "train", digest: bytes | None = None) -> Twin | None:
        self.images.append(image)
        key = len(self.images) - 1
        return self.twins.add(key, split, digest or image.tobytes(), fingerprint(image), image)


CHANGES = {
    "worse quality": lambda a: jpeg(a, 30),
    "smaller": lambda a: cv2.resize(a, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda a: np.clip(a * 1.2 + 10.0, 0, 255).astype(np.uint8),
    "gamma": lambda a: (255 * (a / 255) ** 1.4).astype(np.uint8),
    "noisy": lambda a: np.clip(a + np.random.default_rng(0).normal(0, 8, a.shape), 0, 255).astype(np.uint8),
    "grey": lambda a: np.repeat(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "cut by 1 %": lambda a: np.ascontiguousarray(a[2:, 2:]),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_a_copy_is_found_in_every_position(name: str, turn: int):
    shelf = Shelf()
    for seed in range(5):
        assert shelf.add(photograph(seed)) is None
    copy = np.ascontiguousarray(turned(CHANGES[name](photograph(2)), turn))
    twin = shelf.add(copy, "val")
    assert twin is not None
    assert (twin.key, twin.split, twin.exact) == (2, "train", False)
    assert bool(twin.turn) == (turn > 0)
    assert twin.alike > 0.9


def test_other_pictures_are_not_copies():
    shelf = Shelf()
    for seed in range(60):
        assert shelf.add(photograph(seed)) is None
        assert shelf.add(nuclei(seed)) is None


def test_one_camera_and_another_object_are_two_pictures():
    """The same ground in the same light: only what lies on it differs."""
    ground, shelf = photograph(1), Shelf()
    for x in (30, 90, 150):
        scene = ground.copy()
        cv2.circle(scene, (x, 120), 14, (250, 240, 230), -1)
        assert shelf.add(scene) is None


def test_equal_files_and_splits():
    shelf = Shelf()
    a = photograph(1)
    assert shelf.add(a, "train", b"a") is None
    own = shelf.add(a, "train", b"a")
    assert own == Twin(0, "train", True, "", 1.0)
    across = shelf.add(a, "val", b"a")
    assert across == Twin(0, "train", True, "", 1.0)
    # Now that both splits hold it, the other split is told, wherever the next one lies.
    again = shelf.add(a, "train", b"a")
    assert again == Twin(2, "val", True, "", 1.0)
    near = shelf.add(jpeg(a, 40), "test")
    assert near is not None
    assert (near.exact, near.split) == (False, "train")


def test_pictures_without_contrast_are_compared_by_their_bytes_alone():
    shelf = Shelf()
    assert fingerprint(np.full((20, 30, 3), 7, np.uint8)) is None
    assert shelf.add(np.full((20, 30, 3), 7, np.uint8)) is None
    assert shelf.add(np.full((20, 30, 3), 9, np.uint8)) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_bits_of_a_turned_picture_are_the_turned_bits(seed: int, turn: int):
    """Up to the few whose frequency is nearly absent."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), (0, 0), 1)
    mark, other = fingerprint(image), fingerprint(np.ascontiguousarray(turned(image, turn)))
    assert mark is not None
    assert other is not None
    assert mark.bits.shape == (BITS,)
    assert BITS % CHUNK == 0
    assert (turned_bits(mark.bits)[turn] ^ other.bits).sum() <= 4


def test_time_grows_with_the_number_of_pictures():
    """A bucket holds few of many pictures: of 3000 random marks, hardly one is compared with another."""
    rng = np.random.default_rng(3)
    compared: list[int] = []
    twins = Twins(lambda key: compared.append(key))  # type: ignore[arg-type, return-value]
    image = photograph(0, (32, 32))
    for key in range(3000):
        mark = fingerprint(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
        assert twins.add(key, "", key.to_bytes(4, "big"), mark, image) is None
    assert len(compared) < 30
