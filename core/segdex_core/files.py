"""Write files so that a crash or a power failure leaves the old content or the new one, never a part."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PART = ".part"
"""Suffix of the hidden temporary file next to a file that is being written."""

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Permissions of what the owner alone may read."""

_ABANDONED_S = 3600
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP}  # some network shares cannot sync a folder


def write_durably(
    path: Path, data: bytes, *, mode: int | None = None, folder_mode: int | None = None
) -> None:
    """Write or replace a file in one step; see ``durable_file``.

    Args:
        path: The file.
        data: Its whole content.
        mode: Permissions of the file, such as ``0o600``.
        folder_mode: Permissions of folders that are made, such as ``0o700``.

    Raises:
        OSError: If it cannot be written; an existing file is as before.
    """
    with durable_file(path, mode=mode, folder_mode=folder_mode) as file:
        file.write(data)


@contextmanager
def durable_file(
    path: Path, *, mode: int | None = None, folder_mode: int | None = None
) -> Iterator[BinaryIO]:
    """Yield a temporary file that becomes ``path`` when the block ends without an error.

    The content and the folder are on the disk before the block returns. A link is followed and stays a link.
    What is no regular file, such as ``/dev/stdout``, is written directly.

    Args:
        path: The file.
        mode: Permissions of the file; None keeps those of a file that is replaced, and gives a new one the
            usual permissions.
        folder_mode: Permissions of folders that are made; None for the usual ones.

    Raises:
        OSError: If it cannot be written; an existing file is as before.
    """
    home = path.resolve()
    if home.exists() and not home.is_file():
        with home.open("wb") as file:
            yield file
        return
    make_folder(home.parent, mode=folder_mode)
    if mode is None and home.exists():
        mode = home.stat().st_mode & 0o7777
    part = home.with_name(f".{uuid4().hex}{PART}")  # a name of its own: writers do not mix, long names fit
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(part, flags, 0o666 if mode is None else mode), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # whatever the umask is
            yield file
        replace_durably(part, home)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def replace_durably(part: Path, path: Path) -> None:
    """Move a complete file over another one of the same file system, and sync the file and its folder.

    Raises:
        OSError: If it cannot be moved; ``path`` is as before.
    """
    sync(part)
    part.replace(path)
    sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder: those of an hour ago and before.

    Raises:
        OSError: If the folder cannot be changed.
    """
    before = time.time() - _ABANDONED_S
    for part in folder.glob(f".*{PART}"):
        with suppress(FileNotFoundError):  # its writer has just finished, or another process removed it
            if part.stat().st_mtime < before:
                part.unlink()


def make_folder(folder: Path, *, mode: int | None = None) -> None:
    """Make a folder and those above it, unless they exist; a power failure takes none of them away.

    Args:
        folder: The folder.
        mode: Permissions of the folders that are made; None for the usual ones.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        try:
            one.mkdir(0o777 if mode is None else mode)
        except FileExistsError:  # another process was faster
            continue
        if mode is not None:
            one.chmod(mode)  # whatever the umask is
        sync_folder(one.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk, where its file system can do that.

    Raises:
        OSError: If the disk does not work.
    """
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync(path: Path) -> None:
    """Sync the content of a file, or the names in a folder, to the disk.

    Raises:
        OSError: If the disk does not work, or its file system cannot sync a folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
