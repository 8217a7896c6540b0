"""Pictures: hostile until their header has been checked, upright 8-bit RGB afterwards."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from apiece.core import png, tiff, webp
from apiece.core.orientation import SIDEWAYS, orient, orientation_of, unguarded
from apiece.core.tone import as_rgb, over_white, to_eight_bits
from apiece.errors import AnnotationError, ImageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
COPY_AGAIN = "Remedy: copy or export the file again."
EXPECTED = "expected JPEG, PNG, TIFF, WebP or BMP"
# How files begin that are mistaken for pictures we read; the first match names them in the message.
OTHERS = (
    (rb"GIF8", "a GIF picture"),
    (rb"....ftyp(hei|hev|mif|msf)", "a HEIC picture"),
    (rb"....ftypavi", "an AVIF picture"),
    (rb"....ftyp", "a video"),
    (rb"\0\0\0\x0cjP|\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"\xda\xce\xbe\x0a|\x0a\xbe\xce\xda", "a Nikon ND2 file"),
    (rb".{128}DICM", "a DICOM file"),
    (rb"[\t\n\r -~\x80-\xff]+\Z", "text"),
)

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before it is decoded: more bytes in the file, or more pixels in its header.

    Samples beyond four channels count too: a picture of C channels counts as height × width × C / 4 pixels.
    """

    max_bytes: int = 512 * 2**20
    max_pixels: int = 200_000_000


DEFAULT_LIMITS = ImageLimits()


def read_image(
    path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS, page: int | None = None
) -> RGB:
    """A picture as uint8 (H, W, 3), RGB, C-contiguous and upright (its EXIF or TIFF orientation applied).

    Reads JPEG, PNG, TIFF, WebP and BMP, by content and not by suffix.

    tone      8-bit values are never rescaled. 16-bit, 32-bit and float ones are stretched linearly so that the
              0.1 % and 99.9 % quantiles of the picture's finite values become 0 and 255 (module `tone`): one
              stretch for R, G and B together. Clipped are the 0.1 % beyond each end. NaN becomes 0.
    colour    grey is repeated; palette, 1-bit, CMYK and YCbCr become RGB. Colour profiles are not applied:
              the numbers are those that other training tools see.
    opacity   transparent pixels are shown on white, as a viewer shows them, so that a shape drawn by its
              opacity alone stays visible and colours hidden under full transparency do not.
    channels  a TIFF with declared channels or samples without colour (planar, first or last): three are R, G,
              B, each stretched by itself; two, four or more become the maximum over the channels, each
              stretched by itself (8-bit: as they are), repeated as grey.

    page      which plane of a TIFF stack, or frame of an animation, counted from 0; None demands that there be
              just one. A plane's channels belong together and count once.
    raises    ImageError: missing, a folder, empty, of another format, damaged or cut off, several pages, or
              beyond `limits`. Bytes and pixels are checked before anything is decoded.
    """
    with _opened(path, limits) as (file, name):
        return _read(file, name, limits, page)


def decode_image(
    data: bytes, name: str = "picture", *, limits: ImageLimits = DEFAULT_LIMITS, page: int | None = None
) -> RGB:
    """`read_image` for a file that is in memory already; `name` stands in messages where the path would."""
    _check_bytes(len(data), name, limits)
    return _read(io.BytesIO(data), name, limits, page)


def image_size(path: str | os.PathLike[str], *, page: int | None = None) -> tuple[int, int]:
    """(height, width) of a picture once upright, from its header alone: milliseconds at any size.

    No limits: this is how one learns that a picture is too large to be read at once.
    raises  ImageError as `read_image` does, for what the header can show.
    """
    with _opened(path, None) as (file, name):
        kind = _kind(file, name)
        if kind == "TIFF":
            plane = tiff.open_plane(file, name, page)
            (height, width), orientation = plane.size, plane.orientation
        elif kind == "WebP":
            header = webp.read_header(file, name)
            _check_page(page, header.frames, name)
            (height, width), orientation = header.size, _webp_orientation(header)
        else:
            picture = _header(file, name, kind, page, None)
            (width, height), orientation = picture.size, orientation_of(picture)
        _check_sides(height, width, name)
        return (width, height) if orientation in SIDEWAYS else (height, width)


