"""Relative file names of the pictures of an export."""

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from uuid import UUID

from segdex_core.media.uris import uri_to_path

_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_MAX_BYTES = 120
"""Of a name: some file systems allow 143 bytes; the id that tells twins apart is added."""


def common_root(uris: Mapping[UUID, str]) -> Path:
    """Return the folder that holds all files, as deep as possible."""
    folders = {str(uri_to_path(uri).parent) for uri in uris.values()}
    return Path(os.path.commonpath(sorted(folders)))


def file_names(uris: Mapping[UUID, str], *, safe: bool) -> dict[UUID, str]:
    """Return a name below the pictures of the export for each image: its path from their common folder.

    Args:
        uris: ``file:`` URI of each image.
        safe: Whether the names are of copies: possible on every file system, and unique without their
            suffixes and in any case of letters. Otherwise they are those of the files, as far as they are
            valid UTF-8.
    """
    root = common_root(uris)
    taken: set[str] = set()
    names: dict[UUID, str] = {}
    for image_id, uri in sorted(uris.items(), key=lambda one: (one[1], one[0])):
        name = _text(str(PurePosixPath(uri_to_path(uri).relative_to(root))))
        if safe:
            name = "/".join(map(_possible, name.split("/")))
        if _key(name, safe=safe) in taken:
            path = PurePosixPath(name)
            name = str(path.with_name(f"{path.stem}~{image_id.hex}{path.suffix}"))
        taken.add(_key(name, safe=safe))
        names[image_id] = name
    return names


def _text(name: str) -> str:
    r"""Return a name with its bytes that are no UTF-8 as ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _possible(part: str) -> str:
    """Return a part of a path that Windows, macOS and Linux allow."""
    part = _FORBIDDEN.sub("_", part)
    if part.endswith((".", " ")):
        part = f"{part[:-1]}_"
    if _RESERVED.fullmatch(part):
        part = f"_{part}"
    if len(part.encode()) > _MAX_BYTES:
        stem, dot, suffix = part.rpartition(".")
        if not stem or len(suffix) > 10:
            stem, dot, suffix = part, "", ""
        kept = stem.encode()[: _MAX_BYTES - len(suffix.encode()) - 1].decode(errors="ignore")
        part = f"{kept}{dot}{suffix}"
    return part


def _key(name: str, *, safe: bool) -> str:
    if not safe:
        return name
    stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name
    return unicodedata.normalize("NFC", stem).casefold()
