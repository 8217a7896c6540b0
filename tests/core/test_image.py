from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from apiece.core.image import (
    ImageLimits,
    decode_image,
    find_images,
    image_size,
    read_image,
    read_label_image,
    write_image,
)
from apiece.core.orientation import INVERSE, orient
from apiece.core.tone import to_eight_bits
from apiece.errors import AnnotationError, ImageError


@pytest.fixture
def photo(rng) -> np.ndarray:
    """Smooth colours, not square, no symmetry."""
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, (53, 37), interpolation=cv2.INTER_CUBIC)


def png(
    width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, before_end: bytes = b""
) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    extra = chunk(b"eXIf", before_end) if before_end else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + extra + chunk(b"IEND", b"")


def sixteen_bit_png(samples: np.ndarray) -> bytes:
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(width, height, rows, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels])


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


# --- the ordinary path


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WebP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_lossless_formats_come_back_exactly(tmp_path, photo, kind, mode):
    picture = Image.fromarray(photo).convert(mode)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(saved(picture, kind, **({"lossless": True} if kind == "WebP" else {})))
    image = read_image(path)
    assert np.array_equal(image, np.asarray(picture.convert("RGB")))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert image_size(path) == photo.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_equals_pillow_up_to_the_decoders_rounding(photo, mode):
    data = saved(Image.fromarray(photo).convert(mode), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_image(data) - expected).max() <= 2


def test_the_suffix_does_not_decide(tmp_path, photo):
    path = tmp_path / "really_a_jpeg.png"
    path.write_bytes(saved(Image.fromarray(photo), "JPEG"))
    assert read_image(path).shape == photo.shape


# --- orientation


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


UPRIGHT = {  # what a viewer does, written out independently: EXIF 2.3, tag 274
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind", ["PNG", "WebP", "TIFF", "TIFF deflate", "TIFF 16 bit", "TIFF lzw 16 bit", "PNG late"]
)
def test_pictures_are_upright(tmp_path, photo, orientation, kind):
    path = tmp_path / "a"
    tag = {"extratags": [(274, "H", 1, orientation, True)]}
    expected = UPRIGHT[orientation](photo)
    if kind == "PNG":
        path.write_bytes(saved(Image.fromarray(photo), "PNG", exif=exif(orientation)))
    elif kind == "PNG late":  # the specification lets EXIF stand behind the pixels
        rows = b"".join(b"\0" + row.tobytes() for row in photo)
        path.write_bytes(png(53, 37, rows, before_end=exif(orientation)[6:]))
    elif kind == "WebP":
        path.write_bytes(saved(Image.fromarray(photo), "WebP", lossless=True, exif=exif(orientation)))
    elif kind == "TIFF":
        path.write_bytes(tiff(photo, photometric="rgb", **tag))
    elif kind == "TIFF deflate":
        path.write_bytes(tiff(photo, photometric="rgb", compression="zlib", **tag))
    else:
        grey = photo[..., 0].astype(np.uint16) * 7
        expected = to_eight_bits(UPRIGHT[orientation](grey))[..., None].repeat(3, 2)
        if kind == "TIFF 16 bit":
            path.write_bytes(tiff(grey, **tag))
        else:
            picture = Image.fromarray(grey)
            path.write_bytes(saved(picture, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation}))
    assert np.array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_upright(photo, orientation):
    data = saved(Image.fromarray(photo), "JPEG", quality=95, exif=exif(orientation))
    plain = decode_image(saved(Image.fromarray(photo), "JPEG", quality=95))
    assert np.array_equal(decode_image(data), UPRIGHT[orientation](plain))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_inverse_orientation_undoes_it(photo, orientation):
    assert np.array_equal(orient(orient(photo, orientation), INVERSE.get(orientation, orientation)), photo)


