"""Store uploaded images in a folder, once for each content."""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from segdex_core.errors import UsageError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.ports.decoder import Decode
from segdex_core.settings import Settings

_PART, _NAME_CHARS = ".part", 60  # characters; every file system allows this length

UPLOAD = "the upload"
"""Name of an upload in messages; the file name is text of the sender and is not shown."""

NO_UPLOADS = "pictures cannot be uploaded here: SEGDEX_UPLOADS names no folder"


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """An uploaded image in the upload folder.

    Attributes:
        path: File of the image.
        image_id: Id of the image, made from its bytes.
    """

    path: Path
    image_id: UUID


def keep_picture(data: bytes, settings: Settings, *, name: str, decode: Decode) -> KeptPicture:
    """Store an image in the upload folder, once for each content.

    Args:
        data: Bytes of the image file.
        settings: Settings with the upload folder and the image limits.
        name: File name given by the sender; special characters are replaced.
        decode: Decodes the image, to see whether it can be decoded.

    Raises:
        UsageError: If no upload folder is set.
        ImageError: If the image cannot be decoded, or is too large; then nothing is written.
    """
    if settings.uploads is None:
        raise UsageError(NO_UPLOADS)
    decode(data, name=UPLOAD, max_pixels=settings.max_pixels)
    digest = sha256_hex(data)
    path = keep_upload(data, settings.uploads / digest, name=name)
    return KeptPicture(path.resolve(), make_image_id(digest))


def is_part(path: Path) -> bool:
    """Return whether a file of the upload folder is not written to its end."""
    return path.suffix == _PART


def keep_upload(data: bytes, folder: Path, *, name: str) -> Path:
    """Return the file that holds an upload; it is written only if the folder has no file yet.

    Args:
        data: Bytes of the file.
        folder: Folder for exactly these bytes.
        name: File name given by the sender; special characters are replaced.
    """
    kept = [path for path in folder.iterdir() if not is_part(path)] if folder.is_dir() else []
    if kept:
        return kept[0]
    folder.mkdir(parents=True, exist_ok=True)
    last = re.split(r"[/\\]", name)[-1]
    path = folder / (re.sub(r"[^\w .-]", "_", last)[-_NAME_CHARS:].strip(" .") or "picture")
    part = folder / (uuid4().hex + _PART)  # readers see no partial file, and two senders do not mix
    part.write_bytes(data)
    part.replace(path)
    return path
