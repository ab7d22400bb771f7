"""Queues of jobs for tests: in a file and on a Redis server, a clock that a test moves, and a death."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeRedisConnection, FakeServer, TcpFakeServer
from redis import ConnectionPool, RedisError
from tests.waiting import wait_until

from segdex.jobs.storages import QueueStorage, RedisQueue, redis_storage, sqlite_storage

KEY = "0123456789abcdef"

Storages = Callable[..., QueueStorage]
"""Opens a storage of the queue of an index, by its key."""


@pytest.fixture(name="redis_url", scope="module")
def _redis_url() -> Iterator[str]:
    """A Redis server where one is installed, else fakeredis, which answers the same protocol."""
    program = shutil.which("redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if program is None:
        server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{port}/0"
        server.shutdown()
        server.server_close()
    else:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: _listens(port), what="redis-server listens")
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Clock:
    """Stands still until a test lets time pass: no beat is late because the machine is busy."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def __call__(self) -> float:
        return self._now_s

    def go(self, seconds: float) -> None:
        self._now_s += seconds


@pytest.fixture(name="clock")
def _clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture(name="storage", params=["sqlite", "redis"])
def _storage(
    request: pytest.FixtureRequest, fast_folder: Path, tmp_path: Path, redis_url: str
) -> Iterator[Storages]:
    """A queue in a file, and one on a server; both are empty."""

    def opened(index_key: str = KEY) -> QueueStorage:
        if request.param == "sqlite":
            return sqlite_storage(fast_folder / tmp_path.name / "jobs.sqlite", index_key=index_key)
        return redis_storage(redis_url, index_key=index_key)

    yield opened
    if request.param == "redis":
        emptied = opened()
        emptied.conn.flushdb()  # type: ignore[attr-defined] # redis'
        emptied.close()
    shutil.rmtree(fast_folder / tmp_path.name, ignore_errors=True)


@pytest.fixture(name="quick_storage", params=["sqlite", "redis"])
def _quick_storage(request: pytest.FixtureRequest, fast_folder: Path, tmp_path: Path) -> Iterator[Storages]:
    """As ``storage``, and Redis is answered for in this process: a thousand times as fast."""
    server = FakeServer()

    def opened(index_key: str = KEY) -> QueueStorage:
        if request.param == "sqlite":
            return sqlite_storage(fast_folder / tmp_path.name / "jobs.sqlite", index_key=index_key)
        pool = ConnectionPool(connection_class=FakeRedisConnection, server=server)
        queue = RedisQueue(index_key, blocking=False, connection_pool=pool)
        queue.errors = (RedisError,)
        return queue

    yield opened
    shutil.rmtree(fast_folder / tmp_path.name, ignore_errors=True)


class Killed(BaseException):
    """The process was killed."""


class Mortal:
    """A storage whose process is killed at one of its operations, before or after it was carried out.

    Args:
        kept: The storage.
        at: Number of the operation, from 0; None for no death.
        after: Whether the operation was carried out.
    """

    def __init__(self, kept: QueueStorage, *, at: int | None, after: bool) -> None:
        self._kept, self._at, self._after = kept, at, after
        self.errors = kept.errors
        self.operations = 0

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._kept, name)
        if name == "close":
            return operation

        def called(*values: object) -> object:
            number, self.operations = self.operations, self.operations + 1
            if number == self._at and not self._after:
                raise Killed
            answer = operation(*values)
            if number == self._at:
                raise Killed
            return answer

        return called
