"""Windows: any window equals the same part of the whole picture, and only what it touches is read."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apiece.core import windows_tiff
from apiece.core.image import ImageLimits, read_image
from apiece.core.orientation import orient
from apiece.core.samples import Samples
from apiece.core.tone import Tally, _limits
from apiece.core.windows import Recent, open_windows
from apiece.errors import ImageError

zarr = pytest.importorskip("zarr")
PACKINGS = [None, "zlib", "lzw", "packbits", "jpeg", "zstd", "lzma"]
DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64, np.bool_]
LAYOUTS = ["grey", "rgb", "planar rgb", "channels", "planar channels", "pages", "ome", "rgba", "imagej"]


def equal_everywhere(path: Path, rng: np.random.Generator, count: int = 8, **options) -> None:
    whole = read_image(path, **options)
    height, width = whole.shape[:2]
    with open_windows(path, **options) as windows:
        assert windows.size == (height, width)
        for k in range(count):
            h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
            if k == 0:
                h, w = height, width
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            window = windows.read(x, y, w, h)
            np.testing.assert_array_equal(window, whole[y : y + h, x : x + w])
            assert window.dtype == np.uint8
            assert window.flags.c_contiguous
            assert window.flags.writeable


def attempt(path: Path, side: int | None = None) -> str:
    """ "" where the window (by default all) can be read, else the sentence that refuses it; nothing else is caught."""
    try:
        with open_windows(path, limits=ImageLimits(max_pixels=10**6)) as windows:
            windows.read(0, 0, side or windows.size[1], side or windows.size[0])
    except ImageError as error:
        return str(error)
    return ""


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype) -> np.ndarray:
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    spread = 255 if dtype == np.uint8 else 4000
    made = (rng.random(shape) ** 3 * spread).astype(dtype)
    if np.dtype(dtype).kind == "f":
        made.reshape(-1)[:: max(1, made.size // 7)] = rng.choice([np.nan, np.inf, -np.inf, -5.5])
    return made


def write(path: Path, rng, layout: str, dtype, packing, tile, order: str, shape: tuple[int, int], big: bool):
    """A TIFF of this kind, or None where there is none."""
    channels = int(rng.integers(2, 6))
    options = {"compression": packing, "byteorder": order, "bigtiff": big}
    if tile:
        options["tile"] = tile
    elif packing and rng.random() < 0.7:
        options["rowsperstrip"] = int(rng.integers(1, shape[0] + 1))
    if packing in ("zlib", "lzw") and np.dtype(dtype).kind in "iu" and layout != "imagej":
        options["predictor"] = bool(rng.random() < 0.5)
    if layout == "grey":
        array, more = values(rng, shape, dtype), {"photometric": rng.choice(["minisblack", "miniswhite"])}
    elif layout == "rgb":
        array, more = values(rng, (*shape, 3), dtype), {"photometric": "rgb"}
    elif layout == "rgba":
        array = values(rng, (*shape, 4), dtype)
        more = {"photometric": "rgb", "extrasamples": [str(rng.choice(["unassalpha", "assocalpha"]))]}
    elif layout == "planar rgb":
        array, more = values(rng, (3, *shape), dtype), {"photometric": "rgb", "planarconfig": "separate"}
    elif layout == "channels":
        array = values(rng, (*shape, channels), dtype)
        more = {"photometric": "minisblack", "planarconfig": "contig"}
    elif layout == "planar channels":
        array = values(rng, (channels, *shape), dtype)
        more = {"photometric": "minisblack", "planarconfig": "separate"}
    elif layout == "imagej":
        array, more = values(rng, (channels, *shape), dtype), {"imagej": True, "metadata": {"axes": "CYX"}}
        options.pop("bigtiff")
    else:
        array = values(rng, (channels, *shape), dtype)
        more = {"photometric": "minisblack", "metadata": {"axes": "CYX"}, "ome": layout == "ome"}
    try:
        tifffile.imwrite(path, array, **options, **more)
    except (ValueError, NotImplementedError, TypeError):
        return False  # the packing doesn't take such samples
    return True


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from(DTYPES),
    st.sampled_from(PACKINGS),
    st.sampled_from([None, None, (16, 16), (32, 16)]),
    st.sampled_from("<>"),
    st.booleans(),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 2**32 - 1),
)
def test_a_window_equals_the_part_of_the_whole_picture(
    tmp_path_factory, layout, dtype, packing, tile, order, big, shape, seed
):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("w") / "a.tif"
    if not write(path, rng, layout, dtype, packing, tile, order, shape, big):
        return
    try:
        read_image(path)
    except ImageError:  # then nothing is promised but a sentence
        attempt(path)
        return
    equal_everywhere(path, rng, 5)


@pytest.mark.parametrize("packing", [None, "zlib", "lzw", "jpeg"])
@pytest.mark.parametrize("tile", [None, (64, 48)])
def test_most_of_the_combinations_can_be_read(tmp_path, rng, packing, tile):
    """The property above would hold for a reader that refuses all."""
    for layout, dtype in (("grey", np.uint8), ("rgb", np.uint8), ("pages", np.uint8), ("grey", np.uint16)):
        if packing == "jpeg" and dtype == np.uint16:
            continue
        path = tmp_path / f"{layout}{np.dtype(dtype)}.tif"
        assert write(path, rng, layout, dtype, packing, tile, "<", (150, 130), False)
        equal_everywhere(path, rng)
        with open_windows(path) as windows:
            assert windows._whole is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("packing", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_windows_are_upright(tmp_path, rng, orientation, packing, dtype):
    path = tmp_path / "a.tif"
    stored = values(rng, (37, 53), dtype)
    tifffile.imwrite(path, stored, compression=packing, extratags=[(274, "H", 1, orientation, True)])
    whole = orient(Samples(1).to_rgb(stored[..., None]), orientation)
    with open_windows(path) as windows:
        assert windows.size == whole.shape[:2]
        np.testing.assert_array_equal(windows.read(3, 4, 21, 22), whole[4:26, 3:24])
        np.testing.assert_array_equal(windows.read(0, 0, *whole.shape[1::-1]), whole)


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_a_stored_window_turned_is_the_window(orientation, seed):
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, 99, tuple(rng.integers(1, 9, 2)))
    upright = orient(stored, orientation)
    h, w = (int(rng.integers(1, n + 1)) for n in upright.shape)
    y, x = int(rng.integers(upright.shape[0] - h + 1)), int(rng.integers(upright.shape[1] - w + 1))
    a, b, c, d = windows_tiff.stored_window((x, y, w, h), stored.shape, orientation)
    np.testing.assert_array_equal(
        orient(stored[b : b + d, a : a + c], orientation), upright[y : y + h, x : x + w]
    )


@pytest.mark.parametrize("packing", ["lzw", "packbits", "zlib", None])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32])
def test_packed_samples_of_the_motorola_order(tmp_path, rng, packing, dtype):
    """Pillow gives them with their bytes exchanged."""
    path = tmp_path / "a.tif"
    for array, colour in ((values(rng, (30, 40), dtype), 1), (values(rng, (30, 40, 3), dtype), 2)):
        tifffile.imwrite(
            path, array, byteorder=">", compression=packing, photometric=[0, "minisblack", "rgb"][colour]
        )
        whole = Samples(2 * colour - 1, colour).to_rgb(array.reshape(30, 40, -1))
        np.testing.assert_array_equal(read_image(path), whole)
        equal_everywhere(path, rng, 3)


def test_a_big_tiff_of_the_motorola_order(tmp_path, rng):
    """Pillow doesn't open it."""
    for dtype, packing in ((np.uint8, None), (np.uint8, "zlib"), (np.float32, "lzw")):
        array = values(rng, (30, 40), dtype)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, array, byteorder=">", bigtiff=True, compression=packing)
        np.testing.assert_array_equal(read_image(path), Samples(1).to_rgb(array[..., None]))
        equal_everywhere(path, rng)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "L", "RGB", "RGBA"])
