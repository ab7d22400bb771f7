"""``AsyncClient``: a client for event loops, with the methods of ``Client``."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from tenacity import AsyncRetrying

from segdex.answers import Masks, Question, like
from segdex.answers_async import AsyncAnswer, AsyncSegment
from segdex.arguments import (
    ExportFields,
    Id,
    ImageArgument,
    IngestProgress,
    MaskChoices,
    PromptFields,
    QuestionFields,
    SearchFields,
    SomeIds,
    check_limit,
    clean_tags,
    export_request,
    import_request,
    label_request,
    query_images,
    segment_options,
)
from segdex.client import calls, steps
from segdex.client.calls import Call
from segdex.client.errors import ServiceError
from segdex.client.events import Event, EventParser
from segdex.client.sending import RETRIES, TIMEOUT_S, http_options, retry_options
from segdex.client.steps import Steps
from segdex.documents import Document
from segdex.pictures import Picture
from segdex.sources import list_files, open_not_pictures, open_source
from segdex_core.wire.concepts import ConceptDetails, ConceptOut, ConceptsOut
from segdex_core.wire.doctor import Examined
from segdex_core.wire.export import Exported
from segdex_core.wire.ids import FoundIds
from segdex_core.wire.images import Deleted, ImageOut, Ingested, IngestReportOut, Stats
from segdex_core.wire.imports import ImportReport
from segdex_core.wire.jobs import ENDED, Job
from segdex_core.wire.labels import LabelCounts, LabelReport, LabelsCleared
from segdex_core.wire.limits import DEFAULT_MIN_IOU, ExportFormatName, ImportFormat, LabelAuthor
from segdex_core.wire.search import RefinementOut, WeightedText
from segdex_core.wire.sets import SetChanged, SetDetails, SetOut, SetsOut

if TYPE_CHECKING:
    import httpx

    from segdex_core.records import RGBImage

T = TypeVar("T")


class AsyncClient:
    """Asynchronous client of a segdex service, with the methods, arguments, results and errors of ``Client``.

    Call ``aclose`` when done, or use the client as an asynchronous context manager.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        cache_dir: Path | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        import httpx  # the slowest import of a client

        options = http_options(server, api_key)
        self.location = options["base_url"]
        self._timeout_s = timeout_s
        self._retries = retries
        self._cache_dir = cache_dir
        self._http = httpx.AsyncClient(**options, transport=transport)

    def __repr__(self) -> str:
        return f"AsyncClient({self.location!r})"

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
        self, *texts: str | WeightedText, image: ImageArgument = None, **fields: Unpack[SearchFields]
    ) -> AsyncAnswer:
        """See ``Client.search``."""
        question = Question(texts, image, fields)
        return AsyncAnswer(await self._send(calls.search(question)), question, self)

    async def similar(
        self,
        segment_ids: SomeIds,
        *,
        unlike: SomeIds = (),
        **fields: Unpack[SearchFields],
    ) -> AsyncAnswer:
        """See ``Client.similar``."""
        return await self.search(**like(segment_ids, unlike, fields))

    async def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> AsyncIterator[RefinementOut]:
        """See ``Client.refine``."""
        call = calls.refine(texts, image, fields, segment_ids)
        async with aclosing(self._events(call)) as events:
            async for event in events:
                one = calls.read_refinement(event)
                if one is None:
                    return
                yield one
        raise calls.broken_off(self.location)

    async def export(
        self,
        path: str | Path,
        *texts: str | WeightedText,
        format: ExportFormatName,  # noqa: A002 - its name in JSON and on the command line
        image: ImageArgument = None,
        progress: IngestProgress | None = None,
        **fields: Unpack[ExportFields],
    ) -> Exported:
        """See ``Client.export``."""
        from segdex.client.exports import save_archive
        from segdex.saving import check_target

        images = query_images(image)
        options = export_request(texts, fields, format_name=format, images=images)
        target = check_target(Path(path), options)
        note = (progress or IngestProgress()).on_note
        note("receiving the export")
        with TemporaryFile() as file:
            async with aclosing(self._chunks(calls.export(options, images))) as chunks:
                async for chunk in chunks:
                    file.write(chunk)
            note("")
            return save_archive(file, target, server=self.location)

    async def segment(
        self,
        image: Picture | None = None,
        *,
        image_id: Id | None = None,
        **prompt: Unpack[PromptFields],
    ) -> Masks:
        """See ``Client.segment``."""
        options = segment_options(image, image_id, prompt)
        return Masks(await self._send(calls.segment_object(options, image=image, image_id=image_id)))

    async def show(self, segment_id: Id) -> AsyncSegment:
        """See ``Client.show``."""
        record, image = await self._carry_out(steps.show(segment_id))
        return AsyncSegment(record, image, self)

    async def image(self, image_id: Id) -> ImageOut:
        """See ``Client.image``."""
        return await self._send(calls.image(image_id))

    async def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """See ``Client.image_file``."""
        return await self._send(calls.image_file(image_id, max_px))

    async def image_segments(self, image_id: Id) -> list[AsyncSegment]:
        """See ``Client.image_segments``."""
        records, image = await self._carry_out(steps.image_segments(image_id))
        return [AsyncSegment(record, image, self) for record in records]

    async def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> "RGBImage":
        """See ``Client.pixels``."""
        return await self._send(calls.pixels(image_id, box_xyxy))

    async def ingest(
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
        """See ``Client.ingest``."""
        steps.refuse_choices(quality=quality, masks=masks, redo_outdated=redo_outdated, dry_run=dry_run)
        source = open_source()
        listing = list_files(source, list(map(str, paths)), include_hidden=include_hidden, exclude=exclude)
        return await self._carry_out(
            steps.ingest(
                listing,
                source=source,
                tags=clean_tags(tags),
                limit=check_limit(limit),
                progress=progress or IngestProgress(),
                not_pictures=open_not_pictures(self._cache_dir),
            )
        )

    async def upload(
        self,
        image: Picture,
        *,
        tags: Sequence[str] = (),
        wait: bool = True,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Ingested:
        """See ``Client.upload``."""
        return await self._send(
            calls.upload(image, tags, wait=wait, name=name, idempotency_key=idempotency_key)
        )

    async def delete(self, *targets: Id | Path) -> Deleted:
        """See ``Client.delete``."""
        return await self._carry_out(steps.delete(targets, server=self.location))

    async def doctor(self, *, fix: bool = False) -> Examined:
        """See ``Client.doctor``."""
        return await self._send(calls.doctor(fix=fix))

    async def stats(self) -> Stats:
        """See ``Client.stats``."""
        return await self._send(calls.stats())

    async def find_ids(self, prefix: str) -> FoundIds:
        """As ``Client.find_ids``."""
        return await self._send(calls.find_ids(prefix))

    async def labels(self) -> LabelCounts:
        """As ``Client.labels``."""
        return await self._send(calls.labels())

    async def label(
        self,
        *labels: str,
        several: bool = False,
        min_score: float | None = None,
        segments: Sequence[Id] = (),
        by: str = "me",
        dry_run: bool = False,
    ) -> LabelReport:
        """As ``Client.label``."""
        request = label_request(
            labels, several=several, min_score=min_score, segments=segments, by=by, dry_run=dry_run
        )
        return await self._send(calls.label(request))

    async def clear_labels(self, *labels: str, authors: Sequence[LabelAuthor] = ("model",)) -> LabelsCleared:
        """As ``Client.clear_labels``."""
        return await self._send(calls.clear_labels(labels, authors))

    async def import_labels(
        self,
        document: Document,
        *,
        format: ImportFormat,  # noqa: A002 - as Library has it
        by: str = "me",
        min_iou: float = DEFAULT_MIN_IOU,
        overrule: bool = False,
        remove_missing: bool = False,
        dry_run: bool = False,
    ) -> ImportReport:
        """As ``Library.import_labels``."""
        request = import_request(
            format=format,
            by=by,
            min_iou=min_iou,
            overrule=overrule,
            remove_missing=remove_missing,
            dry_run=dry_run,
        )
        return await self._send(calls.import_labels(document, request))

    async def sets(self) -> SetsOut:
        """As ``Client.sets``."""
        return await self._send(calls.sets())

    async def show_set(self, name: str) -> SetDetails:
        """As ``Client.show_set``."""
        return await self._send(calls.show_set(name))

    async def create_set(self, name: str) -> SetOut:
        """As ``Client.create_set``."""
        return await self._send(calls.create_set(name))

    async def add_to_set(self, name: str, *ids: Id) -> SetChanged:
        """As ``Client.add_to_set``."""
        return await self._send(calls.add_to_set(name, ids))

    async def remove_from_set(self, name: str, *ids: Id) -> SetChanged:
        """As ``Client.remove_from_set``."""
        return await self._send(calls.remove_from_set(name, ids))

    async def rename_set(self, name: str, new_name: str) -> SetOut:
        """As ``Client.rename_set``."""
        return await self._send(calls.rename_set(name, new_name))

    async def delete_set(self, name: str) -> SetOut:
        """As ``Client.delete_set``."""
        return await self._send(calls.delete_set(name))

    async def concepts(self) -> ConceptsOut:
        """As ``Client.concepts``."""
        return await self._send(calls.concepts())

    async def show_concept(self, name: str) -> ConceptDetails:
        """As ``Client.show_concept``."""
        return await self._send(calls.show_concept(name))

    async def mark(
        self,
        name: str,
        *,
        right: Sequence[Id] = (),
        wrong: Sequence[Id] = (),
        neither: Sequence[Id] = (),
        text: str | None = None,
    ) -> ConceptOut:
        """As ``Client.mark``."""
        return await self._send(calls.mark(name, right=right, wrong=wrong, neither=neither, text=text))

    async def rename_concept(self, name: str, new_name: str) -> ConceptOut:
        """As ``Client.rename_concept``."""
        return await self._send(calls.rename_concept(name, new_name))

    async def delete_concept(self, name: str) -> ConceptOut:
        """As ``Client.delete_concept``."""
        return await self._send(calls.delete_concept(name))

    async def jobs(self) -> list[Job]:
        """See ``Client.jobs``."""
        return await self._send(calls.jobs())

    async def add_job(
        self,
        paths: Sequence[str | Path],
        *,
        tags: Sequence[str] = (),
        redo_outdated: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """See ``Client.add_job``."""
        return await self._send(
            calls.add_job(paths, tags, redo_outdated=redo_outdated, idempotency_key=idempotency_key)
        )

    async def job(self, job_id: str) -> Job:
        """See ``Client.job``."""
        return await self._send(calls.job(job_id))

    async def stop_job(self, job_id: str) -> Job:
        """See ``Client.stop_job``."""
        return await self._send(calls.stop_job(job_id))

    async def watch_job(self, job_id: str) -> AsyncIterator[Job]:
        """See ``Client.watch_job``."""
        is_ended = False
        while not is_ended:  # the service ends a stream after an hour
            job: Job | None = None
            async with aclosing(self._events(calls.job_events(job_id))) as events:
                async for event in events:
                    job = calls.read_job(event)
                    yield job
            is_ended = job is None or job.status in ENDED  # None: the job is no longer kept

    async def is_alive(self) -> bool:
        """See ``Client.is_alive``."""
        return await self._answers(calls.healthz())

    async def is_ready(self) -> bool:
        """See ``Client.is_ready``."""
        return await self._answers(calls.readyz())

    async def metrics(self) -> str:
        """See ``Client.metrics``."""
        return await self._send(calls.metrics())

    async def _carry_out(self, todo: Steps[T]) -> T:
        """Send the calls of a method in order, and return its result."""
        try:
            call = next(todo)
            while True:
                try:
                    value = await self._send(call)
                except (ServiceError, KeyboardInterrupt) as error:
                    call = todo.throw(error)
                else:
                    call = todo.send(value)
        except StopIteration as end:
            result: T = end.value
            return result

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

    async def _send_once(self, call: Call[T], *, stream: bool = False) -> "httpx.Response":
        import httpx

        request = call.to_request(self._http, timeout_s=self._timeout_s)
        try:
            response = await self._http.send(request, stream=stream)
            if stream and not response.is_success:
                await response.aread()
        except httpx.RequestError as error:
            raise calls.unreachable(self.location, error) from error
        return response

    async def _events(self, call: Call[T]) -> AsyncGenerator[Event, None]:
        parser = EventParser()
        async with aclosing(self._chunks(call)) as chunks:
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    yield event

    async def _chunks(self, call: Call[T]) -> AsyncGenerator[bytes, None]:
        """Yield the body of a response as it comes."""
        import httpx

        async def opened() -> httpx.Response:
            response = await self._send_once(call, stream=True)
            calls.check(response)
            return response

        retrying = AsyncRetrying(**retry_options(self._retries, changes=call.changes))
        response: httpx.Response = await retrying(opened)
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.RequestError as error:
            raise calls.unreachable(self.location, error) from error
        finally:
            await response.aclose()
