"""Store uploaded images in a folder, once for each content."""

import errno
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from segdex_core.errors import StorageError, UsageError
from segdex_core.files import PART, PRIVATE_FILE, PRIVATE_FOLDER, remove_parts, sync_folder, write_durably
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.ports.decoder import Decode
from segdex_core.settings import Settings

_PART_LIVES_S = 3_600.0
_NAME_CHARS = 60  # every file system allows this length

UPLOAD = "the upload"
"""Name of an upload in messages; the file name is text of the sender and is not shown."""

NO_UPLOADS = "pictures cannot be uploaded here: SEGDEX_UPLOADS names no folder"


@dataclass(frozen=True, slots=True)
class KeptUpload:
    """An uploaded image in the upload folder.

    Attributes:
        path: File of the image.
        image_id: Id of the image, made from its bytes.
    """

    path: Path
    image_id: UUID


def keep_picture(data: bytes, settings: Settings, *, name: str, decode: Decode) -> KeptUpload:
    """Store an image in the upload folder, once for each content.

    Args:
        data: Bytes of the image file.
        settings: Settings with the upload folder and the image limits.
        name: File name given by the sender; special characters are replaced.
        decode: Decodes the image, to see whether it can be decoded.

    Raises:
        UsageError: If no upload folder is set.
        ImageError: If the image cannot be decoded, or is too large; then nothing is written.
        StorageError: If it cannot be written; then nothing is left of it.
    """
    if settings.uploads is None:
        raise UsageError(NO_UPLOADS)
    decode(data, name=UPLOAD, max_pixels=settings.max_pixels)
    digest = sha256_hex(data)
    try:
        path = keep_upload(data, settings.uploads / digest, name=name)
    except OSError as error:
        raise StorageError(
            f"the upload cannot be kept in {settings.uploads}: {error.strerror or error}; make room there, "
            "or choose another folder with SEGDEX_UPLOADS"
        ) from error
    return KeptUpload(path.resolve(), make_image_id(digest))


def is_part(path: Path) -> bool:
    """Return whether a file of the upload folder is not written to its end."""
    return PART in (path.suffix, path.parent.suffix)


def keep_upload(data: bytes, folder: Path, *, name: str) -> Path:
    """Return the file that holds an upload, whoever sent it before and under whatever name.

    It survives a power failure. A kept file that a power failure emptied or cut is written again.

    Args:
        data: Bytes of the file.
        folder: Folder for exactly these bytes.
        name: File name given by the sender; special characters are replaced.

    Raises:
        OSError: If it cannot be written.
    """
    last = re.split(r"[/\\]", name)[-1]
    new = re.sub(r"[^\w .-]", "_", last)[-_NAME_CHARS:].strip(" .") or "picture"
    if new.endswith(PART):
        new += "_"  # it would be taken for a file that is being written
    while True:
        if folder.is_dir():
            remove_parts(folder)
        found = files_in(folder)
        kept = [path for path in found if not is_part(path)]
        for path in kept:
            if path.stat().st_size == len(data) and path.read_bytes() == data:
                return path
        if found:
            path = kept[0] if kept else folder / new
            write_durably(path, data, mode=PRIVATE_FILE, folder_mode=PRIVATE_FOLDER)
            return path
        # The whole folder appears in one step: of several senders one is first, and names the file.
        made = folder.with_name(f"{uuid4().hex}{PART}")
        try:
            write_durably(made / new, data, mode=PRIVATE_FILE, folder_mode=PRIVATE_FOLDER)
            made.rename(folder)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            sync_folder(folder.parent)
            return folder / new


def clean_uploads(uploads: Path, *, now_s: Callable[[], float] = time.time) -> None:
    """Remove what senders that died left in the upload folder an hour ago or before.

    Args:
        uploads: Upload folder; it need not exist.
        now_s: Returns the seconds since 1970.
    """
    for folder in files_in(uploads):
        if folder.suffix != PART:
            remove_parts(folder)
            continue
        with suppress(FileNotFoundError):  # its sender has just finished
            if now_s() - folder.stat().st_mtime > _PART_LIVES_S:
                shutil.rmtree(folder, ignore_errors=True)


def forget_upload(path: Path, digest: str, settings: Settings) -> None:
    """Delete the file of an upload, with the folder of its content; any other file stays.

    Args:
        path: File of an image, which may be an upload or somebody's own.
        digest: SHA-256 of the image in hexadecimal.
        settings: Settings with the upload folder.

    Raises:
        StorageError: If it cannot be deleted.
    """
    if settings.uploads is None or path.parent.resolve() != (settings.uploads / digest).resolve():
        return
    try:
        for file in files_in(path.parent):
            file.unlink(missing_ok=True)  # all are of this content, or parts of it
        path.parent.rmdir()
        sync_folder(settings.uploads)
    except FileNotFoundError:
        pass  # another process was faster
    except OSError as error:
        raise StorageError(f"the upload {path} cannot be deleted: {error.strerror or error}") from error


def files_in(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing if it does not exist, or not any more."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
