"""Where a queue is kept: a SQLite file or a Redis server, with atomic operations that processes share.

They are Huey's storages with one more operation, ``swap_data``: compare a value and replace it in one step.
Huey's tasks and consumer are not used: tasks are pickles, with which anyone who can write to the queue could
run code, and the consumer needs the main thread, which the web server uses.
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from huey.constants import EmptyData
from huey.storage import RedisStorage, SqliteStorage

from segdex_core.errors import SegdexError, UsageError
from segdex_core.files import PRIVATE_FILE, PRIVATE_FOLDER, make_folder

_NAME = "segdex-{}"
_REDIS_TIMEOUT_S = 5.0


class JobsUnavailableError(SegdexError):
    """The job queue cannot be reached, or cannot be written."""


class QueueStorage(Protocol):
    """A queue of messages, and values under keys; each operation happens as a whole or not at all.

    Attributes:
        errors: What its operations raise where it does not answer.
    """

    errors: tuple[type[Exception], ...]

    def enqueue(self, data: bytes, /) -> None:
        """Add a message."""
        ...

    def dequeue(self) -> bytes | None:
        """Remove the oldest message and return it."""
        ...

    def enqueued_items(self) -> Sequence[bytes]:
        """Return all messages."""
        ...

    def peek_data(self, key: str, /) -> Any:
        """Return a value; ``huey.constants.EmptyData`` if there is none."""
        ...

    def put_if_empty(self, key: str, value: bytes, /) -> bool:
        """Write a value if the key has none; return whether it was written."""
        ...

    def swap_data(self, key: str, old: bytes, new: bytes, /) -> bool:
        """Replace a value if it is ``old``; return whether it was replaced."""
        ...

    def delete_data(self, key: str, /) -> object:
        """Remove a value."""
        ...

    def result_items(self) -> Mapping[Any, Any]:
        """Return all values by their keys."""
        ...

    def purge(self) -> None:
        """Remove the bytes of former values from the disk, as far as the storage can do that."""
        ...

    def beside(self, name: str, /) -> "QueueStorage":
        """Return another storage in the same place, with values of its own."""
        ...

    def close(self) -> object:
        """Release what it holds."""
        ...


class SqliteQueue(SqliteStorage):  # type: ignore[misc] # huey has no types
    """Queues of any number of indexes in one file."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def swap_data(self, key: str, old: bytes, new: bytes) -> bool:
        """See ``QueueStorage``."""
        with self.db(commit=True) as cursor:
            cursor.execute(
                "update kv set value = ? where queue = ? and key = ? and value = ?",
                (self.to_blob(new), self.name, key, self.to_blob(old)),
            )
            return bool(cursor.rowcount == 1)

    def beside(self, name: str) -> QueueStorage:
        """See ``QueueStorage``."""
        return SqliteQueue(f"{self.name}-{name}", filename=self.filename, strict_fifo=True)

    def purge(self) -> None:
        """See ``QueueStorage``. Deleted rows are overwritten; the log of former pages is emptied."""
        self.sql("pragma wal_checkpoint(truncate)")

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        connection.execute("pragma secure_delete = on")
        return connection


class RedisQueue(RedisStorage):  # type: ignore[misc] # huey has no types
    """Queues of any number of indexes on one server."""

    errors: tuple[type[Exception], ...] = ()

    def swap_data(self, key: str, old: bytes, new: bytes) -> bool:
        """See ``QueueStorage``. A write of anyone else between look and write begins it again."""

        def swap(pipe: Any) -> bool:
            is_old = pipe.hget(self.result_key, key) == old
            pipe.multi()
            if is_old:
                pipe.hset(self.result_key, key, new)
            return bool(is_old)

        return bool(self.conn.transaction(swap, self.result_key, value_from_callable=True))

    def beside(self, name: str) -> QueueStorage:
        """See ``QueueStorage``; it shares the connections."""
        other = RedisQueue(f"{self.name}-{name}", blocking=False, connection_pool=self.pool)
        other.errors = self.errors
        return other

    def purge(self) -> None:
        """See ``QueueStorage``. Its files keep former values until the server rewrites them."""

    def close(self) -> None:
        """See ``QueueStorage``; huey leaves its connections open."""
        self.pool.disconnect()