@pytest.mark.parametrize("packing", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4"])
def test_what_pillow_writes(tmp_path, rng, mode, packing):
    picture = Image.fromarray(values(rng, (61, 83, 3), np.uint8)).convert(mode)
    path = tmp_path / "a.tif"
    if (packing == "group4") != (mode == "1") and packing in ("group4", "jpeg"):
        return
    if packing == "jpeg" and mode in ("1", "P", "RGBA"):
        return
    picture.save(path, compression=packing)
    equal_everywhere(path, rng)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_jpeg_with_thinned_colour(tmp_path, rng, subsampling, tile):
    """What slide scanners write: YCbCr in JPEG tiles."""
    small = Image.fromarray(values(rng, (9, 9, 3), np.uint8)).resize((130, 110), Image.Resampling.BICUBIC)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.asarray(small),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=subsampling,
        tile=tile,
        rowsperstrip=None if tile else 16,
    )
    equal_everywhere(path, rng)
    with open_windows(path) as windows:
        assert windows._whole is None


def test_jpeg_2000_is_read_by_tiles(tmp_path, rng):
    pytest.importorskip("imagecodecs")
    array = values(rng, (70, 90, 3), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, array, photometric="rgb", compression="jpeg2000", compressionargs={"level": 0}, tile=(32, 32)
    )
    equal_everywhere(path, rng)


