"""The directories of a TIFF file: which of its pictures is the picture, and whether it is a camera's RAW."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_DIRECTORIES = 64
"""Directories that are looked at; a camera's file has fewer than ten, a scan one for each page."""

_TAGS = {
    "subfile_type": 254,
    "width": 256,
    "height": 257,
    "compression": 259,
    "photometric": 262,
    "make": 271,
    "sub_ifds": 330,
    "old_subfile_type": 255,
    "dng_version": 50706,
}
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    13: 4,
    16: 8,
    18: 8,
}  # of a value of an integer type
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_MAX_VALUES = 64

_CFA, _LINEAR_RAW = 32803, 34892
_RAW_COMPRESSIONS = {34713: "NEF", 32767: "ARW", 32770: "SRW", 65535: "PEF", 65000: "DCR"}
_RAW_MAKERS = (
    (b"NIKON", "NEF"),
    (b"SONY", "ARW"),
    (b"CANON", "CR2"),
    (b"PENTAX", "PEF"),
    (b"RICOH", "PEF"),
    (b"SAMSUNG", "SRW"),
    (b"OLYMPUS", "ORF"),
    (b"PANASONIC", "RW2"),
    (b"HASSELBLAD", "3FR"),
    (b"PHASE ONE", "IIQ"),
    (b"LEAF", "MOS"),
    (b"SEIKO EPSON", "ERF"),
    (b"EASTMAN KODAK", "DCR"),
    (b"KODAK", "DCR"),
)
_THUMBNAIL_PX = 512
"""A first page without a mark is taken for a thumbnail only if no side is longer."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory of a TIFF file.

    Attributes:
        offset: Place in the file.
        is_page: Whether it is in the chain of pages; otherwise it is below another directory.
        values: Tag number to integers, of the tags that are looked at.
        make: Maker of the camera, in capitals; empty if unknown.
    """

    offset: int
    is_page: bool
    values: Mapping[int, tuple[int, ...]]
    make: bytes

    def first(self, tag: str) -> int | None:
        """Return the first value of a tag of ``_TAGS``, or None."""
        found = self.values.get(_TAGS[tag])
        return found[0] if found else None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels as stored; 0 where they are missing."""
        return self.first("width") or 0, self.first("height") or 0

    @property
    def is_reduced(self) -> bool:
        """Whether it calls itself a smaller version of another picture of the file, or a mask of one."""
        return bool((self.first("subfile_type") or 0) & 0b101) or self.first("old_subfile_type") == 2


def directories(data: bytes) -> Sequence[Directory]:
    """Return the directories of a TIFF file, pages first. Damaged ones are left out."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or data[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return ()
    is_big = b"+" in data[2:4]
    found: dict[int, Directory] = {}
    waiting = [(_first_offset(data, order, is_big=is_big), True)]
    while waiting and len(found) < MAX_DIRECTORIES:
        offset, is_page = waiting.pop(0)
        if offset in found or offset <= 0:
            continue
        try:
            directory, next_offset = _read(data, offset, order, is_big=is_big, is_page=is_page)
        except (struct.error, OverflowError):  # beyond the end of the file, or of any file
            continue
        found[offset] = directory
        waiting += [(sub, False) for sub in directory.values.get(_TAGS["sub_ifds"], ())]
        if is_page:
            waiting.insert(0, (next_offset, True))
    return tuple(found.values())


def raw_name(found: Sequence[Directory]) -> str | None:
    """Return what a RAW file of a camera is called; None for other TIFF files."""
    if not found:
        return None
    if any(one.first("dng_version") is not None for one in found):
        return "camera RAW (DNG)"
    for one in found:
        compression = one.first("compression") or 1
        if one.first("photometric") in (_CFA, _LINEAR_RAW) or compression in _RAW_COMPRESSIONS:
            suffix = next((suffix for maker, suffix in _RAW_MAKERS if found[0].make.startswith(maker)), None)
            suffix = suffix or _RAW_COMPRESSIONS.get(compression)
            return f"camera RAW ({suffix})" if suffix else "camera RAW"
    return None


def main_picture(found: Sequence[Directory]) -> Directory | None:
    """Return the directory of the picture of a file, if it is another one than the first.

    That is the largest picture, if the first page calls itself a reduced version; and if the first page is
    small and another page has its aspect and at least four times its pixels.
    """
    if len(found) < 2:
        return None
    first, *others = found
    candidates = [one for one in others if not one.is_reduced and min(one.size_wh) > 0]
    if not first.is_reduced:
        candidates = [one for one in candidates if one.is_page and _is_thumbnail_of(first, one)]
    largest = max(candidates, key=lambda one: one.size_wh[0] * one.size_wh[1], default=None)
    if largest is None or largest.size_wh[0] * largest.size_wh[1] <= first.size_wh[0] * first.size_wh[1]:
        return None
    return largest


def beginning_at(data: bytes, directory: Directory) -> bytes:
    """Return the file with another directory as its first."""
    order = "<" if data[:2] == b"II" else ">"
    if b"+" in data[2:4]:
        return data[:8] + struct.pack(order + "Q", directory.offset) + data[16:]
    return data[:4] + struct.pack(order + "I", directory.offset) + data[8:]


def _is_thumbnail_of(small: Directory, large: Directory) -> bool:
    (width, height), (large_width, large_height) = small.size_wh, large.size_wh
    return (
        0 < max(width, height) <= _THUMBNAIL_PX
        and large_width * large_height >= 4 * width * height
        and abs(width * large_height - height * large_width) <= 0.03 * height * large_width
    )


def _first_offset(data: bytes, order: str, *, is_big: bool) -> int:
    try:
        (offset,) = (
            struct.unpack_from(order + "Q", data, 8) if is_big else struct.unpack_from(order + "I", data, 4)
        )
    except struct.error:
        return 0
    return int(offset)


def _read(data: bytes, offset: int, order: str, *, is_big: bool, is_page: bool) -> tuple[Directory, int]:
    head, entry, link = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")
    (count,) = struct.unpack_from(order + head, data, offset)
    at = offset + struct.calcsize(order + head)
    values: dict[int, tuple[int, ...]] = {}
    make = b""
    size = struct.calcsize(order + entry)
    for number in range(min(count, 4096)):
        tag, kind, length, inside = struct.unpack_from(order + entry, data, at + number * size)
        if tag not in _WANTED or kind not in _SIZES or not length:
            continue
        n_bytes = _SIZES[kind] * min(length, _MAX_VALUES)
        if _SIZES[kind] * length <= len(inside):
            raw = inside[:n_bytes]
        else:
            start = int.from_bytes(inside, "little" if order == "<" else "big")
            raw = data[start : start + n_bytes]
        if kind == 2:
            make = raw.strip(b"\0 ").upper() if tag == _TAGS["make"] else make
        elif kind in _INTEGERS and len(raw) == n_bytes:
            values[tag] = struct.unpack(f"{order}{len(raw) // _SIZES[kind]}{_INTEGERS[kind]}", raw)
    try:
        (next_offset,) = struct.unpack_from(order + link, data, at + count * size)
    except struct.error:  # a last page whose link is cut off
        next_offset = 0
    return Directory(offset, is_page, values, make), int(next_offset)


_WANTED = frozenset(_TAGS.values())