def carry_out(storage: QueueStorage, what: str, *values: object) -> Any:
    """Carry out an operation of a storage.

    Raises:
        JobsUnavailableError: If the storage does not answer or cannot be written.
    """
    try:
        return getattr(storage, what)(*values)
    except storage.errors as error:
        raise JobsUnavailableError(_reason(error)) from error


def stored_value(storage: QueueStorage, key: str) -> bytes | None:
    """Return a value; None if there is none.

    Raises:
        JobsUnavailableError: If the storage does not answer.
    """
    value = carry_out(storage, "peek_data", key)
    return None if value is EmptyData else bytes(value)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "disk is full" in text or "No space left" in text:
        return f"the queue of jobs cannot be written: {text}; make room on its disk"
    return f"the queue of jobs does not answer: {text}"


def sqlite_storage(file: Path, *, index_key: str) -> QueueStorage:
    """Return the queue of an index in a file, created if missing; processes of one machine share it.

    A new file can be read by its owner alone, and so can a folder that is made for it.

    Args:
        file: File with the queues of any number of indexes.
        index_key: Key of the index, see ``Settings.index_key``.

    Raises:
        JobsUnavailableError: If the file cannot be created or opened.
    """
    try:
        make_folder(file.parent, mode=PRIVATE_FOLDER)
        file.touch(PRIVATE_FILE)
        return SqliteQueue(_NAME.format(index_key), filename=str(file), strict_fifo=True)
    except (OSError, sqlite3.Error) as error:
        raise JobsUnavailableError(f"the queue of jobs {file} cannot be opened: {error}") from error


def redis_storage(url: str, *, index_key: str) -> QueueStorage:
    """Return the queue of an index on a Redis server, which several machines share.

    Args:
        url: ``redis://[:password@]host:port/number``, or ``rediss://`` for TLS.
        index_key: Key of the index, see ``Settings.index_key``.

    Raises:
        UsageError: If the package is not installed, or the address is invalid.
        JobsUnavailableError: If the server does not answer.
    """
    try:
        import redis
    except ImportError as error:
        raise UsageError("SEGDEX_JOBS_REDIS needs a package: pip install 'segdex[redis]'") from error
    url = url.strip()
    try:
        _check_redis_address(url)
        pool = redis.ConnectionPool.from_url(
            url, socket_timeout=_REDIS_TIMEOUT_S, socket_connect_timeout=_REDIS_TIMEOUT_S
        )
    except ValueError as error:  # the message of the error may show the password
        raise UsageError(_REDIS_FORM) from error
    storage = RedisQueue(_NAME.format(index_key), blocking=False, connection_pool=pool)
    storage.errors = (redis.exceptions.RedisError,)
    try:
        storage.conn.ping()
    except TypeError as error:  # an option that redis does not know
        raise UsageError(_REDIS_FORM) from error
    except redis.exceptions.RedisError as error:
        raise JobsUnavailableError(f"SEGDEX_JOBS_REDIS: the server does not answer: {error}") from error
    return storage


_REDIS_FORM = "SEGDEX_JOBS_REDIS must be redis://[:password@]host:port/number, or rediss:// with TLS"


def _check_redis_address(url: str) -> None:
    """Check the parts of an address that the redis package would ignore.

    Raises:
        ValueError: If a part would not be used.
    """
    parts = urlsplit(url)
    is_whole = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    options = parts.query.split("&") if parts.query else []
    is_used = re.fullmatch(r"(/\d*)?", parts.path) is not None and not parts.fragment
    if not is_whole or not is_used or not all(one.startswith("ssl_") for one in options):
        raise ValueError("a part of the address would not be used")
