"""What an ingest leaves out: the patterns of ``--exclude``, and how often each of them was met."""

import os
from dataclasses import dataclass
from pathlib import Path

from segdex_backends.sources.patterns import (
    START,
    Matchers,
    States,
    advance,
    alternatives,
    closure,
    is_pattern,
    literal_matchers,
    matchers_of,
)
from segdex_core.errors import UsageError
from segdex_core.media.uris import canonical_path, named_path
from segdex_core.wording import count_of


@dataclass(slots=True)
class _Exclude:
    """One pattern without braces.

    Attributes:
        given: The pattern as it was given, with braces.
        matchers: Matchers of its parts.
        any_case: The same ones, which ignore the case of letters.
    """

    given: str
    matchers: Matchers
    any_case: Matchers


class Excludes:
    """Decides which entries of a walk are left out.

    A name matches at any depth, a pattern with slashes matches the last parts of a path, and a path that
    starts with ``/``, ``./``, ``../`` or ``~`` is that place alone.

    Args:
        given: Patterns.

    Raises:
        UsageError: If a pattern is empty or not a path.
    """

    def __init__(self, given: tuple[str, ...]) -> None:
        self._given = given
        self._excludes = tuple(
            _exclude(text, one) for text in given for one in dict.fromkeys([text, *alternatives(text)])
        )
        self._all = tuple(matchers for one in self._excludes for matchers in (one.matchers, one.any_case))
        self._met = dict.fromkeys(given, 0)
        self._met_in_other_case = dict.fromkeys(given, 0)

    def at(self, *paths: str) -> tuple[States, ...]:
        """Return the states of a folder, which may be known by several paths; a link and its target are."""
        return tuple(
            frozenset[int]().union(*(_below(path, matchers) for path in set(paths))) for matchers in self._all
        )

    def enter(self, name: str, states: tuple[States, ...]) -> tuple[States, ...]:
        """Return the states of an entry of a folder."""
        return tuple(
            advance(name, before, matchers) for before, matchers in zip(states, self._all, strict=True)
        )

    def leave_out(self, states: tuple[States, ...]) -> bool:
        """Return whether an entry with these states is left out, and count it."""
        left_out = False
        for position, one in enumerate(self._excludes):
            if len(one.matchers) in states[2 * position]:
                self._met[one.given] += 1
                left_out = True
            elif len(one.any_case) in states[2 * position + 1]:
                self._met_in_other_case[one.given] += 1
        return left_out

    def notes(self) -> list[str]:
        """Return a line for each pattern that left out nothing."""
        lines = []
        for given in self._given:
            if not self._met[given]:
                line = f"exclude {given!r} left out nothing"
                if others := self._met_in_other_case[given]:
                    line += f": {count_of(others, 'name')} would match if upper and lower case were the same"
                lines.append(line)
        return lines


def _exclude(given: str, pattern: str) -> _Exclude:
    if not pattern.strip("/"):
        raise UsageError(f"--exclude {given!r} names nothing: give a name, a pattern or a path")
    if pattern.startswith(("/", "file:/")) or pattern.partition("/")[0] in (".", "..", "~"):
        fixed, rest = _fixed(given, pattern)
        place = literal_matchers(fixed)
        return _Exclude(given, *(place + matchers_of(rest, ignore_case=case) for case in _CASES))
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    return _Exclude(given, *((None, *matchers_of(parts, ignore_case=case)) for case in _CASES))


_CASES = (False, True)
"""Whether the case of letters is ignored: first as it counts, then for the hint."""


def _fixed(given: str, pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parts of the place where a path with a pattern begins, and the parts of the pattern."""
    try:
        top, rest = fixed_place(pattern)
    except ValueError as error:  # a null byte, or another machine
        raise UsageError(f"--exclude {given!r}: {error}") from error
    return canonical_path(top).parts[1:], rest


def fixed_place(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """Return the place where a pattern begins, and the parts after it.

    What exists as it is written is meant as it is written, also where it has brackets or stars.

    Raises:
        ValueError: If the path has a null byte, or names another machine.
    """
    path = named_path(pattern)
    parts = path.parts
    for position, part in enumerate(parts):
        if is_pattern(part) and not os.path.lexists(Path(*parts[: position + 1])):
            return Path(*parts[:position]).absolute(), parts[position:]
    return path.absolute(), ()


def _below(path: str, matchers: Matchers) -> States:
    """Return the states of a folder that is given by its absolute path."""
    states = closure(START, matchers)
    for part in path.split("/"):
        if part:
            states = advance(part, states, matchers)
    return states
