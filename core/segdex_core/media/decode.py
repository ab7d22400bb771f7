"""Decoder for image files. All images pass through it, whatever their source.

What comes out is what a viewer shows. The format is detected from the first bytes, never from the file name.
Supported formats:

JPEG (and the first image of MPO), PNG and APNG, GIF, WebP, AVIF, TIFF, BMP, PPM (PBM, PGM, PNM), JPEG 2000,
ICO.

Not supported on purpose: EPS, PDF, SVG and WMF (other programs render them), TGA (it has no signature, so any
file may look like one), QOI (Pillow's decoder is pure Python), stubs such as GRIB and HDF5, and RAW files of
cameras, whose previews are thumbnails in many files and another picture than the development in others.

The rules are in ``colour`` (profiles), ``grey`` (more than 8 bits), ``ground`` (transparency), ``jpeg``
(files that end early), ``tiff`` (several pages) and ``dates``.
"""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import ImageFile

from segdex_core.errors import ImageTooLargeError, ImageUnreadableError, NotAnImageError
from segdex_core.media.dates import captured_of
from segdex_core.media.exif import orientation_of, place_of
from segdex_core.media.formats import HEAD_BYTES, Kind, sniff
from segdex_core.media.grey import brightened, wide_colour
from segdex_core.media.jpeg import completed
from segdex_core.media.limits import MAX_BYTES, MAX_PIXELS, check_shape
from segdex_core.media.pillow import pillow_errors, quieten_pillow
from segdex_core.media.pixels import shown_pixels, turned_upright
from segdex_core.media.tiff import beginning_at, directories, main_picture
from segdex_core.media.webp import without_broken_end
from segdex_core.records import RGBImage
from segdex_core.wire.limits import CapturedFrom
from segdex_core.wording import printable


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image and its metadata.

    Attributes:
        pixels: (H, W, 3) uint8 sRGB, C-contiguous and writable, upright (EXIF orientation applied).
        format_name: Name of the file format, such as ``JPEG``.
        captured_s: When it was taken, in seconds since 1970 UTC, or None; see ``captured_of``. A time without
            a zone is taken as UTC.
        place_lat_lon: EXIF position in degrees, north and east positive, or None.
        captured_from: Metadata that ``captured_s`` is from, or None.
    """

    pixels: RGBImage
    format_name: str
    captured_s: float | None
    place_lat_lon: tuple[float, float] | None
    captured_from: CapturedFrom | None = None


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
    name = printable(str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageUnreadableError(f"{name}: not a regular file; only files and links to files are read")
        # The file may have become a pipe since the check: O_NONBLOCK prevents a hang.
        with open(path, "rb", opener=_open_without_waiting) as file:
            head = file.read(HEAD_BYTES)
            sniff(head, name=name)
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

    Colours are converted to sRGB (``rgb_converter``), more than 8 bits are scaled to 8 (``grey_range``), and
    transparent pixels are laid on white or, if the image would vanish on white, on grey (``ground_for``). Of
    several pages the first is taken, or the largest if the first is its thumbnail (``main_picture``); of an
    animation the first frame, or the first of ``MAX_FRAMES`` that shows something if the first is blank.
    Broken metadata is ignored.

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
    name = printable(name)
    quieten_pillow()
    kind = sniff(data, name=name)
    if kind.name == "WEBP":
        data = without_broken_end(data)
    main = main_picture(directories(data)) if kind.name == "TIFF" else None
    file = _File(kind, data if main is None else beginning_at(data, main), name, max_pixels)
    image, is_wide = file.loaded()
    described = image if main is None else file.opened(data)  # the first page has the metadata
    captured = captured_of(described, data, now_s=time.time())
    with pillow_errors(name, f"damaged {kind.name} data"):
        shown = brightened(image, file.opened(file.data)) if is_wide else image
        pixels = shown_pixels(shown, file.data, kind)
    return DecodedImage(
        pixels=turned_upright(pixels, orientation=orientation_of(image)),
        format_name=kind.name,
        captured_s=None if captured is None else captured.at_s,
        place_lat_lon=place_of(described),
        captured_from=None if captured is None else captured.source,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """The bytes of an image, which may have to be decoded more than once."""

    kind: Kind
    data: bytes
    name: str
    max_pixels: int

    def opened(self, data: bytes) -> ImageFile.ImageFile:
        """Return an image that is not loaded yet."""
        kind = self.kind
        damaged = NotAnImageError if kind.weak else ImageUnreadableError
        with pillow_errors(self.name, f"damaged {kind.name} header", damaged=damaged):
            image = kind.open(BytesIO(data), "")
        width, height = image.size
        if width * height > self.max_pixels:
            raise ImageTooLargeError(
                f"{self.name}: {width} x {height} = {width * height:,} pixels, "
                f"more than the {self.max_pixels:,} that --max-pixels allows"
            )
        check_shape(width, height, name=self.name)
        return image

    def loaded(self) -> tuple[ImageFile.ImageFile, bool]:
        """Return the image with its pixels, and whether its colours have 16 bits."""
        image = self.opened(self.data)
        with pillow_errors(self.name, f"damaged {self.kind.name} data"):
            is_wide = wide_colour(image)
            try:
                image.load()
            except OSError:
                whole = completed(self.data) if self.kind.name == "JPEG" else None
                if whole is None:
                    raise
                image = self.opened(whole)
                image.load()
        return image, is_wide


_PART_BYTES = 1 << 20
"""Bytes that are read at a time, so that a slow network is told from one that is silent."""


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
