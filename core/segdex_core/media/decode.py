"""Decoder for image files. All images pass through it, whatever their source.

The format is detected from the first bytes, never from the file name. Supported formats:

JPEG (and the first image of MPO), PNG and APNG, GIF, WebP, AVIF, TIFF, BMP, PPM (PBM, PGM, PNM), JPEG 2000,
ICO.

Not supported on purpose: EPS, PDF, SVG and WMF (other programs render them), TGA (it has no signature, so any
file may look like one), QOI (Pillow's decoder is pure Python), and stubs such as GRIB and HDF5.

Only the first frame or page is decoded. Colour profiles are not applied, except that CIELAB is converted.
"""

import ctypes
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)

from segdex_core.errors import ImageError, ImageTooLargeError, ImageUnreadableError, NotAnImageError
from segdex_core.media.exif import captured_s_of, orientation_of, place_of
from segdex_core.media.limits import MAX_BYTES, MAX_PIXELS, check_shape
from segdex_core.records import RGBImage


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image and its metadata.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous and writable, upright (EXIF orientation applied).
        format_name: Name of the file format, such as ``JPEG``.
        captured_s: EXIF ``DateTimeOriginal`` in seconds since 1970 UTC, or None. The time zone is
            ``OffsetTimeOriginal``, or UTC if that tag is missing.
        place_lat_lon: EXIF position in degrees, north and east positive, or None.
    """

    pixels: RGBImage
    format_name: str
    captured_s: float | None
    place_lat_lon: tuple[float, float] | None


def read_image_bytes(
    path: Path, *, max_bytes: int = MAX_BYTES, on_part: Callable[[], None] = lambda: None
) -> bytes:
    """Return the content of a regular file. Pipes and devices are rejected without being opened.

    Args:
        path: File.
        max_bytes: Maximum size. Of a file that is no image, such as a video, only the first bytes are read.
        on_part: Called after each part that was read.

    Raises:
        NotAnImageError: If the first bytes are not those of a supported format.
        ImageUnreadableError: If the file does not exist, cannot be read, or is not a regular file.
        ImageTooLargeError: If the file is larger than ``max_bytes``.
    """
    name = _printable(str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageUnreadableError(f"{name}: not a regular file; only files and links to files are read")
        # The file may have become a pipe since the check: O_NONBLOCK prevents a hang.
        with open(path, "rb", opener=_open_without_waiting) as file:
            head = file.read(_HEAD_BYTES)
            _sniff(head, name=name)
            parts, size = [head], status.st_size
            while size <= max_bytes and (part := file.read(_PART_BYTES)):
                parts.append(part)
                size = max(size, sum(map(len, parts)))  # a file that grows meanwhile ends too
                on_part()
            if size > max_bytes:
                raise ImageTooLargeError(
                    f"{name}: {size:,} bytes, more than the {max_bytes:,} allowed for one file"
                )
            data = b"".join(parts)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageUnreadableError(f"{name}: cannot be read: {reason}") from error
    return data


def read_image_file(path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> DecodedImage:
    """Return the decoded image of a file; see ``read_image_bytes`` and ``decode_image`` for the errors."""
    return decode_image(read_image_bytes(path, max_bytes=max_bytes), name=str(path), max_pixels=max_pixels)


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Return the upright RGB pixels and the metadata of an encoded image.

    Transparent pixels are blended with white. Greyscale with more than 8 bits is scaled to 8 bits: unsigned
    16-bit values, and 32-bit integers that all lie in 0..65535, are divided by 257; floats that all lie in
    0..1 are multiplied by 255; any other range is stretched so that the smallest value becomes 0 and the
    largest 255. Broken metadata is ignored.

    This function is thread-safe. It disables Pillow's warnings for the whole process.

    Args:
        data: Content of the file.
        name: Name of the image in error messages, usually its path.
        max_pixels: Maximum width times height, checked in the header before any pixel is decoded.

    Raises:
        NotAnImageError: If the bytes are not in a supported format.
        ImageUnreadableError: If the image is damaged, truncated, or of a variant that Pillow cannot decode.
        ImageTooLargeError: If the image has more than ``max_pixels`` pixels, or a shape that
            ``check_shape`` refuses.
    """
    name = _printable(name)
    _quieten_pillow()
    kind = _sniff(data, name=name)
    damaged = NotAnImageError if kind.weak else ImageUnreadableError
    with _pillow_errors(name, f"damaged {kind.name} header", damaged=damaged):
        image = kind.open(BytesIO(data), "")
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name}: {width} x {height} = {width * height:,} pixels, "
            f"more than the {max_pixels:,} that --max-pixels allows"
        )
    check_shape(width, height, name=name)
    with _pillow_errors(name, f"damaged {kind.name} data"):
        image.load()
        pixels = _to_rgb(image)
    return DecodedImage(
        pixels=_turn_upright(pixels, orientation=orientation_of(image)),
        format_name=kind.name,
        captured_s=captured_s_of(image),
        place_lat_lon=place_of(image),
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """A file format with its signature and Pillow class. A ``weak`` signature is common in other files."""

    name: str
    signature: re.Pattern[bytes]
    open: Callable[[BytesIO, str], ImageFile.ImageFile]
    weak: bool = False


class _PngFile(PngImagePlugin.PngImageFile):
    """A PNG that loads even if the metadata after its pixels is damaged."""

    def load_end(self) -> None:
        # Called after the pixels are decoded; Pillow checks the decoder's status afterwards.
        with suppress(OSError, SyntaxError, ValueError, struct.error, zlib.error):
            super().load_end()


# Pillow's classes are called directly, not through Image.open, which reports every damaged header as "cannot
# identify" and has a global pixel limit that threads with other limits would share.
_KINDS = (
    _Kind("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    _Kind("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _PngFile),
    _Kind("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    _Kind("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    _Kind("AVIF", re.compile(rb"....ftypavi[fs]", re.DOTALL), AvifImagePlugin.AvifImageFile),
    _Kind("AVIF", re.compile(rb"....ftypm[is]f1", re.DOTALL), AvifImagePlugin.AvifImageFile, weak=True),
    _Kind("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    _Kind("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile, weak=True),
    _Kind("PPM", re.compile(rb"P[1-6f]\s"), PpmImagePlugin.PpmImageFile, weak=True),
    _Kind("JPEG2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), Jpeg2KImagePlugin.Jpeg2KImageFile),
    _Kind("ICO", re.compile(rb"\0\0\x01\0"), IcoImagePlugin.IcoImageFile, weak=True),
)

_NOT_READ = (
    (re.compile(rb"....ftyp(hei|hev|m[is]f1)", re.DOTALL), "HEIF"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"8BPS"), "Photoshop"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?<svg"), "SVG"),
)

_PILLOW_ERRORS = (
    ImageCms.PyCMSError,
    ArithmeticError,
    AssertionError,  # Pillow asserts properties of well-formed files
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow's error for "not this format"
    SystemError,  # from its C code
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions that Pillow's decoders raise for hostile bytes, found by decoding and mutating damaged files."""

_HEAD_BYTES = 4_096
"""Bytes that tell an image from other files."""

_PART_BYTES = 1 << 20
"""Bytes that are read at a time, so that a slow network is told from one that is silent."""

_BAND_PX = 1 << 22
"""Pixels converted at a time, to avoid a second full-size image in the source mode."""


def _sniff(data: bytes, *, name: str) -> _Kind:
    head = data[:256]
    for kind in _KINDS:
        if kind.signature.match(head):
            return kind
    if not data:
        raise NotAnImageError(f"{name}: the file is empty")
    raise NotAnImageError(f"{name}: {_what_instead(head)}")


def _what_instead(head: bytes) -> str:
    supported = ", ".join(dict.fromkeys(kind.name for kind in _KINDS))
    for signature, format_name in _NOT_READ:
        if signature.match(head):
            return f"{format_name} is not read; convert it to one of {supported}"
    return f"not a picture in a supported format ({supported})"


@contextmanager
def _pillow_errors(
    name: str, what: str, *, damaged: type[ImageError] = ImageUnreadableError
) -> Iterator[None]:
    """Convert Pillow's exceptions to ``ImageError``."""
    try:
        yield
    except Image.DecompressionBombError as error:
        # Pillow's own limit, which applies to parts of the file that are larger than the image, and to WebP.
        raise ImageTooLargeError(
            f"{name}: more pixels than Pillow decodes, whatever --max-pixels says: {_line(error)}"
        ) from error
    except MemoryError as error:
        raise ImageUnreadableError(f"{name}: not enough memory to decode it") from error
    except _PILLOW_ERRORS as error:
        raise damaged(f"{name}: {what}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return _printable(" ".join(str(error).split()))[:200] or type(error).__name__


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _quieten_pillow() -> None:
    """Keep Pillow's warnings, its last-resort log lines, and libtiff's messages off standard error.

    The effect is process-wide. Faults of an image are reported in the outcome of its file.
    ``warnings.catch_warnings`` would be cleaner, but it is not thread-safe before Python 3.14.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", None) != _PILLOW_MODULES:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)
    _quieten_libraries()


_PILLOW_MODULES = r"PIL\."


@cache
def _quieten_libraries() -> None:
    # Without a handler, `logging` writes errors to standard error; the application's own handlers stay.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # Symbols are looked up only in the libraries that Pillow's own module is linked to.
    pillow = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        set_handler = getattr(pillow, name, None)  # missing if Pillow was built without libtiff
        if set_handler is not None:
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _turn_upright(pixels: RGBImage, *, orientation: int) -> RGBImage:
    """Undo an EXIF orientation (CIPA DC-008, tag 0x0112: 1 upright, 2 to 8 mirrored or rotated)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> RGBImage:
    """Return the pixels of a loaded image of any mode as a new (H, W, 3) uint8 array."""
    width, height = image.size
    convert = _band_converter(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top, bottom in _bands(image):
        pixels[top:bottom] = convert(image.crop((0, top, width, bottom)))
    return pixels


def _bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    rows = max(1, _BAND_PX // image.width)
    for top in range(0, image.height, rows):
        yield top, min(top + rows, image.height)


def _band_converter(image: Image.Image) -> Callable[[Image.Image], npt.NDArray[np.uint8]]:
    """Return a function that converts a horizontal band of the image to uint8 RGB or (h, w, 1) grey."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        low, high = _grey_range(image)
        transparent = image.info.get("transparency")
        return lambda band: _grey_to_8_bit(np.asarray(band), low, high, transparent)
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return lambda band: np.asarray(ImageCms.applyTransform(band, to_srgb))
    if image.has_transparency_data:
        return _lay_on_white
    return lambda band: np.asarray(band.convert("RGB"))


def _lay_on_white(band: Image.Image) -> npt.NDArray[np.uint8]:
    if band.mode == "La":  # Pillow converts premultiplied grey only to LA
        band = band.convert("LA")
    rgba = band.convert("RGBA")
    white = Image.new("RGB", band.size, (255, 255, 255))
    white.paste(rgba, mask=rgba)
    return np.asarray(white)


def _grey_range(image: Image.Image) -> tuple[float, float]:
    """Return the values that are scaled to 0 and 255; see ``decode_image``."""
    if image.mode.startswith("I;16"):
        return 0, 65535
    low, high = np.inf, -np.inf
    for top, bottom in _bands(image):
        values = np.asarray(image.crop((0, top, image.width, bottom)))
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    full_scale = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= full_scale:
        return 0, full_scale
    return low, high


def _grey_to_8_bit(
    values: npt.NDArray[np.generic], low: float, high: float, transparent: object
) -> npt.NDArray[np.uint8]:
    span = high - low
    with np.errstate(invalid="ignore"):  # float images may contain infinities and NaN
        scaled = (values.astype(np.float64) - low) * 255 / span if span > 0 else np.zeros(values.shape)
    grey = np.clip(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0) + 0.5, 0, 255).astype(np.uint8)
    if isinstance(transparent, int):  # the transparent grey value of a 16-bit PNG
        grey[values == transparent] = 255
    return grey[:, :, None]
