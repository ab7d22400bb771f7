"""What a model raises on one image becomes the outcome of that image, and does not end the run."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from segdex_core.errors import ImageFailedError, SegdexError

_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The run has ended, and the result is no longer needed."""


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Turn whatever a model raises into ``ImageFailedError``.

    Errors that segdex raises on purpose, and those of the system, pass: a damaged model or a full disk is no
    fault of the image.

    Args:
        name: Name of the image in the message.
    """
    try:
        yield
    except (SegdexError, StoppedError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
            raise
        _log.debug("a model failed on %s", name, exc_info=True)
        reason = " ".join(str(error).split())[:200]
        what = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise ImageFailedError(f"{name}: a model failed on it: {what}") from error


_OF_THE_SYSTEM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""The disk is full or cannot be written, or too many files are open."""
