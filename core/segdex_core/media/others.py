"""Files that are not read, by their first bytes and by their names: videos, RAW files, files beside pictures.

They are counted by a *kind*, one short word: ``mp4``, ``heic``, ``json``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from segdex_core.media.tiff import directories, raw_name


@dataclass(frozen=True, slots=True)
class Other:
    """A format that is known and not read.

    Attributes:
        name: Its name in messages, such as ``camera RAW (NEF)``.
        kind: The word by which its files are counted.
    """

    name: str
    kind: str

    @property
    def is_video(self) -> bool:
        """Whether it is video."""
        return self.kind in _VIDEOS


def raw_format(data: bytes) -> Other | None:
    """Return the RAW format of a camera's file; None for any other file, also for other TIFF files."""
    for signature, maker in _RAW_SIGNATURES:
        if signature.match(data[:SIGNATURE_BYTES]):
            return _raw(f"camera RAW ({maker})")
    name = raw_name(directories(data))
    return None if name is None else _raw(name)


def known_format(head: bytes) -> Other | None:
    """Return the format of a file that is no picture in a supported format; None if it is not known."""
    brands = brands_of(head)
    if brands:
        return _of_brands(brands)
    return next((other for signature, other in _NOT_READ if signature.match(head)), None)


def other_of(kind: str) -> Other | None:
    """Return the format of a kind; None if it is an ending of names only."""
    if kind in _RAW_KINDS:
        return Other("camera RAW" if kind == "raw" else f"camera RAW ({kind.upper()})", kind)
    return _BY_KIND.get(kind)


def brands_of(head: bytes) -> frozenset[bytes]:
    """Return the brands of an ISO base media file, major and compatible ones; none of any other file."""
    if head[4:8] != b"ftyp":
        return frozenset()
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset({head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))})


def kind_of_name(name: str) -> str:
    """Return the kind of a file of an unknown format: the ending of its name, or ``other``.

    Example:
        >>> kind_of_name("IMG_1.jpg.JSON"), kind_of_name("LICENSE"), kind_of_name("a.b c")
        ('json', 'other', 'other')
    """
    ending = PurePath(name).suffix[1:].lower()
    return ending if _ENDING.fullmatch(ending) else "other"


def is_expected(name: str, kind: str | None) -> bool:
    """Return whether a person expects a picture in a file that is none.

    Args:
        name: Name of the file.
        kind: ``NotAnImageError.kind``. A picture in a format that is not read, such as the HEIC files that
            phones name ``.jpg``, is no disappointment of its name.

    Example:
        >>> is_expected("a.jpg", None), is_expected("a.jpg", "heic"), is_expected("a.json", None)
        (True, False, False)
    """
    return kind not in _PICTURES and PurePath(name).suffix[1:].lower() in _ENDINGS_READ


def is_unread_picture(kind: str) -> bool:
    """Return whether a kind is a picture in a format that is not read; a video is none."""
    return kind in _PICTURES


def unread_kinds(kinds: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of those kinds that are pictures or videos, which segdex does not read yet.

    Example:
        >>> unread_kinds({"json": 3, "heic": 2, "mp4": 1})
        {'heic': 2, 'mp4': 1}
    """
    return {kind: count for kind, count in kinds.items() if kind in _PICTURES or kind in _VIDEOS}


def recognised_by() -> str:
    """Return a text that changes whenever another file is known, by its first bytes."""
    signatures = (*((one.pattern, name) for one, name in _RAW_SIGNATURES), *map(_text_of, _NOT_READ))
    return repr((signatures, sorted(_HEIC_BRANDS), sorted(_HEIF_BRANDS), SIGNATURE_BYTES))


SIGNATURE_BYTES = 512
"""Bytes within which every signature lies."""

_ENDING = re.compile(r"[a-z0-9_+-]{1,12}")

_ENDINGS_READ = frozenset(
    {
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "mpo",
        "png",
        "apng",
        "gif",
        "webp",
        "avif",
        "tif",
        "tiff",
        "bmp",
        "dib",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
        "jp2",
        "j2k",
        "jpx",
        "ico",
    }
)

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

_NOT_READ = (
    (re.compile(rb"%PDF"), Other("PDF", "pdf")),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), Other("PostScript", "ps")),
    (re.compile(rb"8BPS"), Other("Photoshop (PSD)", "psd")),
    (re.compile(rb"gimp xcf"), Other("GIMP (XCF)", "xcf")),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), Other("JPEG XL", "jxl")),
    (
        re.compile(rb"\xef?\xbb?\xbf?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg|<svg)", re.DOTALL),
        Other("SVG", "svg"),
    ),
    (re.compile(rb"\x76\x2f\x31\x01"), Other("OpenEXR", "exr")),
    (re.compile(rb"#\?RADIANCE|#\?RGBE"), Other("Radiance HDR", "hdr")),
    (re.compile(rb"qoif"), Other("QOI", "qoi")),
    (re.compile(rb"DDS "), Other("DDS", "dds")),
    (re.compile(rb"AT&TFORM"), Other("DjVu", "djvu")),
    (re.compile(rb".{128}DICM", re.DOTALL), Other("DICOM", "dcm")),
    (re.compile(rb"SIMPLE  ="), Other("FITS", "fits")),
    (re.compile(rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", re.DOTALL), Other("WMF or EMF", "wmf")),
    (re.compile(rb"\x1a\x45\xdf\xa3"), Other("Matroska or WebM", "mkv")),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), Other("AVI", "avi")),
    (
        re.compile(rb"\0\0\x01[\xba\xb3]|G.{187}G.{187}G|.{4}G.{191}G", re.DOTALL),
        Other("MPEG", "mpeg"),
    ),
    (re.compile(rb"FLV\x01"), Other("Flash video", "flv")),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), Other("Windows Media", "wmv")),
    (re.compile(rb"....(moov|mdat|wide|pnot)", re.DOTALL), Other("QuickTime", "mov")),
)

_VIDEOS = frozenset({"mp4", "mov", "mkv", "avi", "mpeg", "flv", "wmv"})

_RAW_KINDS = frozenset(
    {
        "raw",
        "cr2",
        "cr3",
        "crw",
        "nef",
        "arw",
        "dng",
        "rw2",
        "orf",
        "raf",
        "x3f",
        "mrw",
        "iiq",
        "pef",
        "srw",
        "dcr",
        "3fr",
        "mos",
        "erf",
    }
)
_PICTURES = _RAW_KINDS | frozenset(
    {"heic", "heif", "jxl", "psd", "xcf", "svg", "exr", "hdr", "qoi", "dds", "djvu", "dcm", "fits", "wmf"}
)

_HEIC, _HEIF = Other("HEIC", "heic"), Other("HEIF", "heif")
_QUICKTIME, _MP4 = Other("QuickTime", "mov"), Other("MP4", "mp4")
_BY_KIND = {one.kind: one for one in (_HEIC, _HEIF, _QUICKTIME, _MP4, *(other for _, other in _NOT_READ))}


def _raw(name: str) -> Other:
    """Return the RAW format of a name of ``tiff.raw_name``."""
    _, _, maker = name.partition("(")
    return Other(name, maker.rstrip(")").lower() or "raw")


def _of_brands(brands: frozenset[bytes]) -> Other:
    if brands & _HEIC_BRANDS:
        return _HEIC
    if brands & _HEIF_BRANDS:
        return _HEIF
    return _QUICKTIME if b"qt  " in brands else _MP4


def _text_of(one: tuple[re.Pattern[bytes], Other]) -> tuple[bytes, str]:
    return one[0].pattern, one[1].kind
