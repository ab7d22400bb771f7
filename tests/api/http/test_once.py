"""A request that is sent again with its idempotency key is carried out once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from tests.conftest import Tried
from tests.core.media.making import make_case
from tests.fakes.dataset import png
from tests.fakes.service import HERE, Make, refused
from tests.queues import KEY, Clock, Storages

from segdex.client import Client
from segdex.http.keys import make_key
from segdex.jobs.once import KEPT_S, Once
from segdex.jobs.queue import Jobs
from segdex.jobs.storages import JobsUnavailableError, QueueStorage
from segdex_core.errors import UsageError


def test_the_same_with_the_same_key_is_one_and_another_is_refused(
    quick_storage: Storages, clock: Clock
) -> None:
    one, other = (Once(quick_storage(), now_s=clock) for _ in range(2))
    first = one.claim("a", {"paths": ["/1"]})
    again = other.claim("a", {"paths": ["/1"]})

    assert first == again
    assert first.answer is None
    assert one.finish(first, "done") == "done"
    assert other.finish(again, "unchanged") == "done"  # whoever is first answers for all
    assert other.claim("a", {"paths": ["/1"]}).answer == "done"
    with pytest.raises(UsageError, match="another request"):
        other.claim("a", {"paths": ["/2"]})
    assert one.claim("b", {"paths": ["/1"]}).id != first.id


def test_a_key_is_remembered_for_a_day(quick_storage: Storages, clock: Clock) -> None:
    kept = quick_storage()
    once = Once(kept, now_s=clock)
    first = once.claim("a", 1)
    clock.go(KEPT_S - 1)
    assert once.claim("a", 1).id == first.id
    clock.go(2)
    later = once.claim("a", 2)

    assert later.id != first.id
    assert once.finish(first, "late") == "late"
    assert once.claim("a", 2).answer is None  # which is not the answer to the new request
    clock.go(KEPT_S + 1)
    Once(kept, now_s=clock).claim("b", 1)  # whoever begins removes what is old
    assert len(kept.result_items()) == 1


def test_many_who_claim_at_once_have_one_claim(storage: Storages) -> None:
    opened = [Once(storage()) for _ in range(4)]
    with ThreadPoolExecutor(len(opened)) as senders:
        found = list(senders.map(lambda once: once.claim("a", 1).id, opened))

    assert len(set(found)) == 1
    for once in opened:
        once.close()


def test_workers_read_nothing_of_it(storage: Storages) -> None:
    kept = storage()
    jobs = Jobs(kept)
    jobs.once.claim("a", ["a request"])

    assert len(kept.result_items()) == 0
    assert jobs.all() == []
    jobs.close()


def test_a_storage_that_does_not_answer_is_said() -> None:
    class Gone:
        errors = (OSError,)

        def __getattr__(self, name: str) -> Callable[..., object]:
            raise OSError("gone")

    storage: QueueStorage = Gone()  # type: ignore[assignment] # of which nothing is there
    with pytest.raises(JobsUnavailableError, match="does not answer: gone"):
        Once(storage).claim("a", 1)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def with_key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def ended(client: TestClient, job_id: str) -> None:
    client.get(f"/v1/jobs/{job_id}/events")


def test_a_job_with_a_key_is_one_job_also_after_its_end(make: Make, folder: Path) -> None:
    client = make(job_roots=(folder,))
    job = {"paths": [str(folder)]}
    first = client.post("/v1/jobs", json=job, headers=with_key("a")).json()
    ended(client, first["id"])
    again = client.post("/v1/jobs", json=job, headers=with_key('"a"')).json()  # as the draft quotes it
    other = client.post("/v1/jobs", json=job, headers=with_key("b")).json()
    ended(client, other["id"])

    assert (again["id"], again["status"]) == (first["id"], "done")
    assert other["id"] != first["id"]
    assert len(client.get("/v1/jobs").json()) == 2
    refused(
        client.post("/v1/jobs", json={**job, "tags": ["x"]}, headers=with_key("a")), 422, "another request"
    )
    for wrong in ("", "x" * 201, "a b"):
        refused(client.post("/v1/jobs", json=job, headers=with_key(wrong)), 422)


def test_a_key_belongs_to_the_api_key_that_it_came_with(make: Make, folder: Path) -> None:
    (one, first), (two, second) = make_key("one", "write"), make_key("two", "write")
    client = make((first, second), job_roots=(folder,))

    def ask(key: str, tag: str) -> int:
        headers = {**with_key("a"), "Authorization": f"Bearer {key}"}
        return client.post(
            "/v1/jobs", json={"paths": [str(folder)], "tags": [tag]}, headers=headers
        ).status_code

    assert [ask(one, "x"), ask(two, "y"), ask(one, "y")] == [202, 202, 422]


def test_an_upload_with_a_key_has_the_same_answer(make: Make, tmp_path: Path) -> None:
    client = make()

    def send(key: str | None, colour: str = "pink", **form: str) -> Any:
        return client.post(
            "/v1/images",
            files={"file": ("x.png", png(colour))},
            data=form,
            headers={} if key is None else with_key(key),
        )

    first = send("a").json()
    assert first["outcome"] == "added"
    assert send("a").json() == first
    assert send(None).json()["outcome"] == "unchanged"
    refused(send("a", "purple"), 422, "another request")
    refused(send("a", wait="false"), 422, "another request")

    client.delete(f"/v1/images/{first['image_id']}")
    assert send("a").json()["outcome"] == "added"  # not what was true before the deletion

    queued = send("c", "purple", wait="false").json()
    ended(client, queued["job_id"])
    assert send("c", "purple", wait="false").json() == queued
    assert len(list((tmp_path / "uploads").rglob("*.png"))) == 2


def test_an_upload_with_a_key_is_taken_while_the_queue_is_away(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise JobsUnavailableError("gone")

    client = make()
    monkeypatch.setattr(Once, "claim", gone)
    answer = client.post("/v1/images", files={"file": ("x.png", png("pink"))}, headers=with_key("a"))

    assert (answer.status_code, answer.json()["outcome"]) == (201, "added")


def test_the_case_of_a_double_click_is_one_file_and_one_job(make: Make, tmp_path: Path) -> None:
    case, client = make_case("41", tmp_path / "case"), make()

    def send(file: str, name: str, **form: str) -> Any:
        return client.post("/v1/images", files={"file": (name, (case / file).read_bytes())}, data=form)

    with ThreadPoolExecutor(4) as senders:
        outcomes = [
            one.json()["outcome"] for one in senders.map(lambda n: send("a.jpg", f"same{n}.jpg"), range(4))
        ]
    jobs = {send("b.jpg", f"q{n}.jpg", wait="false").json()["job_id"] for n in range(4)}
    for bad in ("empty.jpg", "note.jpg"):
        refused(send(bad, bad), 415)

    assert sorted(outcomes) == ["added", "unchanged", "unchanged", "unchanged"]
    assert len(jobs) == 1
    ended(client, jobs.pop())
    left = [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]
    assert len(left) == 2


class LossyTransport(httpx.BaseTransport):
    """Carries each request to the service, and loses the first answer to each address."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self._lost: set[str] = set()
        self.lock = threading.Lock()
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            self.requests += 1
            answer = self._client.request(
                request.method,
                request.url.raw_path.decode(),
                content=request.read(),
                headers=[(name, value) for name, value in request.headers.items() if name != "host"],
            )
            where = f"{request.method} {request.url.path}"
            if where not in self._lost:
                self._lost.add(where)
                raise httpx.ReadError("the answer was lost")
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture(name="lossy")
def _lossy(make: Make, folder: Path) -> Iterator[tuple[Client, TestClient]]:
    service = make(job_roots=(folder,))
    with Client(HERE, transport=LossyTransport(service)) as client:
        yield client, service


