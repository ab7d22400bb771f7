"""``Source`` of the files of this machine."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from segdex_backends.sources.excludes import Excludes
from segdex_backends.sources.walk import ALLOWED, Walk
from segdex_core.errors import ImageUnreadableError, UsageError
from segdex_core.media.decode import read_image_bytes
from segdex_core.media.slow_shares import WATCHDOG, Beat, Watchdog
from segdex_core.media.uris import display_path, named_path, path_to_uri, uri_to_path
from segdex_core.ports.source import FileVersion, Listing, LostFolder

T = TypeVar("T")


class FileSource:
    """A source of the files of this machine.

    Args:
        watchdog: Calls the file system, and gives up if it does not answer.
    """

    def __init__(self, watchdog: Watchdog = WATCHDOG) -> None:
        self._watchdog = watchdog

    def list(
        self, places: Sequence[str], *, include_hidden: bool = False, exclude: Sequence[str] = ()
    ) -> Listing:
        """Return the files that ``places`` name, without duplicates.

        A place is a file, a folder, a ``file:`` URI, or a glob pattern in which ``**`` matches any number of
        folders, and ``{a,b}`` either. What exists as it is written is meant as it is written, whatever
        characters it has. A folder includes everything below it. A file that is named explicitly is always
        included. Folders and patterns include every regular file and every link to a file, whatever its
        extension (the decoder checks the first bytes), except names that start with a dot, ``SKIPPED_NAMES``
        and ``exclude``.

        The order does not depend on the locale. Places are in the given order; a folder has its files first
        and then its folders, both sorted by the bytes of their names. A link to a folder is followed, except
        to a folder above it, and each real folder is listed once.

        Args:
            places: Files, folders, URIs and patterns; at least one.
            include_hidden: Whether to include names that start with a dot, except ``._*`` (macOS resource
                forks).
            exclude: Patterns of files and folders to skip. A pattern matches a name at any depth (``*.gif``,
                ``drafts``); a pattern with slashes matches the last parts of a path (``2024/**/raw``); one
                that starts with ``/``, ``./``, ``../`` or ``~/`` is that place alone. ``*`` does not match a
                slash.

        Raises:
            UsageError: If ``places`` is empty, a place does not exist, or nothing matches any of them.
        """
        if not places:
            raise UsageError(f"nothing to ingest; {ALLOWED}")
        walk = Walk(Excludes(tuple(exclude)), self._watchdog, include_hidden)
        unmatched = [given for given in places if not walk.add(given)]
        if len(unmatched) == len(places):
            named = ", ".join(map(repr, unmatched))
            raise UsageError(f"nothing matches {named}, as a name or as a pattern; {ALLOWED}")
        notes = [f"nothing matches {given!r}" for given in unmatched] + walk.notes()
        return Listing(
            tuple(path_to_uri(Path(path)) for path in walk.files),
            tuple(walk.problems),
            tuple(notes),
            tuple(path_to_uri(Path(path)) for path in walk.left_out),
            tuple(path_to_uri(Path(path)) for path in walk.named),
            tuple(str(named_path(given).absolute()) for given in places if given not in unmatched),
        )

    def version(self, uri: str) -> FileVersion:
        """See ``Source``."""
        status = self._asked(uri, os.stat)
        return FileVersion(status.st_size, status.st_mtime_ns)

    def exists(self, uri: str) -> bool:
        """See ``Source``."""
        return self._asked(uri, _exists)

    def lost_folder(self, uri: str) -> LostFolder | None:
        """See ``Source``."""
        return self._asked(uri, _lost_folder)

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """See ``Source``."""

        def work(beat: Beat) -> bytes:
            return read_image_bytes(uri_to_path(uri), max_bytes=max_bytes, on_part=beat)

        try:
            return self._watchdog.call(work, str(uri_to_path(uri)))
        except OSError as error:  # only of the wait: the others are errors of the image already
            raise _unreadable(uri, error) from error

    def _asked(self, uri: str, ask: Callable[[str], T]) -> T:
        """Return what the file system says about a file.

        Raises:
            ImageUnreadableError: If it does not say.
        """
        try:
            path = str(uri_to_path(uri))
            return self._watchdog.call(lambda _: ask(path), path)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise _unreadable(uri, error) from error


def _unreadable(uri: str, error: OSError | ValueError) -> ImageUnreadableError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ImageUnreadableError(f"{display_path(uri)}: cannot be read: {reason}")


def _exists(path: str) -> bool:
    """Return whether there is a file; any other error than that there is none is raised."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _lost_folder(path: str) -> LostFolder | None:
    missing = None
    folder = os.path.dirname(path)
    while not _exists(folder):
        missing, folder = folder, os.path.dirname(folder)
    with os.scandir(folder) as entries:
        if next(entries, None) is None:
            return LostFolder(path_to_uri(Path(folder)), "empty")
    return None if missing is None else LostFolder(path_to_uri(Path(missing)), "missing")
