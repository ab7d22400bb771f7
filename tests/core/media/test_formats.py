"""What is not read is named as what it is, by its first bytes."""

import pytest
from PIL import Image
from tests.core.media.making import decode, difference, encode, smooth

from segdex_core.errors import NotAnImageError


def brands(major: bytes, *compatible: bytes) -> bytes:
    body = major + bytes(4) + b"".join(compatible)
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body + b"\0\0\0\x08mdat" * 8


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (brands(b"heic", b"mif1", b"heic"), "HEIC is not read"),
        (brands(b"mif1", b"mif1", b"heic", b"miaf"), "HEIC is not read"),
        (brands(b"msf1", b"msf1", b"hevc"), "HEIC is not read"),
        (brands(b"mif1", b"mif1"), "HEIF is not read"),
        (brands(b"crx ", b"crx ", b"isom"), r"camera RAW \(CR3\) is not read"),
        (brands(b"isom", b"isom", b"iso2", b"avc1", b"mp41"), "MP4 is video, which is not read"),
        (brands(b"M4V ", b"M4V "), "MP4 is video"),
        (brands(b"qt  ", b"qt  "), "QuickTime is video"),
        (b"\0\0\0\x08wide\0\0\0\0mdat" + bytes(40), "QuickTime is video"),
        (b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska", "Matroska or WebM is video"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI is video"),
        (b"\0\0\x01\xba\x44\0\x04\0", "MPEG is video"),
        ((b"\x47" + bytes(187)) * 3, "MPEG is video"),
        (b"FLV\x01\x05\0\0\0\x09", "Flash video is video"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "Windows Media is video"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL is not read"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL is not read"),
        (b"8BPS\0\x01", r"Photoshop \(PSD\) is not read"),
        (b"gimp xcf v011", r"GIMP \(XCF\) is not read"),
        (b"%PDF-1.7", "PDF is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript is not read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not read"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>", "SVG is not read"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE svg PUBLIC ''>\n<svg/>", "SVG is not read"),
        (b"\x76\x2f\x31\x01\x02\0\0\0", "OpenEXR is not read"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe", "Radiance HDR is not read"),
        (b"qoif\0\0\0\x10", "QOI is not read"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM is not read"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), r"camera RAW \(CR2\) is not read"),
        (b"IIU\0\x18\0\0\0" + bytes(40), r"camera RAW \(RW2\) is not read"),
        (b"IIRO\x08\0\0\0" + bytes(40), r"camera RAW \(ORF\) is not read"),
        (b"FUJIFILMCCD-RAW 0201", r"camera RAW \(RAF\) is not read"),
        (b"FOVb\0\0\x02\0", r"camera RAW \(X3F\) is not read"),
        (b"II\x1a\0\0\0HEAPCCDR\x02\0", r"camera RAW \(CRW\) is not read"),
        (b"\0MRM\0\0\0\0", r"camera RAW \(MRW\) is not read"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, what: str) -> None:
    with pytest.raises(NotAnImageError, match=f"^test: {what}"):
        decode(data)


@pytest.mark.parametrize("major", [b"mif1", b"msf1", b"miaf", b"MA1B"])
def test_avif_is_told_by_any_of_its_brands(major: bytes) -> None:
    data = encode(Image.fromarray(smooth()), "AVIF", quality=95)

    assert data[8:12] == b"avif"
    assert b"avif" in data[16:32]
    other = decode(data[:8] + major + data[12:])
    assert other.format_name == "AVIF"
    assert difference(other.pixels, smooth()) < 3


def test_a_weak_signature_alone_makes_no_picture() -> None:
    for data in (b"BMW is a maker of cars", b"P6 is how a text may begin", b"\0\0\x01\0 an icon?"):
        with pytest.raises(NotAnImageError):
            decode(data)
