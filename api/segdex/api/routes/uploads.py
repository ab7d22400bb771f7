"""Reading an upload within its limit."""

from fastapi import UploadFile

from segdex.core.errors import ImageTooLargeError
from segdex.core.settings import Settings

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