def test_a_damaged_orientation_counts_as_none(photo):
    data = saved(Image.fromarray(photo), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(decode_image(data), photo)


# --- colour


def test_transparency_is_shown_on_white(photo):
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, 10:20] = 255
    alpha[:, 20:30] = 128
    image = decode_image(saved(Image.fromarray(np.dstack([photo, alpha])), "PNG"))
    assert (image[:, :10] == 255).all()
    assert np.array_equal(image[:, 10:20], photo[:, 10:20])
    expected = (photo[:, 20:30].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(image[:, 20:30] - expected).max() <= 0.51


@pytest.mark.parametrize("mode", ["LA", "P", "PA", "RGB"])
def test_every_way_to_be_transparent_agrees(mode):
    """Black, half of it invisible: grey with opacity, palettes, a transparent colour."""
    grey = np.zeros((4, 6), np.uint8)
    grey[:, 3:] = 9
    if mode == "LA":
        picture, options = (
            Image.fromarray(np.dstack([grey, np.where(grey == 9, 0, 255).astype(np.uint8)])),
            {},
        )
    elif mode == "RGB":
        picture, options = Image.fromarray(grey).convert("RGB"), {"transparency": (9, 9, 9)}
    else:
        picture = Image.fromarray((grey == 9).astype(np.uint8))
        picture.putpalette([0, 0, 0, 9, 9, 9])
        options = {"transparency": 1 if mode == "P" else b"\xff\x00"}
    image = decode_image(saved(picture, "PNG", **options))
    assert not image[:, :3].any()
    assert (image[:, 3:] == 255).all()


def test_palette_one_bit_and_cmyk(photo):
    palette = Image.fromarray(photo).quantize(16)
    assert np.array_equal(decode_image(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    assert np.array_equal(decode_image(saved(palette, "TIFF")), np.asarray(palette.convert("RGB")))
    bits = photo[..., 0] > 127
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(
            decode_image(saved(Image.fromarray(bits), kind)), bits[..., None].repeat(3, 2) * 255
        )
    cmyk = Image.fromarray(photo).convert("CMYK")
    assert np.array_equal(decode_image(saved(cmyk, "TIFF")), photo)
    assert np.abs(decode_image(saved(cmyk, "JPEG", quality=95)).astype(int) - photo).mean() < 4


# --- more than 8 bits


@pytest.mark.parametrize(
    "kind", ["PNG", "TIFF", "TIFF big endian", "TIFF lzw", "TIFF deflate", "TIFF float", "TIFF int"]
)
def test_deep_grey_is_stretched_alike_in_every_container(rng, kind):
    grey = rng.integers(300, 4096, (40, 50)).astype(np.uint16)
    data = {
        "PNG": lambda: saved(Image.fromarray(grey), "PNG"),
        "TIFF": lambda: tiff(grey),
        "TIFF big endian": lambda: tiff(grey, byteorder=">"),
        "TIFF lzw": lambda: saved(Image.fromarray(grey), "TIFF", compression="tiff_lzw"),
        "TIFF deflate": lambda: tiff(grey, compression="zlib", predictor=True),
        "TIFF float": lambda: tiff(grey.astype(np.float32)),
        "TIFF int": lambda: tiff(grey.astype(np.int32), tile=(16, 16)),
    }[kind]()
    image = decode_image(data)
    assert np.array_equal(image, to_eight_bits(grey)[..., None].repeat(3, 2))
    low, high = np.quantile(grey, [0.001, 0.999])
    expected = np.clip((grey - low) / (high - low), 0, 1) * 255
    assert np.abs(image[..., 0] - expected).max() <= 1


def test_deep_colour_has_one_stretch_for_all_three(rng):
    """16-bit colour in PNG, and in TIFF plain, planar, packed: the same picture, its hue kept."""
    colour = (rng.integers(0, 60000, (24, 30, 3)) * [1.0, 0.5, 0.25]).astype(np.uint16)
    expected = to_eight_bits(colour)
    assert expected[..., 2].max() < 0.3 * 255
    versions = [
        sixteen_bit_png(colour),
        sixteen_bit_png(np.dstack([colour, np.full((24, 30), 65535, np.uint16)])),
        tiff(colour, photometric="rgb"),
        tiff(colour, photometric="rgb", compression="zlib", predictor=True),
        tiff(colour.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        cv2.imencode(".tif", colour[..., ::-1])[1].tobytes(),  # LZW
        tiff(
            np.dstack([colour, np.full((24, 30), 65535, np.uint16)]),
            photometric="rgb",
            extrasamples=["unassalpha"],
        ),
    ]
    for data in versions:
        assert np.array_equal(decode_image(data), expected)


def test_deep_colour_behind_transparency(rng):
    colour = rng.integers(0, 65536, (9, 8, 3), dtype=np.uint16)
    alpha = np.zeros((9, 8), np.uint16)
    alpha[:, :4] = 65535
    both = np.dstack([colour, alpha])
    for data in (sixteen_bit_png(both), tiff(both, photometric="rgb", extrasamples=["unassalpha"])):
        image = decode_image(data)
        assert (image[:, 4:] == 255).all()
        assert np.array_equal(image[:, :4], to_eight_bits(colour)[:, :4])


def test_grey_with_opacity_of_16_bits(rng):
    grey = rng.integers(0, 65536, (9, 8), dtype=np.uint16)
    data = sixteen_bit_png(np.dstack([grey, np.full_like(grey, 65535)]))
    assert np.array_equal(decode_image(data), to_eight_bits(grey)[..., None].repeat(3, 2))


def test_white_is_zero_is_turned_round(rng):
    deep = rng.integers(0, 65536, (12, 9), dtype=np.uint16)
    assert np.array_equal(
        decode_image(tiff(deep, photometric="miniswhite")),
        to_eight_bits(65535 - deep)[..., None].repeat(3, 2),
    )
    flat = (deep >> 8).astype(np.uint8)
    assert np.array_equal(decode_image(tiff(flat, photometric="miniswhite"))[..., 0], 255 - flat)


# --- tone


def test_eight_bits_are_never_rescaled():
    values = np.array([[3, 4], [5, 90]], np.uint8)
    assert to_eight_bits(values) is values
    assert to_eight_bits(np.array([False, True])).tolist() == [0, 255]


@pytest.mark.parametrize(
    "dtype", [np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float16, np.float32, np.float64]
)
def test_the_stretch_doesnt_depend_on_the_type(rng, dtype):
    values = rng.integers(0, 2000, 5000)
    assert np.array_equal(to_eight_bits(values.astype(dtype)), to_eight_bits(values.astype(np.float64)))


def test_a_hot_pixel_doesnt_darken_the_picture(rng):
    values = rng.integers(100, 200, 100_000).astype(np.uint16)
    calm = to_eight_bits(values)
    values[:5] = 65535
    hot = to_eight_bits(values)
    assert np.array_equal(hot[5:], calm[5:])
    assert (hot[:5] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_few_bright_pixels_on_even_ground_stay_visible(dtype):
    values = np.full((100, 100), 7, dtype)
    values[3, 3] = 9
    image = to_eight_bits(values)
    assert image[3, 3] == 255
    assert image.sum() == 255


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("value", [0, 500])
def test_a_constant_picture_is_black(dtype, value):
    assert not to_eight_bits(np.full((5, 5), value, dtype)).any()


@pytest.mark.filterwarnings("error")
def test_not_a_number_and_infinity():
    values = np.linspace(0, 1, 1000).reshape(10, 100)
    values[0, :3] = np.nan, np.inf, -np.inf
    image = to_eight_bits(values.astype(np.float32))
    assert image[0, :3].tolist() == [0, 255, 0]
    assert (np.diff(image.reshape(-1)[3:].astype(int)) >= 0).all()
    assert image[-1, -1] == 255
    assert not to_eight_bits(np.full((3, 3), np.nan, np.float32)).any()
    flat = to_eight_bits(np.array([5, 5, np.inf, -np.inf, np.nan]))
    assert flat.tolist() == [0, 0, 255, 0, 0]
    assert to_eight_bits(np.array([-1.7e308, 0, 1.7e308])).tolist() == [0, 128, 255]


# --- channels and pages


@pytest.mark.parametrize("channels", [2, 4, 5, 7])
@pytest.mark.parametrize(
    "layout", ["contiguous", "planar", "imagej", "ome", "last by shape", "planar deflate"]
)
def test_many_channels_become_their_maximum(rng, channels, layout):
    stack = (rng.random((channels, 40, 50)) * 10.0 ** rng.integers(1, 4, (channels, 1, 1))).astype(np.uint16)
    expected = np.max([to_eight_bits(plane) for plane in stack], axis=0)[..., None].repeat(3, 2)
    last = np.ascontiguousarray(stack.transpose(1, 2, 0))
    data = {
        "contiguous": lambda: tiff(last, photometric="minisblack", planarconfig="contig"),
        "planar": lambda: tiff(stack, photometric="minisblack", planarconfig="separate"),
        "planar deflate": lambda: tiff(
            stack, photometric="minisblack", planarconfig="separate", compression="zlib"
        ),
        "imagej": lambda: tiff(stack, imagej=True, metadata={"axes": "CYX"}),
        "ome": lambda: tiff(stack, ome=True, metadata={"axes": "CYX"}, photometric="minisblack"),
        "last by shape": lambda: tiff(last, photometric="minisblack"),
    }[layout]()
    assert np.array_equal(decode_image(data), expected)


def test_eight_bit_channels_are_projected_as_they_are(rng):
    stack = rng.integers(0, 40, (5, 20, 30), dtype=np.uint8)
    image = decode_image(tiff(stack, photometric="minisblack", planarconfig="separate"))
    assert np.array_equal(image, stack.max(0)[..., None].repeat(3, 2))


def test_three_channels_are_red_green_and_blue_each_stretched(rng):
    stack = (rng.random((3, 20, 30)) * np.array([100, 1000, 10000])[:, None, None]).astype(np.float32)
    expected = np.stack([to_eight_bits(plane) for plane in stack], axis=2)
    assert np.array_equal(
        decode_image(tiff(stack, photometric="minisblack", planarconfig="separate")), expected
    )
    assert np.array_equal(decode_image(tiff(stack, imagej=True, metadata={"axes": "CYX"})), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"metadata": None},
    ],
)
def test_a_stack_is_refused_until_a_page_is_chosen(rng, options):
    stack = rng.integers(0, 5000, (6, 20, 30)).astype(np.uint16)
    data = tiff(stack, photometric="minisblack", **options)
    with pytest.raises(ImageError, match=r"well\.tif: holds 6 pages .*page=0 to page=5"):
        decode_image(data, "well.tif")
    for page in (0, 3, 5):
        assert np.array_equal(decode_image(data, page=page)[..., 0], to_eight_bits(stack[page]))
    for page in (6, -1):
        with pytest.raises(ImageError, match=f"no page {page}; it holds 6"):
            decode_image(data, page=page)


def test_a_page_of_a_stack_keeps_its_channels(rng):
    hyper = rng.integers(0, 5000, (4, 2, 20, 30)).astype(np.uint16)
    for options in (
        {"imagej": True, "metadata": {"axes": "TCYX"}},
        {"ome": True, "metadata": {"axes": "ZCYX"}},
    ):
        data = tiff(hyper, photometric="minisblack", **options)
        with pytest.raises(ImageError, match="holds 4 pages"):
            decode_image(data)
        expected = np.maximum(*(to_eight_bits(channel) for channel in hyper[2]))
        assert np.array_equal(decode_image(data, page=2)[..., 0], expected)


def test_channels_outside_the_stack_axis_are_found(rng):
    """OME may store all planes of one channel first."""
    hyper = rng.integers(0, 5000, (2, 3, 20, 30)).astype(np.uint16)
    data = tiff(hyper, photometric="minisblack", ome=True, metadata={"axes": "CZYX"})
    expected = np.maximum(to_eight_bits(hyper[0, 1]), to_eight_bits(hyper[1, 1]))
    assert np.array_equal(decode_image(data, page=1)[..., 0], expected)


def test_pages_of_unequal_size_and_8_bit_colour(photo):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(photo, photometric="rgb", compression="zlib")
        writer.write(photo[:9, :9], photometric="rgb")
    with pytest.raises(ImageError, match="holds 2 pages"):
        decode_image(file.getvalue())
    assert np.array_equal(decode_image(file.getvalue(), page=0), photo)
    assert np.array_equal(decode_image(file.getvalue(), page=1), photo[:9, :9])


def test_a_thumbnail_is_not_a_page(photo):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(photo, photometric="rgb")
        writer.write(photo[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(decode_image(file.getvalue()), photo)


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_an_animation_is_refused_until_a_frame_is_chosen(photo, kind):
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1].copy())]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(ImageError, match=r"holds 2 pages .*page=0 to page=1"):
        decode_image(data)
    assert np.array_equal(decode_image(data, page=1), photo[::-1])
    with pytest.raises(ImageError, match="no page 2; it holds 2"):
        decode_image(data, page=2)


def test_part_of_a_multi_file_ome_tiff_opens_no_other_file(tmp_path, rng):
    """A header may name other files; a picture from a stranger must not make us read them."""
    stack = rng.integers(0, 99, (2, 8, 9)).astype(np.uint16)
    data = tiff(stack, photometric="minisblack", ome=True, metadata={"axes": "ZYX"})
    text = tifffile.TiffFile(io.BytesIO(data)).ome_metadata
    (tmp_path / "other.tif").write_bytes(data)
    blocks = (
        '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="one.ome.tif">urn:uuid:1</UUID></TiffData>'
        '<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="other.tif">urn:uuid:2</UUID></TiffData>'
    )
    named = text[: text.index("<TiffData")] + blocks + text[text.index("</Pixels>") :]
    named = re.sub(r' UUID="[^"]*"', ' UUID="urn:uuid:1"', named)
    path = tmp_path / "one.ome.tif"
    tifffile.imwrite(path, stack[0], description=named.encode(), metadata=None)
    assert tifffile.TiffFile(path).series[0].shape == (2, 8, 9)  # the trap works
    assert np.array_equal(read_image(path)[..., 0], to_eight_bits(stack[0]))
    with pytest.raises(ImageError, match="no page 1; it holds 1"):
        read_image(path, page=1)


# --- refusals, each in one sentence that names the file


def big_png(side: int) -> bytes:
    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(200)) + packer.flush()
    data = png(side, side, b"", 1, 0)
    return (
        data[:33]
        + struct.pack(">I", len(rows))
        + b"IDAT"
        + rows
        + struct.pack(">I", zlib.crc32(b"IDAT" + rows))
        + data[-12:]
    )


@pytest.mark.parametrize("kind", ["png", "tif", "jpg", "bmp", "webp"])
def test_a_bomb_is_refused_from_its_header(tmp_path, kind):
    side = 16383 if kind == "webp" else 50000
    path = tmp_path / f"bomb.{kind}"
    if kind == "png":
        path.write_bytes(big_png(side))
    elif kind == "tif":
        memory = tifffile.memmap(path, shape=(side, side), dtype=np.uint8)  # sparse on disk
        del memory
    elif kind == "jpg":
        data = saved(Image.new("L", (8, 8)), "JPEG")
        at = data.index(b"\xff\xc0")
        path.write_bytes(data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :])
    elif kind == "bmp":
        data = saved(Image.new("L", (8, 8)), "BMP")
        path.write_bytes(data[:18] + struct.pack("<ii", side, side) + data[26:])
    else:
        path.write_bytes(saved(Image.new("RGB", (side, side)), "WebP", lossless=True, method=0))
    limits = ImageLimits(max_bytes=2**40)
    with pytest.raises(ImageError):  # imports and first-time set-up are not what is measured
        read_image(path, limits=limits)
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(ImageError) as caught:
        read_image(path, limits=limits)
    seconds = time.perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{side:,} x {side:,} = {side * side:,} pixels; the limit is 200,000,000" in str(caught.value)
    assert "--max-pixels" in str(caught.value)
    assert str(path) in str(caught.value)
    assert peak < 8 * 2**20
    assert seconds < 0.5
    assert image_size(path) == (side, side)  # learning the size is never refused


