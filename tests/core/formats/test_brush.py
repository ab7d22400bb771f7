"""The bit stream of Label Studio's brush masks."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from segdex_core.formats.brush import MAX_BRUSH_BYTES, MAX_BRUSH_PX, decode_brush, encode_brush
from segdex_core.masks import BoolMask, MaskRLE, encode_mask

MASKS = of_numpy.arrays(np.bool_, of_numpy.array_shapes(min_dims=2, max_dims=2, max_side=12))
FORMS = (3, 4, 8, 16)


@given(MASKS, st.integers(1, 40), st.integers(1, 30))
def test_a_mask_is_written_as_the_sdk_writes_it_and_read_back(mask: BoolMask, high: int, wide: int) -> None:
    large = mask.repeat(high, axis=0).repeat(wide, axis=1)  # runs of all forms
    rle = encode_mask(large)

    code = encode_brush(rle)
    assert code == _written(np.repeat(large.ravel(), 4))
    assert decode_brush(bytes(code), rle.size_hw) == rle


def test_runs_longer_than_the_longest_form_are_split() -> None:
    rows = np.zeros((600, 300), np.bool_)
    rows[200:500] = True
    rle = encode_mask(rows)

    code = encode_brush(rle)
    assert code == _written(np.repeat(rows.ravel(), 4))
    assert decode_brush(bytes(code), rle.size_hw) == rle


@given(
    of_numpy.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4))),
    st.integers(1, 30),
)
def test_strokes_of_a_person_are_read_by_their_opacity(pixels: npt.NDArray[np.uint8], step: int) -> None:
    """Colours stand one by one there, in any channels."""
    height, width, _ = pixels.shape
    flat = pixels.ravel().tolist()
    bits = _head(len(flat))
    for start in range(0, len(flat), step):
        some = flat[start : start + step]
        bits += "010" + f"{len(some) - 1:08b}" + "".join(f"{value:08b}" for value in some)

    assert decode_brush(_bytes(bits), (height, width)) == encode_mask(pixels[..., 3] > 0)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (b"", "too short"),
        pytest.param(bytes(MAX_BRUSH_BYTES + 1), f"at most {MAX_BRUSH_BYTES:,}", id="long"),
        (b"\0\0\0\x08\x39\x1b\xfc", "do not fill the picture"),
        (b"\0\0\0\x08\x39\x1b\xfc\x60", "do not fill the picture"),
        (b"\0\0\0\x08\x39\x1b\xff\xff\xff\x00", "do not fill the picture"),
        (b"\0\0\0\x08\x79\x1b\xfc\x60\x11\xff\x80", "values of 8 bits"),
        (b"\xff\xff\xff\xff\x39\x1b\xfc\x60\x11\xff\x80", "4,294,967,295 values instead of 1 x 2 x 4"),
    ],
)
def test_a_damaged_code_is_refused(code: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        decode_brush(code, (1, 2))


def test_a_picture_that_the_code_cannot_count_is_refused() -> None:
    with pytest.raises(ValueError, match=f"{MAX_BRUSH_PX:,} pixels"):
        encode_brush(MaskRLE((1 << 15, 1 << 15), "0"))


def _written(inside: npt.NDArray[np.bool_]) -> list[int]:
    """Return the bytes as the SDK makes them: a text of bits, run by run."""
    bits = _head(len(inside))
    edges = [0, *(np.flatnonzero(inside[1:] != inside[:-1]) + 1), len(inside)]
    for start, end in pairwise(edges):
        value, left = 255 if inside[start] else 0, end - start
        form = next((at for at, size in enumerate(FORMS) if left <= 1 << size), 3)
        while left:
            length = min(left, 1 << FORMS[form])
            bits += f"1{form:02b}{length - 1:0{FORMS[form]}b}{value:08b}"
            left -= length
    return list(_bytes(bits))


def _head(count: int) -> str:
    return f"{count:032b}00111" + "".join(f"{size - 1:04b}" for size in FORMS)


def _bytes(bits: str) -> bytes:
    filled = bits + "0" * (8 - len(bits) % 8)
    return int(filled, 2).to_bytes(len(filled) // 8, "big")
