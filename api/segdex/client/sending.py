"""Connection and retry options of both clients."""

from collections.abc import Callable
from typing import TypedDict
from urllib.parse import urlsplit

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.retry import retry_base
from tenacity.stop import stop_base

from segdex.client.errors import BusyError, UnreachableError
from segdex_core.errors import UsageError
from segdex_core.locations import LOOPBACK, service_address

TIMEOUT_S = 60.0
RETRIES = 2
LONGEST_WAIT_S = 60.0
"""Longest ``Retry-After`` that the client waits for."""

_FIRST_WAIT_S = 0.25


class HttpOptions(TypedDict):
    """Arguments of an ``httpx`` client."""

    base_url: str
    headers: dict[str, str]
    trust_env: bool


class RetryOptions(TypedDict):
    """Arguments of a tenacity retry."""

    stop: stop_base
    retry: retry_base
    wait: Callable[[RetryCallState], float]
    reraise: bool


def http_options(server: str, api_key: str | None) -> HttpOptions:
    """Return the options of a connection to a service.

    Args:
        server: Address of the service, such as ``https://pictures.example:8600``.
        api_key: API key, sent with each request.

    Raises:
        UsageError: If the address or the key is malformed; the message shows neither of them.
    """
    try:
        address = service_address(server)
    except ValueError as error:
        raise UsageError(f"the address of a service {error}") from error
    headers = {}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
            raise UsageError("the key of the service must be printable ASCII, as `segdex keys` prints it")
        headers["Authorization"] = f"Bearer {api_key.strip()}"
    # requests to this machine bypass proxies, whatever the environment says
    is_here = urlsplit(address).hostname in LOOPBACK
    return {"base_url": address, "headers": headers, "trust_env": not is_here}


def retry_options(retries: int, *, changes: bool) -> RetryOptions:
    """Return when a call is retried: after the delay that the service asks for, or if the connection failed.

    Args:
        retries: Maximum number of retries.
        changes: Whether the call changes something; such a call is retried after a failed connection only if
            it cannot have arrived.
    """

    def is_worth_it(error: BaseException) -> bool:
        if isinstance(error, BusyError):
            return error.retry_after_s is not None and error.retry_after_s <= LONGEST_WAIT_S
        if not isinstance(error, UnreachableError):
            return False
        import httpx

        never_arrived = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
        broke = isinstance(error.__cause__, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
        return never_arrived or (broke and not changes)

    def wait_s(state: RetryCallState) -> float:
        error = None if state.outcome is None else state.outcome.exception()
        if isinstance(error, BusyError) and error.retry_after_s is not None:
            return error.retry_after_s
        return float(_FIRST_WAIT_S * 2 ** (state.attempt_number - 1))

    return {
        "stop": stop_after_attempt(retries + 1),
        "retry": retry_if_exception(is_worth_it),
        "wait": wait_s,
        "reraise": True,
    }