def read_label_image(
    path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS, page: int | None = None
) -> npt.NDArray[np.integer[Any]]:
    """A label image as (H, W) of its own integer type: 0 is background, every other value one object.

    Reads PNG, TIFF and BMP of 1 to 32 bits (TIFF: 64 too). A palette picture's labels are its indices. The
    values are those stored, never stretched; orientation is applied as in `read_image`.

    raises  AnnotationError if the file is no label image: colour, opacity, several channels, float, negative
            values, or a lossy format, which would invent labels. ImageError as `read_image` does.
    """
    with _opened(path, limits) as (file, name):
        kind = _kind(file, name)
        if kind == "TIFF":
            return _tiff_labels(file, name, limits, page)
        if kind in ("JPEG", "WebP"):
            raise AnnotationError(
                f"{name}: is {kind}, which changes values when it compresses; a label image must be a PNG or TIFF "
                "of one integer a pixel. Remedy: export the labels again as PNG or TIFF."
            )
        picture = _header(file, name, kind, page, limits)
        if picture.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"):
            raise AnnotationError(
                f"{name}: is a picture of mode {picture.mode} (colour or opacity); a label image holds one "
                "integer a pixel, 0 for background. Remedy: export labels as 16-bit grey PNG or TIFF."
            )
        if kind == "PNG":
            png.check_sums(file, name)
        orientation = orientation_of(picture)
        return _labels(orient(_pixels(picture, name), orientation), name)


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files as given; each folder becomes the pictures directly in it.

    A folder's pictures are those with a known suffix that don't begin with a dot, in natural order (img2 before
    img10); folders inside it, such as labels/, are not entered. A file reached twice is listed once. Files are
    kept as given, whatever their suffix and even if missing, so that `read_image` can say what is wrong.
    raises  ImageError when a folder holds no picture, or cannot be listed.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        try:
            files = [
                entry
                for entry in path.iterdir()
                if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
            ]
        except OSError as error:
            raise ImageError(f"{path}: the folder cannot be listed ({error.strerror}).") from error
        if not files:
            raise ImageError(
                f"{path}: holds no picture; expected files that end in {', '.join(sorted(SUFFIXES))}. "
                "Folders inside it are not entered: name the folder that holds the pictures."
            )
        found |= dict.fromkeys(sorted(files, key=lambda path: natural(path.name)))
    return list(found)


