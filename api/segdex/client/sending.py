"""What both clients do around a call: where it goes, with which key, and when it is sent again."""

from collections.abc import Callable
from typing import TypedDict
from urllib.parse import urlsplit

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.retry import retry_base
from tenacity.stop import stop_base

from segdex.client.errors import BusyError, UnreachableError
from segdex_core.errors import UsageError

TIMEOUT_S = 60.0
RETRIES = 2
LONGEST_WAIT_S = 60.0
"""A service that wants to be asked again later than this is not waited for."""

_FIRST_WAIT_S = 0.25
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpOptions(TypedDict):
    """How an ``httpx`` client is made."""

    base_url: str
    headers: dict[str, str]
    trust_env: bool


class RetryOptions(TypedDict):
    """How tenacity tries again."""

    stop: stop_base
    retry: retry_base
    wait: Callable[[RetryCallState], float]
    reraise: bool


def http_options(server: str, api_key: str | None) -> HttpOptions:
    """Return how to reach a service.

    Args:
        server: Its address, such as ``https://pictures.example:8600``.
        api_key: Sent with each request.

    Raises:
        UsageError: If the address or the key has a form that cannot be sent; neither is shown whole.
    """
    try:
        parts = urlsplit(server)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        sound = False
    if not sound:
        raise UsageError("the address of a service must be http://HOST:PORT or https://HOST:PORT, no more")
    headers = {}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
            raise UsageError("the key of the service must be printable ASCII, as `segdex keys` prints it")
        headers["Authorization"] = f"Bearer {api_key.strip()}"
    # what is on this machine is not asked for through a proxy, whatever the environment says of proxies
    return {"base_url": server, "headers": headers, "trust_env": parts.hostname not in _LOOPBACK}


def retry_options(retries: int, *, changes: bool) -> RetryOptions:
    """Return when a call is sent again: the service says when, or the connection failed.

    Args:
        retries: How often at most.
        changes: Whether the call changes something: then only if it cannot have arrived.
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
