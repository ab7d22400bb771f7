"""``Source`` of the files of this machine."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from segdex_core.errors import ImageUnreadableError, UsageError
from segdex_core.media.decode import read_image_bytes
from segdex_core.media.uris import as_written, canonical_path, display_path, path_to_uri, uri_to_path
from segdex_core.ports.source import FileVersion, Listing, ListingProblem

SKIPPED_NAMES = frozenset({".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "__MACOSX"})
"""Names that macOS, Windows and Synology create in image folders."""

_MAGIC = re.compile(r"[*?\[]")
_ALLOWED = "name files, folders or quoted patterns such as 'photos/**/*.jpg'"


class FileSource:
    """A source of the files of this machine."""

    def list(
        self, places: Sequence[str], *, include_hidden: bool = False, exclude: Sequence[str] = ()
    ) -> Listing:
        """Return the files that ``places`` name, without duplicates.

        A place is a file, a folder, a ``file:`` URI, or a glob pattern in which ``**`` matches any number of
        folders. A folder includes everything below it. A file that is named explicitly is always included.
        Folders and patterns include every regular file and every link to a file, whatever its extension (the
        decoder checks the first bytes), except names that start with a dot, ``SKIPPED_NAMES`` and
        ``exclude``.

        The order does not depend on the locale. Places are in the given order; a folder has its files first
        and then its folders, both sorted by the bytes of their names. A link to a folder is followed only if
        a place names it.

        Args:
            places: Files, folders, URIs and patterns; at least one.
            include_hidden: Whether to include names that start with a dot, except ``._*`` (macOS resource
                forks).
            exclude: Patterns of files and folders to skip. A pattern matches a name at any depth (``*.gif``,
                ``drafts``); a pattern with slashes matches the last parts of a path (``2024/*/raw``). ``*``
                does not match a slash.

        Raises:
            UsageError: If ``places`` is empty, a place does not exist, or a pattern matches nothing.
        """
        if not places:
            raise UsageError(f"nothing to ingest; {_ALLOWED}")
        walk = _Walk(include_hidden=include_hidden, excluded=tuple(_matchers(pattern) for pattern in exclude))
        for given in places:
            walk.add(given)
        return Listing(tuple(path_to_uri(Path(path)) for path in walk.files), tuple(walk.problems))

    def version(self, uri: str) -> FileVersion:
        """See ``Source``."""
        try:
            status = uri_to_path(uri).stat()
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = error.strerror if isinstance(error, OSError) else error
            raise ImageUnreadableError(f"{display_path(uri)}: cannot be read: {reason}") from error
        return FileVersion(status.st_size, status.st_mtime_ns)

    def exists(self, uri: str) -> bool:
        """See ``Source``."""
        return uri_to_path(uri).exists()

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """See ``Source``."""
        return read_image_bytes(uri_to_path(uri), max_bytes=max_bytes)


_Matchers = tuple[re.Pattern[str] | None, ...]
"""One matcher for each part of a path; None stands for ``**``."""


def _matchers(pattern: str) -> _Matchers:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    return tuple(None if part == "**" else re.compile(translate(part)) for part in parts)


@dataclass(slots=True)
class _Walk:
    """State of one listing. ``files`` is a dictionary for its order and its fast membership test.

    Folders are walked by the given path, which patterns are compared with. Files are recorded by their
    canonical path.
    """

    include_hidden: bool
    excluded: tuple[_Matchers, ...]
    files: dict[str, None] = field(default_factory=dict)
    problems: list[ListingProblem] = field(default_factory=list)

    def add(self, given: str) -> None:
        """Add the files that one place names."""
        try:
            # `Path("")` would be the current folder.
            path = _as_path(given or "\0")
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:  # ValueError: a null byte
            if _MAGIC.search(given):
                self._add_pattern(given)
                return
            reason = error.strerror if isinstance(error, OSError) else "not a path"
            raise UsageError(f"cannot ingest {given!r}: {reason}; {_ALLOWED}") from error
        if stat.S_ISDIR(mode):
            self._add_matches(path, (None,))
        else:
            self.files[str(canonical_path(path))] = None

    def _add_pattern(self, given: str) -> None:
        parts = Path(given).parts
        fixed = next(position for position, part in enumerate(parts) if _MAGIC.search(part))
        found = self._add_matches(_as_path(str(Path(*parts[:fixed]))), _matchers("/".join(parts[fixed:])))
        if not found:
            raise UsageError(f"nothing matches {given!r}; {_ALLOWED}")

    def _add_matches(self, top: Path, matchers: _Matchers) -> bool:
        """Add the files below ``top`` that match or are in matching folders; return whether anything matched.

        A state is the number of pattern parts that a path has matched. A path may be in several states,
        because ``**`` may end anywhere. A stack is used, because folders may be nested deeper than Python's
        recursion limit.
        """
        complete, found = len(matchers), False
        walked, canonical = str(top).rstrip("/"), str(canonical_path(top)).rstrip("/")
        stack = [(str(top), _closure({0}, matchers))]
        while stack:
            folder, states = stack.pop()
            files, folders = self._list(folder)
            for entry in files:
                if complete in states or complete in _advance(entry.name, states, matchers):
                    self.files[canonical + entry.path.removeprefix(walked)] = None
                    found = True
            for entry in reversed(folders):
                inner = {complete} if complete in states else _advance(entry.name, states, matchers)
                found = found or complete in inner
                if inner:
                    stack.append((entry.path, inner))
        return found

    def _list(self, folder: str) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
        """Return the files and the folders in a folder that are not skipped, both sorted."""
        files, folders = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
                    if not self._is_skipped(entry):
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry)
                        elif self._is_file(entry):
                            files.append(entry)
        except OSError as error:
            self._note(folder, error)
        return files, folders

    def _is_skipped(self, entry: os.DirEntry[str]) -> bool:
        name = entry.name
        if name in SKIPPED_NAMES or name.startswith("." if not self.include_hidden else "._"):
            return True
        return any(_ends_with(entry.path, matchers) for matchers in self.excluded)

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_file()
        except OSError as error:  # a circular link
            self._note(entry.path, error)
            return False

    def _note(self, path: str, error: OSError) -> None:
        self.problems.append(ListingProblem(path_to_uri(Path(path)), str(error.strerror)))


def _as_path(given: str) -> Path:
    """Return the absolute path that a place names, with unresolved links."""
    path = uri_to_path(given) if given.startswith("file://") else Path(given).expanduser()
    if ".." in path.parts:  # the parent of a link is the parent of its target
        return canonical_path(path)
    return as_written(path.absolute())


def _advance(name: str, states: set[int], matchers: _Matchers) -> set[int]:
    """Return the states of the entry ``name`` of a folder with ``states``."""
    after = set()
    for state in states:
        if state < len(matchers):
            matcher = matchers[state]
            if matcher is None:
                after.add(state)
            elif matcher.match(name):
                after.add(state + 1)
    return _closure(after, matchers)


def _closure(states: set[int], matchers: _Matchers) -> set[int]:
    """Add the states that are reachable because ``**`` may match no folder."""
    for state in sorted(states):
        following = state
        while following < len(matchers) and matchers[following] is None:
            following += 1
            states.add(following)
    return states


def _ends_with(path: str, matchers: _Matchers) -> bool:
    parts = path.split("/")[-len(matchers) :]
    return len(parts) == len(matchers) and all(
        matcher is None or matcher.match(part) for part, matcher in zip(parts, matchers, strict=True)
    )
