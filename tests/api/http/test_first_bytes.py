"""An upload that is no picture is refused by its first bytes, as they arrive, and leaves nothing."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.conftest import Tried
from tests.core.media.making import make_case
from tests.fakes.dataset import png
from tests.fakes.service import Make

from segdex.http.keys import make_key

VIDEO = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "
BOUNDARY = "b0undary"


def form(*parts: tuple[str, bytes]) -> bytes:
    lines = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return lines + f"--{BOUNDARY}--\r\n".encode()


def send(client: TestClient, body: bytes, *, chunk: int, key: str = "") -> tuple[int, str, int]:
    """Send a body in chunks; return the status, the detail, and how many chunks were taken."""
    chunks = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    waiting: Iterator[bytes] = iter(chunks)
    taken = 0
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        nonlocal taken
        part = next(waiting, None)
        if part is None:
            return {"type": "http.disconnect"}
        taken += 1
        return {"type": "http.request", "body": part, "more_body": taken < len(chunks)}

    async def note(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/images",
        "raw_path": b"/v1/images",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode()),
            (b"content-length", str(len(body)).encode()),
            *([(b"authorization", f"Bearer {key}".encode())] if key else []),
        ],
    }
    asyncio.run(client.app(scope, receive, note))  # type: ignore[arg-type]
    answer = json.loads(b"".join(one.get("body", b"") for one in sent[1:]))  # type: ignore[misc]
    return int(str(sent[0]["status"])), answer.get("detail", ""), taken


FILE = 'name="file"; filename="a.jpg"'


@pytest.mark.promise(
    "Uploads", "An upload that is no picture is refused by its first bytes, before the rest of it arrives."
)
@pytest.mark.parametrize("fields_first", [False, True])
@pytest.mark.parametrize("chunk", [7, 4_096, 65_536])
def test_a_video_is_refused_by_its_first_chunks(
    client: TestClient, tmp_path: Path, tried: Tried, fields_first: bool, chunk: int
) -> None:
    fields = [('name="wait"', b"false")] if fields_first else []
    body = form(*fields, (FILE, VIDEO + bytes(3_000_000)))

    status, detail, taken = send(client, body, chunk=chunk)

    assert (status, detail) == (415, "the upload: QuickTime is video, which is not read")
    assert taken * chunk <= 1_000 + chunk
    assert not (tmp_path / "uploads").exists()
    tried(1, "upload of 3 MB")


@pytest.mark.parametrize("chunk", [7, 100, 65_536])
def test_a_picture_arrives_whole_however_it_is_cut(client: TestClient, chunk: int) -> None:
    body = form((FILE, png("pink")), ('name="tags"', b"a"))

    status, _, taken = send(client, body, chunk=chunk)

    assert status == 201
    assert taken * chunk >= len(body)


def test_who_has_no_key_hears_of_nothing_but_that(make: Make) -> None:
    key, record = make_key("k", "write")
    client = make((record,))
    body = form((FILE, b"no picture"))

    assert send(client, body, chunk=4_096, key="wrong")[0] == 401
    assert send(client, body, chunk=4_096)[0] == 401
    assert send(client, body, chunk=4_096, key=key)[0] == 415


def test_what_is_no_form_is_refused_as_before(client: TestClient) -> None:
    for body in (b"nothing", f"--{BOUNDARY}\r\nContent".encode(), form(('name="file"', b"x"))):
        assert send(client, body, chunk=5)[0] in (400, 422)


def test_a_photograph_sent_four_times_at_once_is_kept_once(client: TestClient, tmp_path: Path) -> None:
    case = make_case("41", tmp_path / "case")

    def send_one(name: str, wait: str, number: int) -> dict[str, str]:
        file = (f"{wait}{number}.jpg", (case / name).read_bytes())
        found: dict[str, str] = client.post("/v1/images", files={"file": file}, data={"wait": wait}).json()
        return found

    with ThreadPoolExecutor(4) as senders:
        done = list(senders.map(partial(send_one, "a.jpg", "true"), range(4)))
        queued = list(senders.map(partial(send_one, "b.jpg", "false"), range(4)))

    assert sorted(one["outcome"] for one in done) == ["added", "unchanged", "unchanged", "unchanged"]
    assert len({one["job_id"] for one in queued}) == 1
    assert len([path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]) == 2


def test_empty_uploads_and_notes_leave_nothing(client: TestClient, tmp_path: Path) -> None:
    case = make_case("41", tmp_path / "case")
    for name in ("empty.jpg", "note.jpg"):
        answer = client.post("/v1/images", files={"file": (name, (case / name).read_bytes())})

        assert answer.status_code == 415
        assert answer.json()["detail"].startswith("the upload: ")
    assert not (tmp_path / "uploads").exists()
