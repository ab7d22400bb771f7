"""Default limits on image files, for settings and for functions that are called without a limit."""

MAX_PIXELS = 100_000_000
"""Maximum width times height of an image: about 0.8 GB during decoding, and more than any phone produces."""

MAX_BYTES = 500_000_000
"""Maximum size of a file in bytes, which limits memory before the header is known."""