@pytest.mark.promise("Jobs", "A client that lost the answer to a new job sends it again and gets that job.")
def test_a_lost_answer_to_a_new_job_starts_no_second_one(
    lossy: tuple[Client, TestClient], folder: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, service = lossy
    keep = Jobs.add

    def add_and_end(self: Jobs, *args: object, **options: object) -> object:
        """Add a job that has ended before the answer is lost: without a key it would not be found again."""
        job = keep(self, *args, **options)  # type: ignore[arg-type]
        self.stop(job.id)
        return job

    monkeypatch.setattr(Jobs, "add", add_and_end)
    job = client.add_job([folder])

    [only] = service.get("/v1/jobs").json()
    assert job.id == only["id"]
    tried(1, "lost answer")


@pytest.mark.promise(
    "Uploads", "A client that lost the answer to an upload sends it again and gets that answer."
)
def test_a_lost_answer_to_an_upload_is_given_again(lossy: tuple[Client, TestClient], tried: Tried) -> None:
    client, _ = lossy
    done = client.upload(png("pink"))

    assert done.outcome == "added"
    assert done.image_id is not None
    assert client.image(done.image_id).segment_count == done.segments
    tried(1, "lost answer")


def test_keys_of_other_indexes_are_others(storage: Storages) -> None:
    one, other = Jobs(storage(KEY)), Jobs(storage(KEY[::-1]))

    assert one.once.claim("a", 1).id != other.once.claim("a", 2).id
    one.close()
    other.close()
