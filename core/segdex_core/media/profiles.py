"""ICC profiles made from numbers: for files that signal their colours without a profile."""

import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Chromaticity = tuple[float, float]
"""x and y of CIE 1931."""

Curve = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Stored values in 0..1 to linear light in 0..1."""

D65: Chromaticity = (0.3127, 0.3290)
SRGB_PRIMARIES: tuple[Chromaticity, ...] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_PRIMARIES: dict[int, tuple[tuple[Chromaticity, ...], Chromaticity]] = {  # of ITU-T H.273
    1: (SRGB_PRIMARIES, D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), (0.310, 0.316)),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.314, 0.351)),
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65),
}
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SAMPLES = 1024
_PAPER_WHITE_NITS = 203  # ITU-R BT.2408
_KNEE = 0.6


@lru_cache(maxsize=32)
def profile_of_code_points(primaries: int, transfer: int) -> bytes | None:
    """Return a profile for the numbers of ITU-T H.273 that PNG's cICP and AVIF's nclx have; None for sRGB.

    Unknown numbers count as those of sRGB. High dynamic range (PQ and HLG) is mapped to sRGB's by ``_tone``.
    """
    curves: dict[int, Curve] = {
        4: lambda v: v**2.2,
        5: lambda v: v**2.8,
        8: lambda v: v,
        16: _pq,
        18: _hlg,
    }
    if primaries not in _PRIMARIES:
        primaries = 1
    if primaries == 1 and transfer not in curves:
        return None
    points, white = _PRIMARIES[primaries]
    return rgb_profile(points, white, curves.get(transfer, _srgb))


def profile_of_gamma(gamma: float | None, chromaticities: tuple[float, ...] | None) -> bytes | None:
    """Return a profile for PNG's gAMA and cHRM; None if they are missing or absurd.

    Args:
        gamma: Exponent that encoded the values, such as 0.45455.
        chromaticities: x and y of white, red, green and blue.
    """
    curve: Curve = _srgb
    if gamma is not None and 0.05 <= gamma <= 10 and abs(gamma - 1 / 2.2) > 0.005:
        exponent = 1 / gamma
        curve = lambda v: v**exponent  # noqa: E731
    primaries, white = SRGB_PRIMARIES, D65
    if chromaticities is not None and len(chromaticities) == 8:
        pairs = tuple(zip(chromaticities[::2], chromaticities[1::2], strict=True))
        if all(0 < y < 1 and 0 <= x < 1 for x, y in pairs):
            white, primaries = pairs[0], pairs[1:]
    if curve is _srgb and primaries == SRGB_PRIMARIES and white == D65:
        return None
    try:
        return rgb_profile(primaries, white, curve)
    except (np.linalg.LinAlgError, struct.error):  # primaries on one line, or beyond what a profile holds
        return None


def rgb_profile(primaries: tuple[Chromaticity, ...], white: Chromaticity, curve: Curve) -> bytes:
    """Return an ICC profile of version 2 with three primaries and one curve."""
    values = np.round(np.clip(curve(np.linspace(0, 1, _SAMPLES)), 0, 1) * 65535).astype(">u2")
    matrix = _to_d50(primaries, white)
    tone = b"curv" + bytes(4) + struct.pack(">I", _SAMPLES) + values.tobytes()
    text = b"signalled\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(12 + 67)
    parts = [
        (b"desc", described + bytes(-len(described) % 4)),
        (b"cprt", b"text" + bytes(4) + b"none\0\0\0\0"),
        (b"wtpt", _xyz(_D50)),
        *((tag, _xyz(matrix[:, n])) for n, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))),
        *((tag, tone) for tag in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    first = 128 + 4 + 12 * len(parts)
    table, body = struct.pack(">I", len(parts)), b""
    for tag, part in parts:
        table += tag + struct.pack(">II", first + len(body), len(part))
        body += part
    head = struct.pack(">I", first + len(body)) + bytes(4) + bytes([2, 0x20, 0, 0]) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head + bytes(128 - len(head)) + table + body


def _to_d50(primaries: tuple[Chromaticity, ...], white: Chromaticity) -> npt.NDArray[np.float64]:
    """Return the matrix from linear RGB to XYZ for D50."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    x, y = white
    white_xyz = np.array([x / y, 1.0, (1 - x - y) / y])
    to_xyz = columns * np.linalg.solve(columns, white_xyz)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white_xyz)) @ _BRADFORD
    matrix: npt.NDArray[np.float64] = adapt @ to_xyz
    return matrix


def _xyz(value: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(float(part) * 65536)) for part in value)


def _srgb(v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _pq(v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """SMPTE ST 2084, toned for a display of standard range."""
    power = v ** (1 / 78.84375)
    nits = 10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
        1 / 0.1593017578125
    )
    return _tone(nits / _PAPER_WHITE_NITS)


def _hlg(v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ARIB STD-B67, toned for a display of standard range; paper white is at 75 % of the signal."""
    scene = np.where(v <= 0.5, v * v / 3, (np.exp((v - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return _tone(scene / 0.265)


def _tone(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Map linear light, 1 at paper white, to 0..1: unchanged up to the knee, then ever less."""
    rest = 1 - _KNEE
    return np.where(light <= _KNEE, light, _KNEE + rest * (1 - np.exp(-(light - _KNEE) / rest)))
