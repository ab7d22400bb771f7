"""Formats by their first bytes: those that are read, and the names of those that are not."""

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO

import PIL
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from segdex_core.errors import NotAnImageError
from segdex_core.media.others import (
    SIGNATURE_BYTES,
    Other,
    brands_of,
    known_format,
    other_of,
    raw_format,
    recognised_by,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A file format with its signature and Pillow class. A ``weak`` signature is common in other files."""

    name: str
    signature: re.Pattern[bytes]
    open: Callable[[BytesIO, str], ImageFile.ImageFile]
    weak: bool = False


def sniff(data: bytes, *, name: str) -> Kind:
    """Return the format of a file.

    Args:
        data: The file, or its first bytes: ``HEAD_BYTES`` of them tell all formats but some RAW files, which
            are TIFF files until a directory far behind is read.
        name: Name of the file in messages.

    Raises:
        NotAnImageError: If the bytes are in no supported format. The message says what they are, if known.
    """
    if not data:
        raise NotAnImageError(f"{name}: the file is empty")
    head = data[:SIGNATURE_BYTES]
    other = raw_format(data)
    if other is None:
        for kind in _KINDS:
            if kind.signature.match(head):
                return kind
        if brands_of(head) & _AVIF_BRANDS:
            return _AVIF
        other = known_format(head)
    raise NotAnImageError(_refusal(name, other), kind=None if other is None else other.kind)


def refused(name: str, kind: str) -> str:
    """Return the message for a file that is known to be no picture in a supported format.

    Args:
        name: Name of the file.
        kind: What it is, as ``NotAnImageError.kind`` or as ``kind_of_name`` has it.
    """
    return _refusal(name, other_of(kind))


def recogniser() -> str:
    """Return 16 digits that differ whenever a file may be read that was not, or be told as another kind."""
    signatures = [(kind.name, kind.signature.pattern) for kind in _KINDS]
    known = repr((signatures, sorted(_AVIF_BRANDS), recognised_by(), HEAD_BYTES, PIL.__version__))
    return sha256(known.encode()).hexdigest()[:16]


def _refusal(name: str, other: Other | None) -> str:
    supported = ", ".join(_SUPPORTED)
    if other is None:
        return f"{name}: not a picture in a supported format ({supported})"
    if other.is_video:
        return f"{name}: {other.name} is video, which is not read"
    return f"{name}: {other.name} is not read; convert it to one of {supported}"


class _PngFile(PngImagePlugin.PngImageFile):
    """A PNG that loads even if the metadata after its pixels is damaged, or if its end is missing."""

    def load_end(self) -> None:
        # Called after the pixels are decoded; Pillow checks the decoder's status afterwards.
        with suppress(OSError, SyntaxError, ValueError, struct.error, zlib.error):
            super().load_end()


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF whose planes of 16 bits are read by libtiff: Pillow's own reader takes them for 8 bits."""

    def _setup(self) -> None:
        super()._setup()
        rawmode = ";".join((self.mode, "16N"))
        is_wide = self.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0] == 16
        if (
            self.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
            and is_wide
            and self.mode in _PLANAR_MODES
        ):
            whole = (0, 0, self.tag_v2[TiffImagePlugin.IMAGEWIDTH], self.tag_v2[TiffImagePlugin.IMAGELENGTH])
            self.use_load_libtiff = True
            args = (rawmode, False, self.tag_v2.offset)
            self.tile = [self.tile[0]._replace(codec_name="libtiff", extents=whole, offset=0, args=args)]


_PLANAR_MODES = ("RGB", "RGBA", "CMYK")

# Pillow's classes are called directly, not through Image.open, which reports every damaged header as "cannot
# identify" and has a global pixel limit that threads with other limits would share.
_KINDS = (
    Kind("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    Kind("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _PngFile),
    Kind("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    Kind("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    Kind("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), _TiffFile),
    Kind(
        "BMP",
        re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
        BmpImagePlugin.BmpImageFile,
        weak=True,
    ),
    Kind("PPM", re.compile(rb"P[1-6f]\s+[#\d]"), PpmImagePlugin.PpmImageFile, weak=True),
    Kind("JPEG2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), Jpeg2KImagePlugin.Jpeg2KImageFile),
    Kind("ICO", re.compile(rb"\0\0\x01\0.\0", re.DOTALL), IcoImagePlugin.IcoImageFile, weak=True),
)
_AVIF = Kind("AVIF", re.compile(rb"....ftyp", re.DOTALL), AvifImagePlugin.AvifImageFile)
"""Told by the brands of its first box, not by the signature, which it shares with HEIC and videos."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})

HEAD_BYTES = 1 << 16
"""Bytes that tell what a file is. Most RAW files have their directories within them: Sony's at 40 KiB."""

_SUPPORTED = tuple(kind.name for kind in (*_KINDS[:4], _AVIF, *_KINDS[4:]))
