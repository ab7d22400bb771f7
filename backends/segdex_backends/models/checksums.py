"""Checksums of files of weights."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the lower-case hex sha256 of a file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
