"""Scenes larger than memory: the same picture whatever the band, in a file that readers take."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from apiece.core.image import read_image
from apiece.core.masks import Masks
from apiece.core.windows import open_windows
from apiece.data.synthetic import SHAPES, Scene, large_scene, scene
from apiece.data.synthetic.paint import ids_rows
from apiece.errors import GeometryError, ImageError, UsageError

BUSY = Scene(
    shapes=SHAPES, touching=0.4, overlap=0.3, fence=(40.0, 3.0), light=0.3, blur=1.3, photons=400, noise=3
)


def rng(seed=0):
    return np.random.default_rng(seed)


@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(40, 150), st.integers(40, 150)),
    bands=st.tuples(st.integers(1, 40), st.integers(1, 200)),
    ids=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_the_file_does_not_depend_on_the_band(tmp_path_factory, seed, size, bands, ids):
    folder = tmp_path_factory.mktemp("bands")
    wanted = scene(rng(seed), size, 8, BUSY, ids=ids)
    for band in (*bands, None):
        found = large_scene(rng(seed), folder / f"{band}.tif", size, 8, BUSY, ids=ids, band=band)
        assert found == wanted.instances
        np.testing.assert_array_equal(tifffile.imread(folder / f"{band}.tif"), wanted.image)
    assert len({path.read_bytes() for path in folder.iterdir()}) == 1


def test_every_object_is_just_the_pixels_of_its_number(tmp_path):
    path = tmp_path / "ids.tif"
    objects = large_scene(rng(1), path, (500, 600), 400, Scene(touching=0.5, overlap=0.2), ids=True)
    labels = read_image(path).astype(np.int64) @ np.array([1, 256, 65536])
    assert labels.max() == 400
    np.testing.assert_array_equal(objects.masks.to_label_image(), labels)


def test_numbers_fill_three_channels():
    labels = np.arange(66_000).reshape(200, 330)
    masks = Masks.from_label_image(labels)
    rows = np.concatenate([ids_rows(masks, 0, 77), ids_rows(masks, 77, 200)])
    np.testing.assert_array_equal(rows.astype(np.int64) @ np.array([1, 256, 65536]), labels)


def test_windows_and_memory_maps_read_it(tmp_path):
    path = tmp_path / "large.tif"
    large_scene(rng(2), path, (700, 900), 40, BUSY)
    whole = read_image(path)
    np.testing.assert_array_equal(tifffile.memmap(path, mode="r"), whole)
    with open_windows(path) as windows:
        assert windows.size == (700, 900)
        np.testing.assert_array_equal(windows.read(123, 45, 600, 500), whole[45:545, 123:723])


def test_objects_touch_overlap_and_lie_across_lines(tmp_path):
    """What a tiling benchmark needs: of each kind a good share on any grid."""
    objects = large_scene(
        rng(3), tmp_path / "a.tif", (1500, 1500), 300, Scene(touching=0.4, overlap=0.3), ids=True
    )
    boxes = objects.boxes
    for side in (256, 400):
        across = ((boxes[:, :2] // side) != ((boxes[:, 2:] - 1) // side)).any(axis=1)
        assert across.mean() > 0.1
    assert 0.05 < (objects.columns["visible"] < 1).mean() < 0.5


def test_memory_is_that_of_the_objects(tmp_path):
    size = (3000, 3000)
    tracemalloc.start()
    large_scene(rng(4), tmp_path / "a.tif", size, 20, Scene(radius=(20, 40)), band=32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.25 * 3 * size[0] * size[1]  # the picture itself is 27 MB


def test_pictures_of_one_pixel_or_one_line(tmp_path):
    for size in ((1, 1), (1, 40), (40, 1)):
        found = large_scene(rng(5), tmp_path / "a.tif", size, 0, BUSY)
        assert len(found) == 0
        assert read_image(tmp_path / "a.tif").shape == (*size, 3)


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(GeometryError, match="no place"):
        large_scene(rng(), tmp_path / "a.tif", (9, 9), 90)
    with pytest.raises(UsageError, match="band is 0"):
        large_scene(rng(), tmp_path / "a.tif", (90, 90), 1, band=0)
    with pytest.raises(ImageError, match="cannot be written"):
        large_scene(rng(), tmp_path / "none" / "a.tif", (90, 90), 1)
    assert list(tmp_path.iterdir()) == []
