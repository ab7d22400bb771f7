"""``Client``: the service by ordinary calls."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from tenacity import Retrying

from segdex.answers import Answer, Masks, Question, Segment, like
from segdex.arguments import (
    Id,
    ImageArgument,
    IngestProgress,
    MaskChoices,
    PromptFields,
    QuestionFields,
    SearchFields,
    as_id,
    check_limit,
    clean_tags,
    segment_options,
)
from segdex.client import calls, steps
from segdex.client.calls import Call
from segdex.client.errors import ServiceError
from segdex.client.events import Event, EventParser
from segdex.client.sending import RETRIES, TIMEOUT_S, http_options, retry_options
from segdex.client.steps import Steps
from segdex.pictures import Picture
from segdex.sources import list_files, open_source
from segdex_core.wire.images import Deleted, ImageOut, Ingested, IngestReportOut, Stats
from segdex_core.wire.jobs import ENDED, Job
from segdex_core.wire.search import RefinementOut, WeightedText

if TYPE_CHECKING:
    import httpx

    from segdex_core.records import RGBImage

T = TypeVar("T")


class Client:
    """A library that a service of segdex holds; the methods, arguments and results of ``Library``.

    Threads may share it; ``close`` it, or use it as a context. Every method raises a ``ServiceError``:
    ``AccessError`` (401, 403), ``NotThereError`` (404, 410), ``RequestError`` (other 4xx), ``BusyError``
    (429, 503), ``UnreachableError`` (no answer).

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
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        import httpx  # of all that a client needs, this takes the longest to import

        self.location = server
        self._timeout_s = timeout_s
        self._retries = retries
        self._http = httpx.Client(**http_options(server, api_key), transport=transport)

    def __repr__(self) -> str:
        return f"Client({self.location!r})"

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
        self, *texts: str | WeightedText, image: ImageArgument = None, **fields: Unpack[SearchFields]
    ) -> Answer:
        """As ``Library.search``."""
        question = Question(texts, image, fields)
        return Answer(self._send(calls.search(question)), question, self)

    def similar(self, segment_id: Id, **fields: Unpack[SearchFields]) -> Answer:
        """As ``Library.similar``."""
        return self.search(**like(as_id(segment_id), fields))

    def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> Iterator[RefinementOut]:
        """As ``Library.refine``."""
        for event in self._events(calls.refine(texts, image, fields, segment_ids)):
            one = calls.read_refinement(event)
            if one is None:
                return
            yield one
        raise calls.broken_off(self.location)

    def segment(
        self,
        image: Picture | None = None,
        *,
        image_id: Id | None = None,
        **prompt: Unpack[PromptFields],
    ) -> Masks:
        """As ``Library.segment``."""
        options = segment_options(image, image_id, prompt)
        return Masks(self._send(calls.segment_object(options, image=image, image_id=image_id)))

    def show(self, segment_id: Id) -> Segment:
        """As ``Library.show``."""
        record, image = self._carry_out(steps.show(segment_id))
        return Segment(record, image, self)

    def image(self, image_id: Id) -> ImageOut:
        """As ``Library.image``."""
        return self._send(calls.image(image_id))

    def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """As ``Library.image_file``."""
        return self._send(calls.image_file(image_id, max_px))

    def image_segments(self, image_id: Id) -> list[Segment]:
        """As ``Library.image_segments``."""
        records, image = self._carry_out(steps.image_segments(image_id))
        return [Segment(record, image, self) for record in records]

    def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> "RGBImage":
        """As ``Library.pixels``."""
        return self._send(calls.pixels(image_id, box_xyxy))

    def ingest(
        self,
        *paths: str | Path,
        exclude: Sequence[str] = (),
        include_hidden: bool = False,
        tags: Sequence[str] = (),
        quality: str | None = None,
        masks: MaskChoices | None = None,
        limit: int | None = None,
        redo_outdated: bool = False,
        dry_run: bool = False,
        progress: IngestProgress | None = None,
    ) -> IngestReportOut:
        """Send files of this machine to the service, one by one; as ``Library.ingest``.

        The service keeps them in its folder of uploads, and segments them with its own models and settings.

        Raises:
            UsageError: If ``quality``, ``masks``, ``redo_outdated`` or ``dry_run`` is given, or there is no
                file.
        """
        steps.refuse_choices(quality=quality, masks=masks, redo_outdated=redo_outdated, dry_run=dry_run)
        listing = list_files(
            open_source(), list(map(str, paths)), include_hidden=include_hidden, exclude=exclude
        )
        return self._carry_out(
            steps.ingest(
                listing,
                tags=clean_tags(tags),
                limit=check_limit(limit),
                progress=progress or IngestProgress(),
            )
        )

    def upload(
        self, image: Picture, *, tags: Sequence[str] = (), wait: bool = True, name: str | None = None
    ) -> Ingested:
        """As ``Library.upload``."""
        return self._send(calls.upload(image, tags, wait=wait, name=name))

    def delete(self, *targets: Id | Path) -> Deleted:
        """As ``Library.delete``; files and folders are those of this machine, found by their content."""
        return self._carry_out(steps.delete(targets, server=self.location))

    def stats(self) -> Stats:
        """As ``Library.stats``."""
        return self._send(calls.stats())

    def jobs(self) -> list[Job]:
        """As ``Library.jobs``."""
        return self._send(calls.jobs())

    def add_job(
        self, paths: Sequence[str | Path], *, tags: Sequence[str] = (), redo_outdated: bool = False
    ) -> Job:
        """As ``Library.add_job``; the paths are those of the service's machine."""
        return self._send(calls.add_job(paths, tags, redo_outdated=redo_outdated))

    def job(self, job_id: str) -> Job:
        """As ``Library.job``."""
        return self._send(calls.job(job_id))

    def stop_job(self, job_id: str) -> Job:
        """As ``Library.stop_job``."""
        return self._send(calls.stop_job(job_id))

    def watch_job(self, job_id: str) -> Iterator[Job]:
        """As ``Library.watch_job``."""
        is_ended = False
        while not is_ended:  # the service ends the events after an hour
            job: Job | None = None
            for event in self._events(calls.job_events(job_id)):
                job = calls.read_job(event)
                yield job
            is_ended = job is None or job.status in ENDED  # None: it is not kept any longer

    def is_alive(self) -> bool:
        """Whether the process of the service answers; asks once."""
        return self._answers(calls.healthz())

    def is_ready(self) -> bool:
        """Whether its models and its index answer; asks once."""
        return self._answers(calls.readyz())

    def metrics(self) -> str:
        """Return the figures of the process in Prometheus' form. Needs the role ``admin``."""
        return self._send(calls.metrics())

    def _carry_out(self, todo: Steps[T]) -> T:
        """Send the calls of a verb that has several, and return its result."""
        try:
            call = next(todo)
            while True:
                try:
                    value = self._send(call)
                except (ServiceError, KeyboardInterrupt) as error:
                    call = todo.throw(error)
                else:
                    call = todo.send(value)
        except StopIteration as end:
            result: T = end.value
            return result

    def _answers(self, call: Call[T]) -> bool:
        try:
            call.value_of(self._send_once(call))
        except ServiceError:
            return False
        return True

    def _send(self, call: Call[T]) -> T:
        retrying = Retrying(**retry_options(self._retries, changes=call.changes))
        return retrying(lambda: call.value_of(self._send_once(call)))

    def _send_once(self, call: Call[T], *, stream: bool = False) -> "httpx.Response":
        import httpx

        request = call.to_request(self._http, timeout_s=self._timeout_s)
        try:
            response = self._http.send(request, stream=stream)
            if stream and not response.is_success:
                response.read()
        except httpx.RequestError as error:
            raise calls.unreachable(self.location, error) from error
        return response

    def _events(self, call: Call[T]) -> Iterator[Event]:
        import httpx

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
            raise calls.unreachable(self.location, error) from error
        finally:
            response.close()