def test_pages_frames_and_pyramids(tmp_path, rng):
    stack = values(rng, (3, 40, 50), np.uint16)
    for packing in (None, "zlib"):
        path = tmp_path / f"stack{packing}.tif"
        tifffile.imwrite(path, stack, photometric="minisblack", compression=packing)
        with pytest.raises(ImageError, match="holds 3 pages"):
            open_windows(path)
        for page in range(3):
            equal_everywhere(path, rng, page=page)
    path = tmp_path / "pyramid.ome.tif"
    colour = values(rng, (96, 128, 3), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        writer.write(colour, subifds=1, tile=(32, 32), photometric="rgb", compression="zlib")
        writer.write(colour[::2, ::2], subfiletype=1, tile=(32, 32), photometric="rgb", compression="zlib")
    equal_everywhere(path, rng)
    assert open_windows(path).size == (96, 128)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "BMP"])
def test_other_pictures_are_decoded_once(tmp_path, rng, kind, monkeypatch):
    path = tmp_path / "a"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(values(rng, (30, 40, 3), np.uint8)).save(path, kind, exif=exif)
    equal_everywhere(path, rng)
    with open_windows(path) as windows:
        windows.read(0, 0, 5, 5)
        path.unlink()
        windows.read(3, 3, 5, 5)


