"""Files that the fuzzer found, each made small: all end in one outcome."""

import struct

import pytest

from segdex_core.errors import ImageError
from segdex_core.media.decode import decode_image

_BIG_TIFF = b"II+\0\x08\0\0\0"

FOUND = {
    "the first directory of a BigTIFF lies beyond 2^63": _BIG_TIFF + struct.pack("<Q", 2**64 - 2),
    "a directory of a BigTIFF has 2^64 - 1 entries": _BIG_TIFF
    + struct.pack("<QQ", 16, 2**64 - 1)
    + bytes(40),
    "the next directory of a BigTIFF lies beyond 2^63": (
        _BIG_TIFF + struct.pack("<QQ", 16, 0) + struct.pack("<Q", 2**63)
    ),
}


@pytest.mark.parametrize("data", FOUND.values(), ids=FOUND)
def test_a_file_that_the_fuzzer_found_ends_in_one_outcome(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(data, name="found.tif", max_pixels=1_000_000)
