"""Form fields: an uploaded image within the size limit, and the JSON beside it."""

from fastapi import UploadFile
from pydantic import ValidationError

from segdex.arguments import ModelT
from segdex.faults import fault
from segdex_core.errors import ImageTooLargeError
from segdex_core.settings import Settings


def read_upload(file: UploadFile, settings: Settings) -> bytes:
    """Return the bytes of an upload.

    Raises:
        ImageTooLargeError: If the upload has more than ``max_upload_bytes``.
    """
    data = file.file.read(settings.max_upload_bytes + 1)
    if len(data) > settings.max_upload_bytes:
        raise ImageTooLargeError(f"the upload has more than {settings.max_upload_bytes:,} bytes")
    return data


def read_form(request: str, kind: type[ModelT]) -> ModelT:
    """Return the JSON of the form field ``request``.

    Raises:
        QueryError: If the field is not a valid request.
    """
    try:
        return kind.model_validate_json(request)
    except ValidationError as error:
        raise fault(error.errors(include_url=False), name="request") from error
