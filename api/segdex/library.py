"""``Library``: the use cases of segdex over one index, in this process."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack
from uuid import UUID

from segdex.answers import (
    Answer,
    Hit,
    Masks,
    Question,
    Segment,
    check_first,
    like,
)
from segdex.arguments import (
    Id,
    ImageArgument,
    IngestProgress,
    MaskChoices,
    PromptFields,
    QueryImage,
    QuestionFields,
    SearchFields,
    as_box,
    as_id,
    check_limit,
    check_side,
    clean_tags,
    job_request,
    query_images,
    refine_request,
    search_request,
    segment_options,
)
from segdex.jobs.allowed import check_paths
from segdex.jobs.watch import looks_at
from segdex.pictures import Picture, picture_file, picture_pixels
from segdex.render.results import (
    image_out,
    ingested_out,
    refinement_out,
    segment_out,
)
from segdex.sources import list_files
from segdex.usecases.images import ImageReader
from segdex.usecases.ingest import (
    build_graph,
    generator_of,
    ingest_listing,
    quality_of,
    rehearse_listing,
    require_outside,
)
from segdex.usecases.manage import delete_images, sync_index
from segdex.usecases.models import Models
from segdex.usecases.opening import Lazy, LazyIndex
from segdex.usecases.search import SentImage, answer_search, part_of
from segdex.usecases.uploads import keep_picture
from segdex_core.errors import NotFoundError
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Listing, Source
from segdex_core.records import RGBImage
from segdex_core.settings import Settings
from segdex_core.wire.images import Deleted, ImageOut, Ingested, IngestReportOut, Stats, Synced
from segdex_core.wire.jobs import Job
from segdex_core.wire.limits import DEFAULT_REFINED
from segdex_core.wire.search import (
    RefinementOut,
    RefineRequest,
    SearchOptions,
    SearchResponse,
    WeightedText,
)
from segdex_core.wire.segments import MasksOut, PromptOptions
from segdex_ingest.analyse import RecipeSource
from segdex_ingest.masks.generate import preset
from segdex_ingest.report import IngestReport
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_search.stats import describe_index

if TYPE_CHECKING:
    from segdex.jobs.queue import Jobs
    from segdex_search.refine.refiner import Refinement


class Library:
    """An index and the models that fill and search it; ``segdex.open`` makes one.

    The index is opened, and each model is loaded, when it is first needed. Threads may share a library, which
    runs one model call at a time. ``close`` it, or use it as a context.

    ``segdex.Client`` has the same methods, arguments and results for a library that a service holds.

    Args:
        settings: Limits and folders.
        index: What is filled and searched.
        models: What segments, embeds, judges and refines.
        source: Where pictures are read from.
        jobs: The queue of jobs of this index.
        writing: An ``RLock`` of all in this process that write to the index; None where nobody else does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        index: LazyIndex,
        models: Models,
        source: Source,
        jobs: "Lazy[Jobs]",
        writing: AbstractContextManager[object] | None = None,
    ) -> None:
        self.settings = settings
        self.models = models
        self.source = source
        self._index = index
        self._jobs = jobs
        self._writing = RLock() if writing is None else writing

    def __repr__(self) -> str:
        return f"Library({self.settings.index!r})"

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
        """Close the index and the queue of jobs."""
        self._jobs.close()
        self._index.close()

    @property
    def location(self) -> str:
        """Where the index is, as it was given."""
        return self.settings.index

    def with_models(self, models: Models) -> "Library":
        """Return a library over the same index and queue whose models are others."""
        return Library(
            self.settings,
            index=self._index,
            models=models,
            source=self.source,
            jobs=self._jobs,
            writing=self._writing,
        )

    def create_index(self) -> SegmentIndex:
        """Return the index; it is created at its place if it is not there.

        Raises:
            SegmentIndexError: If it cannot be used.
        """
        return self._index.get(create=True)

    @property
    def queue(self) -> "Jobs":
        """The queue of jobs itself.

        Raises:
            JobsUnavailableError: If it does not answer.
        """
        return self._jobs.get()

    @property
    def index(self) -> SegmentIndex:
        """The index itself.

        Raises:
            IndexMissingError: If there is none at its place yet; ``ingest`` creates it.
        """
        return self._index.get()

    # Search and refine.

    def search(
        self, *texts: str | WeightedText, image: ImageArgument = None, **fields: Unpack[SearchFields]
    ) -> Answer:
        """Return the segments that match, best first.

        Args:
            texts: What to look for; several texts are averaged.
            image: A picture to look like, or several: a path, bytes, a Pillow image, an array, or a
                ``QueryImage`` with a box and a weight.
            fields: ``segments`` (ids to look like), ``regions`` (parts of pictures of the index),
                ``negative`` (texts to exclude), ``view_weights``, ``filter``, ``limit`` (pictures),
                ``per_image`` (hits of one picture), ``min_score``, ``matches_only``, ``level``, ``nms``,
                ``exact``, ``explain``, ``cursor``; see ``segdex_core.wire.search.SearchOptions``.

        Raises:
            QueryError: If a value is not allowed, or there is nothing to look for.
            SegmentIndexError: If the index is missing, or was filled by another embedder.
            ModelError: If a model cannot be fetched or loaded.
        """
        images = query_images(image)
        request = search_request(texts, fields, images=images)
        response = self.answer(request, self._sent(images))
        return Answer(response, Question(texts, image, fields), self)

    def similar(self, segment_id: Id, **fields: Unpack[SearchFields]) -> Answer:
        """Return segments that look like one of the index, best first; ``fields`` as for ``search``."""
        return self.search(**like(as_id(segment_id), fields))

    def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> Iterator[RefinementOut]:
        """Yield a better mask of each segment for a question, or why the stored one stays.

        Args:
            texts: What was looked for.
            segment_ids: 1 to 100 segments of the index, of any answer or none.
            image: Pictures to look like, as for ``search``.
            fields: ``segments``, ``regions``, ``negative`` and ``view_weights``, as for ``search``.

        Raises:
            QueryError: If a value is not allowed, or there is nothing to look for.
            NotFoundError: If a segment is not in the index.
            ImageError: If the file of a picture is gone or has changed.
        """
        images = query_images(image)
        request = refine_request(texts, segment_ids, fields)
        return map(refinement_out, self.refinements(request, self._sent(images)))

    def explanations(
        self, answer: Answer, first: int = DEFAULT_REFINED
    ) -> "Iterator[tuple[Hit, Refinement]]":
        """Yield the first hits of an answer, each with a refinement and all that led to it.

        Raises:
            QueryError: If ``first`` is out of range.
            ImageError: If the file of a picture is gone or has changed.
        """
        hits = {hit.id: hit for hit in answer.hits[: check_first(first)]}
        if not hits:
            return
        question = answer.question
        request = refine_request(question.texts, list(hits), question.terms)
        for one in self.refinements(request, self._sent(query_images(question.image))):
            yield hits[one.segment_id], one

    def segment(
        self,
        image: Picture | None = None,
        *,
        image_id: Id | None = None,
        **prompt: Unpack[PromptFields],
    ) -> Masks:
        """Return the mask of the object that points, a box, an earlier mask or a text name; best first.

        Args:
            image: Any picture; it need not be in the index.
            image_id: A picture of the index instead.
            prompt: See ``segdex.arguments.PromptFields``.

        Raises:
            QueryError: If the prompt names nothing, or does not fit the picture.
            ImageError: If the picture cannot be read.
        """
        options = segment_options(image, image_id, prompt)
        if image is None:
            return Masks(self.masks_in(options, as_id(image_id or "")))
        pixels = picture_pixels(image, max_pixels=self.settings.max_pixels)
        return Masks(self.masks(options, pixels, image_id=None))

    # Look.

    def show(self, segment_id: Id) -> Segment:
        """Return a segment of the index with its picture.

        Raises:
            NotFoundError: If it is not there.
        """
        [(record, image)] = self._images.segments_with_images([as_id(segment_id)])
        return Segment(segment_out(record), image_out(image), self)

    def image(self, image_id: Id) -> ImageOut:
        """Return what is known of a picture.

        Raises:
            NotFoundError: If it is not there.
        """
        return image_out(self._images.image(as_id(image_id)))

    def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """Return a picture as JPEG, upright, its longer side ``max_px`` at most (16 to 4,096).

        Raises:
            QueryError: If ``max_px`` is out of range.
            NotFoundError: If it is not there.
            ImageGoneError: If its file is gone or has changed.
        """
        max_px = check_side(max_px)
        from segdex.render.drawing import jpeg_of

        return jpeg_of(self._images.pixels(as_id(image_id)), max_px)

    def image_segments(self, image_id: Id) -> list[Segment]:
        """Return all segments of a picture, the largest first.

        Raises:
            NotFoundError: If the picture is not there.
        """
        image = self._images.image(as_id(image_id))
        shown = image_out(image)
        return [Segment(segment_out(record), shown, self) for record in self._images.segments_of(image)]

    def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> RGBImage:
        """Return the pixels of a picture, or of a box in it, (H, W, 3) uint8, upright.

        Raises:
            NotFoundError: If it is not there.
            ImageGoneError: If its file is gone or has changed.
            QueryError: If the box has no pixel of the picture.
        """
        box_xyxy = as_box(box_xyxy)
        return part_of(self._images.pixels(as_id(image_id)), box_xyxy)

    def stats(self) -> Stats:
        """Return how much the index holds, and what filled it.

        Raises:
            IndexMissingError: If nothing was ingested yet.
        """
        return describe_index(self.index)

    # Change.

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
        """Bring the index up to date with files: segment, embed and store what is new or changed.

        Running it again skips what is already indexed. Ctrl-C ends it after the picture in hand.

        Args:
            paths: Files, folders, or patterns such as ``photos/**/*.jpg``.
            exclude: Patterns of names to leave out.
            include_hidden: Take names that start with a dot too.
            tags: Labels for every file.
            quality: ``fast``, ``balanced`` or ``best``; None for what filled the index, else ``balanced``.
            masks: More choices about the masks.
            limit: Stop after this many pictures were segmented.
            redo_outdated: Segment pictures again that other models or settings made.
            dry_run: Only say what would happen.
            progress: Whom to tell how it goes on.

        Raises:
            UsageError: If there is no file, a value is not allowed, or pictures would be segmented again
                without ``redo_outdated``.
            SegmentIndexError: If the index fails; what was written stays, and the next run goes on.
            ModelError: If a model cannot be fetched or loaded.
        """
        choices = masks or MaskChoices()
        if quality is not None:
            choices = replace(choices, quality=quality)
        generator_of(choices, choices.quality or "balanced")  # refused before anything is opened
        limit, tags = check_limit(limit), clean_tags(tags)
        listing = list_files(
            self.source, list(map(str, paths)), include_hidden=include_hidden, exclude=exclude
        )
        require_outside(self.settings.index, listing)
        progress = progress or IngestProgress()
        if dry_run:
            return rehearse_listing(
                listing,
                self._options(tags, limit),
                source=self.source,
                index=self._index,
                recipes=lambda index: self._recipes(choices, choices.quality or quality_of(index)),
                progress=progress,
            ).to_document()
        report = self.ingest_files(
            listing,
            choices=choices,
            tags=tags,
            limit=limit,
            redo_outdated=redo_outdated,
            progress=progress,
        )
        build_graph(self.index, report, progress)
        return report.to_document()

    def ingest_files(
        self,
        listing: Listing,
        *,
        choices: MaskChoices,
        tags: tuple[str, ...],
        limit: int | None,
        redo_outdated: bool,
        progress: IngestProgress,
    ) -> IngestReport:
        """Ingest the files of a listing as ``ingest`` does, without its search graph; jobs call it too."""
        index = self.create_index()
        quality = choices.quality or quality_of(index)
        return ingest_listing(
            listing,
            index,
            self._recipes(choices, quality),
            replace(self._options(tags, limit), analysis_threads=self.models.analysis_threads),
            source=self.source,
            profile=self.models.profile,
            quality=quality,
            redo_outdated=redo_outdated,
            progress=progress,
            lock=self._writing,
        )

    def upload(
        self, image: Picture, *, tags: Sequence[str] = (), wait: bool = True, name: str | None = None
    ) -> Ingested:
        """Keep a picture in the folder of uploads and ingest it; the same picture twice is one.

        Args:
            image: The picture.
            tags: Labels for it.
            wait: False to return at once, and ingest it as a job.
            name: What the sender calls the file; None for the name of its path.

        Raises:
            UsageError: If ``SEGDEX_UPLOADS`` names no folder.
            ImageError: If it cannot be decoded, or is too large.
        """
        tags = clean_tags(tags)
        file_name, data = picture_file(image)
        kept = keep_picture(data, self.settings, name=name or file_name)
        if not wait:
            job = self.queue.add([str(kept.path)], tags=tags, redo_outdated=True)
            return Ingested(outcome="queued", detail="", image_id=kept.image_id, job_id=job.id)
        index = self.create_index()
        report = ingest_into(
            index,
            self.models.recipes(preset(quality_of(index))),
            [canonical_uri(kept.path)],
            source=self.source,
            profile=self.models.profile,
            known_ids=[kept.image_id],  # no other picture can have been there: its path is made of its bytes
            lock=self._writing,
            options=replace(self._options(tags), decode_threads=1),
        )
        [outcome] = report.files
        return ingested_out(outcome, kept.image_id)

    def delete(self, *targets: Id | Path) -> Deleted:
        """Delete pictures and their segments from the index; files stay.

        Args:
            targets: Ids of pictures, files, or folders.

        Raises:
            UsageError: If one of them names no picture; then nothing is deleted.
        """
        return delete_images(self.index, list(map(str, targets)))

    def sync(self, *, dry_run: bool = False, force: bool = False) -> Synced:
        """Remove pictures whose files are gone, and what an interrupted ingest left behind.

        Args:
            dry_run: Change nothing.
            force: Go on although every picture is gone, as when a disk is not mounted.

        Raises:
            UsageError: If every picture is gone, without ``force``.
        """
        return sync_index(self.index, source=self.source, dry_run=dry_run, force=force)

    # Jobs.

    def jobs(self) -> list[Job]:
        """Return the last jobs, newest first."""
        return self.queue.all()

    def add_job(
        self, paths: Sequence[str | Path], *, tags: Sequence[str] = (), redo_outdated: bool = False
    ) -> Job:
        """Queue an ingest of folders or files below the folders that jobs may read.

        A job that would segment pictures again, because other models or settings made them, fails without
        ``redo_outdated``.

        Raises:
            UsageError: If a path is not below them.
        """
        request = job_request(paths, tags, redo_outdated=redo_outdated)
        check_paths(request.paths, self.settings.job_roots)
        return self.queue.add(request.paths, tags=request.tags, redo_outdated=redo_outdated)

    def job(self, job_id: str) -> Job:
        """Return a job with its progress.

        Raises:
            NotFoundError: If it is not kept.
        """
        found = self.queue.get(job_id)
        if found is None:
            raise NotFoundError(f"there is no job {job_id!r}")
        return found

    def stop_job(self, job_id: str) -> Job:
        """Stop a job after the picture that is being written; what it finished is kept.

        Raises:
            NotFoundError: If it is not kept.
        """
        self.job(job_id)
        return self.queue.stop(job_id) or self.job(job_id)

    def watch_job(self, job_id: str) -> Iterator[Job]:
        """Yield a job whenever it changes, until it ends.

        Raises:
            NotFoundError: If it is not kept.
        """
        self.job(job_id)
        jobs = self.queue
        return (job for job in looks_at(lambda: jobs.get(job_id)) if job is not None)

    # What the service answers with: requests and pixels in, documents out.

    def answer(self, options: SearchOptions, sent: Sequence[SentImage] = ()) -> SearchResponse:
        """Answer a question; see ``answer_search``."""
        return answer_search(
            options,
            sent,
            index=self.index,
            models=self.models,
            images=self._images,
            index_key=self.settings.index_key(),
        )

    def refinements(self, request: RefineRequest, sent: Sequence[SentImage] = ()) -> "Iterator[Refinement]":
        """Yield refinements with all that led to them; see ``refine_each``."""
        from segdex.usecases.refine import refine_each

        return refine_each(request, sent, index=self.index, models=self.models, images=self._images)

    def masks(self, options: PromptOptions, pixels: RGBImage, *, image_id: UUID | None) -> MasksOut:
        """Return the masks of a prompt in a picture, which is kept encoded under its id if it has one."""
        from segdex.usecases.segment import segment_object

        size_hw = (pixels.shape[0], pixels.shape[1])
        return segment_object(
            options, models=self.models, size_hw=size_hw, read=lambda: pixels, image_id=image_id
        )

    def masks_in(self, options: PromptOptions, image_id: UUID) -> MasksOut:
        """Return the masks of a prompt in a picture of the index."""
        from segdex.usecases.segment import segment_object

        image = self._images.image(image_id)
        return segment_object(
            options,
            models=self.models,
            size_hw=image.size_hw,
            read=lambda: self._images.pixels_of(image),
            image_id=image_id,
        )

    def _recipes(self, choices: MaskChoices, quality: str) -> RecipeSource:
        return self.models.recipes(generator_of(choices, quality))

    def _options(self, tags: tuple[str, ...], limit: int | None = None) -> IngestOptions:
        return IngestOptions(
            max_pixels=self.settings.max_pixels,
            max_bytes=self.settings.max_bytes,
            decode_threads=self.settings.decode_threads,
            limit=limit,
            tags=tags,
        )

    @property
    def _images(self) -> ImageReader:
        return ImageReader(self.index, self.source, max_pixels=self.settings.max_pixels)

    def _sent(self, images: Sequence[QueryImage]) -> list[SentImage]:
        return [
            SentImage(
                picture_pixels(one.image, max_pixels=self.settings.max_pixels), one.box_xyxy, one.weight
            )
            for one in images
        ]
