"""The index on a server names what is wrong with the server, soon, and outlives its restart."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from qdrant_client import QdrantClient, models
from tests.backends.index.stored_samples import DIM, FINGERPRINT, all_segments, make_picture
from tests.qdrant_server import QdrantServer, free_port_pair, running_server

from segdex_backends.index.layout import COLLECTIONS_KEY, REAL_NAMES, segment_vector
from segdex_backends.index.payloads import FILTER_FIELDS, fingerprint_to_payload
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_core.errors import (
    IndexMismatchError,
    IndexMissingError,
    IndexUnavailableError,
    IndexVersionError,
    SegmentIndexError,
    UsageError,
)
from segdex_core.patience import patient


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """A web server that gives one answer to everything; the block gets its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the inherited name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port_pair()), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connect(url: str, *, create: bool = False, timeout_s: float = 120, prefix: str = "segdex") -> QdrantIndex:
    server = ServerConnection(url, timeout_s=timeout_s)
    return QdrantIndex(ServerStore(server, create=create, collection_prefix=prefix))


def version_answer(version: str) -> str:
    return f'{{"title": "qdrant - vector search engine", "version": "{version}"}}'


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port_pair()}"
    with pytest.raises(IndexUnavailableError, match=f"no Qdrant server answers at {url}") as caught:
        connect(url)

    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(IndexUnavailableError, match="no Qdrant server answers"),
    ):
        connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=1)


@pytest.mark.parametrize("version", ["1.9.0", "1.15.5", "0.11.1"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    with (
        answering(200, version_answer(version)) as url,
        pytest.raises(IndexVersionError, match=rf"Qdrant {version}, but segdex needs 1\.16 or newer"),
    ):
        connect(url)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>hello</html>"),
        (200, "{}"),
        (404, "not here"),
        (200, version_answer("unknown")),
        (401, ""),
    ],
)
def test_what_is_not_qdrant_is_named(status: int, body: str) -> None:
    with (
        answering(status, body) as url,
        pytest.raises(SegmentIndexError, match="is not a Qdrant server, or refuses the API key") as caught,
    ):
        connect(url)

    assert "\n" not in str(caught.value)


def test_a_closed_grpc_port_is_named() -> None:
    with answering(200, version_answer("1.16.3")) as url:
        port = int(url.rpartition(":")[2]) + 1

        with pytest.raises(IndexUnavailableError, match=f"over gRPC on port {port}"):
            connect(url)


@pytest.mark.parametrize(
    "url",
    ["localhost:6333", "ftp://host:1", "http://", "http://host:port", "http://host/path", "http://h:99999"],
)
def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"--index must (be http://HOST:PORT|not have a path)"):
        connect(url)


@pytest.mark.qdrant
def test_a_key_over_plain_http_causes_no_warning(qdrant_server: QdrantServer) -> None:
    # pytest turns any warning into an error; the server has no key set and ignores it.
    server = ServerConnection(qdrant_server.url, api_key="key", timeout_s=120)
    index = QdrantIndex(ServerStore(server, create=True, collection_prefix=f"test-{uuid4()}"))
    index.ensure(FINGERPRINT)

    assert "key" not in index.location
    index.close()


@pytest.mark.qdrant
def test_a_write_waits_for_a_server_that_restarts(fast_folder: Path) -> None:
    folder, port = fast_folder / "restart", free_port_pair()
    first, second = make_picture(0, 30), make_picture(1, 300)
    with running_server(folder, port=port) as server:
        index = connect(server.url, create=True)
        index.ensure(FINGERPRINT)
        index.upsert_segments(first.segments)

    writing = threading.Thread(target=index.upsert_segments, args=(second.segments,))
    writing.start()
    with socket.create_server(("127.0.0.1", port + 1)) as away:  # the port of gRPC
        away.accept()[0].close()  # it was asked while no server was there
    with running_server(folder, port=port):
        writing.join()
        assert list(index.scroll_segments()) == all_segments([first, second])
        index.close()


@pytest.mark.qdrant
@pytest.mark.slow
def test_a_patient_caller_waits_for_reads_and_writes_and_says_so(fast_folder: Path) -> None:
    folder, port, said = fast_folder / "patient", free_port_pair(), list[str]()
    picture, waits = make_picture(0, 30), threading.Event()

    def on_wait(what: str) -> None:
        said.append(what)
        if len(said) > 3:  # 3.5 s: longer than an impatient caller waits
            waits.set()

    with running_server(folder, port=port) as server:
        index = connect(server.url, create=True, timeout_s=1)
        index.ensure(FINGERPRINT)
        index.upsert_segments(picture.segments)

    def read_and_write() -> None:
        with patient(on_wait):
            index.counts()
            index.upsert_segments(picture.segments)

    working = threading.Thread(target=read_and_write)
    working.start()
    assert waits.wait(60)
    with running_server(folder, port=port):
        working.join()
        assert list(index.scroll_segments()) == all_segments([picture])
    assert said[0] == f"waiting for {server.url}, which does not answer"
    assert said[-1] == ""
    with pytest.raises(IndexUnavailableError), patient(said.append, wait_s=0.1):
        index.counts()
    index.close()


