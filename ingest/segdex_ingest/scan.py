"""Which files to ingest: from files, folders and glob patterns to one list in a stable order."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from segdex_core.errors import UsageError

SKIPPED_NAMES = frozenset({".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "__MACOSX"})
"""What macOS, Windows and Synology leave in folders of pictures."""

_MAGIC = re.compile(r"[*?\[]")
_ALLOWED = "name files, folders or quoted patterns such as 'photos/**/*.jpg'"


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """A folder, or something in it, that could not be looked at; the scan went on without it."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan found.

    Attributes:
        files: Absolute paths, each once, in the order to ingest them; empty when all folders are.
        problems: What could not be looked at.
    """

    files: tuple[Path, ...]
    problems: tuple[ScanProblem, ...]


def scan_paths(
    inputs: Sequence[str | Path], *, include_hidden: bool = False, exclude: Sequence[str] = ()
) -> Scan:
    """Return the files that ``inputs`` name, each once.

    An input is a file, a folder, or a glob pattern in which ``**`` stands for any number of folders; a folder
    stands for everything below it. A file that is named, not found, is always taken. In folders, and by
    patterns, every regular file and every link to one is a candidate whatever its extension (the decoder
    looks at the first bytes), except names that start with a dot, ``SKIPPED_NAMES`` and ``exclude``.

    The order does not depend on the locale: inputs as given; in a folder first its files, then its folders,
    both sorted by the bytes of their names. Links to folders are followed only where an input names one.

    Args:
        inputs: At least one.
        include_hidden: Take names that start with a dot too, but never ``._*`` (macOS resource forks).
        exclude: Patterns for the name of a file or folder at any depth, or with slashes for the last parts of
            its path: ``*.gif``, ``drafts``, ``2024/*/raw``. ``*`` does not match a slash.

    Raises:
        UsageError: If there is no input, or one does not exist, or a pattern matches nothing.
    """
    if not inputs:
        raise UsageError(f"nothing to ingest; {_ALLOWED}")
    walk = _Walk(include_hidden=include_hidden, excluded=tuple(_matchers(pattern) for pattern in exclude))
    for given in inputs:
        walk.add(os.fspath(given))
    return Scan(tuple(Path(path) for path in walk.files), tuple(walk.problems))


_Matchers = tuple[re.Pattern[str] | None, ...]
"""One for each part of a path; None stands for ``**``."""


def _matchers(pattern: str) -> _Matchers:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    return tuple(None if part == "**" else re.compile(translate(part)) for part in parts)


@dataclass(slots=True)
class _Walk:
    """One scan under way; ``files`` is a dictionary for its order and its quick test of membership."""

    include_hidden: bool
    excluded: tuple[_Matchers, ...]
    files: dict[str, None] = field(default_factory=dict)
    problems: list[ScanProblem] = field(default_factory=list)

    def add(self, given: str) -> None:
        """Add what one input names."""
        try:
            # `Path("")` would be the current folder.
            path = _absolute(Path(given or "\0"))
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            if _MAGIC.search(given):
                self._add_pattern(given)
                return
            reason = error.strerror if isinstance(error, OSError) else "not a path"
            raise UsageError(f"cannot ingest {given!r}: {reason}; {_ALLOWED}") from error
        if stat.S_ISDIR(mode):
            self._add_matches(str(path), (None,))
        else:
            self.files[str(path)] = None

    def _add_pattern(self, given: str) -> None:
        parts = Path(given).parts
        fixed = next(position for position, part in enumerate(parts) if _MAGIC.search(part))
        found = self._add_matches(str(_absolute(Path(*parts[:fixed]))), _matchers("/".join(parts[fixed:])))
        if not found:
            raise UsageError(f"nothing matches {given!r}; {_ALLOWED}")

    def _add_matches(self, top: str, matchers: _Matchers) -> bool:
        """Add the files below ``top`` that match, or that lie in folders that do; return if anything did.

        A state is the number of parts of the pattern that a path has used up. A path may be in several,
        because ``**`` may end anywhere. A stack, not recursion: folders may be nested deeper than Python's.
        """
        complete, found = len(matchers), False
        stack = [(top, _closure({0}, matchers))]
        while stack:
            folder, states = stack.pop()
            files, folders = self._list(folder)
            for entry in files:
                if complete in states or complete in _advance(entry.name, states, matchers):
                    self.files[entry.path] = None
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
            self.problems.append(ScanProblem(Path(folder), str(error.strerror)))
        return files, folders

    def _is_skipped(self, entry: os.DirEntry[str]) -> bool:
        name = entry.name
        if name in SKIPPED_NAMES or name.startswith("." if not self.include_hidden else "._"):
            return True
        return any(_ends_with(entry.path, matchers) for matchers in self.excluded)

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_file()
        except OSError as error:  # a link in a circle
            self.problems.append(ScanProblem(Path(entry.path), str(error.strerror)))
            return False


def _absolute(path: Path) -> Path:
    """Return an absolute path without ``..``; a link is followed only where ``..`` comes after it."""
    if path.name == "..":
        return path.resolve()
    if ".." in path.parts:
        return path.parent.resolve() / path.name
    return path.absolute()


def _advance(name: str, states: set[int], matchers: _Matchers) -> set[int]:
    """Return the states of the entry ``name`` of a folder that is in ``states``."""
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
    """Add the states that are reached because ``**`` may stand for no folder at all."""
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
