"""Ids that people write: whole, or the first digits that no other id has."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from segdex_core.errors import NotFoundError, UsageError
from segdex_core.wire.ids import MAX_CANDIDATES, id_prefix, is_prefix

if TYPE_CHECKING:
    from segdex.client import Client
    from segdex.library import Library

DELETE_CHARS = 8
"""Digits that a picture to delete needs: shorter ones are also names of folders, such as 2024."""


def segment_ids(library: "Library | Client", given: Sequence[str]) -> list[UUID]:
    """Return the ids of segments; only those that are not whole are looked up.

    Raises:
        UsageError: If one is no id, or several segments start with it.
        NotFoundError: If no segment starts with it.
    """
    return [_whole_id(library, one, kinds=("segment",)) for one in given]


def member_ids(library: "Library | Client", given: Sequence[str]) -> list[UUID]:
    """Return the ids of segments and images, as ``segment_ids`` does."""
    return [_whole_id(library, one, kinds=("segment", "image")) for one in given]


def ids_among(ids: Iterable[UUID], given: Sequence[str], *, where: str) -> list[UUID]:
    """Return ids of which some are written by their first digits, as ``segment_ids`` does.

    Args:
        ids: Ids that the digits may mean; a whole id may also be another.
        given: What was written.
        where: What holds the ids, for the error, such as ``the set 'cats'``.
    """
    known = list(ids)
    found = []
    for one in given:
        digits = _digits_of(one, what="id")
        found.append(
            digits if isinstance(digits, UUID) else _only(one, _starting(known, digits), "id", where)
        )
    return found


def segments_or_files(library: "Library | Client", given: Sequence[str]) -> list[str]:
    """Return ids of segments as they are whole, and names of files as they are; a file goes before an id."""
    return [
        str(_whole_id(library, one, kinds=("segment",))) if is_prefix(one) and not Path(one).exists() else one
        for one in given
    ]


def targets_to_delete(library: "Library | Client", given: Sequence[str]) -> list[str]:
    """Return files and folders as they are, and ids of images whole.

    The start of an id needs ``DELETE_CHARS`` digits, and a file or folder goes before it.
    """
    targets = []
    for one in given:
        may_be = is_prefix(one) and len(id_prefix(one)) >= DELETE_CHARS and not Path(one).exists()
        if not may_be or is_whole(one):
            targets.append(one)
            continue
        found = [found.id for found in library.find_ids(one).ids if found.kind == "image"]
        # what is no id may be a folder that is gone
        targets.append(str(_only(one, found, "picture", library.location)) if found else one)
    return targets


def is_whole(given: str) -> bool:
    """Return whether a text is a whole id."""
    try:
        UUID(given.strip())
    except ValueError:
        return False
    return True


def _whole_id(library: "Library | Client", given: str, *, kinds: tuple[str, ...]) -> UUID:
    what = " or ".join("picture" if kind == "image" else kind for kind in kinds)
    digits = _digits_of(given, what=f"{what} id")
    if isinstance(digits, UUID):
        return digits
    found = [one.id for one in library.find_ids(digits).ids if one.kind in kinds]
    return _only(given, found, what, library.location)


def _digits_of(given: str, *, what: str) -> UUID | str:
    """Return a whole id, or the digits that it starts with.

    Raises:
        UsageError: If it is neither.
    """
    if is_whole(given):
        return UUID(given.strip())
    try:
        return id_prefix(given)
    except ValueError as error:
        raise UsageError(
            f"{given!r} is no {what}; `segdex search` prints them, and the first 4 or more digits will do"
        ) from error


def _starting(ids: Iterable[UUID], digits: str) -> list[UUID]:
    return sorted(one for one in ids if one.hex.startswith(digits))


def _only(given: str, found: Sequence[UUID], what: str, where: str) -> UUID:
    if not found:
        raise NotFoundError(f"no {what} in {where} starts with {given!r}")
    if len(found) > 1:
        shown = ", ".join(map(str, found[:MAX_CANDIDATES]))
        more = ", ..." if len(found) >= MAX_CANDIDATES else ""
        raise UsageError(f"{given!r} is the start of several: {shown}{more}; write more digits")
    return found[0]
