"""The ``Idempotency-Key`` header: a request that is sent again is carried out once."""

from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request

from segdex_core.wire.limits import MAX_IDEMPOTENCY_KEY_CHARS


def idempotency_key(
    request: Request,
    given: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=MAX_IDEMPOTENCY_KEY_CHARS,
            pattern="^[!-~]+$",
            description="A new random text for each new request, such as a UUID. The same request with the "
            "same key is answered as the first one, for a day; another request with it is refused with 422.",
        ),
    ] = None,
) -> str | None:
    """Return the idempotency key of a request, which belongs to the API key that came with it."""
    if given is None:
        return None
    bare = given[1:-1] if len(given) > 2 and given[0] == given[-1] == '"' else given  # as the draft quotes it
    return sha256(f"{request.state.key_name} {bare}".encode()).hexdigest()


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
"""The idempotency key of a request; None without one."""
