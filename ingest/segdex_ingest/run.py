"""Ingest many files: plan, read and analyse ahead, write in order, report."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from threading import Lock
from uuid import UUID

import numpy as np

from segdex_core.errors import ImageError, ImageTooLargeError, NotAnImageError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import display_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import ListingProblem, Source
from segdex_core.records import SEGMENT_VIEWS, ImageFile, IndexFingerprint
from segdex_ingest.ahead import Analyse, Analyses
from segdex_ingest.analyse import AnalysedImage, Recipe, RecipeSource, analyse
from segdex_ingest.ledger import Ledger
from segdex_ingest.plan import IngestPlan, PlannedFile, plan_ingest
from segdex_ingest.report import ANALYSED, FileOutcome, IngestReport, Outcome
from segdex_ingest.write import DryWriter, PictureWriter, Writer, Written


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files are read and analysed.

    Attributes:
        max_pixels: Pictures with more pixels are ``too large``.
        max_bytes: Files with more bytes are ``too large``.
        decode_threads: Threads that read and hash ahead of the models, 1 or more.
        analysis_threads: Threads that decode, segment and embed, 1 or more; they share the models.
        limit: Stop after this many pictures were segmented; None for all.
        tags: Labels for every file of this run.
    """

    max_pixels: int
    max_bytes: int
    decode_threads: int = 2
    analysis_threads: int = 1
    limit: int | None = None
    tags: tuple[str, ...] = ()


