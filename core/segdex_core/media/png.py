"""Chunks of a PNG that Pillow does not tell: signalled colours, and the time of the last change."""

from collections.abc import Mapping

_WANTED = frozenset({b"cICP", b"tIME"})
_MAX_CHUNKS = 100_000


def chunks_of(data: bytes) -> Mapping[bytes, bytes]:
    """Return ``cICP`` and ``tIME`` of a PNG by name, each if it is whole and the first of its kind."""
    found: dict[bytes, bytes] = {}
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name in _WANTED and at + 8 + length <= len(data):
            found.setdefault(name, data[at + 8 : at + 8 + length])
        at += 12 + length
    return found
