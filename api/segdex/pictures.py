"""Images as callers pass them: a path, the bytes of a file, a Pillow image or an array."""

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from segdex_core.errors import ImageUnreadableError, UsageError
from segdex_core.media.uris import as_written, named_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from segdex_core.ports.decoder import Decode
    from segdex_core.records import RGBImage

    Picture: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
    """A path, the bytes of an image file, a Pillow image, or an (H, W, 3) uint8 array in RGB order."""
else:
    Picture: TypeAlias = object  # Pillow and NumPy are imported on first use


def picture_file(picture: Picture) -> tuple[str, bytes]:
    """Return a file name and the bytes of an image file.

    Pillow images and arrays are encoded as PNG, or as TIFF if PNG lacks their mode. A Pillow image is first
    turned upright by its EXIF orientation.

    Raises:
        ImageError: If the image cannot be read. Of a file that is no image only the first bytes are read.
        UsageError: If ``picture`` has an unsupported type, or its path does not exist.
    """
    if isinstance(picture, bytes):
        return "picture", picture
    if isinstance(picture, str | os.PathLike):
        from segdex_core.media.decode import read_image_bytes

        path = _existing(picture)
        return path.name.encode("utf-8", "replace").decode(), read_image_bytes(path)
    from PIL import Image

    image = picture if isinstance(picture, Image.Image) else Image.fromarray(_checked(picture))
    return _file_of(image)


def picture_pixels(picture: Picture, *, max_pixels: int, decode: "Decode") -> "RGBImage":
    """Return the pixels of an image, (H, W, 3) uint8 sRGB, upright; see ``decode_image``.

    Args:
        picture: Image.
        max_pixels: Images with more pixels are refused.
        decode: Decodes files.

    Raises:
        ImageError: If the image cannot be decoded, or has more pixels than ``max_pixels``.
        UsageError: If ``picture`` has an unsupported type, or its path does not exist.
    """
    from segdex_core.media.decode import read_image_bytes
    from segdex_core.media.limits import check_shape

    if isinstance(picture, str | os.PathLike):
        path = _existing(picture)
        return decode(read_image_bytes(path), name=str(path), max_pixels=max_pixels).pixels
    name = "the picture"
    if isinstance(picture, bytes):
        return decode(picture, name=name, max_pixels=max_pixels).pixels
    from PIL import Image

    if not isinstance(picture, Image.Image):
        pixels = _checked(picture)
        check_shape(pixels.shape[1], pixels.shape[0], name=name)
        if pixels.shape[0] * pixels.shape[1] <= max_pixels:
            return pixels
    return decode(picture_file(picture)[1], name=name, max_pixels=max_pixels).pixels


def _existing(place: str | os.PathLike[str]) -> Path:
    try:
        path = as_written(named_path(os.fspath(place)).absolute())
        exists = path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, a null byte, another machine
        raise UsageError(f"{os.fspath(place)!r}: {error}") from error
    if not exists:
        raise UsageError(f"{path}: there is no such file")
    return path


def _file_of(image: "Image.Image") -> tuple[str, bytes]:
    from PIL import ImageOps

    from segdex_core.media.pillow import PILLOW_ERRORS

    buffer = BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _MODES_OF_TIFF:
            upright.save(buffer, "TIFF")
            return "picture.tif", buffer.getvalue()
        if upright.mode not in _MODES_OF_PNG:
            upright = upright.convert("RGBA" if upright.mode in _MODES_WITH_ALPHA else "RGB")
        upright.save(buffer, "PNG", compress_level=1)
    except PILLOW_ERRORS as error:  # Pillow reads an opened file only now
        raise ImageUnreadableError(f"the picture cannot be read: {error}") from error
    return "picture.png", buffer.getvalue()


_MODES_OF_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_MODES_OF_TIFF = frozenset({"F", "I", "I;16", "I;16B", "I;16L", "LAB"})
"""Modes with more than 8 bits, and CIELAB; the decoder scales and converts them as it does for files."""
_MODES_WITH_ALPHA = frozenset({"La", "PA", "RGBa"})


def _checked(picture: object) -> "RGBImage":
    import numpy as np

    if not isinstance(picture, np.ndarray):
        raise UsageError(
            f"a picture must be a path, bytes, a Pillow image or an array, but is a {type(picture).__name__}"
        )
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise UsageError(
            f"an array must be (H, W, 3) uint8 in RGB order, but is {picture.shape} {picture.dtype}"
        )
    return np.ascontiguousarray(picture)  # models take no negative strides, as of reversed BGR
