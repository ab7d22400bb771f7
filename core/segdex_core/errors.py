"""The errors of segdex, sorted by what the caller does about them.

::

    SegdexError
    ├── UsageError               the request is wrong: change it                      exit 2
    │   ├── QueryError           the query is empty, too long or out of range
    │   │   └── ArgumentError    one argument has a value that is not allowed
    │   └── NotFoundError        there is no such picture, segment or job
    ├── ImageError               this file is skipped and reported, the run goes on   exit 1
    │   ├── NotAnImageError      the bytes are no picture in any supported format
    │   ├── ImageUnreadableError the bytes are a damaged or unsupported picture
    │   └── ImageTooLargeError   more pixels or bytes than the setting allows
    ├── SegmentIndexError        the index cannot be used                             exit 3
    │   ├── IndexMissingError    there is no index at that place yet
    │   ├── IndexMismatchError   it was filled by other models
    │   ├── IndexLockedError     another process has it open
    │   ├── IndexConflictError   another process changed a picture meanwhile
    │   ├── IndexVersionError    written or served by an unsupported version
    │   ├── IndexUnavailableError  the server does not answer
    │   └── IndexStorageError    it cannot be written: disk full, no permission
    └── ModelError               a model cannot be used                               exit 3
        ├── ModelMissingError    a package, file or program that it needs is not here
        ├── ModelUnavailableError  its source (hub, registry) does not answer
        └── ModelInvalidError    what was found is not that model, or is damaged

A message is one line: what, where, what is allowed, which option or setting changes it. ``ValueError`` is
for a bug of the calling code.
"""


class SegdexError(Exception):
    """Any error that segdex raises on purpose; ``str()`` is one line for the user."""

    exit_code = 3


class UsageError(SegdexError):
    """The request cannot be carried out as written."""

    exit_code = 2


class QueryError(UsageError):
    """A query is empty, too long, or has a value out of range."""


class ArgumentError(QueryError):
    """One argument has a value that is not allowed.

    Args:
        argument: Its name in Python and JSON, such as ``filter.min_area``.
        problem: What follows the name, such as "must be between 0 and 1, but got 7".
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument = argument
        self.problem = problem


class NotFoundError(UsageError):
    """There is no picture, segment or job of that id."""


class ImageError(SegdexError):
    """One file cannot be used as a picture."""

    exit_code = 1


class ImageGoneError(ImageError):
    """The file of a picture is not there any more, or holds something else."""


class NotAnImageError(ImageError):
    """The bytes are not a picture in a supported format."""


class ImageUnreadableError(ImageError):
    """The bytes start like a picture but cannot be decoded."""


class ImageTooLargeError(ImageError):
    """The picture has more pixels or bytes than allowed."""


class SegmentIndexError(SegdexError):
    """The index cannot be used."""


class IndexMissingError(SegmentIndexError):
    """There is no index at that place yet."""


class IndexMismatchError(SegmentIndexError):
    """The index was filled with other models or other views."""


class IndexLockedError(SegmentIndexError):
    """Another process has the embedded index open."""


class IndexConflictError(SegmentIndexError):
    """Another process changed or deleted a picture since its record was read."""


class IndexVersionError(SegmentIndexError):
    """The index or its server has a version that this segdex does not support."""


class IndexUnavailableError(SegmentIndexError):
    """The index server does not answer."""


class IndexStorageError(SegmentIndexError):
    """The index cannot be written: the disk is full or permission is missing."""


class ModelError(SegdexError):
    """A model cannot be used."""


class ModelMissingError(ModelError):
    """A package, file or program that the model needs is not installed."""


class ModelUnavailableError(ModelError):
    """The source of the model (hub, package registry) does not answer."""


class ModelInvalidError(ModelError):
    """What was found is not the named model, or its checksum or keys are wrong."""
