"""Where an export is written: a folder, a zip archive, or one file; and archives as streams.

Everything is written under a hidden temporary name, so that a killed export leaves nothing that looks whole.
"""

import errno
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from segdex_core.errors import StorageError, UsageError
from segdex_core.files import PART, durable_file, make_folder, sync, sync_folder
from segdex_core.formats.export import ExportFormat, OutFile
from segdex_core.formats.registry import FORMATS
from segdex_core.wire.export import ExportOptions

_CHUNK = 1 << 16
_CUT_OUTS = "zip"
_MOMENT = (1980, 1, 1, 0, 0, 0)
_PACKED = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".avif"})
_DOCUMENTS = frozenset({".json", ".jsonl", ".csv", ".xml", ".txt", ".yaml"})


@dataclass(frozen=True, slots=True)
class Target:
    """A place for an export that was checked.

    Attributes:
        path: The place; nothing is there, or an empty folder.
        document: Name of the one file of the export that is written to ``path``; None for all files.
        is_archive: Whether ``path`` becomes a zip archive.
    """

    path: Path
    document: str | None = None
    is_archive: bool = False


def check_target(path: Path, options: ExportOptions) -> Target:
    """Return what an export to a place becomes, before anything is read.

    Args:
        path: Place that the user named.
        options: What to export, and how.

    Raises:
        UsageError: If something is there, or the format cannot be a file of this name.
    """
    suffix = path.suffix.lower()
    form = format_of(options.format)
    document = "" if form is None or copies_pictures(options) else form.document
    is_archive = suffix == ".zip" or form is None
    if path.is_dir() and not is_archive:
        if any(path.iterdir()):
            raise UsageError(f"{path} is not empty; give --out a new name or an empty folder")
        return Target(path)
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists; give --out a new name")
    if is_archive:
        return Target(path, is_archive=True)
    if document and suffix == PurePosixPath(document).suffix:
        return Target(path, document=document)
    if suffix in _DOCUMENTS:
        what = f"{options.format} with pictures" if form and form.document else options.format
        kinds = f"a folder, a {PurePosixPath(document).suffix} file" if document else "a folder"
        raise UsageError(f"{path}: an export as {what} is {kinds} or a .zip file; change --out")
    return Target(path)


def format_of(name: str) -> ExportFormat | None:
    """Return a format of annotations; None for ``zip``, the cut-outs."""
    return None if name == _CUT_OUTS else FORMATS[name]


def copies_pictures(options: ExportOptions) -> bool:
    """Return whether an export has copies of the pictures.

    Raises:
        UsageError: If pictures are to be copied beside cut-outs.
    """
    form = format_of(options.format)
    if form is None:
        if options.pictures == "copy":
            raise UsageError("--format zip has cut-outs and no pictures: choose another --format for copies")
        return False
    return form.copies_pictures if options.pictures is None else options.pictures == "copy"


def save(files: Iterator[OutFile], target: Target) -> None:
    """Write all files of an export.

    Raises:
        StorageError: If the place cannot be written; nothing is there afterwards.
        UsageError: If another process wrote something there meanwhile.
    """
    path = target.path
    try:
        if target.is_archive:
            _save_file(archive_of(files), path)
        elif target.document is not None:
            _save_file(_document(files, target.document), path)
        else:
            _save_folder(files, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"{path} exists; give --out a new name") from error
        raise StorageError(
            f"the export {path} cannot be written: {error.strerror or error}; make room, or choose "
            "another --out"
        ) from error


def _save_file(chunks: Iterator[bytes], path: Path) -> None:
    with durable_file(path) as file:
        for chunk in chunks:
            file.write(chunk)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _save_folder(files: Iterator[OutFile], path: Path) -> None:
    part = path.with_name(f".{uuid4().hex}{PART}")
    try:
        make_folder(path.parent)
        part.mkdir()
        for one in files:
            place = part / _inside(one.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                for chunk in one.chunks:
                    file.write(chunk)
        for folder, _, names in os.walk(part):
            for name in names:
                sync(Path(folder, name))
        part.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _document(files: Iterator[OutFile], name: str) -> Iterator[bytes]:
    """Yield the content of one file, and make all others, which count what is lost."""
    for one in files:
        for chunk in one.chunks:
            if one.name == name:
                yield chunk


def _inside(name: str) -> str:
    """Return the relative name of a file, which is inside of its folder.

    Raises:
        StorageError: If it is not.
    """
    parts = name.split("/")
    if name.startswith("/") or "\0" in name or not all(part not in ("", ".", "..") for part in parts):
        raise StorageError(f"the export names a file outside of its folder: {name!r}; nothing was written")
    return name


class _Pipe:
    """A file that only grows, and whose content is taken as it comes."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: the content is taken at any time."""

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data, self._written = b"".join(self._written), []
        return data


def archive_of(files: Iterable[OutFile]) -> Iterator[bytes]:
    """Yield a zip archive of files in pieces, the same bytes for the same files.

    An archive that is cut off lacks its directory, so that no reader takes it for a whole one.
    """
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[call-overload] # it is written to, only
        for one in files:
            info = zipfile.ZipInfo(_inside(one.name), _MOMENT)
            is_packed = PurePosixPath(one.name).suffix.lower() in _PACKED
            info.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                for chunk in one.chunks:
                    file.write(chunk)
                    if data := pipe.taken():
                        yield data
            if data := pipe.taken():
                yield data
    yield pipe.taken()


def files_of(archive: zipfile.ZipFile) -> Iterator[OutFile]:
    """Yield the files of an archive."""

    def chunks(info: zipfile.ZipInfo) -> Iterator[bytes]:
        with archive.open(info) as file:
            while data := file.read(_CHUNK):
                yield data

    for info in archive.infolist():
        yield OutFile(info.filename, chunks(info))
