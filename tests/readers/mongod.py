"""The MongoDB that FiftyOne needs, on loopback, from the package of PyPI that holds it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.readers.environments import FIFTYONE, folder_of
from tests.waiting import wait_until


@contextmanager
def running_mongod(folder: Path) -> Iterator[str]:
    """Run a MongoDB whose data are in ``folder``, until the block ends; yield its address."""
    [program] = folder_of(FIFTYONE).glob("lib/python*/site-packages/fiftyone/db/bin/mongod")
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", str(folder), "--nounixsocket"]
    with (folder / "mongod.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), what="MongoDB listens")
        assert process.poll() is None, (folder / "mongod.log").read_text()[-2000:]
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
