"""What every use of Pillow on foreign bytes needs: errors by name, and no words on standard error."""

import ctypes
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image, ImageCms, _imaging

from segdex_core.errors import ImageError, ImageTooLargeError, ImageUnreadableError
from segdex_core.wording import printable

PILLOW_ERRORS = (
    ImageCms.PyCMSError,
    ArithmeticError,
    AssertionError,  # Pillow asserts properties of well-formed files
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow's error for "not this format"
    SystemError,  # from its C code
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions that Pillow's decoders raise for hostile bytes, found by decoding and mutating damaged files."""


@contextmanager
def pillow_errors(
    name: str, what: str, *, damaged: type[ImageError] = ImageUnreadableError
) -> Iterator[None]:
    """Convert Pillow's exceptions to ``ImageError``."""
    try:
        yield
    except Image.DecompressionBombError as error:
        # Pillow's own limit, which applies to parts of the file that are larger than the image, and to WebP.
        raise ImageTooLargeError(
            f"{name}: more pixels than Pillow decodes, whatever --max-pixels says: {_line(error)}"
        ) from error
    except MemoryError as error:
        raise ImageUnreadableError(f"{name}: not enough memory to decode it") from error
    except PILLOW_ERRORS as error:
        raise damaged(f"{name}: {what}: {_line(error)}") from error


def quieten_pillow() -> None:
    """Keep Pillow's warnings, its last-resort log lines, and libtiff's messages off standard error.

    The effect is process-wide. Faults of an image are reported in the outcome of its file.
    ``warnings.catch_warnings`` would be cleaner, but it is not thread-safe before Python 3.14.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", None) != _PILLOW_MODULES:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)
    _quieten_libraries()


_PILLOW_MODULES = r"PIL\."


@cache
def _quieten_libraries() -> None:
    # Without a handler, `logging` writes errors to standard error; the application's own handlers stay.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # Symbols are looked up only in the libraries that Pillow's own module is linked to.
    pillow = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        set_handler = getattr(pillow, name, None)  # missing if Pillow was built without libtiff
        if set_handler is not None:
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


def _line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__
