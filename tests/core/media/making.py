"""Pictures made by hand, where Pillow does not write what is needed, and the cases of ``shared/cases``."""

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tests import needs

from segdex_core.media.decode import DecodedImage, decode_image

Pixels = npt.NDArray[np.uint8]


def make_case(number: str, out: Path) -> Path:
    """Make the inputs of a case of ``shared/cases`` in a folder, and return the folder."""
    needs.package("skimage", "demo")
    spec = importlib.util.spec_from_file_location("shared_cases_common", needs.shared("cases", "common.py"))
    assert spec is not None
    assert spec.loader is not None
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    make: Callable[[str, Path], Path] = common.make_case
    return make(number, out)


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data: bytes) -> DecodedImage:
    return decode_image(data, name="test", max_pixels=6_000_000)


def smooth(height: int = 48, width: int = 64) -> Pixels:
    """Return colours that lossy formats keep within a few levels."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3, y * 4, 255 - x * 2 - y], axis=2).astype(np.uint8)


def difference(pixels: Pixels, expected: npt.NDArray[np.generic]) -> float:
    """Return the mean absolute difference of the levels."""
    return float(np.abs(pixels.astype(float) - expected.astype(float)).mean())


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """Return a PNG with a chunk behind its header."""
    return png[:33] + chunk(name, data) + png[33:]


def png_of_16_bits(values: npt.NDArray[np.uint16], *more: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA values."""
    height, width = values.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2] if values.ndim == 3 else 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    body = b"".join(chunk(*one) for one in more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


Entry = tuple[int, int, tuple[int, ...]]
"""Tag, type (1 byte, 3 short, 4 long) and values."""


def tiff(*pages: tuple[list[Entry], bytes | list[bytes]], order: str = "<", sub: int = 0) -> bytes:
    """Return an uncompressed TIFF of pages, each its tags and its strips.

    The last ``sub`` pages are below the first. Offsets and sizes of the strips are added to the tags.
    """
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 42)
    body, placed = b"", []
    for tags, strips in pages:
        parts = [strips] if isinstance(strips, bytes) else strips
        offsets = []
        for part in parts:
            offsets.append(8 + len(body))
            body += part + bytes(len(part) % 2)
        own = [(273, 4, tuple(offsets)), (279, 4, tuple(map(len, parts)))]
        placed.append(sorted([*tags, *own]))
    chain = len(placed) - sub
    if sub:
        placed[0] = sorted([*placed[0], (330, 4, (0,) * sub)])
    sizes = [len(_directory(tags, order, at=0, link=0)) for tags in placed]
    starts = [8 + len(body) + sum(sizes[:n]) for n in range(len(sizes))]
    if sub:
        placed[0] = sorted([*(tag for tag in placed[0] if tag[0] != 330), (330, 4, tuple(starts[chain:]))])
    for n, tags in enumerate(placed):
        link = starts[n + 1] if n + 1 < chain else 0
        body += _directory(tags, order, at=starts[n], link=link)
    return head + struct.pack(order + "I", starts[0]) + body


def _directory(tags: list[Entry], order: str, *, at: int, link: int) -> bytes:
    entries, values = b"", b""
    beyond = at + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in tags:
        packed = struct.pack(f"{order}{len(numbers)}{ {1: 'B', 2: 'B', 3: 'H', 4: 'I'}[kind] }", *numbers)
        if len(packed) > 4:
            inside = struct.pack(order + "I", beyond + len(values))
            values += packed + bytes(len(packed) % 2)
        else:
            inside = packed.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + inside
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", link) + values


def tiff_tags(
    width: int, height: int, *, bits: int = 8, channels: int = 3, photometric: int = 2
) -> list[Entry]:
    """Return the tags of an uncompressed picture in one strip for each plane."""
    return [
        (256, 4, (width,)),
        (257, 4, (height,)),
        (258, 3, (bits,) * channels),
        (259, 3, (1,)),
        (262, 3, (photometric,)),
        (277, 3, (channels,)),
        (278, 4, (height,)),
    ]


def tiff_page(pixels: Pixels, *more: Entry) -> tuple[list[Entry], bytes]:
    """Return a page of RGB pixels for ``tiff``."""
    height, width = pixels.shape[:2]
    return [*tiff_tags(width, height), *more], pixels.tobytes()
