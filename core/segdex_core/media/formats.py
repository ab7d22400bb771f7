"""Formats by their first bytes: those that are read, and the names of those that are not."""

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

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
from segdex_core.media.tiff import directories, raw_name


@dataclass(frozen=True, slots=True)
class Kind:
    """A file format with its signature and Pillow class. A ``weak`` signature is common in other files."""

    name: str
    signature: re.Pattern[bytes]
    open: Callable[[BytesIO, str], ImageFile.ImageFile]
    weak: bool = False


def sniff(data: bytes, *, name: str) -> Kind:
    """Return the format of a file.

    Raises:
        NotAnImageError: If the bytes are in no supported format. The message says what they are, if known.
    """
    head = data[:_HEAD_BYTES]
    if not data:
        raise NotAnImageError(f"{name}: the file is empty")
    other = _raw_name(data, head)
    if other is None:
        for kind in _KINDS:
            if kind.signature.match(head):
                return kind
        if head[4:8] == b"ftyp":
            brands = _brands(head)
            if brands & {b"avif", b"avis"}:
                return _AVIF
            other = _name_of_brands(brands)
    if other is None:
        other = next((what for signature, what in _NOT_READ if signature.match(head)), None)
    supported = ", ".join(_SUPPORTED)
    if other is None:
        raise NotAnImageError(f"{name}: not a picture in a supported format ({supported})")
    if other in _VIDEOS:
        raise NotAnImageError(f"{name}: {other} is video, which is not read")
    raise NotAnImageError(f"{name}: {other} is not read; convert it to one of {supported}")


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
    Kind("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile, weak=True),
    Kind("PPM", re.compile(rb"P[1-6f]\s"), PpmImagePlugin.PpmImageFile, weak=True),
    Kind("JPEG2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), Jpeg2KImagePlugin.Jpeg2KImageFile),
    Kind("ICO", re.compile(rb"\0\0\x01\0"), IcoImagePlugin.IcoImageFile, weak=True),
)
_AVIF = Kind("AVIF", re.compile(rb"....ftyp", re.DOTALL), AvifImagePlugin.AvifImageFile)
"""Told by the brands of its first box, not by the signature, which it shares with HEIC and videos."""

_SUPPORTED = tuple(kind.name for kind in (*_KINDS[:4], _AVIF, *_KINDS[4:]))

_HEAD_BYTES = 512

_RAW_SIGNATURES = (
    (re.compile(rb"II\*\0....CR", re.DOTALL), "CR2"),
    (re.compile(rb"....ftypcrx ", re.DOTALL), "CR3"),
    (re.compile(rb"II\x1a\0\0\0HEAPCCDR"), "CRW"),
    (re.compile(rb"IIU\0"), "RW2"),
    (re.compile(rb"IIR[OS]|MMOR"), "ORF"),
    (re.compile(rb"FUJIFILMCCD-RAW"), "RAF"),
    (re.compile(rb"FOVb"), "X3F"),
    (re.compile(rb"\0MRM"), "MRW"),
    (re.compile(rb"II\*\0....IIII", re.DOTALL), "IIQ"),
)
"""RAW files of cameras that have a signature; the others are TIFF files."""

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF_BRANDS = frozenset({b"mif1", b"mif2", b"mif3", b"msf1"})

_VIDEOS = frozenset({"MP4", "QuickTime", "Matroska or WebM", "AVI", "MPEG", "Flash video", "Windows Media"})

_NOT_READ = (
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"8BPS"), "Photoshop (PSD)"),
    (re.compile(rb"gimp xcf"), "GIMP (XCF)"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL"),
    (
        re.compile(rb"\xef?\xbb?\xbf?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg|<svg)", re.DOTALL),
        "SVG",
    ),
    (re.compile(rb"\x76\x2f\x31\x01"), "OpenEXR"),
    (re.compile(rb"#\?RADIANCE|#\?RGBE"), "Radiance HDR"),
    (re.compile(rb"qoif"), "QOI"),
    (re.compile(rb"DDS "), "DDS"),
    (re.compile(rb"AT&TFORM"), "DjVu"),
    (re.compile(rb".{128}DICM", re.DOTALL), "DICOM"),
    (re.compile(rb"SIMPLE  ="), "FITS"),
    (re.compile(rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", re.DOTALL), "WMF or EMF"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "Matroska or WebM"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "AVI"),
    (re.compile(rb"\0\0\x01[\xba\xb3]|G.{187}G.{187}G|.{4}G.{191}G", re.DOTALL), "MPEG"),
    (re.compile(rb"FLV\x01"), "Flash video"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "Windows Media"),
    (re.compile(rb"....(moov|mdat|wide|pnot)", re.DOTALL), "QuickTime"),
)


def _raw_name(data: bytes, head: bytes) -> str | None:
    """Return what a RAW file of a camera is called; None for any other file."""
    for signature, suffix in _RAW_SIGNATURES:
        if signature.match(head):
            return f"camera RAW ({suffix})"
    return raw_name(directories(data))


def _brands(head: bytes) -> frozenset[bytes]:
    """Return the brands of an ISO base media file, major and compatible ones."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset({head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))})


def _name_of_brands(brands: frozenset[bytes]) -> str:
    if brands & _HEIC_BRANDS:
        return "HEIC"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    return "QuickTime" if b"qt  " in brands else "MP4"
