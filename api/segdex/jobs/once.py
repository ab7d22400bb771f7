"""Requests that are carried out once, however often they are sent: for a day, by their idempotency keys.

Processes share them through the storage of the queue, in a part of it that workers do not read. Nothing in it
names a picture or a file: a request is a hash that only who has its key can make again.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from uuid import uuid4

from pydantic import BaseModel

from segdex.jobs.storages import QueueStorage, carry_out, stored_value
from segdex_core.errors import UsageError

KEPT_S = 24 * 3_600.0
"""Seconds for which a key is remembered."""

_CLEAN_EVERY = 256


class _Kept(BaseModel):
    """A request as it is stored.

    Attributes:
        request: Hash of the request.
        claim_id: Id that the first who sent it made, for what it creates.
        began_s: When it was sent first, in seconds since 1970.
        answer: Its answer; None until there is one.
    """

    request: str
    claim_id: str
    began_s: float
    answer: str | None = None

    def to_bytes(self) -> bytes:
        return self.model_dump_json().encode()


@dataclass(frozen=True, slots=True)
class Claim:
    """A request under a key.

    Attributes:
        name: Where it is stored.
        id: Id for what the request creates, the same for everybody who sends it.
        answer: Answer of an earlier request; None if there is none yet.
    """

    name: str
    id: str
    answer: str | None


class Once:
    """Requests by their idempotency keys; threads and processes may share them.

    Every method raises ``JobsUnavailableError`` if the storage does not answer or cannot be written.

    Args:
        storage: Storage for nothing else.
        now_s: Returns the seconds since 1970.
    """

    def __init__(self, storage: QueueStorage, *, now_s: Callable[[], float] = time.time) -> None:
        self._storage, self._now_s = storage, now_s
        self._claims = count()

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()

    def claim(self, key: str, request: object) -> Claim:
        """Begin a request, or find what became of the same one before.

        Args:
            key: Idempotency key.
            request: All that the request asks for, as JSON can hold it.

        Raises:
            UsageError: If the key came with another request.
        """
        if next(self._claims) % _CLEAN_EVERY == 0:
            self._clean()
        name, asked = _hash(key), _hash(key, json.dumps(request, sort_keys=True))
        while True:
            value = stored_value(self._storage, name)
            kept = None if value is None else _Kept.model_validate_json(value)
            if kept is not None and not self._is_old(kept):
                if kept.request != asked:
                    raise UsageError(
                        "the idempotency key came with another request before: "
                        "send each new request with a new key"
                    )
                return Claim(name, kept.claim_id, kept.answer)
            new = _Kept(request=asked, claim_id=uuid4().hex, began_s=self._now_s())
            if self._write(name, value, new):
                return Claim(name, new.claim_id, None)

    def finish(self, claim: Claim, answer: str) -> str:
        """Store the answer of a request, and return it; or return what others have stored meanwhile."""
        while True:
            value = stored_value(self._storage, claim.name)
            kept = None if value is None else _Kept.model_validate_json(value)
            if kept is None or kept.claim_id != claim.id:  # it took longer than a day
                return answer
            if kept.answer != claim.answer and kept.answer is not None:
                return kept.answer
            if self._write(claim.name, value, kept.model_copy(update={"answer": answer})):
                return answer

    def _write(self, name: str, old: bytes | None, new: _Kept) -> bool:
        if old is None:
            return bool(carry_out(self._storage, "put_if_empty", name, new.to_bytes()))
        return bool(carry_out(self._storage, "swap_data", name, old, new.to_bytes()))

    def _is_old(self, kept: _Kept) -> bool:
        return abs(self._now_s() - kept.began_s) > KEPT_S  # also where a clock was set back

    def _clean(self) -> None:
        for name, value in carry_out(self._storage, "result_items").items():
            if self._is_old(_Kept.model_validate_json(bytes(value))):
                carry_out(self._storage, "delete_data", name if isinstance(name, str) else name.decode())


def _hash(*texts: str) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()
