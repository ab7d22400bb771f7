"""Both clients against the real service: what goes out comes back as values."""

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from tests.client.conftest import Serve, Service
from tests.fakes.dataset import png

from segdex.client import (
    AccessError,
    AsyncClient,
    BusyError,
    Client,
    NotThereError,
    RequestError,
)
from segdex.http.keys import make_key


def name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def test_the_service_itself_answers(service: Service) -> None:
    with Client(service.url) as client:
        assert client.is_alive()
        assert client.is_ready()
        assert "segdex_requests_total" in client.metrics()


def test_what_the_service_refuses_is_an_error_with_its_words_and_the_name_of_the_request(
    service: Service,
) -> None:
    with Client(service.url) as client:
        image_id = client.search("red", limit=1).images[0].image.id
        with pytest.raises(RequestError, match="outside the picture") as caught:
            client.segment(image_id=image_id, points=[(900, 1)])
        assert caught.value.status == 422
        assert caught.value.request_id
        for data, status in ((b"no picture", 415), (png("orange")[:150], 422)):
            with pytest.raises(RequestError) as refused:
                client.upload(data)
            assert refused.value.status == status


def test_jobs_are_added_listed_watched_and_stopped(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "new.png").write_bytes(png("pink"))
    with Client(serve(job_roots=(folder,)).url) as client:
        job = client.add_job([folder], tags=["new"])
        last = list(client.watch_job(job.id))[-1]

        assert (last.status, last.counts, last.tags) == ("done", {"added": 1}, ["new"])
        assert client.job(job.id) == client.stop_job(job.id) == last
        assert client.jobs() == [last]
        with pytest.raises(NotThereError):
            next(client.watch_job("nothing"))
        with pytest.raises(RequestError, match="allowed folders"):
            client.add_job(["/etc"])


def test_a_job_segments_again_what_other_models_made_only_where_it_was_asked_to(
    serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "new.png").write_bytes(png("pink"))
    service = serve(job_roots=(folder,))
    with Client(service.url) as client:
        list(client.watch_job(client.add_job([folder]).id))
        [picture] = [
            one for one in service.loaded.library.index.scroll_images() if "new.png" in one.files[0].uri
        ]
        service.loaded.library.index.update_image(replace(picture, recipe="of other models"))
        refused = list(client.watch_job(client.add_job([folder]).id))[-1]
        redone = list(client.watch_job(client.add_job([folder], redo_outdated=True).id))[-1]

        assert (refused.status, refused.counts) == ("failed", {})
        assert "1 picture was made with other models or settings" in refused.detail
        assert "redo_outdated" in refused.detail
        assert (redone.status, sum(redone.counts.values())) == ("done", 1)


def test_keys_open_what_they_may(serve: Serve) -> None:
    reader, reads = make_key("r", "read")
    url = serve((reads,), rate_per_minute=3).url
    with Client(url) as nobody, pytest.raises(AccessError, match="send a key"):
        nobody.stats()

    with Client(url, api_key=reader, retries=0) as client:
        client.stats()
        with pytest.raises(AccessError, match="needs write") as caught:
            client.upload(png())
        assert caught.value.status == 403
        client.stats()
        with pytest.raises(BusyError) as busy:
            client.stats()
    assert busy.value.status == 429
    assert busy.value.retry_after_s is not None
    assert busy.value.retry_after_s >= 1


def test_many_questions_run_at_once_in_an_event_loop(service: Service) -> None:
    application = httpx.ASGITransport(service.app)

    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:8600", transport=application) as client:
            colours = ("red", "green", "blue") * 4
            answers = await asyncio.gather(*(client.search(colour, limit=1) for colour in colours))
            found = [name(answer[0].image.path) for answer in answers]
            assert found == ["a.png", "b.png", "a.png"] * 4
            refined = await asyncio.gather(*(answer[0].refine() for answer in answers))
            assert all(hit.refinement is not None for hit in refined)
            with pytest.raises(NotThereError):
                await client.image(uuid4())

    asyncio.run(ask())
