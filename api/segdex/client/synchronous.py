"""``Client``: the service by ordinary calls."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from tenacity import Retrying

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


class Client:
    """A service of segdex. Threads may share it; ``close`` it, or use it as a context.

    Every method raises a ``ServiceError``: ``AccessError`` (401, 403), ``NotThereError`` (404, 410),
    ``RequestError`` (other 4xx), ``BusyError`` (429, 503), ``UnreachableError`` (no answer).

    Args:
        server: Its address, such as ``http://127.0.0.1:8600``.
        api_key: As ``segdex keys`` printed it; none for a service that only listens on loopback.
        timeout_s: The longest wait for an answer, and for each part of it; connecting has 5 s, and what runs
            the models 900 s.
        retries: How often to ask again where the service says when, or the connection fails.
        transport: Instead of the network, for tests.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._retries = retries
        self._http = httpx.Client(**http_options(server, api_key), transport=transport)

    def __repr__(self) -> str:
        return f"Client({self.server!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(
        self,
        *texts: str | WeightedText,
        image: Picture | None = None,
        box: tuple[int, int, int, int] | None = None,
        weight: float = 1.0,
        **fields: Unpack[SearchFields],
    ) -> SearchResponse:
        """Return the pictures with the segments that match, best first.

        Args:
            texts: What to look for.
            image: A picture to look like: bytes of a file, or its path.
            box: The thing in that picture, x1, y1, x2, y2 in pixels; x2 and y2 exclusive.
            weight: Of that picture beside the other terms.
            fields: Everything else of a ``SearchRequest``: ``segments``, ``regions``, ``away``,
                ``view_weights``, ``where``, ``limit`` (pictures), ``per_image``, ``min_score``, ``present``,
                ``level``, ``nested``, ``exact``, ``explain``, ``cursor``.

        Raises:
            RequestError: If a text or a value is not allowed, or there is nothing to look for.
            OSError: If the picture cannot be read.
        """
        return self._send(calls.search(*texts, image=image, box=box, weight=weight, fields=fields))

    def search_pages(
        self,
        *texts: str | WeightedText,
        image: Picture | None = None,
        box: tuple[int, int, int, int] | None = None,
        weight: float = 1.0,
        **fields: Unpack[SearchFields],
    ) -> Iterator[SearchResponse]:
        """Yield the pages of an answer, ``limit`` pictures each, the first even if empty; see ``search``."""
        page = self.search(*texts, image=image, box=box, weight=weight, **fields)
        yield page
        while page.next_cursor is not None:
            fields["cursor"] = page.next_cursor
            page = self.search(*texts, image=image, box=box, weight=weight, **fields)
            if page.hits:  # `present` may have left out a whole page
                yield page

    def refine(self, answer_id: str, first: int = 5) -> Refinements:
        """Return the re-decoded masks of the first hits.

        Args:
            answer_id: ``id`` of an answer; the service keeps the last 256.
            first: How many segments, 1 to 100.

        Raises:
            NotThereError: If the answer is no longer kept.
        """
        return self._send(calls.refine(answer_id, first))

    def refinements(self, answer_id: str, first: int = 5) -> Iterator[RefinementOut]:
        """Yield each of them as soon as it is there; see ``refine``."""
        for event in self._events(calls.refinements(answer_id, first)):
            one = calls.read_refinement(event)
            if one is None:
                return
            yield one
        raise calls.broken_off(self.server)

    def image(self, image_id: Id) -> ImageOut:
        """Return what is known of a picture."""
        return self._send(calls.image(image_id))

    def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """Return a picture as JPEG, upright, its longer side ``max_px`` at most (16 to 4,096)."""
        return self._send(calls.image_file(image_id, max_px))

    def image_segments(self, image_id: Id) -> list[SegmentOut]:
        """Return all segments of a picture, the largest first."""
        return self._send(calls.image_segments(image_id))

    def delete_image(self, image_id: Id) -> None:
        """Forget a picture and its segments; its file stays. Needs the role ``write``."""
        self._send(calls.delete_image(image_id))

    def upload(self, image: Picture, *, tags: Sequence[str] = (), wait: bool = True) -> Ingested:
        """Send a picture to be kept and ingested; the same picture twice is one. Needs the role ``write``.

        Args:
            image: Bytes of a file, or its path.
            tags: Labels, of 1 to 100 characters each.
            wait: False returns at once, with the id of a job.

        Raises:
            RequestError: If it is no picture (415), too large (413) or damaged (422).
            OSError: If it cannot be read.
        """
        return self._send(calls.upload(image, tags, wait=wait))

    def segment(self, segment_id: Id) -> SegmentOut:
        """Return a segment with its mask as COCO's run-length code."""
        return self._send(calls.segment(segment_id))

    def mask_png(self, segment_id: Id) -> bytes:
        """Return a mask as a PNG of 1 bit a pixel, of the picture's size; white is the thing."""
        return self._send(calls.mask_png(segment_id))

    def cutout_png(self, segment_id: Id) -> bytes:
        """Return the thing alone as a PNG of the box's size, see-through around it."""
        return self._send(calls.cutout_png(segment_id))

    def polygon(self, segment_id: Id) -> PolygonOut:
        """Return the outline of a segment as a GeoJSON MultiPolygon in pixels, x right and y down."""
        return self._send(calls.polygon(segment_id))

    def cut_out(
        self,
        image_id: Id | None = None,
        *,
        image: Picture | None = None,
        **prompt: Unpack[PromptFields],
    ) -> MasksOut:
        """Return the mask of what is said about one thing in a picture.

        Args:
            image_id: A picture of the index.
            image: Or one to send: bytes of a file, or its path.
            prompt: ``points`` and ``box_xyxy`` in pixels, ``mask`` (an earlier one, of the picture's size),
                ``masks`` (1 or 3); or ``text``, alone or with a box to look in.

        Raises:
            RequestError: If they do not say where the thing is, or lie outside the picture.
        """
        return self._send(calls.cut_out(image_id, image=image, prompt=prompt))

    def jobs(self) -> list[Job]:
        """Return the last jobs, newest first."""
        return self._send(calls.jobs())

    def add_job(
        self, paths: Sequence[str | Path], *, tags: Sequence[str] = (), redo_outdated: bool = False
    ) -> Job:
        """Queue an ingest of folders or files of the service's machine. Needs the role ``write``.

        A job that would segment pictures again, because other models or settings made them, fails without
        ``redo_outdated``.

        Raises:
            RequestError: If a path is not below the folders that the service allows.
        """
        return self._send(calls.add_job(paths, tags, redo_outdated=redo_outdated))

    def job(self, job_id: str) -> Job:
        """Return a job with its progress."""
        return self._send(calls.job(job_id))

    def stop_job(self, job_id: str) -> Job:
        """Stop a job after the file that is being written; one that ended stays as it is."""
        return self._send(calls.stop_job(job_id))

    def watch_job(self, job_id: str) -> Iterator[Job]:
        """Yield a job whenever it changes, until it ended."""
        is_ended = False
        while not is_ended:  # the service ends the events after an hour
            job: Job | None = None
            for event in self._events(calls.job_events(job_id)):
                job = calls.read_job(event)
                yield job
            is_ended = job is None or job.status in ENDED  # None: it is not kept any longer

    def stats(self) -> Stats:
        """Return how much the index holds, and of which models."""
        return self._send(calls.stats())

    def is_alive(self) -> bool:
        """Whether the process of the service answers; asks once."""
        return self._answers(calls.healthz())

    def is_ready(self) -> bool:
        """Whether its models and its index answer; asks once."""
        return self._answers(calls.readyz())

    def metrics(self) -> str:
        """Return the figures of the process in Prometheus' form. Needs the role ``admin``."""
        return self._send(calls.metrics())

    def _answers(self, call: Call[T]) -> bool:
        try:
            call.value_of(self._send_once(call))
        except ServiceError:
            return False
        return True

    def _send(self, call: Call[T]) -> T:
        retrying = Retrying(**retry_options(self._retries, changes=call.changes))
        return retrying(lambda: call.value_of(self._send_once(call)))

    def _send_once(self, call: Call[T], *, stream: bool = False) -> httpx.Response:
        request = call.to_request(self._http, timeout_s=self._timeout_s)
        try:
            response = self._http.send(request, stream=stream)
            if stream and not response.is_success:
                response.read()
        except httpx.RequestError as error:
            raise calls.unreachable(self.server, error) from error
        return response

    def _events(self, call: Call[T]) -> Iterator[Event]:
        def opened() -> httpx.Response:
            response = self._send_once(call, stream=True)
            calls.check(response)
            return response

        response = Retrying(**retry_options(self._retries, changes=call.changes))(opened)
        parser = EventParser()
        try:
            for chunk in response.iter_bytes():
                yield from parser.feed(chunk)
        except httpx.RequestError as error:
            raise calls.unreachable(self.server, error) from error
        finally:
            response.close()
