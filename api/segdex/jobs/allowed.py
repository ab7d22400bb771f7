"""The folders that jobs may read."""

from collections.abc import Sequence
from pathlib import Path

from segdex_core.errors import UsageError
from segdex_core.media.uris import as_written, canonical_path, named_path


def inside(path: Path, roots: Sequence[Path]) -> bool:
    """Return whether a path, with symbolic links resolved, lies inside one of the folders."""
    try:
        found = as_written(path.absolute()).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle; ValueError: a null byte
        return False
    return any(found.is_relative_to(canonical_path(named_path(root))) for root in roots)


def check_paths(paths: Sequence[str], roots: Sequence[Path]) -> None:
    """Raise if a path lies outside the allowed folders.

    Raises:
        UsageError: If no folder is allowed, or a path is outside; the message does not reveal whether it
            exists.
    """
    if not roots:
        raise UsageError("jobs are not allowed here: the service has no SEGDEX_JOB_ROOTS")
    for given in paths:
        if not _is_inside(given, roots):
            raise UsageError(
                f"{given!r} is no folder or file below one of the allowed folders of this service"
            )


def _is_inside(given: str, roots: Sequence[Path]) -> bool:
    try:
        path = named_path(given)
    except ValueError:  # a URI of another machine
        return False
    # a relative path or ~ would mean a folder of the service
    return path.is_absolute() and not given.startswith("~") and inside(path, roots)
