"""Counts, durations and foreign texts as people read them.

The module imports nothing, so that commands start fast.
"""


def count_of(number: int, noun: str) -> str:
    """Return a count with its noun, which gets an s unless the count is 1.

    Example:
        >>> count_of(1, "picture"), count_of(0, "new segment"), count_of(1200, "file")
        ('1 picture', '0 new segments', '1,200 files')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration_of(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours, whichever reads better.

    Example:
        >>> duration_of(0.2), duration_of(40), duration_of(300), duration_of(86_400)
        ('1 s', '40 s', '5 min', '24.0 h')
    """
    if seconds < 2 * 60:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 2 * 3600 else f"{round(seconds / 60)} min"


def printable(text: str) -> str:
    r"""Return a text with a replacement character for each that cannot be printed.

    Example:
        >>> printable("a\tb.jpg")
        'a\ufffdb.jpg'
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
