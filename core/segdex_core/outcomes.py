"""What an error of a file means for the person who asked for its ingest."""

from segdex_core.errors import (
    ImageCrashedError,
    ImageError,
    ImageFailedError,
    ImageTooLargeError,
    NotAnImageError,
)
from segdex_core.media.others import is_expected, kind_of_name
from segdex_core.wire.images import Outcome


def outcome_of(error: ImageError, name: str, *, is_asked_for: bool) -> tuple[Outcome, str | None]:
    """Return the outcome of a file that cannot be ingested, and what it is if it is no image.

    A file that is no image is beside the images, and no failure, unless a person expects an image in it.

    Args:
        error: What reading or decoding the file raised.
        name: Name of the file without its folder.
        is_asked_for: Whether a person named the file itself, or the index has an image at it.

    Example:
        >>> outcome_of(NotAnImageError("a.xmp: not a picture"), "a.xmp", is_asked_for=False)
        (<Outcome.NOT_AN_IMAGE: 'not_an_image'>, 'xmp')
        >>> outcome_of(NotAnImageError("a.jpg: the file is empty"), "a.jpg", is_asked_for=False)
        (<Outcome.UNREADABLE: 'unreadable'>, 'jpg')
    """
    if isinstance(error, NotAnImageError):
        kind = error.kind or kind_of_name(name)
        is_failure = is_asked_for or is_expected(name, error.kind)
        return (Outcome.UNREADABLE if is_failure else Outcome.NOT_AN_IMAGE), kind
    if isinstance(error, ImageTooLargeError):
        return Outcome.TOO_LARGE, None
    if isinstance(error, ImageFailedError):
        return Outcome.FAILED, None
    if isinstance(error, ImageCrashedError):
        return Outcome.CRASHED, None
    return Outcome.UNREADABLE, None
