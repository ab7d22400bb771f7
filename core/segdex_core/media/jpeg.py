"""JPEG files that end early: whether their pixels are there, although the end of the file is missing."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ImageChops, JpegImagePlugin

MAX_MISSING = 0.02
"""Largest share of the pixels that may be missing; at more, the picture is damaged."""

_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # in the data of a scan: no stuffed byte, and no restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_DIFFERS_BY = 8  # levels of 255


@dataclass(frozen=True, slots=True)
class _Scan:
    """A scan: the coefficients that it sends for the first time, and where its data is."""

    covers: frozenset[tuple[int, int]]  # component and coefficient; empty if it refines
    component_count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Frame:
    is_progressive: bool
    size_wh: tuple[int, int]
    sampling: dict[int, tuple[int, int]]  # component to its horizontal and vertical factor
    restart_interval: int
    scans: Sequence[_Scan]


def completed(data: bytes) -> bytes | None:
    """Return a JPEG that lacks its end with the end marker; None if it has one, or is damaged otherwise.

    The zeros that a rescued file has at its end count as missing. Nothing in a JPEG says where the pixels of
    its last scan end. So the file is decoded with continuations that differ: pixels that differ are not in
    it. A progressive JPEG whose missing scans only refine coefficients has all its pixels, a little coarse,
    and viewers show it.

    Raises:
        OSError: If more than ``MAX_MISSING`` of the pixels are missing.
    """
    data = data.rstrip(b"\0").removesuffix(b"\xff")  # half an end marker
    frame = _parse(data)
    if frame is None or not frame.scans:
        return None
    last = frame.scans[-1]
    wanted = {(one, n) for one in frame.sampling for n in range(64)}
    whole = frozenset[tuple[int, int]]().union(*(scan.covers for scan in frame.scans[:-1]))
    if wanted <= whole:
        return data + _END
    if not wanted <= whole | last.covers:
        raise OSError("it ends early, and the first scan of a color or of detail is missing")
    missing = max(_without_restarts(data, frame, last), _share_that_differs(data, frame))
    if missing > MAX_MISSING:
        raise OSError(f"it ends early, and at least {missing:.0%} of the pixels are missing")
    return data + _END


def _parse(data: bytes) -> _Frame | None:
    """Return what the markers say; None if there is no frame, or if there is an end marker."""
    at, restart_interval, is_progressive = 2, 0, False
    size_wh, sampling = (0, 0), dict[int, tuple[int, int]]()
    scans: list[_Scan] = []
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # what Pillow skips
            at = data.find(b"\xff", at)
            if at < 0:
                return None
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            return None
        if marker in _WITHOUT_LENGTH or marker == 0:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        if len(body) < length - 2:
            break
        if marker == 0xDD and len(body) >= 2:
            restart_interval = int.from_bytes(body[:2], "big")
        elif marker in _START_OF_FRAME and len(body) >= 6:
            is_progressive = marker in _PROGRESSIVE
            size_wh = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
            parts = [body[n : n + 3] for n in range(6, len(body) - 2, 3)]
            sampling = {part[0]: (part[1] >> 4 or 1, part[1] & 15 or 1) for part in parts}
        elif marker == 0xDA and body:
            found = _MARKER.search(data, at)
            end = found.start() if found else len(data)
            scans.append(_scan(body, at, end))
            at = end
    if data[at : at + 2] == _END or not sampling:
        return None
    return _Frame(is_progressive, size_wh, sampling, restart_interval, scans)


def _scan(body: bytes, start: int, end: int) -> _Scan:
    count = body[0]
    components = [body[1 + 2 * n] for n in range(count) if 1 + 2 * n < len(body)]
    tail = body[1 + 2 * count :]
    if len(tail) < 3:
        return _Scan(frozenset(), count, start, end)
    first, last, refines = tail[0], min(tail[1], 63), tail[2] >> 4
    covers = {(one, n) for one in components for n in range(first, last + 1)}
    return _Scan(frozenset() if refines else frozenset(covers), count, start, end)


def _without_restarts(data: bytes, frame: _Frame, last: _Scan) -> float:
    """Return the share of the last scan that lies behind its last restart marker and the interval after it.

    A decoder goes on after a continuation only up to the next restart marker.
    """
    if not frame.restart_interval:
        return 0.0
    width, height = frame.size_wh
    across = max(h for h, _ in frame.sampling.values()) if last.component_count > 1 else 1
    down = max(v for _, v in frame.sampling.values()) if last.component_count > 1 else 1
    units = max(-(-width // (8 * across)) * -(-height // (8 * down)), 1)
    intervals = len(_RESTART.findall(data, last.start, last.end)) + 1
    return max(0.0, 1 - intervals * frame.restart_interval / units)


def _share_that_differs(data: bytes, frame: _Frame) -> float:
    """Return the share of the pixels that depends on what follows the data, at least."""
    scale = 2 if frame.is_progressive else 8  # detail is in scans of its own, or beside the rest
    size = max(frame.size_wh[0] // scale, 1), max(frame.size_wh[1] // scale, 1)
    shares = [0.0]
    reference = None
    for seed in range(3):
        noise = random.Random(seed).randbytes(max(8192, len(data) // 8)).replace(b"\xff", b"\xaa")  # noqa: S311
        image = JpegImagePlugin.JpegImageFile(BytesIO(data + (noise if seed else b"") + _END), "")
        image.draft(None, size)
        image.load()
        if reference is None:
            reference = image
            continue
        difference = np.asarray(ImageChops.difference(reference, image))
        differs = difference > _DIFFERS_BY
        shares.append(float((differs.any(axis=2) if differs.ndim == 3 else differs).mean()))
    return max(shares)
