"""Walks through folders, by paths and patterns, and keeps account of what is left out."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from segdex_backends.sources.excludes import Excludes, fixed_place
from segdex_backends.sources.patterns import (
    START,
    Matchers,
    States,
    advance,
    alternatives,
    closure,
    matchers_of,
)
from segdex_core.errors import UsageError
from segdex_core.media.slow_shares import Beat, Watchdog
from segdex_core.media.uris import as_written, canonical_path, display_path, named_path, path_to_uri
from segdex_core.ports.source import ListingProblem
from segdex_core.wording import count_of

SKIPPED_NAMES = frozenset({".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "__MACOSX"})
"""Names that macOS, Windows and Synology create in image folders."""

ALLOWED = "name files, folders or quoted patterns such as 'photos/**/*.jpg'"

_EVERYTHING_BELOW: Matchers = (None,)
_NAMED = 5
"""Paths that a note names; it counts the others."""


class _Entry(NamedTuple):
    """An entry of a folder.

    Attributes:
        name: Its name.
        path: Path of the folder, by which the walk came, and the name.
        kind: ``link`` is a link to a folder, ``other`` is neither a file nor a folder.
        detail: Target of a ``link``; reason of ``unusable``.
    """

    name: str
    path: str
    kind: Literal["file", "folder", "link", "unusable", "other"]
    detail: str = ""


class _Folder(NamedTuple):
    """A folder that is still to be walked.

    Attributes:
        path: Path by which the walk came.
        canonical: Path without links.
        states: States of the pattern of the place.
        left_out: States of the excludes.
    """

    path: str
    canonical: str
    states: States
    left_out: tuple[States, ...]


@dataclass(slots=True)
class Walk:
    """The state of one listing. ``files`` is a dictionary for its order and its fast membership test.

    ``named`` are those files that a place names itself, without a pattern.

    Folders are walked by the given path, which patterns are compared with. Files, and what excludes leave
    out, are recorded by their canonical path.
    """

    excludes: Excludes
    watchdog: Watchdog
    include_hidden: bool
    files: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    named: dict[str, None] = field(default_factory=dict)
    problems: list[ListingProblem] = field(default_factory=list)
    _found: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, given: str) -> bool:
        """Add the files that one place names; return whether it names anything.

        Raises:
            UsageError: If the place is no pattern, and does not exist or cannot be looked at.
        """
        try:
            # `Path("")` would be the current folder.
            path, mode = self._looked_up(given or "\0")
        except (OSError, ValueError) as error:  # ValueError: a null byte, or another machine
            missing = isinstance(error, OSError) and error.errno in _MAY_BE_A_PATTERN
            top, rest = fixed_place(given) if missing else (Path(), ())
            if rest:
                found = [self._add_pattern(f"{top}/{one}") for one in alternatives("/".join(rest))]
                return any(found)
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot ingest {given!r}: {reason}; {ALLOWED}") from error
        self._add_existing(path, mode)
        return True

    def notes(self) -> list[str]:
        """Return a line for each kind of thing that was left out, or taken from elsewhere."""
        lines = self.excludes.notes()
        for kind, what in _NOTES.items():
            paths = list(self._found.get(kind, ()))
            if paths:
                lines.append(what(len(paths)) + _names(paths))
        return lines

    def _looked_up(self, given: str) -> tuple[Path, int]:
        """Return the path that a place names, with unresolved links, and its mode."""
        path = named_path(given).absolute()

        def look(_: Beat) -> tuple[Path, int]:
            # the parent of a link is the parent of its target
            found = canonical_path(path) if ".." in path.parts else as_written(path)
            return found, os.stat(found).st_mode

        return self.watchdog.call(look, str(path))

    def _add_existing(self, path: Path, mode: int) -> None:
        if stat.S_ISDIR(mode):
            self._add_matches(path, _EVERYTHING_BELOW)
        else:
            found = str(canonical_path(path))
            self.files[found] = self.named[found] = None

    def _add_pattern(self, given: str) -> bool:
        """Add what a pattern without braces matches; return whether anything matched."""
        top, rest = fixed_place(given)
        try:
            top, mode = self._looked_up(str(top))
        except OSError:
            return False
        if not rest:  # an alternative that exists as it is written
            self._add_existing(top, mode)
            return True
        return self._add_matches(top, matchers_of(rest))

    def _add_matches(self, top: Path, matchers: Matchers) -> bool:
        """Add the files below ``top`` that match or are in matching folders; return whether anything matched.

        A stack is used, because folders may be nested deeper than Python's recursion limit. A real folder is
        walked once for each set of states, so that links cannot lead in a circle.
        """
        complete, found = len(matchers), False
        canonical = str(canonical_path(top))
        walked: set[tuple[str, States, tuple[States, ...]]] = set()
        stack = [
            _Folder(str(top), canonical, closure(START, matchers), self.excludes.at(str(top), canonical))
        ]
        while stack:
            folder = stack.pop()
            if folder[1:] in walked:
                continue
            walked.add(folder[1:])
            inner: list[_Folder] = []
            for entry in self._list(folder.path):
                states = (
                    {complete} if complete in folder.states else advance(entry.name, folder.states, matchers)
                )
                found = found or complete in states
                left_out = self.excludes.enter(entry.name, folder.left_out)
                path = f"{folder.canonical.rstrip('/')}/{entry.name}"
                if not states:
                    continue
                if self.excludes.leave_out(left_out):
                    self.left_out[path] = None
                    continue
                if entry.kind == "folder":
                    inner.append(_Folder(entry.path, path, frozenset(states), left_out))
                elif entry.kind == "link":
                    inner += self._follow(entry, folder, frozenset(states), left_out, top=canonical)
                elif complete in states:
                    self._take(entry, path)
            stack += reversed(inner)
        return found

    def _take(self, entry: _Entry, path: str) -> None:
        """Record an entry that matches and is no folder."""
        if entry.kind == "file":
            self.files[path] = None
        elif entry.kind == "unusable":
            self.problems.append(ListingProblem(path_to_uri(Path(entry.path)), entry.detail))
        else:
            self._note("other", entry.path)

    def _follow(
        self, entry: _Entry, folder: _Folder, states: States, left_out: tuple[States, ...], *, top: str
    ) -> list[_Folder]:
        """Return the folder that a link leads to, if it is to be walked."""
        target = entry.detail
        if _is_inside(folder.canonical, target):
            self._note("circle", entry.path)
            return []
        by_target = self.excludes.at(target)
        if self.excludes.leave_out(by_target):
            self.left_out[target] = None
            return []
        if not _is_inside(target, top):
            self._note("followed", f"{entry.path} -> {target}")
        both = tuple(one | other for one, other in zip(left_out, by_target, strict=True))
        return [_Folder(entry.path, target, states, both)]

    def _list(self, folder: str) -> list[_Entry]:
        """Return the entries of a folder that are not skipped: sorted, and files before folders."""
        try:
            entries = self.watchdog.call(lambda beat: self._entries(folder, beat), folder)
        except OSError as error:
            self.problems.append(ListingProblem(path_to_uri(Path(folder)), str(error.strerror)))
            return []
        return sorted(entries, key=lambda one: (one.kind in ("folder", "link"), os.fsencode(one.name)))

    def _entries(self, folder: str, beat: Beat) -> list[_Entry]:
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                beat()
                if entry.name in SKIPPED_NAMES or entry.name.startswith("._"):
                    self._note("system", entry.path)
                elif entry.name.startswith(".") and not self.include_hidden:
                    self._note("hidden", entry.path)
                else:
                    found.append(_looked_at(entry))
        return found

    def _note(self, kind: str, path: str) -> None:
        self._found.setdefault(kind, {})[path] = None


_NOTES: dict[str, Callable[[int], str]] = {
    "followed": lambda count: (
        f"{count_of(count, 'link')} to another folder followed; its pictures are kept by their real place: "
    ),
    "circle": lambda count: f"{count_of(count, 'link')} to a folder above not followed: ",
    "hidden": lambda count: f"{count_of(count, 'hidden name')} left out, which --include-hidden takes: ",
    "system": lambda count: f"{count_of(count, 'name')} left out that systems create: ",
    "other": lambda count: f"{count_of(count, 'name')} left out that is neither a file nor a folder: ",
}

_MAY_BE_A_PATTERN = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def _looked_at(entry: os.DirEntry[str]) -> _Entry:
    """Return an entry with its kind; links are followed."""
    name, path = entry.name, entry.path
    try:
        if entry.is_dir(follow_symlinks=False):
            return _Entry(name, path, "folder")
        if not entry.is_symlink():
            return _Entry(name, path, "file" if entry.is_file(follow_symlinks=False) else "other")
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return _Entry(name, path, "link", os.path.realpath(path))
        return _Entry(name, path, "file" if stat.S_ISREG(mode) else "other")
    except OSError as error:
        leads_nowhere = error.errno == errno.ENOENT and os.path.islink(path)
        reason = f"a link to {os.readlink(path)}, which is not there" if leads_nowhere else error.strerror
        return _Entry(name, path, "unusable", str(reason))


def _is_inside(path: str, folder: str) -> bool:
    """Return whether a path is a folder or below it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _names(paths: list[str]) -> str:
    shown = [display_path(path_to_uri(Path(path))) for path in sorted(paths)[:_NAMED]]
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(shown) + more
