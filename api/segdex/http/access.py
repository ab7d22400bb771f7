"""API keys, roles and rate limits, as dependencies of the routes."""

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from segdex.http.keys import LOOPBACK, ApiKey, find_key
from segdex.http.state import ServiceState
from segdex.roles import Role


def state_of(request: Request) -> ServiceState:
    """Return the state of the service."""
    state: ServiceState = request.app.state.service
    return state


_KEY = HTTPBearer(
    scheme_name="key",
    bearerFormat="segdex_...",
    description="A key that `segdex keys NAME --role ROLE` printed. Its role is `read`, `write` or `admin`, "
    "and includes the roles before it; each operation names the role that it needs. A service without keys "
    "answers this machine only, and needs none.",
    auto_error=False,
)

State = Annotated[ServiceState, Depends(state_of)]


def require(role: Role | None) -> Callable[..., ApiKey]:
    """Return a dependency that checks the role of the API key and its rate limit.

    Raises:
        ValueError: If ``role`` is None: a service does not offer the method.
    """
    if role is None:
        raise ValueError("a service does not offer this verb")

    def check(
        request: Request,
        state: State,
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_KEY, scopes=[role])] = None,
    ) -> ApiKey:
        key = LOOPBACK
        if state.keys:
            found = None if given is None else find_key(state.keys, given.credentials.strip())
            if found is None:
                raise HTTPException(
                    401,
                    "send a key as `Authorization: Bearer KEY`",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            key = found
        request.state.key_name = key.name  # for the log
        if not key.may(role):
            raise HTTPException(403, f"the key {key.name!r} may {key.role}, but this needs {role}")
        limiter: RateLimiter = request.app.state.limiter
        is_counted = getattr(request.state, "is_counted", False)  # by the router's dependency
        request.state.is_counted = True
        wait_s = 0 if is_counted else limiter.wait_s(key.name)
        if wait_s:
            raise HTTPException(
                429,
                f"more than {limiter.per_minute} requests in a minute",
                headers={"Retry-After": str(wait_s)},
            )
        return key

    return check


class RateLimiter:
    """A moving window of one minute for each key."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._window = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def wait_s(self, name: str) -> int:
        """Count a request; return 0 if it may pass, otherwise the seconds until a retry."""
        if self._limiter.hit(self._window, name):
            return 0
        reset_s, _ = self._limiter.get_window_stats(self._window, name)
        return max(int(reset_s - time.time()) + 1, 1)
