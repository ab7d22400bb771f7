"""A decoder whose files say what goes wrong, for the workers of ``segdex_core.media.pool``."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from segdex_core.errors import ImageUnreadableError
from segdex_core.media.decode import DecodedImage

MODULE = "tests.fakes.hostile_decoder:decode"

SIGNATURE = b"P6 1 "
"""May stand before the text of a file, for a source that reads pictures only."""


def decode(data: bytes, *, name: str, max_pixels: int) -> DecodedImage:
    """Do what the bytes say, or return one row of them."""
    what, _, number = data.removeprefix(SIGNATURE).decode("latin-1").partition(" ")
    if what == "signal":
        os.kill(os.getpid(), int(number))
    elif what == "first":  # the first process at this file is killed
        with suppress(FileExistsError):
            Path(number).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    elif what == "spin":
        while True:
            pass
    elif what == "burn":
        until_s = time.process_time() + float(number)
        while time.process_time() < until_s:
            pass
    elif what == "hang":
        time.sleep(3_600)
    elif what == "allocate":
        np.ones(int(number), np.uint8)
    elif what == "library":  # in C, which has no exceptions
        raise ImageUnreadableError(f"{name}: broken") from OSError("encoder error: out of memory")
    elif what == "raise":
        raise KeyError(number)
    elif what == "unreadable":
        raise ImageUnreadableError(f"{name}: {number}")
    pixels = np.frombuffer(data, np.uint8)[:, None].repeat(3, axis=1)[None]
    return DecodedImage(pixels.copy(), "FAKE", float(os.getpid()), None)