def write_image(path: str | os.PathLike[str], rgb: RGB) -> None:
    """Write uint8 (H, W, 3) RGB as PNG (lossless) or JPEG (quality 95) by the suffix: whole or not at all.

    raises  ImageError if the suffix is another one, the array is no such picture, or the file can't be written.
            An older file of that name then stays as it was.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise ImageError(
            f"{path}: pictures are written as .png, .jpg or .jpeg; got {path.suffix or 'no suffix'!r}."
        )
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ImageError(f"{path}: got {rgb.dtype} {rgb.shape}; expected uint8 (height, width, 3), RGB.")
    options = (cv2.IMWRITE_PNG_COMPRESSION, 3) if suffix == ".png" else (cv2.IMWRITE_JPEG_QUALITY, 95)
    try:
        encoded, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        encoded = False
    if not encoded:
        raise ImageError(
            f"{path}: a picture of {rgb.shape[0]} x {rgb.shape[1]} pixels cannot be written as {suffix}"
            + ("; JPEG ends at 65,500 pixels a side. Remedy: write .png." if suffix != ".png" else ".")
        )
    # A name of its own, so that two writers of one path don't meet; in the same folder, so that replace is atomic.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            temporary.write_bytes(data.tobytes())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be written ({error.strerror}). Remedy: does its folder exist?"
        ) from error


def _read(file: BinaryIO, name: str, limits: ImageLimits, page: int | None) -> RGB:
    kind = _kind(file, name)
    if kind == "TIFF":
        return _read_tiff(file, name, limits, page)
    picture = _header(file, name, kind, page, limits)
    orientation = orientation_of(picture)
    rgb = None
    if kind == "JPEG":
        rgb = _fast_jpeg(file, picture)
    elif kind == "PNG":
        png.check_sums(file, name)
        if png.is_sixteen_bit_colour(file):  # Pillow would cut it to 8 bits
            samples = png.decode_sixteen_bit_colour(file, name)
            rgb = to_eight_bits(np.ascontiguousarray(samples[..., :3]))
            if samples.shape[2] == 4:
                rgb = over_white(rgb, (samples[..., 3] // 257).astype(np.uint8))
    if rgb is None:
        rgb = _to_rgb(picture, name)
    return np.ascontiguousarray(orient(rgb, orientation))


def _read_tiff(file: BinaryIO, name: str, limits: ImageLimits, page: int | None) -> RGB:
    plane = tiff.open_plane(file, name, page)
    _check_pixels(*plane.size, plane.channels, name, limits)
    if not plane.is_ordinary:
        return np.ascontiguousarray(orient(plane.to_rgb(plane.decode()), plane.orientation))
    with unguarded():
        try:
            file.seek(0)
            # Without the name: Pillow would map that file into memory and skip the orientation.
            picture = TiffImagePlugin.TiffImageFile(file)
            picture.seek(plane.ifd or 0)
            picture.load()  # turns it upright, too
        except Exception as error:  # libtiff, struct, tag parsing: each has its own errors
            raise _damaged(name, error) from error
        return _to_rgb(picture, name)


def _tiff_labels(
    file: BinaryIO, name: str, limits: ImageLimits, page: int | None
) -> npt.NDArray[np.integer[Any]]:
    plane = tiff.open_plane(file, name, page)
    _check_pixels(*plane.size, plane.channels, name, limits)
    if plane.channels != 1 or plane.dtype.kind not in "biu":
        raise AnnotationError(
            f"{name}: has {plane.channels} channels of {plane.dtype}; a label image holds one integer a pixel, "
            "0 for background. Remedy: export labels as 16-bit or 32-bit grey TIFF."
        )
    return _labels(orient(plane.decode()[..., 0], plane.orientation), name)


def _labels(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.integer[Any]]:
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        raise AnnotationError(
            f"{name}: holds the label {values.min()}; expected 0 for background and positive numbers for objects. "
            "Remedy: give ignored pixels 0 or a label of their own."
        )
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


@contextmanager
def _opened(path: str | os.PathLike[str], limits: ImageLimits | None) -> Iterator[tuple[BinaryIO, str]]:
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder; expected one picture. Remedy: name a file in it.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path}: is neither file nor folder; expected a picture file.")
        with path.open("rb") as file:
            _check_bytes(os.fstat(file.fileno()).st_size, str(path), limits)
            yield file, str(path)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file. Remedy: check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise ImageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _check_bytes(size: int, name: str, limits: ImageLimits | None) -> None:
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes); expected a picture. {COPY_AGAIN}")
    if limits is not None and size > limits.max_bytes:
        raise ImageError(
            f"{name}: has {size:,} bytes; the limit is {limits.max_bytes:,}. "
            "Remedy: cut the picture into tiles, or raise ImageLimits.max_bytes if you trust the file."
        )


def _check_sides(height: int, width: int, name: str) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{name}: has {height} x {width} pixels; expected at least 1 x 1. {COPY_AGAIN}")


def _check_pixels(height: int, width: int, channels: int, name: str, limits: ImageLimits) -> None:
    _check_sides(height, width, name)
    if height * width * max(4, channels) > 4 * limits.max_pixels:
        samples = f" of {channels} channels" if channels > 4 else ""
        raise ImageError(
            f"{name}: has {height:,} x {width:,} = {height * width:,} pixels{samples}; the limit is "
            f"{limits.max_pixels:,} and nothing was decoded. Remedy: cut the picture into tiles, or raise the limit "
            "with --max-pixels (ImageLimits.max_pixels) if you trust the file."
        )


def _kind(file: BinaryIO, name: str) -> str:
    """The format, from the file's first bytes."""
    file.seek(0)
    start = file.read(512)
    for kind, pattern in (
        ("JPEG", rb"\xff\xd8\xff"),
        ("PNG", re.escape(png.SIGNATURE)),
        ("TIFF", rb"II[*+]\0|MM\0[*+]"),
        ("WebP", rb"RIFF....WEBP"),
        ("BMP", rb"BM.{4}\0\0\0\0"),
    ):
        if re.match(pattern, start, re.DOTALL):
            return kind
    found = next((what for pattern, what in OTHERS if re.match(pattern, start, re.DOTALL)), None)
    found = found or f"unknown, beginning with {start[:8]!r}"
    raise ImageError(
        f"{name}: is {found}, not a picture that can be read; {EXPECTED}. Remedy: convert it to PNG."
    )


