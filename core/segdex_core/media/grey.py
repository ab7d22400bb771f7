"""Pictures with more than 8 bits: which stored values are black and white."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from segdex_core.media.bands import bands

_DEPTHS = (8, 10, 12, 14, 16)
_DARK_HIGH_BYTE = 1 << 6  # below it, 14 bits or fewer are used
_SAMPLES = 1 << 20
_OUTLIERS_PERCENT = 0.1
_WIDE = frozenset(f"{mode};16{order}" for mode in ("RGB", "RGBA", "RGBX") for order in "BLN")
_PHOTOMETRIC, _BITS, _MAX_SAMPLE = 262, 258, 281
_MIN_IS_WHITE = 0


def is_wide_grey(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def grey_converter(image: Image.Image) -> Callable[[npt.NDArray[np.generic]], npt.NDArray[np.uint8]]:
    """Return the conversion of values of this image to 8 bits; see ``grey_range``."""
    black, white = grey_range(image)
    if not image.mode.startswith("I;16"):
        return lambda values: _to_8_bit(values, black, white)
    table = _to_8_bit(np.arange(65536), black, white)
    return lambda values: table[values]


def grey_range(image: Image.Image) -> tuple[float, float]:
    """Return the values that become 0 and 255.

    Integers that all lie in 0..65535 have a scale of 8, 10, 12, 14 or 16 bits. PGM and JPEG 2000 declare it,
    and a TIFF may; else it is the smallest that holds all values, as cameras put 12 bits into 16. Floats in
    0..1 have that scale. Any other range is stretched between its 0.1 and its 99.9 percentile, so that a few
    extreme values do not make the rest black. NaN and infinities do not count. A TIFF whose smallest value is
    white has the two exchanged.
    """
    low, high = _extremes(image)
    known = None
    if low >= 0 and high <= (1 if image.mode == "F" else 65535):
        known = 0.0, 1.0 if image.mode == "F" else _scale_of(image, high)
    black, white = known or _percentiles(image, low, high)
    is_inverted = isinstance(image, TiffImagePlugin.TiffImageFile) and (
        image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE
    )
    return (white, black) if is_inverted else (black, white)


def wide_colour(image: ImageFile.ImageFile) -> bool:
    """Whether an image that is not loaded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    return any(_rawmode(tile) in _WIDE for tile in image.tile)


def brightened(image: ImageFile.ImageFile, again: ImageFile.ImageFile) -> Image.Image:
    """Return a loaded image with colours of 16 bits, scaled to the bits that it uses.

    A transparent colour, which has 16 bits too, becomes alpha.

    Args:
        image: Loaded image, with the upper 8 bits.
        again: The same image, not loaded yet.
    """
    colours = image.getextrema()[:3]
    is_dark = max(int(high) for _, high in colours) < _DARK_HIGH_BYTE  # type: ignore[misc] # pairs, of a band
    transparent = image.info.get("transparency")
    if not is_dark and not isinstance(transparent, tuple):
        return image
    again.tile = [_with_other_byte(tile) for tile in again.tile]
    again.load()
    values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)
    scaled = _to_8_bit(values[:, :, :3], 0, _full_scale(float(values[:, :, :3].max()), None))
    if image.mode == "RGBA":
        scaled = np.dstack([scaled, np.asarray(image)[:, :, 3]])
    elif isinstance(transparent, tuple):
        scaled = np.dstack([scaled, np.where((values == transparent).all(axis=2), 0, 255).astype(np.uint8)])
    bright = Image.fromarray(scaled)
    bright.info = {key: value for key, value in image.info.items() if key != "transparency"}
    bright.format = image.format
    return bright


def _to_8_bit(values: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return values scaled so that ``low`` becomes 0 and ``high`` 255; NaN becomes 0."""
    span = high - low
    with np.errstate(invalid="ignore", over="ignore"):  # float images may contain infinities and NaN
        scaled = (values.astype(np.float64) - low) * 255 / span if span else np.zeros(values.shape)
    return np.clip(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0) + 0.5, 0, 255).astype(np.uint8)


def _extremes(image: Image.Image) -> tuple[float, float]:
    """Return the smallest and largest finite value; of none, the first is larger than the second."""
    low, high = np.inf, -np.inf
    for values in _parts(image):
        finite = values[np.isfinite(values)] if image.mode == "F" else values
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


def _scale_of(image: Image.Image, high: float) -> float:
    """Return the full scale of integers; Pillow has scaled those of PGM and JPEG 2000 to 16 bits."""
    return 65535.0 if image.format not in ("PNG", "TIFF") else _full_scale(high, _declared(image))


def _full_scale(high: float, declared: int | None) -> float:
    depths: Sequence[int] = _DEPTHS if declared is None else (declared, *_DEPTHS)
    return float(next((1 << bits) - 1 for bits in depths if high < 1 << bits))


def _declared(image: Image.Image) -> int | None:
    """Return the bits that a TIFF says its values have, if that is not simply the size of the container."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    highest = image.tag_v2.get(_MAX_SAMPLE)
    if isinstance(highest, tuple) and highest:
        highest = highest[0]
    if isinstance(highest, int) and 255 <= highest < 65535:
        return highest.bit_length()
    bits = image.tag_v2.get(_BITS, (16,))
    return int(bits[0]) if bits and 8 < bits[0] < 16 else None


def _percentiles(image: Image.Image, low: float, high: float) -> tuple[float, float]:
    if low > high:  # no finite value
        return 0.0, 0.0
    step = max(1, round((image.width * image.height / _SAMPLES) ** 0.5))
    sample = np.concatenate([part[::step, ::step].ravel() for part in _parts(image)]).astype(np.float64)
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return low, high
    black, white = np.percentile(finite, [_OUTLIERS_PERCENT, 100 - _OUTLIERS_PERCENT], method="nearest")
    return (float(black), float(white)) if white > black else (low, high)


def _parts(image: Image.Image) -> Iterator[npt.NDArray[np.generic]]:
    for top, bottom in bands(image):
        yield np.asarray(image.crop((0, top, image.width, bottom)))


def _rawmode(tile: ImageFile._Tile) -> str:
    args = tile.args
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _with_other_byte(tile: ImageFile._Tile) -> ImageFile._Tile:
    """Return a part of the file that reads the lower byte of each value as if it were the upper one."""
    other = {"B": "L", "L": "B", "N": "B"}  # N is the order of this machine, which is little-endian
    args, rawmode = tile.args, _rawmode(tile)
    rawmode = rawmode[:-1] + other[rawmode[-1]]
    return tile._replace(args=rawmode if not isinstance(args, tuple) else (rawmode, *args[1:]))
