"""``AsyncClient``: the service in an event loop; the same methods as ``Client``."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from tenacity import AsyncRetrying

from segdex.client import calls
from segdex.client.calls import Call, Id, Picture, PromptFields, SearchFields
from segdex.client.errors import ServiceError
from segdex.client.events import Event, EventParser
from segdex.client.sending import RETRIES, TIMEOUT_S, http_options, retry_options
from segdex_core.wire.images import ImageOut, Ingested, Stats
from segdex_core.wire.jobs import ENDED, Job
from segdex_core.wire.search import RefinementOut, Refinements, SearchResponse, WeightedText
from segdex_core.wire.segments import MasksOut, PolygonOut, SegmentOut

T = TypeVar("T")


class AsyncClient:
    """A service of segdex, as ``Client`` knows it: the same arguments, answers and errors, awaited.

    ``aclose`` it, or use it as an asynchronous context.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._retries = retries
        self._http = httpx.AsyncClient(**http_options(server, api_key), transport=transport)

    def __repr__(self) -> str:
        return f"AsyncClient({self.server!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search(
        self,
        *texts: str | WeightedText,
        image: Picture | None = None,
        box: tuple[int, int, int, int] | None = None,
        weight: float = 1.0,
        **fields: Unpack[SearchFields],
    ) -> SearchResponse:
        """As ``Client.search``."""
        return await self._send(calls.search(*texts, image=image, box=box, weight=weight, fields=fields))

    async def search_pages(
        self,
        *texts: str | WeightedText,
        image: Picture | None = None,
        box: tuple[int, int, int, int] | None = None,
        weight: float = 1.0,
        **fields: Unpack[SearchFields],
    ) -> AsyncIterator[SearchResponse]:
        """As ``Client.search_pages``."""
        page = await self.search(*texts, image=image, box=box, weight=weight, **fields)
        yield page
        while page.next_cursor is not None:
            fields["cursor"] = page.next_cursor
            page = await self.search(*texts, image=image, box=box, weight=weight, **fields)
            if page.hits:  # `present` may have left out a whole page
                yield page

    async def refine(self, answer_id: str, first: int = 5) -> Refinements:
        """As ``Client.refine``."""
        return await self._send(calls.refine(answer_id, first))

    async def refinements(self, answer_id: str, first: int = 5) -> AsyncIterator[RefinementOut]:
        """As ``Client.refinements``."""
        async with aclosing(self._events(calls.refinements(answer_id, first))) as events:
            async for event in events:
                one = calls.read_refinement(event)
                if one is None:
                    return
                yield one
        raise calls.broken_off(self.server)

    async def image(self, image_id: Id) -> ImageOut:
        """As ``Client.image``."""
        return await self._send(calls.image(image_id))

    async def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """As ``Client.image_file``."""
        return await self._send(calls.image_file(image_id, max_px))

    async def image_segments(self, image_id: Id) -> list[SegmentOut]:
        """As ``Client.image_segments``."""
        return await self._send(calls.image_segments(image_id))

    async def delete_image(self, image_id: Id) -> None:
        """As ``Client.delete_image``."""
        await self._send(calls.delete_image(image_id))

    async def upload(self, image: Picture, *, tags: Sequence[str] = (), wait: bool = True) -> Ingested:
        """As ``Client.upload``."""
        return await self._send(calls.upload(image, tags, wait=wait))

    async def segment(self, segment_id: Id) -> SegmentOut:
        """As ``Client.segment``."""
        return await self._send(calls.segment(segment_id))

    async def mask_png(self, segment_id: Id) -> bytes:
        """As ``Client.mask_png``."""
        return await self._send(calls.mask_png(segment_id))

    async def cutout_png(self, segment_id: Id) -> bytes:
        """As ``Client.cutout_png``."""
        return await self._send(calls.cutout_png(segment_id))

    async def polygon(self, segment_id: Id) -> PolygonOut:
        """As ``Client.polygon``."""
        return await self._send(calls.polygon(segment_id))

    async def cut_out(
        self,
        image_id: Id | None = None,
        *,
        image: Picture | None = None,
        **prompt: Unpack[PromptFields],
    ) -> MasksOut:
        """As ``Client.cut_out``."""
        return await self._send(calls.cut_out(image_id, image=image, prompt=prompt))

    async def jobs(self) -> list[Job]:
        """As ``Client.jobs``."""
        return await self._send(calls.jobs())

    async def add_job(
        self, paths: Sequence[str | Path], *, tags: Sequence[str] = (), redo_outdated: bool = False
    ) -> Job:
        """As ``Client.add_job``."""
        return await self._send(calls.add_job(paths, tags, redo_outdated=redo_outdated))

    async def job(self, job_id: str) -> Job:
        """As ``Client.job``."""
        return await self._send(calls.job(job_id))

    async def stop_job(self, job_id: str) -> Job:
        """As ``Client.stop_job``."""
        return await self._send(calls.stop_job(job_id))

    async def watch_job(self, job_id: str) -> AsyncIterator[Job]:
        """As ``Client.watch_job``."""
        is_ended = False
        while not is_ended:  # the service ends the events after an hour
            job: Job | None = None
            async with aclosing(self._events(calls.job_events(job_id))) as events:
                async for event in events:
                    job = calls.read_job(event)
                    yield job
            is_ended = job is None or job.status in ENDED  # None: it is not kept any longer

    async def stats(self) -> Stats:
        """As ``Client.stats``."""
        return await self._send(calls.stats())

    async def is_alive(self) -> bool:
        """As ``Client.is_alive``."""
        return await self._answers(calls.healthz())

    async def is_ready(self) -> bool:
        """As ``Client.is_ready``."""
        return await self._answers(calls.readyz())

    async def metrics(self) -> str:
        """As ``Client.metrics``."""
        return await self._send(calls.metrics())

    async def _answers(self, call: Call[T]) -> bool:
        try:
            call.value_of(await self._send_once(call))
        except ServiceError:
            return False
        return True

    async def _send(self, call: Call[T]) -> T:
        retrying = AsyncRetrying(**retry_options(self._retries, changes=call.changes))

        async def value() -> T:
            return call.value_of(await self._send_once(call))

        return await retrying(value)

    async def _send_once(self, call: Call[T], *, stream: bool = False) -> httpx.Response:
        request = call.to_request(self._http, timeout_s=self._timeout_s)
        try:
            response = await self._http.send(request, stream=stream)
            if stream and not response.is_success:
                await response.aread()
        except httpx.RequestError as error:
            raise calls.unreachable(self.server, error) from error
        return response

    async def _events(self, call: Call[T]) -> AsyncGenerator[Event, None]:
        async def opened() -> httpx.Response:
            response = await self._send_once(call, stream=True)
            calls.check(response)
            return response

        retrying = AsyncRetrying(**retry_options(self._retries, changes=call.changes))
        response: httpx.Response = await retrying(opened)
        parser = EventParser()
        try:
            async for chunk in response.aiter_bytes():
                for event in parser.feed(chunk):
                    yield event
        except httpx.RequestError as error:
            raise calls.unreachable(self.server, error) from error
        finally:
            await response.aclose()