def test_many_channels_count_against_the_limit(rng):
    data = tiff(np.zeros((40, 10, 10), np.uint16), photometric="minisblack", planarconfig="separate")
    with pytest.raises(ImageError, match="of 40 channels"):
        decode_image(data, limits=ImageLimits(max_pixels=999))
    assert decode_image(data, limits=ImageLimits(max_pixels=1000)).shape == (10, 10, 3)


def test_a_limit_is_inclusive(tmp_path, photo):
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(photo), "PNG"))
    size, pixels = path.stat().st_size, photo.shape[0] * photo.shape[1]
    assert read_image(path, limits=ImageLimits(size, pixels)).shape == photo.shape
    with pytest.raises(ImageError, match=f"has {size:,} bytes; the limit is {size - 1:,}"):
        read_image(path, limits=ImageLimits(size - 1, pixels))
    with pytest.raises(ImageError, match=f"the limit is {pixels - 1:,}"):
        read_image(path, limits=ImageLimits(size, pixels - 1))


def test_a_strip_that_unpacks_to_gigabytes_is_stopped():
    """The header says 4 × 5 float pixels; the strip inflates to 256 MiB."""
    data = tiff(np.zeros((4, 5), np.float32), compression="zlib", metadata=None)
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    changed = bytearray(data + bomb)
    for code, value in ((273, len(data)), (279, len(bomb))):
        at = page.tags[code].valueoffset
        width = {"H": 2, "I": 4}[page.tags[code].dtype.name[0].replace("S", "H").replace("L", "I")]
        changed[at : at + width] = value.to_bytes(width, "little")
    tracemalloc.start()
    with pytest.raises(ImageError, match="unpacks to more than its 80 bytes"):
        decode_image(bytes(changed))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n", "is text, not a picture"),
        (b"GIF89a" + bytes(50), "is a GIF picture"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "is a HEIC picture"),
        (bytes(range(128, 200)) + b"\0", "unknown, beginning with"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"II*\0", "damaged or cut off"),
        (b"\xff\xd8\xff", "damaged or truncated"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated"),
        (b"RIFF\x08\0\0\0WEBPVP8 ", "WebP header is damaged"),
        (b"BM\x10\0\0\0\0\0\0\0", "damaged or truncated"),
        (png(0, 4, b""), "damaged or truncated|0 pixels|4 x 0"),
        (png(4, 0, b""), "damaged or truncated|0 x 4"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, words):
    path = tmp_path / "thing.png"
    path.write_bytes(content)
    lossy = content[:4] in (b"\xff\xd8\xff", b"RIFF")  # as labels they are refused for that
    for function in (read_image, image_size) if lossy else (read_image, image_size, read_label_image):
        with pytest.raises(ImageError, match=words) as caught:
            function(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_paths_that_lead_nowhere(tmp_path):
    for path, words in [
        (tmp_path / "nowhere.png", "no such file"),
        (tmp_path, "is a folder"),
        ("a\0b.png", "cannot be read"),
        (tmp_path / "x" / "y.png", "no such file"),
    ]:
        with pytest.raises(ImageError, match=words):
            read_image(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="neither file nor folder"):
        read_image(tmp_path / "pipe")


def test_a_zero_sided_tiff_is_refused(photo):
    data = bytearray(tiff(photo[..., 0], metadata=None))
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    at = page.tags[257].valueoffset
    data[at : at + 2] = b"\0\0"
    with pytest.raises(ImageError, match=r"^picture: "):
        decode_image(bytes(data))


WHOLE = {
    "jpg": lambda a: saved(Image.fromarray(a), "JPEG", quality=95),
    "png": lambda a: saved(Image.fromarray(a), "PNG"),
    "png16": lambda a: sixteen_bit_png(a.astype(np.uint16) * 200),
    "bmp": lambda a: saved(Image.fromarray(a), "BMP"),
    "webp": lambda a: saved(Image.fromarray(a), "WebP", lossless=True),
    "tif": lambda a: tiff(a, photometric="rgb"),
    "tif deflate": lambda a: tiff(a, photometric="rgb", compression="zlib"),
    "tif lzw": lambda a: saved(Image.fromarray(a), "TIFF", compression="tiff_lzw"),
    "tif16": lambda a: tiff(a[..., 0].astype(np.uint16)),
    "tif16 deflate": lambda a: tiff(a[..., 0].astype(np.uint16), compression="zlib"),
    "tif16 lzw": lambda a: saved(
        Image.fromarray(a[..., 0].astype(np.uint16)), "TIFF", compression="tiff_lzw"
    ),
}


def attempt(data: bytes) -> tuple[np.ndarray | None, str]:
    """The picture, or the sentence that refuses it; no other exception is caught."""
    try:
        return decode_image(data, limits=ImageLimits(max_pixels=10**6)), ""
    except ImageError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", WHOLE)
def test_pillows_own_limit_neither_counts_nor_changes(photo, kind, monkeypatch):
    """Pillow refuses by a limit of the whole process; ours alone decides, and other users of Pillow keep theirs."""
    whole = WHOLE[kind](photo)
    expected = decode_image(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert np.array_equal(decode_image(whole), expected)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("kind", WHOLE)
def test_no_truncation_passes(photo, kind):
    """A cut anywhere is refused (or, past the last byte that matters, changes nothing); nothing else is raised."""
    whole = WHOLE[kind](photo)
    expected = decode_image(whole)
    refused = 0
    for keep in sorted({1, 9, 30, 100, *np.linspace(1, len(whole) - 1, 25).astype(int).tolist()}):
        image, message = attempt(whole[:keep])
        if image is None:
            refused += 1
            assert message.startswith("picture: ")
        else:
            assert np.array_equal(image, expected)
            assert keep > 0.9 * len(whole)
    assert refused >= 20


@pytest.mark.parametrize("kind", WHOLE)
def test_damage_raises_nothing_but_image_errors(photo, kind, rng):
    whole = bytearray(WHOLE[kind](photo))
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(4, len(whole), 3):
            damaged[at] = rng.integers(0, 256)
        image, message = attempt(bytes(damaged))
        if image is None:
            assert message.startswith("picture: ")
            assert "\n" not in message
        else:
            assert image.dtype == np.uint8
            assert image.shape[2] == 3


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind.startswith("tif")])
def test_headers_that_lie_raise_nothing_but_image_errors(photo, kind, rng):
    """Every byte of a TIFF's directory takes part, since that is where decoders trust most."""
    whole = WHOLE[kind](photo)
    refused = 0
    begin = struct.unpack("<I", whole[4:8])[0]
    for at in range(begin, min(len(whole), begin + 180)):
        damaged = bytearray(whole)
        damaged[at] = rng.choice([0, 1, 127, 255])
        refused += attempt(bytes(damaged))[0] is None
    assert refused > 10


def test_too_many_channels_are_refused():
    data = tiff(np.zeros((600, 4, 5), np.uint8), photometric="minisblack", planarconfig="separate")
    with pytest.raises(ImageError, match="has 600 channels .*at most 512"):
        decode_image(data)


def test_a_packing_that_needs_another_package_is_named(rng):
    """Many channels in LZW: neither tifffile alone nor libtiff's wrappers can take them apart."""
    data = bytearray(
        tiff(
            rng.integers(0, 99, (5, 8, 9)).astype(np.uint16),
            compression="zlib",
            photometric="minisblack",
            planarconfig="separate",
        )
    )
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    at = page.tags[259].valueoffset
    data[at : at + 2] = (5).to_bytes(2, "little")
    image, message = attempt(bytes(data))
    assert image is None
    assert "LZW" in message
    assert "imagecodecs" in message or "damaged" in message


def test_floating_point_predictor(rng):
    """libtiff's predictor 3, which tifffile alone doesn't undo, through Pillow."""
    values = rng.random((20, 30)).astype(np.float32)
    data = saved(Image.fromarray(values), "TIFF", compression="tiff_adobe_deflate", tiffinfo={317: 3})
    assert tifffile.TiffFile(io.BytesIO(data)).pages[0].predictor == 3
    assert np.array_equal(decode_image(data)[..., 0], to_eight_bits(values))


def test_a_wrong_checksum_is_noticed(photo):
    data = bytearray(saved(Image.fromarray(photo), "PNG"))
    at = data.index(b"IDAT") + 300
    data[at] ^= 1
    with pytest.raises(ImageError, match="checksum of a PNG chunk IDAT"):
        decode_image(bytes(data))


def test_nothing_reaches_stderr(tmp_path, photo):
    """Warnings of Pillow, tifffile, libpng and libtiff are the library's business, not the user's."""
    files = {
        "profile.png": saved(Image.fromarray(photo), "PNG", icc_profile=b"not a profile" * 20),
        "exif.jpg": saved(
            Image.fromarray(photo), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(30)
        ),
        "cut.png": WHOLE["png"](photo)[:200],
        "cut.jpg": WHOLE["jpg"](photo)[:500],
        "cut.tif": WHOLE["tif lzw"](photo)[:500],
        "deep.png": WHOLE["png16"](photo),
        "cutdeep.png": WHOLE["png16"](photo)[:300],
        "lzw.tif": cv2.imencode(".tif", photo.astype(np.uint16) * 9)[1].tobytes(),
        "tag.tif": tiff(
            photo, photometric="rgb", extratags=[(65000, "s", 0, "?", True), (282, "I", 1, 5, True)]
        ),
        "large.png": saved(Image.new("1", (10000, 9500)), "PNG"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import sys, pathlib\nfrom apiece.core.image import read_image, image_size\n"
        "from apiece.errors import ImageError\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    for function in (image_size, read_image):\n"
        "        try: function(path)\n"
        "        except ImageError as error: print(error)\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("cut") >= 4


# --- label images


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_labels_in_tiff_keep_their_values(tmp_path, rng, dtype, options):
    labels = rng.integers(0, min(np.iinfo(dtype).max, 10**6), (30, 20)).astype(dtype)
    path = tmp_path / "labels.tif"
    path.write_bytes(tiff(labels, **options))
    found = read_label_image(path)
    assert np.array_equal(found, labels)
    assert found.dtype == dtype
    assert found.dtype.isnative


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_in_lzw_tiff_and_png(tmp_path, rng, dtype):
    labels = rng.integers(0, np.iinfo(dtype).max, (30, 20)).astype(dtype)
    for name, options in (("a.tif", {"compression": "tiff_lzw"}), ("a.png", {})):
        Image.fromarray(labels).save(tmp_path / name, **options)
        assert np.array_equal(read_label_image(tmp_path / name), labels)


def test_labels_of_a_palette_are_its_indices(tmp_path, rng):
    labels = rng.integers(0, 20, (9, 8), dtype=np.uint8)
    picture = Image.fromarray(labels)
    picture.putpalette(rng.integers(0, 256, 60).tolist())
    for name in ("a.png", "a.tif"):
        picture.save(tmp_path / name)
        assert np.array_equal(read_label_image(tmp_path / name), labels)


def test_one_bit_labels_are_0_and_1(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / name)
        assert np.array_equal(read_label_image(tmp_path / name), np.eye(9))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("rgb.png", lambda a: saved(Image.fromarray(a), "PNG"), "mode RGB"),
        ("la.png", lambda a: saved(Image.fromarray(a).convert("LA"), "PNG"), "mode LA"),
        ("a.jpg", lambda a: saved(Image.fromarray(a).convert("L"), "JPEG"), "is JPEG, which changes values"),
        ("a.webp", lambda a: saved(Image.fromarray(a), "WebP"), "is WebP, which changes values"),
        ("float.tif", lambda a: tiff(a[..., 0].astype(np.float32)), "1 channels of float32"),
        ("rgb.tif", lambda a: tiff(a, photometric="rgb"), "3 channels of uint8"),
        ("negative.tif", lambda a: tiff(a[..., 0].astype(np.int32) - 300), "holds the label -"),
    ],
)
def test_what_is_no_label_image_is_refused(tmp_path, photo, name, data, words):
    path = tmp_path / name
    path.write_bytes(data(photo))
    with pytest.raises(AnnotationError, match=words) as caught:
        read_label_image(path)
    assert str(path) in str(caught.value)
    assert "Remedy: " in str(caught.value)


def test_label_images_keep_the_limits(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.new("L", (100, 100)).save(tmp_path / name)
        with pytest.raises(ImageError, match="the limit is 9,999"):
            read_label_image(tmp_path / name, limits=ImageLimits(max_pixels=9999))


@pytest.mark.needs_shared
def test_real_label_images_match_their_pictures(shared):
    folder = shared / "dsb2018_train_full664"
    labels = sorted((folder / "labels").iterdir())[::60]
    assert labels
    for path in labels:
        array = read_label_image(path)
        picture = next((folder / "images").glob(f"{path.stem}.*"))
        assert array.shape == image_size(picture) == read_image(picture).shape[:2]
        assert array.max() > 0
        assert np.array_equal(array, np.asarray(Image.open(path)))


# --- finding and writing


def test_folders_become_their_pictures_in_natural_order(tmp_path):
    for name in ("f10.png", "f2.PNG", "f1.tif", ".hidden.png", "notes.txt", "B.jpeg"):
        (tmp_path / name).touch()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "f1.png").touch()
    (tmp_path / "folder.png").mkdir()
    found = find_images([tmp_path])
    assert [path.name for path in found] == ["B.jpeg", "f1.tif", "f2.PNG", "f10.png"]


def test_files_are_kept_as_given_once(tmp_path):
    (tmp_path / "a.png").touch()
    given = [tmp_path / "notes.txt", tmp_path / "missing.png", tmp_path / "a.png", tmp_path]
    assert find_images(given) == given[:3]
    assert find_images([]) == []


def test_a_folder_without_pictures_is_an_error(tmp_path):
    (tmp_path / "inner").mkdir()
    with pytest.raises(ImageError, match=r"holds no picture; .*\.png"):
        find_images([tmp_path])


def test_written_pictures_come_back(tmp_path, photo):
    write_image(tmp_path / "a.png", photo)
    assert np.array_equal(read_image(tmp_path / "a.png"), photo)
    write_image(tmp_path / "a.JPG", photo)
    assert np.abs(read_image(tmp_path / "a.JPG").astype(int) - photo).mean() < 5
    assert (tmp_path / "a.JPG").read_bytes()[:3] == b"\xff\xd8\xff"
    write_image(tmp_path / "view.png", photo[::-1, ::2])
    assert np.array_equal(read_image(tmp_path / "view.png"), photo[::-1, ::2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.JPG", "a.png", "view.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path, photo, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, photo)
    before = path.read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ImageError, match=r"a\.png: cannot be written \(No space left"):
        write_image(path, photo[::2])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("a.gif", np.zeros((2, 2, 3), np.uint8), "written as .png"),
        ("a", np.zeros((2, 2, 3), np.uint8), "no suffix"),
        ("a.png", np.zeros((2, 2), np.uint8), "expected uint8"),
        ("a.png", np.zeros((2, 2, 3)), "got float64"),
        ("a.png", np.zeros((0, 2, 3), np.uint8), "expected uint8"),
        ("none/a.png", np.zeros((2, 2, 3), np.uint8), "cannot be written"),
        ("a.jpg", np.zeros((1, 70000, 3), np.uint8), "65,500"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, array, words):
    with pytest.raises(ImageError, match=words):
        write_image(tmp_path / name, array)
    assert not list(tmp_path.iterdir())


def test_a_plain_grey_tiff_is_turned_upright_and_read_from_what_was_given(tmp_path):
    """Pillow, given a name, maps the file of that name into memory: unturned, and maybe another file."""
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, stored, extratags=[(274, "H", 1, 6, True)])
    upright = np.rot90(stored, -1)
    assert np.array_equal(read_image(path)[..., 0], upright)
    data = path.read_bytes()
    tifffile.imwrite(path, stored + 100, extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(decode_image(data, str(path))[..., 0], upright)
