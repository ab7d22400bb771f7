"""Reading what comes as a form: an upload within its limit, and the JSON beside it."""

import re
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from fastapi import UploadFile
from pydantic import BaseModel, ValidationError

from segdex_core.errors import ImageTooLargeError, QueryError
from segdex_core.settings import Settings

_ModelT = TypeVar("_ModelT", bound=BaseModel)

_PART, _NAME_CHARS = ".part", 60  # characters, so that no file system finds a name too long

UPLOAD = "the upload"
"""What messages call it: a file name is the sender's text."""


def read_upload(file: UploadFile, settings: Settings) -> bytes:
    """Return the bytes of an upload.

    Raises:
        ImageTooLargeError: If there are more than ``max_upload_bytes``.
    """
    data = file.file.read(settings.max_upload_bytes + 1)
    if len(data) > settings.max_upload_bytes:
        raise ImageTooLargeError(f"the upload has more than {settings.max_upload_bytes:,} bytes")
    return data


def keep_upload(data: bytes, folder: Path, *, name: str | None) -> Path:
    """Return the file that holds an upload; it is written only if the folder is new.

    Args:
        data: The bytes.
        folder: Of these bytes alone.
        name: What the sender calls it; only plain characters of it are used.
    """
    kept = [path for path in folder.iterdir() if path.suffix != _PART] if folder.is_dir() else []
    if kept:
        return kept[0]
    folder.mkdir(parents=True, exist_ok=True)
    last = re.split(r"[/\\]", name or "")[-1]
    path = folder / (re.sub(r"[^\w .-]", "_", last)[-_NAME_CHARS:].strip(" .") or "picture")
    part = folder / (uuid4().hex + _PART)  # so that nobody sees half of it, nor two senders each other's
    part.write_bytes(data)
    part.replace(path)
    return path


def read_form(request: str, kind: type[_ModelT]) -> _ModelT:
    """Return the JSON of a form's field ``request``.

    Raises:
        QueryError: If it is something else.
    """
    try:
        return kind.model_validate_json(request)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(("request", *map(str, first["loc"])))
        raise QueryError(f"{where}: {first['msg']}") from error
