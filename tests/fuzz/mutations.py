"""Damage to files: at random, in the header, in the sizes, and chunk by chunk. All from one random number."""

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

from tests.core.media.making import chunk

_HEADER = 300
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_MAX_BYTES = 4_000_000


def mutated(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Return a damaged file.

    Args:
        data: Whole file.
        others: Files from which parts may come.
        random: All choices come from it.
    """
    for _ in range(random.choice([1, 1, 1, 2, 3, 6])):
        data = (
            random.choice(_MUTATIONS)(data, random)
            if random.random() < 0.9
            else _spliced(data, others, random)
        )
        data = data[:_MAX_BYTES]
    if data.startswith(_PNG) and random.random() < 0.7:
        data = _PNG + b"".join(chunk(kind, body) for kind, body in png_chunks(data))  # right checksums
    return data


def _flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 2, 10, 200])):
        if changed:
            changed[_place(changed, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwritten(data: bytes, random: Random) -> bytes:
    at = _place(data, random)
    size = random.choice([1, 2, 4, 8])
    number = random.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    written = number.to_bytes(size, "big" if random.random() < 0.5 else "little")
    return data[:at] + written + data[at + size :]


def _inserted(data: bytes, random: Random) -> bytes:
    at, size = _place(data, random), random.choice([1, 2, 4, 100, 5_000])
    return data[:at] + random.choice([random.randbytes(size), bytes(size), b"\xff" * size]) + data[at:]


def _removed(data: bytes, random: Random) -> bytes:
    at = _place(data, random)
    return data[:at] + data[at + random.choice([1, 2, 4, 100, 5_000]) :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _repeated(data: bytes, random: Random) -> bytes:
    start = _place(data, random)
    end = start + random.choice([2, 16, 300, 5_000])
    return data[:end] + data[start:end] * random.choice([1, 10, 1_000]) + data[end:]


def _filled(data: bytes, random: Random) -> bytes:
    start, size = _place(data, random), random.choice([4, 64, 2_000])
    return data[:start] + bytes([random.randrange(256)]) * size + data[start + size :]


def _spliced(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(others)
    return data[: _place(data, random)] + other[_place(other, random) :]


def _chunks_changed(data: bytes, random: Random) -> bytes:
    """Swap, drop, double or move the parts that a format consists of."""
    parts = list(_parts(data))
    if len(parts) < 3:
        return _repeated(data, random)
    one, other = random.randrange(1, len(parts)), random.randrange(1, len(parts))
    match random.randrange(4):
        case 0:
            parts[one], parts[other] = parts[other], parts[one]
        case 1:
            del parts[one]
        case 2:
            parts.insert(other, parts[one])
        case _:
            parts[one:one] = [parts[one]] * random.choice([2, 50, 3_000])
    return b"".join(parts)


def _sizes_changed(data: bytes, random: Random) -> bytes:
    """Change what looks like a width or height in a header."""
    size = random.choice([0, 1, 3, 1_000, 5_000, 20_000, 65_535, 65_536, 1 << 30, 0xFFFFFFFF])
    changed = bytearray(data)
    for signature, skip, form in _SIZES:
        if signature.match(data[:16]) is None:
            continue
        at = skip if isinstance(skip, int) else -1
        if not isinstance(skip, int):
            found = skip.search(data)
            at = -1 if found is None else found.end()
        width = struct.calcsize(form)
        if 0 <= at <= len(data) - 2 * width:
            struct.pack_into(form, changed, at + width * random.randrange(2), size & (256**width - 1))
    return bytes(changed)


_PNG = b"\x89PNG\r\n\x1a\n"
_SIZES: tuple[tuple[re.Pattern[bytes], int | re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x89PNG"), 16, ">I"),
    (re.compile(rb"\xff\xd8"), re.compile(rb"\xff[\xc0-\xc2]..."), ">H"),
    (re.compile(rb"GIF8"), 6, "<H"),
    (re.compile(rb"BM"), 18, "<I"),
    (re.compile(rb"RIFF"), 26, "<H"),
    (re.compile(rb"II\*\0"), re.compile(rb"\x00[\x01]\x04\x00\x01\x00\x00\x00"), "<I"),
    (re.compile(rb"\xff\x4f"), 8, ">I"),
    (re.compile(rb"....ftyp", re.DOTALL), re.compile(rb"ispe...."), ">I"),
)
_MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flipped,
    _flipped,
    _overwritten,
    _overwritten,
    _inserted,
    _removed,
    _cut,
    _repeated,
    _filled,
    _chunks_changed,
    _chunks_changed,
    _sizes_changed,
)


def _place(data: bytes | bytearray, random: Random) -> int:
    """Return a position, as often in the header as anywhere."""
    end = min(len(data), _HEADER) if random.random() < 0.5 else len(data)
    return random.randrange(end) if end else 0


def _parts(data: bytes) -> list[bytes]:
    """Return the chunks of a PNG, the segments of a JPEG, the chunks of RIFF, or pieces of other files."""
    if data.startswith(_PNG):
        return [_PNG, *(chunk(kind, body) for kind, body in png_chunks(data))]
    if data.startswith(b"\xff\xd8"):
        return re.split(rb"(?=\xff[\xc0-\xfe])", data)
    if data.startswith(b"RIFF"):
        parts, at = [data[:12]], 12
        while at + 8 <= len(data):
            end = at + 8 + struct.unpack_from("<I", data, at + 4)[0]
            end += end % 2
            parts.append(data[at:end])
            at = end
        return parts
    size = max(len(data) // 20, 1)
    return [data[at : at + size] for at in range(0, len(data), size)]


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return type and content of the chunks of a PNG, as far as they can be read."""
    chunks, at = [], len(_PNG)
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return chunks


def png_of(width: int, height: int, *, depth: int = 8, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a black grey PNG with further chunks before and after its pixels."""
    row = 1 + (width * depth + 7) // 8
    squeezer = zlib.compressobj(9)
    body = b"".join(
        squeezer.compress(bytes(min(row * height - at, 1 << 22))) for at in range(0, row * height, 1 << 22)
    )
    body += squeezer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return _PNG + head + before + chunk(b"IDAT", body) + after + chunk(b"IEND", b"")