def _header(
    file: BinaryIO, name: str, kind: str, page: int | None, limits: ImageLimits | None
) -> Image.Image:
    """Pillow's view of the header, within the limits and at the wanted page. Its classes are called directly:
    Image.open has limits of its own, and would start Ghostscript for a file that asks for it."""
    if kind == "PNG":
        late_exif = png.check_structure(file, name)
    elif kind == "WebP":
        height, width = webp.read_header(file, name).size
        if limits is not None:
            _check_pixels(height, width, 1, name, limits)
    file.seek(0)
    picture: Image.Image
    with unguarded():
        try:
            if kind == "JPEG":
                picture = JpegImagePlugin.JpegImageFile(file)
            elif kind == "PNG":
                picture = PngImagePlugin.PngImageFile(file)
                if late_exif is not None:
                    picture.info.setdefault("exif", late_exif)
            elif kind == "WebP":
                picture = WebPImagePlugin.WebPImageFile(file)
            else:
                picture = BmpImagePlugin.BmpImageFile(file)
            orientation_of(picture)  # parsed now, while its warnings are kept quiet
            pages = int(getattr(picture, "n_frames", 1))
        except Exception as error:  # a damaged header surfaces as anything from SyntaxError to struct.error
            raise _damaged(name, error) from error
        _check_page(page, pages, name)
        width, height = picture.size
        if limits is not None:
            _check_pixels(height, width, 1, name, limits)
            if page:
                _seek(picture, page, name)
    return picture


def _seek(picture: Image.Image, page: int, name: str) -> None:
    try:
        picture.seek(page)
    except Exception as error:  # frames are decoded on the way
        raise _damaged(name, error) from error


def _check_page(page: int | None, pages: int, name: str) -> None:
    if page is None and pages > 1:
        raise ImageError(
            f"{name}: holds {pages} pages (an animation); expected one picture. "
            f"Remedy: choose one with page=0 to page={pages - 1}."
        )
    if not 0 <= (page or 0) < pages:
        raise ImageError(f"{name}: has no page {page}; it holds {pages}, counted from 0.")


def _webp_orientation(header: webp.WebPHeader) -> int:
    carrier = Image.new("1", (1, 1))  # Pillow's reader of EXIF and XMP works on a picture's info
    carrier.info.update(header.info)
    with unguarded():
        return orientation_of(carrier)


def _fast_jpeg(file: BinaryIO, picture: Image.Image) -> RGB | None:
    """OpenCV's decoder, three times as fast; None for what Pillow must judge (CMYK, perhaps cut off)."""
    if picture.mode not in ("L", "RGB"):
        return None
    file.seek(0)
    data = file.read()
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None  # no end marker: OpenCV would fill what is missing with grey
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if bgr is None or bgr.shape[1::-1] != picture.size:
        return None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _to_rgb(picture: Image.Image, name: str) -> RGB:
    """Any Pillow picture, not turned, by the rules that `read_image` documents."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return as_rgb(to_eight_bits(_pixels(picture, name)))
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        values = _pixels(picture, name, "RGBA")
        return over_white(np.ascontiguousarray(values[..., :3]), values[..., 3])
    if picture.mode in ("1", "L"):
        return as_rgb(to_eight_bits(_pixels(picture, name)))
    return _pixels(picture, name, "RGB")


def _pixels(picture: Image.Image, name: str, mode: str | None = None) -> npt.NDArray[Any]:
    try:
        picture.load()
        if mode is not None and picture.mode != mode:
            picture = picture.convert("RGBA" if mode == "RGBA" and picture.mode == "RGBa" else mode)
        return np.array(picture)
    except Exception as error:  # each decoder has its own set of errors
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ImageError:
    text = " ".join(str(error).split())[:160] or type(error).__name__
    return ImageError(
        f"{name}: the picture is damaged or truncated ({text}); expected a whole file. {COPY_AGAIN}"
    )


def natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sorting key: digits by their number, the rest by letter, whatever the case; equal ones by name."""
    parts = re.split(r"([0-9]+)", name.lower())  # every second one is a number
    return [(place % 2 == 1, int(part) if place % 2 else 0, part) for place, part in enumerate(parts)], name
