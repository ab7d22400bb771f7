"""``Client``: a synchronous client of the service."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from tenacity import Retrying

from segdex.answers import Answer, Masks, Question, Segment, like
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


class Client:
    """Client of a segdex service, with the methods, arguments and results of ``Library``.

    Threads may share a client. Call ``close`` when done, or use the client as a context manager. Every method
    may raise a ``ServiceError``: ``AccessError`` (401, 403), ``NotThereError`` (404, 410), ``RequestError``
    (other 4xx), ``BusyError`` (429, 503), ``UnreachableError`` (no response).

    Args:
        server: Address of the service, such as ``http://127.0.0.1:8600``.
        api_key: API key, as ``segdex keys`` printed it; None for a service that only listens on loopback.
        timeout_s: Longest wait for a response, and for each part of it, in seconds. Connecting may take 5 s,
            and calls that run models 900 s.
        retries: Maximum number of retries if the service asks for a delay, or the connection fails.
        cache_dir: Folder in which ``ingest`` remembers which files are no pictures, so that they are not
            opened again; None remembers nothing.
        transport: Replacement for the network, for tests.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        cache_dir: Path | None = None,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        import httpx  # the slowest import of a client

        options = http_options(server, api_key)
        self.location = options["base_url"]
        self._timeout_s = timeout_s
        self._retries = retries
        self._cache_dir = cache_dir
        self._http = httpx.Client(**options, transport=transport)

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
        """See ``Library.search``."""
        question = Question(texts, image, fields)
        return Answer(self._send(calls.search(question)), question, self)

    def similar(
        self,
        segment_ids: SomeIds,
        *,
        unlike: SomeIds = (),
        **fields: Unpack[SearchFields],
    ) -> Answer:
        """See ``Library.similar``."""
        return self.search(**like(segment_ids, unlike, fields))

    def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> Iterator[RefinementOut]:
        """See ``Library.refine``."""
        for event in self._events(calls.refine(texts, image, fields, segment_ids)):
            one = calls.read_refinement(event)
            if one is None:
                return
            yield one
        raise calls.broken_off(self.location)

    def export(
        self,
        path: str | Path,
        *texts: str | WeightedText,
        format: ExportFormatName,  # noqa: A002 - its name in JSON and on the command line
        image: ImageArgument = None,
        progress: IngestProgress | None = None,
        **fields: Unpack[ExportFields],
    ) -> Exported:
        """See ``Library.export``; the service sends the pictures."""
        from segdex.client.exports import save_archive
        from segdex.saving import check_target

        images = query_images(image)
        options = export_request(texts, fields, format_name=format, images=images)
        target = check_target(Path(path), options)
        note = (progress or IngestProgress()).on_note
        note("receiving the export")
        with TemporaryFile() as file:
            for chunk in self._chunks(calls.export(options, images)):
                file.write(chunk)
            note("")
            return save_archive(file, target, server=self.location)

    def segment(
        self,
        image: Picture | None = None,
        *,
        image_id: Id | None = None,
        **prompt: Unpack[PromptFields],
    ) -> Masks:
        """See ``Library.segment``."""
        options = segment_options(image, image_id, prompt)
        return Masks(self._send(calls.segment_object(options, image=image, image_id=image_id)))

    def show(self, segment_id: Id) -> Segment:
        """See ``Library.show``."""
        record, image = self._carry_out(steps.show(segment_id))
        return Segment(record, image, self)

    def image(self, image_id: Id) -> ImageOut:
        """See ``Library.image``."""
        return self._send(calls.image(image_id))

    def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """See ``Library.image_file``."""
        return self._send(calls.image_file(image_id, max_px))

    def image_segments(self, image_id: Id) -> list[Segment]:
        """See ``Library.image_segments``."""
        records, image = self._carry_out(steps.image_segments(image_id))
        return [Segment(record, image, self) for record in records]

    def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> "RGBImage":
        """See ``Library.pixels``."""
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
        """Upload files of this machine to the service, one by one; see ``Library.ingest``.

        The service stores the files in its upload folder, and segments them with its own models and settings.

        Raises:
            UsageError: If ``quality``, ``masks``, ``redo_outdated`` or ``dry_run`` is given, or no file is
                found.
        """
        steps.refuse_choices(quality=quality, masks=masks, redo_outdated=redo_outdated, dry_run=dry_run)
        source = open_source()
        listing = list_files(source, list(map(str, paths)), include_hidden=include_hidden, exclude=exclude)
        return self._carry_out(
            steps.ingest(
                listing,
                source=source,
                tags=clean_tags(tags),
                limit=check_limit(limit),
                progress=progress or IngestProgress(),
                not_pictures=open_not_pictures(self._cache_dir),
            )
        )

    def upload(
        self,
        image: Picture,
        *,
        tags: Sequence[str] = (),
        wait: bool = True,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Ingested:
        """See ``Library.upload``."""
        return self._send(calls.upload(image, tags, wait=wait, name=name, idempotency_key=idempotency_key))

    def delete(self, *targets: Id | Path) -> Deleted:
        """See ``Library.delete``; files and folders of this machine are matched by their content."""
        return self._carry_out(steps.delete(targets, server=self.location))

    def doctor(self, *, fix: bool = False) -> Examined:
        """See ``Library.doctor``."""
        return self._send(calls.doctor(fix=fix))

    def stats(self) -> Stats:
        """See ``Library.stats``."""
        return self._send(calls.stats())

    def find_ids(self, prefix: str) -> FoundIds:
        """As ``Library.find_ids``."""
        return self._send(calls.find_ids(prefix))

    def labels(self) -> LabelCounts:
        """As ``Library.labels``."""
        return self._send(calls.labels())

    def label(
        self,
        *labels: str,
        several: bool = False,
        min_score: float | None = None,
        segments: Sequence[Id] = (),
        by: str = "me",
        dry_run: bool = False,
    ) -> LabelReport:
        """As ``Library.label``."""
        request = label_request(
            labels, several=several, min_score=min_score, segments=segments, by=by, dry_run=dry_run
        )
        return self._send(calls.label(request))

    def clear_labels(self, *labels: str, authors: Sequence[LabelAuthor] = ("model",)) -> LabelsCleared:
        """As ``Library.clear_labels``."""
        return self._send(calls.clear_labels(labels, authors))

    def import_labels(
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
        return self._send(calls.import_labels(document, request))

    def sets(self) -> SetsOut:
        """As ``Library.sets``."""
        return self._send(calls.sets())

    def show_set(self, name: str) -> SetDetails:
        """As ``Library.show_set``."""
        return self._send(calls.show_set(name))

    def create_set(self, name: str) -> SetOut:
        """As ``Library.create_set``."""
        return self._send(calls.create_set(name))

    def add_to_set(self, name: str, *ids: Id) -> SetChanged:
        """As ``Library.add_to_set``."""
        return self._send(calls.add_to_set(name, ids))

    def remove_from_set(self, name: str, *ids: Id) -> SetChanged:
        """As ``Library.remove_from_set``."""
        return self._send(calls.remove_from_set(name, ids))

    def rename_set(self, name: str, new_name: str) -> SetOut:
        """As ``Library.rename_set``."""
        return self._send(calls.rename_set(name, new_name))

    def delete_set(self, name: str) -> SetOut:
        """As ``Library.delete_set``."""
        return self._send(calls.delete_set(name))

    def concepts(self) -> ConceptsOut:
        """As ``Library.concepts``."""
        return self._send(calls.concepts())

    def show_concept(self, name: str) -> ConceptDetails:
        """As ``Library.show_concept``."""
        return self._send(calls.show_concept(name))

    def mark(
        self,
        name: str,
        *,
        right: Sequence[Id] = (),
        wrong: Sequence[Id] = (),
        neither: Sequence[Id] = (),
        text: str | None = None,
    ) -> ConceptOut:
        """As ``Library.mark``."""
        return self._send(calls.mark(name, right=right, wrong=wrong, neither=neither, text=text))

    def rename_concept(self, name: str, new_name: str) -> ConceptOut:
        """As ``Library.rename_concept``."""
        return self._send(calls.rename_concept(name, new_name))

    def delete_concept(self, name: str) -> ConceptOut:
        """As ``Library.delete_concept``."""
        return self._send(calls.delete_concept(name))

    def jobs(self) -> list[Job]:
        """See ``Library.jobs``."""
        return self._send(calls.jobs())

    def add_job(
        self,
        paths: Sequence[str | Path],
        *,
        tags: Sequence[str] = (),
        redo_outdated: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """See ``Library.add_job``; the paths are on the machine of the service."""
        return self._send(
            calls.add_job(paths, tags, redo_outdated=redo_outdated, idempotency_key=idempotency_key)
        )

    def job(self, job_id: str) -> Job:
        """See ``Library.job``."""
        return self._send(calls.job(job_id))

    def stop_job(self, job_id: str) -> Job:
        """See ``Library.stop_job``."""
        return self._send(calls.stop_job(job_id))

    def watch_job(self, job_id: str) -> Iterator[Job]:
        """See ``Library.watch_job``."""
        is_ended = False
        while not is_ended:  # the service ends a stream after an hour
            job: Job | None = None
            for event in self._events(calls.job_events(job_id)):
                job = calls.read_job(event)
                yield job
            is_ended = job is None or job.status in ENDED  # None: the job is no longer kept

    def is_alive(self) -> bool:
        """Return whether the process of the service answers, without a retry."""
        return self._answers(calls.healthz())

    def is_ready(self) -> bool:
        """Return whether the models and the index of the service answer, without a retry."""
        return self._answers(calls.readyz())

    def metrics(self) -> str:
        """Return the metrics of the process in Prometheus' format; needs the role ``admin``."""
        return self._send(calls.metrics())

    def _carry_out(self, todo: Steps[T]) -> T:
        """Send the calls of a method in order, and return its result."""
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
        parser = EventParser()
        with closing(self._chunks(call)) as chunks:
            for chunk in chunks:
                yield from parser.feed(chunk)

    def _chunks(self, call: Call[T]) -> Generator[bytes, None, None]:
        """Yield the body of a response as it comes."""
        import httpx

        def opened() -> httpx.Response:
            response = self._send_once(call, stream=True)
            calls.check(response)
            return response

        response = Retrying(**retry_options(self._retries, changes=call.changes))(opened)
        try:
            yield from response.iter_bytes()
        except httpx.RequestError as error:
            raise calls.unreachable(self.location, error) from error
        finally:
            response.close()
