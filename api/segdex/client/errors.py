"""The errors of the client, by what the caller can do about them.

::

    SegdexError
    └── ServiceError             the service failed (500), its disk is full (507), or it is not segdex
        ├── AccessError          401, 403: send a key, or a key with a higher role
        ├── NotThereError        404, 410: the requested object does not exist
        ├── RequestError         other 4xx, such as 413, 415 and 422: change the request
        ├── BusyError            429, 503: retry after ``retry_after_s``
        └── UnreachableError     no response, or the response broke off
"""

from segdex_core.errors import NotFoundError, SegdexError, UsageError


class ServiceError(SegdexError):
    """The service did not fulfill the request; ``str()`` is one line.

    Attributes:
        detail: What is wrong and what to change, as the service reports it.
        status: HTTP status; None without a response.
        request_id: Id of the request in the log of the service; None if unknown.
        retry_after_s: Seconds to wait before a retry, as the service asks; None if it does not.
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
    """The API key is missing, wrong, or has too small a role."""

    exit_code = 2


class NotThereError(ServiceError, NotFoundError):
    """The image, segment or job does not exist, or the file of the image is missing."""

    exit_code = 2


class RequestError(ServiceError, UsageError):
    """The request is not allowed: for example too large, not an image, or out of range."""

    exit_code = 2


class BusyError(ServiceError):
    """The service is loading or busy, or the key has sent too many requests."""


class UnreachableError(ServiceError):
    """No service answers, or the response broke off."""
