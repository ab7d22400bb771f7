"""Label Studio's run-length code of brush masks: bits that hold the RGBA values of a picture, rows first.

It is ``rle-pack`` of thi.ng: 32 bits with the number of values, 5 bits with the size of a value less one,
four times 4 bits with the sizes of lengths less one, then packets. A packet is a bit (1: one value repeated,
0: values one by one), 2 bits that choose the size of the length, the length less one, and the values.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segdex_core.masks import MaskRLE
from segdex_core.runs import Edges, column_edges, column_edges_mask, edges_runs, turned

_HEAD_BITS = 32 + 5 + 4 * 4
_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST = 1 << _LENGTH_BITS[-1]
_CHANNELS = 4
_WORD_BITS = 32
_WORD = (1 << _WORD_BITS) - 1
_WINDOW_BITS = 40

MAX_BRUSH_PX = (1 << 32) // _CHANNELS - 1
"""Pixels that the code can count."""

MAX_BRUSH_BYTES = 16_000_000
"""Longest code that is read: four megapixels of strokes in which every pixel has a colour of its own."""


def encode_brush(mask: MaskRLE) -> list[int]:
    """Return the bytes of a mask: 255 in all channels where it is.

    They equal ``label_studio_sdk.converter.brush.mask2rle`` of the pixels times 255.

    Raises:
        ValueError: If the runs do not fit ``size_hw``, or are too many, or the picture is too large.

    Example:
        >>> encode_brush(MaskRLE(size_hw=(1, 2), counts="11"))  # 0 1
        [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]
    """
    height, width = mask.size_hw
    size_px = height * width
    if size_px > MAX_BRUSH_PX:
        raise ValueError(f"Label Studio's code counts {MAX_BRUSH_PX:,} pixels, but the mask has {size_px:,}")
    runs = edges_runs(turned(column_edges(mask), lines=width, length=height), size_px)
    begins_inside = int(runs[0] == 0)
    lengths = runs[begins_inside:] * _CHANNELS
    # runs that are too long are split; all their parts have the longest form, as the converter writes them
    parts = -(-lengths // _LONGEST)
    whole = np.repeat(lengths, parts)
    is_last = np.zeros(len(whole), np.bool_)
    is_last[np.cumsum(parts) - 1] = True
    part_lengths = np.where(is_last, (whole - 1) % _LONGEST + 1, _LONGEST)
    form = np.searchsorted([1 << bits for bits in _LENGTH_BITS[:-1]], whole)
    length_bits = np.array(_LENGTH_BITS)[form]
    inside = (np.repeat(np.arange(len(lengths)), parts) + begins_inside) % 2
    packets = ((((0b100 | form) << length_bits) | (part_lengths - 1)) << _VALUE_BITS) | (inside * 255)
    return _packed(packets, 1 + 2 + length_bits + _VALUE_BITS, head=_head(size_px * _CHANNELS))


def decode_brush(code: bytes, size_hw: tuple[int, int]) -> MaskRLE:
    """Return the mask of a code: where the opacity is not 0.

    Args:
        code: The bytes.
        size_hw: Height and width of the picture in pixels.

    Raises:
        ValueError: If the code is damaged, or is of a picture of another size, or has too many runs.
    """
    height, width = size_hw
    count = height * width * _CHANNELS
    if len(code) < -(-_HEAD_BITS // 8):
        raise ValueError("the brush code is too short")
    if len(code) > MAX_BRUSH_BYTES:
        raise ValueError(f"the brush code has {len(code):,} bytes; at most {MAX_BRUSH_BYTES:,} are allowed")
    if int.from_bytes(code[:4], "big") != count:
        raise ValueError(
            f"the brush code has {int.from_bytes(code[:4], 'big'):,} values instead of "
            f"{height} x {width} x {_CHANNELS}"
        )
    return column_edges_mask(turned(_row_edges(code, count), lines=height, length=width), size_hw)


def _row_edges(code: bytes, count: int) -> Edges:
    """Return the edges along the rows."""
    head = int.from_bytes(code[4:7], "big") >> 3
    if (head >> 16) + 1 != _VALUE_BITS:
        raise ValueError(f"the brush code has no values of {_VALUE_BITS} bits")
    length_bits = [((head >> shift) & 15) + 1 for shift in (12, 8, 4, 0)]
    ahead = _windows(code)
    positions = np.array(_positions(ahead.data, length_bits, len(code) * 8), np.int64)
    window, shift = ahead[positions >> 3], _WINDOW_BITS - 3 - (positions & 7)
    first_bits = (window >> shift) & 7
    bits = np.array(length_bits)[first_bits & 3]
    lengths = ((window >> (shift - bits)) & ((1 << bits) - 1)) + 1
    ends = np.cumsum(lengths)
    used = int(np.searchsorted(ends, count)) + 1  # the last byte is filled up
    if used > len(ends) or ends[used - 1] != count:
        raise ValueError("the brush code is damaged: its runs do not fill the picture")
    # the opacity is the last channel: of the values from one end to the next, it is that of these pixels
    first_px, end_px = (ends - lengths)[:used] // _CHANNELS, ends[:used] // _CHANNELS
    is_run = first_bits[:used] >= 4
    opaque = ((window >> (shift - bits - _VALUE_BITS)) & 255)[:used] != 0
    kept = is_run & (first_px < end_px)
    places, inside = [first_px[kept]], [opaque[kept]]
    for at in np.flatnonzero(~is_run).tolist():
        values = _values(code, int(positions[at] + 3 + bits[at]), int(lengths[at]))
        opacity = values[_CHANNELS - 1 - int(ends[at] - lengths[at]) % _CHANNELS :: _CHANNELS] != 0
        places.append(np.arange(first_px[at], end_px[at]))
        inside.append(opacity)
    place, is_inside = np.concatenate(places), np.concatenate(inside)
    order = np.argsort(place, kind="stable")
    edges: Edges = place[order][np.diff(is_inside[order], prepend=False)]
    return edges


def _positions(ahead: Sequence[int], length_bits: list[int], end_bit: int) -> list[int]:
    """Return the bits at which packets begin that end before the code does."""
    step = [0] * 4 + [3 + bits + _VALUE_BITS for bits in length_bits]  # of the first 3 bits of a packet
    positions: list[int] = []
    position = _HEAD_BITS
    while position < end_bit:
        left = _WINDOW_BITS - 3 - (position & 7)
        first_bits = (ahead[position >> 3] >> left) & 7
        next_position = position + step[first_bits]
        if next_position == position:  # values one by one
            bits = length_bits[first_bits]
            length = ((ahead[position >> 3] >> (left - bits)) & ((1 << bits) - 1)) + 1
            next_position += 3 + bits + length * _VALUE_BITS
        if next_position > end_bit:
            break
        positions.append(position)
        position = next_position
    return positions


def _windows(code: bytes) -> npt.NDArray[np.int64]:
    """Return the 40 bits from each byte on; a packet but its values fits in them, wherever it begins."""
    padded = np.frombuffer(code.ljust(len(code) + 6, b"\0"), np.uint8).astype(np.int64)
    size = len(code) + 1
    windows = np.zeros(size, np.int64)
    for place in range(5):
        windows = (windows << 8) | padded[place : place + size]
    return windows


def _head(count: int) -> int:
    head = count
    for value, bits in ((_VALUE_BITS - 1, 5), *((each - 1, 4) for each in _LENGTH_BITS)):
        head = (head << bits) | value
    return head


def _packed(packets: npt.NDArray[np.int64], bits: npt.NDArray[np.int64], *, head: int) -> list[int]:
    """Return the bytes of a head and of packets of some bits each, one after another."""
    low_head = _HEAD_BITS - _WORD_BITS
    values = np.concatenate([[head >> low_head, head & ((1 << low_head) - 1)], packets])
    sizes = np.concatenate([[_WORD_BITS, low_head], bits])
    ends = np.cumsum(sizes)
    word, offset = np.divmod(ends - sizes, _WORD_BITS)
    aligned = values << (2 * _WORD_BITS - sizes - offset)  # at most 63 bits: only the first has 32, at 0
    count = int(ends[-1]) // _WORD_BITS + 2
    # the packets of a word have no bit in common, so that their sum, below 2^32, is exact
    first = np.bincount(word, weights=(aligned >> _WORD_BITS) & _WORD, minlength=count)
    second = np.bincount(word + 1, weights=aligned & _WORD, minlength=count)
    stream = (first + second).astype(">u4").tobytes()
    # a stream that ends with a whole byte gets one more, as from the converter
    return list(stream[: int(ends[-1]) // 8 + 1])


def _values(code: bytes, position: int, count: int) -> npt.NDArray[np.uint8]:
    """Return values that stand one by one from a bit on."""
    first = position >> 3
    raw = np.frombuffer(code[first : first + count + 1].ljust(count + 1, b"\0"), np.uint8).astype(np.uint16)
    pairs = (raw[:-1] << 8) | raw[1:]
    return ((pairs >> (8 - (position & 7))) & 255).astype(np.uint8)
