"""Limits on image files: defaults for settings and for functions without a limit, and those of shapes."""

from segdex_core.errors import ImageTooLargeError

MAX_PIXELS = 100_000_000
"""Maximum width times height of an image: about 0.8 GB during decoding, and more than any phone produces."""

MAX_BYTES = 500_000_000
"""Maximum size of a file in bytes, which limits memory before the header is known."""

MAX_SIDE_PX = 65_535
"""Maximum width and height, as of JPEG."""

MAX_RATIO = 4_000
"""Maximum ratio of the longer side to the shorter one. Models see a picture as a square, or enlarge its
shorter side to some 256 pixels: of 1 x 2,000,000 pixels they would see nothing, and need gigabytes."""


def check_shape(width: int, height: int, *, name: str) -> None:
    """Raise if no model can look at an image of this shape.

    Args:
        width: In pixels.
        height: In pixels.
        name: Name of the image in the message.

    Raises:
        ImageTooLargeError: If a side is too long, by itself or beside the other side.
    """
    longer, shorter = max(width, height), min(width, height)
    if longer > MAX_SIDE_PX:
        raise ImageTooLargeError(
            f"{name}: {width:,} x {height:,} pixels, more than the {MAX_SIDE_PX:,} allowed for one side; "
            "cut it into parts"
        )
    if longer > MAX_RATIO * shorter:
        raise ImageTooLargeError(
            f"{name}: {width:,} x {height:,} pixels: one side is more than {MAX_RATIO:,} times as long as "
            "the other, which no model can look at; cut it into parts"
        )
