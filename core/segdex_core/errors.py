"""Exceptions of segdex, grouped by how a caller handles them.

::

    SegdexError
    ├── UsageError               the request is wrong: change it                      exit 2
    │   ├── QueryError           the query is empty, too long or out of range
    │   │   └── ArgumentError    one argument has a value that is not allowed
    │   └── NotFoundError        there is no such image, segment or job
    ├── ImageError               this file is skipped and reported; the run continues exit 1
    │   ├── ImageGoneError       the file of an image is gone or has other content
    │   ├── NotAnImageError      the bytes are not an image in a supported format
    │   ├── ImageUnreadableError the file cannot be read, or its image not decoded
    │   ├── ImageTooLargeError   more pixels, bytes or memory than a setting allows
    │   ├── ImageFailedError     a model failed on this image, not on others
    │   └── ImageCrashedError    segdex ended twice at this image: it is left out
    ├── SegmentIndexError        the index cannot be used                             exit 3
    │   ├── IndexMissingError    there is no index at this location yet
    │   ├── IndexMismatchError   it was filled with other models or views
    │   ├── IndexLockedError     another process has it open
    │   ├── IndexConflictError   another process changed an image meanwhile
    │   ├── IndexVersionError    the index or server version is not supported
    │   ├── IndexUnavailableError  the server does not answer
    │   └── IndexStorageError    it cannot be written: disk full, no permission
    ├── BackupError              a backup cannot be used                              exit 3
    │   ├── BackupInvalidError   it is damaged, or of another version
    │   └── BackupStorageError   it cannot be written: disk full, no permission
    ├── DecodersUnavailableError no process that decodes can be started               exit 3
    ├── StorageError             a folder of ours cannot be written: disk full, ...   exit 3
    └── ModelError               a model cannot be used                               exit 3
        ├── ModelMissingError    a required package, file or program is missing
        ├── ModelUnavailableError  its source (hub, registry) does not answer
        └── ModelInvalidError    the files are of another model, or damaged

A message is one line: what failed, where, what is allowed, and which option or setting changes it.
``ValueError`` means a bug in the calling code.
"""


class SegdexError(Exception):
    """Base class of all errors that segdex raises on purpose; ``str()`` is one line for the user."""

    exit_code = 3


class UsageError(SegdexError):
    """The request cannot be carried out as written."""

    exit_code = 2


class QueryError(UsageError):
    """A query is empty, too long, or has a value out of range."""


class ArgumentError(QueryError):
    """One argument has a value that is not allowed.

    Args:
        argument: Name of the argument in Python and JSON, such as ``filter.min_area``.
        problem: Rest of the message, such as "must be between 0 and 1, but got 7".
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument = argument
        self.problem = problem


class NotFoundError(UsageError):
    """No image, segment or job has the requested id."""


class ImageError(SegdexError):
    """One file cannot be used as an image."""

    exit_code = 1


class ImageGoneError(ImageError):
    """The file of an image no longer exists, or its content has changed."""


class NotAnImageError(ImageError):
    """The bytes are not an image in a supported format.

    Args:
        message: Line for the user.
        kind: What they are, such as ``mp4`` or ``heic``; None if that is not known.
    """

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind


class ImageUnreadableError(ImageError):
    """The file cannot be read, or its image cannot be decoded."""


class ImageTooLargeError(ImageError):
    """The image has more pixels or bytes than allowed, or needs more memory."""


class ImageFailedError(ImageError):
    """A model failed on this image."""


class ImageCrashedError(ImageError):
    """The process ended more than once while it was at this image, which is left out."""


class SegmentIndexError(SegdexError):
    """The index cannot be used."""


class IndexMissingError(SegmentIndexError):
    """There is no index at this location yet."""


class IndexMismatchError(SegmentIndexError):
    """The index was filled with other models or other views."""


class IndexLockedError(SegmentIndexError):
    """Another process has the embedded index open."""


class IndexConflictError(SegmentIndexError):
    """Another process changed or deleted an image since its record was read."""


class IndexVersionError(SegmentIndexError):
    """The index or its server has a version that this segdex does not support."""


class IndexUnavailableError(SegmentIndexError):
    """The index server does not answer."""


class IndexStorageError(SegmentIndexError):
    """The index cannot be written: the disk is full or permission is missing."""


class BackupError(SegdexError):
    """A backup cannot be used."""


class BackupInvalidError(BackupError):
    """A backup is damaged or incomplete, or another version of segdex wrote it."""


class BackupStorageError(BackupError):
    """A backup cannot be written: the disk is full or permission is missing."""


class DecodersUnavailableError(SegdexError):
    """No process that decodes images can be started, as where the system allows no more processes."""


class StorageError(SegdexError):
    """A file of segdex itself cannot be written: the disk is full or permission is missing."""


class ModelError(SegdexError):
    """A model cannot be used."""


class ModelMissingError(ModelError):
    """A package, file or program that the model needs is not installed."""


class ModelUnavailableError(ModelError):
    """The source of the model (hub, package registry) does not answer."""


class ModelInvalidError(ModelError):
    """The files are not of the named model, or have wrong checksums or keys."""