# --- tone


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["u2", "i2", "u4", "i4", "u8", "i8", "i1", "f2", "f4", "f8"]),
    st.integers(0, 3000),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_the_tone_of_pieces_is_that_of_the_whole(kind, count, pieces, seed):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        array = (rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
        array[rng.random(count) < 0.1] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0])
    else:
        info = np.iinfo(dtype)
        array = rng.integers(info.min, info.max, count, dtype, endpoint=True) >> dtype.type(
            rng.integers(0, 7)
        )
    tally = Tally()
    passes = 0
    while tally.wants_more:
        for piece in np.array_split(array, pieces):
            tally.add(piece)
        tally.end_pass()
        passes += 1
    assert (tally.tone().low, tally.tone().high) == _limits(array)
    assert passes <= max(1, dtype.itemsize // 2)


def test_8_bits_need_no_tone():
    assert not Samples(3).needs_tones(np.dtype(np.uint8))
    assert Samples(3).needs_tones(np.dtype(np.uint16))
    assert Samples(2, 1, (1,)).needs_tones(np.dtype(np.uint8))


# --- cost


def test_a_window_of_a_huge_plain_tiff_costs_its_own_size(tmp_path):
    """8 GB on paper, sparse on disk; beyond every limit of whole pictures."""
    path, side = tmp_path / "huge.tif", 52_000
    made = tifffile.memmap(path, shape=(side, side, 3), dtype=np.uint8, photometric="rgb", bigtiff=True)
    made[30_000:30_010, 40_000:40_020] = [1, 2, 3]
    del made
    with open_windows(path, limits=ImageLimits(max_pixels=10**6)) as windows:
        assert windows.size == (side, side)
        windows.read(0, 0, 10, 10)
        tracemalloc.start()
        begin = time.perf_counter()
        window = windows.read(39_900, 29_900, 512, 512)
        seconds = time.perf_counter() - begin
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (window[100:110, 100:120] == [1, 2, 3]).all()
        assert window.sum() == 200 * 6
        assert peak < 16 * 2**20
        assert seconds < 1
        with pytest.raises(ImageError, match=r"the window has 1,001 x 1,000 .*the limit is 1,000,000"):
            windows.read(0, 0, 1000, 1001)


def test_only_the_tiles_that_meet_the_window_are_decoded_and_none_twice(tmp_path, rng, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values(rng, (512, 640, 3), np.uint8), photometric="rgb", compression="zlib", tile=(64, 64)
    )
    decoded = []
    real = windows_tiff.TiffWindows._block
    monkeypatch.setattr(
        windows_tiff.TiffWindows,
        "_block",
        lambda self, row, column: decoded.append((row, column)) or real(self, row, column),
    )
    with open_windows(path) as windows:
        windows.read(70, 70, 50, 50)
        assert decoded == [(1, 1)]
        windows.read(60, 60, 10, 10)
        assert sorted(decoded) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        for x in range(0, 600, 40):
            windows.read(x, 0, 40, 128)
        assert len(set(decoded)) == len(decoded) == 20


def test_the_recent_blocks_are_bounded():
    recent = Recent(limit=250)
    made = []
    for key in (1, 2, 3, 1, 2, 3, 3):
        recent.get(key, lambda: made.append(0) or np.zeros(100, np.uint8))
        assert recent.nbytes <= 250
    assert len(made) == 6
    recent.get(9, lambda: np.zeros(1000, np.uint8))
    assert recent.nbytes == 1000  # the one that is in use


# --- what the file states


def test_the_width_of_a_pixel(tmp_path):
    array = np.zeros((20, 30), np.uint16)

    def microns(name: str, **options) -> float | None:
        path = tmp_path / name
        tifffile.imwrite(path, array, **options)
        with open_windows(path) as windows:
            return windows.microns

    assert microns("none.tif") is None
    ome = {"axes": "YX", "PhysicalSizeX": 325, "PhysicalSizeXUnit": "nm"}
    assert microns("a.ome.tif", metadata=ome) == pytest.approx(0.325)
    assert microns("b.ome.tif", metadata={"axes": "YX", "PhysicalSizeX": 0.5}) == pytest.approx(0.5)
    assert microns("c.tif", resolution=(20_000, 20_000), resolutionunit="CENTIMETER") == pytest.approx(0.5)
    assert microns("d.tif", resolution=(254_000, 254_000), resolutionunit="INCH") == pytest.approx(0.1)
    for dpi in (72, 96, 300):
        assert microns("e.tif", resolution=(dpi, dpi), resolutionunit="INCH") is None
    assert microns("f.tif", resolution=(72 / 2.54, 72 / 2.54), resolutionunit="CENTIMETER") is None
    for unit in ("micron", "um", "\\u00B5m"):
        found = microns("g.tif", imagej=True, resolution=(4, 4), metadata={"unit": unit, "axes": "YX"})
        assert found == pytest.approx(0.25)
    assert microns("h.tif", imagej=True, resolution=(4, 4), metadata={"unit": "pixel", "axes": "YX"}) is None
    aperio = "Aperio Image Library v12\n30x20 [0,0 30x20] |AppMag = 20|MPP = 0.4990|Left = 1"
    assert microns("i.tif", description=aperio, metadata=None) == pytest.approx(0.499)


def test_a_hostile_ome_header_states_nothing(tmp_path):
    text = (
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><OME xmlns="http://www.openmicroscopy.org/'
        'Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="0.5">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), description=text, metadata=None)
    with open_windows(path) as windows:
        assert windows.microns is None
        assert windows.read(0, 0, 3, 3).shape == (3, 3, 3)


def test_the_digest_tells_states_of_a_file_apart(tmp_path, rng):
    path = tmp_path / "a.tif"
    array = values(rng, (3, 20, 30), np.uint8)
    tifffile.imwrite(path, array, photometric="minisblack")
    first = open_windows(path, page=0).digest
    assert first == open_windows(path, page=0).digest
    assert first != open_windows(path, page=1).digest
    os.utime(path, ns=(1, 1))
    assert first != open_windows(path, page=0).digest


# --- refusals


def test_a_window_lies_inside(tmp_path, rng):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(rng, (20, 30), np.uint8))
    with open_windows(path) as windows:
        for x, y, w, h in (
            (-1, 0, 5, 5),
            (0, -1, 5, 5),
            (26, 0, 5, 5),
            (0, 16, 5, 5),
            (0, 0, 0, 5),
            (0, 0, 5, -1),
        ):
            with pytest.raises(ImageError, match="doesn't lie inside the picture of 20 x 30"):
                windows.read(x, y, w, h)
    with pytest.raises(ImageError, match="closed"):
        windows.read(0, 0, 5, 5)


def test_a_tile_beyond_the_limit_is_refused(tmp_path, rng):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(rng, (100, 100), np.uint8), compression="zlib", tile=(112, 112))
    with pytest.raises(ImageError, match=r"tile or strip has 112 x 112"):
        open_windows(path, limits=ImageLimits(max_pixels=12_000))
    with open_windows(path, limits=ImageLimits(max_pixels=12_544)) as windows:
        windows.read(0, 0, 100, 100)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tile_that_unpacks_to_gigabytes_is_stopped(tmp_path, dtype):
    data = io.BytesIO()
    tifffile.imwrite(data, np.zeros((16, 16), dtype), compression="zlib", tile=(16, 16), metadata=None)
    page = tifffile.TiffFile(io.BytesIO(data.getvalue())).pages[0]
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(128)) + packer.flush()
    changed = bytearray(data.getvalue()) + bomb
    for code, value in ((324, len(data.getvalue())), (325, len(bomb))):
        tag = page.tags[code]
        width = tag.valuebytecount
        changed[tag.valueoffset : tag.valueoffset + width] = value.to_bytes(width, "little")
    path = tmp_path / "a.tif"
    path.write_bytes(changed)
    tracemalloc.start()
    message = attempt(path)
    assert "damaged" in message or (dtype == np.uint8 and not message)  # libtiff stops when the tile is full
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzw", "tile": (16, 16)}])
def test_damage_and_cuts_raise_nothing_but_image_errors(tmp_path, rng, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(rng, (64, 64), np.uint16), **options)
    whole = path.read_bytes()
    refused = 0
    for k in range(60):
        damaged = bytearray(whole)
        if k % 3 == 0:
            del damaged[int(rng.integers(1, len(whole))) :]
        else:
            for at in rng.integers(4, len(whole) if k % 3 == 1 else 400, 3):
                damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        message = attempt(path, 1)
        refused += bool(message)
        assert not message or message.startswith(f"{path}: ")
        assert "\n" not in message
    assert refused >= 15


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "text.tif").write_text("hello")
    for path, words in (
        (tmp_path / "nowhere.tif", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "text.tif", "is text"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(ImageError, match=words):
            open_windows(path)


# --- Zarr


def whole_of(array: np.ndarray) -> np.ndarray:
    """What the picture of channels (C, H, W) looks like, by the rules of whole pictures."""
    return Samples(len(array)).to_rgb(np.ascontiguousarray(array.transpose(1, 2, 0)))


def zarr_array(path: Path, array: np.ndarray, **options) -> None:
    made = zarr.create_array(str(path), shape=array.shape, dtype=array.dtype, **options)
    made[...] = array


def equal_zarr(path: Path, whole: np.ndarray, rng, **options) -> None:
    with open_windows(path, **options) as windows:
        assert windows.size == whole.shape[:2]
        for _ in range(6):
            h, w = (int(rng.integers(1, n + 1)) for n in whole.shape[:2])
            y, x = int(rng.integers(whole.shape[0] - h + 1)), int(rng.integers(whole.shape[1] - w + 1))
            np.testing.assert_array_equal(windows.read(x, y, w, h), whole[y : y + h, x : x + w])


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([2, 3]),
    st.sampled_from(["auto", "gzip", "blosc", None, "shards"]),
    st.sampled_from([np.uint8, np.uint16, np.float32, np.int32]),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_a_window_of_zarr_equals_the_part_of_the_whole(
    tmp_path_factory, version, packing, dtype, channels, seed
):
    from zarr.codecs import BloscCodec, GzipCodec

    rng = np.random.default_rng(seed)
    array = values(rng, (channels, 70, 90), dtype)
    options = {"zarr_format": version, "chunks": (int(rng.integers(1, channels + 1)), 16, 32)}
    if packing in ("gzip", "blosc") and version == 3:
        options["compressors"] = GzipCodec() if packing == "gzip" else BloscCodec()
    elif packing is None:
        options["compressors"] = None
    elif packing == "shards" and version == 3:
        options |= {"shards": (options["chunks"][0] * 2, 32, 64)}
    path = tmp_path_factory.mktemp("z") / "a.zarr"
    zarr_array(path, array, **options)
    equal_zarr(path, whole_of(array), rng)


def ome_zarr(path: Path, array: np.ndarray, axes: str, version: str, unit: str | None = "micrometer") -> None:
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    made = group.create_array(
        "0", shape=array.shape, dtype=array.dtype, chunks=(1,) * (array.ndim - 2) + (32, 32)
    )
    made[...] = array
    kinds = {"t": "time", "c": "channel"}
    named = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": unit} if a in "zyx" and unit else {})}
        for a in axes
    ]
    scale = [{"t": 1.0, "c": 1.0, "z": 2.0}.get(a, 0.25) for a in axes]
    multiscales = [
        {
            "axes": named,
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
            "coordinateTransformations": [{"type": "scale", "scale": [2.0] * len(axes)}],
            "version": version,
        }
    ]
    if version == "0.4":
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": version, "multiscales": multiscales}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, rng, version):
    array = values(rng, (1, 2, 3, 50, 60), np.uint16)
    ome_zarr(tmp_path / "a.zarr", array, "tczyx", version)
    with pytest.raises(
        ImageError, match=r"holds 3 planes \(axes tczyx = 1 x 2 x 3 x 50 x 60\).*page=0 to page=2"
    ):
        open_windows(tmp_path / "a.zarr")
    equal_zarr(tmp_path / "a.zarr", whole_of(array[0, :, 1]), rng, page=1)
    with pytest.raises(ImageError, match="no page 3"):
        open_windows(tmp_path / "a.zarr", page=3)
    with open_windows(tmp_path / "a.zarr", page=0) as windows:
        assert windows.microns == pytest.approx(0.5)
        assert windows.digest != open_windows(tmp_path / "a.zarr", page=1).digest
    ome_zarr(tmp_path / "b.zarr", array[:, :, :1], "tczyx", version, unit=None)
    equal_zarr(tmp_path / "b.zarr", whole_of(array[0, :, 0]), rng)
    assert open_windows(tmp_path / "b.zarr").microns is None


def test_channels_last(tmp_path, rng):
    array = values(rng, (50, 60, 3), np.uint8)
    zarr_array(tmp_path / "a.zarr", array, chunks=(20, 20, 3))
    equal_zarr(tmp_path / "a.zarr", array, rng)


@pytest.mark.parametrize("codec", ["pickle", "json2", "made-up"])
def test_no_codec_runs_that_could_execute_something(tmp_path, rng, codec):
    path = tmp_path / "a.zarr"
    zarr_array(path, values(rng, (20, 20), np.uint8), chunks=(20, 20), zarr_format=2)
    document = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(document | {"filters": [{"id": codec}]}))
    with pytest.raises(ImageError, match=f"a.zarr: is packed with '{codec}'"):
        open_windows(path)
    (path / ".zarray").write_text(json.dumps(document | {"dtype": "|O"}))
    with pytest.raises(ImageError, match="expected numbers"):
        open_windows(path)


