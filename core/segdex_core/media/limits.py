"""Limits on what is read: defaults of settings, and of functions that are called without any."""

MAX_PIXELS = 100_000_000
"""Width times height of a picture: about 0.8 GB while it is decoded, and more than any phone takes."""

MAX_BYTES = 500_000_000
"""Length of a file: bounds memory before the header is known."""