def ingest_into(
    index: SegmentIndex,
    recipes: RecipeSource,
    uris: Sequence[str],
    *,
    source: Source,
    profile: str,
    options: IngestOptions,
    quality: str | None = None,
    known_ids: Sequence[UUID] | None = None,
    lock: AbstractContextManager[object] | None = None,
    problems: Sequence[ListingProblem] = (),
    approve: Callable[[IngestPlan], None] = lambda _: None,
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Bring an index up to date with the given files: what every ingest that writes calls.

    The models are loaded when the first picture has to be analysed; where none has, they are not loaded.

    Args:
        index: What to fill; created for the recipe if it is new.
        recipes: The models and settings.
        uris: Canonical URIs of the files, each once.
        source: Where they lie.
        profile: Of the models, for the fingerprint of the index.
        options: Limits, threads and tags.
        quality: Of the masks, which the index remembers as the default of the next ingest; None leaves that
            as it is.
        known_ids: The only pictures that the files can be, where the caller has hashed them; None for any.
        lock: An ``RLock`` of all in this process that write to the index; None where nobody else does.
        problems: What could not be listed; handed on to the report.
        approve: Called with the plan before anything is read or written; what it raises ends the ingest.
        on_file: Called after each file.

    Raises:
        IndexMismatchError: If another embedder filled the index.
        SegmentIndexError: If the index fails; what was written before stays, and the next run goes on.
        ModelError: If a model fails.
    """
    checked = _RecipesOf(index, recipes, profile)
    if index.fingerprint() is None:
        checked.load()

    def analysed(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        return analyse(data, checked, name=name, max_pixels=options.max_pixels, checkpoint=checkpoint)

    while True:
        ledger = Ledger(index.scroll_images() if known_ids is None else index.get_images(known_ids))
        plan = plan_ingest(uris, source=source, ledger=ledger, recipe=checked.fingerprint())
        approve(plan)
        if plan.to_read or plan.outdated:
            _remember_quality(index, quality)
        try:
            return carry_out(
                plan,
                source=source,
                ledger=ledger,
                writer=PictureWriter(index, exists=source.exists, lock=lock),
                analyse=analysed,
                options=options,
                problems=problems,
                on_file=on_file,
            )
        except _OtherRecipeError:
            continue  # the plan was made for what is remembered of the models, and they have changed since


def _remember_quality(index: SegmentIndex, quality: str | None) -> None:
    found = index.fingerprint()
    if quality is not None and found is not None and found.quality != quality:
        index.remember(replace(found, quality=quality))


def rehearse(
    plan: IngestPlan,
    *,
    source: Source,
    ledger: Ledger,
    options: IngestOptions,
    problems: Sequence[ListingProblem] = (),
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Return what ``ingest_into`` would report; loads no model and writes nothing.

    Args:
        plan: The files.
        source: Where they lie.
        ledger: The pictures of the index; changed.
        options: Limits, threads and tags.
        problems: What could not be listed; handed on to the report.
        on_file: Called after each file.
    """

    def decoded(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        checkpoint()
        image = decode_image(data, name=name, max_pixels=options.max_pixels)
        return AnalysedImage(
            sha256=sha256_hex(data),
            size_bytes=len(data),
            size_hw=(image.pixels.shape[0], image.pixels.shape[1]),
            captured_s=image.captured_s,
            place_lat_lon=image.place_lat_lon,
            recipe=plan.recipe,
            segments=(),
            segment_vectors={},
            image_vector=np.zeros((1, 0), np.float32),
        )

    return carry_out(
        plan,
        source=source,
        ledger=ledger,
        writer=DryWriter(ledger, exists=source.exists),
        analyse=decoded,
        options=options,
        problems=problems,
        on_file=on_file,
    )


def prepare_index(index: SegmentIndex, recipe: Recipe, *, profile: str) -> None:
    """Create the index for a recipe, or check that it is one for it.

    Raises:
        IndexMismatchError: If it was filled by another embedder.
    """
    index.ensure(
        IndexFingerprint(
            profile=profile,
            embedder=recipe.embedder.fingerprint,
            dim=recipe.embedder.dim,
            views=SEGMENT_VIEWS,
            segmenter=recipe.segmenter.fingerprint,
        )
    )


class _OtherRecipeError(Exception):
    """The models that were loaded are not those that the plan was made for."""


class _RecipesOf:
    """A recipe that is loaded once, and then compared with the index that it is to fill."""

    def __init__(self, index: SegmentIndex, recipes: RecipeSource, profile: str) -> None:
        self._index = index
        self._recipes = recipes
        self._profile = profile
        self._lock = Lock()
        self._loaded: Recipe | None = None
        self._planned: str | None = None

    def fingerprint(self) -> str:
        self._planned = self._recipes.fingerprint() if self._loaded is None else self._loaded.fingerprint()
        return self._planned

    def load(self) -> Recipe:
        with self._lock:
            if self._loaded is None:
                recipe = self._recipes.load()
                prepare_index(self._index, recipe, profile=self._profile)
                self._loaded = recipe
        if self._planned not in (None, self._loaded.fingerprint()):
            raise _OtherRecipeError
        return self._loaded


def carry_out(
    plan: IngestPlan,
    *,
    source: Source,
    ledger: Ledger,
    writer: Writer,
    analyse: Analyse,
    options: IngestOptions,
    problems: Sequence[ListingProblem] = (),
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Do what a plan leaves to do, and say what became of each file.

    Files are handled one after the other in the given order, so that two runs over the same files leave the
    same index; reading and analysing run ahead in threads, for a fixed number of files. Files that are not
    given are left alone. Ctrl-C loses the pictures that are not written yet, and returns what was done.

    Args:
        plan: The files.
        source: Where they lie.
        ledger: The pictures of the index; kept in step.
        writer: What is told.
        analyse: Makes an analysis with ``plan.recipe``.
        options: Limits, threads and tags.
        problems: Handed on to the report.
        on_file: Called after each file.
    """
    started = time.perf_counter()
    outcomes: list[FileOutcome] = []
    interrupted = False
    ingested = 0

    def is_stored(image_id: UUID) -> bool:
        known = ledger.get(image_id)
        return known is not None and known.recipe == plan.recipe

    try:
        with Analyses(
            analyse, threads=options.analysis_threads, is_stored=is_stored, limit=options.limit
        ) as analyses:
            run = _Run(
                plan.recipe,
                source=source,
                ledger=ledger,
                writer=writer,
                analyses=analyses,
                options=options,
            )
            files_ahead = options.decode_threads + 2 * options.analysis_threads
            with closing(
                _read_ahead(plan.files, run.read, threads=options.decode_threads, ahead=files_ahead)
            ) as reads:
                for file, read in reads:
                    outcome = run.handle(file, read)
                    outcomes.append(outcome)
                    on_file(outcome)
                    ingested += outcome.outcome in ANALYSED
                    if options.limit is not None and ingested >= options.limit:
                        break
    except KeyboardInterrupt:
        interrupted = True
    return IngestReport(
        files=outcomes,
        skipped_folders=[(display_path(problem.uri), problem.reason) for problem in problems],
        elapsed_s=time.perf_counter() - started,
        interrupted=interrupted,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A file as a thread read it: known by its version, or read and hashed."""

    file: ImageFile
    image_id: UUID
    data: bytes | None


class _Run:
    """One ingest under way."""

    def __init__(
        self,
        recipe: str,
        *,
        source: Source,
        ledger: Ledger,
        writer: Writer,
        analyses: Analyses,
        options: IngestOptions,
    ) -> None:
        self._recipe = recipe
        self._source = source
        self._ledger = ledger
        self._writer = writer
        self._analyses = analyses
        self._options = options

    def read(self, planned: PlannedFile) -> _Read | ImageError:
        """Read and hash a file that may have changed, and have it analysed if it is new; runs in threads."""
        if planned.state == "unchanged" and planned.version is not None and planned.image_id is not None:
            return _Read(ImageFile(planned.uri, planned.version.mtime_ns), planned.image_id, None)
        uri = planned.uri
        try:
            version = self._source.version(uri)
            data = self._source.read(uri, max_bytes=self._options.max_bytes)
        except ImageError as error:  # it went away, must not be read, or is too large
            return error
        image_id = make_image_id(sha256_hex(data))
        self._analyses.begin(image_id, data, name=display_path(uri))
        return _Read(ImageFile(uri, version.mtime_ns), image_id, data)

    def handle(self, planned: PlannedFile, read: _Read | ImageError) -> FileOutcome:
        """Bring the index up to date with one file; runs in the main thread alone."""
        uri = planned.uri
        if isinstance(read, ImageError):
            return FileOutcome(uri, _refusal_outcome(read), str(read))
        try:
            written = self._write(read)
        except ImageError as error:  # its bytes are no picture
            return FileOutcome(uri, _refusal_outcome(error), str(error))
        if written is None:  # what the ledger knew was deleted or replaced since
            again = PlannedFile(uri, "to_read")
            return self.handle(again, self.read(again))
        self._ledger.put(written.record)
        outcome = written.outcome
        for record in self._ledger.at(uri):
            if record.image_id != read.image_id:
                self._leave(record.image_id, uri)
                if outcome is not Outcome.NO_SEGMENTS:
                    outcome = Outcome.REPLACED
        return FileOutcome(uri, outcome, written.detail, segments=written.segments, image_id=read.image_id)

    def _write(self, read: _Read) -> Written | None:
        known, tags = self._ledger.get(read.image_id), self._options.tags
        if known is not None and known.recipe == self._recipe:
            noted = self._writer.note(known, read.file, tags)
            if noted is None:
                self._ledger.remove(read.image_id)
            return noted
        if read.data is None:
            return None
        try:
            analysed = self._analyses.result(read.image_id, read.data, name=display_path(read.file.uri))
            return self._writer.store(analysed, read.file, tags)
        finally:
            self._analyses.forget(read.image_id)

    def _leave(self, image_id: UUID, uri: str) -> None:
        left = self._writer.leave(image_id, uri)
        self._ledger.remove(image_id)
        if left is not None:
            self._ledger.put(left)


def _refusal_outcome(refusal: ImageError) -> Outcome:
    if isinstance(refusal, ImageTooLargeError):
        return Outcome.TOO_LARGE
    if isinstance(refusal, NotAnImageError):
        return Outcome.NOT_AN_IMAGE
    return Outcome.UNREADABLE


def _read_ahead(
    files: Iterable[PlannedFile],
    read: Callable[[PlannedFile], _Read | ImageError],
    *,
    threads: int,
    ahead: int,
) -> Generator[tuple[PlannedFile, _Read | ImageError]]:
    """Yield every file with what a thread read of it, in order, so many files ahead at most."""
    remaining = iter(files)
    waiting: deque[tuple[PlannedFile, Future[_Read | ImageError]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="segdex-read")
    try:
        while True:
            while len(waiting) <= ahead:
                file = next(remaining, None)
                if file is None:
                    break
                waiting.append((file, pool.submit(read, file)))
            if not waiting:
                return
            file, future = waiting.popleft()
            yield file, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
