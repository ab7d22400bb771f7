"""The folders that jobs may read."""

from collections.abc import Sequence
from pathlib import Path

from segdex_core.errors import UsageError


def inside(path: Path, roots: Sequence[Path]) -> bool:
    """Return whether a path, with symbolic links resolved, lies inside one of the folders."""
    try:
        found = path.resolve(strict=True)
    except OSError:
        return False
    return any(found.is_relative_to(root.resolve()) for root in roots)


def check_paths(paths: Sequence[str], roots: Sequence[Path]) -> None:
    """Raise if a path lies outside the allowed folders.

    Raises:
        UsageError: If no folder is allowed, or a path is outside; the message does not reveal whether it
            exists.
    """
    if not roots:
        raise UsageError("jobs are not allowed here: the service has no SEGDEX_JOB_ROOTS")
    for path in paths:
        if not Path(path).is_absolute() or not inside(Path(path), roots):
            raise UsageError(
                f"{path!r} is no folder or file below one of the allowed folders of this service"
            )
