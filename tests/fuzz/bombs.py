"""Small files that ask for much: of time, of memory, or of both."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from random import Random

from PIL import Image
from tests.core.media.making import chunk
from tests.fuzz.mutations import png_of


def bomb(random: Random) -> tuple[str, bytes]:
    """Return the name and bytes of a file that asks for much."""
    make = random.choice(BOMBS)
    return make.__name__.strip("_"), make(random)


def _jpeg(*, progressive: bool = False) -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, "JPEG", progressive=progressive)
    return buffer.getvalue()


def _scans(random: Random) -> bytes:
    """A progressive JPEG whose scans come thousands of times, of many pixels."""
    data = bytearray(_jpeg(progressive=True))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(
        ">HH", *random.choice([(64, 64), (3_000, 3_000), (9_000, 9_000)])
    )
    first = data.index(b"\xff\xda")
    scan = bytes(data[first:-2])
    return bytes(data[:first]) + scan * random.choice([100, 2_000, 10_000]) + b"\xff\xd9"


def _segments(random: Random) -> bytes:
    """A JPEG with megabytes of EXIF, ICC profile, XMP or comments."""
    data = _jpeg()
    head = random.choice(
        [b"Exif\0\0MM\0*", b"ICC_PROFILE\0\1\xff", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0"]
    )
    body = head + random.randbytes(60_000 - len(head))
    segment = (
        b"\xff" + bytes([random.choice([0xE1, 0xE2, 0xED, 0xFE])]) + struct.pack(">H", len(body) + 2) + body
    )
    return data[:2] + segment * random.choice([1, 20, 300]) + data[2:]


def _text(random: Random) -> bytes:
    """A PNG whose compressed texts or profile are gigabytes."""
    kind = random.choice([b"zTXt", b"iTXt", b"iCCP"])
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    squeezer = zlib.compressobj(9)
    million = bytes(1 << 20)
    body = (
        b"".join(squeezer.compress(million) for _ in range(random.choice([2, 100, 600]))) + squeezer.flush()
    )
    return png_of(8, 8, before=chunk(kind, head + body) * random.choice([1, 8]))


def _pixels(random: Random) -> bytes:
    """A PNG of many pixels in few bytes."""
    width, height = random.choice(
        [(3_000, 3_000), (4_000, 4_900), (1, 50_000), (60_000, 20), (20_000, 20_000)]
    )
    return png_of(width, height, depth=random.choice([1, 8, 16]))


def _frames(random: Random) -> bytes:
    """A GIF of 100,000 frames."""
    buffer = BytesIO()
    Image.new("P", (4, 4)).save(buffer, "GIF")
    data = buffer.getvalue()
    image = data.index(b",", 13)
    return data[:image] + data[image:-1] * random.choice([1_000, 100_000]) + b";"


def _png_frames(random: Random) -> bytes:
    """An animated PNG of 100,000 frames."""
    count = random.choice([1_000, 100_000])
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 0, 0))
    frame = chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(bytes(9 * 8)))
    before = chunk(b"acTL", struct.pack(">II", count, 0)) + control
    return png_of(8, 8, before=before, after=(control + frame) * count)


def _ifds(random: Random) -> bytes:
    """A TIFF whose directories form a loop, or have a tag of millions of values."""
    buffer = BytesIO()
    Image.linear_gradient("L").save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    if random.random() < 0.5:
        struct.pack_into("<I", data, at + 2 + 12 * count, at)
        return bytes(data)
    entry = at + 2 + 12 * random.randrange(count)
    struct.pack_into("<I", data, entry + 4, random.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x10000000, 1_000_000]))
    return bytes(data)


def _tiles(random: Random) -> bytes:
    """A JPEG 2000 of many tiles, or of huge ones."""
    buffer = BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG2000", no_jp2=True)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\x51") + 6
    size = random.choice([256, 4_000, 60_000])
    tile = random.choice([1, 2, 64, size])
    struct.pack_into(">8I", data, at, size, size, 0, 0, tile, tile, 0, 0)
    return bytes(data)


BOMBS: tuple[Callable[[Random], bytes], ...] = (
    _scans,
    _segments,
    _text,
    _pixels,
    _frames,
    _png_frames,
    _ifds,
    _tiles,
)