@pytest.mark.parametrize("packing", ["gzip", "zstd", "blosc"])
@pytest.mark.parametrize("shards", [None, (32, 32)])
def test_a_chunk_that_unpacks_to_gigabytes_is_stopped(tmp_path, rng, packing, shards):
    """The chunk of a bigger array stands where one of 16 x 16 is expected."""
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    codec = {"gzip": GzipCodec(), "zstd": ZstdCodec(), "blosc": BloscCodec()}[packing]
    for name, side in (("small", 16), ("big", 2048)):
        array = np.zeros((2 * side, 2 * side), np.uint8)
        array[0, 0] = 1
        zarr_array(
            tmp_path / name,
            array,
            chunks=(side, side),
            shards=shards and (2 * side, 2 * side),
            compressors=codec,
        )
    for path in (tmp_path / "big" / "c").rglob("*"):
        if path.is_file():
            shutil.copyfile(path, tmp_path / "small" / path.relative_to(tmp_path / "big"))
    with (
        pytest.raises(ImageError, match=r"chunk c/0/0 is damaged: .*(unpacks to more|bytes for)"),
        open_windows(tmp_path / "small") as windows,
    ):
        windows.read(0, 0, 4, 4)


def test_zarr_that_lies_or_leads_outside(tmp_path, rng):
    ome_zarr(tmp_path / "a.zarr", values(rng, (1, 20, 20), np.uint8), "cyx", "0.4")
    (tmp_path / "out").mkdir()
    attributes = json.loads((tmp_path / "a.zarr" / ".zattrs").read_text())
    for path in ("../out", "/etc", "..\\out"):
        attributes["multiscales"][0]["datasets"][0]["path"] = path
        (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps(attributes))
        with pytest.raises(ImageError, match="expected a path within the folder"):
            open_windows(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zattrs").write_text("{")
    with pytest.raises(ImageError, match=r"\.zattrs is damaged"):
        open_windows(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zattrs").write_text("{}")
    with pytest.raises(ImageError, match="no multiscales"):
        open_windows(tmp_path / "a.zarr")
    path = tmp_path / "b.zarr"
    zarr_array(path, values(rng, (20, 20), np.uint8), chunks=(10, 10), zarr_format=2)
    (tmp_path / "secret").write_bytes(bytes(100))
    (path / "0.0").unlink()
    (path / "0.0").symlink_to(tmp_path / "secret")
    with pytest.raises(ImageError, match="leads out of the folder"):
        open_windows(path).read(0, 0, 5, 5)
    (path / "0.0").unlink()
    (path / "0.0").write_bytes(b"no blosc and no zstd")
    with pytest.raises(ImageError, match=r"b\.zarr: .*damaged"):
        open_windows(path).read(0, 0, 5, 5)
    (path / "0.0").unlink()  # a chunk that isn't there holds the fill value
    assert not open_windows(path).read(0, 0, 5, 5).any()


def test_metadata_of_any_content_raises_nothing_but_image_errors(tmp_path, rng):
    zarr_array(tmp_path / "a", values(rng, (20, 20), np.uint8), chunks=(10, 10))
    whole = json.loads((tmp_path / "a" / "zarr.json").read_text())
    refused = 0
    for key in whole:
        for value in (None, 0, -1, "x", [], {}, [-1], [1e9], {"name": "x"}, [{"name": []}]):
            (tmp_path / "a" / "zarr.json").write_text(json.dumps(whole | {key: value}))
            message = attempt(tmp_path / "a", 5)
            refused += bool(message)
            assert not message or message.startswith(f"{tmp_path / 'a'}: ")
    assert refused > 60


def test_without_the_package_zarr_one_sentence_says_so(tmp_path, rng, monkeypatch):
    zarr_array(tmp_path / "a", values(rng, (20, 20), np.uint8), chunks=(10, 10))
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ImageError, match=r"pip install 'apiece\[cells\]'"):
        open_windows(tmp_path / "a")