@pytest.mark.qdrant
def test_a_server_that_stays_away_is_named(fast_folder: Path) -> None:
    with running_server(fast_folder / "away") as server:
        index = connect(server.url, create=True, timeout_s=1)
        index.ensure(FINGERPRINT)

    with pytest.raises(IndexUnavailableError, match="does not answer") as caught:
        index.upsert_segments(make_picture(0, 3).segments)
    with pytest.raises(IndexUnavailableError, match="does not answer"):
        index.counts()

    assert "\n" not in str(caught.value)
    index.close()


@pytest.mark.qdrant
def test_a_collection_of_somebody_else_is_left_alone(qdrant_server: QdrantServer) -> None:
    prefix = f"test-{uuid4()}"
    client = QdrantClient(qdrant_server.url, check_compatibility=False)
    client.create_collection(f"{prefix}-segments", models.VectorParams(size=3, distance=models.Distance.DOT))
    for create in (True, False):
        with pytest.raises(SegmentIndexError, match="was not made by segdex"):
            connect(qdrant_server.url, create=create, prefix=prefix)

    assert client.get_collection(f"{prefix}-segments").config.params.vectors.size == 3  # type: ignore[union-attr]
    client.close()


@pytest.mark.qdrant
def test_many_processes_may_make_the_index_at_once(qdrant_server: QdrantServer) -> None:
    prefix = f"test-{uuid4()}"
    indexes = [connect(qdrant_server.url, create=True, prefix=prefix) for _ in range(4)]
    refused: list[IndexMismatchError] = []

    def ensure(index: QdrantIndex, number: int) -> None:
        try:
            index.ensure(replace(FINGERPRINT, embedder=f"embedder {number % 2}"))
        except IndexMismatchError as error:
            refused.append(error)

    threads = [threading.Thread(target=ensure, args=(index, n)) for n, index in enumerate(indexes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 2  # one embedder won, and the two with the other one know
    assert len({index.fingerprint() for index in indexes}) == 1
    for index in indexes:
        index.close()


@pytest.mark.qdrant
def test_what_a_process_left_that_ended_while_it_made_the_index_is_completed(
    qdrant_server: QdrantServer,
) -> None:
    prefix = f"test-{uuid4()}"
    client = QdrantClient(qdrant_server.url, check_compatibility=False)
    description = {**fingerprint_to_payload(FINGERPRINT), COLLECTIONS_KEY: dict(REAL_NAMES)}
    client.create_collection(
        f"{prefix}-segments-4",
        {segment_vector(FINGERPRINT): models.VectorParams(size=2 * DIM + 1, distance=models.Distance.DOT)},
        metadata={"segdex": description},
    )
    index = connect(qdrant_server.url, create=True, prefix=prefix)
    index.ensure(FINGERPRINT)
    client.delete_payload_index(f"{prefix}-segments", "tags")
    client.delete_payload_index(f"{prefix}-segments", "image_id")
    index.ensure(FINGERPRINT)

    assert client.get_collection(f"{prefix}-segments").payload_schema.keys() == FILTER_FIELDS.keys()
    index.close()
    client.close()


@pytest.mark.qdrant
def test_a_collection_of_somebody_else_is_not_removed_to_make_the_index(qdrant_server: QdrantServer) -> None:
    prefix = f"test-{uuid4()}"
    client = QdrantClient(qdrant_server.url, check_compatibility=False)
    client.create_collection(f"{prefix}-images", models.VectorParams(size=3, distance=models.Distance.DOT))
    index = connect(qdrant_server.url, create=True, prefix=prefix)

    with pytest.raises(SegmentIndexError, match="was not made by segdex"):
        index.ensure(FINGERPRINT)

    assert client.get_collection(f"{prefix}-images").config.params.vectors.size == 3  # type: ignore[union-attr]
    index.close()
    client.close()


@pytest.mark.qdrant
def test_an_index_that_was_deleted_meanwhile_is_missing(qdrant_server: QdrantServer) -> None:
    prefix = f"test-{uuid4()}"
    index = connect(qdrant_server.url, create=True, prefix=prefix)
    index.ensure(FINGERPRINT)
    client = QdrantClient(qdrant_server.url, check_compatibility=False)
    client.delete_collection(f"{prefix}-segments-4")
    client.close()

    with pytest.raises(IndexMissingError, match="segdex ingest PATH --index"):
        index.upsert_segments(make_picture(0, 3).segments)

    index.close()
