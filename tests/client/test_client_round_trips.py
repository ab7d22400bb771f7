"""Both clients against the real service: what goes out comes back as values."""

import asyncio
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.client.conftest import Serve, Service
from tests.fakes.service import png

from segdex.client import (
    AccessError,
    AsyncClient,
    BusyError,
    Client,
    NotThereError,
    PointIn,
    Region,
    RequestError,
    ViewWeights,
    WeightedText,
    Where,
)
from segdex.http.keys import make_key
from segdex_core.masks import MaskRLE, decode_mask


def name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def test_a_question_finds_and_its_hits_come_in_every_form(service: Service) -> None:
    with Client(service.url) as client:
        answer = client.search("blue", limit=1, per_image=1, explain=True)
        [hit] = answer.hits
        [found] = hit.segments
        refined = client.refine(answer.id, 1).refinements
        one_by_one = list(client.refinements(answer.id, first=1))
        mask = decode_mask(MaskRLE(found.rle.size, found.rle.counts))

        assert (answer.answer, name(hit.image.path)) == ("found", "a.png")
        assert found.terms is not None
        assert found.terms[0].term == "blue"
        assert [one.segment_id for one in refined] == [found.segment_id]
        assert [one.rle for one in one_by_one] == [one.rle for one in refined]
        assert client.image(found.image_id) == hit.image
        assert client.segment(found.segment_id).rle == found.rle
        assert found.segment_id in [one.segment_id for one in client.image_segments(found.image_id)]
        with Image.open(BytesIO(client.mask_png(found.segment_id))) as picture:
            assert (np.asarray(picture) == mask).all()
        with Image.open(BytesIO(client.cutout_png(found.segment_id))) as picture:
            assert picture.mode == "RGBA"
        with Image.open(BytesIO(client.image_file(found.image_id, max_px=80))) as picture:
            assert picture.size == (80, 60)
        assert client.polygon(found.segment_id).type == "MultiPolygon"
        assert client.stats().images == 2
        assert client.is_alive()
        assert client.is_ready()
        assert "segdex_requests_total" in client.metrics()


def test_every_part_of_a_question_reaches_the_search(service: Service, tmp_path: Path) -> None:
    with Client(service.url) as client:
        green = client.search("green", limit=1).hits[0]
        box = green.segments[0].box_xyxy
        file = tmp_path / "p.png"
        file.write_bytes(png("green"))

        def first(*texts: str | WeightedText, **fields: object) -> str:
            return name(client.search(*texts, limit=1, **fields).hits[0].image.path)  # type: ignore[arg-type]

        assert first(WeightedText(text="green", weight=9), "red") == "b.png"
        assert first(segments=[green.segments[0].segment_id]) == "b.png"
        assert first(regions=[Region(image_id=green.image.image_id, box_xyxy=box)]) == "b.png"
        assert first("red", "green", away=[WeightedText(text="red", weight=3)]) == "b.png"
        assert first(image=file, box=(25, 25, 75, 65)) == "b.png"
        assert first("blue", image=png("green"), box=(25, 25, 75, 65), weight=0.1) == "a.png"
        assert client.search("green", where=Where(sources=["/elsewhere"])).hits == []
        assert client.search("orange", present=True).answer == "not there"
        crop = client.search("green", view_weights=ViewWeights(crop=1, mask=0), limit=1)
        assert set(crop.hits[0].segments[0].view_scores) == {"crop"}


def test_pages_are_followed_to_the_last(service: Service) -> None:
    with Client(service.url) as client:
        whole = client.search("red", per_image=1).hits
        pages = list(client.search_pages("red", limit=1, per_image=1))
        of_picture = list(client.search_pages(image=png("red"), limit=1))

    assert [hit for page in pages for hit in page.hits] == whole
    assert [len(page.hits) for page in of_picture] == [1, 1]


def test_things_are_cut_out_of_pictures_of_the_index_and_of_others(service: Service) -> None:
    with Client(service.url) as client:
        image_id = client.search("red", limit=1).hits[0].image.image_id
        [click] = client.cut_out(image_id, points=[PointIn(x=30, y=60)]).masks
        [again] = client.cut_out(image_id, points=[PointIn(x=30, y=60)], mask=click.rle).masks
        [sent] = client.cut_out(image=png("red"), points=[PointIn(x=40, y=40)]).masks
        [by_text] = client.cut_out(image_id, text="blue").masks

        assert again.box_xyxy == click.box_xyxy
        assert sent.box_xyxy == (20, 20, 80, 70)
        assert by_text.box_xyxy[0] > 80
        assert len(client.cut_out(image_id, box_xyxy=(5, 25, 60, 95), masks=3).masks) == 3
        with pytest.raises(RequestError, match="outside the picture") as caught:
            client.cut_out(image_id, points=[PointIn(x=900, y=1)])

    assert caught.value.status == 422
    assert caught.value.request_id


def test_a_picture_is_kept_found_and_forgotten(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "orange.png"
    file.write_bytes(png("orange"))
    with Client(service.url) as client:
        done = client.upload(file, tags=["new", "box"])
        queued = client.upload(png("pink"), wait=False)
        assert queued.job_id is not None
        states = list(client.watch_job(queued.job_id))

        assert (done.outcome, states[-1].status) == ("added", "done")
        assert done.image_id is not None
        assert client.image(done.image_id).tags == ["box", "new"]
        assert name(client.image(done.image_id).path) == "orange.png"
        assert client.search("orange", where=Where(tags=["new"])).hits[0].image.image_id == done.image_id
        client.delete_image(done.image_id)
        with pytest.raises(NotThereError):
            client.delete_image(done.image_id)
        for data, status in ((b"no picture", 415), (png("orange")[:150], 422)):
            with pytest.raises(RequestError) as caught:
                client.upload(data)
            assert caught.value.status == status


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
        [picture] = [one for one in service.loaded.index.scroll_images() if "new.png" in one.files[0].uri]
        service.loaded.index.update_image(replace(picture, recipe="of other models"))
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
            found = [name(answer.hits[0].image.path) for answer in answers]
            assert found == ["a.png", "b.png", "a.png"] * 4
            pages = [page async for page in client.search_pages("red", limit=1)]
            assert len(pages) == 2
            refined = [one async for one in client.refinements(answers[0].id, first=1)]
            assert len(refined) == 1
            queued = await client.upload(png("pink"), wait=False)
            assert queued.job_id is not None
            states = [job async for job in client.watch_job(queued.job_id)]
            assert states[-1].status == "done"
            with pytest.raises(NotThereError):
                await client.image(uuid4())
            assert await client.is_ready()

    asyncio.run(ask())
