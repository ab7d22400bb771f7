"""Ingest many files: plan, read and analyse ahead, write in order, and report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from uuid import UUID

import numpy as np

from segdex_core.errors import (
    ImageError,
    ImageFailedError,
    ModelError,
    NotAnImageError,
)
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import display_path
from segdex_core.ports.decoder import Decode
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import FileVersion, ListingProblem, Source
from segdex_core.records import SEGMENT_VIEWS, ImageFile, ImageRecord, IndexFingerprint
from segdex_ingest.ahead import Analyse, Analyses, results_ahead
from segdex_ingest.analyse import AnalysedImage, Recipe, RecipeSource, analyse
from segdex_ingest.beside import NOTHING_BESIDE, Beside
from segdex_ingest.finish import as_finished, finish_changes
from segdex_ingest.interrupts import Interrupts
from segdex_ingest.journal import Journal, RunJournal
from segdex_ingest.ledger import Ledger
from segdex_ingest.places import KnownFiles, may_exist
from segdex_ingest.plan import IngestPlan, PlannedFile, plan_ingest
from segdex_ingest.report import ANALYSED, FileOutcome, IngestReport, Outcome
from segdex_ingest.steady import read_steady
from segdex_ingest.write import DryWriter, PictureWriter, Writer


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files are read and analysed.

    Attributes:
        max_pixels: Images with more pixels are ``too large``.
        max_bytes: Files with more bytes are ``too large``.
        decode_threads: Threads that read and hash files ahead of the models, 1 or more.
        analysis_threads: Threads that decode, segment and embed, 1 or more; they share the models.
        limit: Maximum number of images to segment; None for no limit.
        tags: Tags for every file of this run.
        decode: Decodes the files.
        uploads: URI of the folder of uploads, whose files have the time of their arrival; None if there is
            none.
    """

    max_pixels: int
    max_bytes: int
    decode_threads: int = 2
    analysis_threads: int = 1
    limit: int | None = None
    tags: tuple[str, ...] = ()
    decode: Decode = decode_image
    uploads: str | None = None


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
    journal: Journal | None = None,
    beside: Beside = NOTHING_BESIDE,
    problems: Sequence[ListingProblem] = (),
    approve: Callable[[IngestPlan], None] = lambda _: None,
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Bring an index up to date with the given files. Every ingest that writes calls this function.

    The models are loaded at the start if the index is new, and otherwise when the first image has to be
    analysed.

    Args:
        index: Index to fill; created for the recipe if it is new.
        recipes: Models and settings.
        uris: Canonical URIs of the files, each once.
        source: Source of the files.
        profile: Profile of the models, for the index fingerprint.
        options: Limits, threads and tags.
        quality: Mask quality that the index remembers as the default of the next ingest; None keeps the
            stored default.
        known_ids: Ids of the images in the files, if the caller has hashed the files; None if unknown.
        lock: ``RLock`` shared by all writers to the index in this process; None if there are no others.
        journal: Notes which images are open, so that one that ends the process twice is left out; None notes
            nothing.
        beside: Tells files beside pictures from pictures that fail.
        problems: Places that could not be listed, for the report.
        approve: Called with the plan before any image is read or written. An exception from it ends the
            ingest.
        on_file: Called after each file.

    Raises:
        IndexMismatchError: If another embedder filled the index.
        SegmentIndexError: If the index fails; images already written stay, and the next run continues.
        ModelError: If a model cannot be loaded, or fails on ``FAILURES_IN_A_ROW`` images one after another.
    """
    checked = _RecipesOf(index, recipes, profile)
    if index.fingerprint() is None:
        checked.load()

    def analysed(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        return analyse(
            data,
            checked,
            name=name,
            max_pixels=options.max_pixels,
            decode=options.decode,
            checkpoint=checkpoint,
        )

    while True:
        records = list(index.scroll_images() if known_ids is None else index.get_images(known_ids))
        ledger = Ledger(as_finished(records))
        plan = plan_ingest(
            uris, source=source, ledger=ledger, recipe=checked.fingerprint(), find_other=beside.find
        )
        approve(plan)
        for record in finish_changes(index, records):
            ledger.put(record)
        if plan.to_read or plan.outdated:
            _remember_quality(index, quality)
        try:
            with nullcontext() if journal is None else journal.run(plan.recipe) as noted:
                return carry_out(
                    plan,
                    source=source,
                    ledger=ledger,
                    writer=PictureWriter(index, exists=may_exist(source), lock=lock, uploads=options.uploads),
                    analyse=analysed,
                    options=options,
                    journal=noted,
                    beside=beside,
                    problems=problems,
                    on_file=on_file,
                )
        except _OtherRecipeError:
            continue  # the plan used a remembered fingerprint, but the models have changed since


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
    beside: Beside = NOTHING_BESIDE,
    problems: Sequence[ListingProblem] = (),
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Return what ``ingest_into`` would report, without loading a model or writing anything.

    Args:
        plan: Planned files.
        source: Source of the files.
        ledger: Images of the index; modified.
        options: Limits, threads and tags.
        beside: See ``ingest_into``; what it remembers is a cache, and stored here too.
        problems: Places that could not be listed, for the report.
        on_file: Called after each file.
    """

    def decoded(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        checkpoint()
        image = options.decode(data, name=name, max_pixels=options.max_pixels)
        return AnalysedImage(
            sha256=sha256_hex(data),
            size_bytes=len(data),
            size_hw=(image.pixels.shape[0], image.pixels.shape[1]),
            captured_s=image.captured_s,
            captured_from=image.captured_from,
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
        writer=DryWriter(ledger, exists=may_exist(source)),
        analyse=decoded,
        options=options,
        beside=beside,
        problems=problems,
        on_file=on_file,
    )


def prepare_index(index: SegmentIndex, recipe: Recipe, *, profile: str) -> None:
    """Create the index for a recipe, or check that an existing index fits the recipe.

    Raises:
        IndexMismatchError: If another embedder filled the index.
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


FAILURES_IN_A_ROW = 10
"""Images on which models fail one after another before an ingest stops: a fault that hits every image."""


class _OtherRecipeError(Exception):
    """The loaded models differ from the models that the plan was made for."""


class _RecipesOf:
    """Loads a recipe once, and checks it against the index and the plan."""

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
                self._index.note_recipe(recipe.fingerprint(), recipe.masks)  # for `segdex reembed`
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
    journal: RunJournal | None = None,
    beside: Beside = NOTHING_BESIDE,
    problems: Sequence[ListingProblem] = (),
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Carry out a plan, and report the outcome of each file.

    Files are written one by one in the given order, so that two runs over the same files produce the same
    index. Threads read and analyse a fixed number of files ahead. Records of other files are not changed.
    Ctrl-C loses the images that are not written yet, and the report covers the files done so far. The image
    that is being written is completed, unless Ctrl-C comes twice.

    Args:
        plan: Planned files.
        source: Source of the files.
        ledger: Images of the index; kept up to date.
        writer: Writes to the index, or only simulates it.
        analyse: Analyses an image with ``plan.recipe``.
        options: Limits, threads and tags.
        journal: Notes which images are open; None notes nothing.
        beside: See ``ingest_into``.
        problems: Places that could not be listed, for the report.
        on_file: Called after each file.
    """
    started = time.perf_counter()
    outcomes: dict[str, FileOutcome] = {}
    interrupts = Interrupts()
    interrupted = False
    ingested = 0

    def is_stored(image_id: UUID) -> bool:
        known = ledger.get(image_id)
        return known is not None and known.is_made_by(plan.recipe)

    try:
        with (
            Analyses(
                analyse,
                threads=options.analysis_threads,
                is_stored=is_stored,
                at=journal.at if journal is not None else lambda *_: nullcontext(),
                limit=options.limit,
            ) as analyses,
            _stopping(journal),
        ):
            run = _Run(
                plan.recipe,
                source=source,
                ledger=ledger,
                writer=writer,
                analyses=analyses,
                options=options,
                interrupts=interrupts,
                beside=beside,
            )
            files_ahead = options.decode_threads + 2 * options.analysis_threads
            try:
                reads = results_ahead(plan.files, run.read, threads=options.decode_threads, ahead=files_ahead)
                with closing(reads):
                    for file, read in reads:
                        outcome = run.handle(file, read)
                        outcomes[file.uri] = outcome
                        on_file(outcome)
                        interrupts.deliver()
                        ingested += outcome.outcome in ANALYSED
                        if options.limit is not None and ingested >= options.limit:
                            break
            except KeyboardInterrupt:
                interrupted = True
            outcomes |= run.finish()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        beside.save()
    return IngestReport(
        files=list(outcomes.values()),
        skipped_folders=[(problem.uri, problem.reason) for problem in problems],
        elapsed_s=time.perf_counter() - started,
        interrupted=interrupted,
    )


@contextmanager
def _stopping(journal: RunJournal | None) -> Iterator[None]:
    """Note an end of the run before it waits for the analyses that still run."""
    try:
        yield
    finally:
        if journal is not None:
            journal.stop()


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """The result of reading a file; ``data`` is None if its version shows that it is unchanged."""

    file: ImageFile
    image_id: UUID
    data: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class _Refused:
    """A file that was not read to its end; ``version`` is that of the file, if it is known for sure."""

    error: ImageError
    version: FileVersion | None = None


class _Run:
    """The state of one ingest."""

    def __init__(
        self,
        recipe: str,
        *,
        source: Source,
        ledger: Ledger,
        writer: Writer,
        analyses: Analyses,
        options: IngestOptions,
        interrupts: Interrupts,
        beside: Beside,
    ) -> None:
        self._beside = beside
        self._interrupts = interrupts
        self._recipe = recipe
        self._source = source
        self._ledger = ledger
        self._writer = writer
        self._analyses = analyses
        self._options = options
        self._files: dict[UUID, KnownFiles] = {}
        self._changed: dict[str, FileOutcome] = {}
        self._failed_in_a_row = 0

    def read(self, planned: PlannedFile) -> _Read | _Refused:
        """Read and hash a file that may have changed, and start its analysis if needed; runs in threads."""
        if planned.error is not None:
            return _Refused(planned.error, planned.version)
        if planned.state == "unchanged" and planned.version is not None and planned.image_id is not None:
            return _Read(ImageFile(planned.uri, planned.version.mtime_ns), planned.image_id, None)
        uri = planned.uri
        try:
            version, data = read_steady(uri, source=self._source, max_bytes=self._options.max_bytes)
        except NotAnImageError as error:
            return _Refused(error, self._version_of(planned))
        except ImageError as error:  # the file is gone, not readable or too large
            return _Refused(error)
        image_id = make_image_id(sha256_hex(data))
        self._analyses.begin(image_id, data, name=display_path(uri))
        return _Read(ImageFile(uri, version.mtime_ns), image_id, data)

    def _version_of(self, planned: PlannedFile) -> FileVersion | None:
        """Return the version of a file that was found to be no image, if it is that of the plan."""
        try:
            return planned.version if self._source.version(planned.uri) == planned.version else None
        except ImageError:
            return None

    def handle(self, planned: PlannedFile, read: _Read | _Refused) -> FileOutcome:
        """Bring the index up to date with one file; runs only in the main thread."""
        uri = planned.uri
        if isinstance(read, _Refused):
            return self._refuse(uri, read)
        try:
            outcome = self._write(read)
        except ImageError as error:  # the bytes are not an image, or a model failed on it
            self._count(error)
            size_bytes = 0 if read.data is None else len(read.data)
            return self._refuse(uri, _Refused(error, FileVersion(size_bytes, read.file.mtime_ns)))
        if outcome is None:  # the image was deleted or replaced in the meantime
            return self._again(uri)
        for record in self._ledger.at(uri):
            if record.image_id != read.image_id:
                self._files_of(record).leave(uri)
                self._flush_if_due(record.image_id)
                if outcome.outcome is not Outcome.NO_SEGMENTS:
                    outcome = replace(outcome, outcome=Outcome.REPLACED)
        return outcome

    def _refuse(self, uri: str, refused: _Refused) -> FileOutcome:
        was_image = bool(self._ledger.at(uri))
        return self._beside.outcome(uri, refused.error, refused.version, was_image=was_image)

    def finish(self) -> dict[str, FileOutcome]:
        """Write the files that were gathered; return the files whose outcome is another one after all."""
        while changed := [image_id for image_id, files in self._files.items() if files.is_changed]:
            for image_id in changed:
                if image_id in self._files:  # else it was written with another one
                    self._flush(image_id)
                    self._interrupts.deliver()
        return self._changed

    def _again(self, uri: str) -> FileOutcome:
        planned = PlannedFile(uri, "to_read")
        return self.handle(planned, self.read(planned))

    def _write(self, read: _Read) -> FileOutcome | None:
        image_id, file, tags = read.image_id, read.file, self._options.tags
        known = self._ledger.get(image_id)
        if known is not None and known.is_made_by(self._recipe):
            return self._note(known, file, tags)
        if read.data is None:
            return None
        if image_id in self._files:  # another image took some of its files
            self._flush(image_id)
        try:
            analysed = self._analyses.result(image_id, read.data, name=display_path(file.uri))
            self._failed_in_a_row = 0
            with self._interrupts.kept_back():
                written = self._writer.store(analysed, file, tags)
        finally:
            self._analyses.forget(image_id)
        self._files.pop(image_id, None)
        self._ledger.put(written.record)
        return FileOutcome(file.uri, written.outcome, written.detail, written.segments, image_id)

    def _count(self, error: ImageError) -> None:
        """Raise if models failed on so many images in a row that the images cannot be the reason."""
        if not isinstance(error, ImageFailedError):
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= FAILURES_IN_A_ROW:
            raise ModelError(
                f"stopped: a model failed on {self._failed_in_a_row} pictures in a row, so it is hardly the "
                f"pictures; the last one was {error}"
            ) from error

    def _note(self, known: ImageRecord, file: ImageFile, tags: tuple[str, ...]) -> FileOutcome | None:
        """Note a file of a known image; return None if it is not known any more."""
        image_id = known.image_id
        if (
            image_id not in self._files
            and self._ledger.holds(image_id, file)
            and known.pending is None
            and set(tags) <= set(known.tags)
        ):
            return FileOutcome(file.uri, Outcome.UNCHANGED, image_id=image_id)
        outcome, detail = self._files_of(known).note(file, tags)
        if self._flush_if_due(image_id, current=file.uri):
            return None
        return FileOutcome(file.uri, outcome, detail, image_id=image_id)

    def _files_of(self, known: ImageRecord) -> KnownFiles:
        found = self._files.get(known.image_id)
        if found is None:
            found = self._files[known.image_id] = KnownFiles(known, may_exist(self._source))
        return found

    def _flush_if_due(self, image_id: UUID, *, current: str | None = None) -> bool:
        known = self._ledger.get(image_id)
        is_due = self._files[image_id].is_due or (known is not None and known.pending is not None)
        return is_due and self._flush(image_id, current=current)

    def _flush(self, image_id: UUID, *, current: str | None = None) -> bool:
        """Write what was gathered of an image; return whether ``current`` has to be read again.

        That is so for all gathered files if the image was deleted or replaced in the meantime.
        """
        files = self._files.pop(image_id)
        only_left = bool(files.gone) and not files.added
        with self._interrupts.kept_back():
            record = self._writer.change_files(image_id, files, recipe=None if only_left else files.recipe)
        self._ledger.remove(image_id)
        lost = list(files.added) if record is None else []
        if record is not None:
            self._ledger.put(record)
            if files.is_worth_keeping:
                self._files[image_id] = files.written(record)
        elif lost and files.gone:
            files.added.clear()
            with self._interrupts.kept_back():
                self._writer.change_files(image_id, files, recipe=None)
        for uri in lost:
            if uri != current:
                self._changed[uri] = self._again(uri)
        return current in lost
