"""Horizontal bands of an image, to avoid a second full-size image in the source mode."""

from collections.abc import Iterator

from PIL import Image

BAND_PX = 1 << 22
"""Pixels converted at a time."""


def bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    """Return the first row of each band and the row after its last."""
    rows = max(1, BAND_PX // image.width)
    for top in range(0, image.height, rows):
        yield top, min(top + rows, image.height)
