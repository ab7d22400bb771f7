"""Helpers of the embedders: checks of query texts, and exceptions of unusable weight files."""

import pickle

from safetensors import SafetensorError

from segdex_core.errors import QueryError

UNREADABLE = (
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    OSError,
    EOFError,
    StopIteration,
    AttributeError,
    AssertionError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
)
"""Exceptions that torch, transformers and open_clip raise for a file that is damaged or of another model."""

_MAX_QUOTED_CHARS = 40

_MAX_REASON_CHARS = 240


def one_line(error: Exception) -> str:
    """Return the message of an error in one line of at most 240 characters, or its type without a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_REASON_CHARS else f"{text[: _MAX_REASON_CHARS - 3]}..."


def quoted(text: str) -> str:
    """Return a text in quotes for a message, cut after 40 characters.

    Example:
        >>> quoted(" cat "), quoted("x" * 1000)
        ("'cat'", "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'")
    """
    text = text.strip()
    return repr(text if len(text) <= _MAX_QUOTED_CHARS else f"{text[:_MAX_QUOTED_CHARS]}...")


def put_into(template: str, text: str) -> str:
    """Return ``template`` with ``{}`` replaced by ``text``, without surrounding white space.

    Raises:
        QueryError: If the text is empty or not valid Unicode.
    """
    if not text.strip():
        raise QueryError("the query text is empty: say what to look for")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, as from an undecodable command line
        raise QueryError(f"the query text is not valid Unicode: {text!a}") from error
    return template.replace("{}", text.strip())
