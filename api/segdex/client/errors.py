"""The errors of the client, sorted by what the caller does about them.

::

    SegdexError
    └── ServiceError             the service failed (500), or something else answered
        ├── AccessError          401, 403: give a key, or one with a larger role
        ├── NotThereError        404, 410: what was asked for is not there
        ├── RequestError         other 4xx, such as 413, 415 and 422: change the request
        ├── BusyError            429, 503: ask again after ``retry_after_s``
        └── UnreachableError     nobody answered, or the answer broke off
"""

from segdex_core.errors import NotFoundError, SegdexError, UsageError


class ServiceError(SegdexError):
    """The service did not do what it was asked for; ``str()`` is one line.

    Attributes:
        detail: What was wrong, and what to change, as the service says it.
        status: The HTTP status; None where there was no answer.
        request_id: What the log of the service calls the request, where it said so.
        retry_after_s: After how many seconds the service wants to be asked again, where it said so.
    """

    exit_code = 3

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.detail = " ".join(detail.split())
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        known = [f"HTTP {status}" if status else "", f"request {request_id}" if request_id else ""]
        where = ", ".join(part for part in known if part)
        super().__init__(f"{self.detail} ({where})" if where else self.detail)


class AccessError(ServiceError):
    """The key is missing, wrong, or may not do this."""

    exit_code = 2


class NotThereError(ServiceError, NotFoundError):
    """There is no such picture, segment, answer or job, or the file of the picture is gone."""

    exit_code = 2


class RequestError(ServiceError, UsageError):
    """The request is not allowed as it is: too large, no picture, out of range."""

    exit_code = 2


class BusyError(ServiceError):
    """The service is loading, has too much to do, or has had too many requests of this key."""


class UnreachableError(ServiceError):
    """No service answers, or its answer broke off."""
