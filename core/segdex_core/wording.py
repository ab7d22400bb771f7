"""Counts, durations and foreign texts as people read them.

The module imports little, so that commands start fast.
"""

import re


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
    r"""Return a text with a replacement character for each that could drive a terminal or hide in it.

    These are control characters, separators of lines and paragraphs, characters that change the direction of
    the text around them, and bytes that are not UTF-8. Characters that join emoji or letters stay, and so do
    wide spaces and characters that are newer than Python.

    Example:
        >>> printable("a\tb.jpg")
        'a\ufffdb.jpg'
    """
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, separators of lines, overrides of the direction, and surrogates."""
