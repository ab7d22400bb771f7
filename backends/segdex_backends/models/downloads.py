"""What a hub file was when it was first downloaded; a later one that differs is refused.

The hub says which commit a branch points to today, and nobody promises that it stays there. The catalog pins
a file where its checksum is known. All others are recorded at the first download, one small JSON file each in
segdex's cache folder, and compared at every load.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from segdex_backends.models.checksums import default_cache_dir, known_sha256
from segdex_core.errors import ModelInvalidError
from segdex_core.files import write_durably

_log = logging.getLogger(__name__)

_FOLDER = "downloads"
_SHOWN = 12  # digits of a checksum or commit in messages


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a hub repository as it was first downloaded.

    Attributes:
        repository: ``OWNER/NAME``.
        file: Its path in the repository.
        revision: Commit of the snapshot, as the hub's cache names it.
        sha256: Lower-case hex checksum.
    """

    repository: str
    file: str
    revision: str
    sha256: str


def records_folder(repository: str, *, cache_dir: Path | None = None) -> Path:
    """Return the folder where the downloads of a repository are recorded."""
    return (cache_dir or default_cache_dir()) / _FOLDER / repository.replace("/", "--")


def record_path(repository: str, file: str, *, cache_dir: Path | None = None) -> Path:
    """Return where the download of a file is recorded."""
    return records_folder(repository, cache_dir=cache_dir) / f"{file.replace('/', '--')}.json"


def find_record(repository: str, file: str, *, cache_dir: Path | None = None) -> Download | None:
    """Return what is recorded of a file; None where nothing is.

    Raises:
        ModelInvalidError: If the record is damaged.
    """
    place = record_path(repository, file, cache_dir=cache_dir)
    try:
        content = json.loads(place.read_bytes())
        return Download(**{name: content[name] for name in Download.__dataclass_fields__})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelInvalidError(
            f"the record {place} of {file} of {repository} is damaged: "
            "delete it, and the next load makes it anew"
        ) from error


def check_download(
    path: Path, repository: str, file: str, *, pinned: str | None = None, cache_dir: Path | None = None
) -> None:
    """Compare a file in the hub's cache with its pin or its record; record it if it has neither.

    Args:
        path: The file in a snapshot of the hub's cache.
        repository: ``OWNER/NAME``.
        file: Its path in the repository.
        pinned: The sha256 that the catalog knows; None where it knows none.
        cache_dir: segdex's cache folder; None for the user's.

    Raises:
        ModelInvalidError: If the file is another one than was expected.
    """
    found, revision = known_sha256(path, cache_dir=cache_dir), snapshot_revision(path, file)
    if pinned is not None:
        if found != pinned:
            raise ModelInvalidError(
                f"{file} of {repository} has sha256 {found[:_SHOWN]}..., but the catalog pins "
                f"{pinned[:_SHOWN]}...: delete {path.resolve()} and load again; if it stays so, the "
                "repository was changed"
            )
        return
    place = record_path(repository, file, cache_dir=cache_dir)
    known = find_record(repository, file, cache_dir=cache_dir)
    if known is None:
        note_download(Download(repository, file, revision, found), cache_dir=cache_dir)
    elif known.sha256 != found:
        raise ModelInvalidError(
            f"{file} of {repository} is not the one that was first downloaded: {path.resolve()} has sha256 "
            f"{found[:_SHOWN]}..., but {known.sha256[:_SHOWN]}... of revision {known.revision[:_SHOWN]} is "
            f"recorded; delete that file to download it again, or delete the record {place} to accept it"
        )


def note_download(download: Download, *, cache_dir: Path | None = None) -> None:
    """Record a download in one step; where the folder cannot be written, log that and go on."""
    place = record_path(download.repository, download.file, cache_dir=cache_dir)
    try:
        write_durably(place, json.dumps(asdict(download), indent=1).encode())
    except OSError as error:
        _log.warning(
            "%s cannot be written (%s): a later change of %s of %s would not be noticed",
            place,
            error.strerror or error,
            download.file,
            download.repository,
        )


def snapshot_revision(path: Path, file: str) -> str:
    """Return the commit of a file in the hub's cache: the name of its snapshot's folder.

    Example:
        >>> snapshot_revision(Path("models--a--b/snapshots/0123/folder/x.json"), "folder/x.json")
        '0123'
    """
    return path.parents[len(PurePosixPath(file).parts) - 1].name
