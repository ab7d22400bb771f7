"""Reading what comes as a form: an upload within its limit, and the JSON beside it."""

from typing import TypeVar

from fastapi import UploadFile
from pydantic import BaseModel, ValidationError

from segdex.core.errors import ImageTooLargeError, QueryError
from segdex.core.settings import Settings

_ModelT = TypeVar("_ModelT", bound=BaseModel)

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
