"""Ingest many files: skip what is done, decode and analyse ahead, write in order, report."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from segdex_core.errors import ImageError, ImageTooLargeError, NotAnImageError
from segdex_core.media.decode import DecodedImage, decode_image, read_image_bytes, sha256_hex
from segdex_core.media.uris import display_path, path_to_uri, uri_to_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SEGMENT_VIEWS, ImageFile, ImageRecord, IndexFingerprint, make_image_id
from segdex_ingest.ahead import Analyses
from segdex_ingest.analyse import Recipe
from segdex_ingest.ledger import Ledger
from segdex_ingest.report import ANALYSED, FileOutcome, IngestReport, Outcome
from segdex_ingest.write import IndexWriter, Writer


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files are read and analysed.

    Attributes:
        max_pixels: Pictures with more pixels are ``too large``.
        max_bytes: Files with more bytes are ``too large``.
        jobs: Threads that read and decode ahead of the models, 1 or more.
        workers: Threads that segment and embed, 1 or more; they share the models.
        limit: Stop after this many pictures were segmented; None for all.
        tags: Labels for every file of this run.
    """

    max_pixels: int
    max_bytes: int
    jobs: int = 2
    workers: int = 1
    limit: int | None = None
    tags: tuple[str, ...] = ()


def ingest_into(
    index: SegmentIndex,
    recipe: Recipe,
    paths: Sequence[Path],
    *,
    profile: str,
    options: IngestOptions,
    known_ids: Sequence[UUID] | None = None,
    lock: AbstractContextManager[object] | None = None,
    skipped_folders: Sequence[tuple[str, str]] = (),
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Bring an index up to date with the given files: what every ingest that writes calls.

    Args:
        index: What to fill; created for the recipe if it is new.
        recipe: The models and settings.
        paths: The files, each once.
        profile: Of the models, for the fingerprint of the index.
        options: Limits, threads and tags.
        known_ids: The only pictures that the files can be, where the caller has hashed them; None for any.
        lock: An ``RLock`` of all in this process that write to the index; None where nobody else does.
        skipped_folders: Handed on to the report.
        on_file: Called after each file.

    Raises:
        IndexMismatchError: If another embedder filled the index.
        SegmentIndexError: If the index fails; what was written before stays, and the next run goes on.
        ModelError: If a model fails.
    """
    prepare_index(index, recipe, profile=profile, views=SEGMENT_VIEWS)
    return ingest_files(
        paths,
        writer=IndexWriter(index, recipe, lock=lock),
        ledger=Ledger(index.scroll_images() if known_ids is None else index.get_images(known_ids)),
        recipe_fingerprint=recipe.fingerprint(),
        options=options,
        skipped_folders=skipped_folders,
        on_file=on_file,
    )


def prepare_index(index: SegmentIndex, recipe: Recipe, *, profile: str, views: tuple[str, ...]) -> None:
    """Create the index for a recipe, or check that it is one for it.

    Raises:
        IndexMismatchError: If it was filled by another embedder.
    """
    index.ensure(
        IndexFingerprint(
            profile=profile,
            embedder=recipe.embedder.fingerprint,
            dim=recipe.embedder.dim,
            views=views,
            segmenter=recipe.segmenter.fingerprint,
        )
    )


def ingest_files(
    paths: Sequence[Path],
    *,
    writer: Writer,
    ledger: Ledger,
    recipe_fingerprint: str,
    options: IngestOptions,
    skipped_folders: Sequence[tuple[str, str]] = (),
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    """Bring the index up to date with the given files and say what became of each.

    Files are handled one after the other in the given order, so that two runs over the same files leave the
    same index; reading, decoding and analysing runs ahead in threads, for a fixed number of files. Files that
    are not given are left alone. Ctrl-C loses the pictures that are not written yet, and returns what was
    done.

    Args:
        paths: The files, each once.
        writer: ``IndexWriter`` or ``DryWriter``.
        ledger: The pictures of the index; kept in step.
        recipe_fingerprint: ``Recipe.fingerprint``; pictures made by another recipe are done again.
        options: Limits, threads and tags.
        skipped_folders: Handed on to the report.
        on_file: Called after each file.

    Raises:
        SegmentIndexError: If the index fails; what was written before stays, and the next run goes on.
        ModelError: If a model fails.
    """
    started = time.perf_counter()
    outcomes: list[FileOutcome] = []
    interrupted = False
    ingested = 0

    def is_stored(image_id: UUID) -> bool:
        known = ledger.get(image_id)
        return known is not None and known.recipe == recipe_fingerprint

    ahead: AbstractContextManager[Analyses | None] = nullcontext()
    if writer.recipe is not None:
        ahead = Analyses(writer.recipe, workers=options.workers, is_stored=is_stored, limit=options.limit)
    try:
        with ahead as analyses:
            worker = _Worker(writer, ledger, recipe_fingerprint, options, analyses)
            files_ahead = options.jobs + 2 * options.workers
            with closing(_read_ahead(paths, worker.read, jobs=options.jobs, ahead=files_ahead)) as reads:
                for path, prepared in reads:
                    begun = time.perf_counter()
                    outcome = worker.handle(path, prepared)
                    outcome = replace(outcome, elapsed_s=time.perf_counter() - begun)
                    outcomes.append(outcome)
                    on_file(outcome)
                    ingested += outcome.outcome in ANALYSED
                    if options.limit is not None and ingested >= options.limit:
                        break
    except KeyboardInterrupt:
        interrupted = True
    return IngestReport(
        files=outcomes,
        skipped_folders=skipped_folders,
        elapsed_s=time.perf_counter() - started,
        interrupted=interrupted,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A file as a thread read it: known by size and time, or read and hashed, or refused."""

    uri: str
    mtime_ns: int = 0
    size_bytes: int = 0
    sha256: str = ""
    image: DecodedImage | None = None
    refusal: ImageError | None = None


class _Worker:
    def __init__(
        self, writer: Writer, ledger: Ledger, recipe: str, options: IngestOptions, analyses: Analyses | None
    ) -> None:
        self._writer = writer
        self._ledger = ledger
        self._recipe = recipe
        self._options = options
        self._analyses = analyses

    def read(self, path: Path) -> _Read:
        """Read, hash and decode a file and have it analysed, unless the ledger knows it; runs in threads."""
        uri = path_to_uri(path)
        name = display_path(uri)
        try:
            stat = path.stat()
            known = self._ledger.find(uri, size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
            if known is not None and known.recipe == self._recipe:
                return _Read(uri, stat.st_mtime_ns, stat.st_size, known.sha256)
            data = read_image_bytes(path, max_bytes=self._options.max_bytes)
            digest = sha256_hex(data)
            known = self._ledger.get(make_image_id(digest))
            image = None
            if known is None or known.recipe != self._recipe:
                image = decode_image(data, name=name, max_pixels=self._options.max_pixels)
                if self._analyses is not None:
                    self._analyses.begin(make_image_id(digest), image.pixels)
        except OSError as error:  # the file went away, or must not be read
            reason = error.strerror or str(error)
            return _Read(uri, refusal=ImageError(f"{name}: cannot be read: {reason}"))
        except ImageError as error:
            return _Read(uri, refusal=error)
        return _Read(uri, stat.st_mtime_ns, len(data), digest, image)

    def handle(self, path: Path, read: _Read) -> FileOutcome:
        """Bring the index up to date with one file; runs in the main thread alone."""
        if read.refusal is not None:
            return FileOutcome(read.uri, _refusal_outcome(read.refusal), str(read.refusal))
        image_id = make_image_id(read.sha256)
        known = self._ledger.get(image_id)
        if known is None or known.recipe != self._recipe:
            known = self._refresh(image_id)  # another writer may have stored it since
        replaced = [record for record in self._ledger.at(read.uri) if record.image_id != image_id]
        if known is not None and known.recipe == self._recipe:
            recognised = self._recognise(read, known)
            if recognised is None:
                return self.handle(path, self.read(path))
            outcome = recognised
        else:
            image = read.image
            if image is None:  # the picture was known when it was read, and replaced since
                read = self.read(path)
                image = read.image
                if image is None:
                    return self.handle(path, read)
            outcome = self._ingest(read, image)
        for record in replaced:
            self._forget_file(record, read.uri)
            if outcome.outcome is not Outcome.NO_SEGMENTS:
                outcome = replace(outcome, outcome=Outcome.REPLACED)
        return outcome

    def _refresh(self, image_id: UUID) -> ImageRecord | None:
        """Return the record of a picture as the index has it now, and bring the ledger in step."""
        record = self._writer.current(image_id, self._ledger.get(image_id))
        if record is None:
            self._ledger.remove(image_id)
        else:
            self._ledger.put(record)
        return record

    def _recognise(self, read: _Read, known: ImageRecord) -> FileOutcome | None:
        """Note where bytes lie that are in the index already; None if somebody deleted them meanwhile."""
        updated, outcome = self._recognised(read, known)
        if updated != known:
            with self._writer.exclusive():
                record = self._refresh(known.image_id)
                if record is None:
                    return None
                updated, outcome = self._recognised(read, record)
                self._ledger.put(self._writer.update(updated))
        return outcome

    def _recognised(self, read: _Read, known: ImageRecord) -> tuple[ImageRecord, FileOutcome]:
        """Return the record of known bytes with a file that holds them, and what became of the file."""
        here = ImageFile(read.uri, read.mtime_ns)
        others = [file for file in known.files if file.uri != read.uri]
        seen_here = len(others) < len(known.files)
        gone = [] if seen_here else [file for file in others if not uri_to_path(file.uri).exists()]
        stay = [file for file in others if file not in gone]
        files = tuple(sorted((*stay, here), key=lambda file: file.uri))
        tags = tuple(sorted({*known.tags, *self._options.tags}))
        updated = replace(known, files=files, tags=tags)
        if gone and not stay:
            return updated, FileOutcome(read.uri, Outcome.RENAMED, f"was {display_path(gone[0].uri)}")
        if not seen_here:
            same = display_path((stay or others)[0].uri)
            return updated, FileOutcome(read.uri, Outcome.UNCHANGED, f"same content as {same}")
        return updated, FileOutcome(read.uri, Outcome.UNCHANGED)

    def _ingest(self, read: _Read, image: DecodedImage) -> FileOutcome:
        """Store bytes that are new, or that another recipe ingested."""
        image_id = make_image_id(read.sha256)
        analysed = None
        if self._analyses is not None:
            analysed = self._analyses.result(image_id, image.pixels)  # seconds, so outside of the lock
        try:
            with self._writer.exclusive():
                known = self._refresh(image_id)
                if known is not None and known.recipe == self._recipe:  # somebody else was faster
                    recognised = self._recognise(read, known)
                    if recognised is not None:
                        return recognised
                record = self._writer.store(self._new_record(read, image, known), analysed)
                self._ledger.put(record)
        finally:
            if self._analyses is not None:
                self._analyses.forget(image_id)
        if record.status == "no_segments":
            return FileOutcome(read.uri, Outcome.NO_SEGMENTS)
        outcome, detail = Outcome.ADDED, ""
        if known is not None and known.recipe != self._recipe:
            outcome, detail = Outcome.REPLACED, "made with other models or settings before"
        return FileOutcome(read.uri, outcome, detail, segments=record.segment_count)

    def _new_record(self, read: _Read, image: DecodedImage, known: ImageRecord | None) -> ImageRecord:
        """Return the record of bytes to be stored, with the files and tags that the index has of them."""
        height, width = image.pixels.shape[:2]
        others = [
            file
            for file in (known.files if known else ())
            if file.uri != read.uri and uri_to_path(file.uri).exists()
        ]
        files = tuple(sorted((*others, ImageFile(read.uri, read.mtime_ns)), key=lambda file: file.uri))
        return ImageRecord(
            image_id=make_image_id(read.sha256),
            sha256=read.sha256,
            size_bytes=read.size_bytes,
            files=files,
            width=width,
            height=height,
            captured_s=_captured_s(read, image, known),
            place_lat_lon=image.place_lat_lon,
            tags=tuple(sorted({*(known.tags if known else ()), *self._options.tags})),
            status="done",
            segment_count=0,
            recipe=self._recipe,
            revision=known.revision if known else 0,
        )

    def _forget_file(self, record: ImageRecord, uri: str) -> None:
        """A file no longer holds this picture: delete the picture, unless it lies elsewhere too."""
        with self._writer.exclusive():
            now = self._refresh(record.image_id)
            if now is None:
                return
            files = tuple(file for file in now.files if file.uri != uri)
            if files:
                self._ledger.put(self._writer.update(replace(now, files=files)))
            else:
                self._writer.delete(now)
                self._ledger.remove(now.image_id)


def _captured_s(read: _Read, image: DecodedImage, known: ImageRecord | None) -> float:
    """Return the EXIF time, else what was noted before, else the file's modification time."""
    if image.captured_s is not None:
        return image.captured_s
    return known.captured_s if known is not None else read.mtime_ns / 1e9


def _refusal_outcome(refusal: ImageError) -> Outcome:
    if isinstance(refusal, ImageTooLargeError):
        return Outcome.TOO_LARGE
    if isinstance(refusal, NotAnImageError):
        return Outcome.NOT_AN_IMAGE
    return Outcome.UNREADABLE


def _read_ahead(
    paths: Iterable[Path], read: Callable[[Path], _Read], *, jobs: int, ahead: int
) -> Generator[tuple[Path, _Read]]:
    """Yield every path with what a thread read of it, in order, so many files ahead at most."""
    remaining = iter(paths)
    waiting: deque[tuple[Path, Future[_Read]]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="segdex-read")
    try:
        while True:
            while len(waiting) <= ahead:
                path = next(remaining, None)
                if path is None:
                    break
                waiting.append((path, pool.submit(read, path)))
            if not waiting:
                return
            path, future = waiting.popleft()
            yield path, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
