"""WebP files that end in the middle of their metadata."""

_PIXELS = frozenset({b"VP8 ", b"VP8L"})


def without_broken_end(data: bytes) -> bytes:
    """Return a still picture without a last chunk that is cut off; any other file as it is.

    The decoder refuses a file that is shorter than it says, also where only metadata is missing.
    """
    if len(data) >= 8 + int.from_bytes(data[4:8], "little"):
        return data
    at, has_pixels = 12, False
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            break
        has_pixels = has_pixels or data[at : at + 4] in _PIXELS
        at = end + end % 2
    if not has_pixels:
        return data
    kept = data[12:at].ljust(at - 12, b"\0")
    return data[:4] + (4 + len(kept)).to_bytes(4, "little") + data[8:12] + kept
