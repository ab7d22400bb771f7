"""Keep uploaded pictures in a folder, one for each content."""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from segdex_core.errors import UsageError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.settings import Settings

_PART, _NAME_CHARS = ".part", 60  # characters, so that no file system finds a name too long

UPLOAD = "the upload"
"""What messages call it: a file name is the sender's text."""

NO_UPLOADS = "pictures cannot be uploaded here: SEGDEX_UPLOADS names no folder"


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """An uploaded picture.

    Attributes:
        path: Its file.
        image_id: Of its bytes.
    """

    path: Path
    image_id: UUID


def keep_picture(data: bytes, settings: Settings, *, name: str) -> KeptPicture:
    """Keep a picture in the folder of uploads, once for each content.

    Args:
        data: The bytes of its file.
        settings: The folder, and the limits of a picture.
        name: What the sender calls it; only plain characters of it are used.

    Raises:
        UsageError: If there is no folder for uploads.
        ImageError: If it cannot be decoded, or is too large; then nothing is written.
    """
    if settings.uploads is None:
        raise UsageError(NO_UPLOADS)
    decode_image(data, name=UPLOAD, max_pixels=settings.max_pixels)
    digest = sha256_hex(data)
    path = keep_upload(data, settings.uploads / digest, name=name)
    return KeptPicture(path.resolve(), make_image_id(digest))


def keep_upload(data: bytes, folder: Path, *, name: str) -> Path:
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
    last = re.split(r"[/\\]", name)[-1]
    path = folder / (re.sub(r"[^\w .-]", "_", last)[-_NAME_CHARS:].strip(" .") or "picture")
    part = folder / (uuid4().hex + _PART)  # so that nobody sees half of it, nor two senders each other's
    part.write_bytes(data)
    part.replace(path)
    return path
