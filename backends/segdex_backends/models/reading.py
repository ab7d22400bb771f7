"""What the embedders share: texts that a tokenizer can read, and files that are no usable weights."""

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
"""What torch, transformers and open_clip raise for a file that is damaged or holds another model."""

_MAX_REASON_CHARS = 240


def one_line(error: Exception) -> str:
    """Return the message of an error as one line of at most 240 characters; its type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_REASON_CHARS else f"{text[: _MAX_REASON_CHARS - 3]}..."


def put_into(template: str, text: str) -> str:
    """Return the prompt of a text, which replaces ``{}`` without the white space around it.

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
