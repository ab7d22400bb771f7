"""Documents of annotations as callers pass them: a path or the bytes of a file."""

import os
from pathlib import Path
from typing import TypeAlias

from segdex_core.errors import UsageError
from segdex_core.media.uris import named_path

Document: TypeAlias = str | os.PathLike[str] | bytes
"""A path, or the bytes of a file."""

MAX_DOCUMENT_BYTES = 500_000_000
"""Largest document that is read: it takes up to ten times as much memory."""


def document_file(document: Document) -> tuple[str, bytes]:
    """Return a name for messages and the bytes of a document.

    Raises:
        UsageError: If it cannot be read, or is larger than ``MAX_DOCUMENT_BYTES``.
    """
    if isinstance(document, bytes):
        return "the document", document
    try:
        path = named_path(os.fspath(document))
        size = path.stat().st_size
        if path.is_file() and size <= MAX_DOCUMENT_BYTES:
            return str(path), path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{os.fspath(document)}: cannot be read: {_reason(error)}") from error
    if not path.is_file():
        raise UsageError(f"{path}: it is no file; name the JSON file with the annotations")
    raise UsageError(
        f"{path}: it has {size:,} bytes; at most {MAX_DOCUMENT_BYTES:,} are read: import it in parts"
    )


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def file_name(name: str) -> str:
    """Return the name of a document without folders, as it is sent."""
    return Path(name).name.encode("utf-8", "replace").decode()
