"""Patterns of paths, part by part: ``**`` stands for any number of folders, braces for alternatives."""

import re
import unicodedata
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache

from segdex_core.errors import UsageError

Matchers = tuple[re.Pattern[str] | None, ...]
"""One matcher for each part of a path; None stands for ``**``."""

States = frozenset[int]
"""Numbers of pattern parts that a path has matched. It may be several, because ``**`` may end anywhere."""

START: States = frozenset({0})

_MAGIC = re.compile(r"[*?\[{]")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MAX_ALTERNATIVES = 1_000


def is_pattern(text: str) -> bool:
    """Return whether a text has a character that stands for others."""
    return _MAGIC.search(text) is not None


def alternatives(pattern: str) -> list[str]:
    """Return the patterns without braces that a pattern with braces stands for, as a shell has them.

    Raises:
        UsageError: If there are more than a thousand.

    Example:
        >>> alternatives("*.{jp{,e}g,png}")
        ['*.jpg', '*.png', '*.jpeg']
    """
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        if len(done) + len(waiting) > _MAX_ALTERNATIVES:
            raise UsageError(
                f"the braces of {pattern[:80]!r} stand for more than {_MAX_ALTERNATIVES} patterns"
            )
        text = waiting.pop(0)
        found = _BRACES.search(text)
        if found is None:
            done.append(text)
        else:
            before, after = text[: found.start()], text[found.end() :]
            waiting += [f"{before}{choice}{after}" for choice in found[1].split(",")]
    return list(dict.fromkeys(done))


def matchers_of(parts: Iterable[str], *, ignore_case: bool = False) -> Matchers:
    """Return the matchers of the parts of a pattern. A name that is written like a part matches it too."""
    return tuple(None if part == "**" else _matcher(part, ignore_case=ignore_case) for part in parts)


def literal_matchers(parts: Iterable[str]) -> Matchers:
    """Return matchers of names that are meant as they are written."""
    return tuple(re.compile(rf"{re.escape(_same_form(part))}\Z") for part in parts)


def advance(name: str, states: States, matchers: Matchers) -> States:
    """Return the states of the entry ``name`` of a folder with ``states``."""
    after: set[int] = set()
    name = _same_form(name)
    for state in states:
        if state < len(matchers):
            matcher = matchers[state]
            if matcher is None:
                after.add(state)
            elif matcher.match(name):
                after.add(state + 1)
    return closure(after, matchers)


def closure(states: Iterable[int], matchers: Matchers) -> States:
    """Return the states with those that are reachable because ``**`` may match no folder."""
    reached = set(states)
    for state in sorted(reached):
        following = state
        while following < len(matchers) and matchers[following] is None:
            following += 1
            reached.add(following)
    return frozenset(reached)


@lru_cache(maxsize=1_024)
def _matcher(part: str, *, ignore_case: bool) -> re.Pattern[str]:
    part = _same_form(part)
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    return re.compile(rf"(?:{re.escape(part)})\Z|{translate(part)}", flags)


def _same_form(name: str) -> str:
    """Return a name in the one Unicode form in which names are compared."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
