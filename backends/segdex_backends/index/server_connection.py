"""The connection to a Qdrant server: its address, its version, its errors, and retries."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

from grpc import RpcError, StatusCode  # type: ignore[import-untyped]
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from segdex_backends.index.payloads import missing_index
from segdex_core.errors import (
    IndexStorageError,
    IndexUnavailableError,
    IndexVersionError,
    SegmentIndexError,
    UsageError,
)
from segdex_core.locations import LOOPBACK, server_address
from segdex_core.patience import patience

MIN_SERVER_VERSION = (1, 16)
"""First Qdrant version with collection metadata, where the fingerprint is stored."""

T = TypeVar("T")

_PROBE_TIMEOUT_S = 3  # limits the wait if there is no server
_WRITE_ATTEMPTS = 5  # with pauses of 0.5, 1, 2 and 4 s, enough for a server to restart
_MAX_PAUSE_S = 5.0
_TRANSIENT = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.RESOURCE_EXHAUSTED)
_STORAGE_SIGNS = (
    "no space left",
    "available disk space",
    "disk quota",
    "read-only file",
    "permission denied",
)


class ServerConnection:
    """A client of one server, with a checked version.

    Args:
        url: ``http://HOST:PORT`` or ``https://HOST:PORT``; the default port is 6333. Proxies of the
            environment are used, but not for this machine.
        api_key: API key that is sent with each request, or None.
        timeout_s: Maximum time for one request in seconds, rounded up to whole seconds.
        grpc_port: Port of gRPC; None for the port of ``url`` plus 1.

    Raises:
        UsageError: If ``url`` does not have this form.
        IndexUnavailableError: If no server answers within three seconds.
        IndexVersionError: If the server is older than ``MIN_SERVER_VERSION``.
        SegmentIndexError: If the server is not Qdrant, or rejects the key.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout_s: float = 30.0, grpc_port: int | None = None
    ) -> None:
        try:
            address = server_address(url)
        except ValueError as error:
            raise UsageError(f"--index {error}") from error
        self.location = str(address)
        name = address.host.strip("[]")
        self._is_here = name in LOOPBACK
        self._hint = "" if address.has_port else f"; no port was named, so {address.port} was taken"
        self._hint += _proxy_of(address.scheme, name)
        self._grpc_port = grpc_port if grpc_port is not None else address.port + 1
        self._timeout_s = timeout_s
        # The key is a header, because the argument `api_key` causes a warning on every http:// connection.
        self._headers = {"api-key": api_key} if api_key else {}
        self._check_version()
        self.client = self._make_client(prefer_grpc=True, timeout_s=timeout_s)

    @property
    def request_timeout_s(self) -> int:
        """Maximum time for one request in whole seconds."""
        return max(1, math.ceil(self._timeout_s))

    def write(self, call: Callable[[], object]) -> None:
        """Run an idempotent write, with retries after transient errors."""
        self.retried(call)

    def read(self, call: Callable[[], T]) -> T:
        """Return the result of a read, which fails at once unless its caller is patient (``patience``)."""
        if patience() is not None:
            return self.retried(call)
        with self.translated():
            return call()

    def retried(self, call: Callable[[], T]) -> T:
        """Return the result of an idempotent call, with retries after transient errors.

        It is tried for some seconds, or for as long as its caller waits (``patience``).
        """
        given = patience()

        def say(_: RetryCallState) -> None:
            if given is not None:
                given.on_wait(f"waiting for {self.location}, which does not answer")

        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(_WRITE_ATTEMPTS) | stop_after_delay(self._timeout_s)
            if given is None
            else stop_after_delay(given.wait_s),
            wait=wait_exponential(multiplier=0.5, max=_MAX_PAUSE_S),
            before_sleep=say,
            reraise=True,
        )
        with self.translated():
            found = retrying(call)
        if given is not None and retrying.statistics.get("attempt_number", 1) > 1:
            given.on_wait("")
        return found

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Convert errors of Qdrant and of gRPC to segdex errors."""
        try:
            yield
        except RpcError as error:
            raise self._translate_grpc(error.code(), " ".join(error.details().split())) from error
        except ResourceExhaustedResponse as error:
            raise IndexUnavailableError(f"{self.location} is overloaded: {error}; try again later") from error
        except ApiException as error:
            reason = " ".join(str(error).split())
            raise SegmentIndexError(f"{self.location} does not work: {reason}") from error

    def close(self) -> None:
        """Close the connection; calling it twice is harmless."""
        self.client.close()

    def _make_client(self, *, prefer_grpc: bool, timeout_s: float) -> QdrantClient:
        return QdrantClient(
            url=self.location,
            grpc_port=self._grpc_port,
            prefer_grpc=prefer_grpc,
            timeout=max(1, math.ceil(timeout_s)),
            headers=dict(self._headers),
            trust_env=not self._is_here,
            grpc_options={"grpc.enable_http_proxy": int(not self._is_here)},
            check_compatibility=False,  # it would warn of harmless version differences
        )

    def _check_version(self) -> None:
        probe = self._make_client(prefer_grpc=False, timeout_s=min(self._timeout_s, _PROBE_TIMEOUT_S))
        try:
            version = probe.info().version
            found = tuple(int(part) for part in version.split(".")[:2])
        except ApiException as error:
            cause = getattr(error, "source", None)  # an error of the HTTP client, without a response
            if isinstance(cause, OSError) or type(cause).__module__.startswith("httpx"):
                raise IndexUnavailableError(
                    f"no Qdrant server answers at {self.location} ({cause}){self._hint}; start one, or use "
                    "another --index, such as a folder"
                ) from error
            raise self._not_qdrant(str(error)) from error
        except ValueError as error:
            raise self._not_qdrant(str(error)) from error
        finally:
            probe.close()
        if found < MIN_SERVER_VERSION:
            needed = ".".join(map(str, MIN_SERVER_VERSION))
            raise IndexVersionError(
                f"{self.location} runs Qdrant {version}, but segdex needs {needed} or newer: "
                "upgrade the server, or use another --index"
            )

    def _not_qdrant(self, reason: str) -> SegmentIndexError:
        return SegmentIndexError(
            f"what answers at {self.location} is not a Qdrant server, or refuses the API key{self._hint}; "
            f"check --index: {' '.join(reason.split())}"
        )

    def _translate_grpc(self, code: StatusCode, reason: str) -> SegmentIndexError:
        if any(sign in reason.lower() for sign in _STORAGE_SIGNS) and "http" not in reason.lower():
            return IndexStorageError(
                f"{self.location} cannot write: {reason}; make room on the server's disk"
            )
        if code == StatusCode.NOT_FOUND and "Collection" in reason:
            return missing_index(self.location)
        if code in _TRANSIENT:
            return IndexUnavailableError(
                f"{self.location} does not answer over gRPC on port {self._grpc_port}: {reason}; check that "
                "the server runs and that this port is open"
            )
        if code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED):
            return SegmentIndexError(f"{self.location} refuses the API key: {reason}")
        return SegmentIndexError(f"{self.location} does not work: {code.name}: {reason}")


def _proxy_of(scheme: str, host: str) -> str:
    """Return what an error says of the proxy that the environment names for a server; no user or password."""
    if host in LOOPBACK or proxy_bypass(host) or not getproxies().keys() & {scheme, "all"}:
        return ""
    return f"; it is asked through a proxy of the environment: set NO_PROXY={host} to reach it directly"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, RpcError):
        return error.code() in _TRANSIENT
    return isinstance(error, ResourceExhaustedResponse)
